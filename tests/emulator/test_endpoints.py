import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.emulator.harness import ROOT, Bench, create_body, settle, submit_body
from yottabench.emulator.endpoints import RESTART_WAITS_MS, STEADY_AFTER_MS
from yottabench.emulator.limits import STORE_RETRY_MS
from yottabench.emulator.store.base import (
    DropEndpoint,
    EndpointStatus,
    LeaseTask,
    PutEndpoint,
    ReturnTask,
    SubmitTask,
    WorkerStatus,
)

pytestmark = pytest.mark.anyio

MakeBench = Callable[..., Bench]


async def status(bench: Bench, endpoint_id: str) -> str:
    return (await bench.get(f"/{endpoint_id}"))["status"]


async def workers(bench: Bench, endpoint_id: str, statuses: str = "") -> list[Any]:
    query = f"?statusList={statuses}" if statuses else ""
    return await bench.get(f"/{endpoint_id}/workers{query}")


async def act(bench: Bench, endpoint_id: str, action: str) -> None:
    assert await bench.post(f"/{endpoint_id}/{action}") is True
    await settle()


# ---- from create to running


async def test_an_endpoint_is_initializing_until_its_first_worker_is_ready(bench: Bench) -> None:
    bench.driver.by_hand = True
    endpoint_id = await bench.endpoint(workers=2)
    shown = await bench.get(f"/{endpoint_id}")
    assert (shown["status"], shown["totalWorkers"], shown["runningWorkers"]) == ("INITIALIZING", 2, 0)
    assert [each["status"] for each in await workers(bench, endpoint_id)] == ["INITIALIZING"] * 2
    bench.driver.workers[1].become_ready()
    await settle()
    shown = await bench.get(f"/{endpoint_id}")
    assert (shown["status"], shown["runningWorkers"]) == ("RUNNING", 1)
    bench.driver.workers[0].become_ready()
    await settle()
    assert (await bench.get(f"/{endpoint_id}"))["runningWorkers"] == 2


async def test_an_endpoint_with_no_workers_is_running_and_only_collects(bench: Bench) -> None:
    made = await bench.post("", create_body(workers=0))
    assert (made["status"], made["totalWorkers"]) == ("RUNNING", 0)
    await bench.submit(made["id"], taskId="t")
    assert (await bench.get(f"/{made['id']}/tasks/count")) == {"processing": 1}
    assert bench.driver.workers == []


