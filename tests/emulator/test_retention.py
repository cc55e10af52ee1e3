import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.harness import Call, Peer, changed
from tests.emulator.live import LiveBench
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
from yottabench.emulator import retention
from yottabench.emulator.store import base
from yottabench.emulator.store.base import OPEN_STATES, DeliveryState, Store, TaskState, WorkerStatus
from yottabench.emulator.store.upkeep import Purged, PurgeGone, PurgeTasks

DAY_S = 24 * 3_600
EVERY_STATE = tuple(TaskState)


@pytest.fixture(params=STORES)
def open_store(request: pytest.FixtureRequest) -> Opener:
    return STORES[request.param]


@pytest.fixture
def store(open_store: Opener, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path)
    opened.recover(0)
    do(opened, base.PutEndpoint(endpoint()))
    yield opened
    opened.close()


def purge(store: Store, before_ms: int = 10**9, *, after_seq: int = 0, limit: int = 1_000) -> Purged:
    return do(store, PurgeTasks(before_ms=before_ms, after_seq=after_seq, limit=limit))


def purge_gone(store: Store, before_ms: int = 10**9, limit: int = 1_000) -> int:
    return do(store, PurgeGone(before_ms=before_ms, limit=limit))


def counted(store: Store, endpoint_id: int = 1) -> dict[TaskState, int]:
    return {state: n for state, n in store.counts(endpoint_id).items() if n}


def ids(store: Store) -> list[str]:
    return [task.task_id for task in reversed(store.tasks(1, EVERY_STATE, 0, 1_000))]


# ---- the store


@pytest.mark.parametrize("state", EVERY_STATE)
def test_only_what_has_ended_goes(store: Store, state: TaskState) -> None:
    seq = at(store, state)
    open_or_undelivered = state in OPEN_STATES
    assert purge(store) == Purged(0 if open_or_undelivered else 1, None)
    assert (store.task(1, "t") is not None) is open_or_undelivered
    assert counted(store) == ({state: 1} if open_or_undelivered else {})
    assert (store.finished_task(seq) is not None) is open_or_undelivered


@pytest.mark.parametrize("before_ms", [29, 30, 31])
def test_what_ended_just_then_stays(store: Store, before_ms: int) -> None:
    at(store, TaskState.SUCCEEDED)  # ends at 30
    assert purge(store, before_ms).count == (1 if before_ms > 30 else 0)


@pytest.mark.parametrize(
    ("delivery", "goes"),
    [
        (None, False),
        ("claimed", False),
        (DeliveryState.DUE, False),
        (DeliveryState.ACKED, True),
        (DeliveryState.EXHAUSTED, True),
    ],
)
def test_a_result_that_may_still_be_delivered_stays(store: Store, delivery: Any, goes: bool) -> None:
    seq = at(store, TaskState.SUCCEEDED, webhook=HOOK)
    (due,) = store.due_deliveries(10)
    if delivery is not None:
        do(store, base.ClaimDelivery(id=due.id))
    if isinstance(delivery, DeliveryState):
        do(store, end_delivery(due.id, delivery))
    assert purge(store).count == int(goes)
    assert (store.finished_task(seq) is None) is goes


def test_a_result_that_was_delivered_late_is_kept_from_then_on(store: Store) -> None:
    at(store, TaskState.SUCCEEDED, webhook=HOOK)
    (due,) = store.due_deliveries(10)
    do(store, base.ClaimDelivery(id=due.id))
    do(store, end_delivery(due.id, DeliveryState.ACKED, now_ms=500))
    assert purge(store, 500).count == 0
    assert purge(store, 501).count == 1


def test_nothing_is_left_of_what_goes(store: Store, tmp_path: Path) -> None:
    seq = at(store, TaskState.SUCCEEDED, webhook=HOOK)
    (due,) = store.due_deliveries(10)
    do(store, base.ClaimDelivery(id=due.id))
    do(store, end_delivery(due.id, DeliveryState.DUE), base.ClaimDelivery(id=due.id))
    do(store, end_delivery(due.id, DeliveryState.ACKED))
    do(store, submit("again"), lease(seq + 1))
    do(store, base.ReturnTask(seq=seq + 1, fence=1, strike=True, next_ms=None, now_ms=30, reason="lost"))
    do(store, lease(seq + 1, 1), finish(seq + 1, 2))
    assert purge(store).count == 2
    rows: Any = store._rows  # type: ignore[attr-defined] - of the SQLite store
    for table in ("task", "task_input", "task_output", "attempt", "delivery", "delivery_attempt"):
        assert rows(f"SELECT count(*) FROM {table}") == [(0,)], table


