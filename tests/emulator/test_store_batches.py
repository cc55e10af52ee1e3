from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.harness import QuickStore
from yottabench.emulator.store.base import (
    Command,
    FinishTask,
    LeaseTask,
    RequeueTask,
    ReturnTask,
    SubmitTask,
    TaskState,
)

ENDPOINT = 1
TABLES = ("task", "task_input", "task_output", "task_count", "task_block", "delivery", "attempt")


def submit(number: int) -> SubmitTask:
    """Some have what others lack: alone, many of these go another way than in the company of others."""
    return SubmitTask(
        endpoint_id=ENDPOINT,
        task_id=f"t{number}",
        input=b"1",
        worker_port=1,
        process_uri="/",
        webhook="http://127.0.0.1/hook" if number % 3 == 0 else None,
        webhook_auth_key="key" if number % 6 == 0 else None,
        headers=b'{"A":"b"}' if number % 5 == 0 else None,
        now_ms=number,
    )


def lease(seq: int, fence: int) -> LeaseTask:
    return LeaseTask(seq=seq, fence=fence, worker_id=7, worker_url="http://w", deadline_ms=9, now_ms=8)


def finish(seq: int, fence: int, output: bytes | None) -> FinishTask:
    state = TaskState.FAILED if output is None else TaskState.SUCCEEDED
    error = "broken" if output is None else None
    return FinishTask(seq=seq, fence=fence, state=state, output=output, error=error, now_ms=9)


def give_back(seq: int, fence: int) -> ReturnTask:
    return ReturnTask(seq=seq, fence=fence, strike=True, next_ms=None if seq % 2 else 5, now_ms=10)


def requeue(seq: int, fence: int) -> RequeueTask:
    return RequeueTask(seq=seq, fence=fence, now_ms=11)


SEQS, FENCES = st.integers(1, 30), st.integers(0, 2)
MOVES = st.one_of(
    st.builds(lease, SEQS, FENCES),
    st.builds(finish, SEQS, FENCES, st.sampled_from([None, b"2"])),
    st.builds(give_back, SEQS, FENCES),
    st.builds(requeue, SEQS, FENCES),
    st.builds(submit, st.integers(1, 40)),
)


def played(folder: Path, batches: Sequence[Sequence[Command[Any]]]) -> tuple[list[Any], dict[str, list[Any]]]:
    """All outcomes, and all that the store holds afterwards but for the order in which deliveries were numbered."""
    store = QuickStore(folder)
    try:
        store.apply([submit(number) for number in range(1, 31)])
        outcomes = [outcome for batch in batches for outcome in store.apply(batch)]
        for outcome in outcomes:
            delivery = getattr(outcome, "delivery", None)
            if delivery is not None:
                delivery.id = 0
        rows = {table: store._rows(f"SELECT * FROM {table}") for table in TABLES}
        rows["task_count"] = [row for row in rows["task_count"] if row[2]]  # an empty state may be missing
        rows["delivery"] = sorted(row[1:] for row in rows["delivery"])
        return outcomes, rows
    finally:
        store.close()


@settings(max_examples=20, deadline=None)
@given(batch=st.lists(MOVES, min_size=2, max_size=90))
def test_many_moves_in_one_transaction_are_what_they_are_one_by_one(
    tmp_path_factory: Any, batch: list[Command[Any]]
) -> None:
    together = played(tmp_path_factory.mktemp("together"), [batch])
    alone = played(tmp_path_factory.mktemp("alone"), [[command] for command in batch])
    assert together == alone


def test_a_hundred_leases_and_ends_at_once_move_a_hundred_tasks(tmp_path: Path) -> None:
    store = QuickStore(tmp_path)
    try:
        store.apply([submit(number) for number in range(1, 101)])
        assert len({*store.apply([lease(seq, 0) for seq in range(1, 101)])}) == 1
        store.apply([finish(seq, 1, b"2") for seq in range(1, 101)])
        counts = {state: n for state, n in store.counts(ENDPOINT).items() if n}
        assert counts == {TaskState.SUCCEEDED: 100}
    finally:
        store.close()


@pytest.mark.parametrize(
    "ends",
    [
        [(TaskState.SUCCEEDED, None), (TaskState.FAILED, "broken"), (TaskState.SUCCEEDED, None)],
        [(TaskState.FAILED, None)] * 3,
        [(TaskState.SUCCEEDED, "all the same")] * 3,
        [(TaskState.SUCCEEDED, None)] * 3,
    ],
)
def test_each_end_in_a_batch_is_kept_and_counted_as_it_is(
    tmp_path: Path, ends: list[tuple[TaskState, str | None]]
) -> None:
    store = QuickStore(tmp_path)
    try:
        store.apply([submit(number) for number in range(1, 4)])
        store.apply([lease(seq, 0) for seq in range(1, 4)])
        store.apply(
            [
                FinishTask(seq=seq, fence=1, state=state, output=None, error=error, now_ms=9)
                for seq, (state, error) in enumerate(ends, 1)
            ]
        )
        assert store._rows("SELECT state, error FROM task ORDER BY seq") == ends
        counted = {state: n for state, n in store.counts(ENDPOINT).items() if n}
        assert counted == Counter(state for state, _ in ends)
    finally:
        store.close()
