import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.emulator import contract
from tests.emulator.harness import ROOT, Call, changed, create_body, submit_body
from tests.emulator.live import LiveBench
from yottabench.emulator.control import rules

pytestmark = pytest.mark.anyio
HOOK = "http://127.0.0.1:9000/hook"
SPEC = Path(__file__).parents[2] / "openapi" / "serverless.yaml"


@pytest.fixture
async def live(tmp_path: Path, anyio_backend: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LiveBench]:
    monkeypatch.setattr(contract, "check", lambda *_: None)  # to break it is what faults are for
    async with LiveBench(tmp_path / "data") as bench:
        bench.workers_then(Call.ok)
        yield bench


async def fault(live: LiveBench, kind: str, *, key: str | None = None, **fields: Any) -> str:
    return (await live.told("POST", "faults", {"kind": kind, **fields}, key=key))["id"]


async def matched_and_fired(live: LiveBench) -> list[tuple[int, int]]:
    return [(rule["matched"], rule["fired"]) for rule in await live.told("GET", "faults")]


class Connection:
    """One request whose answer may never come; as GuardedProtocol offers it."""

    def __init__(self, live: LiveBench, method: str, path: str, body: Any = None) -> None:
        self._live = live
        self._sent = b"" if body is None else json.dumps(body).encode()
        self._scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"x-api-key", b"me"), (b"host", b"localhost")],
            "client": ("127.0.0.1", 50_000),
            "extensions": {"yottabench.connection": {"reset": self.reset}},
        }
        self.left = asyncio.Event()
        self.was_reset = False
        self.events: list[dict[str, Any]] = []

    def reset(self) -> None:
        self.was_reset = True
        self.left.set()

    async def run(self) -> None:
        async def receive() -> dict[str, Any]:
            if self._sent is not None:
                sent, self._sent = self._sent, None
                return {"type": "http.request", "body": sent, "more_body": False}
            await self.left.wait()
            return {"type": "http.disconnect"}

        async def send(event: dict[str, Any]) -> None:
            self.events.append(event)

        await self._live.emulator.application(self._scope, receive, send)


# ---- answers of the API


async def test_an_answer_can_be_an_error_of_any_status_and_code(live: LiveBench) -> None:
    fault_id = await fault(live, "error", operation="listEndpoints", status=503, code=24000, retryAfterS=7)
    reply = await live.call("GET", ROOT)
    assert (reply.http_status, reply.code, reply.headers["retry-after"]) == (503, 24000, "7")
    assert fault_id in reply.message


@pytest.mark.parametrize(
    ("status", "code"), [(400, 10001), (401, 40101), (404, 14000), (409, 24002), (429, 429), (500, 10002), (599, 10002)]
)
async def test_the_code_follows_from_the_status(live: LiveBench, status: int, code: int) -> None:
    await fault(live, "error", operation="*", status=status)
    reply = await live.call("GET", ROOT)
    assert (reply.http_status, reply.code, reply.data) == (status, code, None)


async def test_a_fault_strikes_its_own_operation_only(live: LiveBench) -> None:
    await fault(live, "error", operation="createEndpoint")
    assert (await live.call("GET", ROOT)).http_status == 200
    assert (await live.call("POST", ROOT, create_body())).http_status == 500


async def test_every_documented_operation_can_be_struck_and_no_other(live: LiveBench) -> None:
    paths = yaml.safe_load(SPEC.read_text(encoding="utf-8"))["paths"]
    documented = {
        operation["operationId"] for path in paths.values() for operation in path.values() if "operationId" in operation
    }
    assert documented == live.api.operations
    for operation in sorted(documented):
        await fault(live, "error", operation=operation, status=418)
    endpoint_id = "123"
    for path, method in [
        (path, method) for path, each in paths.items() for method, found in each.items() if "operationId" in found
    ]:
        url = path.replace("{id}", endpoint_id).replace("{workerId}", "9").replace("{taskId}", "t")
        assert (await live.call(method.upper(), url, {})).http_status == 418, (method, url)


