"""The SQLite store whose writing half is a process of its own, so that a second core can take it.

Between the two goes one message each way for a commit. What is committed is the affair of store/sqlite.py; here is only
how the two understand each other, and what becomes of one when the other is gone.
"""

import contextlib
import gc
import logging
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, NoReturn, Protocol, get_args

import msgspec

from yottabench.emulator.store import base
from yottabench.emulator.store.base import StoreBroken, StoreError
from yottabench.emulator.store.sqlite import FILE_NAME, SqliteStore
from yottabench.emulator.store.sqlite_connection import Error
from yottabench.emulator.store.sqlite_history import SqliteHistory

_log = logging.getLogger("yottabench.store")

# What every task asks of the store goes as MessagePack, at a third of what pickle takes; all else goes as pickle.
_Common = (
    base.SubmitTask
    | base.LeaseTask
    | base.FinishTask
    | base.ReturnTask
    | base.RequeueTask
    | base.ClaimDelivery
    | base.EndDelivery
)
_COMMON = frozenset(get_args(_Common))
_encode = msgspec.msgpack.Encoder().encode
_commands: "msgspec.msgpack.Decoder[list[_Common]]" = msgspec.msgpack.Decoder(list[_Common])
_outcomes: "msgspec.msgpack.Decoder[list[Any]]" = msgspec.msgpack.Decoder(
    list[base.Submitted | base.Finished | base.Moved]
)

# The first byte of a message.
_COMMON_BATCH, _ANY_BATCH, _RECOVER, _CLOSE = b"c", b"a", b"r", b"x"
_COMMON_OUTCOMES, _ANYTHING, _REFUSED = b"c", b"a", b"e"


class Line(Protocol):
    """One end of a multiprocessing.Pipe."""

    def send_bytes(self, buf: bytes, /) -> None:
        """One message. Raises OSError when nobody is at the other end."""
        ...

    def recv_bytes(self) -> bytes:
        """The next message. Raises EOFError or OSError when none will come."""
        ...

    def fileno(self) -> int:
        """Its file."""
        ...


class ForkedStore(SqliteHistory):
    """See SqliteStore. Reads are made here, beside the process that writes.

    When that process is gone, nobody knows whether the batch it had was committed: the store is broken. When this one
    is gone, the other ends.
    """

    def __init__(self, data: Path, opened: Callable[[Path], SqliteStore] = SqliteStore) -> None:
        self.when_broken: Callable[[StoreBroken], object] = lambda _: None  # on whatever thread it happens, once
        self._path = data / FILE_NAME
        self._broken: StoreBroken | None = None
        self._breaking = threading.Lock()
        self._closing = False
        self._calls, calls = Pipe()
        self._news, news = Pipe(duplex=False)
        try:
            self.writer_pid = os.fork()
        except OSError as error:
            raise StoreError(f"No process could be started to write {self._path}: {error.strerror}.") from error
        if self.writer_pid == 0:
            _be_the_writer(data, opened, calls, news)
        calls.close()
        news.close()
        try:
            self._receive()
            self._reader = self._connect()
        except (StoreError, Error) as error:
            self._end_writer()
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"{self._path} cannot be opened as a store: {error}") from error
        self._reader.execute("PRAGMA query_only = ON")
        self._listener = threading.Thread(target=self._listen, name="store-news", daemon=True)
        self._listener.start()

    def recover(self, now_ms: int) -> None:
        """See Store.recover."""
        self._ask(_RECOVER + pickle.dumps(now_ms))

    def apply(self, batch: Sequence[base.Command[Any]]) -> list[Any]:
        """See Store.apply."""
        is_common = all(type(command) in _COMMON for command in batch)
        return self._ask(_COMMON_BATCH + _encode(batch) if is_common else _ANY_BATCH + pickle.dumps(batch))

    def close(self) -> None:
        """See Store.close."""
        if self._closing:
            return
        self._closing = True
        self._reader.close()  # before the other's: the last connection to close moves the WAL into the database
        self._end_writer()
        self._listener.join()
        self._news.close()

    def _ask(self, message: bytes) -> Any:
        if self._broken is not None:
            raise self._broken
        try:
            self._calls.send_bytes(message)
        except OSError as error:
            raise self._break(self._is_gone()) from error
        return self._receive()

    def _receive(self) -> Any:
        try:
            message = self._calls.recv_bytes()
        except (EOFError, OSError) as error:
            raise self._break(self._is_gone()) from error
        kind, content = message[:1], memoryview(message)[1:]
        if kind == _COMMON_OUTCOMES:
            return _outcomes.decode(content)
        answer = pickle.loads(content)  # noqa: S301 -- from a process that is this program too
        if kind == _REFUSED:
            raise answer
        return answer

    def _is_gone(self) -> StoreBroken:
        return StoreBroken(
            f"The process that writes {self._path} is gone. Whether it wrote what it was given last is not certain."
            " Look why it was ended (for want of memory?), then start yottabench again: it goes on with what is there."
        )

    def _break(self, broken: StoreBroken) -> StoreBroken:
        with self._breaking:
            if self._broken is not None:
                return self._broken
            self._broken = broken
        self.when_broken(broken)
        return broken

    def _listen(self) -> None:
        """Until the other ends, or says that a flush of its failed, with nobody waiting for it perhaps."""
        try:
            broken = StoreBroken(self._news.recv_bytes().decode())
        except (EOFError, OSError):
            broken = self._is_gone()
        if not self._closing:
            self._break(broken)

    def _end_writer(self) -> None:
        with contextlib.suppress(OSError):  # it is gone
            self._calls.send_bytes(_CLOSE)
        self._calls.close()
        os.waitpid(self.writer_pid, 0)


