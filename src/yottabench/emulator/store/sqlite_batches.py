"""The moves that every task makes, many rows to a statement: submit, lease, finish."""

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, TypeVar

import msgspec

from yottabench.emulator.receivers import destination_of
from yottabench.emulator.store import base
from yottabench.emulator.store.base import DueDelivery, Moved, TaskState
from yottabench.emulator.store.sqlite_connection import Connection, Cursor
from yottabench.emulator.store.sqlite_upkeep import SqliteUpkeep

T = TypeVar("T")

# Rows per statement: each statement costs a turn with Python's lock, which the event loop wants at the same time. Up to
# 32 rows are one statement, whatever their number; longer ones would cost memory for each further number.
_ROWS = (64, *range(32, 0, -1))
# Of submits: they come in as fast as they are answered, and on one core a read waits for the statement under way.
_SUBMIT_ROWS = _ROWS[1:]
_LONG_VALUES = 64  # that many, and the statement is a long one


def _statements(before: str, row: str, after: str = "", sizes: Sequence[int] = _ROWS) -> dict[int, str]:
    """The statement for each number of rows."""
    return {rows: before + ", ".join([row] * rows) + after for rows in sizes}


_INSERT_TASKS = _statements(
    "INSERT INTO task (seq, endpoint_id, task_id, state, fence, strikes, webhook, created_ms, updated_ms) VALUES",
    "(?, ?, ?, 0, 0, 0, ?, ?, ?)",
    " ON CONFLICT (endpoint_id, task_id) DO NOTHING",
    _SUBMIT_ROWS,
)
_INSERT_INPUTS = _statements(
    "INSERT INTO task_input (seq, worker_port, process_uri, webhook_auth_key, headers, input) VALUES",
    "(?, ?, ?, ?, ?, ?)",
    sizes=_SUBMIT_ROWS,
)
_LEASE = _statements(
    "UPDATE task SET state = 1, fence = fence + 1, worker_id = v.column3, worker_url = v.column4,"
    " deadline_ms = v.column5, leased_ms = v.column6, updated_ms = v.column6 FROM (VALUES",
    "(?, ?, ?, ?, ?, ?)",
    ") v WHERE seq = v.column1 AND state = 0 AND fence = v.column2 RETURNING endpoint_id, seq",
)
_FINISH = _statements(
    "UPDATE task SET state = v.column3, error = v.column4, deadline_ms = NULL, ended_ms = v.column5,"
    " updated_ms = v.column5 FROM (VALUES",
    "(?, ?, ?, ?, ?)",
    ") v WHERE seq = v.column1 AND state = 1 AND fence = v.column2 RETURNING endpoint_id, seq, state, webhook",
)
_INSERT_OUTPUTS = _statements("INSERT INTO task_output (seq, output) VALUES", "(?, ?)")
_INSERT_DELIVERY = (
    "INSERT INTO delivery (task_seq, worker_id, url, destination, auth_key, body, state, attempts, next_ms, updated_ms)"
    " VALUES (?, ?, ?, ?, ?, ?, 0, 0, ?, ?) RETURNING id"
)

_STALE = base.Finished(Moved.STALE, None)
_ENDED = base.Finished(Moved.DONE, None)


