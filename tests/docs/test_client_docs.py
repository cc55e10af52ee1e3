"""What docs/client.md and docs/cli.md show is so."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import yottabench.client
from tests.client.emulator import emulator
from tests.docs.cli_reference import HEADING, commands, reference, section
from yottabench.cli import connect

DOCS = Path(__file__).parents[2] / "docs"
CLIENT = (DOCS / "client.md").read_text(encoding="utf-8")
README = (DOCS.parent / "README.md").read_text(encoding="utf-8")
CLI = (DOCS / "cli.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with emulator() as url:
        beside = str(Path(sys.executable).parent)
        path = f"{beside}{os.pathsep}{os.environ['PATH']}"
        yield {**os.environ, "YOTTA_BASE_URL": url, "YOTTA_API_KEY": "docs", "PATH": path, "NO_COLOR": "1"}


def test_the_python_of_the_client_page_runs(environment: dict[str, str], tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", CLIENT, re.DOTALL)
    assert len(blocks) > 12
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(blocks)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr


def test_the_client_page_names_every_method_and_every_public_name() -> None:
    for resource in ("endpoints", "workers", "tasks"):
        one = getattr(yottabench.client.Client("k"), resource)
        for name in (name for name in dir(one) if not name.startswith("_")):
            assert f"`{name}`" in CLIENT or f"{resource}.{name}" in CLIENT, name
    errors = {name for name in yottabench.client.__all__ if isinstance(getattr(yottabench.client, name), type)}
    told_by_the_tree = {name for name in errors if issubclass(getattr(yottabench.client, name), Exception)}
    own = {"BatchProgress", "BatchResult", "RawResponse", "is_terminal"}
    for name in set(yottabench.client.__all__) - told_by_the_tree - own:
        assert name in CLIENT, name


# ---- the command line


def test_every_command_and_every_option_is_documented() -> None:
    assert set(commands()) > {"serve", "doctor", "batch", "logs", "tasks submit", "endpoints create", "load run"}
    written = CLI.partition(HEADING)[2]
    for words, command in commands().items():
        assert section(words, command) in written, "docs/cli.md is not what the commands say. Run: make reference"
    assert written == reference(), "docs/cli.md is not what the commands say. Run: make reference"


def test_every_exit_code_is_documented() -> None:
    codes = {value for name, value in vars(connect).items() if name.startswith("EXIT_")}
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", CLI, re.MULTILINE)}
    assert documented == codes | {0}


@pytest.mark.parametrize("page", [CLI, README], ids=["docs/cli.md", "README.md"])
def test_the_commands_of_a_page_run(page: str, environment: dict[str, str], tmp_path: Path) -> None:
    script = "\n".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL))
    script = script.replace("http://127.0.0.1:8080", environment["YOTTA_BASE_URL"])
    environment = {**environment, "YOTTA_API_KEY": f"docs_{len(page)}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr + done.stdout
