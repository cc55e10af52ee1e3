from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from tests.emulator.test_store import ALL_STATES, do, submit
from yottabench.emulator.store.base import TaskState
from yottabench.emulator.store.sqlite import SqliteStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path)
    opened.recover(0)
    yield opened
    opened.close()


def test_a_page_and_its_total_are_of_one_moment_though_tasks_come_in_between(store: SqliteStore) -> None:
    for number in range(5):
        do(store, submit(f"t{number}"))
    reads: list[str] = []

    def between(_: apsw.Cursor, sql: str, __: object) -> bool:
        """Before each of the store's own reads another task is committed."""
        reads.append(sql)
        if sql.startswith("SELECT"):
            do(store, submit(f"late{len(reads)}"))
        return True

    store._reader.exec_trace = between  # pyright: ignore[reportPrivateUsage] -- the only way in between
    pages = [store.task_page(1, ALL_STATES, offset, 2) for offset in (0, 2, 4)]
    store._reader.exec_trace = None  # pyright: ignore[reportPrivateUsage] -- as above
    assert sum(sql.startswith("SELECT") for sql in reads) >= 6
    for offset, (total, tasks) in zip((0, 2, 4), pages, strict=True):
        shown = store.tasks(1, ALL_STATES, 0, 99)[-total:]
        assert tasks == shown[offset : offset + 2]


def test_a_page_beyond_the_end_is_empty_and_has_the_true_total(store: SqliteStore) -> None:
    do(store, submit("a"), submit("b"))
    assert store.task_page(1, ALL_STATES, 2, 10) == (2, [])
    assert store.task_page(1, ALL_STATES, 2**40, 10) == (2, [])
    assert store.task_page(1, [TaskState.FAILED], 0, 10) == (0, [])
    assert store.task_page(1, [], 0, 10) == (0, [])
