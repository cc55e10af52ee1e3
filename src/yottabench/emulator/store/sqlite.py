"""The embedded store: SQLite in WAL mode with synchronous=FULL, written by one thread, read by another."""

import fcntl
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import msgspec

from yottabench.emulator.receivers import destination_of
from yottabench.emulator.store import base
from yottabench.emulator.store.base import DeliveryState, DueDelivery, Moved, StoreBroken, StoreError, TaskState
from yottabench.emulator.store.sqlite_upkeep import SqliteUpkeep
from yottabench.emulator.store.sqlite_wal import Checkpointer, is_failed_flush

SCHEMA_VERSION = 2

# Rows per INSERT: each statement costs a turn with Python's lock, which the event loop wants at the same time.
_ROWS = (64, 16, 4, 1)
_INSERT_TASKS = {
    rows: "INSERT INTO task (seq, endpoint_id, task_id, state, fence, strikes, webhook, created_ms, updated_ms) VALUES"
    + ", ".join(["(?, ?, ?, 0, 0, 0, ?, ?, ?)"] * rows)
    + " ON CONFLICT (endpoint_id, task_id) DO NOTHING"
    for rows in _ROWS
}
_INSERT_INPUTS = {
    rows: "INSERT INTO task_input (seq, worker_port, process_uri, webhook_auth_key, headers, input) VALUES"
    + ", ".join(["(?, ?, ?, ?, ?, ?)"] * rows)
    for rows in _ROWS
}
_LEASE = (
    "UPDATE task SET state = 1, fence = fence + 1, worker_id = ?, worker_url = ?, deadline_ms = ?, leased_ms = ?,"
    " updated_ms = ? WHERE seq = ? AND state = 0 AND fence = ? RETURNING endpoint_id"
)
_FINISH = (
    "UPDATE task SET state = ?, error = ?, deadline_ms = NULL, ended_ms = ?, updated_ms = ?"
    " WHERE seq = ? AND state = 1 AND fence = ? RETURNING endpoint_id, webhook"
)
_RETURN = (
    "UPDATE task SET state = ?, strikes = strikes + ?, next_ms = ?, deadline_ms = NULL, updated_ms = ?"
    " WHERE seq = ? AND state = 1 AND fence = ? RETURNING endpoint_id"
)
# Before the task's row forgets it: the lease that ends here without having ended the task.
_KEEP_ATTEMPT = (
    "INSERT INTO attempt (task_seq, fence, worker_id, worker_url, leased_ms, ended_ms, reason)"
    " SELECT seq, fence, worker_id, worker_url, leased_ms, ?, ? FROM task WHERE state = 1 AND"
)
_REQUEUE = (
    "UPDATE task SET state = 0, next_ms = NULL, updated_ms = ?"
    " WHERE seq = ? AND state = 2 AND fence = ? RETURNING endpoint_id"
)
_INSERT_DELIVERY = (
    "INSERT INTO delivery (task_seq, worker_id, url, destination, auth_key, body, state, attempts, next_ms, updated_ms)"
    " VALUES (?, ?, ?, ?, ?, ?, 0, 0, ?, ?) RETURNING id"
)