class SqliteBatches(SqliteUpkeep):
    """What is done for many commands at once. No two commands of a kind in one statement are about the same task."""

    def _do_all(self, batch: Sequence[base.Command[Any]], one: dict[type[Any], Callable[[Any], Any]]) -> list[Any]:
        """Outcomes in the order of the batch; `one` does what is not done for many at once.

        Between commands of other kinds all submits come first, then what ended, then leases. Nobody can tell, as long
        as these are about different tasks; they are done in turn when they are not.
        """
        many: dict[type[Any], Callable[[Any], list[Any]]] = {
            base.SubmitTask: self._submit_all,
            base.FinishTask: self._finish_all,
            base.LeaseTask: self._lease_all,
        }
        outcomes: list[Any] = [None] * len(batch)
        for together, places in groupby(range(len(batch)), lambda place: type(batch[place]) in many):
            if not together:
                for place in places:
                    outcomes[place] = one[type(batch[place])](batch[place])
                continue
            for kind, chosen in _by_kind(batch, list(places), list(many)):
                done = many[kind]([batch[place] for place in chosen])
                for place, outcome in zip(chosen, done, strict=True):
                    outcomes[place] = outcome
        return outcomes

    def _write_rows(self, sql: str, values: Sequence[Any]) -> Cursor:
        # A long one keeps the core for 0.1 to 0.3 ms. If the event loop shares it, and has work, it goes first.
        if len(values) >= _LONG_VALUES:
            os.sched_yield()
        return self._writer.execute(sql, values)

    @staticmethod
    def _one(connection: Connection, sql: str, values: Sequence[Any] = ()) -> Any:
        return connection.execute(sql, values).fetchone()[0]

    def _moved(self, rows: list[tuple[int, int]], source: TaskState, target: TaskState) -> Moved:
        self._changes.move(rows, source, target)
        return Moved.DONE if rows else Moved.STALE

    def _submit_all(self, commands: Sequence[base.SubmitTask]) -> list[base.Submitted]:
        return [outcome for rows in _portions(commands, _SUBMIT_ROWS) for outcome in self._submit_rows(rows)]

    def _submit_rows(self, commands: Sequence[base.SubmitTask]) -> list[base.Submitted]:
        numbered = list(enumerate(commands, self._next_seq))
        self._next_seq += len(numbered)
        inserted = self._insert_tasks(numbered)
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

    def _insert_tasks(self, numbered: Sequence[tuple[int, base.SubmitTask]]) -> int:
        """How many were new."""
        tasks = [
            value
            for seq, each in numbered
            for value in (seq, each.endpoint_id, each.task_id, each.webhook, each.now_ms, each.now_ms)
        ]
        self._write_rows(_INSERT_TASKS[len(numbered)], tasks)
        return self._writer.changes()

    def _insert_inputs(self, numbered: Sequence[tuple[int, base.SubmitTask]]) -> None:
        inputs = [
            value
            for seq, each in numbered
            for value in (seq, each.worker_port, each.process_uri, each.webhook_auth_key, each.headers, each.input)
        ]
        self._write_rows(_INSERT_INPUTS[len(numbered)], inputs)
        self._changes.move(((each.endpoint_id, seq) for seq, each in numbered), None, TaskState.QUEUED)

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

    def _lease_all(self, commands: Sequence[base.LeaseTask]) -> list[Moved]:
        outcomes: list[Moved] = []
        for rows in _portions(commands):
            values = [
                value
                for each in rows
                for value in (each.seq, each.fence, each.worker_id, each.worker_url, each.deadline_ms, each.now_ms)
            ]
            moved: list[tuple[int, int]] = self._write_rows(_LEASE[len(rows)], values).fetchall()
            self._changes.move(moved, TaskState.QUEUED, TaskState.LEASED)
            done = {seq for _, seq in moved}
            outcomes += [Moved.DONE if each.seq in done else Moved.STALE for each in rows]
        return outcomes

    def _finish_all(self, commands: Sequence[base.FinishTask]) -> list[base.Finished]:
        outcomes: list[base.Finished] = []
        for rows in _portions(commands):
            values = [value for each in rows for value in (each.seq, each.fence, each.state, each.error, each.now_ms)]
            found: list[tuple[int, int, int, str | None]] = self._write_rows(_FINISH[len(rows)], values).fetchall()
            for state in {each.state for each in rows}:
                self._changes.move([(id_, seq) for id_, seq, new, _ in found if new == state], TaskState.LEASED, state)
            webhooks = {seq: webhook for _, seq, _, webhook in found}
            self._insert_outputs(
                [(each.seq, each.output) for each in rows if each.seq in webhooks and each.output is not None]
            )
            outcomes += [self._finished(each, webhooks) for each in rows]
        return outcomes

    def _insert_outputs(self, commands: Sequence[tuple[int, bytes]]) -> None:
        for rows in _portions(commands):
            values = [value for seq, output in rows for value in (seq, output)]
            self._write_rows(_INSERT_OUTPUTS[len(rows)], values)

    def _finished(self, command: base.FinishTask, webhooks: dict[int, str | None]) -> base.Finished:
        """`webhooks`: of the tasks that moved."""
        if command.seq not in webhooks:
            return _STALE
        webhook = webhooks[command.seq]
        if webhook is None:
            return _ENDED
        return base.Finished(Moved.DONE, self._put_task_delivery(command.seq, webhook, command.now_ms))

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

    def _put_task_delivery(self, seq: int, webhook: str | None, now_ms: int) -> DueDelivery | None:
        if webhook is None:
            return None
        auth_key = self._one(self._writer, "SELECT webhook_auth_key FROM task_input WHERE seq = ?", (seq,))
        return self._put_delivery(webhook, auth_key, now_ms, task_seq=seq)


def _by_kind(
    batch: Sequence[Any], run: Sequence[int], kinds: Sequence[type[Any]]
) -> Iterator[tuple[type[Any], list[int]]]:
    places: dict[type[Any], list[int]] = {kind: [] for kind in kinds}
    for place in run:
        places[type(batch[place])].append(place)
    moved = [batch[place].seq for kind in (base.LeaseTask, base.FinishTask) for place in places[kind]]
    if len(set(moved)) < len(moved):
        yield from ((type(batch[place]), [place]) for place in run)
    else:
        yield from places.items()


def _portions(rows: Sequence[T], sizes: Sequence[int] = _ROWS) -> Iterator[Sequence[T]]:
    done = 0
    while done < len(rows):
        size = next(size for size in sizes if size <= len(rows) - done)
        yield rows[done : done + size]
        done += size


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
