"""The moves that every task makes, many rows to a statement: submit, lease, finish."""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, TypeVar, cast

import msgspec

from yottabench.emulator.receivers import destination_of
from yottabench.emulator.store import base
from yottabench.emulator.store.base import DueDelivery, Moved, TaskState
from yottabench.emulator.store.sqlite_upkeep import SqliteUpkeep

T = TypeVar("T")

# Rows per statement: each statement costs a turn with Python's lock, which the event loop wants at the same time. Up to
# 32 rows are one statement, whatever their number; longer ones would cost memory for each further number.
_ROWS = (64, *range(32, 0, -1))
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
_LEASE = {
    rows: "UPDATE task SET state = 1, fence = fence + 1, worker_id = v.column3, worker_url = v.column4,"  # noqa: S608 -- constants only
    " deadline_ms = v.column5, leased_ms = v.column6, updated_ms = v.column6 FROM (VALUES"
    + ", ".join(["(?, ?, ?, ?, ?, ?)"] * rows)
    + ") v WHERE seq = v.column1 AND state = 0 AND fence = v.column2 RETURNING seq, endpoint_id"
    for rows in _ROWS
}
_FINISH = {
    rows: "UPDATE task SET state = v.column3, error = v.column4, deadline_ms = NULL, ended_ms = v.column5,"  # noqa: S608 -- constants only
    " updated_ms = v.column5 FROM (VALUES"
    + ", ".join(["(?, ?, ?, ?, ?)"] * rows)
    + ") v WHERE seq = v.column1 AND state = 1 AND fence = v.column2 RETURNING seq, endpoint_id, webhook"
    for rows in _ROWS
}
_INSERT_OUTPUTS = {
    rows: "INSERT INTO task_output (seq, output) VALUES" + ", ".join(["(?, ?)"] * rows) for rows in _ROWS
}
_INSERT_DELIVERY = (
    "INSERT INTO delivery (task_seq, worker_id, url, destination, auth_key, body, state, attempts, next_ms, updated_ms)"
    " VALUES (?, ?, ?, ?, ?, ?, 0, 0, ?, ?) RETURNING id"
)


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

    def _write_rows(self, sql: str, values: Sequence[Any]) -> sqlite3.Cursor:
        # 64 rows keep the core for 0.3 ms. If the event loop shares it, with a read to be answered, it comes first.
        os.sched_yield()
        return self._writer.execute(sql, values)

    @staticmethod
    def _one(connection: sqlite3.Connection, sql: str, values: Sequence[Any] = ()) -> Any:
        return connection.execute(sql, values).fetchone()[0]

    def _move_count(self, endpoint_id: int, seq: int, source: TaskState, target: TaskState) -> None:
        self._changes.add(endpoint_id, seq, source, -1)
        self._changes.add(endpoint_id, seq, target)

    def _moved(self, rows: list[tuple[int, int]], source: TaskState, target: TaskState) -> Moved:
        for endpoint_id, seq in rows:
            self._move_count(endpoint_id, seq, source, target)
        return Moved.DONE if rows else Moved.STALE

    def _submit_all(self, commands: Sequence[base.SubmitTask]) -> list[base.Submitted]:
        return [outcome for rows in _portions(commands) for outcome in self._submit_rows(rows)]

    def _submit_rows(self, commands: Sequence[base.SubmitTask]) -> list[base.Submitted]:
        numbered = list(enumerate(commands, self._next_seq))
        self._next_seq += len(numbered)
        tasks = [
            value
            for seq, each in numbered
            for value in (seq, each.endpoint_id, each.task_id, each.webhook, each.now_ms, each.now_ms)
        ]
        inserted = self._write_rows(_INSERT_TASKS[len(numbered)], tasks).rowcount
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
        self._write_rows(_INSERT_INPUTS[len(numbered)], inputs)
        for seq, each in numbered:
            self._changes.add(each.endpoint_id, seq, TaskState.QUEUED)

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
            moved = dict(cast("list[tuple[int, int]]", self._write_rows(_LEASE[len(rows)], values).fetchall()))
            for seq, endpoint_id in moved.items():
                self._move_count(endpoint_id, seq, TaskState.QUEUED, TaskState.LEASED)
            outcomes += [Moved.DONE if each.seq in moved else Moved.STALE for each in rows]
        return outcomes

    def _finish_all(self, commands: Sequence[base.FinishTask]) -> list[base.Finished]:
        outcomes: list[base.Finished] = []
        for rows in _portions(commands):
            values = [value for each in rows for value in (each.seq, each.fence, each.state, each.error, each.now_ms)]
            found = self._write_rows(_FINISH[len(rows)], values).fetchall()
            moved = {seq: (endpoint_id, webhook) for seq, endpoint_id, webhook in found}
            self._insert_outputs([each for each in rows if each.seq in moved and each.output is not None])
            outcomes += [self._finished(each, moved.get(each.seq)) for each in rows]
        return outcomes

    def _insert_outputs(self, commands: Sequence[base.FinishTask]) -> None:
        for rows in _portions(commands):
            values = [value for each in rows for value in (each.seq, each.output)]
            self._write_rows(_INSERT_OUTPUTS[len(rows)], values)

    def _finished(self, command: base.FinishTask, moved: tuple[int, str | None] | None) -> base.Finished:
        if moved is None:
            return base.Finished(Moved.STALE, None)
        endpoint_id, webhook = moved
        self._move_count(endpoint_id, command.seq, TaskState.LEASED, command.state)
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


_MOVES = (base.LeaseTask, base.FinishTask)


def _by_kind(
    batch: Sequence[base.Command[Any]], run: Sequence[int], kinds: Sequence[type[Any]]
) -> Iterator[tuple[type[Any], list[int]]]:
    moved = [command.seq for place in run if isinstance(command := batch[place], _MOVES)]
    if len(set(moved)) < len(moved):
        yield from ((type(batch[place]), [place]) for place in run)
        return
    for kind in kinds:
        yield kind, [place for place in run if type(batch[place]) is kind]


def _portions(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    done = 0
    while done < len(rows):
        size = next(size for size in _ROWS if size <= len(rows) - done)
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
