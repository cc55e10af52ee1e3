"""Stores of every schema version that was released open under the present one, and under those to come."""

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulator.harness import QuickStore, changed
from tests.simulation.parts import NoCheckpointer
from tests.torture.disk import Disk, Platter, lay_out, on_disk
from tests.torture.freeze import STORES, frozen_text, thaw
from tests.torture.lives import START_MS
from yottabench.emulator.store import base, migrations, sqlite
from yottabench.emulator.store.migrations import SCHEMA_VERSION
from yottabench.emulator.store.sqlite import SqliteStore
from yottabench.emulator.store.sqlite_connection import Connection, connect

RELEASED = sorted(int(path.stem) for path in STORES.glob("*.sql"))
LATER = SCHEMA_VERSION + 2
# What later versions may do: a column, a table filled from others, an index, a table made anew, rows that change.
LATER_MIGRATIONS = {
    **migrations.MIGRATIONS,
    SCHEMA_VERSION: (
        "ALTER TABLE task ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;"
        "CREATE TABLE owner (endpoint_id INTEGER PRIMARY KEY, name TEXT NOT NULL);"
        "INSERT INTO owner SELECT id, namespace FROM endpoint;"
        "CREATE INDEX task_priority ON task (priority, seq);"
    ),
    SCHEMA_VERSION + 1: (
        "UPDATE task SET priority = seq % 3;"
        "ALTER TABLE attempt RENAME TO old_attempt;"
        "CREATE TABLE attempt AS SELECT * FROM old_attempt;"
        "DROP TABLE old_attempt;"
    ),
}


def schema_of(connection: Connection) -> list[tuple[str, str]]:
    """Tables and indexes, without what comments and spaces make of them."""
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
    return [(name, re.sub(r"\s+", " ", re.sub(r"--[^\n]*", "", sql)).strip()) for name, sql in rows]


def rows_of(connection: Connection) -> dict[str, list[tuple[object, ...]]]:
    """What of a store every version must keep."""
    task = "SELECT seq, endpoint_id, task_id, state, fence, strikes, error FROM task ORDER BY seq"
    queries = {
        "tasks": task,
        "inputs": "SELECT * FROM task_input ORDER BY seq",
        "outputs": "SELECT * FROM task_output ORDER BY seq",
        "deliveries": "SELECT id, task_seq, worker_id, url, state, attempts FROM delivery ORDER BY id",
        "counts": "SELECT endpoint_id, state, n FROM task_count ORDER BY 1, 2",
        "attempts": "SELECT task_seq, fence, reason FROM attempt ORDER BY 1, 2",
    }
    return {name: connection.execute(query).fetchall() for name, query in queries.items()}


@pytest.fixture
def later() -> Iterator[None]:
    """The yottabench of two versions on."""
    with changed(migrations, SCHEMA_VERSION=LATER, MIGRATIONS=LATER_MIGRATIONS):
        yield


def version_of(folder: Path) -> int:
    connection = connect(folder / "yottabench.sqlite")
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    connection.close()
    return version


def test_the_present_schema_is_frozen() -> None:
    assert STORES.joinpath(f"{SCHEMA_VERSION}.sql").exists(), "Freeze it: python -m tests.torture.freeze"
    now, frozen = connect(Path(":memory:")), connect(Path(":memory:"))
    now.execute(frozen_text())
    frozen.execute(STORES.joinpath(f"{SCHEMA_VERSION}.sql").read_text(encoding="utf-8"))
    try:
        assert schema_of(now) == schema_of(frozen), (
            "schema.sql is not what was frozen. If a release wrote that, this needs a new SCHEMA_VERSION and an entry"
            " in MIGRATIONS; if none did: python -m tests.torture.freeze --again"
        )
    finally:
        now.close()
        frozen.close()


