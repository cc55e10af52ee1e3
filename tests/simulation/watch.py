"""Holds every commit against the promises of the store: which moves there are, what must be there beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from yottabench.emulator.store.base import DeliveryState as D
from yottabench.emulator.store.base import TaskState as T
from yottabench.emulator.store.sqlite_connection import Connection

TERMINAL = frozenset({T.SUCCEEDED, T.FAILED, T.DELIVERED})
# What one transaction may do to a task; those of several commands are in it where the commands can meet in one.
_MOVES = {
    T.QUEUED: {T.QUEUED, T.LEASED, T.FAILED},
    T.LEASED: {T.LEASED, T.QUEUED, T.RETRY_WAIT, T.SUCCEEDED, T.FAILED},
    T.RETRY_WAIT: {T.RETRY_WAIT, T.QUEUED, T.FAILED},
    T.SUCCEEDED: {T.SUCCEEDED, T.DELIVERED},
    T.FAILED: {T.FAILED},
    T.DELIVERED: {T.DELIVERED},
}
_SENDS = {
    D.DUE: {D.DUE, D.INFLIGHT},
    D.INFLIGHT: {D.INFLIGHT, D.ACKED, D.DUE, D.EXHAUSTED},
    D.ACKED: {D.ACKED},
    D.EXHAUSTED: {D.EXHAUSTED},
}


class Broken(AssertionError):
    """A promise was not kept."""


class TaskRow(NamedTuple):
    seq: int
    endpoint_id: int
    task_id: str
    state: int
    fence: int
    strikes: int
    worker_id: int | None
    next_ms: int | None
    webhook: str | None
    created_ms: int
    ended_ms: int | None
    error: str | None
    output: bytes | None
    returned: int  # leases in the table of attempts


class DeliveryRow(NamedTuple):
    id: int
    task_seq: int | None
    worker_id: int | None
    state: int
    attempts: int
    next_ms: int
    updated_ms: int
    written: int  # sends in the table of sends


_TASKS = (
    "SELECT seq, endpoint_id, task_id, state, fence, strikes, worker_id, next_ms, webhook, created_ms, ended_ms, error,"
    " output, (SELECT count(*) FROM attempt WHERE task_seq = seq) FROM task LEFT JOIN task_output USING (seq)"
    " ORDER BY seq"
)
_DELIVERIES = (
    "SELECT id, task_seq, worker_id, state, attempts, next_ms, updated_ms,"
    " (SELECT count(*) FROM delivery_attempt WHERE delivery_id = id) FROM delivery ORDER BY id"
)


def need(kept: bool, promise: str, *about: Any) -> None:
    """Raise Broken unless the promise was kept."""
    if not kept:
        raise Broken(" | ".join([promise, *map(repr, about)]))


class Watch:
    """What the store held after the last commit, and whether the next one may follow it."""

    def __init__(self, retry_ms: list[int], kept_ms: int, max_attempts: int) -> None:
        self._retry_ms = retry_ms
        self._kept_ms = kept_ms
        self._max_attempts = max_attempts
        self.tasks: dict[int, TaskRow] = {}
        self.deliveries: dict[int, DeliveryRow] = {}
        self.by_name: dict[tuple[int, str], int] = {}
        self._workers: dict[int, int] = {}
        self.let_go: set[tuple[int, str]] = set()  # by retention, as it may

    def look(self, sql: Connection, now_ms: int, *, recovered: bool = False) -> None:
        """Read the store anew. Raises Broken when what is there breaks a promise, or could not follow the last look."""
        tasks = {row[0]: TaskRow(*row) for row in sql.execute(_TASKS)}
        deliveries = {row[0]: DeliveryRow(*row) for row in sql.execute(_DELIVERIES)}
        self._gone(tasks, deliveries, now_ms)
        for row in tasks.values():
            before = self.tasks.get(row.seq)
            if row != before:
                self._task(row)
                if before is not None:
                    self._move(before, row, recovered=recovered)
        for each in deliveries.values():
            was = self.deliveries.get(each.id)
            if each != was:
                self._delivery(each)
                if was is not None:
                    self._send(was, each, now_ms, recovered=recovered)
        self._outbox(tasks, deliveries.values())
        counted = Counter((row.endpoint_id, row.state) for row in tasks.values())
        rows = sql.execute("SELECT endpoint_id, state, n FROM task_count WHERE n <> 0")
        kept = {(endpoint_id, state): n for endpoint_id, state, n in rows}
        need(kept == dict(counted), "The counters are the rows counted.", kept, dict(counted))
        workers = dict(sql.execute("SELECT id, status FROM worker"))
        for worker, status in workers.items():
            need(status >= self._workers.get(worker, 0), "A worker never comes back.", worker, status)
        self._workers = workers
        self.tasks, self.deliveries = tasks, deliveries
        self.by_name = {(row.endpoint_id, row.task_id): row.seq for row in tasks.values()}

    def _gone(self, tasks: dict[int, TaskRow], deliveries: dict[int, DeliveryRow], now_ms: int) -> None:
        told = {each.task_seq: each for each in self.deliveries.values()}
        for seq in self.tasks.keys() - tasks.keys():
            row = self.tasks[seq]
            its = told.get(seq)
            old = row.ended_ms is not None and row.ended_ms < now_ms - self._kept_ms
            need(row.state in TERMINAL and old, "Only what ended long ago is let go.", row, now_ms)
            need(its is None or its.state in {D.ACKED, D.EXHAUSTED}, "No open delivery is let go.", row, its)
            self.let_go.add((row.endpoint_id, row.task_id))
        for gone in self.deliveries.keys() - deliveries.keys():
            was = self.deliveries[gone]
            need(was.state in {D.ACKED, D.EXHAUSTED}, "No open delivery is let go.", was)

    def _task(self, row: TaskRow) -> None:
        need(row.strikes <= self._max_attempts, "No task has more strikes than attempts.", row)
        need((row.output is not None) == (row.state in {T.SUCCEEDED, T.DELIVERED}), "Success has an output.", row)
        need((row.error is not None) == (row.state == T.FAILED), "A failure says why.", row)
        need((row.ended_ms is not None) == (row.state in TERMINAL), "What ended has its time.", row)
        need((row.next_ms is not None) == (row.state == T.RETRY_WAIT), "What waits has its time.", row)
        in_row = {T.LEASED, T.SUCCEEDED, T.DELIVERED}
        newest = {1} if row.state in in_row else {0, 1} if row.state == T.FAILED else {0}
        need(row.fence - row.returned in newest, "Every lease is recorded once.", row)

    def _move(self, before: TaskRow, row: TaskRow, *, recovered: bool) -> None:
        need(T(row.state) in _MOVES[T(before.state)], "A task moves only along its states.", before, row)
        need(before.fence <= row.fence, "The fence of a task never falls.", before, row)
        leased = before.state != T.LEASED and row.state == T.LEASED
        if leased:
            need(row.fence == before.fence + 1, "Each lease has a fence of its own.", before, row)
        elif row.state == before.state == T.LEASED:
            same = (before.fence, before.worker_id) == (row.fence, row.worker_id)
            need(same, "A leased task is not leased again.", before, row)
        if before.state in TERMINAL:
            same = before._replace(state=row.state) == row
            need(same, "What ended stays as it ended.", before, row)
        if recovered:
            need(row.state != T.LEASED, "No lease outlives its server.", row)
            need(row.strikes == before.strikes, "A crash of the server is no strike.", before, row)
        fixed = ("seq", "endpoint_id", "task_id", "webhook", "created_ms")
        need(all(getattr(before, name) == getattr(row, name) for name in fixed), "A task stays itself.", before, row)

    def _delivery(self, row: DeliveryRow) -> None:
        need(row.attempts <= 1 + len(self._retry_ms), "A delivery has as many sends as the ladder.", row)
        need(row.written == row.attempts, "Every send is recorded once.", row)
        if row.state == D.EXHAUSTED:
            need(row.attempts == 1 + len(self._retry_ms), "Given up only after the last send.", row)
        if row.state == D.DUE and row.attempts:
            due_ms = row.updated_ms + self._retry_ms[row.attempts - 1]
            need(row.next_ms == due_ms, "The next send is due when the ladder says.", row)

    def _send(self, before: DeliveryRow, row: DeliveryRow, now_ms: int, *, recovered: bool) -> None:
        need(D(row.state) in _SENDS[D(before.state)], "A delivery moves only along its states.", before, row)
        ended = before.state == D.INFLIGHT and row.state != D.INFLIGHT and not recovered
        need(row.attempts == before.attempts + ended, "Each send counts once.", before, row)
        if recovered:
            need(row.state != D.INFLIGHT, "No send outlives its server.", row)
            # A clock that was set back: what waits then waits as long as it was to wait.
            behind_ms = max(0, before.updated_ms - now_ms)
            need(row.next_ms == before.next_ms - behind_ms, "A crash moves no delivery.", before, row)

    def _outbox(self, tasks: dict[int, TaskRow], deliveries: Iterable[DeliveryRow]) -> None:
        told = Counter(each.task_seq for each in deliveries if each.task_seq is not None)
        due = {row.seq: 1 for row in tasks.values() if row.state in TERMINAL and row.webhook is not None}
        need(told == due, "Every ended task with a webhook has exactly one delivery.", told, due)
        for each in deliveries:
            if each.task_seq is not None:
                acked = (tasks[each.task_seq].state, each.state)
                shown = acked[0] == T.DELIVERED
                need(shown == (acked[1] == D.ACKED and acked[0] != T.FAILED), "DELIVERED is acknowledged.", each)