async def test_an_operation_can_be_struck_for_one_endpoint(live: LiveBench) -> None:
    one, other = await live.endpoint(), await live.endpoint()
    await fault(live, "error", operation="getEndpointById", endpoint=one, status=500)
    assert (await live.call("GET", f"{ROOT}/{one}")).http_status == 500
    assert (await live.call("GET", f"{ROOT}/{other}")).http_status == 200


async def test_a_rule_made_with_a_key_strikes_that_key_only(live: LiveBench) -> None:
    await fault(live, "error", operation="*", key="me")
    assert (await live.call("GET", ROOT, key="me")).http_status == 500
    assert (await live.call("GET", ROOT, key="you")).http_status == 200
    assert await live.told("GET", "faults", key="you") == []
    assert len(await live.told("GET", "faults", key="me")) == 1


@pytest.mark.parametrize("takes_effect", [False, True])
async def test_a_failed_submit_has_taken_effect_only_if_the_rule_says_so(live: LiveBench, takes_effect: bool) -> None:
    endpoint_id = await live.endpoint()
    await fault(live, "error", operation="submitTask", takesEffect=takes_effect)
    assert (await live.call("POST", f"{ROOT}/{endpoint_id}/tasks", submit_body(taskId="t"))).http_status == 500
    assert (await live.call("GET", f"{ROOT}/{endpoint_id}/tasks/t")).http_status == (200 if takes_effect else 404)


async def test_an_error_that_the_request_earns_itself_does_not_show_through_a_fault(live: LiveBench) -> None:
    await fault(live, "error", operation="getEndpointById", status=502, takesEffect=True)
    assert (await live.call("GET", f"{ROOT}/1")).http_status == 502


async def test_a_fault_ends_after_its_count(live: LiveBench) -> None:
    await fault(live, "error", operation="listEndpoints", count=2)
    assert [(await live.call("GET", ROOT)).http_status for _ in range(4)] == [500, 500, 200, 200]
    assert await matched_and_fired(live) == [(4, 2)]


async def test_the_same_seed_strikes_the_same_requests(live: LiveBench) -> None:
    async def pattern(seed: int) -> list[int]:
        await live.told("DELETE", "faults")
        await fault(live, "error", operation="listEndpoints", probability=0.5, seed=seed)
        return [(await live.call("GET", ROOT)).http_status for _ in range(40)]

    first = await pattern(1)
    assert await pattern(1) == first
    assert await pattern(2) != first
    assert 5 < first.count(500) < 35


async def test_a_fault_of_probability_0_never_strikes(live: LiveBench) -> None:
    await fault(live, "error", operation="*", probability=0)
    assert (await live.call("GET", ROOT)).http_status == 200
    assert await matched_and_fired(live) == [(1, 0)]


async def test_latency_passes_on_the_clock_and_several_add_up(live: LiveBench) -> None:
    await live.told("POST", "clock/freeze")
    await fault(live, "latency", operation="listEndpoints", latencyMs=400)
    await fault(live, "latency", operation="*", latencyMs=600)
    asked = asyncio.ensure_future(live.call("GET", ROOT))
    await live.quiet()
    await live.advance(0.999)
    assert not asked.done()
    await live.advance(0.001)
    assert (await asked).http_status == 200


async def test_latency_comes_before_the_error_of_another_rule(live: LiveBench) -> None:
    await live.told("POST", "clock/freeze")
    await fault(live, "latency", operation="listEndpoints", latencyMs=1_000)
    await fault(live, "error", operation="listEndpoints", status=502)
    asked = asyncio.ensure_future(live.call("GET", ROOT))
    await live.quiet()
    assert not asked.done()
    await live.advance(1)
    assert (await asked).http_status == 502


async def test_an_endpoint_that_goes_while_a_request_is_late_is_not_found(live: LiveBench) -> None:
    endpoint_id = await live.endpoint()
    await live.told("POST", "clock/freeze")
    await fault(live, "latency", operation="submitTask", latencyMs=1_000)
    asked = asyncio.ensure_future(live.call("POST", f"{ROOT}/{endpoint_id}/tasks", submit_body()))
    await live.quiet()
    await live.delete(f"/{endpoint_id}")
    await live.advance(1)
    assert (await asked).code == 14000


