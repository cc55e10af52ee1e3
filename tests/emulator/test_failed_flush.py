"""A flush to the disk that failed: what was written may be lost, and the store does not go on as if it were not."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from yottabench.emulator.store import base, sqlite_reads
from yottabench.emulator.store.base import StoreBroken, StoreError
from yottabench.emulator.store.sqlite import SqliteStore


class Disk:
    """Lets statements through until it is told which of them fails, and with what of SQLite's codes."""

    def __init__(self) -> None:
        self.failing: dict[str, int] = {}

    def error(self, sql: str) -> apsw.Error | None:
        code = next((code for start, code in self.failing.items() if sql.startswith(start)), None)
        if code is None:
            return None
        error = apsw.IOError("disk I/O error")
        error.extendedresult = code
        return error


class Connection(apsw.Connection):
    disk: Disk

    def execute(self, sql: str, *values: Any) -> apsw.Cursor:  # type: ignore[override] -- fewer options than APSW has
        error = self.disk.error(sql)
        if error is None:
            return super().execute(sql, *values)
        if sql == "COMMIT":
            super().execute("ROLLBACK")
        raise error


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()

    class OnDisk(Connection):
        pass

    OnDisk.disk = disk
    monkeypatch.setattr(sqlite_reads, "connect", lambda path: OnDisk(str(path)))
    return disk


def submit(task_id: str) -> base.SubmitTask:
    return base.SubmitTask(
        endpoint_id=1,
        task_id=task_id,
        input=b"1",
        worker_port=1,
        process_uri="/",
        webhook=None,
        webhook_auth_key=None,
        headers=None,
        now_ms=1,
    )


def test_after_a_failed_flush_nothing_more_is_taken_and_whoever_asked_is_told(disk: Disk, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    told: list[StoreBroken] = []
    store.when_broken = told.append
    store.apply([submit("a")])
    disk.failing["COMMIT"] = apsw.SQLITE_IOERR_FSYNC
    with pytest.raises(StoreBroken, match=r"could not be flushed to the disk: disk I/O error\."):
        store.apply([submit("b")])
    disk.failing.clear()  # that it works again now says nothing of what was lost
    with pytest.raises(StoreBroken):
        store.apply([submit("c")])
    assert [str(each).partition(":")[0].endswith("could not be flushed to the disk") for each in told] == [True]
    store.close()
    again = SqliteStore(tmp_path)
    assert again.task(1, "a") is not None
    assert again.apply([submit("c")])[0].known is False
    again.close()


@pytest.mark.parametrize("code", [apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_FULL, apsw.SQLITE_IOERR_READ])
def test_after_any_other_failure_the_store_goes_on(disk: Disk, tmp_path: Path, code: int) -> None:
    store = SqliteStore(tmp_path)
    store.when_broken = pytest.fail
    disk.failing["COMMIT"] = code
    with pytest.raises(StoreError) as refused:
        store.apply([submit("a")])
    assert not isinstance(refused.value, StoreBroken)
    disk.failing.clear()
    assert store.apply([submit("a")])[0].known is False
    store.close()


def test_a_flush_that_fails_while_the_log_is_cut_counts_too(disk: Disk, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    disk.failing["PRAGMA wal_checkpoint"] = apsw.SQLITE_IOERR_FSYNC
    store._checkpointer._moved = True
    with pytest.raises(StoreBroken):
        store.apply([submit("a")])
    store.close()


@pytest.mark.anyio
async def test_a_flush_that_fails_in_the_checkpoint_beside_the_writer_counts_too(disk: Disk, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    loop = asyncio.get_running_loop()
    broken = asyncio.Event()
    store.when_broken = lambda _: loop.call_soon_threadsafe(broken.set)
    disk.failing["PRAGMA wal_checkpoint(PASSIVE)"] = apsw.SQLITE_IOERR_FSYNC
    store._checkpointer._wake.set()
    await asyncio.wait_for(broken.wait(), 20)
    with pytest.raises(StoreBroken):
        store.apply([submit("a")])
    store.close()


def test_what_a_crash_left_in_the_log_is_written_and_flushed_anew_before_it_is_built_upon(
    disk: Disk, tmp_path: Path
) -> None:
    # The system's memory may show what the disk never got: a flush that failed is not tried again by itself.
    first = SqliteStore(tmp_path)
    first.apply([submit("a")])
    left = {path.name: path.read_bytes() for path in tmp_path.glob("yottabench.sqlite*") if "shm" not in path.name}
    first.close()
    folder = tmp_path / "after the crash"
    folder.mkdir()
    for name, content in left.items():
        (folder / name).write_bytes(content)
    assert (folder / "yottabench.sqlite-wal").stat().st_size > 0
    store = SqliteStore(folder)
    assert (folder / "yottabench.sqlite-wal").stat().st_size == 0
    assert store.task(1, "a") is not None
    store.close()


def refuse_all(disk: Disk) -> None:
    disk.failing["PRAGMA wal_checkpoint"] = apsw.SQLITE_FULL


def fail_flush(disk: Disk) -> None:
    disk.failing["PRAGMA wal_checkpoint"] = apsw.SQLITE_IOERR_FSYNC


@pytest.mark.parametrize(("fault", "opens"), [(refuse_all, True), (fail_flush, False)])
def test_a_full_disk_can_be_opened_and_one_that_does_not_flush_cannot(
    disk: Disk, tmp_path: Path, fault: Callable[[Disk], None], opens: bool
) -> None:
    fault(disk)
    if opens:
        SqliteStore(tmp_path).close()
    else:
        with pytest.raises(StoreError, match=r"could not be flushed to the disk: disk I/O error\."):
            SqliteStore(tmp_path)
        disk.failing.clear()
        SqliteStore(tmp_path).close()
