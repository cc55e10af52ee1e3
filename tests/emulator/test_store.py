"""What every store must do; an implementation is added to STORES and nothing else."""

import gc
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import apsw
import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.emulator.harness import QuickStore
from yottabench.emulator.limits import READY_INPUT_MAX_BYTES
from yottabench.emulator.store import base
from yottabench.emulator.store.base import (
    OPEN_STATES,
    DeliveryState,
    EndpointRecord,
    EndpointSpec,
    EndpointStatus,
    Moved,
    Store,
    StoreError,
    StoreInUse,
    TaskState,
    WorkerRecord,
    WorkerStatus,
)
from yottabench.emulator.store.forked import ForkedStore
from yottabench.emulator.store.migrations import SCHEMA_VERSION
from yottabench.emulator.store.sqlite import SqliteStore
from yottabench.emulator.store.sqlite_connection import connect

Opener = Callable[[Path], Store]
STORES: dict[str, Opener] = {
    "sqlite": QuickStore,
    "forked": lambda data: ForkedStore(data, QuickStore),
}
ALL_STATES = tuple(TaskState)
HOOK = "http://127.0.0.1:9/hook"


@pytest.fixture(params=STORES)
def open_store(request: pytest.FixtureRequest) -> Opener:
    return STORES[request.param]


@pytest.fixture
def store(open_store: Opener, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path)
    opened.recover(0)
    yield opened
    opened.close()


def do(store: Store, *commands: base.Command[Any]) -> Any:
    """Apply one batch; the outcome of its last command."""
    return store.apply(commands)[-1]


def submit(task_id: str = "t", **changes: Any) -> base.SubmitTask:
    values: dict[str, Any] = {
        "endpoint_id": 1,
        "task_id": task_id,
        "input": b'{"a":1}',
        "worker_port": 8000,
        "process_uri": "/run",
        "webhook": None,
        "webhook_auth_key": None,
        "headers": None,
        "now_ms": 10,
        **changes,
    }
    return base.SubmitTask(**values)


def lease(seq: int, fence: int = 0, *, now_ms: int = 20, worker_id: int = 7) -> base.LeaseTask:
    return base.LeaseTask(
        seq=seq, fence=fence, worker_id=worker_id, worker_url="http://w:1", deadline_ms=now_ms + 1000, now_ms=now_ms
    )


def finish(seq: int, fence: int = 1, state: TaskState = TaskState.SUCCEEDED, *, now_ms: int = 30) -> base.FinishTask:
    succeeded = state is TaskState.SUCCEEDED
    return base.FinishTask(
        seq=seq,
        fence=fence,
        state=state,
        output=b"42" if succeeded else None,
        error=None if succeeded else "HTTP 500",
        now_ms=now_ms,
    )


def give_back(seq: int, fence: int = 1, next_ms: int | None = None, *, strike: bool = True) -> base.ReturnTask:
    return base.ReturnTask(seq=seq, fence=fence, strike=strike, next_ms=next_ms, now_ms=30)


def requeue(seq: int, fence: int = 1) -> base.RequeueTask:
    return base.RequeueTask(seq=seq, fence=fence, now_ms=40)


def end_delivery(delivery_id: int, state: DeliveryState, *, now_ms: int = 60, next_ms: int = 60) -> base.EndDelivery:
    return base.EndDelivery(id=delivery_id, state=state, next_ms=next_ms, note="HTTP 500", now_ms=now_ms)


def endpoint(endpoint_id: int = 1, **changes: Any) -> EndpointRecord:
    spec = EndpointSpec(
        name="llama",
        image="sim/echo",
        service_mode="QUEUE",
        resources=(base.Resource("us-east-1", "NVIDIA_H100_80G", 1),),
        workers=2,
        container_volume_in_gb=20,
        environment=(base.Variable("K", "sécret"),),
        expose=base.Expose(8000, "http"),
        registry_auth_id=2**63 - 1,
    )
    values: dict[str, Any] = {
        "id": endpoint_id,
        "namespace": "n",
        "spec": spec,
        "should_run": True,
        "status": EndpointStatus.RUNNING,
        "created_ms": 1,
        "updated_ms": 2,
        "spent_usd": 0.25,
        **changes,
    }
    return EndpointRecord(**values)


def worker(worker_id: int = 7, status: WorkerStatus = WorkerStatus.RUNNING, **changes: Any) -> WorkerRecord:
    values = {"id": worker_id, "endpoint_id": 1, "status": status, "created_ms": 5, "updated_ms": 6, **changes}
    return WorkerRecord(**values)


def at(store: Store, state: TaskState, *, webhook: str | None = None, task_id: str = "t") -> int:
    """A task brought into `state`; its seq. Fence 1 but for QUEUED."""
    if state is TaskState.DELIVERED:
        seq = at(store, TaskState.SUCCEEDED, webhook=webhook or HOOK, task_id=task_id)
        delivery = next(each for each in store.due_deliveries(100) if each.task_seq == seq)
        store.apply([base.ClaimDelivery(id=delivery.id), end_delivery(delivery.id, DeliveryState.ACKED)])
        return seq
    seq = do(store, submit(task_id, webhook=webhook)).seq
    steps: dict[TaskState, list[base.Command[Any]]] = {
        TaskState.QUEUED: [],
        TaskState.LEASED: [lease(seq)],
        TaskState.RETRY_WAIT: [lease(seq), give_back(seq, next_ms=100)],
        TaskState.SUCCEEDED: [lease(seq), finish(seq)],
        TaskState.FAILED: [lease(seq), finish(seq, state=TaskState.FAILED)],
    }
    store.apply(steps[state])
    assert state_of(store, task_id) is state
    return seq


