"""NOTES.md names tests that exist, and every reading has one, or says that it still lacks it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTES = (ROOT / "openapi" / "NOTES.md").read_text(encoding="utf-8")
ENTRIES = re.split(r"^## ", NOTES, flags=re.MULTILINE)[1:]
PINNED = re.findall(r"^Pinned by: (\S+)::(\S+)$", NOTES, re.MULTILINE)
TO_COME = re.findall(r"^To be pinned by: (\S+)::(\S+)$", NOTES, re.MULTILINE)


def exists(file: str, test: str) -> bool:
    path = ROOT / file
    if not path.is_file():
        return False
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(
        isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == test for node in ast.walk(tree)
    )


def test_entries_are_numbered_without_a_gap() -> None:
    assert [entry.split(".")[0] for entry in ENTRIES] == [f"N{number}" for number in range(1, len(ENTRIES) + 1)]


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.split(".")[0] for entry in ENTRIES])
def test_an_entry_says_sources_reading_setting_and_test(entry: str) -> None:
    _, sources, reading, *_ = entry.split("\n\n")
    assert sources
    assert reading.startswith("Reading: ")
    assert len(re.findall(r"^Setting: .+", entry, re.MULTILINE)) == 1
    assert re.search(r"^(?:To be p|P)inned by: tests/\S+::test_\w+$", entry, re.MULTILINE)


@pytest.mark.parametrize(("file", "test"), sorted(set(PINNED)))
def test_a_test_that_pins_a_reading_exists(file: str, test: str) -> None:
    assert exists(file, test)


def test_a_reading_is_not_called_unpinned_once_its_test_exists() -> None:
    late = [f"{file}::{test}" for file, test in TO_COME if exists(file, test)]
    assert not late, "Write `Pinned by:` for these in openapi/NOTES.md now."


def test_every_line_that_names_a_test_is_understood() -> None:
    named = len(re.findall(r"inned by:", NOTES)) - len(re.findall(r"`(?:To be p|P)inned by:`", NOTES))
    assert named == len(PINNED) + len(TO_COME)