def test_it_goes_in_portions_over_open_tasks_and_stops_at_the_first_young_one(store: Store) -> None:
    for number in range(10):
        do(store, submit(f"t{number}", now_ms=number))
        if number % 3:
            do(store, lease(number + 1), finish(number + 1, now_ms=20))
    do(store, submit("young", now_ms=1_000), lease(11), finish(11, now_ms=1_001))
    first = purge(store, 1_000, limit=4)
    assert first == Purged(2, 4)
    second = purge(store, 1_000, after_seq=4, limit=4)
    assert second == Purged(3, 8)
    assert purge(store, 1_000, after_seq=8, limit=4) == Purged(1, None)
    assert ids(store) == ["t0", "t3", "t6", "t9", "young"]
    assert counted(store) == {TaskState.QUEUED: 4, TaskState.SUCCEEDED: 1}


def test_a_seq_is_not_given_again_after_the_newest_task_went(open_store: Opener, tmp_path: Path) -> None:
    opened = open_store(tmp_path)
    opened.recover(0)
    seq = at(opened, TaskState.SUCCEEDED)
    assert purge(opened).count == 1
    opened.close()
    opened = open_store(tmp_path)
    opened.recover(0)
    try:
        assert do(opened, submit("next")).seq > seq
    finally:
        opened.close()


def test_a_task_id_is_free_again_after_its_task_went(store: Store) -> None:
    at(store, TaskState.SUCCEEDED)
    purge(store)
    assert do(store, submit("t", input=b"2")).known is False


@pytest.mark.parametrize("status", WorkerStatus)
@pytest.mark.parametrize("before_ms", [6, 7])
def test_workers_go_when_they_have_been_gone_for_long(store: Store, status: WorkerStatus, before_ms: int) -> None:
    do(store, base.PutWorker(worker(status=status, updated_ms=6)))
    goes = status is WorkerStatus.TERMINATED and before_ms > 6
    assert purge_gone(store, before_ms) == int(goes)
    assert (store.worker(7) is None) is goes


@pytest.mark.parametrize(("delivery", "goes"), [(None, False), (DeliveryState.DUE, False), (DeliveryState.ACKED, True)])
def test_a_worker_whose_end_is_still_to_be_told_stays(store: Store, delivery: DeliveryState | None, goes: bool) -> None:
    due = do(store, base.PutWorker(worker(status=WorkerStatus.TERMINATED), HOOK, b"{}"))
    if delivery is not None:
        do(store, base.ClaimDelivery(id=due.id), end_delivery(due.id, delivery))
    assert purge_gone(store) == int(goes)
    assert (store.worker(7) is None) is goes


def test_workers_go_in_portions(store: Store) -> None:
    for number in range(5):
        do(store, base.PutWorker(worker(number + 1, WorkerStatus.TERMINATED)))
    assert [purge_gone(store, limit=2) for _ in range(4)] == [2, 2, 1, 0]


def test_a_deleted_endpoint_goes_with_the_last_that_it_left(store: Store) -> None:
    seq = at(store, TaskState.QUEUED)
    do(store, base.PutWorker(worker(status=WorkerStatus.TERMINATED)))
    do(store, base.DropEndpoint(1))
    rows: Any = store._rows  # type: ignore[attr-defined] - of the SQLite store
    assert purge_gone(store) == 1  # the worker
    assert rows("SELECT count(*) FROM endpoint") == [(1,)]
    do(store, base.FailOpenTasks(endpoint_id=1, error="gone", limit=10, now_ms=30))
    assert purge(store).count == 1
    assert purge_gone(store) == 1
    assert rows("SELECT count(*) FROM endpoint") == [(0,)]
    assert store.finished_task(seq) is None


def test_an_endpoint_that_is_not_deleted_never_goes(store: Store) -> None:
    assert purge_gone(store) == 0
    assert len(store.endpoints()) == 1


