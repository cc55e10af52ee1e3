"""Keeps the WAL of the SQLite store short without making a commit wait."""

import threading
from collections.abc import Callable
from pathlib import Path

from yottabench.emulator.store.sqlite_connection import Connection, Error, is_failed_flush

# A checkpoint follows every so many commits once the WAL is worth it. The file then stays as long as it is and is
# written over from its beginning: syncing a file that grows costs two to five times as much.
_CHECKPOINT_COMMITS = 100
_CHECKPOINT_BYTES = 4 * 1024 * 1024
_WAL_MAX_BYTES = 64 * 1024 * 1024


class Checkpointer:
    """Moves the WAL into the database beside the writer, so that no commit waits for it."""

    def __init__(self, connect: Callable[[], Connection], wal: Path, flush_failed: Callable[[Error], object]) -> None:
        self._connection = connect()
        self._flush_failed = flush_failed
        self._wal = wal
        self._wake = threading.Event()
        self._stopping = False
        self._moved = False  # all but what was committed meanwhile
        self._commits = 0  # since the last checkpoint was asked for
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)
        self._thread.start()

    def wake_if_needed(self) -> None:
        """Called by the writer after a commit."""
        self._commits += 1
        if self._commits >= _CHECKPOINT_COMMITS and self._wal_bytes() > _CHECKPOINT_BYTES:
            self._commits = 0
            self._wake.set()

    def cut_wal_if_long(self, writer: Connection) -> None:
        """Called by the writer before a transaction: under steady load only the writer finds a moment to start anew."""
        if self._moved:
            self._moved = False
            # What is left to move is little. What stands in the way is for the commit itself to meet.
            self._checkpoint(writer, "TRUNCATE" if self._wal_bytes() > _WAL_MAX_BYTES else "PASSIVE")

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopping = True
        self._wake.set()
        self._thread.join()
        self._connection.close()

    def _wal_bytes(self) -> int:
        try:
            return self._wal.stat().st_size
        except FileNotFoundError:
            return 0

    def _run(self) -> None:
        while not self._stopping:  # looked at after each `clear`, which may have wiped out the call of `stop`
            self._wake.wait()
            self._wake.clear()  # before the look at `_stopping`: a wake that comes later is then never lost
            if self._stopping:
                return
            # A full disk, say: the writer meets the same and reports it. The WAL keeps everything until a later try.
            self._checkpoint(self._connection, "PASSIVE")
            self._moved = True

    def _checkpoint(self, connection: Connection, how: str) -> None:
        try:
            connection.execute(f"PRAGMA wal_checkpoint({how})")
        except Error as error:
            if is_failed_flush(error):
                self._flush_failed(error)
