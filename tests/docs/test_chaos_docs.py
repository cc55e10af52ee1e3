"""docs/chaos.md shows rules that can be read, and says all that there are."""

import itertools
import re
import shlex
from pathlib import Path

from yottabench.chaos import rules
from yottabench.chaos.rules import KINDS, read_rule

PAGE = (Path(__file__).parents[2] / "docs" / "chaos.md").read_text(encoding="utf-8")


def test_every_rule_of_the_page_can_be_read() -> None:
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)).replace("\\\n", " ")
    words = shlex.split(shell)
    shown = [after for word, after in itertools.pairwise(words) if word == "--rule"]
    shown += [word.removeprefix("add ") for word in words if word.startswith("add ")]
    assert len(shown) == 3
    for rule in shown:
        read_rule(rule)


def test_every_kind_and_key_is_on_the_page() -> None:
    rows = set(re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE))
    assert set(KINDS) <= rows
    of_kinds = set().union(*rules._OF_KIND.values())
    assert rows >= rules._OF_ALL
    assert of_kinds <= set(re.findall(r"`([a-z]+)`", PAGE))


def test_every_command_is_on_the_page() -> None:
    assert {"add", "remove", "clear", "stats"} <= set(re.findall(r"^\| `([a-z]+)[ `]", PAGE, re.MULTILINE))
