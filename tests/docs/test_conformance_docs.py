"""docs/conformance.md says all that can be set, and names what is there."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from yottabench.cli.app import build
from yottabench.conformance.live.run import NAME_START, Wishes

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["conformance", "proxy"])
def test_every_option_is_documented(name: str) -> None:
    reference = PAGE + (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    command = get_command(build()).commands[name]  # pyright: ignore[reportAttributeAccessIssue]
    options = {option for parameter in command.params for option in parameter.opts} - {"--help"}
    assert len(options) >= 5
    assert {option for option in options if option not in reference} == set()


def test_the_files_and_make_targets_that_the_page_names_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"`?make ([a-z-]+)", PAGE))
    assert {"conformance", "spec-diff", "coverage", "mutation", "surface"} <= targets
    assert {target for target in targets if f"\n{target}:" not in makefile} == set()
    for path in re.findall(r"`((?:tests|openapi)/[\w./]+)`", PAGE):
        assert (ROOT / path).exists(), path


def test_the_limits_that_the_page_names_are_those_of_the_code() -> None:
    wishes = Wishes(target="", key="")
    assert f"at most {wishes.requests} requests (`--requests`), at most {wishes.per_second:g} in a second" in PAGE
    assert f"begins with `{NAME_START}`" in PAGE
