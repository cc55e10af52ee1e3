"""What every store must do for the control surface; beside test_store.py, for the same stores."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.test_store import (
    HOOK,
    STORES,
    Opener,
    at,
    do,
    end_delivery,
    endpoint,
    finish,
    lease,
    submit,
    worker,
)
from yottabench.emulator.control.snapshots import read_snapshot
from yottabench.emulator.store import base, upkeep
from yottabench.emulator.store.base import DeliveryState, Moved, TaskState, WorkerStatus
from yottabench.emulator.store.upkeep import ClearState, DeliveryQuery, PutSnapshot, ResendDelivery, Snapshot, TooLarge

EVERY_STATE = tuple(TaskState)
Opened = Any  # a Store and a History


@pytest.fixture(params=STORES)
def open_store(request: pytest.FixtureRequest) -> Opener:
    return STORES[request.param]


@pytest.fixture
def store(open_store: Opener, tmp_path: Path) -> Iterator[Opened]:
    opened = open_store(tmp_path)
    opened.recover(0)
    do(opened, base.PutEndpoint(endpoint()), base.PutEndpoint(endpoint(2, namespace="other")))
    yield opened
    opened.close()


def outcomes(store: Opened, task_id: str = "t") -> list[tuple[int, str | None, str | None]]:
    history = store.task_history(1, task_id)
    return [(attempt.fence, attempt.outcome, attempt.reason) for attempt in history.attempts]


# ---- attempts


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (TaskState.QUEUED, []),
        (TaskState.LEASED, [(1, None, None)]),
        (TaskState.RETRY_WAIT, [(1, "returned", None)]),
        (TaskState.SUCCEEDED, [(1, "SUCCEEDED", None)]),
        (TaskState.DELIVERED, [(1, "SUCCEEDED", None)]),
        (TaskState.FAILED, [(1, "FAILED", "HTTP 500")]),
    ],
)
def test_a_task_tells_its_attempts_in_every_state(store: Opened, state: TaskState, expected: Any) -> None:
    at(store, state)
    assert outcomes(store) == expected
    assert store.task_history(1, "t").state is state


def test_attempts_that_did_not_end_the_task_keep_their_worker_times_and_reason(store: Opened) -> None:
    seq = do(store, submit()).seq
    do(
        store,
        lease(seq, now_ms=20, worker_id=7),
        base.ReturnTask(seq=seq, fence=1, strike=True, next_ms=None, now_ms=25, reason="reset"),
        lease(seq, 1, now_ms=30, worker_id=8),
    )
    first, second = store.task_history(1, "t").attempts
    assert (first.worker_id, first.leased_ms, first.ended_ms, first.reason) == (7, 20, 25, "reset")
    assert (second.worker_id, second.leased_ms, second.ended_ms, second.outcome) == (8, 30, None, None)


def test_a_return_that_is_stale_leaves_no_attempt(store: Opened) -> None:
    seq = at(store, TaskState.LEASED)
    stale = do(store, base.ReturnTask(seq=seq, fence=9, strike=True, next_ms=None, now_ms=25, reason="late"))
    assert stale is Moved.STALE
    assert outcomes(store) == [(1, None, None)]


def test_a_task_that_failed_with_its_endpoint_tells_the_attempt_that_this_ended(store: Opened) -> None:
    at(store, TaskState.LEASED)
    do(store, base.FailOpenTasks(endpoint_id=1, error="deleted", limit=10, now_ms=40))
    assert outcomes(store) == [(1, "FAILED", "deleted")]


def test_a_task_that_failed_while_it_waited_has_no_attempt_more(store: Opened) -> None:
    at(store, TaskState.RETRY_WAIT)
    do(store, base.FailOpenTasks(endpoint_id=1, error="deleted", limit=10, now_ms=40))
    assert outcomes(store) == [(1, "returned", None)]


def test_recovery_ends_the_attempt_that_was_under_way(open_store: Opener, tmp_path: Path) -> None:
    opened: Opened = open_store(tmp_path)
    opened.recover(0)
    at(opened, TaskState.LEASED)
    opened.close()
    opened = open_store(tmp_path)
    try:
        opened.recover(99)
        assert outcomes(opened) == [(1, "returned", "The server ended.")]
    finally:
        opened.close()


def test_a_task_that_is_none_has_no_history(store: Opened) -> None:
    assert store.task_history(1, "none") is None


# ---- deliveries


def test_every_send_is_remembered(store: Opened) -> None:
    at(store, TaskState.SUCCEEDED, webhook=HOOK)
    (due,) = store.due_deliveries(10)
    for now_ms in (60, 120):
        claim = base.ClaimDelivery(id=due.id)
        end = base.EndDelivery(
            id=due.id, state=DeliveryState.DUE, next_ms=now_ms, note="HTTP 500", now_ms=now_ms, started_ms=now_ms - 5
        )
        do(store, claim, end)
    found = store.delivery(due.id)
    assert [(each.number, each.started_ms, each.ended_ms, each.note) for each in found.attempts] == [
        (1, 55, 60, "HTTP 500"),
        (2, 115, 120, "HTTP 500"),
    ]
    assert (found.endpoint_id, found.task_id, found.worker_id) == (1, "t", None)


def test_a_send_that_is_stale_is_not_remembered(store: Opened) -> None:
    at(store, TaskState.SUCCEEDED, webhook=HOOK)
    (due,) = store.due_deliveries(10)
    assert do(store, end_delivery(due.id, DeliveryState.ACKED)) is Moved.STALE
    assert store.delivery(due.id).attempts == []


@pytest.mark.parametrize("state", [DeliveryState.DUE, DeliveryState.ACKED, DeliveryState.EXHAUSTED])
def test_any_delivery_that_is_not_being_sent_can_be_made_due_now(store: Opened, state: DeliveryState) -> None:
    at(store, TaskState.SUCCEEDED, webhook=HOOK)
    (due,) = store.due_deliveries(10)
    do(store, base.ClaimDelivery(id=due.id), end_delivery(due.id, state, next_ms=10_000))
    again = do(store, ResendDelivery(id=due.id, now_ms=70))
    assert (again.id, again.next_ms, again.attempts, again.url, again.task_seq) == (due.id, 70, 1, HOOK, due.task_seq)
    assert again.once is (state is DeliveryState.ACKED)
    assert [each.next_ms for each in store.due_deliveries(10)] == [70]


def test_a_delivery_that_is_being_sent_or_unknown_is_not_made_due(store: Opened) -> None:
    at(store, TaskState.SUCCEEDED, webhook=HOOK)
    (due,) = store.due_deliveries(10)
    do(store, base.ClaimDelivery(id=due.id))
    assert do(store, ResendDelivery(id=due.id, now_ms=70)) is Moved.STALE
    assert do(store, ResendDelivery(id=due.id + 1, now_ms=70)) is Moved.STALE


def test_the_time_of_the_first_acknowledgement_stays(store: Opened) -> None:
    at(store, TaskState.DELIVERED)
    before = store.task(1, "t").delivered_ms
    (delivery,) = store.deliveries(DeliveryQuery(limit=10))
    do(store, ResendDelivery(id=delivery.id, now_ms=70), base.ClaimDelivery(id=delivery.id))
    do(store, end_delivery(delivery.id, DeliveryState.ACKED, now_ms=80))
    assert store.task(1, "t").delivered_ms == before
    assert store.task(1, "t").state is TaskState.DELIVERED


# ---- clearing


def fill(store: Opened, states: list[TaskState], endpoint_id: int = 1) -> None:
    """One task in each of the states, one worker, and a delivery of it."""
    for number, state in enumerate(states):
        webhook = HOOK if number % 2 else None
        task_id = f"t{number}"
        seq = do(store, submit(task_id, endpoint_id=endpoint_id, webhook=webhook, webhook_auth_key="k")).seq
        if state is not TaskState.QUEUED:
            do(store, lease(seq))
        if state is TaskState.RETRY_WAIT:
            do(store, base.ReturnTask(seq=seq, fence=1, strike=True, next_ms=100, now_ms=30, reason="lost"))
        if state in {TaskState.SUCCEEDED, TaskState.FAILED, TaskState.DELIVERED}:
            end = TaskState.FAILED if state is TaskState.FAILED else TaskState.SUCCEEDED
            due = do(store, finish(seq, state=end)).delivery
            if state is TaskState.DELIVERED and due is not None:
                do(store, base.ClaimDelivery(id=due.id), end_delivery(due.id, DeliveryState.ACKED))
    do(store, base.PutWorker(worker(70 + endpoint_id, WorkerStatus.RUNNING, endpoint_id=endpoint_id), HOOK, b'{"a":1}'))


def everything(store: Opened) -> bytes:
    """A snapshot without its time, as text to compare."""
    return msgspec.json.encode(msgspec.structs.replace(store.snapshot(None, 0, 1_000), taken_ms=0))


def test_clearing_one_namespace_leaves_the_other_as_it_was(store: Opened) -> None:
    fill(store, list(EVERY_STATE), 2)
    before = everything(store)
    do(store, ClearState(namespace="n"))  # the endpoint of this one is empty, and goes
    do(store, base.PutEndpoint(endpoint()))
    assert everything(store) == before
    fill(store, list(EVERY_STATE), 1)
    cleared = do(store, ClearState(namespace="n"))
    assert len(cleared.open_deliveries) == 2  # of a success and of a worker
    do(store, base.PutEndpoint(endpoint()))
    assert everything(store) == before
    assert store.counts(1) == {}


def test_clearing_all_leaves_nothing_and_goes_on_counting(store: Opened) -> None:
    fill(store, list(EVERY_STATE))
    (newest, *_) = store.deliveries(DeliveryQuery(limit=1))
    do(store, ClearState(namespace=None))
    snapshot = store.snapshot(None, 0, 10)
    assert (snapshot.endpoints, snapshot.workers, snapshot.tasks, snapshot.deliveries) == ([], [], [], [])
    at(store, TaskState.SUCCEEDED, webhook=HOOK)
    (due,) = store.due_deliveries(10)
    assert due.id > newest.id
    assert due.task_seq > len(EVERY_STATE)


def test_what_a_batch_did_before_it_was_cleared_is_not_counted(store: Opened) -> None:
    do(store, submit("a"), submit("b", endpoint_id=2), ClearState(namespace="n"), submit("c"))
    assert store.counts(1) == {TaskState.QUEUED: 1}
    assert store.counts(2) == {TaskState.QUEUED: 1}


# ---- snapshots


@settings(max_examples=25, deadline=None)
@given(states=st.lists(st.sampled_from(EVERY_STATE), max_size=12))
@pytest.mark.parametrize("name", STORES)
def test_a_snapshot_put_into_another_store_is_the_same_but_for_what_was_under_way(
    tmp_path_factory: pytest.TempPathFactory, name: str, states: list[TaskState]
) -> None:
    one: Opened = STORES[name](tmp_path_factory.mktemp("one"))
    other: Opened = STORES[name](tmp_path_factory.mktemp("other"))
    try:
        for store in (one, other):
            store.recover(0)
        do(one, base.PutEndpoint(endpoint()), base.PutEndpoint(endpoint(2)), base.DropEndpoint(2))
        fill(one, states)
        saved = read_snapshot(msgspec.json.encode(one.snapshot(None, 50, 1_000)))
        do(other, submit("in the way"))
        assert isinstance(do(other, PutSnapshot(snapshot=saved, namespace=None, now_ms=60)), upkeep.Cleared)
        before, after = one.snapshot(None, 0, 1_000), other.snapshot(None, 0, 1_000)
        assert comparable(after) == comparable(before)
        counted = {state: n for state, n in one.counts(1).items() if n}
        leased = counted.pop(TaskState.LEASED, 0)
        if leased:
            counted[TaskState.QUEUED] = counted.get(TaskState.QUEUED, 0) + leased
        assert {state: n for state, n in other.counts(1).items() if n} == counted
        assert [task.task_id for task in other.queued(1, 0, 100)] == [
            f"t{n}" for n, state in enumerate(states) if state in {TaskState.QUEUED, TaskState.LEASED}
        ]
    finally:
        one.close()
        other.close()


def comparable(snapshot: Snapshot) -> Any:
    found: Any = msgspec.json.decode(msgspec.json.encode(snapshot))
    seqs = {task.pop("seq"): number for number, task in enumerate(found["tasks"])}
    for task in found["tasks"]:
        if task["state"] == TaskState.LEASED:
            task["state"] = TaskState.QUEUED
            task["attempts"][-1].update(
                ended_ms=60, outcome="returned", reason="A snapshot was taken while a worker had it."
            )
    for delivery in found["deliveries"]:
        delivery["task_seq"] = seqs.get(delivery["task_seq"])
    for each in found["workers"]:
        each.update(status=0, reason=None)
    return found


def test_ids_of_another_namespace_are_refused_and_nothing_changes(store: Opened) -> None:
    fill(store, [TaskState.QUEUED])
    snapshot = store.snapshot("n", 0, 100)
    before = everything(store)
    refused = do(store, PutSnapshot(snapshot=snapshot, namespace="other", now_ms=60))
    assert refused == "Endpoint 1 of the snapshot belongs to another API key here."
    assert everything(store) == before


def test_a_snapshot_holds_at_most_so_many_tasks(store: Opened) -> None:
    fill(store, [TaskState.QUEUED] * 3)
    assert len(store.snapshot(None, 0, 3).tasks) == 3
    with pytest.raises(TooLarge, match="3"):
        store.snapshot(None, 0, 2)
    assert store.snapshot("other", 0, 0).tasks == []


def test_no_repr_of_a_snapshot_shows_a_key_or_a_payload(store: Opened) -> None:
    do(store, submit(webhook_auth_key="hunter2", headers=b'{"X-T":"hunter2"}', input=b'"hunter2"', webhook=HOOK))
    do(store, lease(1), finish(1))
    snapshot = store.snapshot(None, 0, 10)
    shown = repr([snapshot, *snapshot.tasks, *snapshot.deliveries])
    assert "hunter2" not in shown
    put = repr(PutSnapshot(snapshot=snapshot, namespace=None, now_ms=1))
    assert "hunter2" not in put