@pytest.mark.parametrize("version", RELEASED)
def test_a_store_of_a_released_schema_opens_with_everything_in_it_and_goes_on(version: int, tmp_path: Path) -> None:
    thaw(version, tmp_path / "data")
    connection = connect(tmp_path / "data" / "yottabench.sqlite")
    before = rows_of(connection)
    connection.close()
    store = QuickStore(tmp_path / "data")
    assert rows_of(store._writer) == before
    fresh = QuickStore(tmp_path / "fresh")
    assert schema_of(store._writer) == schema_of(fresh._writer)
    fresh.close()
    store.recover(START_MS)
    ended = store.apply([base.FailOpenTasks(endpoint_id=1, error="ended", limit=1000, now_ms=START_MS)])
    assert ended[0].count > 0
    assert len(store.endpoints()) > 0
    store.close()
    assert version_of(tmp_path / "data") == SCHEMA_VERSION


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("version", RELEASED)
def test_a_later_version_brings_a_store_up_to_date_with_everything_in_it(version: int, tmp_path: Path) -> None:
    thaw(version, tmp_path / "data")
    connection = connect(tmp_path / "data" / "yottabench.sqlite")
    before = rows_of(connection)
    connection.close()
    for _ in range(2):  # the second time there is nothing to do
        store = QuickStore(tmp_path / "data")
        assert rows_of(store._writer) == before
        (wrong,) = store._writer.execute("SELECT count(*) FROM task WHERE priority <> seq % 3").fetchone()
        assert wrong == 0
        store.close()
        assert version_of(tmp_path / "data") == LATER


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("power", [False, True])
def test_a_migration_that_a_crash_or_a_loss_of_power_tears_is_whole_or_not_at_all(power: bool, tmp_path: Path) -> None:
    thaw(SCHEMA_VERSION, tmp_path / "data")
    connection = connect(tmp_path / "data" / "yottabench.sqlite")
    before = rows_of(connection)
    connection.close()
    original = (tmp_path / "data" / "yottabench.sqlite").read_bytes()
    disk = Disk(f"upgrade{power}")
    with on_disk(disk), changed(sqlite, Checkpointer=NoCheckpointer):
        SqliteStore(tmp_path / "data").close()
    disk.unregister()
    platter = Platter()
    platter.holds("yottabench.sqlite", original)
    chance = random.Random(1)
    seen = set()
    for number, op in enumerate([*disk.ops, None]):
        left = platter.after_a_power_loss(chance) if power else platter.after_a_crash()
        folder = tmp_path / f"end{number}"
        lay_out(left, folder)
        seen.add(version_of(folder))
        with changed(sqlite, Checkpointer=NoCheckpointer):
            store = QuickStore(folder)  # which completes it
        assert rows_of(store._writer) == before
        store.close()
        assert version_of(folder) == LATER
        if op is not None:
            platter.follow(op)
    assert seen == {SCHEMA_VERSION, LATER}


@pytest.mark.usefixtures("later")
def test_a_migration_that_fails_half_way_changes_nothing(tmp_path: Path) -> None:
    thaw(SCHEMA_VERSION, tmp_path / "data")
    broken = {**LATER_MIGRATIONS, SCHEMA_VERSION + 1: "UPDATE task SET priority = 1; UPDATE missing SET a = 1;"}
    with (
        changed(migrations, MIGRATIONS=broken),
        pytest.raises(base.StoreError, match="cannot be opened as a store: no such table"),
    ):
        SqliteStore(tmp_path / "data")
    assert version_of(tmp_path / "data") == SCHEMA_VERSION
    store = QuickStore(tmp_path / "data")
    store.close()
    assert version_of(tmp_path / "data") == LATER


def test_a_store_of_a_later_version_is_refused_with_what_to_do_and_left_alone(tmp_path: Path) -> None:
    thaw(SCHEMA_VERSION, tmp_path / "data")
    with changed(migrations, SCHEMA_VERSION=LATER, MIGRATIONS=LATER_MIGRATIONS):
        QuickStore(tmp_path / "data").close()
    before = (tmp_path / "data" / "yottabench.sqlite").read_bytes()
    with pytest.raises(base.StoreError, match=rf"later yottabench.* version {LATER}.* up to {SCHEMA_VERSION}.*--data"):
        SqliteStore(tmp_path / "data")
    assert (tmp_path / "data" / "yottabench.sqlite").read_bytes() == before


def test_a_store_of_a_version_that_was_never_released_is_refused_with_what_to_do(tmp_path: Path) -> None:
    thaw(SCHEMA_VERSION, tmp_path / "data")
    connection = connect(tmp_path / "data" / "yottabench.sqlite")
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    with pytest.raises(base.StoreError, match=r"schema version 1, which no release.*another --data"):
        SqliteStore(tmp_path / "data")
    assert version_of(tmp_path / "data") == 1