_TASKS = st.lists(
    st.tuples(st.integers(0, 20), st.sampled_from(["open", "leased", "waiting", "failed", "due", "acked", "given up"])),
    max_size=14,
)


@settings(max_examples=25, deadline=None)
@given(tasks=_TASKS, before_ms=st.integers(0, 40), portion=st.integers(1, 30))
def test_what_stays_is_what_must_stay_and_the_counters_know_it(
    tmp_path_factory: pytest.TempPathFactory, tasks: list[tuple[int, str]], before_ms: int, portion: int
) -> None:
    store = STORES["sqlite"](tmp_path_factory.mktemp("store"))
    store.recover(0)
    try:
        stays = _fill(store, tasks, before_ms)
        after_seq: int | None = 0
        gone = 0
        while after_seq is not None:
            purged = purge(store, before_ms, after_seq=after_seq, limit=portion)
            gone += purged.count
            after_seq = purged.next_seq
        assert ids(store) == stays
        assert gone == len(tasks) - len(stays)
        listed: dict[TaskState, int] = {}
        for task in store.tasks(1, EVERY_STATE, 0, 1_000):
            listed[task.state] = listed.get(task.state, 0) + 1
        assert counted(store) == listed
    finally:
        store.close()


def _fill(store: Store, tasks: list[tuple[int, str]], before_ms: int) -> list[str]:
    """Tasks made one after the other, each ended and delivered some time later; the ids of those that must stay."""
    stays: list[str] = []
    made_ms = 0
    for number, (later_ms, fate) in enumerate(tasks):
        seq, end_ms, task_id = number + 1, made_ms + later_ms, f"t{number}"
        webhook = HOOK if fate in {"due", "acked", "given up"} else None
        do(store, submit(task_id, now_ms=made_ms, webhook=webhook))
        done_ms: int | None = None
        if fate != "open":
            do(store, lease(seq, now_ms=made_ms))
        if fate == "waiting":
            do(store, base.ReturnTask(seq=seq, fence=1, strike=True, next_ms=99, now_ms=made_ms))
        if fate in {"failed", "due", "acked", "given up"}:
            state = TaskState.FAILED if fate == "failed" else TaskState.SUCCEEDED
            due = do(store, finish(seq, state=state, now_ms=end_ms)).delivery
            done_ms = end_ms if fate == "failed" else None
            if fate in {"acked", "given up"}:
                done_ms = end_ms + 5
                end = DeliveryState.ACKED if fate == "acked" else DeliveryState.EXHAUSTED
                do(store, base.ClaimDelivery(id=due.id), end_delivery(due.id, end, now_ms=done_ms))
        if done_ms is None or done_ms >= before_ms:
            stays.append(task_id)
        made_ms += number % 2
    return stays


# ---- the sweeps


@pytest.fixture
async def live(tmp_path: Path, anyio_backend: str) -> AsyncIterator[LiveBench]:
    async with LiveBench(tmp_path / "data") as bench:
        bench.workers_then(Call.ok)
        await bench.told("POST", "clock/freeze")
        bench.emulator.retention.start()
        await bench.quiet()
        yield bench


async def one_of_each(live: LiveBench) -> tuple[str, Peer]:
    """An endpoint with an ended, an open, a delivered and an undelivered task."""
    live.network.receiver(9001, then=Call.ok)
    endpoint_id = await live.endpoint()
    await live.submit(endpoint_id, taskId="ended")
    await live.submit(endpoint_id, taskId="delivered", webhook="http://127.0.0.1:9001/")
    live.workers_then(None)
    await live.submit(endpoint_id, taskId="open")
    return endpoint_id, live.driver.workers[0]


async def left(live: LiveBench, endpoint_id: str) -> list[str]:
    items = (await live.get(f"/{endpoint_id}/tasks?pageSize=100"))["items"]
    return sorted(task["taskId"] for task in items)


