"""Writes down a store of the present schema, for the versions to come: `python -m tests.torture.freeze`.

Done once for each schema version, by the release that brings it. A frozen file is what users have on their disks: it is
never written again. `--again` is for a version that was not released yet.
"""

import argparse
import sqlite3
import sys
import tempfile
from pathlib import Path

from tests.torture.lives import record
from yottabench.emulator.store.migrations import SCHEMA_VERSION

STORES = Path(__file__).parent / "stores"
_SEED = 16  # a life that leaves tasks in every state


def frozen_text() -> str:
    """The store of one short life, as SQL."""
    with tempfile.TemporaryDirectory() as folder:
        record(_SEED, Path(folder), batches=16, largest_input=10)
        connection = sqlite3.connect(Path(folder) / "data" / "yottabench.sqlite")
        lines = list(connection.iterdump())
        connection.close()
    return "\n".join([*lines, f"PRAGMA user_version = {SCHEMA_VERSION};", ""])


def thaw(version: int, folder: Path) -> None:
    """A store as that version wrote it."""
    folder.mkdir(parents=True)
    connection = sqlite3.connect(folder / "yottabench.sqlite")
    connection.executescript((STORES / f"{version}.sql").read_text(encoding="utf-8"))
    connection.close()


def main() -> int | str:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.freeze", description=__doc__)
    parser.add_argument("--again", action="store_true", help="this version was not released yet")
    options = parser.parse_args()
    path = STORES / f"{SCHEMA_VERSION}.sql"
    if path.exists() and not options.again:
        return f"{path.name} is there. A released version never changes; for one that was not released: --again."
    path.write_text(frozen_text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