def state_of(store: Store, task_id: str = "t", endpoint_id: int = 1) -> TaskState | None:
    task = store.task(endpoint_id, task_id)
    return None if task is None else task.state


# ---- guards


MOVES: dict[str, tuple[TaskState, Callable[[int, int], base.Command[Any]]]] = {
    "lease": (TaskState.QUEUED, lease),
    "finish": (TaskState.LEASED, finish),
    "fail": (TaskState.LEASED, lambda seq, fence: finish(seq, fence, TaskState.FAILED)),
    "return": (TaskState.LEASED, give_back),
    "return later": (TaskState.LEASED, lambda seq, fence: give_back(seq, fence, 100)),
    "requeue": (TaskState.RETRY_WAIT, requeue),
}


def outcome_moved(outcome: Any) -> Moved:
    return outcome.moved if isinstance(outcome, base.Finished) else outcome


@pytest.mark.parametrize("state", ALL_STATES)
@pytest.mark.parametrize("move", MOVES)
def test_a_move_is_done_only_from_its_state(store: Store, move: str, state: TaskState) -> None:
    seq = at(store, state)
    source, command = MOVES[move]
    before = store.task(1, "t")
    moved = outcome_moved(do(store, command(seq, 0 if state is TaskState.QUEUED else 1)))
    assert moved is (Moved.DONE if state is source else Moved.STALE)
    assert (store.task(1, "t") == before) == (moved is Moved.STALE)


@pytest.mark.parametrize("wrong_by", [-1, 1])
@pytest.mark.parametrize("move", MOVES)
def test_a_move_with_another_fence_changes_nothing(store: Store, move: str, wrong_by: int) -> None:
    source, command = MOVES[move]
    seq = at(store, source, webhook=HOOK)
    fence = 0 if source is TaskState.QUEUED else 1
    before = (store.task(1, "t"), store.counts(1), store.due_deliveries(9))
    assert outcome_moved(do(store, command(seq, fence + wrong_by))) is Moved.STALE
    assert (store.task(1, "t"), store.counts(1), store.due_deliveries(9)) == before


@pytest.mark.parametrize("move", MOVES)
def test_a_move_of_an_unknown_task_is_stale(store: Store, move: str) -> None:
    assert outcome_moved(do(store, MOVES[move][1](999, 0))) is Moved.STALE


def test_the_fence_rises_with_every_lease_and_strikes_only_when_counted(store: Store) -> None:
    seq = do(store, submit()).seq
    for fence in range(3):
        (ready,) = store.queued(1, 0, 10)
        assert (ready.fence, ready.strikes) == (fence, min(fence, 1))
        store.apply([lease(seq, fence), give_back(seq, fence + 1, strike=fence == 0)])


def test_a_late_answer_after_a_new_lease_changes_nothing(store: Store) -> None:
    seq = at(store, TaskState.LEASED)
    store.apply([give_back(seq), lease(seq, 1)])
    assert do(store, finish(seq, 1)).moved is Moved.STALE
    assert state_of(store) is TaskState.LEASED
    assert do(store, finish(seq, 2)).moved is Moved.DONE


def test_a_terminal_state_is_final_but_for_the_acknowledged_success(store: Store) -> None:
    for state in (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.DELIVERED):
        task_id = state.name
        seq = at(store, state, task_id=task_id)
        before = store.task(1, task_id)
        store.apply([command(seq, fence) for _, command in MOVES.values() for fence in (0, 1, 2)])
        assert do(store, base.FailOpenTasks(endpoint_id=1, error="x", limit=10, now_ms=99)).count == 0
        assert store.task(1, task_id) == before


# ---- submit


def test_a_submit_is_known_again_and_makes_no_second_task(store: Store) -> None:
    first = do(store, submit())
    again = do(store, submit(now_ms=99))
    assert (first.known, again.known, again.same, again.seq) == (False, True, True, first.seq)
    assert store.counts(1)[TaskState.QUEUED] == 1
    assert store.tasks(1, ALL_STATES, 0, 9)[0].created_ms == 10


def test_two_equal_submits_in_one_batch_are_one_task(store: Store) -> None:
    one, two = store.apply([submit(), submit()])
    assert (one.seq, two.known, two.same) == (two.seq, True, True)


def test_a_task_id_belongs_to_its_endpoint(store: Store) -> None:
    one, two = store.apply([submit(), submit(endpoint_id=2)])
    assert not two.known
    assert one.seq != two.seq
    assert (store.counts(1), store.counts(2)) == ({TaskState.QUEUED: 1}, {TaskState.QUEUED: 1})


def test_task_ids_differ_by_letter_case(store: Store) -> None:
    assert [outcome.known for outcome in store.apply([submit("a"), submit("A")])] == [False, False]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b'{"a":1,"b":2}', b'{ "b":2 , "a": 1 }', True),
        (b'["\xc3\xa9"]', b'["\\u00e9"]', True),
        (b"[1,2]", b"[2,1]", False),
        (b'{"a":1}', b'{"a":true}', False),
        (b'{"a":0}', b'{"a":false}', False),
        (b'{"a":"1"}', b'{"a":1}', False),
        (b'{"a":null}', b'{"b":null}', False),
        (b"[[]]", b"[{}]", False),
        (b"[1e999]", b"[1e999 ]", None),
        (b"[1" + b"0" * 5000 + b"]", b"[1" + b"0" * 5000 + b" ]", None),
        (b"[1e999]", b"[2e999]", False),
        (b"[" * 90 + b"1" + b"]" * 90, b"[" * 90 + b"1" + b" " + b"]" * 90, True),
    ],
    ids=lambda value: repr(value)[:30].replace("\\", "/"),
)
def test_a_payload_is_the_same_when_its_json_is(store: Store, one: bytes, other: bytes, same: bool | None) -> None:
    store.apply([submit("x", input=one), submit("y", headers=one)])
    for again in (submit("x", input=other), submit("y", headers=other)):
        outcome = do(store, again)
        assert outcome.known
        # None: what no reader can hold as a number may be told apart or not, but it must be answered.
        assert same is None or outcome.same is same
    assert store.task_input(1) == one


