"""The life of endpoints and tasks through the API, in any order, under any settings, with workers, receivers, time and
crashes in play."""

import asyncio
import contextlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.emulator.harness import ROOT, Bench, Call, create_body, settle, submit_body

HOOK = "http://127.0.0.1:9000/hook"
PAYLOADS = ({"n": 1}, [2], "three", 4, True)
KEYS = ("one", "two")
READS_PER_SECOND = 60  # of one endpoint, with --limits documented
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "delivered_status": st.sampled_from(["worker", "sample"]),
        "duplicate_task": st.just("first-wins"),
        "error_style": st.just("envelope200"),
        "limits": st.just("documented"),
        "strict_lifecycle": st.just(True),
        "strict_validation": st.just(True),
        "concurrency": st.just(2),
        "max_attempts": st.sampled_from([1, 2]),
        "retry_busy": st.just(True),
        "max_workers_total": st.sampled_from([3, 4]),
    },
)


@attrs.define
class ModelTask:
    body: dict[str, Any]
    faults: int = 0  # attempts that ended without an answer
    ended: tuple[str, Any] | None = None  # SUCCESS and the output, or FAILED and the beginning of the error


@attrs.define
class ModelEndpoint:
    id: str
    key: str
    workers: int
    name: str = "llama"
    running: bool = True
    deleted: bool = False
    tasks: dict[str, ModelTask] = attrs.field(factory=dict)


