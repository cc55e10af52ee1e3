"""The store of worker logs: a bounded SQLite file of its own, written in batches by one thread."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from pathlib import Path

from yottabench.emulator.log_lines import Batch, LogEntry, LogPage, Stream, portions
from yottabench.emulator.log_query import InvalidLogQuery, LogQuery, parse_log_query, parse_time

__all__ = ["InvalidLogQuery", "LogEntry", "LogPage", "LogQuery", "LogStore", "parse_log_query", "parse_time"]

# A longer line is cut: one line must not be able to push out all others. Drivers cut earlier and say so in the line.
_LINE_MAX_CHARS = 32 * 1024
# What may wait for the writer, per worker and in all. Beyond it lines are dropped, and a line says how many.
_WAITING_MAX_LINES = 50_000
_WAITING_MAX_CHARS = 16 * 1024 * 1024
# Lines are not acknowledged, so the first of a batch may wait for company: it saves a transaction per line.
_LINGER_S = 0.05
# One statement for many lines: each statement gives up the interpreter's lock, and gets it back late under load.
_ROWS_PER_INSERT = 128
# What a line costs besides its text: keys, record header, its share of the page.
_LINE_OVERHEAD_BYTES = 24
# A full log gives up a tenth at once, or each new line would cost a search for the oldest one.
_SHRINK_TO = 0.9
# In pages of the usual 4 KB each line above 1 KB takes a whole one besides its place.
_PAGE_BYTES = 16 * 1024
_CHECKPOINT_PAGES = 256
# The log of the database itself is cut back to this after it was copied, and freed pages go back in such portions.
_WAL_KEEP_BYTES = 16 * 1024 * 1024
_VACUUM_PAGES = 10_000


_SCHEMA = """
CREATE TABLE IF NOT EXISTS workers(
  key INTEGER PRIMARY KEY,
  worker_id TEXT NOT NULL UNIQUE,
  last_ms INTEGER NOT NULL,
  last_offset INTEGER NOT NULL,
  bytes INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS lines(
  worker INTEGER NOT NULL,
  ms INTEGER NOT NULL,
  offset INTEGER NOT NULL,
  line BLOB NOT NULL,
  PRIMARY KEY (worker, ms, offset)
) WITHOUT ROWID;
"""
_SAVE_WORKER = """
INSERT INTO workers(key, worker_id, last_ms, last_offset, bytes) VALUES (?, ?, ?, ?, ?)
ON CONFLICT(key) DO UPDATE SET last_ms = excluded.last_ms, last_offset = excluded.last_offset, bytes = excluded.bytes
"""
_OLDEST_TO_GIVE_UP = """
SELECT ms, offset, total FROM (
  SELECT ms, offset, sum(length(line) + ?) OVER (ORDER BY ms, offset) AS total FROM lines WHERE worker = ?
) WHERE total >= ? LIMIT 1
"""
_PAGE = """
SELECT ms, offset, line FROM lines
WHERE worker = ? AND (ms, offset) > (?, ?) AND (ms, offset) < (?, ?) AND (? IS NULL OR instr(line, ?) > 0)
ORDER BY ms {order}, offset {order} LIMIT ?
"""
_PAGE_FORWARD = _PAGE.format(order="ASC")
_PAGE_BACKWARD = _PAGE.format(order="DESC")


class LogStore:
    """The logs of all workers, in a file that only this object may have open.

    Bounded in every direction: per worker `max_bytes_per_worker` (oldest lines go first), in all `max_bytes` (the
    oldest lines of whoever has most go first), in age `retention_ms` (at each `purge`), in memory by what may wait for
    the writer. Lines are not synced to the disk: a crash of this process may lose the last 0.1 s of them, a power cut
    all; a file that it left unreadable is put aside and begun anew. Usable from any thread.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        max_bytes_per_worker: int,
        max_bytes: int,
        retention_ms: int,
        now_ms: Callable[[], int],
    ) -> None:
        self._path = Path(path)
        self._max_bytes_per_worker = max_bytes_per_worker
        self._max_bytes = max_bytes
        self._retention_ms = retention_ms
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._done = threading.Condition(self._lock)
        self._streams: dict[str, Stream] = {}
        self._next_key = 1
        self._dirty: list[Stream] = []
        self._calls: list[tuple[Callable[[], int], Future[int]]] = []
        self._waiting_chars = 0
        self._appended = self._written = 0
        self._hurry = self._closing = False
        self._readers: list[sqlite3.Connection] = []
        self._generation = 0
        self._writer = self._open()
        self._thread = threading.Thread(target=self._run, name="yottabench-logs", daemon=True)
        self._thread.start()

    def append(self, worker_id: str, line: str) -> None:
        """Take a line in; it is stored a little later, or dropped and counted when too many wait. Never blocks."""
        now_ms, line = self._now_ms(), line[:_LINE_MAX_CHARS]
        with self._lock:
            if self._closing:
                return
            stream = self._streams.get(worker_id)
            if stream is None:
                stream = self._streams[worker_id] = Stream(self._next_key, worker_id)
                self._next_key += 1
            if len(stream.waiting) >= _WAITING_MAX_LINES or self._waiting_chars >= _WAITING_MAX_CHARS:
                stream.dropped += 1
                return
            if not stream.waiting:
                self._dirty.append(stream)
                if len(self._dirty) == 1:
                    self._wake.notify()
            stream.put(now_ms, line)
            self._waiting_chars += len(line)
            self._appended += 1
            if len(stream.waiting) == _WAITING_MAX_LINES // 2:
                self._hurry = True
                self._wake.notify()

    def query(self, worker_id: str, query: LogQuery) -> LogPage:
        """A page of the log of one worker; empty for a worker that never wrote a line.

        Sees every line appended before the call. May wait some milliseconds for the writer and may search 100 MB for a
        keyword, so an event loop asks from a thread.
        """
        stream = self._flushed(worker_id)
        entries = [] if stream is None else self._read(stream.key, query)
        has_more = len(entries) > query.page_size
        del entries[query.page_size :]
        last = (entries[-1].timestamp_ms, entries[-1].offset) if entries else None
        if query.backward:
            return LogPage(entries, has_more, last if has_more else None)
        return LogPage(entries, has_more, last or query.after)

    def purge(self, now_ms: int) -> int:
        """Remove every line older than the retention, and return how many; waits for the writer."""
        oldest_ms = now_ms - self._retention_ms
        with self._lock:
            streams = list(self._streams.values())
        # A turn of the writer for each worker: new lines get in between.
        removed = sum(self._ask(lambda s=stream: self._remove_older(s, oldest_ms)) for stream in streams)
        if removed:
            self._ask(self._shrink_file)
        return removed

    def forget(self, worker_ids: Iterable[str]) -> None:
        """Remove every line of these workers; waits for the writer."""
        for worker_id in worker_ids:
            with self._lock:
                stream = self._streams.get(worker_id)
            if stream is not None:
                self._ask(lambda s=stream: self._remove_older(s, 2**63 - 1))

    def close(self) -> None:
        """Write what waits and close the file; later lines are ignored. Idempotent."""
        with self._lock:
            self._closing = self._hurry = True
            self._wake.notify()
        self._thread.join()

    # The side of the callers.

    def _flushed(self, worker_id: str) -> Stream | None:
        with self._lock:
            if self._closing:
                raise RuntimeError("The log store is closed.")
            stream = self._streams.get(worker_id)
            until = self._appended
            if stream is not None and self._written < until:
                self._hurry = True
                self._wake.notify()
                self._done.wait_for(lambda: self._written >= until)
            return stream

    def _ask(self, call: Callable[[], int]) -> int:
        answer: Future[int] = Future()
        with self._lock:
            if self._closing:
                raise RuntimeError("The log store is closed.")
            self._calls.append((call, answer))
            self._hurry = True
            self._wake.notify()
        return answer.result()

    def _read(self, key: int, query: LogQuery) -> list[LogEntry]:
        order_max = 2**63 - 1
        low = (-order_max if query.start_ms is None else query.start_ms, 0)
        high = (order_max if query.end_ms is None else query.end_ms, order_max)
        if query.after is not None:
            low, high = (low, min(high, query.after)) if query.backward else (max(low, query.after), high)
        sql = _PAGE_BACKWARD if query.backward else _PAGE_FORWARD
        # An undecodable character can be in no stored line; surrogatepass makes bytes of it that match nothing.
        keyword = query.keyword.encode("utf-8", "surrogatepass") if query.keyword else None
        with self._reader() as reader:
            rows = reader.execute(sql, (key, *low, *high, keyword, keyword, query.page_size + 1))
            return [LogEntry(ms, line.decode("utf-8"), offset) for ms, offset, line in rows]

    @contextlib.contextmanager
    def _reader(self) -> Generator[sqlite3.Connection]:
        with self._lock:
            generation = self._generation
            reader = self._readers.pop() if self._readers else None
        if reader is None:
            reader = self._connect()
        try:
            yield reader
        except sqlite3.DatabaseError as error:
            if _is_unreadable(error):
                self._ask(lambda: self._begin_anew(generation))
            raise
        finally:
            with self._lock:
                keep = generation == self._generation and not self._closing
                if keep:
                    self._readers.append(reader)
            if not keep:
                reader.close()

    # The side of the file: all but `_connect` only on the writer's thread once it runs.

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, cached_statements=256)
        connection.execute("PRAGMA busy_timeout = 10000")
        return connection

    def _open(self) -> sqlite3.Connection:
        self._path.touch(mode=0o600)  # workers may print what is nobody else's business
        connection = self._connect()
        try:
            return self._prepared(connection)
        except sqlite3.DatabaseError as error:
            connection.close()
            if not _is_unreadable(error):
                raise
        self._put_aside()
        return self._prepared(self._connect())

    def _prepared(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_KEEP_BYTES}")
        connection.executescript(_SCHEMA)
        rows = connection.execute("SELECT key, worker_id, last_ms, last_offset, bytes FROM workers ORDER BY key")
        for key, worker_id, last_ms, last_offset, size in rows.fetchall():
            self._streams.setdefault(worker_id, Stream(key, worker_id, last_ms, last_offset, size))
            self._next_key = max(self._next_key, key + 1)
        return connection

    def _put_aside(self) -> None:
        self._path.replace(self._path.with_name(self._path.name + ".unreadable"))
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def _begin_anew(self, generation: int) -> int:
        with self._lock:
            if generation != self._generation:
                return 0  # somebody else met the same damage, and this is the new file
            self._generation += 1
            old, self._readers = self._readers, []
            for stream in self._streams.values():
                stream.bytes = 0
        for connection in (*old, self._writer):
            connection.close()
        self._put_aside()
        self._writer = self._prepared(self._connect())
        return 0

    def _run(self) -> None:
        while True:
            with self._lock:
                while not (self._dirty or self._calls or self._closing):
                    self._wake.wait()
                self._wake.wait_for(lambda: self._hurry, timeout=_LINGER_S)
                self._hurry = False
                batch, calls, closing, taken = self._take(), self._calls, self._closing, self._appended
                self._calls = []
            self._write(batch)
            with self._lock:
                self._written = taken
                self._done.notify_all()
            for call, answer in calls:
                try:
                    answer.set_result(call())
                except Exception as error:
                    answer.set_exception(error)
            if closing:
                break
        self._end()

    def _take(self) -> Batch:
        batch: Batch = []
        for stream in self._dirty:
            if stream.dropped:
                stream.put(stream.last_ms, f"[{stream.dropped} lines dropped: written faster than they can be kept]")
                stream.dropped = 0
            batch.append((stream, stream.waiting))
            stream.waiting = []
        self._dirty = []
        self._waiting_chars = 0
        return batch

    def _write(self, batch: Batch) -> None:
        for portion in portions(batch):
            try:
                self._insert(portion)
            except sqlite3.Error as error:
                with contextlib.suppress(sqlite3.Error):
                    self._writer.execute("ROLLBACK")
                with self._lock:
                    for stream, lines in portion:
                        stream.dropped += len(lines)
                if _is_unreadable(error):
                    with contextlib.suppress(sqlite3.Error, OSError):
                        self._begin_anew(self._generation)

    def _insert(self, batch: Batch) -> None:
        rows = [
            (stream.key, ms, offset, line.encode("utf-8", "replace"))
            for stream, lines in batch
            for ms, offset, line in lines
        ]
        sizes = {stream.key: stream.bytes for stream, _ in batch}
        for key, _, _, line in rows:
            sizes[key] += len(line) + _LINE_OVERHEAD_BYTES
        self._writer.execute("BEGIN IMMEDIATE")
        for first in range(0, len(rows), _ROWS_PER_INSERT):
            some = rows[first : first + _ROWS_PER_INSERT]
            places = ",".join(["(?,?,?,?)"] * len(some))
            self._writer.execute(f"INSERT INTO lines VALUES {places}", [value for row in some for value in row])  # noqa: S608
        for stream, lines in batch:
            if sizes[stream.key] > self._max_bytes_per_worker:
                kept = int(self._max_bytes_per_worker * _SHRINK_TO)
                sizes[stream.key] = self._give_up_oldest(stream.key, sizes[stream.key], kept)
            ms, offset, _ = lines[-1]
            self._writer.execute(_SAVE_WORKER, (stream.key, stream.worker_id, ms, offset, sizes[stream.key]))
        shrunk = self._give_up_of_the_largest(sizes)
        self._writer.execute("COMMIT")
        for stream, _ in batch:
            stream.bytes = sizes[stream.key]
        for stream in shrunk:
            stream.bytes = sizes[stream.key]

    def _give_up_of_the_largest(self, sizes: dict[int, int]) -> list[Stream]:
        """Bring all logs together within their bound; `sizes` has those that have just changed, and gets the others."""
        with self._lock:
            streams = list(self._streams.values())
        total = sum(sizes.get(stream.key, stream.bytes) for stream in streams)
        if total <= self._max_bytes:
            return []
        found = {stream.key: stream for stream in streams}
        sizes.update({key: stream.bytes for key, stream in found.items() if key not in sizes})
        shrunk: list[Stream] = []
        while total > self._max_bytes:
            key = max(found, key=lambda each: sizes[each])
            left = self._give_up_oldest(key, sizes[key], int(sizes[key] * _SHRINK_TO))
            total -= sizes[key] - left
            sizes[key] = left
            shrunk.append(found[key])
            self._writer.execute("UPDATE workers SET bytes = ? WHERE key = ?", (left, key))
        return shrunk

    def _give_up_oldest(self, key: int, size: int, kept: int) -> int:
        excess = size - kept
        found = self._writer.execute(_OLDEST_TO_GIVE_UP, (_LINE_OVERHEAD_BYTES, key, excess)).fetchone()
        if found is None:
            self._writer.execute("DELETE FROM lines WHERE worker = ?", (key,))
            return 0
        ms, offset, freed = found
        self._writer.execute("DELETE FROM lines WHERE worker = ? AND (ms, offset) <= (?, ?)", (key, ms, offset))
        return size - freed

    def _remove_older(self, stream: Stream, oldest_ms: int) -> int:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            where = (stream.key, oldest_ms)
            freed, count = self._writer.execute(
                f"SELECT coalesce(sum(length(line) + {_LINE_OVERHEAD_BYTES}), 0), count(*) FROM lines"  # noqa: S608
                " WHERE worker = ? AND ms < ?",
                where,
            ).fetchone()
            self._writer.execute("DELETE FROM lines WHERE worker = ? AND ms < ?", where)
            gone = stream.bytes == freed and stream.last_ms < oldest_ms
            if gone:
                self._writer.execute("DELETE FROM workers WHERE key = ?", (stream.key,))
            elif count:
                self._writer.execute("UPDATE workers SET bytes = bytes - ? WHERE key = ?", (freed, stream.key))
        except BaseException:
            self._writer.execute("ROLLBACK")
            raise
        self._writer.execute("COMMIT")
        stream.bytes -= freed
        if gone:
            with self._lock:
                if not stream.waiting:
                    del self._streams[stream.worker_id]
        return count

    def _shrink_file(self) -> int:
        # Not execute(): it stops after the first of the pages.
        self._writer.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
        return 0

    def _end(self) -> None:
        with self._lock:
            readers, self._readers = self._readers, []
            calls, self._calls = self._calls, []
        for _, answer in calls:
            answer.set_exception(RuntimeError("The log store is closed."))
        for connection in (*readers, self._writer):
            connection.close()


def _is_unreadable(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