class SqliteStore(SqliteUpkeep):
    """The Store on one SQLite file in the folder `data`; a lock file keeps a second server out."""

    def __init__(self, data: Path) -> None:
        self._broken: StoreBroken | None = None
        self.when_broken: Callable[[StoreBroken], object] = lambda _: None  # on whatever thread it happens, once
        self._path = data / "yottabench.sqlite"
        try:
            data.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _take_lock(data / "lock")
        except OSError as error:
            raise StoreError(
                f"The folder {data} cannot be used for a store: {error.strerror}. Choose another with --data."
            ) from error
        try:
            self._path.touch(mode=0o600)
            self._writer = self._connect()
            self._migrate()
            self._settle_wal()
            self._reader = self._connect()
            self._reader.execute("PRAGMA query_only = ON")
        except (sqlite3.Error, OSError) as error:
            self._lock.close()
            raise StoreError(f"{self._path} cannot be opened as a store: {error}") from error
        except StoreError:
            self._lock.close()
            raise
        highest = "SELECT max(s) FROM (SELECT max(seq) s FROM task UNION SELECT value FROM mark WHERE name = 'seq')"
        self._next_seq = 1 + (self._one(self._writer, highest) or 0)
        self._changes: defaultdict[tuple[int, int], int] = defaultdict(int)
        self._do: dict[type[Any], Callable[[Any], Any]] = {
            base.PutEndpoint: self._put_endpoint,
            base.DropEndpoint: self._drop_endpoint,
            base.PutWorker: self._put_worker,
            base.LeaseTask: self._lease,
            base.FinishTask: self._finish,
            base.ReturnTask: self._return,
            base.RequeueTask: self._requeue,
            base.FailOpenTasks: self._fail_open,
            base.ClaimDelivery: self._claim_delivery,
            base.EndDelivery: self._end_delivery,
            **self._upkeep(),
        }
        self._checkpointer = Checkpointer(self._connect, Path(f"{self._path}-wal"), self._break)
        self._closed = False

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, cached_statements=256)
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "wal_autocheckpoint = 0",
            "busy_timeout = 5000",
            "cache_size = -16384",
            "temp_store = MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _migrate(self) -> None:
        version = self._one(self._writer, "PRAGMA user_version")
        if version == SCHEMA_VERSION:
            return
        if version != 0:
            raise StoreError(
                f"{self._path} has schema version {version}; this yottabench knows {SCHEMA_VERSION}."
                " Use the yottabench that wrote it, or another --data folder."
            )
        schema = files("yottabench.emulator.store").joinpath("schema.sql").read_text(encoding="utf-8")
        self._writer.executescript(f"BEGIN IMMEDIATE;\n{schema}\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;")

    def _settle_wal(self) -> None:
        # What a crash left in the WAL is shown by the system's memory, even if a flush of it once failed. Written into
        # the database and flushed anew, it can be built upon. A disk that is too full for that may still be read.
        try:
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
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

    @staticmethod
    def _one(connection: sqlite3.Connection, sql: str, values: Sequence[Any] = ()) -> Any:
        row = connection.execute(sql, values).fetchone()
        return None if row is None else row[0]

    def close(self) -> None:
        """See Store.close."""
        if self._closed:
            return
        self._closed = True
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
                    "UPDATE task SET state = 0, deadline_ms = NULL, updated_ms = ? WHERE endpoint_id = ? AND state = 1",
                    (now_ms, endpoint_id),
                ).rowcount
                self._move_count(endpoint_id, TaskState.LEASED, TaskState.QUEUED, moved)
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
        do = self._do
        outcomes: list[Any] = []

        def all_commands() -> None:
            for kind, commands in groupby(batch, type):
                if kind is base.SubmitTask:
                    outcomes.extend(self._submit_all(cast("list[base.SubmitTask]", list(commands))))
                else:
                    outcomes.extend([do[kind](command) for command in commands])

        self._transaction(all_commands)
        self._checkpointer.wake_if_needed()
        return outcomes

    def _transaction(self, work: Callable[[], None]) -> None:
        self._changes.clear()
        next_seq = self._next_seq
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            work()
            self._writer.executemany(
                "INSERT INTO task_count (endpoint_id, state, n) VALUES (?, ?, ?)"
                " ON CONFLICT (endpoint_id, state) DO UPDATE SET n = n + excluded.n",
                [(*key, change) for key, change in self._changes.items() if change],
            )
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

    def _move_count(self, endpoint_id: int, source: TaskState, target: TaskState, tasks: int = 1) -> None:
        self._changes[endpoint_id, source] -= tasks
        self._changes[endpoint_id, target] += tasks

    def _put_endpoint(self, command: base.PutEndpoint) -> Moved:
        self._writer.execute(
            "INSERT INTO endpoint (id, namespace, record) VALUES (?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET record = excluded.record",
            (command.endpoint.id, command.endpoint.namespace, msgspec.json.encode(command.endpoint)),
        )
        return Moved.DONE

    def _drop_endpoint(self, command: base.DropEndpoint) -> Moved:
        cursor = self._writer.execute(
            "UPDATE endpoint SET deleted = 1 WHERE id = ? AND deleted = 0", (command.endpoint_id,)
        )
        return Moved.DONE if cursor.rowcount == 1 else Moved.STALE

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

    def _put_delivery(
        self,
        url: str,
        auth_key: str | None,
        now_ms: int,
        *,
        task_seq: int | None = None,
        worker_id: int | None = None,
        body: bytes | None = None,
    ) -> DueDelivery:
        values = (task_seq, worker_id, url, destination_of(url), auth_key, body, now_ms, now_ms)
        ((delivery_id,),) = self._writer.execute(_INSERT_DELIVERY, values).fetchall()
        return DueDelivery(
            id=delivery_id, url=url, auth_key=auth_key, task_seq=task_seq, body=body, attempts=0, next_ms=now_ms
        )

    def _submit_all(self, commands: Sequence[base.SubmitTask]) -> list[base.Submitted]:
        outcomes: list[base.Submitted] = []
        done = 0
        while done < len(commands):
            rows = next(rows for rows in _ROWS if rows <= len(commands) - done)
            outcomes += self._submit_rows(commands[done : done + rows])
            done += rows
        return outcomes

    def _submit_rows(self, commands: Sequence[base.SubmitTask]) -> list[base.Submitted]:
        numbered = list(enumerate(commands, self._next_seq))
        self._next_seq += len(numbered)
        tasks = [
            value
            for seq, each in numbered
            for value in (seq, each.endpoint_id, each.task_id, each.webhook, each.now_ms, each.now_ms)
        ]
        inserted = self._writer.execute(_INSERT_TASKS[len(numbered)], tasks).rowcount
        if inserted == len(numbered):
            self._insert_inputs(numbered)
            return [base.Submitted(seq, known=False, same=True) for seq, _ in numbered]
        span = (numbered[0][0], numbered[-1][0])
        new = {seq for (seq,) in self._writer.execute("SELECT seq FROM task WHERE seq BETWEEN ? AND ?", span)}
        for each in numbered:
            if each[0] in new:
                self._insert_inputs([each])
        return [
            base.Submitted(seq, known=False, same=True) if seq in new else self._known_task(each)
            for seq, each in numbered
        ]

    def _insert_inputs(self, numbered: Sequence[tuple[int, base.SubmitTask]]) -> None:
        inputs = [
            value
            for seq, each in numbered
            for value in (seq, each.worker_port, each.process_uri, each.webhook_auth_key, each.headers, each.input)
        ]
        self._writer.execute(_INSERT_INPUTS[len(numbered)], inputs)
        for _, each in numbered:
            self._changes[each.endpoint_id, TaskState.QUEUED] += 1

    def _known_task(self, command: base.SubmitTask) -> base.Submitted:
        row = self._writer.execute(
            "SELECT t.seq, i.worker_port, i.process_uri, t.webhook, i.webhook_auth_key, i.headers, i.input"
            " FROM task t JOIN task_input i USING (seq) WHERE t.endpoint_id = ? AND t.task_id = ?",
            (command.endpoint_id, command.task_id),
        ).fetchone()
        seq, *known, headers, payload = row
        sent = [command.worker_port, command.process_uri, command.webhook, command.webhook_auth_key]
        same = known == sent and _same_json(headers, command.headers) and _same_json(payload, command.input)
        return base.Submitted(seq, known=True, same=same)

    def _lease(self, command: base.LeaseTask) -> Moved:
        rows = self._writer.execute(
            _LEASE,
            (
                command.worker_id,
                command.worker_url,
                command.deadline_ms,
                command.now_ms,
                command.now_ms,
                command.seq,
                command.fence,
            ),
        ).fetchall()
        return self._moved(rows, TaskState.QUEUED, TaskState.LEASED)

    def _moved(self, rows: list[tuple[int]], source: TaskState, target: TaskState) -> Moved:
        if not rows:
            return Moved.STALE
        self._move_count(rows[0][0], source, target)
        return Moved.DONE

    def _finish(self, command: base.FinishTask) -> base.Finished:
        rows = self._writer.execute(
            _FINISH, (command.state, command.error, command.now_ms, command.now_ms, command.seq, command.fence)
        ).fetchall()
        if not rows:
            return base.Finished(Moved.STALE, None)
        ((endpoint_id, webhook),) = rows
        self._move_count(endpoint_id, TaskState.LEASED, command.state)
        if command.output is not None:
            self._writer.execute("INSERT INTO task_output (seq, output) VALUES (?, ?)", (command.seq, command.output))
        return base.Finished(Moved.DONE, self._put_task_delivery(command.seq, webhook, command.now_ms))

    def _put_task_delivery(self, seq: int, webhook: str | None, now_ms: int) -> DueDelivery | None:
        if webhook is None:
            return None
        auth_key = self._one(self._writer, "SELECT webhook_auth_key FROM task_input WHERE seq = ?", (seq,))
        return self._put_delivery(webhook, auth_key, now_ms, task_seq=seq)

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
            self._move_count(command.endpoint_id, TaskState(state), TaskState.FAILED)
            delivery = self._put_task_delivery(seq, webhook, command.now_ms)
            if delivery is not None:
                deliveries.append(delivery)
        return base.FailedTasks(len(rows), tuple(deliveries), more=len(rows) == command.limit)

    def _claim_delivery(self, command: base.ClaimDelivery) -> Moved:
        cursor = self._writer.execute("UPDATE delivery SET state = 1 WHERE id = ? AND state = 0", (command.id,))
        return Moved.DONE if cursor.rowcount == 1 else Moved.STALE

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
                "UPDATE task SET state = 5, updated_ms = ? WHERE seq = ? AND state = 3 RETURNING endpoint_id",
                (command.now_ms, task_seq),
            ).fetchall()
            self._moved(moved, TaskState.SUCCEEDED, TaskState.DELIVERED)
        return Moved.DONE


def _take_lock(path: Path) -> Any:
    handle = path.open("a+")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        handle.close()
        raise base.StoreInUse(
            f"Another yottabench serves {path.parent}. Stop it, or give this one its own folder with --data,"
            " or --ephemeral."
        ) from error
    return handle


def _same_json(one: bytes | None, other: bytes | None) -> bool:
    if one == other:
        return True
    if one is None or other is None:
        return False
    try:
        # Encoded again rather than compared as values, for which Python's True == 1 == 1.0 would do.
        return _canonical(one) == _canonical(other)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return False  # valid JSON, but with a number that nothing here can hold, such as 1e999


def _canonical(text: bytes) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(text), order="sorted")
