"""Running emulators for the tests of this folder, and how much they try: `make conformance` sets CONFORMANCE=full."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance.live import KEY, OTHER_KEY, Api, Stage
from tests.conformance.process import emulator

Stages = Callable[[str], Stage]
FULL = os.environ.get("CONFORMANCE") == "full"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: only with CONFORMANCE=full, which `make conformance` sets")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [] if FULL else [item for item in items if item.get_closest_marker("full")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The keys that the emulators let in: with keys they refuse all others, as the live service does."""
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(f"{KEY}\n{OTHER_KEY}\n")
    return path


@contextlib.contextmanager
def staged(keys_file: Path, *options: str) -> Iterator[Stage]:
    """A stage on an emulator of its own."""
    with (
        emulator("--keys-file", str(keys_file), *options) as url,
        contextlib.closing(Api(url, KEY)) as ours,
        contextlib.closing(Api(url, OTHER_KEY)) as others,
    ):
        yield Stage.set_up(ours, others)


@pytest.fixture(scope="session")
def stages(keys_file: Path) -> Iterator[Stages]:
    """A stage on an emulator of each error style, made when first asked for and shared by all tests of a process."""
    made: dict[str, Stage] = {}
    with contextlib.ExitStack() as stack:

        def of(style: str) -> Stage:
            if style not in made:
                made[style] = stack.enter_context(staged(keys_file, "--error-style", style))
            return made[style]

        yield of


@pytest.fixture
def stage(stages: Stages) -> Stage:
    """The stage on an emulator with the default settings."""
    return stages("status")
