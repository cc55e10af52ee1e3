"""What docs/client.md and docs/cli.md show is so."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer

import yottabench.client
from tests.client.emulator import emulator
from yottabench.cli import connect
from yottabench.cli.app import build

DOCS = Path(__file__).parents[2] / "docs"
CLIENT = (DOCS / "client.md").read_text(encoding="utf-8")
CLI = (DOCS / "cli.md").read_text(encoding="utf-8")
# Their options have pages of their own.
ELSEWHERE = {"serve", "load"}


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


def commands() -> dict[str, click.Command]:
    """Every command by its words."""
    found: dict[str, click.Command] = {}

    def walk(command: Any, words: list[str]) -> None:
        if hasattr(command, "commands"):
            for name, inner in command.commands.items():
                walk(inner, [*words, name])
        else:
            found[" ".join(words)] = command

    walk(typer.main.get_command(build()), [])
    return found


def row(parameter: Any) -> str:
    """The line of the page for one parameter."""
    if parameter.param_type_name == "argument":
        name = parameter.make_metavar(click.Context(click.Command("x")))
    else:
        name = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return f"| `{name}` | {parameter.help} |"


def reference(words: str, command: click.Command) -> str:
    """What the page has to say of a command."""
    lines = [f"### yottabench {words}", "", (command.help or "").strip().replace("\n\n", "\n").replace("\n", " "), ""]
    rows = [row(parameter) for parameter in command.params if parameter.name != "help"]
    return "\n".join([*lines, "| | |", "|---|---|", *rows, ""])


def test_every_command_and_every_option_is_documented() -> None:
    for words, command in commands().items():
        if words.split()[0] in ELSEWHERE:
            assert f"yottabench {words.split()[0]}" in CLI
            continue
        expected = reference(words, command)
        assert expected in CLI, f"docs/cli.md lacks or spoils this:\n\n{expected}"


def test_every_exit_code_is_documented() -> None:
    codes = {value for name, value in vars(connect).items() if name.startswith("EXIT_")}
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", CLI, re.MULTILINE)}
    assert documented == codes | {0}


def test_the_commands_of_the_page_run(environment: dict[str, str], tmp_path: Path) -> None:
    script = "\n".join(re.findall(r"```sh\n(.*?)```", CLI, re.DOTALL))
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
