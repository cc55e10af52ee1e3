"""docs/emulator.md says all that can be set."""

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_every_option_of_serve_is_documented() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "yottabench", "serve", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "200", "TERM": "dumb"},
    ).stdout
    options = set(re.findall(r"--[a-z][a-z0-9-]+", said)) - {"--help"}
    assert len(options) > 15
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    assert {option for option in options if f"`{option}" not in pages} == set()
