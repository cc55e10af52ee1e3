"""The embedded store: SQLite in WAL mode with synchronous=FULL, written by one thread, read by another."""

import fcntl
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from yottabench.emulator.store import base
from yottabench.emulator.store.base import DeliveryState, DueDelivery, Moved, StoreBroken, StoreError, TaskState
from yottabench.emulator.store.migrations import make_folder, migrate
from yottabench.emulator.store.sqlite_batches import SqliteBatches
from yottabench.emulator.store.sqlite_connection import Error, is_failed_flush
from yottabench.emulator.store.sqlite_counts import CountChanges
from yottabench.emulator.store.sqlite_wal import Checkpointer

FILE_NAME = "yottabench.sqlite"
# When a server was killed, its process that writes ends its last commit before it goes (see store/forked.py).
_LOCK_PATIENCE_S = 2.0
_LOCK_AGAIN_S = 0.02

_RETURN = (
    "UPDATE task SET state = ?, strikes = strikes + ?, next_ms = ?, deadline_ms = NULL, updated_ms = ?"
    " WHERE seq = ? AND state = 1 AND fence = ? RETURNING endpoint_id, seq"
)
# Before the task's row forgets it: the lease that ends here without having ended the task.
_KEEP_ATTEMPT = (
    "INSERT INTO attempt (task_seq, fence, worker_id, worker_url, leased_ms, ended_ms, reason)"
    " SELECT seq, fence, worker_id, worker_url, leased_ms, ?, ? FROM task WHERE state = 1 AND"
)
_REQUEUE = (
    "UPDATE task SET state = 0, next_ms = NULL, updated_ms = ?"
    " WHERE seq = ? AND state = 2 AND fence = ? RETURNING endpoint_id, seq"
)