async def test_a_worker_is_started_with_what_the_endpoint_asks_for(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(
        environmentVars=[{"key": "A", "value": "1"}],
        expose={"port": 9000, "protocol": "http"},
        initializationCommand="prepare",
        image="mine/own:2",
    )
    spec = bench.driver.workers[0].spec
    assert (spec.endpoint_id, spec.image, spec.port, spec.protocol) == (endpoint_id, "mine/own:2", 9000, "http")
    assert (dict(spec.env), spec.command) == ({"A": "1"}, "prepare")
    assert "prepare" not in repr(spec)


async def test_tasks_submitted_while_initializing_are_queued_and_then_done(bench: Bench) -> None:
    bench.driver.by_hand = True
    endpoint_id = await bench.endpoint()
    task_id = await bench.submit(endpoint_id)
    assert (await bench.task(endpoint_id, task_id))["status"] == "PROCESSING"
    bench.driver.workers[0].become_ready()
    await settle()
    assert [call.task_id for call in bench.driver.calls] == [task_id]


async def test_endpoint_and_worker_ids_are_18_or_19_digits_and_all_different(bench: Bench) -> None:
    ids = [await bench.endpoint(workers=2) for _ in range(3)]
    ids += [worker.id for worker in bench.driver.workers]
    assert len(set(ids)) == 9
    assert all(each.isdigit() and len(each) in {18, 19} and int(each) > 2**53 for each in ids)


# ---- stop and start


async def test_stop_drains_and_start_brings_workers_with_new_ids(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=2)
    old = {worker.id for worker in bench.driver.workers}
    in_hand = await bench.submit(endpoint_id, taskId="in_hand")
    await act(bench, endpoint_id, "stop")
    assert await status(bench, endpoint_id) == "STOPPING"
    assert [each["status"] for each in await workers(bench, endpoint_id)] == ["STOPPING"]
    bench.driver.calls[0].ok()
    await settle()
    assert await status(bench, endpoint_id) == "STOPPED"
    assert (await bench.task(endpoint_id, in_hand))["status"] == "SUCCESS"
    assert bench.driver.alive == []
    assert all(worker.stops and not worker.killed for worker in bench.driver.workers)
    await act(bench, endpoint_id, "start")
    assert await status(bench, endpoint_id) == "RUNNING"
    new = {worker.id for worker in bench.driver.alive}
    assert len(new) == 2
    assert not old & new


async def test_a_task_that_is_not_done_within_the_grace_period_goes_back_to_the_queue(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    await bench.submit(endpoint_id, taskId="slow")
    endpoint = bench.api.endpoints[int(endpoint_id)]
    (worker,) = endpoint.live_workers
    worker.leaving = True
    leaving = asyncio.ensure_future(worker.leave(0.01, bench.clock.ms))
    await leaving
    await settle()
    assert bench.driver.workers[0].killed
    # Its replacement has it now, as a second attempt that cost nothing.
    assert [(call.task_id, call.attempt) for call in bench.driver.calls] == [("slow", 2)]
    assert bench.sql("SELECT strikes FROM task") == [(0,)]


@pytest.mark.parametrize("stopped", [False, True])
async def test_queued_tasks_survive_stop_and_start(bench: Bench, stopped: bool) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    for number in range(3):
        await bench.submit(endpoint_id, taskId=f"t{number}")
    await act(bench, endpoint_id, "stop")
    assert await status(bench, endpoint_id) == "STOPPED"
    await act(bench, endpoint_id, "start")
    await bench.put(f"/{endpoint_id}/workers?count=1")
    for number in range(3):
        await settle()
        assert bench.driver.calls[0].task_id == f"t{number}"
        bench.driver.calls[0].ok()


async def test_stop_and_start_are_idempotent(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    before = [worker.id for worker in bench.driver.alive]
    await act(bench, endpoint_id, "start")
    assert [worker.id for worker in bench.driver.alive] == before
    for _ in range(2):
        await act(bench, endpoint_id, "stop")
        assert await status(bench, endpoint_id) == "STOPPED"


async def test_a_stopped_or_stopping_endpoint_takes_no_tasks_and_says_what_to_do(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    await bench.submit(endpoint_id, taskId="in_hand")
    await act(bench, endpoint_id, "stop")
    for expected in ("STOPPING", "STOPPED"):
        reply = await bench.call("POST", f"{ROOT}/{endpoint_id}/tasks", submit_body(taskId="late"))
        assert (reply.http_status, reply.code) == (409, 24000)
        assert expected in reply.message
        assert "Start it" in reply.message
        for call in bench.driver.calls:
            call.ok()
        await settle()
    assert (await bench.get(f"/{endpoint_id}/tasks"))["total"] == 1


async def test_starting_while_it_stops_keeps_the_promise_of_both(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    await bench.submit(endpoint_id, taskId="in_hand")
    await act(bench, endpoint_id, "stop")
    await act(bench, endpoint_id, "start")
    assert len(bench.driver.alive) == 2  # the old one ends its task, the new one serves
    assert await status(bench, endpoint_id) == "RUNNING"
    bench.driver.calls[0].ok()
    await settle()
    assert len(bench.driver.alive) == 1
    assert (await bench.task(endpoint_id, "in_hand"))["status"] == "SUCCESS"


async def test_stopping_while_a_worker_starts_ends_it_although_it_was_never_ready(bench: Bench) -> None:
    bench.driver.by_hand = True
    endpoint_id = await bench.endpoint(workers=2)
    await act(bench, endpoint_id, "stop")
    assert bench.driver.alive == []
    assert await status(bench, endpoint_id) == "STOPPED"


async def test_stopping_before_the_process_is_there_ends_it_as_soon_as_it_is(bench: Bench) -> None:
    bench.driver.by_hand = True
    bench.driver.gate = asyncio.Event()
    endpoint_id = await bench.endpoint()
    await act(bench, endpoint_id, "stop")
    assert await status(bench, endpoint_id) == "STOPPING"
    bench.driver.gate.set()
    await settle()
    assert bench.driver.alive == []
    assert await status(bench, endpoint_id) == "STOPPED"


# ---- scale


async def test_scaling_up_and_down_starts_and_drains_workers_and_loses_no_task(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=1)
    for number in range(8):
        await bench.submit(endpoint_id, taskId=f"t{number}")
    assert await bench.put(f"/{endpoint_id}/workers?count=3") is True
    await settle()
    assert len(bench.driver.calls) == 3
    assert await bench.put(f"/{endpoint_id}/workers?count=1") is True
    await settle()
    for _ in range(8):
        bench.driver.calls[0].ok()
        await settle()
    page = await bench.get(f"/{endpoint_id}/tasks?pageSize=100")
    assert [task["status"] for task in page["items"]] == ["SUCCESS"] * 8
    assert len(bench.driver.alive) == 1
    assert len({call.task_id for worker in bench.driver.workers for call in worker.all_calls}) == 8
    assert sum(len(worker.all_calls) for worker in bench.driver.workers) == 8


async def test_scaling_down_lets_idle_workers_go_before_busy_ones(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=3)
    await bench.submit(endpoint_id)
    busy = bench.driver.calls[0].peer
    await bench.put(f"/{endpoint_id}/workers?count=1")
    await settle()
    assert bench.driver.alive == [busy]


async def test_scaling_to_zero_leaves_the_queue(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=2)
    await bench.put(f"/{endpoint_id}/workers?count=0")
    await settle()
    assert bench.driver.alive == []
    shown = await bench.get(f"/{endpoint_id}")
    assert (shown["status"], shown["totalWorkers"], shown["runningWorkers"]) == ("RUNNING", 0, 0)
    await bench.submit(endpoint_id)
    assert (await bench.get(f"/{endpoint_id}/tasks/count"))["processing"] == 1


async def test_scaling_a_stopped_endpoint_starts_nothing_until_it_is_started(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=1)
    await act(bench, endpoint_id, "stop")
    await bench.put(f"/{endpoint_id}/workers?count=4")
    await settle()
    assert bench.driver.alive == []
    await act(bench, endpoint_id, "start")
    assert len(bench.driver.alive) == 4


# ---- update


async def test_an_update_that_changes_workers_replaces_them_and_others_do_not(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=2)
    update = {key: value for key, value in create_body(workers=2).items() if key not in {"image", "serviceMode"}}
    before = [worker.id for worker in bench.driver.alive]
    reply = await bench.call(
        "PATCH", f"{ROOT}/{endpoint_id}", {**update, "name": "renamed", "webhook": "http://127.0.0.1:1/"}
    )
    await settle()
    assert (reply.code, reply.data["name"]) == (10000, "renamed")
    assert [worker.id for worker in bench.driver.alive] == before
    await bench.call("PATCH", f"{ROOT}/{endpoint_id}", {**update, "environmentVars": [{"key": "A", "value": "2"}]})
    await settle()
    after = bench.driver.alive
    assert len(after) == 2
    assert not {worker.id for worker in after} & set(before)
    assert [dict(worker.spec.env) for worker in after] == [{"A": "2"}] * 2


# ---- delete


async def test_delete_hides_the_endpoint_fails_its_open_tasks_and_still_sends_webhooks(bench: Bench) -> None:
    receiver = bench.network.receiver(then=lambda call: call.reply(200))
    endpoint_id = await bench.endpoint(workers=1)
    for number in range(3):
        await bench.submit(endpoint_id, taskId=f"t{number}", webhook="http://127.0.0.1:9000/hook")
    assert await bench.delete(f"/{endpoint_id}") is True
    for path in ("", "/tasks", "/tasks/t0", "/tasks/count", "/workers"):
        reply = await bench.call("GET", f"{ROOT}/{endpoint_id}{path}")
        assert (reply.http_status, reply.code) == (404, 14000)
    assert await bench.get("") == []
    await settle()
    rows = bench.sql("SELECT task_id, state, error FROM task ORDER BY seq")
    assert [row[:2] for row in rows] == [("t0", 4), ("t1", 4), ("t2", 4)]
    assert all("deleted" in row[2] for row in rows)
    told = [call.json for call in receiver.all_calls]
    assert sorted(each["user_task_id"] for each in told) == ["t0", "t1", "t2"]
    assert all((each["status"], each["success"]) == ("Failed", False) for each in told)
    # What its worker still answers is too late.
    bench.driver.calls[0].ok()
    await settle()
    assert bench.driver.alive == []
    assert bench.sql("SELECT DISTINCT state FROM task") == [(4,)]
    assert len(receiver.all_calls) == 3


async def test_an_endpoint_that_was_deleted_is_forgotten_when_its_last_worker_has_gone(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    await bench.submit(endpoint_id)
    await bench.delete(f"/{endpoint_id}")
    await settle()
    assert len(bench.api.ending) == 1
    bench.driver.calls[0].ok()
    await settle()
    assert bench.api.ending == set()


async def test_delete_works_in_any_state(bench: Bench) -> None:
    stopped = await bench.endpoint()
    await act(bench, stopped, "stop")
    bench.driver.by_hand = True
    starting = await bench.endpoint()
    for endpoint_id in (stopped, starting):
        assert await bench.delete(f"/{endpoint_id}") is True
    await settle()
    assert bench.driver.alive == []
    assert (await bench.call("DELETE", f"{ROOT}/{stopped}")).code == 14000


async def test_many_open_tasks_fail_in_portions(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from yottabench.emulator import services

    monkeypatch.setattr(services, "FAIL_BATCH_TASKS", 2)
    endpoint_id = await bench.endpoint(workers=0)
    for number in range(5):
        await bench.submit(endpoint_id, taskId=f"t{number}")
    await bench.delete(f"/{endpoint_id}")
    await settle()
    assert bench.sql("SELECT state, count(*) FROM task GROUP BY state") == [(4, 5)]


# ---- crashes


async def test_a_crashed_worker_is_replaced_by_one_with_a_new_id_and_its_task_goes_on(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    task_id = await bench.submit(endpoint_id)
    old = bench.driver.workers[0]
    old.die()
    await settle()
    await bench.clock.advance(0.2)
    (new,) = bench.driver.alive
    assert new.id != old.id
    (call,) = bench.driver.calls
    assert (call.peer, call.task_id, call.attempt) == (new, task_id, 2)
    gone = await workers(bench, endpoint_id, "TERMINATED")
    assert [each["id"] for each in gone] == [old.id]
    assert bench.sql("SELECT reason FROM worker WHERE status = 3") == [("was ended by signal SIGSEGV",)]


async def test_workers_that_crash_again_and_again_are_restarted_with_longer_waits_until_the_endpoint_is_failed(
    bench: Bench,
) -> None:
    endpoint_id = await bench.endpoint()
    waits_ms = []
    for _ in RESTART_WAITS_MS:
        started = len(bench.driver.workers)
        bench.driver.alive[0].die()
        await settle()
        since_ms = bench.clock.ms
        while len(bench.driver.workers) == started:
            await bench.clock.advance(0.1)
        waits_ms.append(bench.clock.ms - since_ms)
    assert waits_ms == list(RESTART_WAITS_MS)
    assert await status(bench, endpoint_id) == "RUNNING"
    bench.driver.alive[0].die()
    await settle()
    assert await status(bench, endpoint_id) == "FAILED"
    await bench.clock.advance(3600)
    assert bench.driver.alive == []
    reply = await bench.call("POST", f"{ROOT}/{endpoint_id}/tasks", submit_body())
    assert (reply.http_status, reply.code) == (409, 24000)
    # And out of it again.
    await act(bench, endpoint_id, "start")
    assert await status(bench, endpoint_id) == "RUNNING"
    assert len(bench.driver.alive) == 1


async def test_an_endpoint_whose_workers_cannot_start_is_failed(bench: Bench) -> None:
    bench.driver.break_next = 100
    endpoint_id = await bench.endpoint(workers=1)
    await bench.clock.advance(60)
    assert await status(bench, endpoint_id) == "FAILED"
    assert 100 - bench.driver.break_next == len(RESTART_WAITS_MS) + 1


@pytest.mark.parametrize("count", [2, 8, 20])
async def test_workers_that_crash_together_count_as_one_crash(bench: Bench, count: int) -> None:
    endpoint_id = await bench.endpoint(workers=count)
    for worker in bench.driver.alive:
        worker.die()
    await settle()
    await bench.clock.advance(0.1)
    assert await status(bench, endpoint_id) == "RUNNING"
    assert len(bench.driver.alive) == count


async def test_a_worker_that_ran_long_is_replaced_at_once_whatever_was_before(bench: Bench) -> None:
    await bench.endpoint()
    for _ in range(20):
        await bench.clock.advance(STEADY_AFTER_MS / 1000)
        bench.driver.alive[0].die()
        await settle()
        assert len(bench.driver.alive) == 1


async def test_one_bad_worker_does_not_fail_an_endpoint_that_another_serves(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=2)
    for _ in range(20):
        bench.driver.alive[-1].die()
        await bench.clock.advance(10)
    assert await status(bench, endpoint_id) == "RUNNING"
    assert len(bench.driver.alive) == 2


async def test_a_driver_that_breaks_down_is_a_crash_of_the_worker(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = bench.driver.start

    async def broken(*_: Any) -> Any:
        raise RuntimeError("a driver with a fault")

    monkeypatch.setattr(bench.driver, "start", broken)
    endpoint_id = await bench.endpoint()
    monkeypatch.setattr(bench.driver, "start", real)
    await bench.clock.advance(60)
    assert await status(bench, endpoint_id) == "RUNNING"
    newest, *broken = await workers(bench, endpoint_id, "RUNNING,TERMINATED,INITIALIZING")
    assert newest["status"] == "RUNNING"
    assert {each["status"] for each in broken} == {"TERMINATED"}


# ---- several changes at once


async def together(bench: Bench, *requests: tuple[Any, ...]) -> list[int]:
    """Requests whose changes wait for the same commit."""
    bench.writer.held = True
    replies = [asyncio.ensure_future(bench.call(*request)) for request in requests]
    await settle()
    bench.writer.let_go()
    found = [(await reply).code for reply in replies]
    await settle()
    return found


async def test_changes_that_meet_are_all_kept(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=1)
    path = f"{ROOT}/{endpoint_id}"
    codes = await together(bench, ("POST", f"{path}/stop"), ("PUT", f"{path}/workers?count=3"))
    assert codes == [10000, 10000]
    assert (await bench.get(f"/{endpoint_id}"))["totalWorkers"] == 3
    assert await status(bench, endpoint_id) == "STOPPED"
    (record,) = bench.store.endpoints()
    assert (record.should_run, record.spec.workers) == (False, 3)


async def test_a_change_is_not_undone_by_news_of_a_worker(bench: Bench) -> None:
    bench.driver.by_hand = True
    endpoint_id = await bench.endpoint(workers=1)
    update = {key: value for key, value in create_body(name="renamed").items() if key not in {"image", "serviceMode"}}
    bench.writer.held = True
    change = asyncio.ensure_future(bench.call("PATCH", f"{ROOT}/{endpoint_id}", update))
    await settle()
    bench.driver.workers[0].become_ready()
    await settle()
    bench.writer.let_go()
    assert (await change).code == 10000
    await settle()
    assert (await bench.get(f"/{endpoint_id}"))["name"] == "renamed"
    assert await status(bench, endpoint_id) == "RUNNING"
    (record,) = bench.store.endpoints()
    assert (record.spec.name, record.status) == ("renamed", EndpointStatus.RUNNING)


async def test_a_change_that_meets_a_delete_brings_nothing_back(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=1)
    path = f"{ROOT}/{endpoint_id}"
    codes = await together(bench, ("DELETE", path), ("PUT", f"{path}/workers?count=3"), ("DELETE", path))
    assert codes == [10000, 14000, 14000]
    await bench.clock.advance(60)
    assert bench.driver.alive == []
    assert bench.store.endpoints() == []


async def test_a_submit_that_meets_a_delete_is_never_left_open(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    path = f"{ROOT}/{endpoint_id}"
    await together(
        bench,
        ("POST", f"{path}/tasks", submit_body(taskId="before")),
        ("DELETE", path),
        ("POST", f"{path}/tasks", submit_body(taskId="after")),
    )
    assert all(state == 4 for (state,) in bench.sql("SELECT state FROM task"))


async def test_a_worker_that_dies_while_it_is_dismissed_stays_terminated(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=2)
    bench.writer.held = True
    scaling = asyncio.ensure_future(bench.call("PUT", f"{ROOT}/{endpoint_id}/workers?count=1"))
    for worker in bench.driver.alive:
        worker.die()
    await settle()
    bench.writer.let_go()
    await scaling
    await settle()
    await bench.clock.advance(5)
    shown = bench.sql("SELECT status FROM worker")
    assert sorted(shown).count((int(WorkerStatus.STOPPING),)) == 0
    assert len(bench.driver.alive) == 1


async def test_a_change_that_cannot_be_stored_is_refused_and_changes_nothing(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=1)
    for method, path in (("POST", "/stop"), ("PUT", "/workers?count=5"), ("DELETE", "")):
        bench.writer.refuse = 1
        reply = await bench.call(method, f"{ROOT}/{endpoint_id}{path}")
        assert (reply.http_status, reply.code) == (500, 10002)
    shown = await bench.get(f"/{endpoint_id}")
    assert (shown["status"], shown["totalWorkers"]) == ("RUNNING", 1)
    bench.writer.refuse = 1
    assert (await bench.call("POST", ROOT, create_body())).code == 10002
    assert len(await bench.get("")) == 1


async def test_a_status_that_could_not_be_stored_is_stored_once_there_is_room(bench: Bench) -> None:
    bench.driver.by_hand = True
    endpoint_id = await bench.endpoint(workers=1)
    bench.writer.refuse_those[PutEndpoint] = 1
    bench.driver.workers[0].become_ready()
    await settle()
    assert [record.status for record in bench.store.endpoints()] == [EndpointStatus.INITIALIZING]
    await bench.clock.advance(STORE_RETRY_MS / 1000)
    await settle()
    assert [record.status for record in bench.store.endpoints()] == [EndpointStatus.RUNNING]
    assert await status(bench, endpoint_id) == "RUNNING"


async def test_a_new_status_is_an_update_before_and_after_a_restart(bench: Bench) -> None:
    bench.driver.by_hand = True
    endpoint_id = await bench.endpoint(workers=1)
    created = (await bench.get(f"/{endpoint_id}"))["createdAt"]
    await bench.clock.advance(5)
    bench.driver.workers[0].become_ready()
    await settle()
    updated = (await bench.get(f"/{endpoint_id}"))["updatedAt"]
    assert updated != created
    assert [record.updated_ms for record in bench.store.endpoints()] == [bench.clock.ms]


# ---- restart


async def test_endpoints_workers_and_queues_are_taken_up_by_the_next_server(bench: Bench) -> None:
    running = await bench.endpoint(workers=2)
    stopped = await bench.endpoint(workers=1)
    await act(bench, stopped, "stop")
    await bench.submit(running, taskId="leased")
    old = {worker.id for worker in bench.driver.workers}
    await bench.crash()
    async with await bench.again() as again:
        assert await status(again, running) == "RUNNING"
        assert await status(again, stopped) == "STOPPED"
        assert len(again.driver.alive) == 2
        assert not old & {worker.id for worker in again.driver.workers}
        assert [(call.task_id, call.attempt) for call in again.driver.calls] == [("leased", 2)]
        gone = await workers(again, running, "TERMINATED")
        assert len(gone) == 2


async def test_an_endpoint_that_was_stopping_is_stopped_after_a_restart(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    await bench.submit(endpoint_id, taskId="t")
    await act(bench, endpoint_id, "stop")
    assert await status(bench, endpoint_id) == "STOPPING"
    await bench.crash()
    async with await bench.again() as again:
        assert await status(again, endpoint_id) == "STOPPED"
        assert (await again.task(endpoint_id, "t"))["status"] == "PROCESSING"


async def test_what_a_deleted_endpoint_left_open_is_failed_by_the_next_server(bench: Bench) -> None:
    receiver = bench.network.receiver(then=lambda call: call.reply(200))
    endpoint_id = await bench.endpoint(workers=0)
    number = int(endpoint_id)
    for state in ("queued", "waiting", "leased"):
        submitted = await bench.writer.commit(
            SubmitTask(
                endpoint_id=number,
                task_id=state,
                input=b"1",
                worker_port=1,
                process_uri="/",
                webhook="http://127.0.0.1:9000/",
                webhook_auth_key=None,
                headers=None,
                now_ms=bench.clock.ms,
            )
        )
        if state == "queued":
            continue
        lease = LeaseTask(seq=submitted.seq, fence=0, worker_id=1, worker_url="", deadline_ms=1, now_ms=1)
        await bench.writer.commit(lease)
        if state == "waiting":
            wait = ReturnTask(seq=submitted.seq, fence=1, strike=True, next_ms=bench.clock.ms + 100, now_ms=1)
            await bench.writer.commit(wait)
    # The server dies between the delete and what follows from it.
    await bench.writer.commit(DropEndpoint(number))
    await bench.crash()
    async with await bench.again() as again:
        await again.clock.advance(1)
        assert again.sql("SELECT DISTINCT state FROM task") == [(4,)]
        assert sorted(call.json["user_task_id"] for call in receiver.all_calls) == ["leased", "queued", "waiting"]


async def test_a_clean_end_leaves_nothing_running_and_everything_for_the_next_server(
    bench: Bench, tmp_path: Path
) -> None:
    endpoint_id = await bench.endpoint(workers=2)
    await bench.submit(endpoint_id, taskId="t")
    await bench.close()
    assert bench.driver.closed
    assert bench.driver.alive == []
    async with await bench.again() as again:
        assert [call.task_id for call in again.driver.calls] == ["t"]


# ---- lists, namespaces, money


async def test_endpoints_are_listed_newest_first_and_by_status(bench: Bench) -> None:
    one, two, three = [await bench.endpoint() for _ in range(3)]
    await act(bench, two, "stop")
    listed = [each["id"] for each in await bench.get("")]
    assert listed == [three, two, one]
    for query in ("STOPPED", "stopped", "STOPPED,FAILED", "FAILED&statusList=stopped", "%53TOPPED"):
        assert [each["id"] for each in await bench.get(f"?statusList={query}")] == [two]
    assert await bench.get("?statusList=FAILED") == []
    await bench.crash()
    async with await bench.again() as again:
        assert [each["id"] for each in await again.get("")] == listed


async def test_workers_are_listed_newest_first_and_gone_ones_only_when_asked_for(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=3)
    bench.driver.alive[0].die()
    await settle()
    alive = sorted((worker.id for worker in bench.driver.alive), key=int, reverse=True)
    everyone = sorted((worker.id for worker in bench.driver.workers), key=int, reverse=True)
    assert [each["id"] for each in await workers(bench, endpoint_id)] == alive
    assert [each["workerId"] for each in await workers(bench, endpoint_id, "terminated,running")] == everyone


async def test_cost_rises_with_running_workers_and_stays_when_they_are_gone(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(
        workers=2, resources=[{"region": "r", "gpuType": "NVIDIA_H100_80G", "gpuCount": 2}], containerVolumeInGb=100
    )
    await bench.clock.advance(3600)
    shown = await bench.get(f"/{endpoint_id}")
    assert shown["perHourPrice"] == pytest.approx(2 * (2 * 1.85 + 0.1))
    assert shown["cost"] == pytest.approx(7.6)
    await act(bench, endpoint_id, "stop")
    await bench.clock.advance(3600)
    shown = await bench.get(f"/{endpoint_id}")
    assert (shown["cost"], shown["perHourPrice"]) == (pytest.approx(7.6), 0)
    await bench.crash()
    async with await bench.again() as again:
        assert (await again.get(f"/{endpoint_id}"))["cost"] == pytest.approx(7.6)


async def test_the_store_has_every_change_before_it_is_answered(bench: Bench) -> None:
    bench.writer.held = True
    creating = asyncio.ensure_future(bench.call("POST", ROOT, create_body()))
    await settle()
    assert not creating.done()
    bench.writer.let_go()
    assert (await creating).code == 10000
    assert any(isinstance(command, PutEndpoint) for command, _ in bench.writer.done)