class Model(RuleBasedStateMachine):
    bench: Bench

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.endpoints: dict[str, ModelEndpoint] = {}
        self.lines: dict[str, list[str]] = {}
        self.acknowledges = True
        self.shown: dict[tuple[str, str], str] = {}

    @initialize(chosen=SETTINGS)
    def the_server_starts(self, chosen: dict[str, Any]) -> None:
        async def start() -> Bench:
            return Bench(Path(self.folder.name) / "data", **chosen)

        self.bench = self.run(start())
        self.settings = self.bench.settings
        self.bench.network.receiver(then=self.receive)

    @contextlib.contextmanager
    def unlimited(self) -> Iterator[None]:
        """What is asked in here counts towards no limit."""
        rates, self.bench.api._rates = self.bench.api._rates, None
        try:
            yield
        finally:
            self.bench.api._rates = rates

    def run(self, work: Any) -> Any:
        async def whole() -> Any:
            done = await work
            await settle()
            return done

        return self.loop.run_until_complete(whole())

    def receive(self, call: Call) -> None:
        call.reply(200 if self.acknowledges else 503)

    @property
    def live(self) -> list[ModelEndpoint]:
        return [endpoint for endpoint in self.endpoints.values() if not endpoint.deleted]

    @property
    def calls(self) -> list[Call]:
        return self.bench.driver.calls

    def task_of(self, call: Call) -> ModelTask:
        return self.endpoints[call.headers["x-endpoint-id"]].tasks[call.task_id]

    def ask(self, endpoint: ModelEndpoint, method: str, tail: str = "", body: Any = None) -> Any:
        reply = self.run(self.bench.call(method, f"{ROOT}/{endpoint.id}{tail}", body, key=endpoint.key))
        if reply.code in {10001, 14000, 24000, 24002, 24011}:
            assert (reply.http_status == 200) == (self.settings.error_style == "envelope200")
        return reply

    def acts(self, endpoint: ModelEndpoint, method: str, tail: str, body: Any, *states: str) -> bool:
        """Whether an action was made: a strict lifecycle allows it in these states only."""
        before = self.status(endpoint)
        reply = self.ask(endpoint, method, tail, body)
        allowed = not self.settings.strict_lifecycle or before in states
        assert reply.code == (10000 if allowed else 24002), (before, reply)
        return allowed

    def pick(self, data: st.DataObject) -> ModelEndpoint:
        return data.draw(st.sampled_from(self.live))

    # ---- endpoints

    @precondition(lambda self: len(self.live) < 3)
    @rule(key=st.sampled_from(KEYS), workers=st.integers(0, 2))
    def create(self, key: str, workers: int) -> None:
        made = self.run(self.bench.post("", create_body(workers=workers), key=key))
        self.endpoints[made["id"]] = ModelEndpoint(made["id"], key, workers)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), action=st.sampled_from(["stop", "start", "start"]))
    def stop_or_start(self, data: st.DataObject, action: str) -> None:
        endpoint = self.pick(data)
        states = ("STOPPED", "FAILED") if action == "start" else ("INITIALIZING", "RUNNING", "FAILED")
        if self.acts(endpoint, "POST", f"/{action}", None, *states):
            endpoint.running = action == "start"

    @precondition(lambda self: self.live)
    @rule(data=st.data(), count=st.integers(0, 3))
    def scale(self, data: st.DataObject, count: int) -> None:
        endpoint = self.pick(data)
        assert self.ask(endpoint, "PUT", f"/workers?count={count}").code == 10000
        endpoint.workers = count

    @precondition(lambda self: self.live)
    @rule(data=st.data(), name=st.sampled_from(["a", "b"]), variable=st.sampled_from(["1", "2"]))
    def update(self, data: st.DataObject, name: str, variable: str) -> None:
        endpoint = self.pick(data)
        never = {"image": None, "serviceMode": None}  # they belong to a create, and a strict server says so
        body = create_body(workers=2, name=name, environmentVars=[{"key": "A", "value": variable}], **never)
        if self.acts(endpoint, "PATCH", "", body, "STOPPED"):
            endpoint.name, endpoint.workers = name, 2

    @precondition(lambda self: self.live)
    @rule(data=st.data(), sure=st.integers(0, 3))
    def delete(self, data: st.DataObject, sure: int) -> None:
        endpoint = self.pick(data)
        if sure:
            return
        if not self.acts(endpoint, "DELETE", "", None, "STOPPED", "FAILED"):
            return
        endpoint.deleted = True
        for task in endpoint.tasks.values():
            task.ended = task.ended or ("FAILED", "The endpoint was deleted")

    # ---- tasks

    @precondition(lambda self: self.live)
    @rule(data=st.data(), payload=st.sampled_from(PAYLOADS), webhook=st.sampled_from([None, HOOK]))
    def submit(self, data: st.DataObject, payload: Any, webhook: str | None) -> None:
        endpoint = self.pick(data)
        task_id = f"t{len(endpoint.tasks)}"
        body = submit_body(taskId=task_id, input=payload, webhook=webhook)
        reply = self.ask(endpoint, "POST", "/tasks", body)
        if endpoint.running and reply.code == 10000:
            endpoint.tasks[task_id] = ModelTask(body)
        else:
            assert reply.code == 24000
            assert not endpoint.running or self.status(endpoint) == "FAILED"

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def submit_with_an_unknown_field(self, data: st.DataObject) -> None:
        endpoint = self.pick(data)
        task_id = f"t{len(endpoint.tasks)}"
        body = submit_body(taskId=task_id, input=1)
        reply = self.ask(endpoint, "POST", "/tasks", {**body, "priority": 1})
        if self.settings.strict_validation:
            assert reply.code == 10001
            assert "priority" in reply.message
        elif reply.code == 10000:
            endpoint.tasks[task_id] = ModelTask(body)
        else:
            assert reply.code == 24000

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def read_often(self, data: st.DataObject) -> None:
        endpoint = self.pick(data)
        path = f"{ROOT}/{endpoint.id}/tasks/count"

        async def ask() -> list[int]:
            return [(await self.bench.call("GET", path, key=endpoint.key)).code for _ in range(READS_PER_SECOND + 5)]

        codes = self.run(ask())
        if self.settings.limits == "documented":
            assert codes.count(10000) <= READS_PER_SECOND
            assert set(codes[-5:]) == {429}
        else:
            assert set(codes) == {10000}

    @precondition(lambda self: any(endpoint.tasks for endpoint in self.live))
    @rule(data=st.data(), same=st.booleans())
    def submit_again(self, data: st.DataObject, same: bool) -> None:
        endpoint = data.draw(st.sampled_from([each for each in self.live if each.tasks]))
        task = data.draw(st.sampled_from(list(endpoint.tasks.values())))
        other = {} if same else {"workerPort": 9}
        reply = self.ask(endpoint, "POST", "/tasks", {**task.body, **other})
        if reply.code == 24000:
            assert not endpoint.running or self.status(endpoint) == "FAILED"
        else:
            known = same or self.settings.duplicate_task == "first-wins"
            assert reply.code == (10000 if known else 10001)

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), how=st.sampled_from(["ok"] * 3 + ["fail", "busy", "refuse", "lose", "time_out", "garbage"]))
    def answer(self, data: st.DataObject, how: str) -> None:
        call = data.draw(st.sampled_from(self.calls))
        task = self.task_of(call)

        async def answer() -> None:
            if how == "ok":
                call.ok(call.body)
            elif how in {"fail", "busy"}:
                call.reply(500 if how == "fail" else 503, b"no")
            else:
                getattr(call, how)()

        self.run(answer())
        if how in {"refuse", "lose", "time_out"} or (how == "busy" and self.settings.retry_busy):
            task.faults += 1
        elif task.ended is None:
            failures = {"fail": ("FAILED", "HTTP 500: no"), "busy": ("FAILED", "HTTP 503: no")}
            ends = {"ok": ("SUCCESS", task.body["input"]), **failures}
            task.ended = ends.get(how, ("FAILED", "Worker"))

    @precondition(lambda self: self.bench.driver.alive)
    @rule(data=st.data())
    def a_worker_dies(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.bench.driver.alive))
        for call in worker.calls:
            self.task_of(call).faults += 1

        async def die() -> None:
            worker.die()

        self.run(die())

    @precondition(lambda self: self.bench.driver.alive)
    @rule(data=st.data(), line=st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=9))
    def a_worker_says_something(self, data: st.DataObject, line: str) -> None:
        worker = data.draw(st.sampled_from(self.bench.driver.alive))
        worker.log(line)
        self.lines.setdefault(worker.id, []).append(line)

    # ---- the world

    @rule(seconds=st.sampled_from([0.2, 5, 40, 60, 4000]))
    def time_passes(self, seconds: float) -> None:
        self.run(self.bench.clock.advance(seconds))

    @rule(acknowledges=st.booleans())
    def the_receiver_changes_its_mind(self, acknowledges: bool) -> None:
        self.acknowledges = acknowledges

    @rule(way=st.sampled_from(["crash", "close"]))
    def the_server_is_restarted(self, way: str) -> None:
        self.run(self.bench.crash() if way == "crash" else self.bench.close())
        self.bench.clock.ms += 1
        self.bench = self.run(self.bench.again())

    # ---- what must hold at any time

    def status(self, endpoint: ModelEndpoint) -> str:
        return self.ask(endpoint, "GET").data["status"]

    @rule()
    def endpoints_are_shown_as_they_were_asked_for(self) -> None:
        for key in KEYS:
            listed = self.run(self.bench.get("", key=key))
            assert [each["id"] for each in listed] == [e.id for e in reversed(self.live) if e.key == key]
            for shown in listed:
                endpoint = self.endpoints[shown["id"]]
                assert (shown["name"], shown["totalWorkers"]) == (endpoint.name, endpoint.workers)
                if endpoint.running:
                    assert shown["status"] in {"INITIALIZING", "RUNNING", "FAILED"}
                else:
                    assert shown["status"] in {"STOPPING", "STOPPED"}
                alive = [w for w in self.bench.driver.alive if w.spec.endpoint_id == endpoint.id]
                assert shown["runningWorkers"] <= len(alive)
                if shown["status"] == "STOPPED":
                    assert alive == []
                if shown["status"] == "FAILED":
                    assert shown["runningWorkers"] == 0
        for endpoint in self.endpoints.values():
            if endpoint.deleted:
                assert self.ask(endpoint, "GET", "/tasks").code == 14000

    @rule()
    def workers_are_listed_and_their_logs_are_whole(self) -> None:
        for endpoint in self.live:
            shown = self.ask(endpoint, "GET").data
            listed = self.ask(endpoint, "GET", "/workers").data
            gone = self.ask(endpoint, "GET", "/workers?statusList=terminated").data
            assert {worker["status"] for worker in gone} <= {"TERMINATED"}
            assert sum(worker["status"] == "RUNNING" for worker in listed) == shown["runningWorkers"]
            assert not {worker["id"] for worker in listed} & {worker["id"] for worker in gone}
            for worker in (*listed, *gone):
                told = self.read_log(endpoint, worker["id"])
                assert [line for line in told if "waits for a place" not in line] == self.lines.get(worker["id"], [])

    def read_log(self, endpoint: ModelEndpoint, worker_id: str) -> list[str]:
        found: list[str] = []
        tokens = ""
        while True:
            page = self.ask(endpoint, "GET", f"/workers/{worker_id}/logs?pageSize=2{tokens}").data
            found += [entry["log"] for entry in page["logs"]]
            if not page["hasMore"]:
                return found
            time, offset = page["nextSearchAfterTime"], page["nextSearchAfterOffset"]
            tokens = f"&searchAfterTime={time}&searchAfterOffset={offset}"

    @rule()
    def lists_counts_and_tasks_agree_with_each_other_and_the_model(self) -> None:
        with self.unlimited():
            self.check_tasks()

    def check_tasks(self) -> None:
        for endpoint in self.live:
            page = self.ask(endpoint, "GET", "/tasks?pageSize=100").data
            newest_first = [f"t{number}" for number in reversed(range(len(endpoint.tasks)))]
            assert [item["taskId"] for item in page["items"]] == newest_first
            assert page["total"] == len(endpoint.tasks)
            for item in page["items"]:
                self.check_task(endpoint, item)
            by_status = Counter(item["status"] for item in page["items"])
            for status in ("PROCESSING", "SUCCESS", "FAILED", "DELIVERED"):
                assert self.ask(endpoint, "GET", f"/tasks?status={status}").data["total"] == by_status[status]
            counted = self.ask(endpoint, "GET", "/tasks/count").data["processing"]
            assert counted == sum(self.is_open(item["status"]) for item in page["items"])

    def is_open(self, status: str) -> bool:
        return status == "PROCESSING" or (status == "DELIVERED" and self.settings.delivered_status == "worker")

    def check_task(self, endpoint: ModelEndpoint, item: dict[str, Any]) -> None:
        task = endpoint.tasks[item["taskId"]]
        whole = self.ask(endpoint, "GET", f"/tasks/{item['taskId']}").data
        assert {name: value for name, value in whole.items() if name in item} == item
        assert (whole["input"], whole["webhook"]) == (task.body["input"], task.body.get("webhook"))
        if task.ended is None and item["status"] == "FAILED":
            assert task.faults >= self.settings.max_attempts
            task.ended = ("FAILED", f"No worker ended this task in {self.settings.max_attempts} attempt")
        if task.ended is None:
            assert self.is_open(item["status"])
            assert (whole["output"], whole["error"]) == (None, None)
            return
        status, result = task.ended
        delivered = status == "SUCCESS" and item["deliveryStatus"] == "SUCCESS"
        shows_it = delivered and self.settings.delivered_status == "webhook"
        assert item["status"] == ("DELIVERED" if shows_it else status)
        if status == "SUCCESS":
            assert (whole["output"], whole["error"]) == (result, None)
        else:
            assert whole["output"] is None
            assert whole["error"].startswith(result)
        assert (item["deliveredAt"] is not None) == (item["deliveryStatus"] == "SUCCESS")
        assert 0 <= item["deliveryAttempts"] <= 4

    @invariant()
    def a_terminal_status_is_final_but_for_the_acknowledged_success(self) -> None:
        for endpoint in self.live:
            with self.unlimited():
                items = self.ask(endpoint, "GET", "/tasks?pageSize=100").data["items"]
            for item in items:
                key = (endpoint.id, item["taskId"])
                before = self.shown.get(key, "PROCESSING")
                if self.settings.delivered_status == "webhook" and (before, item["status"]) == ("SUCCESS", "DELIVERED"):
                    continue
                assert self.is_open(before) or before == item["status"]
                self.shown[key] = item["status"]

    @invariant()
    def no_more_workers_run_than_there_are_places(self) -> None:
        assert len(self.bench.driver.alive) <= self.settings.max_workers_total

    @invariant()
    def acknowledged_submits_are_rows_and_counters_are_the_rows_counted(self) -> None:
        submitted = {(int(e.id), task_id) for e in self.endpoints.values() for task_id in e.tasks}
        assert set(self.bench.sql("SELECT endpoint_id, task_id FROM task")) == submitted
        counted = self.bench.sql("SELECT endpoint_id, state, count(*) FROM task GROUP BY 1, 2")
        kept = self.bench.sql("SELECT endpoint_id, state, n FROM task_count WHERE n <> 0")
        assert sorted(counted) == sorted(kept)

    @invariant()
    def every_ended_task_with_a_webhook_has_one_outbox_row(self) -> None:
        ended = self.bench.sql("SELECT seq FROM task WHERE state >= 3 AND webhook IS NOT NULL ORDER BY seq")
        assert self.bench.sql("SELECT task_seq FROM delivery WHERE task_seq IS NOT NULL ORDER BY task_seq") == ended

    @invariant()
    def a_task_is_in_the_hands_of_one_worker_at_most_and_its_attempts_rise(self) -> None:
        def which(call: Call) -> tuple[str, str]:
            return call.headers["x-endpoint-id"], call.task_id

        assert max(Counter(which(call) for call in self.calls).values(), default=0) <= 1
        assert all(len(worker.calls) <= self.settings.concurrency for worker in self.bench.driver.workers)
        attempts: dict[tuple[str, str], list[int]] = {}
        for call in self.bench.driver.all_calls:
            attempts.setdefault(which(call), []).append(call.attempt)
            assert json.loads(call.body) == self.task_of(call).body["input"]
        for each in attempts.values():
            assert each == sorted(set(each))

    def teardown(self) -> None:
        try:
            if hasattr(self, "bench"):
                self.in_the_end_all_is_well()
        finally:
            self.loop.close()
            self.folder.cleanup()

    def in_the_end_all_is_well(self) -> None:
        """With good workers, a good receiver and time, every task ends and every webhook is told or given up."""
        self.endpoints_are_shown_as_they_were_asked_for()
        self.workers_are_listed_and_their_logs_are_whole()
        self.lists_counts_and_tasks_agree_with_each_other_and_the_model()

        async def heal() -> None:
            self.acknowledges = True
            self.bench.driver.then = Call.ok
            for worker in self.bench.driver.workers:
                worker.then = Call.ok
            for call in self.calls:
                call.ok()
            await self.bench.clock.advance(60)  # a strict server starts no endpoint that is still STOPPING
            for endpoint in self.live:
                await self.bench.call("POST", f"{ROOT}/{endpoint.id}/start", key=endpoint.key)
                await self.bench.put(f"/{endpoint.id}/workers?count=1", key=endpoint.key)
            await self.bench.clock.advance(4 * 3600)
            for endpoint in self.live:
                assert (await self.bench.get(f"/{endpoint.id}/tasks/count", key=endpoint.key)) == {"processing": 0}
                assert (await self.bench.get(f"/{endpoint.id}", key=endpoint.key))["runningWorkers"] == 1
            assert self.bench.sql("SELECT count(*) FROM task WHERE state < 3") == [(0,)]
            assert self.bench.sql("SELECT count(*) FROM delivery WHERE state < 2") == [(0,)]
            assert len(self.bench.driver.alive) == len(self.live)
            await self.bench.close()
            assert self.bench.driver.alive == []

        self.run(heal())


TestTheWholeApiKeepsItsPromises = Model.TestCase
FULL = os.environ.get("CONFORMANCE") == "full"
TestTheWholeApiKeepsItsPromises.settings = settings(max_examples=2000 if FULL else 200, stateful_step_count=40)