@pytest.mark.anyio
async def test_ended_tasks_go_after_seven_days_and_open_ones_stay(tmp_path: Path, anyio_backend: str) -> None:
    async with LiveBench(tmp_path / "data", worker_timeout_s=30 * DAY_S) as live:
        live.workers_then(Call.ok)
        await live.told("POST", "clock/freeze")
        live.emulator.retention.start()
        endpoint_id, _ = await one_of_each(live)
        await live.advance(7 * DAY_S - 1)
        assert await left(live, endpoint_id) == ["delivered", "ended", "open"]
        await live.advance(DAY_S)
        assert await left(live, endpoint_id) == ["open"]
        assert await live.get(f"/{endpoint_id}/tasks/count") == {"processing": 1}
        page = await live.get(f"/{endpoint_id}/tasks?status=SUCCESS")
        assert (page["total"], page["pages"]) == (0, 0)
        assert (await live.call("GET", f"/v2/serverless/{endpoint_id}/tasks/ended")).code == 24011
        assert (await live.told("GET", "stats"))["purged_tasks"] == 2


@pytest.mark.anyio
async def test_how_long_is_a_setting(tmp_path: Path, anyio_backend: str) -> None:
    async with LiveBench(tmp_path / "data", retention_days=0.5) as live:
        live.workers_then(Call.ok)
        await live.told("POST", "clock/freeze")
        live.emulator.retention.start()
        endpoint_id = await live.endpoint()
        await live.submit(endpoint_id, taskId="t")
        await live.advance(0.5 * DAY_S)
        assert await left(live, endpoint_id) == ["t"]
        await live.advance(0.1 * DAY_S)
        assert await left(live, endpoint_id) == []


@pytest.mark.anyio
async def test_gone_workers_and_their_lines_go_too(live: LiveBench) -> None:
    endpoint_id = await live.endpoint()
    gone = live.driver.workers[0]
    gone.log("the last words")
    await live.put(f"/{endpoint_id}/workers?count=0")
    await live.quiet()
    logs = f"/{endpoint_id}/workers/{gone.id}/logs"
    assert [line["log"] for line in (await live.get(logs))["logs"]] == ["the last words"]
    await live.advance(6 * DAY_S)
    assert len((await live.get(logs))["logs"]) == 1
    await live.advance(2 * DAY_S)
    assert (await live.call("GET", f"/v2/serverless{logs}")).code == 10007
    assert live.on.logs._streams == {}


@pytest.mark.anyio
async def test_a_deleted_endpoint_leaves_nothing_in_the_end(live: LiveBench) -> None:
    endpoint_id, _ = await one_of_each(live)
    await live.delete(f"/{endpoint_id}")
    await live.quiet()
    assert live.sql("SELECT count(*) FROM endpoint") == [(1,)]
    await live.advance(8 * DAY_S)
    for table in ("endpoint", "task", "worker", "delivery", "task_count", "task_block"):
        assert live.sql(f"SELECT count(*) FROM {table}") == [(0,)], table


@pytest.mark.anyio
async def test_many_tasks_go_in_portions_that_let_others_in_between(live: LiveBench) -> None:
    endpoint_id = await live.endpoint()
    for number in range(25):
        await live.submit(endpoint_id, taskId=f"t{number}")
    seen: list[int] = []
    apply = live.store.apply

    def watching(batch: Any) -> Any:
        outcomes = apply(batch)
        seen.extend(outcome.count for outcome in outcomes if isinstance(outcome, Purged))
        return outcomes

    live.store.apply = watching  # type: ignore[method-assign]
    with changed(retention, SWEEP_PORTION=10):
        await live.advance(8 * DAY_S)
    assert await left(live, endpoint_id) == []
    assert [count for count in seen if count] == [10, 10, 5]


@pytest.mark.anyio
async def test_a_sweep_that_the_store_refuses_is_made_up_for_by_the_next(live: LiveBench) -> None:
    endpoint_id = await live.endpoint()
    await live.submit(endpoint_id, taskId="t")
    apply, failures = live.store.apply, iter(range(3))

    def failing(batch: Any) -> Any:
        if any(isinstance(command, PurgeTasks) for command in batch) and next(failures, None) is not None:
            raise base.StoreError("The disk is full, says the test.")
        return apply(batch)

    live.store.apply = failing  # type: ignore[method-assign]
    await live.advance(8 * DAY_S)
    assert await left(live, endpoint_id) == []


@pytest.mark.anyio
async def test_a_server_that_ends_ends_its_sweep(live: LiveBench) -> None:
    live.emulator.retention.start()
    await asyncio.wait_for(live.close(), 10)
