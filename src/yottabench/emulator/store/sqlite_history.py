"""What the SQLite store tells of the past of its tasks and deliveries, and all of it as a snapshot."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import msgspec

from yottabench.emulator.store import upkeep
from yottabench.emulator.store.base import (
    OPEN_STATES,
    DeliveryState,
    EndpointRecord,
    StoreError,
    TaskState,
    WorkerRecord,
    WorkerStatus,
)
from yottabench.emulator.store.sqlite_connection import Connection, Error
from yottabench.emulator.store.sqlite_reads import SqliteReads

_TASK = (
    "SELECT t.seq, t.endpoint_id, t.task_id, t.state, t.fence, t.strikes, t.worker_id, t.worker_url, t.leased_ms,"
    " t.next_ms, t.webhook, t.error, t.created_ms, t.updated_ms, t.ended_ms, i.worker_port, i.process_uri,"
    " i.webhook_auth_key, i.headers, i.input, o.output"
    " FROM task t JOIN task_input i USING (seq) LEFT JOIN task_output o USING (seq)"
)
_TASK_FIELDS = tuple(name for name in upkeep.SavedTask.__struct_fields__ if name != "attempts")
_ATTEMPT = "SELECT fence, worker_id, worker_url, leased_ms, ended_ms, 'returned', reason FROM attempt"
_DELIVERY = (
    "SELECT d.id, coalesce(t.endpoint_id, w.endpoint_id), t.task_id, d.worker_id, d.url, d.state, d.next_ms,"
    " d.delivered_ms FROM delivery d LEFT JOIN task t ON t.seq = d.task_seq LEFT JOIN worker w ON w.id = d.worker_id"
)
_DELIVERY_FIELDS = tuple(name for name in upkeep.Delivery.__struct_fields__ if name != "attempts")
_SEND = "SELECT number, started_ms, ended_ms, note FROM delivery_attempt WHERE delivery_id = ? ORDER BY number"
_SEND_FIELDS = upkeep.DeliveryAttempt.__struct_fields__
_SAVED_DELIVERY = (
    "SELECT d.id, d.task_seq, d.worker_id, d.url, d.auth_key, d.body, d.state, d.attempts, d.next_ms, d.note,"
    " d.delivered_ms, d.updated_ms FROM delivery d"
)
_SAVED_DELIVERY_FIELDS = tuple(name for name in upkeep.SavedDelivery.__struct_fields__ if name != "attempts")


class SqliteHistory(SqliteReads):
    """The reading half of upkeep; see History for what each promises."""

    def task_history(self, endpoint_id: int, task_id: str) -> upkeep.TaskHistory | None:
        """See History.task_history."""
        rows = self._rows(
            "SELECT seq, state, strikes, next_ms, fence, worker_id, worker_url, leased_ms, ended_ms, error FROM task"
            " WHERE endpoint_id = ? AND task_id = ?",
            (endpoint_id, task_id),
        )
        if not rows:
            return None
        seq, state, strikes, next_ms, *newest = rows[0]
        attempts = [_attempt(row) for row in self._rows(f"{_ATTEMPT} WHERE task_seq = ? ORDER BY fence", (seq,))]
        return upkeep.TaskHistory(
            seq=seq,
            state=TaskState(state),
            strikes=strikes,
            next_ms=next_ms,
            attempts=_with_newest(attempts, TaskState(state), *newest),
        )

    def deliveries(self, query: upkeep.DeliveryQuery) -> list[upkeep.Delivery]:
        """See History.deliveries."""
        where = ["1"]
        values: list[Any] = []
        for condition, value in (
            ("d.id < ?", query.before),
            ("d.state = ?", query.state),
            ("coalesce(t.endpoint_id, w.endpoint_id) = ?", query.endpoint_id),
            ("t.task_id = ?", query.task_id),
            (
                "coalesce(t.endpoint_id, w.endpoint_id) IN (SELECT id FROM endpoint WHERE namespace = ?)",
                query.namespace,
            ),
        ):
            if value is not None:
                where.append(condition)
                values.append(value)
        sql = f"{_DELIVERY} WHERE {' AND '.join(where)} ORDER BY d.id DESC LIMIT ?"
        return [self._delivery(row) for row in self._rows(sql, [*values, query.limit])]

    def delivery(self, delivery_id: int) -> upkeep.Delivery | None:
        """See History.delivery."""
        rows = self._rows(f"{_DELIVERY} WHERE d.id = ?", (delivery_id,))
        return self._delivery(rows[0]) if rows else None

    def _delivery(self, row: Sequence[Any]) -> upkeep.Delivery:
        fields: dict[str, Any] = dict(zip(_DELIVERY_FIELDS, row, strict=True))
        fields["state"] = DeliveryState(fields["state"])
        return upkeep.Delivery(**fields, attempts=[_send(each) for each in self._rows(_SEND, (fields["id"],))])

    def endpoint_ids(self, namespace: str | None) -> list[int]:
        """See History.endpoint_ids."""
        rows = self._rows("SELECT id FROM endpoint WHERE ?1 IS NULL OR namespace = ?1 ORDER BY id", (namespace,))
        return [endpoint_id for (endpoint_id,) in rows]

    def snapshot(self, namespace: str | None, now_ms: int, max_tasks: int) -> upkeep.Snapshot:
        """See History.snapshot. A connection of its own, so that a large one keeps nobody waiting."""
        try:
            with closing(self._connect()) as connection:
                connection.execute("BEGIN")
                return _Taking(connection, namespace, max_tasks).all(now_ms)
        except Error as error:
            raise StoreError(f"The store could not read: {error}") from error


class _Taking:
    """One snapshot, read in one transaction."""

    def __init__(self, connection: Connection, namespace: str | None, max_tasks: int) -> None:
        self._connection = connection
        self._values = {"namespace": namespace}
        self._max_tasks = max_tasks

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, self._values).fetchall()

    def all(self, now_ms: int) -> upkeep.Snapshot:
        mine = "SELECT id FROM endpoint WHERE :namespace IS NULL OR namespace = :namespace"
        ((tasks,),) = self._rows(f"SELECT coalesce(sum(n), 0) FROM task_count WHERE endpoint_id IN ({mine})")  # noqa: S608 -- constants only
        if tasks > self._max_tasks:
            raise upkeep.TooLarge(tasks)
        return upkeep.Snapshot(
            taken_ms=now_ms,
            endpoints=[
                upkeep.SavedEndpoint(record=msgspec.json.decode(record, type=EndpointRecord), deleted=bool(deleted))
                for record, deleted in self._rows(f"SELECT record, deleted FROM endpoint WHERE id IN ({mine})")  # noqa: S608 -- constants only
            ],
            workers=[
                WorkerRecord(
                    id=row[0],
                    endpoint_id=row[1],
                    status=WorkerStatus(row[2]),
                    created_ms=row[3],
                    updated_ms=row[4],
                    reason=row[5],
                )
                for row in self._rows(
                    "SELECT id, endpoint_id, status, created_ms, updated_ms, reason FROM worker"  # noqa: S608 -- constants only
                    f" WHERE endpoint_id IN ({mine}) ORDER BY id"
                )
            ],
            tasks=self._tasks(mine),
            deliveries=self._deliveries(mine),
        )

    def _tasks(self, mine: str) -> list[upkeep.SavedTask]:
        attempts: defaultdict[int, list[upkeep.TaskAttempt]] = defaultdict(list)
        of_mine = f"SELECT seq FROM task WHERE endpoint_id IN ({mine})"  # noqa: S608 -- constants only
        for seq, *row in self._rows(
            f"{_ATTEMPT.replace('SELECT ', 'SELECT task_seq, ')} WHERE task_seq IN ({of_mine}) ORDER BY task_seq, fence"
        ):
            attempts[seq].append(_attempt(row))
        return [
            _saved_task(row, attempts) for row in self._rows(f"{_TASK} WHERE t.endpoint_id IN ({mine}) ORDER BY t.seq")
        ]

    def _deliveries(self, mine: str) -> list[upkeep.SavedDelivery]:
        rows = self._rows(
            f"{_SAVED_DELIVERY} LEFT JOIN task t ON t.seq = d.task_seq LEFT JOIN worker w ON w.id = d.worker_id"
            f" WHERE coalesce(t.endpoint_id, w.endpoint_id) IN ({mine}) ORDER BY d.id"
        )
        return [self._saved_delivery(*row) for row in rows]

    def _saved_delivery(self, delivery_id: int, *row: Any) -> upkeep.SavedDelivery:
        fields: dict[str, Any] = dict(zip(_SAVED_DELIVERY_FIELDS, row, strict=True))
        fields["state"] = DeliveryState(fields["state"])
        fields["body"] = _raw(fields["body"])
        sends = self._connection.execute(_SEND, (delivery_id,)).fetchall()
        return upkeep.SavedDelivery(**fields, attempts=[_send(each) for each in sends])


def _saved_task(row: Sequence[Any], attempts: dict[int, list[upkeep.TaskAttempt]]) -> upkeep.SavedTask:
    fields: dict[str, Any] = dict(zip(_TASK_FIELDS, row, strict=True))
    for name in ("headers", "input", "output"):
        fields[name] = _raw(fields[name])
    fields["state"] = state = TaskState(fields["state"])
    newest = (fields[name] for name in ("fence", "worker_id", "worker_url", "leased_ms", "ended_ms", "error"))
    known = attempts.get(fields["seq"], [])
    return upkeep.SavedTask(**fields, attempts=_with_newest(known, state, *newest))


def _raw(text: bytes | None) -> msgspec.Raw | msgspec.UnsetType:
    return msgspec.UNSET if text is None else msgspec.Raw(text)


def _with_newest(
    attempts: list[upkeep.TaskAttempt],
    state: TaskState,
    fence: int,
    worker_id: int | None,
    worker_url: str | None,
    leased_ms: int | None,
    ended_ms: int | None,
    error: str | None,
) -> list[upkeep.TaskAttempt]:
    """The attempts of the table, and the newest one if the task's own row has it."""
    if worker_id is None or worker_url is None or leased_ms is None:
        return attempts
    if attempts and attempts[-1].fence == fence:
        return attempts
    outcome = None if state in OPEN_STATES else "FAILED" if state is TaskState.FAILED else "SUCCEEDED"
    newest = upkeep.TaskAttempt(
        fence=fence,
        worker_id=worker_id,
        worker_url=worker_url,
        leased_ms=leased_ms,
        ended_ms=ended_ms,
        outcome=outcome,
        reason=error,
    )
    return [*attempts, newest]


def _attempt(row: Sequence[Any]) -> upkeep.TaskAttempt:
    return upkeep.TaskAttempt(**dict(zip(upkeep.TaskAttempt.__struct_fields__, row, strict=True)))


def _send(row: Sequence[Any]) -> upkeep.DeliveryAttempt:
    return upkeep.DeliveryAttempt(**dict(zip(_SEND_FIELDS, row, strict=True)))
