"""What the SQLite store reads: on a connection of its own, beside the writer, always the last commit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from yottabench.emulator.limits import READY_INPUT_MAX_BYTES
from yottabench.emulator.store import base
from yottabench.emulator.store.base import DeliveryState, DueDelivery, StoreError, TaskState
from yottabench.emulator.store.sqlite_connection import Connection, Error, connect
from yottabench.emulator.store.sqlite_counts import HIGHEST_SEQ, start_of_page

_SUMMARY = (
    "t.seq, t.endpoint_id, t.task_id, t.state, t.worker_url, t.webhook, d.state, coalesce(d.attempts, 0), t.error,"
    " t.created_ms, t.updated_ms, d.delivered_ms"
)
_READY = (
    "t.seq, t.endpoint_id, t.task_id, t.fence, t.strikes, i.worker_port, i.process_uri,"
    f" CASE WHEN length(i.input) <= {READY_INPUT_MAX_BYTES} THEN i.input END, i.headers"
)
# From one to the next by the index, however many deliveries each has.
_DESTINATIONS = (
    "WITH RECURSIVE found (name) AS (SELECT min(destination) FROM delivery WHERE state = 0 UNION ALL"
    " SELECT (SELECT min(destination) FROM delivery WHERE state = 0 AND destination > name) FROM found"
    " WHERE name IS NOT NULL) SELECT name FROM found WHERE name IS NOT NULL"
)


class SqliteReads:
    """The reading half of the Store."""

    _path: Path
    _reader: Connection

    def _connect(self) -> Connection:
        connection = connect(self._path)
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

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._reader.execute(sql, values).fetchall()
        except Error as error:
            raise StoreError(f"The store could not read: {error}") from error

    def endpoints(self) -> list[base.EndpointRecord]:
        """See Store.endpoints."""
        rows = self._rows("SELECT record FROM endpoint WHERE deleted = 0 ORDER BY id")
        return [msgspec.json.decode(record, type=base.EndpointRecord) for (record,) in rows]

    def deleted_with_open_tasks(self) -> list[int]:
        """See Store.deleted_with_open_tasks."""
        rows = self._rows(
            "SELECT DISTINCT c.endpoint_id FROM task_count c JOIN endpoint e ON e.id = c.endpoint_id"
            " WHERE e.deleted = 1 AND c.state IN (0, 1, 2) AND c.n > 0"
        )
        return [endpoint_id for (endpoint_id,) in rows]

    def workers(self, endpoint_id: int) -> list[base.WorkerRecord]:
        """See Store.workers."""
        rows = self._rows(
            "SELECT id, endpoint_id, status, created_ms, updated_ms, reason FROM worker WHERE endpoint_id = ?"
            " ORDER BY id",
            (endpoint_id,),
        )
        return [_worker(row) for row in rows]

    def worker(self, worker_id: int) -> base.WorkerRecord | None:
        """See Store.worker."""
        rows = self._rows(
            "SELECT id, endpoint_id, status, created_ms, updated_ms, reason FROM worker WHERE id = ?", (worker_id,)
        )
        return _worker(rows[0]) if rows else None

    def task(self, endpoint_id: int, task_id: str) -> base.Task | None:
        """See Store.task."""
        rows = self._rows(
            f"SELECT {_SUMMARY}, i.input, i.headers, o.output FROM task t JOIN task_input i USING (seq)"  # noqa: S608 -- constants only
            " LEFT JOIN task_output o USING (seq) LEFT JOIN delivery d ON d.task_seq = t.seq"
            " WHERE t.endpoint_id = ? AND t.task_id = ?",
            (endpoint_id, task_id),
        )
        if not rows:
            return None
        *summary, payload, headers, output = rows[0]
        return base.Task(**_summary(summary), input=payload, headers=headers, output=output)

    def tasks(self, endpoint_id: int, states: Sequence[TaskState], offset: int, limit: int) -> list[base.TaskSummary]:
        """See Store.tasks."""
        return self._cut(endpoint_id, states, "DESC", (HIGHEST_SEQ, offset), limit)

    def _cut(
        self, endpoint_id: int, states: Sequence[TaskState], order: str, start: tuple[int, int], limit: int
    ) -> list[base.TaskSummary]:
        """A page, newest first, counted to the older (DESC) or the newer (ASC); `start` as `start_of_page` gives it.

        It is cut on the index alone; only its own rows are read.
        """
        seq, offset = start
        first = "<=" if order == "DESC" else ">="
        one_state = f"SELECT seq FROM task WHERE endpoint_id = ? AND state = ? AND seq {first} ?"  # noqa: S608 -- constants only
        page = " UNION ALL ".join([one_state] * len(states)) + f" ORDER BY seq {order} LIMIT ? OFFSET ?"
        rows = self._rows(
            f"SELECT {_SUMMARY} FROM ({page}) p JOIN task t USING (seq)"  # noqa: S608 -- constants only
            " LEFT JOIN delivery d ON d.task_seq = t.seq ORDER BY t.seq DESC",
            [value for state in states for value in (endpoint_id, state, seq)] + [limit, offset],
        )
        return [base.TaskSummary(**_summary(row)) for row in rows]

    def task_page(
        self, endpoint_id: int, states: Sequence[TaskState], offset: int, limit: int
    ) -> tuple[int, list[base.TaskSummary]]:
        """See Store.task_page."""
        self._rows("BEGIN")
        try:
            counts = self.counts(endpoint_id)
            total = sum(counts.get(state, 0) for state in states)
            if offset >= total:
                return total, []
            # What is passed over costs time: so not what is empty, and from the end that is nearer.
            present = [state for state in states if counts.get(state)]
            older = total - offset - limit
            order, passed = ("ASC", max(0, older)) if older < offset else ("DESC", offset)
            start = start_of_page(self._rows, endpoint_id, present, order, passed)
            return total, self._cut(endpoint_id, present, order, start, min(limit, total - offset))
        finally:
            self._rows("COMMIT")

    def counts(self, endpoint_id: int) -> dict[TaskState, int]:
        """See Store.counts."""
        rows = self._rows("SELECT state, n FROM task_count WHERE endpoint_id = ?", (endpoint_id,))
        return {TaskState(state): n for state, n in rows}

    def queued(self, endpoint_id: int, after_seq: int, limit: int) -> list[base.ReadyTask]:
        """See Store.queued."""
        rows = self._rows(
            f"SELECT {_READY} FROM task t JOIN task_input i USING (seq)"  # noqa: S608 -- constants only
            " WHERE t.endpoint_id = ? AND t.state = 0 AND t.seq > ? ORDER BY t.seq LIMIT ?",
            (endpoint_id, after_seq, limit),
        )
        return [_ready(row) for row in rows]

    def task_input(self, seq: int) -> bytes:
        """See Store.task_input."""
        return cast(bytes, self._rows("SELECT input FROM task_input WHERE seq = ?", (seq,))[0][0])

    def waiting(self) -> list[tuple[int, base.ReadyTask]]:
        """See Store.waiting."""
        rows = self._rows(
            f"SELECT t.next_ms, {_READY} FROM task t JOIN task_input i USING (seq) WHERE t.state = 2 ORDER BY t.next_ms"  # noqa: S608 -- constants only
        )
        return [(next_ms, _ready(row)) for next_ms, *row in rows]

    def due_deliveries(self, limit: int, destination: str | None = None) -> list[DueDelivery]:
        """See Store.due_deliveries."""
        of_one, values = ("", (limit,)) if destination is None else (" AND destination = ?", (destination, limit))
        rows = self._rows(
            "SELECT id, url, auth_key, task_seq, body, attempts, next_ms, delivered_ms IS NOT NULL FROM delivery"  # noqa: S608 -- constants only
            f" WHERE state = 0{of_one} ORDER BY next_ms, id LIMIT ?",
            values,
        )
        return [
            DueDelivery(
                id=number,
                url=url,
                auth_key=auth_key,
                task_seq=task_seq,
                body=body,
                attempts=attempts,
                next_ms=next_ms,
                once=bool(once),
            )
            for number, url, auth_key, task_seq, body, attempts, next_ms, once in rows
        ]

    def delivery_destinations(self) -> list[str]:
        """See Store.delivery_destinations."""
        return [destination for (destination,) in self._rows(_DESTINATIONS)]

    def pending_deliveries(self) -> int:
        """See Store.pending_deliveries."""
        return cast(int, self._rows("SELECT count(*) FROM delivery WHERE state = 0")[0][0])

    def finished_task(self, seq: int) -> base.FinishedTask | None:
        """See Store.finished_task."""
        rows = self._rows(
            "SELECT t.seq, t.endpoint_id, t.task_id, t.state, o.output, t.error FROM task t"
            " LEFT JOIN task_output o USING (seq) WHERE t.seq = ?",
            (seq,),
        )
        if not rows:
            return None
        _, endpoint_id, task_id, state, output, error = rows[0]
        return base.FinishedTask(
            seq=seq, endpoint_id=endpoint_id, task_id=task_id, state=TaskState(state), output=output, error=error
        )


def _worker(row: Sequence[Any]) -> base.WorkerRecord:
    worker_id, endpoint_id, status, created_ms, updated_ms, reason = row
    return base.WorkerRecord(
        id=worker_id,
        endpoint_id=endpoint_id,
        status=base.WorkerStatus(status),
        created_ms=created_ms,
        updated_ms=updated_ms,
        reason=reason,
    )


_SUMMARY_FIELDS = (
    "seq",
    "endpoint_id",
    "task_id",
    "state",
    "worker_url",
    "webhook",
    "delivery_state",
    "delivery_attempts",
    "error",
    "created_ms",
    "updated_ms",
    "delivered_ms",
)


def _summary(row: Sequence[Any]) -> dict[str, Any]:
    fields: dict[str, Any] = dict(zip(_SUMMARY_FIELDS, row, strict=True))
    fields["state"] = TaskState(fields["state"])
    if fields["delivery_state"] is not None:
        fields["delivery_state"] = DeliveryState(fields["delivery_state"])
    return fields


def _ready(row: Sequence[Any]) -> base.ReadyTask:
    seq, endpoint_id, task_id, fence, strikes, worker_port, process_uri, payload, headers = row
    return base.ReadyTask(
        seq=seq,
        endpoint_id=endpoint_id,
        task_id=task_id,
        fence=fence,
        strikes=strikes,
        worker_port=worker_port,
        process_uri=process_uri,
        input=payload,
        headers=headers,
    )
