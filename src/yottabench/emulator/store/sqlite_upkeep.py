"""The commands of store/upkeep.py on SQLite: retention, clearing, snapshots put back, deliveries sent again."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from yottabench.emulator.receivers import destination_of
from yottabench.emulator.store import upkeep
from yottabench.emulator.store.base import DeliveryState, DueDelivery, Moved, TaskState, WorkerStatus
from yottabench.emulator.store.sqlite_connection import Connection
from yottabench.emulator.store.sqlite_counts import CountChanges
from yottabench.emulator.store.sqlite_history import SqliteHistory

_TERMINAL = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.DELIVERED})
_DELIVERED_OR_GIVEN_UP = frozenset({None, DeliveryState.ACKED, DeliveryState.EXHAUSTED})
_TABLES = (
    "delivery_attempt",
    "delivery",
    "attempt",
    "task_output",
    "task_input",
    "task_count",
    "task_block",
    "task",
    "worker",
    "endpoint",
)
_THEIR_TASKS = "SELECT seq FROM task WHERE endpoint_id = :id"
_THEIR_DELIVERIES = (
    "SELECT id FROM delivery WHERE task_seq IN (SELECT seq FROM task WHERE endpoint_id = :id)"
    " UNION ALL SELECT id FROM delivery WHERE worker_id IN (SELECT id FROM worker WHERE endpoint_id = :id)"
)
_CLEAR_ENDPOINT = [
    statement.replace("THEIR_TASKS", _THEIR_TASKS).replace("THEIR_DELIVERIES", _THEIR_DELIVERIES)
    for statement in (
        "DELETE FROM delivery_attempt WHERE delivery_id IN (THEIR_DELIVERIES)",
        "DELETE FROM delivery WHERE id IN (THEIR_DELIVERIES)",
        "DELETE FROM attempt WHERE task_seq IN (THEIR_TASKS)",
        "DELETE FROM task_output WHERE seq IN (THEIR_TASKS)",
        "DELETE FROM task_input WHERE seq IN (THEIR_TASKS)",
        "DELETE FROM task_count WHERE endpoint_id = :id",
        "DELETE FROM task_block WHERE endpoint_id = :id",
        "DELETE FROM task WHERE endpoint_id = :id",
        "DELETE FROM worker WHERE endpoint_id = :id",
        "DELETE FROM endpoint WHERE id = :id",
    )
]
_LOOK_FOR_OLD = (
    "SELECT t.seq, t.endpoint_id, t.state, t.created_ms, max(t.ended_ms, coalesce(d.updated_ms, 0)), d.id, d.state"
    " FROM task t LEFT JOIN delivery d ON d.task_seq = t.seq WHERE t.seq > ? ORDER BY t.seq LIMIT ?"
)
_OLD_WORKERS = (
    "SELECT id FROM worker w WHERE status = 3 AND updated_ms < ? AND NOT EXISTS"
    " (SELECT 1 FROM delivery d WHERE d.worker_id = w.id AND (d.state IN (0, 1) OR d.updated_ms >= ?)) LIMIT ?"
)
_EMPTY_ENDPOINTS = (
    "SELECT id FROM endpoint e WHERE deleted = 1"
    " AND NOT EXISTS (SELECT 1 FROM task WHERE endpoint_id = e.id)"
    " AND NOT EXISTS (SELECT 1 FROM worker WHERE endpoint_id = e.id) LIMIT ?"
)


class SqliteUpkeep(SqliteHistory):
    """The writing half of upkeep."""

    _writer: Connection
    _changes: CountChanges
    _next_seq: int

    def _upkeep(self) -> dict[type[Any], Callable[[Any], Any]]:
        return {
            upkeep.PurgeTasks: self._purge_tasks,
            upkeep.PurgeGone: self._purge_gone,
            upkeep.ResendDelivery: self._resend,
            upkeep.ClearState: self._clear,
            upkeep.PutSnapshot: self._put_snapshot,
        }

    # ---- retention

    def _purge_tasks(self, command: upkeep.PurgeTasks) -> upkeep.Purged:
        rows = self._writer.execute(_LOOK_FOR_OLD, (command.after_seq, command.limit)).fetchall()
        tasks: list[tuple[int]] = []
        deliveries: list[tuple[int]] = []
        too_young = False
        for seq, endpoint_id, state, created_ms, done_ms, delivery_id, delivery_state in rows:
            # Tasks are in order of their creation, and none ends before it: the first young one is the end of it.
            too_young = created_ms >= command.before_ms
            if too_young:
                break
            if state in _TERMINAL and done_ms < command.before_ms and delivery_state in _DELIVERED_OR_GIVEN_UP:
                tasks.append((seq,))
                self._changes.add(endpoint_id, seq, state, -1)
                if delivery_id is not None:
                    deliveries.append((delivery_id,))
        if tasks:
            self._keep_seq()
        for table in ("task_input", "task_output", "task"):
            self._writer.executemany(f"DELETE FROM {table} WHERE seq = ?", tasks)  # noqa: S608 -- constants only
        self._writer.executemany("DELETE FROM attempt WHERE task_seq = ?", tasks)
        self._drop_deliveries(deliveries)
        more = len(rows) == command.limit and not too_young
        return upkeep.Purged(len(tasks), rows[-1][0] if more else None)

    def _purge_gone(self, command: upkeep.PurgeGone) -> int:
        before_ms = command.before_ms
        workers = self._writer.execute(_OLD_WORKERS, (before_ms, before_ms, command.limit)).fetchall()
        for worker in workers:
            self._drop_deliveries(
                self._writer.execute("SELECT id FROM delivery WHERE worker_id = ?", worker).fetchall()
            )
        self._writer.executemany("DELETE FROM worker WHERE id = ?", workers)
        endpoints = self._writer.execute(_EMPTY_ENDPOINTS, (command.limit - len(workers),)).fetchall()
        self._writer.executemany("DELETE FROM task_count WHERE endpoint_id = ?", endpoints)
        self._writer.executemany("DELETE FROM endpoint WHERE id = ?", endpoints)
        return len(workers) + len(endpoints)

    def _drop_deliveries(self, ids: Sequence[tuple[int]]) -> None:
        self._writer.executemany("DELETE FROM delivery_attempt WHERE delivery_id = ?", ids)
        self._writer.executemany("DELETE FROM delivery WHERE id = ?", ids)

    def _keep_seq(self) -> None:
        # The newest task may be among those that go, and its seq must not be given again after a restart.
        self._writer.execute(
            "INSERT INTO mark (name, value) VALUES ('seq', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (self._next_seq - 1,),
        )

    # ---- deliveries

    def _resend(self, command: upkeep.ResendDelivery) -> DueDelivery | Moved:
        rows = self._writer.execute(
            "UPDATE delivery SET state = 0, next_ms = ? WHERE id = ? AND state <> 1"
            " RETURNING url, auth_key, task_seq, body, attempts, delivered_ms",
            (command.now_ms, command.id),
        ).fetchall()
        if not rows:
            return Moved.STALE
        ((url, auth_key, task_seq, body, attempts, delivered_ms),) = rows
        return DueDelivery(
            id=command.id,
            url=url,
            auth_key=auth_key,
            task_seq=task_seq,
            body=body,
            attempts=attempts,
            next_ms=command.now_ms,
            once=delivered_ms is not None,
        )

    # ---- clearing, and putting back

    def _clear(self, command: upkeep.ClearState) -> upkeep.Cleared:
        return self._cleared(command.namespace)

    def _cleared(self, namespace: str | None) -> upkeep.Cleared:
        self._keep_seq()
        if namespace is None:
            waiting = self._writer.execute("SELECT id FROM delivery WHERE state IN (0, 1)").fetchall()
            for table in _TABLES:
                self._writer.execute(f"DELETE FROM {table}")  # noqa: S608 -- constants only
            self._changes.clear()
            return upkeep.Cleared(tuple(delivery for (delivery,) in waiting))
        found = self._writer.execute("SELECT id FROM endpoint WHERE namespace = ?", (namespace,)).fetchall()
        waiting: list[tuple[int]] = []
        for (endpoint_id,) in found:
            here = {"id": endpoint_id}
            waiting += self._writer.execute(
                f"SELECT id FROM delivery WHERE id IN ({_THEIR_DELIVERIES}) AND state IN (0, 1)",  # noqa: S608 -- constants only
                here,
            ).fetchall()
            for statement in _CLEAR_ENDPOINT:
                self._writer.execute(statement, here)
        self._changes.forget({endpoint_id for (endpoint_id,) in found})
        return upkeep.Cleared(tuple(delivery for (delivery,) in waiting))

    def _put_snapshot(self, command: upkeep.PutSnapshot) -> upkeep.Cleared | str:
        snapshot = command.snapshot
        taken = self._taken_by_others(snapshot, command.namespace)
        if taken is not None:
            return taken
        cleared = self._cleared(command.namespace)
        for endpoint in snapshot.endpoints:
            record = endpoint.record
            if command.namespace is not None:
                record = msgspec.structs.replace(record, namespace=command.namespace)
            self._writer.execute(
                "INSERT INTO endpoint (id, namespace, deleted, record) VALUES (?, ?, ?, ?)",
                (record.id, record.namespace, endpoint.deleted, msgspec.json.encode(record)),
            )
        for worker in snapshot.workers:
            gone = worker.status is WorkerStatus.TERMINATED
            self._writer.execute(
                "INSERT INTO worker (id, endpoint_id, status, created_ms, updated_ms, reason)"
                " VALUES (?, ?, 3, ?, ?, ?)",
                (
                    worker.id,
                    worker.endpoint_id,
                    worker.created_ms,
                    worker.updated_ms,
                    worker.reason if gone else "left behind by a snapshot",
                ),
            )
        seqs = {task.seq: self._put_task(task, command.now_ms) for task in snapshot.tasks}
        for delivery in snapshot.deliveries:
            self._put_saved_delivery(delivery, seqs)
        return cleared

    def _taken_by_others(self, snapshot: upkeep.Snapshot, namespace: str | None) -> str | None:
        if namespace is None:
            return None
        others = "SELECT 1 FROM endpoint WHERE id = ? AND namespace <> ?"
        for endpoint in snapshot.endpoints:
            if self._writer.execute(others, (endpoint.record.id, namespace)).fetchone():
                return f"Endpoint {endpoint.record.id} of the snapshot belongs to another API key here."
        others = "SELECT 1 FROM worker w JOIN endpoint e ON e.id = w.endpoint_id WHERE w.id = ? AND e.namespace <> ?"
        for worker in snapshot.workers:
            if self._writer.execute(others, (worker.id, namespace)).fetchone():
                return f"Worker {worker.id} of the snapshot belongs to another API key here."
        return None

    def _put_task(self, task: upkeep.SavedTask, now_ms: int) -> int:
        seq = self._next_seq
        self._next_seq = seq + 1
        leased = task.state is TaskState.LEASED
        state = TaskState.QUEUED if leased else task.state
        self._writer.execute(
            "INSERT INTO task (seq, endpoint_id, task_id, state, fence, strikes, worker_id, worker_url, leased_ms,"
            " next_ms, webhook, error, created_ms, updated_ms, ended_ms)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                seq,
                task.endpoint_id,
                task.task_id,
                state,
                task.fence,
                task.strikes,
                task.worker_id,
                task.worker_url,
                task.leased_ms,
                task.next_ms,
                task.webhook,
                task.error,
                task.created_ms,
                task.updated_ms,
                task.ended_ms,
            ),
        )
        self._writer.execute(
            "INSERT INTO task_input (seq, worker_port, process_uri, webhook_auth_key, headers, input)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (
                seq,
                task.worker_port,
                task.process_uri,
                task.webhook_auth_key,
                _bytes(task.headers),
                bytes(task.input),
            ),
        )
        output = _bytes(task.output)
        if output is not None:
            self._writer.execute("INSERT INTO task_output (seq, output) VALUES (?, ?)", (seq, output))
        self._put_attempts(seq, task, now_ms)
        self._changes.add(task.endpoint_id, seq, state)
        return seq

    def _put_attempts(self, seq: int, task: upkeep.SavedTask, now_ms: int) -> None:
        for attempt in task.attempts:
            ended_ms, reason = attempt.ended_ms, attempt.reason
            if attempt.fence == task.fence and task.state is TaskState.LEASED:
                ended_ms, reason = now_ms, "A snapshot was taken while a worker had it."
            elif attempt.outcome != "returned":
                continue  # it is in the task's own row
            self._writer.execute(
                "INSERT INTO attempt (task_seq, fence, worker_id, worker_url, leased_ms, ended_ms, reason)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (seq, attempt.fence, attempt.worker_id, attempt.worker_url, attempt.leased_ms, ended_ms, reason),
            )

    def _put_saved_delivery(self, delivery: upkeep.SavedDelivery, seqs: dict[int, int]) -> None:
        inflight = delivery.state is DeliveryState.INFLIGHT
        ((delivery_id,),) = self._writer.execute(
            "INSERT INTO delivery (task_seq, worker_id, url, destination, auth_key, body, state, attempts, next_ms,"
            " note, delivered_ms, updated_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
            (
                None if delivery.task_seq is None else seqs[delivery.task_seq],
                delivery.worker_id,
                delivery.url,
                destination_of(delivery.url),
                delivery.auth_key,
                _bytes(delivery.body),
                DeliveryState.DUE if inflight else delivery.state,
                delivery.sends,
                delivery.next_ms,
                delivery.note,
                delivery.delivered_ms,
                delivery.updated_ms,
            ),
        ).fetchall()
        self._writer.executemany(
            "INSERT INTO delivery_attempt (delivery_id, number, started_ms, ended_ms, note) VALUES (?, ?, ?, ?, ?)",
            [
                (delivery_id, attempt.number, attempt.started_ms, attempt.ended_ms, attempt.note)
                for attempt in delivery.attempts
            ],
        )


def _bytes(text: msgspec.Raw | msgspec.UnsetType) -> bytes | None:
    return None if isinstance(text, msgspec.UnsetType) else bytes(text)
