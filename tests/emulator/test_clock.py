import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.harness import Call, changed, run
from tests.emulator.live import LiveBench
from yottabench.clock import LoopClock
from yottabench.emulator import settling
from yottabench.emulator.store.base import EndDelivery, RequeueTask, StoreError

pytestmark = pytest.mark.anyio
HOOK = "http://127.0.0.1:9000/hook"
MINUTE_MS = 60_000


@pytest.fixture
async def live(tmp_path: Path, anyio_backend: str) -> AsyncIterator[LiveBench]:
    async with LiveBench(tmp_path / "data") as bench:
        yield bench


async def nothing() -> None:
    await asyncio.sleep(0)


def refuse(call: Call) -> None:
    call.reply(500)


# ---- the clock alone


async def test_timers_run_in_the_order_of_their_times_each_at_its_own_time() -> None:
    clock = LoopClock(asyncio.get_running_loop())
    await clock.freeze()
    start_ms = clock.now_ms()
    seen: list[tuple[str, int]] = []
    for name, after_ms in (("c", 900), ("a", 10), ("b", 900), ("late", 1_001)):
        clock.call_at(start_ms + after_ms, lambda name=name: seen.append((name, clock.now_ms() - start_ms)))
    await clock.advance(1_000, nothing)
    assert seen == [("a", 10), ("c", 900), ("b", 900)]
    assert clock.now_ms() == start_ms + 1_000


async def test_what_is_booked_on_the_way_is_met_on_the_way() -> None:
    clock = LoopClock(asyncio.get_running_loop())
    await clock.freeze()
    start_ms = clock.now_ms()
    seen: list[int] = []

    def again() -> None:
        seen.append(clock.now_ms() - start_ms)
        clock.call_at(clock.now_ms() + 100, again)

    again()
    await clock.advance(350, nothing)
    assert seen == [0, 100, 200, 300]


async def test_a_cancelled_timer_does_not_run() -> None:
    clock = LoopClock(asyncio.get_running_loop())
    seen: list[str] = []
    timer = clock.call_at(clock.now_ms() + 10, lambda: seen.append("ran"))
    timer.cancel()
    await clock.advance(1_000, nothing)
    assert not seen


async def test_time_stands_still_while_something_settles() -> None:
    clock = LoopClock(asyncio.get_running_loop())
    times: list[int] = []

    async def look() -> None:
        times.append(clock.now_ms())
        await asyncio.sleep(0.005)
        times.append(clock.now_ms())

    await clock.advance(0, look)
    assert times[0] == times[1]


async def test_frozen_time_stands_and_passes_again_from_there() -> None:
    clock = LoopClock(asyncio.get_running_loop())
    ran = asyncio.Event()
    await clock.freeze()
    frozen_ms = clock.now_ms()
    clock.call_at(frozen_ms + 3, ran.set)
    await asyncio.sleep(0.01)
    assert clock.now_ms() == frozen_ms
    assert not ran.is_set()
    assert clock.ahead_ms < 0
    await clock.thaw()
    assert clock.now_ms() >= frozen_ms
    await asyncio.wait_for(ran.wait(), 10)
    assert clock.now_ms() >= frozen_ms + 3


async def test_what_is_due_when_time_passes_again_runs_then() -> None:
    clock = LoopClock(asyncio.get_running_loop())
    ran = asyncio.Event()
    await clock.freeze()
    clock.call_at(clock.now_ms(), ran.set)
    await nothing()
    assert not ran.is_set()
    await clock.thaw()
    await asyncio.wait_for(ran.wait(), 10)


async def test_an_advance_within_a_freeze_stays_frozen_and_freezing_twice_is_harmless() -> None:
    clock = LoopClock(asyncio.get_running_loop())
    await clock.freeze()
    await clock.freeze()
    before_ms = clock.now_ms()
    await clock.advance(5_000, nothing)
    assert clock.frozen
    assert clock.now_ms() == before_ms + 5_000
    await clock.thaw()
    await clock.thaw()
    assert not clock.frozen


async def test_advances_come_one_after_the_other() -> None:
    clock = LoopClock(asyncio.get_running_loop())
    await clock.freeze()
    before_ms = clock.now_ms()
    await asyncio.gather(*(clock.advance(1_000, nothing) for _ in range(5)))
    assert clock.now_ms() == before_ms + 5_000


