"""Brings the file of a store to the schema of today: whole, or not at all."""

import os
from importlib.resources import files
from pathlib import Path

from yottabench.emulator.store.base import StoreError
from yottabench.emulator.store.sqlite_connection import Connection

SCHEMA_VERSION = 3

# By the version that they start from: the statements that lead to the next one. schema.sql is always the newest.
MIGRATIONS: dict[int, str] = {
    2: """
CREATE TABLE task_block (
  endpoint_id INTEGER NOT NULL,
  bits        INTEGER NOT NULL,
  block       INTEGER NOT NULL,
  state       INTEGER NOT NULL,
  n           INTEGER NOT NULL,
  PRIMARY KEY (endpoint_id, bits, block, state)
) WITHOUT ROWID;
INSERT INTO task_block SELECT endpoint_id, 11, seq >> 11, state, count(*) FROM task GROUP BY 1, 3, 4;
INSERT INTO task_block SELECT endpoint_id, 17, block >> 6, state, sum(n) FROM task_block GROUP BY 1, 3, 4;
""",
}


def migrate(connection: Connection, path: Path) -> None:
    """Make the tables, or bring those of an earlier version up to date, in one transaction.

    Raises StoreError for a version that nothing leads from: a later one, or one that was never released.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == SCHEMA_VERSION:
        return
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} was written by a later yottabench: it has schema version {version}, and this one knows versions up"
            f" to {SCHEMA_VERSION}. Use the later one, or another --data folder."
        )
    connection.execute(
        f"BEGIN IMMEDIATE;\n{_statements(version, path)}\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;"
    )


def _statements(version: int, path: Path) -> str:
    if version == 0:
        return files("yottabench.emulator.store").joinpath("schema.sql").read_text(encoding="utf-8")
    steps = range(version, SCHEMA_VERSION)
    if any(step not in MIGRATIONS for step in steps):
        raise StoreError(
            f"{path} has schema version {version}, which no release of yottabench wrote and nothing leads on from; this"
            f" one writes {SCHEMA_VERSION}. Use the yottabench that wrote it, or another --data folder."
        )
    return "\n".join(MIGRATIONS[step] for step in steps)


def make_folder(folder: Path) -> None:
    """The folder, if it is not there; a loss of power does not take it away again. Raises OSError."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in missing:
        parent = os.open(each.parent, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