async def test_garbage_is_no_json(live: LiveBench) -> None:
    await fault(live, "garbage", operation="listEndpoints")
    connection = Connection(live, "GET", ROOT)
    await connection.run()
    start, body = connection.events
    assert (start["status"], len(body["body"])) == (200, 64)
    with pytest.raises(ValueError, match="decode"):
        body["body"].decode("utf-8")


async def test_a_reset_closes_the_connection_without_an_answer(live: LiveBench) -> None:
    await fault(live, "reset", operation="createEndpoint")
    connection = Connection(live, "POST", ROOT, create_body())
    await asyncio.wait_for(connection.run(), 10)
    assert connection.was_reset
    assert connection.events == []
    assert len(await live.get("")) == 1  # it took effect: only the answer is lost


@pytest.mark.parametrize("end", ["the client leaves", "the rule is lifted", "a reset"])
async def test_a_dropped_answer_never_comes(live: LiveBench, end: str) -> None:
    fault_id = await fault(live, "drop", operation="listEndpoints")
    connection = Connection(live, "GET", ROOT)
    asked = asyncio.ensure_future(connection.run())
    await live.quiet()
    assert not asked.done()
    if end == "the client leaves":
        connection.left.set()
    elif end == "the rule is lifted":
        await live.told("DELETE", f"faults/{fault_id}")
    else:
        await live.told("POST", "reset")
    await asyncio.wait_for(asked, 10)
    assert connection.events == []


async def test_the_error_style_holds_for_faults_too(tmp_path: Path) -> None:
    async with LiveBench(tmp_path / "data", error_style="envelope200") as live:
        await fault(live, "error", operation="listEndpoints", status=409)
        reply = await live.call("GET", ROOT)
        assert (reply.http_status, reply.code) == (200, 24002)


# ---- calls to workers


async def outcome(live: LiveBench, endpoint_id: str, task_id: str = "t") -> tuple[str, list[tuple[str, str | None]]]:
    found = await live.told("GET", f"tasks/{endpoint_id}/{task_id}/attempts")
    return found["state"], [(each["outcome"], each["reason"]) for each in found["attempts"]]


async def test_a_worker_can_answer_with_an_error_without_being_asked(live: LiveBench) -> None:
    endpoint_id = await live.endpoint()
    await fault(live, "error", worker=endpoint_id, status=503)
    await live.submit(endpoint_id, taskId="t")
    task = await live.task(endpoint_id, "t")
    assert task["status"] == "FAILED"
    assert task["error"].startswith("HTTP 503")
    assert live.driver.workers[0].all_calls == []


async def test_a_worker_can_have_done_its_work_before_the_error(live: LiveBench) -> None:
    endpoint_id = await live.endpoint()
    await fault(live, "error", worker=endpoint_id, takesEffect=True)
    await live.submit(endpoint_id, taskId="t")
    assert (await live.task(endpoint_id, "t"))["status"] == "FAILED"
    assert len(live.driver.workers[0].all_calls) == 1


@pytest.mark.parametrize(("takes_effect", "calls"), [(False, 1), (True, 2)])
async def test_a_reset_costs_an_attempt(live: LiveBench, takes_effect: bool, calls: int) -> None:
    endpoint_id = await live.endpoint()
    await fault(live, "reset", worker=endpoint_id, count=1, takesEffect=takes_effect)
    await live.submit(endpoint_id, taskId="t")
    await live.advance(60)
    state, attempts = await outcome(live, endpoint_id)
    assert state == "SUCCEEDED"
    assert [each[0] for each in attempts] == ["RETURNED", "SUCCEEDED"]
    assert attempts[0][1] is not None
    assert "f1" in attempts[0][1]
    assert len(live.driver.workers[0].all_calls) == calls


async def test_a_dropped_answer_of_a_worker_ends_with_its_lease(live: LiveBench) -> None:
    endpoint_id = await live.endpoint()
    await fault(live, "drop", worker=endpoint_id, count=1)
    await live.submit(endpoint_id, taskId="t")
    assert (await outcome(live, endpoint_id))[1] == [("RUNNING", None)]
    await live.advance(3_700)
    state, attempts = await outcome(live, endpoint_id)
    assert state == "SUCCEEDED"
    assert len(attempts) == 2