@pytest.mark.parametrize(
    "changes",
    [
        {"input": b'{"a":2}'},
        {"worker_port": 8001},
        {"process_uri": "/other"},
        {"webhook": HOOK},
        {"webhook_auth_key": "k"},
        {"headers": b'{"a":"b"}'},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_submit_with_another_payload_is_told_apart_and_changes_nothing(store: Store, changes: Any) -> None:
    do(store, submit())
    before = store.task(1, "t")
    outcome = do(store, submit(**changes))
    assert (outcome.known, outcome.same) == (True, False)
    assert store.task(1, "t") == before


def test_input_output_and_headers_come_back_byte_for_byte(store: Store) -> None:
    payload = b'{ "a" : [1.50, 1e5, "\\u00e9\xc3\xa9\\u0000"] }\n'
    headers = b'{"X-A":"b\tc"}'
    seq = do(store, submit(input=payload, headers=headers)).seq
    output = b'{"big": 123456789012345678901234567890}'
    store.apply(
        [lease(seq), base.FinishTask(seq=seq, fence=1, state=TaskState.SUCCEEDED, output=output, error=None, now_ms=30)]
    )
    task = store.task(1, "t")
    assert task is not None
    assert (task.input, task.headers, task.output, store.task_input(seq)) == (payload, headers, output, payload)
    assert (task.worker_url, task.created_ms, task.updated_ms) == ("http://w:1", 10, 30)


def test_large_inputs_are_left_in_the_store_until_their_turn(store: Store) -> None:
    small, large = b'"' + b"x" * (READY_INPUT_MAX_BYTES - 2) + b'"', b'"' + b"x" * (READY_INPUT_MAX_BYTES - 1) + b'"'
    store.apply([submit("small", input=small), submit("large", input=large)])
    first, second = store.queued(1, 0, 10)
    assert (first.input, second.input) == (small, None)
    assert store.task_input(second.seq) == large


# ---- atomicity and durability


def test_a_batch_that_fails_leaves_nothing_behind(store: Store) -> None:
    seq = at(store, TaskState.LEASED, webhook=HOOK)
    before = (store.task(1, "t"), store.counts(1), store.due_deliveries(9), store.endpoints())
    impossible = lease(seq, worker_id=2**70)
    with pytest.raises(StoreError):
        store.apply([finish(seq), submit("new"), base.PutEndpoint(endpoint()), submit("newer"), impossible])
    assert (store.task(1, "t"), store.counts(1), store.due_deliveries(9), store.endpoints()) == before
    assert state_of(store, "new") is None
    assert do(store, submit("new")).seq > seq


def test_an_empty_batch_is_no_error(store: Store) -> None:
    assert store.apply([]) == []


def test_outcomes_come_in_the_order_of_the_commands(store: Store) -> None:
    outcomes = store.apply([submit("a"), submit("b"), lease(1), submit("a"), lease(1), finish(1)])
    assert [type(outcome) for outcome in outcomes] == [
        base.Submitted, base.Submitted, Moved, base.Submitted, Moved, base.Finished,
    ]  # fmt: skip
    assert [outcomes[2], outcomes[4], outcomes[5].moved] == [Moved.DONE, Moved.STALE, Moved.DONE]


def test_what_was_applied_is_there_after_reopening(open_store: Opener, tmp_path: Path) -> None:
    one = open_store(tmp_path)
    one.recover(0)
    record = endpoint()
    one.apply([base.PutEndpoint(record), base.PutWorker(worker())])
    for state in ALL_STATES:
        at(one, state, task_id=state.name)
    tasks, counts = one.tasks(1, ALL_STATES, 0, 99), one.counts(1)
    one.close()
    two = open_store(tmp_path)
    assert two.endpoints() == [record]
    assert two.worker(7) == worker()
    assert (two.tasks(1, ALL_STATES, 0, 99), two.counts(1)) == (tasks, counts)
    assert do(two, submit("next")).seq > max(task.seq for task in tasks)
    two.close()


def test_recovery_queues_what_was_leased_without_using_an_attempt(open_store: Opener, tmp_path: Path) -> None:
    one = open_store(tmp_path)
    one.recover(0)
    seqs = {state: at(one, state, task_id=state.name, webhook=HOOK) for state in ALL_STATES}
    claimed = next(each for each in one.due_deliveries(9) if each.task_seq == seqs[TaskState.FAILED])
    one.apply(
        [
            base.ClaimDelivery(id=claimed.id),
            base.PutWorker(worker()),
            base.PutWorker(worker(8, WorkerStatus.TERMINATED)),
        ]
    )
    one.close()
    two = open_store(tmp_path)
    two.recover(500)
    assert {state: state_of(two, state.name) for state in ALL_STATES} == {
        **{state: state for state in ALL_STATES},
        TaskState.LEASED: TaskState.QUEUED,
    }
    assert two.counts(1)[TaskState.QUEUED] == 2
    assert two.counts(1).get(TaskState.LEASED, 0) == 0
    again = next(task for task in two.queued(1, 0, 9) if task.seq == seqs[TaskState.LEASED])
    assert (again.fence, again.strikes) == (1, 0)
    assert do(two, finish(again.seq, 1)).moved is Moved.STALE
    assert do(two, lease(again.seq, 1)) is Moved.DONE
    assert [due.id for due in two.due_deliveries(9) if due.id == claimed.id] == [claimed.id]
    gone, old = two.workers(1)
    assert (gone.status, gone.updated_ms) == (WorkerStatus.TERMINATED, 500)
    assert (old.status, old.updated_ms) == (WorkerStatus.TERMINATED, 6)
    assert [next_ms for next_ms, task in two.waiting() if task.seq == seqs[TaskState.RETRY_WAIT]] == [100]
    two.close()


def test_recovery_moves_the_counters_of_every_task_it_moves(open_store: Opener, tmp_path: Path) -> None:
    one = open_store(tmp_path)
    one.recover(0)
    for endpoint_id, tasks in ((1, 3), (2, 2)):
        seqs = [each.seq for each in one.apply([submit(f"t{n}", endpoint_id=endpoint_id) for n in range(tasks)])]
        one.apply([lease(seq) for seq in seqs])
    one.close()
    two = open_store(tmp_path)
    two.recover(1)
    assert [two.counts(endpoint_id)[TaskState.QUEUED] for endpoint_id in (1, 2)] == [3, 2]
    assert [two.counts(endpoint_id).get(TaskState.LEASED, 0) for endpoint_id in (1, 2)] == [0, 0]
    two.close()


def test_a_second_server_is_refused_until_the_first_has_closed(open_store: Opener, tmp_path: Path) -> None:
    one = open_store(tmp_path)
    with pytest.raises(StoreInUse, match="Another yottabench serves"):
        open_store(tmp_path)
    one.apply([submit()])
    one.close()
    one.close()
    two = open_store(tmp_path)
    assert state_of(two) is TaskState.QUEUED
    two.close()


# ---- endpoints and workers


def test_endpoints_are_replaced_whole_listed_by_age_and_gone_when_dropped(store: Store) -> None:
    store.apply([base.PutEndpoint(endpoint(2)), base.PutEndpoint(endpoint(1))])
    changed = endpoint(2, should_run=False, status=EndpointStatus.STOPPED)
    assert do(store, base.PutEndpoint(changed)) is Moved.DONE
    assert store.endpoints() == [endpoint(1), changed]
    assert store.apply([base.DropEndpoint(1), base.DropEndpoint(1), base.DropEndpoint(3)]) == [
        Moved.DONE, Moved.STALE, Moved.STALE,
    ]  # fmt: skip
    assert store.endpoints() == [changed]


def test_a_late_change_does_not_bring_a_dropped_endpoint_back(store: Store) -> None:
    store.apply([base.PutEndpoint(endpoint()), base.DropEndpoint(1), base.PutEndpoint(endpoint())])
    assert store.endpoints() == []


@pytest.mark.parametrize("state", ALL_STATES)
def test_deleted_endpoints_are_remembered_while_they_have_open_tasks(store: Store, state: TaskState) -> None:
    store.apply([base.PutEndpoint(endpoint()), base.PutEndpoint(endpoint(2))])
    at(store, state)
    assert store.deleted_with_open_tasks() == []
    store.apply([base.DropEndpoint(1), base.DropEndpoint(2)])
    assert store.deleted_with_open_tasks() == ([1] if state in OPEN_STATES else [])
    do(store, base.FailOpenTasks(endpoint_id=1, error="deleted", limit=5, now_ms=9))
    assert store.deleted_with_open_tasks() == []


def test_workers_are_kept_with_their_latest_status(store: Store) -> None:
    gone = worker(8, WorkerStatus.TERMINATED, updated_ms=9, reason="exited with code 1")
    store.apply([base.PutWorker(worker(8)), base.PutWorker(worker(7)), base.PutWorker(gone)])
    assert store.workers(1) == [worker(7), gone]
    assert store.worker(8) == gone
    assert (store.workers(2), store.worker(9)) == ([], None)


def test_a_worker_status_with_a_webhook_is_an_outbox_row_each(store: Store) -> None:
    assert do(store, base.PutWorker(worker())) is None
    first = do(store, base.PutWorker(worker(), HOOK, b'{"n":1}'))
    second = do(store, base.PutWorker(worker(), HOOK, b'{"n":2}'))
    assert [(due.id, due.body, due.task_seq, due.url) for due in store.due_deliveries(9)] == [
        (first.id, b'{"n":1}', None, HOOK),
        (second.id, b'{"n":2}', None, HOOK),
    ]


# ---- failing open tasks, deliveries


def test_failing_open_tasks_goes_in_portions_oldest_first_and_leaves_the_ended_alone(store: Store) -> None:
    for state in ALL_STATES:
        at(store, state, task_id=state.name, webhook=HOOK)
    do(store, submit("other", endpoint_id=2))
    before = {delivery.id for delivery in store.due_deliveries(99)}
    first = do(store, base.FailOpenTasks(endpoint_id=1, error="gone", limit=2, now_ms=99))
    second = do(store, base.FailOpenTasks(endpoint_id=1, error="gone", limit=2, now_ms=99))
    assert (first.count, first.more, second.count, second.more) == (2, True, 1, False)
    made = [*first.deliveries, *second.deliveries]
    assert [store.finished_task(due.task_seq or 0).task_id for due in made] == ["QUEUED", "LEASED", "RETRY_WAIT"]  # type: ignore[union-attr]
    assert {delivery.id for delivery in store.due_deliveries(99)} - before == {due.id for due in made}
    assert store.counts(1) == {
        **dict.fromkeys(ALL_STATES, 0),
        TaskState.FAILED: 4,
        TaskState.SUCCEEDED: 1,
        TaskState.DELIVERED: 1,
    }
    assert state_of(store, "other", 2) is TaskState.QUEUED


@pytest.mark.parametrize("state", [TaskState.SUCCEEDED, TaskState.FAILED])
def test_ending_a_task_with_a_webhook_writes_its_outbox_row_once(store: Store, state: TaskState) -> None:
    seq = do(store, submit(webhook=HOOK, webhook_auth_key="key")).seq
    done, again = store.apply([lease(seq), finish(seq, 1, state), finish(seq, 1, state)])[1:]
    assert again.delivery is None
    assert (done.delivery.task_seq, done.delivery.url, done.delivery.auth_key) == (seq, HOOK, "key")
    assert (done.delivery.attempts, done.delivery.next_ms) == (0, 30)
    assert store.due_deliveries(9) == [done.delivery]
    told = store.finished_task(seq)
    assert told is not None
    assert (told.seq, told.endpoint_id, told.task_id, told.state) == (seq, 1, "t", state)


def test_ending_a_task_without_a_webhook_writes_none(store: Store) -> None:
    seq = at(store, TaskState.SUCCEEDED)
    assert store.due_deliveries(9) == []
    assert store.finished_task(seq) is not None
    assert store.finished_task(999) is None


def test_a_delivery_is_claimed_once_and_ended_once(store: Store) -> None:
    at(store, TaskState.SUCCEEDED, webhook=HOOK)
    (due,) = store.due_deliveries(9)
    acked = end_delivery(due.id, DeliveryState.ACKED)
    assert store.apply([acked, base.ClaimDelivery(id=due.id), base.ClaimDelivery(id=due.id), acked, acked]) == [
        Moved.STALE, Moved.DONE, Moved.STALE, Moved.DONE, Moved.STALE,
    ]  # fmt: skip
    assert store.due_deliveries(9) == []


@pytest.mark.parametrize(
    ("ended", "acked", "shown"),
    [
        (TaskState.SUCCEEDED, True, TaskState.DELIVERED),
        (TaskState.SUCCEEDED, False, TaskState.SUCCEEDED),
        (TaskState.FAILED, True, TaskState.FAILED),
        (TaskState.FAILED, False, TaskState.FAILED),
    ],
)
def test_only_an_acknowledged_success_becomes_delivered(
    store: Store, ended: TaskState, acked: bool, shown: TaskState
) -> None:
    at(store, ended, webhook=HOOK)
    (due,) = store.due_deliveries(9)
    end = DeliveryState.ACKED if acked else DeliveryState.EXHAUSTED
    store.apply([base.ClaimDelivery(id=due.id), end_delivery(due.id, end)])
    task = store.task(1, "t")
    assert task is not None
    assert (task.state, task.delivery_state, task.delivery_attempts) == (shown, end, 1)
    assert task.delivered_ms == (60 if acked else None)
    assert store.counts(1)[shown] == 1


def test_a_delivery_that_failed_is_due_again_with_one_more_attempt(store: Store) -> None:
    at(store, TaskState.SUCCEEDED, webhook=HOOK)
    for attempt in (1, 2, 3):
        (due,) = store.due_deliveries(9)
        store.apply([base.ClaimDelivery(id=due.id), end_delivery(due.id, DeliveryState.DUE, next_ms=60 * attempt)])
        (due,) = store.due_deliveries(9)
        assert (due.attempts, due.next_ms) == (attempt, 60 * attempt)


def test_deliveries_come_soonest_first(store: Store) -> None:
    for number, next_ms in enumerate((300, 100, 200)):
        at(store, TaskState.FAILED, webhook=HOOK, task_id=f"t{number}")
        due = store.due_deliveries(9)[0]
        store.apply([base.ClaimDelivery(id=due.id), end_delivery(due.id, DeliveryState.DUE, next_ms=next_ms)])
    assert [due.next_ms for due in store.due_deliveries(9)] == [100, 200, 300]
    assert [due.next_ms for due in store.due_deliveries(2)] == [100, 200]


def test_the_queue_is_read_from_any_place_in_order_of_submission(store: Store) -> None:
    store.apply([submit(f"t{number}", endpoint_id=1 + number % 2) for number in range(10)])
    store.apply([lease(3)])
    assert [task.seq for task in store.queued(1, 0, 99)] == [1, 5, 7, 9]
    assert [task.seq for task in store.queued(1, 5, 1)] == [7]
    assert store.queued(1, 9, 5) == []


# ---- secrets


SECRET = "s3cret"


def test_no_repr_shows_a_key_or_a_payload(store: Store) -> None:
    command = submit(webhook=HOOK, webhook_auth_key=SECRET, headers=b'{"A":"s3cret"}', input=b'"s3cret"')
    seq = do(store, command).seq
    outcome = store.apply([lease(seq), finish(seq)])[1]
    for shown in (command, outcome, outcome.delivery, *store.due_deliveries(9), store):
        assert SECRET not in repr(shown)
        assert SECRET not in str(shown)


def test_no_repr_of_a_record_shows_a_secret(store: Store) -> None:
    do(store, submit(headers=b'{"A":"s3cret"}', input=b'{"k":"s3cret"}'))
    spec = endpoint().spec
    with_secrets = base.EndpointSpec(
        name=spec.name,
        image=spec.image,
        service_mode=spec.service_mode,
        resources=spec.resources,
        workers=1,
        container_volume_in_gb=20,
        environment=(base.Variable("TOKEN", SECRET),),
        initialization_command=f"login {SECRET}",
    )
    record = endpoint(spec=with_secrets)
    for shown in (record, with_secrets, base.PutEndpoint(record), *store.queued(1, 0, 9), store.task(1, "t")):
        assert SECRET not in repr(shown)


# ---- pages, counters and every move against a reference in plain Python


@attrs.define
class RefTask:
    command: base.SubmitTask
    seq: int
    state: TaskState = TaskState.QUEUED
    fence: int = 0
    strikes: int = 0
    next_ms: int | None = None
    output: bytes | None = None
    error: str | None = None
    updated_ms: int = 0


@attrs.define
class RefDelivery:
    seq: int
    state: DeliveryState = DeliveryState.DUE
    attempts: int = 0
    next_ms: int = 0
    delivered_ms: int | None = None


@attrs.define
class Reference:
    """The rules of the commands, as short as they can be said."""

    tasks: list[RefTask] = attrs.field(factory=list)
    deliveries: dict[int, RefDelivery] = attrs.field(factory=dict)

    def find(self, seq: int, state: TaskState, fence: int) -> RefTask | None:
        task = next((task for task in self.tasks if task.seq == seq), None)
        return task if task is not None and (task.state, task.fence) == (state, fence) else None

    def expect(self, command: Any, outcome: Any) -> None:
        """Check the outcome, and make the same move here."""
        match command:
            case base.SubmitTask():
                self._submit(command, outcome)
            case base.FailOpenTasks():
                self._fail_open(command, outcome)
            case base.ClaimDelivery(id=delivery_id):
                delivery = self.deliveries.get(delivery_id)
                claimed = delivery is not None and delivery.state is DeliveryState.DUE
                assert outcome is (Moved.DONE if claimed else Moved.STALE)
                if claimed:
                    delivery.state = DeliveryState.INFLIGHT
            case base.EndDelivery():
                self._end_delivery(command, outcome)
            case _:
                self._move(command, outcome)

    def _submit(self, command: base.SubmitTask, outcome: base.Submitted) -> None:
        for task in self.tasks:
            if (task.command.endpoint_id, task.command.task_id) == (command.endpoint_id, command.task_id):
                same = [command.input, command.webhook] == [task.command.input, task.command.webhook]
                assert outcome == base.Submitted(task.seq, known=True, same=same)
                return
        assert (outcome.known, outcome.same) == (False, True)
        assert outcome.seq > max((task.seq for task in self.tasks), default=0)
        self.tasks.append(RefTask(command, outcome.seq, updated_ms=command.now_ms))

    def _move(self, command: Any, outcome: Any) -> None:
        sources = {base.LeaseTask: TaskState.QUEUED, base.RequeueTask: TaskState.RETRY_WAIT}
        task = self.find(command.seq, sources.get(type(command), TaskState.LEASED), command.fence)
        assert outcome_moved(outcome) is (Moved.STALE if task is None else Moved.DONE)
        if task is None:
            return
        task.updated_ms = command.now_ms
        match command:
            case base.LeaseTask():
                task.state, task.fence = TaskState.LEASED, task.fence + 1
            case base.RequeueTask():
                task.state, task.next_ms = TaskState.QUEUED, None
            case base.ReturnTask():
                task.state = TaskState.QUEUED if command.next_ms is None else TaskState.RETRY_WAIT
                task.next_ms = command.next_ms
                task.strikes += command.strike
            case base.FinishTask():
                task.state, task.output, task.error = command.state, command.output, command.error
                self._put_delivery(task, outcome.delivery)

    def _put_delivery(self, task: RefTask, made: base.DueDelivery | None) -> None:
        assert (made is None) == (task.command.webhook is None)
        if made is not None:
            assert made.id not in self.deliveries
            assert made.task_seq == task.seq
            self.deliveries[made.id] = RefDelivery(task.seq, next_ms=task.updated_ms)

    def _fail_open(self, command: base.FailOpenTasks, outcome: base.FailedTasks) -> None:
        mine = [t for t in self.tasks if t.command.endpoint_id == command.endpoint_id and t.state in OPEN_STATES]
        some = mine[: command.limit]
        assert (outcome.count, outcome.more) == (len(some), len(some) == command.limit)
        made = {due.task_seq: due for due in outcome.deliveries}
        assert len(made) == len(outcome.deliveries)
        for task in some:
            task.state, task.error, task.next_ms = TaskState.FAILED, command.error, None
            task.updated_ms = command.now_ms
            self._put_delivery(task, made.pop(task.seq, None))
        assert not made

    def _end_delivery(self, command: base.EndDelivery, outcome: Moved) -> None:
        delivery = self.deliveries.get(command.id)
        inflight = delivery is not None and delivery.state is DeliveryState.INFLIGHT
        assert outcome is (Moved.DONE if inflight else Moved.STALE)
        if not inflight:
            return
        delivery.state, delivery.next_ms = command.state, command.next_ms
        delivery.attempts += 1
        if command.state is DeliveryState.ACKED:
            delivery.delivered_ms = command.now_ms
            task = next(task for task in self.tasks if task.seq == delivery.seq)
            if task.state is TaskState.SUCCEEDED:
                task.state, task.updated_ms = TaskState.DELIVERED, command.now_ms

    def recover(self, now_ms: int) -> None:
        for task in self.tasks:
            if task.state is TaskState.LEASED:
                task.state, task.updated_ms = TaskState.QUEUED, now_ms
        for delivery in self.deliveries.values():
            if delivery.state is DeliveryState.INFLIGHT:
                delivery.state = DeliveryState.DUE

    def newest_first(self, endpoint_id: int, states: frozenset[TaskState]) -> list[RefTask]:
        mine = [t for t in self.tasks if t.command.endpoint_id == endpoint_id and t.state in states]
        return sorted(mine, key=lambda task: -task.seq)


class StoreMachine(RuleBasedStateMachine):
    """Any commands, in any order and grouping, against the reference."""

    opener: ClassVar[Opener]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = type(self).opener(Path(self.folder.name))
        self.store.recover(0)
        self.reference = Reference()
        self.now_ms = 1000
        self.batch: list[base.Command[Any]] | None = None

    def do(self, command: base.Command[Any]) -> None:
        self.now_ms += 1
        if self.batch is not None:
            self.batch.append(command)
            return
        self.reference.expect(command, self.store.apply([command])[0])

    def seq(self, data: st.DataObject, *likely: TaskState) -> tuple[int, int]:
        """A task, most often one in a state that fits, and a fence, most often the right one."""
        fitting = [task for task in self.reference.tasks if task.state in likely]
        if fitting and data.draw(st.integers(0, 4)):
            task = data.draw(st.sampled_from(fitting))
            return task.seq, task.fence + data.draw(st.sampled_from([0, 0, 0, 0, -1, 1]))
        return data.draw(st.integers(1, 10)), data.draw(st.integers(0, 3))

    @rule(
        endpoint_id=st.integers(1, 2),
        name=st.sampled_from("abcdefgh"),
        payload=st.sampled_from([b"1", b"2"]),
        webhook=st.sampled_from([None, HOOK]),
    )
    def submit(self, endpoint_id: int, name: str, payload: bytes, webhook: str | None) -> None:
        self.do(submit(name, endpoint_id=endpoint_id, input=payload, webhook=webhook, now_ms=self.now_ms))

    @rule(data=st.data())
    def lease(self, data: st.DataObject) -> None:
        self.do(lease(*self.seq(data, TaskState.QUEUED), now_ms=self.now_ms))

    @rule(data=st.data(), state=st.sampled_from([TaskState.SUCCEEDED, TaskState.FAILED]))
    def finish(self, data: st.DataObject, state: TaskState) -> None:
        self.do(finish(*self.seq(data, TaskState.LEASED), state, now_ms=self.now_ms))

    @rule(data=st.data(), wait=st.booleans(), strike=st.booleans())
    def give_back(self, data: st.DataObject, wait: bool, strike: bool) -> None:
        seq, fence = self.seq(data, TaskState.LEASED)
        next_ms = self.now_ms + 50 if wait else None
        self.do(base.ReturnTask(seq=seq, fence=fence, strike=strike, next_ms=next_ms, now_ms=self.now_ms))

    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        seq, fence = self.seq(data, TaskState.RETRY_WAIT)
        self.do(base.RequeueTask(seq=seq, fence=fence, now_ms=self.now_ms))

    @rule(endpoint_id=st.integers(1, 2), limit=st.integers(1, 3))
    def fail_open(self, endpoint_id: int, limit: int) -> None:
        self.do(base.FailOpenTasks(endpoint_id=endpoint_id, error="deleted", limit=limit, now_ms=self.now_ms))

    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        self.do(base.ClaimDelivery(id=data.draw(st.sampled_from([*self.reference.deliveries, 99]))))

    @rule(
        data=st.data(),
        state=st.sampled_from([DeliveryState.ACKED, DeliveryState.ACKED, DeliveryState.DUE, DeliveryState.EXHAUSTED]),
    )
    def end_delivery(self, data: st.DataObject, state: DeliveryState) -> None:
        delivery_id = data.draw(st.sampled_from([*self.reference.deliveries, 99]))
        self.do(end_delivery(delivery_id, state, now_ms=self.now_ms, next_ms=self.now_ms + 5))

    @rule()
    def begin_a_batch(self) -> None:
        self.batch = self.batch or []

    @rule(fails=st.booleans())
    def end_the_batch(self, fails: bool) -> None:
        batch, self.batch = self.batch or [], None
        if fails:
            with pytest.raises(StoreError):
                self.store.apply([*batch, lease(1, worker_id=2**70), base.PutWorker(worker(2**70))])
            return
        for command, outcome in zip(batch, self.store.apply(batch), strict=True):
            self.reference.expect(command, outcome)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = type(self).opener(Path(self.folder.name))
        self.now_ms += 1
        self.store.recover(self.now_ms)
        self.reference.recover(self.now_ms)

    @invariant()
    def counters_are_the_rows_counted(self) -> None:
        for endpoint_id in (1, 2):
            counts = self.store.counts(endpoint_id)
            for state in ALL_STATES:
                expected = len(self.reference.newest_first(endpoint_id, frozenset({state})))
                assert counts.get(state, 0) == expected
                assert len(self.store.tasks(endpoint_id, [state], 0, 10**6)) == expected

    @invariant()
    def tasks_are_as_in_the_reference(self) -> None:
        for ref in self.reference.tasks:
            task = self.store.task(ref.command.endpoint_id, ref.command.task_id)
            assert task is not None
            assert (task.seq, task.state, task.output, task.error) == (ref.seq, ref.state, ref.output, ref.error)
            assert (task.updated_ms, task.input) == (ref.updated_ms, ref.command.input)
            delivery = next((d for d in self.reference.deliveries.values() if d.seq == ref.seq), RefDelivery(0))
            assert (task.delivery_state is not None) == (delivery.seq != 0)
            assert (task.delivery_attempts, task.delivered_ms) == (delivery.attempts, delivery.delivered_ms)

    @invariant()
    def every_ended_task_with_a_webhook_has_one_outbox_row(self) -> None:
        ended = {t.seq for t in self.reference.tasks if t.command.webhook and t.state not in OPEN_STATES}
        assert sorted(d.seq for d in self.reference.deliveries.values()) == sorted(ended)

    @invariant()
    def what_waits_is_as_in_the_reference(self) -> None:
        for endpoint_id in (1, 2):
            queued = reversed(self.reference.newest_first(endpoint_id, frozenset({TaskState.QUEUED})))
            expected = [(task.seq, task.fence, task.strikes) for task in queued]
            assert [(t.seq, t.fence, t.strikes) for t in self.store.queued(endpoint_id, 0, 99)] == expected
        waiting = sorted((t.next_ms, t.seq) for t in self.reference.tasks if t.state is TaskState.RETRY_WAIT)
        assert sorted((next_ms, task.seq) for next_ms, task in self.store.waiting()) == waiting
        due = [(each.next_ms, each.id, each.attempts) for each in self.store.due_deliveries(99)]
        assert [next_ms for next_ms, *_ in due] == sorted(next_ms for next_ms, *_ in due)
        assert sorted(due) == sorted(
            (delivery.next_ms, delivery_id, delivery.attempts)
            for delivery_id, delivery in self.reference.deliveries.items()
            if delivery.state is DeliveryState.DUE
        )

    @rule(
        endpoint_id=st.integers(1, 3),
        states=st.frozensets(st.sampled_from(ALL_STATES), min_size=1),
        offset=st.integers(0, 12),
        limit=st.integers(1, 5),
    )
    def read_a_page(self, endpoint_id: int, states: frozenset[TaskState], offset: int, limit: int) -> None:
        page = self.store.tasks(endpoint_id, sorted(states), offset, limit)
        expected = self.reference.newest_first(endpoint_id, states)[offset : offset + limit]
        assert [task.seq for task in page] == [task.seq for task in expected]
        total = len(self.reference.newest_first(endpoint_id, states))
        assert self.store.task_page(endpoint_id, sorted(states), offset, limit) == (total, page)

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


def test_any_sequence_of_commands_leaves_what_the_reference_says(open_store: Opener) -> None:
    machine = type("Machine", (StoreMachine,), {"opener": staticmethod(open_store)})
    run_state_machine_as_test(machine, settings=settings(max_examples=40, stateful_step_count=40))


def test_pages_agree_with_the_reference_for_every_set_of_states_and_offset(store: Store) -> None:
    states = [ALL_STATES[number * 7 % 11 % 6] for number in range(23)]
    for number, state in enumerate(states):
        at(store, state, task_id=f"t{number}")
    for chosen in range(1, 2**6):
        wanted = [state for state in ALL_STATES if chosen >> state & 1]
        expected = [f"t{number}" for number in reversed(range(23)) if states[number] in wanted]
        for offset in range(0, 25, 3):
            page = store.tasks(1, wanted, offset, 4)
            assert [task.task_id for task in page] == expected[offset : offset + 4]


def test_total_and_page_are_of_one_moment_while_others_write(store: Store) -> None:
    store.apply([submit(f"t{number}") for number in range(50)])
    stop = threading.Event()

    def write() -> None:
        for seq in range(1, 10**9):
            new = submit(f"n{seq}")
            store.apply([new, new, lease(seq), submit(f"m{seq}")] if seq % 2 else [lease(seq)])
            if stop.is_set():
                return

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for _ in range(100):
            total, page = store.task_page(1, [TaskState.QUEUED], 0, 10**6)
            assert total == len(page)
    finally:
        stop.set()
        writing.join()


# ---- of SQLite alone


def test_the_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "data")
    store.apply([submit(webhook_auth_key=SECRET)])
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    for path in (tmp_path / "data").glob("yottabench.sqlite*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path.name
    store.close()


def test_a_file_with_another_schema_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    SqliteStore(tmp_path).close()
    path = tmp_path / "yottabench.sqlite"
    connection = connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="written by a later yottabench: it has schema version 99"):
        SqliteStore(tmp_path)
    gc.collect()
    connection = connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.close()
    SqliteStore(tmp_path).close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "yottabench.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match=r"yottabench\.sqlite cannot be opened"):
        SqliteStore(tmp_path)
    (tmp_path / "yottabench.sqlite").unlink()
    SqliteStore(tmp_path).close()


def test_a_folder_that_cannot_be_used_is_refused_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        SqliteStore(tmp_path / "file" / "data")


def test_a_full_disk_refuses_the_batch_and_the_store_goes_on_when_there_is_room(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    store.recover(0)
    store.apply([submit("before")])
    pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
    store._writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="full"):
        store.apply([submit("during", input=b'"' + b"x" * 100_000 + b'"')])
    store._writer.execute("PRAGMA max_page_count = 1000000")
    store.apply([submit("after")])
    assert [task.task_id for task in store.tasks(1, ALL_STATES, 0, 9)] == ["after", "before"]
    assert store.counts(1) == {TaskState.QUEUED: 2}
    store.close()


def test_commits_are_synced_to_the_disk(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    assert store._writer.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


def test_the_log_of_the_database_is_cut_under_steady_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from yottabench.emulator.store import sqlite_wal

    monkeypatch.setattr(sqlite_wal, "_CHECKPOINT_BYTES", 100_000)
    monkeypatch.setattr(sqlite_wal, "_WAL_MAX_BYTES", 400_000)
    store = SqliteStore(tmp_path)
    wal = tmp_path / "yottabench.sqlite-wal"
    number = 0
    while number < 50 or wal.stat().st_size > 400_000:
        store.apply([submit(f"t{number}", input=b'"' + b"x" * 10_000 + b'"')])
        number += 1
        assert number < 5_000, "The log of the database only grows."
    assert store.counts(1) == {TaskState.QUEUED: number}
    store.close()


def test_a_checkpoint_that_fails_once_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from yottabench.emulator.store import sqlite_wal

    monkeypatch.setattr(sqlite_wal, "_CHECKPOINT_BYTES", 1)
    store = SqliteStore(tmp_path)
    real = store._checkpointer._connection

    copied = threading.Event()

    class Failing:
        failures = 0

        def execute(self, sql: str) -> Any:
            self.failures += 1
            if self.failures == 1:
                raise apsw.IOError("disk I/O error")
            copied.set()
            return real.execute(sql)

        def close(self) -> None:
            real.close()

    store._checkpointer._connection = Failing()  # type: ignore[assignment]
    deadline_s = time.monotonic() + 30
    number = 0
    while not copied.is_set() and time.monotonic() < deadline_s:
        number += 1
        store.apply([submit(f"t{number}")])
    store.close()
    assert copied.is_set()
