"""The reference in docs/cli.md, made from the commands: `make reference` writes it anew, a test compares."""

from pathlib import Path
from typing import Any

import click
import typer

from yottabench.cli.app import build

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
HEADING = "## Reference\n\n"


def commands() -> dict[str, Any]:
    """Every command by its words."""
    found: dict[str, Any] = {}

    def walk(command: Any, words: list[str]) -> None:
        if hasattr(command, "commands"):
            for name in sorted(command.commands):
                walk(command.commands[name], [*words, name])
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
    assert parameter.help, f"{name} has no help"
    return f"| `{name}` | {' '.join(parameter.help.split())} |"


def section(words: str, command: Any) -> str:
    """What the page has to say of a command."""
    lines = [f"### yottabench {words}", "", " ".join((command.help or "").split()), ""]
    rows = [row(parameter) for parameter in command.params if parameter.name != "help"]
    if rows:
        lines += ["| | |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def reference() -> str:
    """All of it."""
    return "\n".join(section(words, command) for words, command in commands().items())


if __name__ == "__main__":
    before, _, _ = PAGE.read_text(encoding="utf-8").partition(HEADING)
    PAGE.write_text(before + HEADING + reference(), encoding="utf-8")
