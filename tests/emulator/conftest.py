from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.emulator.harness import Bench


@pytest.fixture
async def bench(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Bench]:
    """An emulator with default settings, no endpoint yet."""
    async with Bench(tmp_path / "data") as made:
        yield made


@pytest.fixture
async def make_bench(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Callable[..., Bench]]:
    """Emulators with settings of the test's choice, each in its own folder."""
    made: list[Bench] = []

    def make(**chosen: Any) -> Bench:
        made.append(Bench(tmp_path / f"data{len(made)}", **chosen))
        return made[-1]

    yield make
    for each in reversed(made):  # each puts back what was in its place before it
        await each.close()
