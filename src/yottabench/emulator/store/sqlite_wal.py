"""Keeps the WAL of the SQLite store short without making a commit wait."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

# A checkpoint starts when the WAL holds this much, and the writer cuts the WAL off when it has grown to the second.
_CHECKPOINT_BYTES = 4 * 1024 * 1024
_WAL_MAX_BYTES = 64 * 1024 * 1024


class Checkpointer:
    """Moves the WAL into the database beside the writer, so that no commit waits for it."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], wal: Path) -> None:
        self._connection = connect()
        self._wal = wal
        self._wake = threading.Event()
        self._stopping = False
        self._cut = False
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)
        self._thread.start()

    def wake_if_needed(self) -> None:
        """Called by the writer after a commit."""
        if not self._wake.is_set() and self._wal_bytes() > _CHECKPOINT_BYTES:
            self._wake.set()

    def cut_wal_if_long(self, writer: sqlite3.Connection) -> None:
        """Called by the writer before a transaction: under steady load only the writer finds a moment to start anew."""
        if self._cut:
            self._cut = False
            writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

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
        while True:
            self._wake.wait()
            if self._stopping:
                return
            try:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            except sqlite3.Error:
                # A full disk, say: the writer meets the same and reports it; the WAL keeps everything until then.
                self._stopping = True
                return
            self._cut = self._wal_bytes() > _WAL_MAX_BYTES
            self._wake.clear()
