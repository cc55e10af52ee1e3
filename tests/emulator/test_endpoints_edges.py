"""The edges of endpoints and their workers: what a worker is told, how many there are at a time, what is counted."""

import asyncio
import gc
import logging
import ssl
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.emulator.harness import ROOT, Bench, FakeWorker, changed, create_body, settle, until
from tests.emulator.test_endpoints import act, status
from yottabench.emulator import http1, workers
from yottabench.emulator.codes import ApiError
from yottabench.emulator.drivers.base import WorkerSpec, WorkerStartError
from yottabench.emulator.endpoints import RESTART_WAITS_MS, STEADY_AFTER_MS, Endpoint
from yottabench.emulator.limits import OUTPUT_MAX_BYTES, STORE_RETRY_MS
from yottabench.emulator.places import Places
from yottabench.emulator.store.base import EndpointStatus, PutWorker, WorkerStatus
from yottabench.emulator.workers import KILL_AFTER_S, HttpCaller, Worker

pytestmark = pytest.mark.anyio

MakeBench = Callable[..., Bench]
EXPOSE = {"port": 8000, "protocol": "http"}
HOOK = "http://127.0.0.1:9000/hook"


@pytest.fixture(autouse=True)
def nothing_breaks_down(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """An endpoint that stumbles tries again, so that most of what it does comes right all the same."""
    yield
    assert [record.getMessage() for record in caplog.get_records("call") if record.exc_info] == []


def at_work(bench: Bench, endpoint_id: str) -> Endpoint:
    return bench.api.endpoints[int(endpoint_id)]


def told_to_stop(bench: Bench, endpoint_id: str) -> list[Worker]:
    return [worker for worker in at_work(bench, endpoint_id).live_workers if worker.leaving]


def crash(bench: Bench) -> None:
    bench.driver.alive[0].die()


async def waited_ms(bench: Bench) -> int:
    """How long it takes until a worker is started."""
    before, since_ms = len(bench.driver.workers), bench.clock.ms
    await settle()
    while len(bench.driver.workers) == before:
        await bench.clock.advance(0.1)
    return bench.clock.ms - since_ms


async def fail(bench: Bench) -> None:
    """Let its one worker end until the endpoint is FAILED."""
    for _ in RESTART_WAITS_MS:
        crash(bench)
        await bench.clock.advance(60 - 0.001)
    crash(bench)
    await settle()


# ---- what a worker is told


async def test_a_worker_is_told_all_that_its_driver_can_use(make_bench: MakeBench) -> None:
    bench = make_bench(seed=7)
    await settle()
    changes = {
        "image": "mine/own:2",
        "imageRegistry": "registry.example",
        "initializationCommand": "prepare",
        "environmentVars": [{"key": "A", "value": "1"}],
        "expose": EXPOSE,
        "resources": [{"region": "r", "gpuType": "NVIDIA_L4_24G", "gpuCount": 2}],
    }
    endpoint_id = await bench.endpoint(**changes)
    (worker,) = bench.driver.workers
    told = WorkerSpec(
        worker_id=worker.id,
        endpoint_id=endpoint_id,
        image="mine/own:2",
        port=8000,
        protocol="http",
        env={"A": "1"},
        command="prepare",
        seed=zlib.crc32(f"7/{worker.id}".encode()),
        registry="registry.example",
        gpus=2,
    )
    assert worker.spec == told
    await bench.call("PATCH", f"{ROOT}/{endpoint_id}", create_body(environmentVars=[{"key": "A", "value": "2"}]))
    await settle()
    assert [each.spec.replacing for each in bench.driver.workers] == [False, True]
    bare = await bench.endpoint()
    assert [(each.spec.port, each.spec.protocol) for each in bench.driver.alive if each.spec.endpoint_id == bare] == [
        (None, None)
    ]


async def test_what_a_worker_says_is_in_its_log(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    (worker,) = bench.driver.workers
    worker.log("hello")
    shown = await bench.get(f"/{endpoint_id}/workers/{worker.id}/logs")
    assert [entry["log"] for entry in shown["logs"]] == ["hello"]


async def test_only_an_alb_endpoint_has_a_domain(make_bench: MakeBench) -> None:
    near, far = make_bench(port=8123), make_bench(gateway_domain="gw.example")
    await settle()
    alb = {"serviceMode": "ALB", "expose": EXPOSE}
    endpoint_id = await near.endpoint(**alb)
    assert (await near.get(f"/{endpoint_id}"))["domain"] == f"{endpoint_id}.localhost:8123"
    endpoint_id = await far.endpoint(**alb)
    assert (await far.get(f"/{endpoint_id}"))["domain"] == f"{endpoint_id}.gw.example"
    assert (await far.get(f"/{await far.endpoint()}"))["domain"] is None


# ---- how many there are at a time


@pytest.mark.parametrize("busy", [False, True])
async def test_workers_are_replaced_one_by_one_with_one_more_than_asked_for(bench: Bench, busy: bool) -> None:
    endpoint_id = await bench.endpoint(workers=3)
    for _ in range(3 if busy else 0):
        await bench.submit(endpoint_id)
    bench.driver.by_hand = True
    await bench.call("PATCH", f"{ROOT}/{endpoint_id}", create_body(workers=3, containerVolumeInGb=21))
    seen = []
    for _ in range(4):
        await settle()
        staying = [each for each in at_work(bench, endpoint_id).live_workers if not each.leaving]
        outdated = sum(each.outdated for each in staying)
        seen.append((outdated, len(staying) - outdated))
        bench.driver.workers[-1].become_ready()
    assert seen == [(3, 1), (2, 2), (1, 3), (0, 3)]
    assert len(bench.driver.workers) == 6


async def test_while_all_places_are_taken_an_old_worker_makes_room_for_each_new_one(make_bench: MakeBench) -> None:
    bench = make_bench(max_workers_total=3)
    await settle()
    endpoint_id = await bench.endpoint(workers=3)
    bench.driver.by_hand = True
    await bench.call("PATCH", f"{ROOT}/{endpoint_id}", create_body(workers=3, containerVolumeInGb=21))
    seen = []
    for _ in range(4):
        await settle()
        live = at_work(bench, endpoint_id).live_workers
        seen.append((sum(each.outdated for each in live), sum(not each.outdated for each in live)))
        bench.driver.workers[-1].become_ready()
    assert seen == [(2, 2), (1, 3), (0, 3), (0, 3)]
    assert bench.sql("SELECT count(*) FROM worker") == [(6,)]


async def test_while_an_old_worker_makes_room_no_second_new_one_is_hired(make_bench: MakeBench) -> None:
    bench = make_bench(max_workers_total=3)
    await settle()
    endpoint_id = await bench.endpoint(workers=3)
    for _ in range(3):
        await bench.submit(endpoint_id)  # in hand, so that who is told to go is not gone at once
    for name in ("changed", "looked-at-again"):
        await bench.call("PATCH", f"{ROOT}/{endpoint_id}", create_body(name=name, workers=3, containerVolumeInGb=21))
        await settle()
    live = at_work(bench, endpoint_id).live_workers
    assert sorted((each.outdated, each.leaving) for each in live) == [
        (False, False),
        *[(True, False)] * 2,
        (True, True),
    ]


async def test_those_not_ready_go_first_and_then_the_young(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=3)
    bench.driver.by_hand = True
    await bench.put(f"/{endpoint_id}/workers?count=4")
    await settle()
    oldest, *_ = started = list(bench.driver.workers)
    await bench.put(f"/{endpoint_id}/workers?count=3")
    await settle()
    assert bench.driver.alive == started[:3]
    await bench.put(f"/{endpoint_id}/workers?count=1")
    await settle()
    assert bench.driver.alive == [oldest]


async def test_a_worker_has_drain_s_for_what_it_has_in_hand_and_then_a_moment_to_end(make_bench: MakeBench) -> None:
    bench = make_bench(drain_s=0.01)
    await settle()
    endpoint_id = await bench.endpoint(workers=2)
    await bench.submit(endpoint_id)
    busy, idle = sorted(bench.driver.workers, key=lambda each: not each.calls)
    await act(bench, endpoint_id, "stop")
    assert (idle.stops, idle.killed) == ([KILL_AFTER_S], False)
    await until(lambda: busy.killed)


async def test_a_worker_that_was_told_to_go_takes_no_other_task(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    for task_id in ("in_hand", "queued"):
        await bench.submit(endpoint_id, taskId=task_id)
    await act(bench, endpoint_id, "stop")
    bench.driver.calls[0].ok()
    await settle()
    assert [call.task_id for call in bench.driver.all_calls] == ["in_hand"]
    assert await bench.get(f"/{endpoint_id}/tasks/count") == {"processing": 1}


async def test_a_worker_that_was_told_to_go_before_it_was_started_never_is(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    bench.writer.refuse_those[PutWorker] = 1
    for count in (1, 0):
        await bench.put(f"/{endpoint_id}/workers?count={count}")
        await settle()
    await bench.clock.advance(1)
    assert bench.driver.workers == []
    assert bench.sql("SELECT status, reason FROM worker") == [(int(WorkerStatus.TERMINATED), "stopped")]


async def test_a_worker_that_was_told_to_go_as_it_became_ready_gets_no_task(bench: Bench) -> None:
    bench.driver.by_hand = True
    endpoint_id = await bench.endpoint()
    await bench.submit(endpoint_id)
    bench.writer.refuse_those[PutWorker] = 1
    bench.driver.workers[0].become_ready()
    await settle()
    await act(bench, endpoint_id, "stop")
    await bench.clock.advance(1)
    assert bench.driver.all_calls == []
    assert bench.driver.alive == []
    assert await status(bench, endpoint_id) == "STOPPED"


# ---- what is counted


async def test_cost_is_of_the_time_in_which_a_worker_was_ready_and_adds_up(bench: Bench) -> None:
    bench.driver.by_hand = True
    resources = [{"region": "r", "gpuType": "NVIDIA_H100_80G", "gpuCount": 1}]
    endpoint_id = await bench.endpoint(resources=resources, containerVolumeInGb=150)
    endpoint = at_work(bench, endpoint_id)
    await bench.clock.advance(3600)
    assert endpoint.spent_usd == 0
    bench.driver.workers[0].become_ready()
    await bench.clock.advance(1800)
    assert endpoint.spent_usd == pytest.approx(1.0, rel=1e-9)
    for spent in (1.0, 2.0):
        await act(bench, endpoint_id, "stop")
        assert endpoint.spent_usd == pytest.approx(spent, rel=1e-9)
        await act(bench, endpoint_id, "start")
        bench.driver.workers[-1].become_ready()
        await bench.clock.advance(1800)
    assert endpoint.spent_usd == pytest.approx(3.0, rel=1e-9)


async def test_every_change_is_written_down_with_its_time(bench: Bench) -> None:
    bench.driver.by_hand = True
    endpoint_id = await bench.endpoint()
    start_ms = bench.clock.ms
    worker = "SELECT status, created_ms - ?1, updated_ms - ?1 FROM worker"
    assert bench.sql(worker, start_ms) == [(int(WorkerStatus.INITIALIZING), 0, 0)]
    await bench.clock.advance(1)
    bench.driver.workers[0].become_ready()
    await settle()
    assert bench.sql(worker, start_ms) == [(int(WorkerStatus.RUNNING), 0, 1000)]
    (record,) = bench.store.endpoints()
    assert (record.status, record.updated_ms - start_ms) == (EndpointStatus.RUNNING, 1000)
    await bench.clock.advance(1)
    await bench.submit(endpoint_id)
    await bench.post(f"/{endpoint_id}/stop")
    await settle()
    assert bench.sql(worker, start_ms) == [(int(WorkerStatus.STOPPING), 0, 2000)]
    assert at_work(bench, endpoint_id).record.updated_ms - start_ms == 2000
    (record,) = bench.store.endpoints()
    assert (record.status, record.updated_ms - start_ms) == (EndpointStatus.STOPPING, 2000)
    await bench.clock.advance(1)
    bench.driver.calls[0].ok()
    await settle()
    assert bench.sql(worker, start_ms) == [(int(WorkerStatus.TERMINATED), 0, 3000)]
    assert bench.sql("SELECT reason FROM worker") == [("stopped",)]
    (record,) = bench.store.endpoints()
    assert (record.status, record.updated_ms - start_ms) == (EndpointStatus.STOPPED, 3000)


async def test_what_leaves_the_status_as_it_is_writes_nothing_down(bench: Bench) -> None:
    await bench.endpoint(workers=2)
    (before,) = bench.store.endpoints()
    await bench.clock.advance(1)
    crash(bench)
    await settle()
    assert len(bench.driver.workers) == 3
    assert bench.store.endpoints() == [before]


async def test_the_waits_begin_anew_after_a_steady_worker_and_after_a_start(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    for _ in range(3):
        crash(bench)
        await waited_ms(bench)
    await bench.clock.advance(STEADY_AFTER_MS / 1000)
    crash(bench)
    assert await waited_ms(bench) == 0
    crash(bench)
    assert await waited_ms(bench) == 500
    await bench.clock.advance(STEADY_AFTER_MS / 1000 - 0.001)
    crash(bench)
    assert await waited_ms(bench) == 1_000
    await act(bench, endpoint_id, "start")
    crash(bench)
    assert await waited_ms(bench) == 0
    crash(bench)
    assert await waited_ms(bench) == 500


async def test_an_endpoint_that_failed_is_written_down_and_its_crashes_are_counted(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    await fail(bench)
    assert await status(bench, endpoint_id) == "FAILED"
    assert bench.on.stats.counts["worker_crashes"] == len(RESTART_WAITS_MS) + 1
    (record,) = bench.store.endpoints()
    assert record.status is EndpointStatus.FAILED


async def test_an_endpoint_that_fails_while_a_change_of_it_is_written_stays_failed(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    for _ in RESTART_WAITS_MS:
        crash(bench)
        await bench.clock.advance(10)
    bench.writer.held = True
    crash(bench)
    await settle()
    # The end of its worker is written, and while that sinks in the change is under way already.
    bench.writer.let_go()
    asyncio.get_running_loop().call_soon(setattr, bench.writer, "held", True)
    change = asyncio.ensure_future(bench.call("PUT", f"{ROOT}/{endpoint_id}/workers?count=2"))
    await settle()
    assert at_work(bench, endpoint_id).record.status is EndpointStatus.FAILED
    assert not change.done()
    bench.writer.let_go()
    assert (await change).code == 10000
    await settle()
    shown = await bench.get(f"/{endpoint_id}")
    assert (shown["status"], shown["totalWorkers"]) == ("FAILED", 2)
    (record,) = bench.store.endpoints()
    assert (record.status, record.spec.workers) == (EndpointStatus.FAILED, 2)


async def test_a_pass_that_breaks_down_is_made_again_after_a_while(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint_id = await bench.endpoint()
    endpoint = at_work(bench, endpoint_id)
    with monkeypatch.context() as once:
        once.setattr(endpoint, "_hire", lambda *_: 1 / 0)
        await bench.put(f"/{endpoint_id}/workers?count=2")
        await settle()
    assert len(caplog.records) == 1
    caplog.clear()
    await bench.clock.advance((STORE_RETRY_MS - 1) / 1000)
    assert len(bench.driver.alive) == 1
    await bench.clock.advance(0.001)
    assert len(bench.driver.alive) == 2


async def test_what_breaks_down_beside_the_passes_is_logged_and_the_endpoint_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint_id = await bench.endpoint(workers=2)

    async def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as once:
        once.setattr(Worker, "leave", broken)
        await bench.put(f"/{endpoint_id}/workers?count=1")
        await settle()
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["a bug"]
    caplog.clear()
    await bench.put(f"/{endpoint_id}/workers?count=2")
    await settle()
    assert len(bench.driver.alive) == 3


async def test_a_worker_that_cannot_be_looked_after_is_ended_and_it_is_said_of_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = bench.network.receiver(then=lambda call: call.reply(200))
    endpoint_id = await bench.endpoint(workers=0, webhook=HOOK)
    bench.driver.by_hand = True
    with monkeypatch.context() as once:
        once.setattr(at_work(bench, endpoint_id), "_past_faults", lambda *_: 1 / 0)
        await bench.put(f"/{endpoint_id}/workers?count=1")
        await bench.clock.advance(2)
        bench.driver.workers[0].become_ready()
        await settle()
    caplog.clear()
    (worker, *_) = bench.driver.workers
    assert worker.killed
    gone = bench.sql("SELECT status, reason, updated_ms FROM worker WHERE id = ?", int(worker.id))
    assert gone == [
        (int(WorkerStatus.TERMINATED), "could not be looked after (ZeroDivisionError)", bench.clock.ms),
    ]
    told = [call.json for call in receiver.all_calls if call.json["worker_id"] == worker.id]
    assert [each["previous_status"] for each in told] == [None, "INITIALIZING"]
    assert bench.on.stats.counts["worker_crashes"] == 1


async def test_why_a_worker_did_not_start_is_written_down(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench.driver.break_next = 1
    endpoint_id = await bench.endpoint()
    reasons = "SELECT reason, updated_ms - created_ms FROM worker WHERE reason IS NOT NULL ORDER BY id"
    assert bench.sql(reasons) == [("The worker exited with code 1 before it answered.", 0)]

    async def broken(_: FakeWorker) -> None:
        raise RuntimeError("a driver with a fault")

    monkeypatch.setattr(FakeWorker, "wait_ready", broken)
    await bench.put(f"/{endpoint_id}/workers?count=2")
    await settle()
    caplog.clear()
    assert bench.sql(reasons)[1] == ("did not start: the driver broke down (RuntimeError)", 0)
    assert bench.driver.workers[-1].killed


# ---- its end


async def test_an_endpoint_that_was_ended_takes_neither_tasks_nor_changes(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    endpoint = at_work(bench, endpoint_id)
    await endpoint.end()
    assert bench.driver.alive == []
    assert not endpoint.takes_tasks
    with pytest.raises(ApiError, match=endpoint_id):
        await endpoint.change(should_run=True)
    with pytest.raises(ApiError, match=endpoint_id):
        await endpoint.delete(lambda: None)


async def test_an_end_leaves_nobody_behind_whatever_its_workers_are_at(make_bench: MakeBench) -> None:
    bench = make_bench(max_workers_total=2)
    await settle()
    ready = await bench.endpoint()
    bench.driver.gate = asyncio.Event()
    await bench.endpoint(workers=2)  # one is started just now, one waits for a place
    resetting = asyncio.ensure_future(bench.call("POST", "/_emulator/reset"))
    await settle()
    assert not resetting.done()
    assert [each.killed for each in bench.driver.workers] == [True]
    bench.driver.gate.set()
    assert (await resetting).http_status == 200
    assert [each.killed for each in bench.driver.workers] == [True, True]
    assert bench.on.places.waiting == 0
    assert (await bench.call("GET", f"{ROOT}/{ready}")).code == 14000


async def test_a_task_of_a_worker_that_is_gone_goes_to_another_at_once(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=2)
    await bench.submit(endpoint_id)
    (busy,) = [worker for worker in bench.driver.workers if worker.calls]
    (idle,) = [worker for worker in bench.driver.workers if not worker.calls]
    (call,) = busy.calls
    busy.exited.set_result("exited with code 1")
    await settle()
    call.lose()
    await settle()
    assert len(idle.calls) == 1


async def test_a_worker_that_leaves_while_it_starts_has_not_ended_before_its_process(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.driver.by_hand = True
    endpoint_id = await bench.endpoint()
    (worker,) = bench.driver.workers
    with monkeypatch.context() as once:
        once.setattr(worker, "kill", lambda: None)
        await act(bench, endpoint_id, "stop")
        worker.become_ready()
        await settle()
        assert bench.sql("SELECT status FROM worker") != [(int(WorkerStatus.TERMINATED),)]
    worker.die()
    await settle()
    assert bench.sql("SELECT status FROM worker") == [(int(WorkerStatus.TERMINATED),)]


async def test_an_end_meets_a_worker_that_fails_to_start(bench: Bench) -> None:
    bench.driver.gate = asyncio.Event()
    await bench.endpoint()
    resetting = asyncio.ensure_future(bench.call("POST", "/_emulator/reset"))
    await settle()
    bench.driver.break_next = 1
    bench.driver.gate.set()
    assert (await resetting).http_status == 200
    assert bench.driver.workers == []


async def test_a_failed_start_that_nobody_waits_for_any_more_is_no_complaint(caplog: pytest.LogCaptureFixture) -> None:
    starting: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    starting.add_done_callback(workers._seen)
    starting.set_exception(WorkerStartError("It has no such image."))
    await settle()
    del starting
    gc.collect()
    assert caplog.records == []


async def test_an_end_does_not_wait_for_ever_for_a_worker_that_is_not_to_be_killed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.endpoint()
    (worker,) = bench.driver.workers
    with monkeypatch.context() as once, changed(workers, KILL_AFTER_S=0.01):
        once.setattr(worker, "kill", lambda: None)
        async with asyncio.timeout(5):
            assert (await bench.call("POST", "/_emulator/reset")).http_status == 200
    assert bench.driver.alive == [worker]


async def test_the_driver_is_chosen_by_the_image(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    with monkeypatch.context() as once:
        once.setattr(bench.driver, "takes", lambda image: asked.append(image) or True)
        await bench.endpoint(image="sim/other")
    assert set(asked) == {"sim/other"}


async def test_only_the_workers_of_a_queue_wait_for_tasks(bench: Bench) -> None:
    routed = await bench.endpoint(serviceMode="ALB", expose=EXPOSE)
    queued = await bench.endpoint()
    assert [len(at_work(bench, each).dispatcher._idle) for each in (routed, queued)] == [0, 1]


# ---- the gateway's way to a worker


async def test_a_new_worker_had_no_turn_yet(bench: Bench) -> None:
    (worker,) = at_work(bench, await bench.endpoint()).live_workers
    assert worker.last_turn == 0


async def test_a_worker_of_an_alb_endpoint_has_in_hand_what_the_gateway_lends_of_it(bench: Bench) -> None:
    bench.driver.by_hand = True
    endpoint_id = await bench.endpoint(serviceMode="ALB", expose=EXPOSE)
    (worker,) = at_work(bench, endpoint_id).live_workers
    assert (worker.takes_requests, worker.in_hand) == (False, 0)
    bench.driver.workers[0].become_ready()
    await settle()
    assert worker.takes_requests
    with worker.request() as first, worker.request() as second:
        assert first is second
        assert worker.in_hand == 2
        await act(bench, endpoint_id, "stop")
        assert not worker.takes_requests
        assert told_to_stop(bench, endpoint_id) == [worker]
    assert worker.in_hand == 0
    await settle()
    assert bench.driver.alive == []
    assert not bench.driver.workers[0].killed


class _Pool:
    """Notes how it was made and what it was asked for."""

    def __init__(self, *address: Any, **settings: Any) -> None:
        self.made = (address, settings)
        self.asked: list[Any] = []
        self.closed = False

    async def request(self, *what: Any, **limits: Any) -> None:
        self.asked.append((what, limits))

    def close(self) -> None:
        self.closed = True


class _Running:
    def address(self, port: int) -> tuple[str, int]:
        return "127.7.7.7", 20_000 + port


async def test_a_worker_has_connections_of_its_own_for_each_port(monkeypatch: pytest.MonkeyPatch) -> None:
    pools: list[_Pool] = []

    def pool(*address: Any, **settings: Any) -> _Pool:
        pools.append(_Pool(*address, **settings))
        return pools[-1]

    monkeypatch.setattr(http1, "Http1Pool", pool)
    monkeypatch.setattr(workers, "StreamPool", pool)
    plain: Any = _Running()
    caller = HttpCaller(plain, 1.5, 7)
    assert caller.url(80) == "http://127.7.7.7:20080"
    for port in (80, 80, 81):
        await caller.post(port, "/run", b"X: 1", b"body")
    tls: Any = _Running()
    tls.tls = context = ssl.create_default_context()
    safe = HttpCaller(tls, 1.5, 7)
    assert safe.url(80) == "https://127.7.7.7:20080"
    await safe.post(80, "/run", b"X: 1", b"body")
    assert [each.made for each in pools] == [
        (("127.7.7.7", 20_080), {"tls": None, "max_idle": 7}),
        (("127.7.7.7", 20_081), {"tls": None, "max_idle": 7}),
        (("127.7.7.7", 20_080), {"tls": context, "max_idle": 7}),
    ]
    call = ((b"POST", b"/run", b"X: 1", b"body"), {"timeout_s": 1.5, "max_body_bytes": OUTPUT_MAX_BYTES})
    assert [each.asked for each in pools] == [[call] * 2, [call], [call]]
    streams: Any = [caller.streams(80), caller.streams(80), caller.streams(81), safe.streams(80)]
    assert [each.made for each in pools[3:]] == [
        (("127.7.7.7", 20_080), {"tls": None}),
        (("127.7.7.7", 20_081), {"tls": None}),
        (("127.7.7.7", 20_080), {"tls": context}),
    ]
    assert streams[0] is streams[1]
    caller.close()
    assert [each.closed for each in pools] == [True, True, False, True, True, False]


async def test_the_way_to_a_worker_follows_the_settings(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=3, worker_timeout_s=12.5)
    await settle()
    endpoint_id = await bench.endpoint()
    await bench.submit(endpoint_id)
    assert [more["max_idle"] for host, _, more in bench.network.pools if host == "127.7.7.7"] == [3]
    (worker,) = at_work(bench, endpoint_id).live_workers
    assert worker._caller is not None
    assert worker._caller._timeout_s == 12.5


async def test_a_fault_strikes_the_worker_the_endpoint_or_the_key_it_is_meant_for(make_bench: MakeBench) -> None:
    bench = make_bench(worker_timeout_s=10)
    await settle()
    bench.driver.then = lambda call: call.ok()
    endpoint_id = await bench.endpoint()
    (worker,) = bench.driver.workers
    for number, struck in enumerate([worker.id, endpoint_id, "*"]):
        rule = {"kind": "error", "worker": struck, "count": 1}
        assert (await bench.call("POST", "/_emulator/faults", rule)).http_status == 200
        task_id = await bench.submit(endpoint_id, taskId=f"t{number}")
        assert (await bench.task(endpoint_id, task_id))["status"] == "FAILED"
    await bench.call("POST", "/_emulator/faults", {"kind": "drop", "worker": worker.id, "count": 1})
    task_id = await bench.submit(endpoint_id)
    await bench.clock.advance(10)
    await bench.clock.advance(1)
    assert (await bench.task(endpoint_id, task_id))["status"] == "SUCCESS"


# ---- places


def test_who_waits_is_warned_of_once_and_a_place_that_nobody_has_frees_none(caplog: pytest.LogCaptureFixture) -> None:
    places = Places(1)
    with caplog.at_level(logging.WARNING):
        had, *waiting = [places.ask(owner) for owner in range(3)]
    assert len(caplog.records) == 1
    waiting[0].release()
    assert (places.waiting, waiting[0].had, waiting[0].waits) == (1, False, False)
    had.release()
    assert waiting[1].had
    assert not had.had