async def test_an_advance_that_does_not_settle_ends_where_time_stands() -> None:
    clock = LoopClock(asyncio.get_running_loop())
    await clock.freeze()
    start_ms = clock.now_ms()
    stuck: list[bool] = []
    clock.call_at(start_ms + 400, lambda: stuck.append(True))

    async def settle() -> None:
        await nothing()
        if stuck:
            raise settling.NotSettled("stuck")

    with pytest.raises(settling.NotSettled):
        await clock.advance(1_000, settle)
    assert clock.now_ms() == start_ms + 400
    await clock.thaw()


async def test_time_never_goes_back() -> None:
    clock = LoopClock(asyncio.get_running_loop())
    with pytest.raises(ValueError, match="only moves forward"):
        await clock.advance(-1, nothing)


@settings(max_examples=50, deadline=None)
@given(steps=st.lists(st.sampled_from(["freeze", "thaw", "advance", "wait"]), max_size=12))
def test_no_step_ever_makes_time_smaller(steps: list[str]) -> None:
    async def whole() -> None:
        clock = LoopClock(asyncio.get_running_loop())
        last_ms = clock.now_ms()
        for step in steps:
            if step == "advance":
                await clock.advance(7, nothing)
            elif step == "wait":
                await nothing()
            else:
                await getattr(clock, step)()
            now_ms = clock.now_ms()
            assert now_ms >= last_ms
            last_ms = now_ms

    run(whole)


# ---- the emulator under it


async def test_the_whole_ladder_of_a_webhook_runs_at_0_1_6_and_21_minutes(live: LiveBench) -> None:
    receiver = live.network.receiver(then=refuse)
    live.workers_then(Call.ok)
    await live.told("POST", "clock/freeze")
    endpoint_id = await live.endpoint()
    task_id = await live.submit(endpoint_id, webhook=HOOK)
    await live.advance(21 * 60)
    (delivery,) = (await live.told("GET", f"deliveries?endpointId={endpoint_id}&taskId={task_id}"))["deliveries"]
    first_ms = delivery["attempts"][0]["startedMs"]
    assert [attempt["startedMs"] - first_ms for attempt in delivery["attempts"]] == [
        0,
        1 * MINUTE_MS,
        6 * MINUTE_MS,
        21 * MINUTE_MS,
    ]
    assert delivery["state"] == "EXHAUSTED"
    assert [call.json["retry_count"] for call in receiver.all_calls] == [1, 2, 3, 4]
    task = await live.task(endpoint_id, task_id)
    assert (task["deliveryStatus"], task["deliveryAttempts"]) == ("MAX_RETRIES_EXCEEDED", 4)


@pytest.mark.parametrize(("seconds", "sends"), [(59.999, 1), (60, 2), (359.999, 2), (360, 3), (1259.999, 3), (1260, 4)])
async def test_nothing_runs_before_it_is_due(live: LiveBench, seconds: float, sends: int) -> None:
    receiver = live.network.receiver(then=refuse)
    live.workers_then(Call.ok)
    await live.told("POST", "clock/freeze")
    await live.submit(await live.endpoint(), webhook=HOOK)
    await live.advance(seconds)
    assert len(receiver.all_calls) == sends


async def test_deliveries_of_many_tasks_run_in_the_order_of_their_times(live: LiveBench) -> None:
    receiver = live.network.receiver(then=refuse)
    live.workers_then(Call.ok)
    await live.told("POST", "clock/freeze")
    endpoint_id = await live.endpoint()
    for number in range(5):
        await live.submit(endpoint_id, webhook=HOOK, taskId=f"t{number}")
        await live.advance(7)
    await live.advance(3_600)
    sends = [(call.json["timestamp"], call.json["user_task_id"]) for call in receiver.all_calls]
    assert len(sends) == 20
    assert [sent_at for sent_at, _ in sends] == sorted(sent_at for sent_at, _ in sends)


async def test_a_task_in_the_hands_of_a_worker_does_not_hold_an_advance_up(live: LiveBench) -> None:
    endpoint_id = await live.endpoint()
    task_id = await live.submit(endpoint_id)
    await live.advance(600)
    assert (await live.task(endpoint_id, task_id))["status"] == "PROCESSING"
    live.driver.calls[0].ok()
    await live.quiet()
    assert (await live.task(endpoint_id, task_id))["status"] == "SUCCESS"


