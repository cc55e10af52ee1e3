"""Whether mutmut finds the tests again: it runs them by name, and a name that is not found counts as a failed test.

pytest escapes the backslashes of an `ids=` function anew each time that it collects in one process.
"""

import contextlib
import io
import sys
import tomllib
from pathlib import Path

import pytest


class Names:
    """A plugin that keeps what was collected."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self.found = [item.nodeid for item in items]


def lost() -> list[str]:
    """pytest's words about names that it gave itself and does not know the second time."""
    settings = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutmut"]
    names = Names()
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        pytest.main(["--collect-only", "-qqq", *settings["pytest_add_cli_args_test_selection"]], plugins=[names])
        pytest.main(["--collect-only", "-qqq", *names.found])
    return [line for line in said.getvalue().splitlines() if "not found" in line]


if __name__ == "__main__":
    sys.exit("\n".join(lost()) or 0)