async def test_garbage_of_a_worker_fails_the_task(live: LiveBench) -> None:
    endpoint_id = await live.endpoint()
    await fault(live, "garbage", worker=endpoint_id)
    await live.submit(endpoint_id, taskId="t")
    task = await live.task(endpoint_id, "t")
    assert task["status"] == "FAILED"
    assert "not HTTP" in task["error"]


async def test_a_worker_can_be_slow(live: LiveBench) -> None:
    await live.told("POST", "clock/freeze")
    endpoint_id = await live.endpoint()
    await fault(live, "latency", worker=endpoint_id, latencyMs=5_000)
    await live.submit(endpoint_id, taskId="t")
    await live.advance(4.999)
    assert (await live.task(endpoint_id, "t"))["status"] == "PROCESSING"
    await live.advance(0.001)
    assert (await live.task(endpoint_id, "t"))["status"] == "SUCCESS"


async def test_one_worker_can_be_struck_by_its_id_and_others_not(live: LiveBench) -> None:
    endpoint_id = await live.endpoint(workers=2)
    struck = live.driver.workers[0].id
    await fault(live, "error", worker=struck)
    for number in range(4):
        await live.submit(endpoint_id, taskId=f"t{number}")
    statuses = [(await live.task(endpoint_id, f"t{number}"))["status"] for number in range(4)]
    assert sorted(statuses) == ["FAILED", "FAILED", "SUCCESS", "SUCCESS"]


async def test_the_workers_of_another_endpoint_are_not_struck(live: LiveBench) -> None:
    one, other = await live.endpoint(), await live.endpoint()
    await fault(live, "error", worker=one)
    await live.submit(other, taskId="t")
    assert (await live.task(other, "t"))["status"] == "SUCCESS"


async def test_any_worker_of_a_key_can_be_struck(live: LiveBench) -> None:
    mine, yours = await live.endpoint(), await live.endpoint(key="you")
    await fault(live, "error", worker="*", key="me")
    await live.submit(mine, taskId="t")
    await live.submit(yours, taskId="t", key="you")
    assert (await live.task(mine, "t"))["status"] == "FAILED"
    assert (await live.get(f"/{yours}/tasks/t", key="you"))["status"] == "SUCCESS"


# ---- sends of webhooks


@pytest.mark.parametrize("kind", ["error", "reset", "garbage", "drop"])
async def test_a_send_that_is_struck_is_not_acknowledged_and_tried_again(live: LiveBench, kind: str) -> None:
    receiver = live.network.receiver(then=Call.ok)
    endpoint_id = await live.endpoint()
    await fault(live, kind, receiver="127.0.0.1:9000", count=1, takesEffect=False)
    await live.submit(endpoint_id, taskId="t", webhook=HOOK)
    await live.advance(10)
    assert receiver.all_calls == []
    assert (await live.task(endpoint_id, "t"))["deliveryStatus"] == "FAILED"
    await live.advance(60)
    assert (await live.task(endpoint_id, "t"))["deliveryStatus"] == "SUCCESS"
    (delivery,) = (await live.told("GET", "deliveries"))["deliveries"]
    first, second = delivery["attempts"]
    assert "f1" in first["note"]
    assert second["acknowledged"]


async def test_a_receiver_can_have_taken_what_it_did_not_acknowledge(live: LiveBench) -> None:
    receiver = live.network.receiver(then=Call.ok)
    await fault(live, "reset", receiver="127.0.0.1:9000", count=1)
    await live.submit(await live.endpoint(), webhook=HOOK)
    await live.advance(60)
    assert [call.json["retry_count"] for call in receiver.all_calls] == [1, 2]


async def test_a_receiver_can_be_slow(live: LiveBench) -> None:
    receiver = live.network.receiver(then=Call.ok)
    await live.told("POST", "clock/freeze")
    await fault(live, "latency", receiver="*", latencyMs=3_000)
    await live.submit(await live.endpoint(), webhook=HOOK)
    await live.advance(2.999)
    assert receiver.all_calls == []
    await live.advance(0.001)
    assert len(receiver.all_calls) == 1