async def test_a_lease_that_is_over_by_then_ends_and_the_task_is_tried_again(live: LiveBench) -> None:
    await live.told("POST", "clock/freeze")
    endpoint_id = await live.endpoint()
    task_id = await live.submit(endpoint_id)
    await live.advance(3_599)
    assert len((await live.told("GET", f"tasks/{endpoint_id}/{task_id}/attempts"))["attempts"]) == 1
    await live.advance(1 + 60)
    first, second = (await live.told("GET", f"tasks/{endpoint_id}/{task_id}/attempts"))["attempts"]
    assert first["endedMs"] - first["leasedMs"] == 3_600_000
    assert (first["outcome"], second["outcome"]) == ("RETURNED", "RUNNING")
    assert "before its lease ended" in first["reason"]


async def test_a_late_answer_of_an_ended_lease_changes_nothing(live: LiveBench) -> None:
    endpoint_id = await live.endpoint()
    task_id = await live.submit(endpoint_id)
    (late,) = live.driver.calls
    await live.advance(3_700)
    late.ok(b'"late"')
    await live.quiet()
    assert (await live.task(endpoint_id, task_id))["status"] == "PROCESSING"


async def test_four_leases_that_end_fail_the_task(live: LiveBench) -> None:
    endpoint_id = await live.endpoint()
    task_id = await live.submit(endpoint_id)
    await live.advance(5 * 3_600)
    task = await live.task(endpoint_id, task_id)
    assert task["status"] == "FAILED"
    assert "4 attempts" in task["error"]


async def test_a_crashed_worker_is_replaced_after_its_wait_without_waiting(live: LiveBench) -> None:
    await live.told("POST", "clock/freeze")
    await live.endpoint()
    for _ in range(2):  # the first is replaced at once
        live.driver.alive[0].die()
        await live.quiet()
    assert not live.driver.alive
    await live.advance(1)
    assert len(live.driver.alive) == 1


async def test_a_store_that_fails_for_a_while_does_not_stop_time(live: LiveBench, monkeypatch: Any) -> None:
    live.network.receiver(then=refuse)
    live.workers_then(Call.ok)
    endpoint_id = await live.endpoint()
    task_id = await live.submit(endpoint_id, webhook=HOOK)
    apply, failures = live.store.apply, iter(range(3))

    def failing(batch: Any) -> Any:
        if (
            any(isinstance(command, EndDelivery | RequeueTask) for command in batch)
            and next(failures, None) is not None
        ):
            raise StoreError("The disk is full, says the test.")
        return apply(batch)

    monkeypatch.setattr(live.store, "apply", failing)
    await live.advance(22 * 60)
    assert (await live.task(endpoint_id, task_id))["deliveryAttempts"] == 4


async def test_what_does_not_settle_is_named_and_time_says_where_it_stands(live: LiveBench) -> None:
    receiver = live.network.receiver(then=refuse)
    live.workers_then(Call.ok)
    await live.submit(await live.endpoint(), webhook=HOOK)
    receiver.then = None
    with changed(settling, SETTLE_TIMEOUT_S=0.02):
        reply = await live.ask("POST", "clock/advance", {"seconds": 3_600})
    assert reply.http_status == 503
    assert "webhooks" in reply.message
    assert "ms further" in reply.message
    receiver.calls[0].ok()


@pytest.mark.parametrize("seconds", [-1, -0.001, "60", None, True, 31_622_401, [60], float("inf")])
async def test_an_impossible_advance_is_refused(live: LiveBench, seconds: Any) -> None:
    reply = await live.ask("POST", "clock/advance", {"seconds": seconds})
    assert (reply.http_status, reply.code) == (400, 10001)


@pytest.mark.parametrize("body", [None, {}, {"seconds": 1, "minutes": 1}, [], b"{"])
async def test_an_advance_says_seconds_and_nothing_else(live: LiveBench, body: Any) -> None:
    assert (await live.ask("POST", "clock/advance", body)).code == 10001


async def test_the_clock_tells_how_it_stands(live: LiveBench) -> None:
    assert (await live.told("GET", "clock"))["frozen"] is False
    frozen = await live.told("POST", "clock/freeze")
    assert frozen["frozen"] is True
    advanced = await live.told("POST", "clock/advance", {"seconds": 90.5})
    assert advanced["nowMs"] == frozen["nowMs"] + 90_500
    assert 90_000 < advanced["aheadMs"] <= 90_500
    assert (await live.told("POST", "clock/thaw"))["frozen"] is False


async def test_a_month_can_pass_at_once_with_every_sweep_on_its_way(live: LiveBench) -> None:
    live.emulator.retention.start()
    await live.advance(31 * 24 * 3_600)


async def test_a_year_is_as_much_as_can_pass_at_once(live: LiveBench) -> None:
    await live.advance(366 * 24 * 3_600)
