"""The store in two processes: what becomes of one when something becomes of the other."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest

from tests.emulator.harness import QuickStore
from tests.emulator.test_store import SECRET, do, submit
from yottabench.emulator.store import base, forked
from yottabench.emulator.store.base import Moved, StoreBroken, StoreError, StoreInUse, TaskState
from yottabench.emulator.store.forked import ForkedStore, open_store, write_for
from yottabench.emulator.store.sqlite import SqliteStore

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it is used on Linux alone")


class Told(list[StoreBroken]):
    """What a store said when it broke."""

    def __init__(self, store: ForkedStore | SqliteStore) -> None:
        super().__init__()
        self._something = threading.Event()
        store.when_broken = self.take

    def take(self, broken: StoreBroken) -> None:
        self.append(broken)
        self._something.set()

    def wait(self) -> None:
        assert self._something.wait(30)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ForkedStore]:
    opened = ForkedStore(tmp_path / "data", QuickStore)
    yield opened
    opened.close()


def test_the_writer_is_another_process_and_ends_with_the_store(tmp_path: Path) -> None:
    store = ForkedStore(tmp_path / "data", QuickStore)
    assert store.writer_pid != os.getpid()
    do(store, submit())
    store.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(store.writer_pid, os.WNOHANG)
    assert not (tmp_path / "data" / "yottabench.sqlite-wal").exists()
    store.close()


def test_after_the_death_of_the_writer_nothing_is_taken_and_whoever_asked_is_told_once(store: ForkedStore) -> None:
    do(store, submit("kept"))
    told = Told(store)
    os.kill(store.writer_pid, signal.SIGKILL)
    told.wait()
    for _ in range(2):
        with pytest.raises(StoreBroken, match=r"is gone\. Whether it wrote what it was given last is not certain"):
            do(store, submit("b"))
    with pytest.raises(StoreBroken):
        store.recover(1)
    assert len(told) == 1
    assert store.task(1, "kept") is not None


def test_a_death_while_a_commit_is_waited_for_breaks_the_store(tmp_path: Path) -> None:
    class Fatal(QuickStore):
        def apply(self, batch: Any) -> list[Any]:
            os.kill(os.getpid(), signal.SIGKILL)
            return []

    store = ForkedStore(tmp_path, Fatal)
    told = Told(store)
    with pytest.raises(StoreBroken):
        do(store, submit())
    told.wait()
    store.close()
    again = ForkedStore(tmp_path, QuickStore)
    assert do(again, submit()).known is False
    again.close()
    assert len(told) == 1


def test_a_failed_flush_is_told_though_nobody_waits_for_it(tmp_path: Path) -> None:
    class Failing(QuickStore):
        def recover(self, now_ms: int) -> None:
            threading.Thread(target=lambda: self._break(OSError("disk I/O error"))).start()

    store = ForkedStore(tmp_path, Failing)
    told = Told(store)
    store.recover(1)
    told.wait()
    with pytest.raises(StoreBroken, match="could not be flushed to the disk: disk I/O error"):
        do(store, submit())
    assert ["could not be flushed" in str(each) for each in told] == [True]
    store.close()


def test_what_the_store_refuses_is_refused_here_and_it_goes_on(tmp_path: Path) -> None:
    class Full(QuickStore):
        faults: list[Exception] = [StoreError("The disk is full."), KeyError("a fault of ours")]  # noqa: RUF012 -- of this one test, and used up in the fork

        def apply(self, batch: Any) -> list[Any]:
            if self.faults:
                raise self.faults.pop(0)
            return super().apply(batch)

    store = ForkedStore(tmp_path, Full)
    with pytest.raises(StoreError, match=r"^The disk is full\.$"):
        do(store, submit())
    with pytest.raises(StoreError, match=r"^The store failed: KeyError\('a fault of ours'\)$"):
        do(store, base.DropEndpoint(1))
    assert do(store, submit()).known is False
    store.close()


def test_a_folder_in_use_is_refused_by_both_kinds_and_free_again_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yottabench.emulator.store.sqlite._LOCK_PATIENCE_S", 0.0)
    one = ForkedStore(tmp_path, QuickStore)
    for kind in (ForkedStore, SqliteStore):
        with pytest.raises(StoreInUse, match="Another yottabench serves"):
            kind(tmp_path)
    one.close()
    SqliteStore(tmp_path).close()


def test_a_file_that_is_no_database_is_refused_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    real = os.fork

    def fork() -> int:
        made.append(real())
        return made[-1]

    monkeypatch.setattr(forked.os, "fork", fork)
    (tmp_path / "yottabench.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match="cannot be opened as a store: file is not a database"):
        ForkedStore(tmp_path)
    with pytest.raises(ChildProcessError):
        os.waitpid(made[0], os.WNOHANG)


def test_a_machine_that_starts_no_process_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(forked.os, "fork", fork)
    with pytest.raises(StoreError, match=r"No process could be started .* Resource temporarily unavailable"):
        ForkedStore(tmp_path)


def test_a_reader_that_cannot_open_ends_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(_: ForkedStore) -> Any:
        raise forked.Error("unable to open")

    monkeypatch.setattr(ForkedStore, "_connect", connect)
    with pytest.raises(StoreError, match="cannot be opened as a store: unable to open"):
        ForkedStore(tmp_path, QuickStore)
    SqliteStore(tmp_path).close()  # nobody holds it


def test_signals_for_the_server_do_not_end_its_writer(store: ForkedStore) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(store.writer_pid, number)
    assert do(store, submit()).known is False


def test_the_writer_holds_no_port_and_no_pipe_of_the_server(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        store = ForkedStore(tmp_path, QuickStore)
    os.close(writing)
    assert os.read(reading, 1) == b""  # the end: nobody else has the other side
    os.close(reading)
    socket.create_server(("127.0.0.1", port)).close()
    do(store, submit())
    store.close()


def test_when_the_server_is_gone_the_writer_goes_and_the_next_one_has_everything(tmp_path: Path) -> None:
    ready, tell = os.pipe()
    server = os.fork()
    if server == 0:
        try:
            store = ForkedStore(tmp_path, QuickStore)
            do(store, submit("kept"))
            os.write(tell, b"%d\n" % store.writer_pid)
            signal.pause()
        finally:
            os._exit(1)
    os.close(tell)
    os.read(ready, 99)
    os.kill(server, signal.SIGKILL)
    os.waitpid(server, 0)
    again = SqliteStore(tmp_path)  # waits until the writer has let go of it
    assert again.task(1, "kept") is not None
    again.close()


def test_batches_of_all_kinds_go_across_and_mean_the_same(store: ForkedStore, tmp_path: Path) -> None:
    beside = QuickStore(tmp_path / "beside")
    batches: list[list[base.Command[Any]]] = [
        [submit("a", webhook="http://127.0.0.1:9/hook", webhook_auth_key=SECRET), submit("b"), submit("a")],
        [base.LeaseTask(seq=1, fence=0, worker_id=1, worker_url="u", deadline_ms=9, now_ms=2)],
        [
            base.FinishTask(seq=1, fence=1, state=TaskState.SUCCEEDED, output=b"1", error=None, now_ms=3),
            base.RequeueTask(seq=2, fence=0, now_ms=3),
            base.DropEndpoint(1),
        ],
        [base.FinishTask(seq=1, fence=1, state=TaskState.FAILED, output=None, error="late", now_ms=4)],
        [base.ClaimDelivery(id=1)],
    ]
    for batch in batches:
        assert store.apply(batch) == beside.apply(batch)
    assert store.apply([base.ClaimDelivery(id=1)])[0] is Moved.STALE
    beside.close()


# ---- the other half, in this process


@contextlib.contextmanager
def writing(opened: Callable[[], SqliteStore]) -> Iterator[tuple[Any, Any, threading.Thread]]:
    mine, calls = Pipe()
    heard, news = Pipe(duplex=False)

    def run() -> None:
        with contextlib.suppress(EOFError):
            write_for(calls, news, opened)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield mine, heard, thread
    finally:
        mine.close()
        thread.join(30)
        assert not thread.is_alive()


def test_the_writing_half_closes_the_store_when_it_is_told_to(tmp_path: Path) -> None:
    with writing(lambda: QuickStore(tmp_path)) as (mine, _, thread):
        mine.recv_bytes()
        mine.send_bytes(b"x")
        thread.join(30)
        QuickStore(tmp_path).close()


def test_the_writing_half_says_what_stood_in_the_way_and_ends(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with writing(lambda: QuickStore(tmp_path / "file")) as (mine, _, thread):
        assert mine.recv_bytes()[:1] == b"e"
        thread.join(30)


# ---- which of the two


@pytest.mark.parametrize(
    ("platform", "cores", "threads", "kind"),
    [
        ("linux", {0, 1}, 1, ForkedStore),
        ("linux", {0}, 1, SqliteStore),
        ("linux", {0, 1}, 2, SqliteStore),
        ("darwin", {0, 1}, 1, SqliteStore),
    ],
)
def test_a_second_core_is_used_where_a_fork_is_safe(
    platform: str,
    cores: set[int],
    threads: int,
    kind: type[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forked.sys, "platform", platform)
    monkeypatch.setattr(forked.os, "sched_getaffinity", lambda _: cores)
    monkeypatch.setattr(forked.threading, "active_count", lambda: threads)
    store = open_store(tmp_path)
    assert type(store) is kind
    store.close()