async def test_another_receiver_is_not_struck(live: LiveBench) -> None:
    receiver = live.network.receiver(then=Call.ok)
    await fault(live, "error", receiver="127.0.0.1:9001")
    await live.submit(await live.endpoint(), webhook=HOOK)
    assert len(receiver.all_calls) == 1


# ---- the rules themselves


async def test_rules_are_shown_as_they_were_made_and_lifted_one_by_one(live: LiveBench) -> None:
    made = await live.told("POST", "faults", {"kind": "latency", "worker": "*", "latencyMs": 5, "count": 1, "seed": 3})
    assert made == {
        "id": "f1",
        "kind": "latency",
        "worker": "*",
        "latencyMs": 5,
        "count": 1,
        "probability": 1.0,
        "seed": 3,
        "matched": 0,
        "fired": 0,
    }
    other = await fault(live, "reset", receiver="LocalHost:80")
    assert (await live.told("GET", "faults"))[1]["receiver"] == "localhost:80"
    assert await live.told("DELETE", f"faults/{made['id']}") == made
    assert [rule["id"] for rule in await live.told("GET", "faults")] == [other]
    assert (await live.ask("DELETE", f"faults/{made['id']}")).code == 10007
    assert await live.told("DELETE", "faults") == {"lifted": 1}
    assert not live.on.faults.armed


async def test_a_key_cannot_lift_the_rules_of_another(live: LiveBench) -> None:
    fault_id = await fault(live, "error", operation="*", key="me")
    assert (await live.ask("DELETE", f"faults/{fault_id}", key="you")).code == 10007
    assert await live.told("DELETE", "faults", key="you") == {"lifted": 0}
    assert await live.told("DELETE", "faults", key="me") == {"lifted": 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": None},
        {"kind": "slow"},
        {"operation": None},
        {"operation": "cancelTask"},
        {"operation": 1},
        {"worker": "1"},
        {"operation": None, "worker": "one"},
        {"operation": None, "worker": "1" * 20},
        {"operation": None, "receiver": "localhost"},
        {"operation": None, "receiver": "http://localhost:80"},
        {"operation": None, "receiver": "localhost:80", "endpoint": "1"},
        {"endpoint": "x"},
        {"status": 399},
        {"status": 600},
        {"code": 0},
        {"retryAfterS": -1},
        {"latencyMs": 1},
        {"kind": "latency"},
        {"kind": "latency", "latencyMs": -1},
        {"kind": "latency", "latencyMs": 86_400_001},
        {"kind": "latency", "latencyMs": 1, "takesEffect": True},
        {"kind": "reset", "status": 500},
        {"probability": -0.1},
        {"probability": 1.1},
        {"probability": "1"},
        {"probability": True},
        {"count": 0},
        {"count": 1.5},
        {"seed": -1},
        {"takesEffect": "yes"},
        {"unknown": 1},
    ],
)
async def test_a_rule_that_makes_no_sense_is_refused(live: LiveBench, changes: dict[str, Any]) -> None:
    rule = {"kind": "error", "operation": "submitTask", **changes}
    sent = {name: value for name, value in rule.items() if value is not None}
    reply = await live.ask("POST", "faults", sent)
    assert (reply.http_status, reply.code) == (400, 10001)
    assert await live.told("GET", "faults") == []


@pytest.mark.parametrize(
    "changes",
    [
        {"status": 400},
        {"status": 599},
        {"kind": "latency", "latencyMs": 0},
        {"kind": "latency", "latencyMs": 86_400_000},
        {"probability": 0},
        {"probability": 1},
        {"count": 1},
        {"operation": None, "worker": "1" * 19},
        {"operation": None, "receiver": "[::1]:1"},
    ],
)
async def test_a_rule_at_the_edge_of_sense_is_taken(live: LiveBench, changes: dict[str, Any]) -> None:
    rule = {"kind": "error", "operation": "submitTask", **changes}
    await live.told("POST", "faults", {name: value for name, value in rule.items() if value is not None})


async def test_there_are_only_so_many_rules(live: LiveBench) -> None:
    with changed(rules, FAULT_RULES_MAX=2):
        for _ in range(2):
            await fault(live, "reset", worker="*")
        assert (await live.ask("POST", "faults", {"kind": "reset", "worker": "*"})).code == 24002