def _be_the_writer(data: Path, opened: Callable[[Path], SqliteStore], calls: Line, news: Line) -> NoReturn:
    """What the new process does, from the fork to its end: never back into what it was forked from."""
    code = 1
    try:
        gc.freeze()  # what is only the other's would be copied if it were looked at
        # The other is told to stop, and tells this one when it has nothing more for it.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        _let_go_of_files({2, calls.fileno(), news.fileno()})  # 2: for what it has to say
        write_for(calls, news, lambda: opened(data))
        code = 0
    except (EOFError, OSError):
        pass  # the other is gone. No orderly end, which may take long: the next server is to have the file at once
    except BaseException:
        _log.exception("The process that writes the store fails.")
    finally:
        os._exit(code)


def _let_go_of_files(but: set[int]) -> None:
    """Hold open nothing that the other one has: not its port, nor a pipe whose end somebody waits for."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in [int(each.name) for each in Path("/proc/self/fd").iterdir()]:
        # Not closed: its number must not become that of a file of SQLite's, which whoever had it before could close.
        if number not in but and number != nothing:
            os.dup2(nothing, number)


def write_for(calls: Line, news: Line, opened: Callable[[], SqliteStore]) -> None:
    """Open the store and do what is asked, until it is to be closed. Raises EOFError or OSError when nobody asks."""
    try:
        store = opened()
    except StoreError as error:
        calls.send_bytes(_REFUSED + pickle.dumps(error))
        return
    store.when_broken = lambda broken: news.send_bytes(str(broken).encode())
    calls.send_bytes(_ANYTHING + pickle.dumps(None))
    while (message := calls.recv_bytes()) != _CLOSE:
        try:
            answer = _answer(store, message[:1], memoryview(message)[1:])
        except StoreError as error:
            answer = _REFUSED + pickle.dumps(error)
        except Exception as error:
            _log.exception("A fault of the store")
            answer = _REFUSED + pickle.dumps(StoreError(f"The store failed: {error!r}"))
        calls.send_bytes(answer)
    store.close()


def _answer(store: SqliteStore, kind: bytes, content: memoryview) -> bytes:
    if kind == _COMMON_BATCH:
        return _COMMON_OUTCOMES + _encode(store.apply(_commands.decode(content)))
    asked = pickle.loads(content)  # noqa: S301 -- as above
    return _ANYTHING + pickle.dumps(store.recover(asked) if kind == _RECOVER else store.apply(asked))


def open_store(data: Path) -> SqliteStore | ForkedStore:
    """The store for this machine: with a second core to run on, the half that writes goes there."""
    if sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2:
        return SqliteStore(data)
    if threading.active_count() > 1:  # a fork takes only this thread with it, and what the others hold stays held
        return SqliteStore(data)
    return ForkedStore(data)