class SqliteStore(SqliteBatches):
    """The Store on one SQLite file in the folder `data`; a lock file keeps a second server out."""

    def __init__(self, data: Path) -> None:
        self._broken: StoreBroken | None = None
        self.when_broken: Callable[[StoreBroken], object] = lambda _: None  # on whatever thread it happens, once
        self._path = data / FILE_NAME
        try:
            make_folder(data)
            self._lock = _take_lock(data / "lock")
        except OSError as error:
            raise StoreError(
                f"The folder {data} cannot be used for a store: {error.strerror}. Choose another with --data."
            ) from error
        try:
            self._path.touch(mode=0o600)
            self._writer = self._connect()
            try:
                migrate(self._writer, self._path)
                self._settle_wal()
                self._reader = self._connect()
            except BaseException:
                self._writer.close()
                raise
            self._reader.execute("PRAGMA query_only = ON")
        except (Error, OSError) as error:
            self._lock.close()
            raise StoreError(f"{self._path} cannot be opened as a store: {error}") from error
        except StoreError:
            self._lock.close()
            raise
        highest = "SELECT max(s) FROM (SELECT max(seq) s FROM task UNION SELECT value FROM mark WHERE name = 'seq')"
        self._next_seq = 1 + (self._one(self._writer, highest) or 0)
        self._changes = CountChanges()
        self._do: dict[type[Any], Callable[[Any], Any]] = {
            base.PutEndpoint: self._put_endpoint,
            base.DropEndpoint: self._drop_endpoint,
            base.PutWorker: self._put_worker,
            base.ReturnTask: self._return,
            base.RequeueTask: self._requeue,
            base.FailOpenTasks: self._fail_open,
            base.ClaimDelivery: self._claim_delivery,
            base.EndDelivery: self._end_delivery,
            **self._upkeep(),
        }
        self._checkpointer = Checkpointer(self._connect, Path(f"{self._path}-wal"), self._break)

    def _settle_wal(self) -> None:
        # What a crash left in the WAL is shown by the system's memory, even if a flush of it once failed. Written into
        # the database and flushed anew, it can be built upon. A disk that is too full for that may still be read.
        try:
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except Error as error:
            if is_failed_flush(error):
                raise self._break(error) from error

    def _break(self, error: BaseException) -> StoreBroken:
        """Note that a flush failed; from here on `apply` refuses everything."""
        if self._broken is None:
            self._broken = StoreBroken(
                f"{self._path} could not be flushed to the disk: {error}. What it holds is not certain any more."
                " Look at the disk, then start yottabench again: it goes on with what is there."
            )
            self.when_broken(self._broken)
        return self._broken

    def _check_whole(self) -> None:
        if self._broken is not None:
            raise self._broken

    def close(self) -> None:
        """See Store.close."""
        self._checkpointer.stop()
        self._reader.close()
        self._writer.close()  # the last connection to close moves the WAL into the database
        self._lock.close()

    def recover(self, now_ms: int) -> None:
        """See Store.recover. A task that a crash of the server tore from its worker keeps its place and its strikes."""

        def requeue_what_was_leased() -> None:
            leased = self._writer.execute("SELECT endpoint_id FROM task_count WHERE state = 1 AND n > 0").fetchall()
            for (endpoint_id,) in leased:
                self._writer.execute(f"{_KEEP_ATTEMPT} endpoint_id = ?", (now_ms, "The server ended.", endpoint_id))
                moved = self._writer.execute(
                    "UPDATE task SET state = 0, deadline_ms = NULL, updated_ms = ? WHERE endpoint_id = ? AND state = 1"
                    " RETURNING endpoint_id, seq",
                    (now_ms, endpoint_id),
                ).fetchall()
                self._moved(moved, TaskState.LEASED, TaskState.QUEUED)
            self._writer.execute("UPDATE delivery SET state = 0 WHERE state = 1")
            # Written later than now: the machine's clock was set back. What waits then waits as long as it was to wait.
            for table, waiting in (("delivery", 0), ("task", 2)):
                self._writer.execute(
                    f"UPDATE {table} SET next_ms = next_ms - updated_ms + ?, updated_ms = ?"  # noqa: S608 -- constants only
                    f" WHERE state = {waiting} AND updated_ms > ?",
                    (now_ms, now_ms, now_ms),
                )
            self._writer.execute(
                "UPDATE worker SET status = 3, updated_ms = ?, reason = 'the server ended' WHERE status <> 3", (now_ms,)
            )

        self._transaction(requeue_what_was_leased)

    def apply(self, batch: Sequence[base.Command[Any]]) -> list[Any]:
        """See Store.apply."""
        self._check_whole()
        self._checkpointer.cut_wal_if_long(self._writer)
        self._check_whole()
        outcomes: list[Any] = []

        def all_commands() -> None:
            outcomes.extend(self._do_all(batch, self._do))

        self._transaction(all_commands)
        self._checkpointer.wake_if_needed()
        return outcomes

    def _transaction(self, work: Callable[[], None]) -> None:
        self._changes.clear()
        next_seq = self._next_seq
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            work()
            self._changes.write(self._writer)
            self._writer.execute("COMMIT")
        except BaseException as error:
            self._next_seq = next_seq
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            if is_failed_flush(error):
                raise self._break(error) from error
            if isinstance(error, Exception):
                raise StoreError(f"The store could not write: {error}") from error
            raise

    def _put_endpoint(self, command: base.PutEndpoint) -> Moved:
        self._writer.execute(
            "INSERT INTO endpoint (id, namespace, record) VALUES (?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET record = excluded.record",
            (command.endpoint.id, command.endpoint.namespace, msgspec.json.encode(command.endpoint)),
        )
        return Moved.DONE

    def _drop_endpoint(self, command: base.DropEndpoint) -> Moved:
        self._writer.execute("UPDATE endpoint SET deleted = 1 WHERE id = ? AND deleted = 0", (command.endpoint_id,))
        return Moved.DONE if self._writer.changes() == 1 else Moved.STALE

    def _put_worker(self, command: base.PutWorker) -> DueDelivery | None:
        worker = command.worker
        self._writer.execute(
            "INSERT INTO worker (id, endpoint_id, status, created_ms, updated_ms, reason) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET status = excluded.status, updated_ms = excluded.updated_ms,"
            " reason = excluded.reason",
            (worker.id, worker.endpoint_id, worker.status, worker.created_ms, worker.updated_ms, worker.reason),
        )
        if command.webhook is None:
            return None
        return self._put_delivery(command.webhook, None, worker.updated_ms, worker_id=worker.id, body=command.body)

    def _return(self, command: base.ReturnTask) -> Moved:
        target = TaskState.QUEUED if command.next_ms is None else TaskState.RETRY_WAIT
        self._writer.execute(
            f"{_KEEP_ATTEMPT} seq = ? AND fence = ?", (command.now_ms, command.reason, command.seq, command.fence)
        )
        rows = self._writer.execute(
            _RETURN, (target, command.strike, command.next_ms, command.now_ms, command.seq, command.fence)
        ).fetchall()
        return self._moved(rows, TaskState.LEASED, target)

    def _requeue(self, command: base.RequeueTask) -> Moved:
        rows = self._writer.execute(_REQUEUE, (command.now_ms, command.seq, command.fence)).fetchall()
        return self._moved(rows, TaskState.RETRY_WAIT, TaskState.QUEUED)

    def _fail_open(self, command: base.FailOpenTasks) -> base.FailedTasks:
        rows = self._writer.execute(
            "SELECT seq, state, webhook FROM task WHERE endpoint_id = ? AND state IN (0, 1, 2) ORDER BY seq LIMIT ?",
            (command.endpoint_id, command.limit),
        ).fetchall()
        deliveries: list[DueDelivery] = []
        for seq, state, webhook in rows:
            self._writer.execute(
                "UPDATE task SET state = 4, error = ?, deadline_ms = NULL, next_ms = NULL, ended_ms = ?, updated_ms = ?"
                " WHERE seq = ?",
                (command.error, command.now_ms, command.now_ms, seq),
            )
            self._moved([(command.endpoint_id, seq)], TaskState(state), TaskState.FAILED)
            delivery = self._put_task_delivery(seq, webhook, command.now_ms)
            if delivery is not None:
                deliveries.append(delivery)
        return base.FailedTasks(len(rows), tuple(deliveries), more=len(rows) == command.limit)

    def _claim_delivery(self, command: base.ClaimDelivery) -> Moved:
        self._writer.execute("UPDATE delivery SET state = 1 WHERE id = ? AND state = 0", (command.id,))
        return Moved.DONE if self._writer.changes() == 1 else Moved.STALE

    def _end_delivery(self, command: base.EndDelivery) -> Moved:
        acked = command.state is DeliveryState.ACKED
        rows = self._writer.execute(
            "UPDATE delivery SET state = ?, attempts = attempts + 1, next_ms = ?, note = ?,"
            " delivered_ms = coalesce(delivered_ms, ?), updated_ms = ? WHERE id = ? AND state = 1"
            " RETURNING task_seq, attempts",
            (
                command.state,
                command.next_ms,
                command.note,
                command.now_ms if acked else None,
                command.now_ms,
                command.id,
            ),
        ).fetchall()
        if not rows:
            return Moved.STALE
        ((task_seq, number),) = rows
        started_ms = command.now_ms if command.started_ms is None else command.started_ms
        self._writer.execute(
            "INSERT INTO delivery_attempt (delivery_id, number, started_ms, ended_ms, note) VALUES (?, ?, ?, ?, ?)",
            (command.id, number, started_ms, command.now_ms, command.note),
        )
        if acked and task_seq is not None:
            moved = self._writer.execute(
                "UPDATE task SET state = 5, updated_ms = ? WHERE seq = ? AND state = 3 RETURNING endpoint_id, seq",
                (command.now_ms, task_seq),
            ).fetchall()
            self._moved(moved, TaskState.SUCCEEDED, TaskState.DELIVERED)
        return Moved.DONE


def _take_lock(path: Path) -> Any:
    handle = path.open("a+")
    until_s = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() < until_s:
                time.sleep(_LOCK_AGAIN_S)
                continue
            handle.close()
            raise base.StoreInUse(
                f"Another yottabench serves {path.parent}. Stop it, or give this one its own folder with --data,"
                " or --ephemeral."
            ) from error
        return handle
