import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from tests import strategies
from tests.emulator import contract
from tests.emulator.harness import ROOT, Bench, Reply, create_body, settle, submit_body
from tests.spec.reading import operations
from yottabench.emulator.limits import BODY_MAX_BYTES, HEADER_MAX_COUNT, OUTPUT_MAX_BYTES

pytestmark = pytest.mark.anyio

MakeBench = Callable[..., Bench]
UPDATE = {name: value for name, value in create_body().items() if name not in {"image", "serviceMode"}}
HOOK = "http://127.0.0.1:9000/hook"


def refused(reply: Reply, status: int, code: int, *words: str) -> None:
    """It is refused in this way, and the message has these words."""
    assert (reply.http_status, reply.code, reply.data) == (status, code, None), reply.body
    for word in words:
        assert word in reply.message


def rows(bench: Bench) -> dict[str, int]:
    """How much is in each table of the store."""
    tables = [name for (name,) in bench.sql("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {table: bench.sql(f"SELECT count(*) FROM {table}")[0][0] for table in tables}


def path_of(template: str, endpoint_id: str, task_id: str = "t", worker_id: str = "1") -> str:
    path = template.replace("{id}", endpoint_id).replace("{taskId}", task_id).replace("{workerId}", worker_id)
    return f"{path}?count=1" if path.endswith("/workers") else path


BODIES = {"createEndpoint": create_body(), "updateEndpoint": UPDATE, "submitTask": submit_body()}
ALL = [(operation["operationId"], method.upper(), path) for path, method, operation in operations()]
OF_AN_ENDPOINT = [each for each in ALL if "{id}" in each[2]]
each_operation = pytest.mark.parametrize(("name", "method", "template"), ALL, ids=[each[0] for each in ALL])
each_operation_of_an_endpoint = pytest.mark.parametrize(
    ("name", "method", "template"), OF_AN_ENDPOINT, ids=[each[0] for each in OF_AN_ENDPOINT]
)


# ---- all operations


def test_there_are_fourteen_operations() -> None:
    assert len(ALL) == 14


@each_operation
async def test_every_operation_answers_as_documented(bench: Bench, name: str, method: str, template: str) -> None:
    endpoint_id = await bench.endpoint()
    await bench.submit(endpoint_id, taskId="t")
    worker = bench.driver.workers[0]
    worker.log("a line")
    path = path_of(template, endpoint_id, worker_id=worker.id)
    operation = contract.operation_of(method, path.partition("?")[0])
    assert operation is not None
    assert operation["operationId"] == name
    reply = await bench.call(method, path, BODIES.get(name))
    assert (reply.http_status, reply.code, reply.message) == (200, 10000, "success")
    assert reply.headers["content-type"] == "application/json"


@each_operation
async def test_every_operation_asks_for_a_key(bench: Bench, name: str, method: str, template: str) -> None:
    endpoint_id = await bench.endpoint()
    before = rows(bench)
    for headers in ((), (("X-Api-Key", ""),), (("X-Api-Key", "  "),), (("Authorization", "Bearer me"),)):
        reply = await bench.call(method, path_of(template, endpoint_id), BODIES.get(name), key=None, headers=headers)
        refused(reply, 401, 40101, "X-Api-Key")
    assert rows(bench) == before


@each_operation_of_an_endpoint
async def test_every_operation_on_an_endpoint_of_another_key_is_as_on_none(
    bench: Bench, name: str, method: str, template: str
) -> None:
    endpoint_id = await bench.endpoint(key="mine")
    await bench.submit(endpoint_id, key="mine", taskId="t")
    worker_id = bench.driver.workers[0].id
    before = (rows(bench), await bench.get(f"/{endpoint_id}", key="mine"))
    body = BODIES.get(name)
    theirs = await bench.call(method, path_of(template, endpoint_id, worker_id=worker_id), body, key="theirs")
    nobodys = await bench.call(method, path_of(template, "123", worker_id=worker_id), body, key="theirs")
    refused(theirs, 404, 14000, endpoint_id)
    refused(nobodys, 404, 14000, "123")
    assert theirs.message.replace(endpoint_id, "X") == nobodys.message.replace("123", "X")
    assert (rows(bench), await bench.get(f"/{endpoint_id}", key="mine")) == before


@each_operation_of_an_endpoint
async def test_every_operation_refuses_what_is_no_endpoint_id(
    bench: Bench, name: str, method: str, template: str
) -> None:
    for bad in ("x", "-1", "1" * 20, "1.0", "%20", "1%0a", "..", "%2e%2e", "1%2f2", "%ff", "²", "*", ""):
        path = path_of(template, "{bad}").replace("{bad}", bad.encode().decode("latin-1"))
        reply = await bench.call(method, path, BODIES.get(name))
        refused(reply, 400, 10001, "id must be 1 to 19 digits")


async def test_the_largest_id_is_only_unknown(bench: Bench) -> None:
    refused(await bench.call("GET", f"{ROOT}/{'9' * 19}"), 404, 14000)
    endpoint_id = await bench.endpoint()
    refused(await bench.call("GET", f"{ROOT}/{endpoint_id}/workers/{'9' * 19}/logs"), 404, 10007)


# ---- keys


async def test_keys_see_only_their_own(bench: Bench) -> None:
    mine, theirs = await bench.endpoint(key="mine"), await bench.endpoint(key="theirs")
    assert [each["id"] for each in await bench.get("", key="mine")] == [mine]
    assert [each["id"] for each in await bench.get("", key="theirs")] == [theirs]
    assert await bench.get("", key="other") == []


async def test_with_configured_keys_no_other_is_let_in(make_bench: MakeBench) -> None:
    bench = make_bench(api_keys=frozenset({"alpha", "beta"}))
    assert await bench.get("", key="alpha") == []
    assert await bench.get("", key="beta") == []
    for key in ("gamma", "alphA", "alphaa", "ALPHA", "", "alpha,beta"):
        refused(await bench.call("GET", ROOT, key=key), 401, 40101)
    assert "alpha" not in repr(bench.settings)


async def test_no_key_is_in_the_store(bench: Bench) -> None:
    key = "my-very-own-api-key"
    endpoint_id = await bench.endpoint(key=key)
    await bench.submit(endpoint_id, key=key)
    await bench.close()
    for path in bench.settings.data.iterdir():
        assert key.encode() not in path.read_bytes(), path.name


# ---- paths and methods


OTHER_PATHS = """
    / /v2 /v2/ /v2/serverlessx /v2/serverlesz /V2/serverless //v2/serverless /v2//serverless
    /v2/serverless/1/other /v2/serverless/1/tasks/t/x /v2/serverless/1/tasks/t/logs /v2/serverless/1/workers/2
    /v2/serverless/1/workers/2/logs/x /v2/serverless/1/stop/x /v2/serverless/1/../2 /v2/serverless/1//tasks
    /v2/serverless/1/tasks/ /v2/serverless/1/tasks// /v2/serverless/1/workers//logs
    /v2/serverless/1/tasks/a%2fb/c /v2/serverless/./1 /v2/x/../serverless /v2%2fserverless /_emulatorx
    /v2/serverless/1/* /* /v2/serverless/1/*/2/logs /v2/serverless/1/a/b/c/d/e /v2/serverless;x
    /v2/serverless/1/tasks;x/t
"""


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_other_paths_are_told_from_ours(bench: Bench, method: str) -> None:
    for path in OTHER_PATHS.split():
        reply = await bench.call(method, path, submit_body() if method == "POST" else None)
        assert reply.http_status in {400, 404, 405}, path
        assert reply.code in {10001, 14000, 40400, 24011, 10007}, path
        assert reply.data is None


async def test_a_task_id_that_cannot_be_is_a_parameter_error(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    for bad in ("*", "%2a", "..", "%2e%2e", ".", "a%20b", "a%0a", "%00", "a.b", "x" * 256, "%ff", "a%2fb"):
        refused(await bench.call("GET", f"{ROOT}/{endpoint_id}/tasks/{bad}"), 400, 10001, "taskId")
        refused(await bench.call("GET", f"{ROOT}/{endpoint_id}/workers/{bad}/logs"), 400, 10001, "workerId")


async def test_percent_encoded_ids_are_those_they_stand_for(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    await bench.submit(endpoint_id, taskId="ab_1")
    encoded = "".join(f"%{ord(digit):x}" for digit in endpoint_id)
    assert (await bench.get(f"/{encoded}/tasks/%61b%5F1"))["taskId"] == "ab_1"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("", {"GET", "POST"}),
        ("/{id}", {"GET", "PATCH", "DELETE"}),
        ("/{id}/stop", {"POST"}),
        ("/{id}/start", {"POST"}),
        ("/{id}/workers", {"GET", "PUT"}),
        ("/{id}/workers/1/logs", {"GET"}),
        ("/{id}/tasks", {"GET", "POST"}),
        ("/{id}/tasks/count", {"GET"}),
        ("/{id}/tasks/t", {"GET"}),
    ],
)
async def test_other_methods_are_refused_with_those_that_would_do(bench: Bench, path: str, allowed: set[str]) -> None:
    endpoint_id = await bench.endpoint()
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW"} - allowed:
        reply = await bench.call(method, ROOT + path.replace("{id}", endpoint_id))
        refused(reply, 405, 10001, method, *allowed)


# ---- bodies


def padded(size: int) -> bytes:
    """A body of submitTask with exactly so many bytes."""
    body = json.dumps(submit_body(input="")).encode()
    return body.replace(b'"input": ""', b'"input": "' + b"x" * (size - len(body)) + b'"')


async def test_a_body_of_ten_megabytes_is_taken_and_one_byte_more_is_not(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    path = f"{ROOT}/{endpoint_id}/tasks"
    before = rows(bench)
    over = padded(BODY_MAX_BYTES + 1)
    refused(await bench.call("POST", path, over), 413, 10001, str(BODY_MAX_BYTES))
    chunks = [over[at : at + 60_000] for at in range(0, len(over), 60_000)]
    refused(await bench.call("POST", path, chunks=chunks), 413, 10001)
    refused(await bench.call("POST", path, chunks=[over, b""]), 413, 10001)
    refused(await bench.call("POST", path, b"x" * 11_000_000), 413, 10001)
    assert rows(bench) == before
    exactly = padded(BODY_MAX_BYTES)
    assert (await bench.call("POST", path, exactly)).code == 10000
    assert (await bench.call("POST", path, chunks=[exactly[:5_000_000], exactly[5_000_000:]])).code == 10000
    await settle()
    assert len(bench.driver.calls[0].body) > BODY_MAX_BYTES - 200


async def test_a_body_in_any_pieces_is_one_body(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    body = json.dumps(submit_body(taskId="pieces")).encode()
    chunks = [b"", *(body[at : at + 7] for at in range(0, len(body), 7)), b""]
    assert (await bench.call("POST", f"{ROOT}/{endpoint_id}/tasks", chunks=chunks)).data == {"taskId": "pieces"}


async def test_actions_take_no_body_an_empty_object_or_anything(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    for body in (None, {}, b"not JSON at all"):
        assert (await bench.call("POST", f"{ROOT}/{endpoint_id}/start", body)).data is True


async def test_too_many_headers_are_refused(bench: Bench) -> None:
    many = [(f"x-{number}", "1") for number in range(HEADER_MAX_COUNT + 1)]
    refused(await bench.call("GET", ROOT, headers=many), 431, 10001, str(HEADER_MAX_COUNT))
    assert (await bench.call("GET", ROOT, headers=many[: HEADER_MAX_COUNT - 4])).code == 10000


async def test_a_broken_body_is_a_parameter_error_and_leaves_nothing(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    before = rows(bench)
    for body in (b"", b"{", b"[]", b"null", b'{"input":"\xff"}', b"[" * 100_000, b'{"input":"\\ud800"}'):
        for method, path in (("POST", ""), ("PATCH", f"/{endpoint_id}"), ("POST", f"/{endpoint_id}/tasks")):
            refused(await bench.call(method, ROOT + path, body), 400, 10001)
    assert rows(bench) == before


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    create=strategies.invalid_create_requests(),
    update=strategies.invalid_update_requests(),
    submit=strategies.invalid_submit_requests(),
)
async def test_nothing_is_stored_after_a_refusal(
    bench: Bench, create: dict[str, Any], update: dict[str, Any], submit: dict[str, Any]
) -> None:
    listed = await bench.get("")
    endpoint_id = listed[0]["id"] if listed else await bench.endpoint()
    before = (rows(bench), await bench.get(""))
    for method, path, body in (
        ("POST", ROOT, create),
        ("PATCH", f"{ROOT}/{endpoint_id}", update),
        ("POST", f"{ROOT}/{endpoint_id}/tasks", submit),
    ):
        refused(await bench.call(method, path, body), 400, 10001)
    assert (rows(bench), await bench.get("")) == before


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(create=strategies.create_requests())
async def test_what_was_asked_for_is_what_is_shown(bench: Bench, create: dict[str, Any]) -> None:
    create = {**create, "workers": 0}
    made = await bench.post("", create)
    again = await bench.get(f"/{made['id']}")
    assert made == again
    for name in (
        "name",
        "image",
        "imageRegistry",
        "containerVolumeInGb",
        "serviceMode",
        "webhook",
        "resources",
        "expose",
    ):
        assert made[name] == create.get(name), name
    assert made["environmentVars"] == create.get("environmentVars", create.get("envVars", []))
    assert (made["totalWorkers"], made["runningWorkers"], made["cost"]) == (0, 0, 0)
    await bench.delete(f"/{made['id']}")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(submit=strategies.submit_requests())
async def test_a_task_comes_back_as_it_was_sent_and_goes_to_the_worker_as_it_was_sent(
    bench: Bench, submit: dict[str, Any]
) -> None:
    listed = await bench.get("")
    endpoint_id = listed[0]["id"] if listed else await bench.endpoint()
    submit.pop("taskId", None)
    made = await bench.post(f"/{endpoint_id}/tasks", submit)
    await settle()
    task = await bench.task(endpoint_id, made["taskId"])
    assert task["input"] == submit["input"]
    assert task["headers"] == submit.get("headers")
    assert task["webhook"] == submit.get("webhook")
    assert "webhookAuthKey" not in task
    (call,) = bench.driver.calls
    assert call.json == submit["input"]
    assert call.target == (submit["processUri"] if submit["processUri"].startswith("/") else f"/{submit['processUri']}")
    call.ok(call.body)
    await settle()
    assert (await bench.task(endpoint_id, made["taskId"]))["output"] == submit["input"]


# ---- which errors look how


async def test_the_error_style_of_the_live_service_hides_the_status_of_business_errors(make_bench: MakeBench) -> None:
    bench = make_bench(error_style="envelope200", api_keys=frozenset({"me"}))
    endpoint_id = await bench.endpoint()
    await bench.post(f"/{endpoint_id}/stop")
    await settle()
    path = f"{ROOT}/{endpoint_id}"
    hidden = [
        (await bench.call("GET", f"{ROOT}/1"), 14000),
        (await bench.call("POST", ROOT, {}), 10001),
        (await bench.call("GET", f"{path}/tasks/no"), 24011),
        (await bench.call("GET", f"{path}/workers/1/logs"), 10007),
        (await bench.call("POST", f"{path}/tasks", submit_body()), 24000),
    ]
    assert [(reply.http_status, reply.code) for reply, _ in hidden] == [(200, code) for _, code in hidden]
    bench.writer.refuse = 1
    shown = [
        (await bench.call("GET", ROOT, key="wrong"), 401, 40101),
        (await bench.call("POST", path + "/start"), 500, 10002),
        (await bench.call("POST", ROOT, b"x" * (BODY_MAX_BYTES + 1)), 413, 10001),
        (await bench.call("PUT", ROOT), 405, 10001),
    ]
    assert [(reply.http_status, reply.code) for reply, _, _ in shown] == [each[1:] for each in shown]


async def test_a_fault_of_ours_is_a_system_error_that_tells_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint_id = await bench.endpoint()

    def broken(*_: Any) -> Any:
        raise RuntimeError("an inner secret")

    monkeypatch.setattr(bench.store, "counts", broken)
    with caplog.at_level(logging.ERROR):
        reply = await bench.call("GET", f"{ROOT}/{endpoint_id}/tasks/count")
    refused(reply, 500, 10002, "System error")
    assert "secret" not in reply.message
    assert "an inner secret" in caplog.text


async def test_a_submit_that_cannot_be_stored_is_refused_and_not_executed(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    before = rows(bench)
    bench.writer.refuse = 1
    reply = await bench.call("POST", f"{ROOT}/{endpoint_id}/tasks", submit_body(taskId="t"))
    refused(reply, 500, 10002, "could not store", "Try again")
    await settle()
    assert (rows(bench), bench.driver.calls) == (before, [])
    assert await bench.submit(endpoint_id, taskId="t") == "t"
    assert len(bench.driver.calls) == 1


async def test_a_submit_is_answered_only_when_it_is_durable(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    bench.writer.held = True
    submitting = asyncio.ensure_future(bench.call("POST", f"{ROOT}/{endpoint_id}/tasks", submit_body()))
    await settle()
    assert not submitting.done()
    assert bench.driver.calls == []
    bench.writer.let_go()
    assert (await submitting).code == 10000


# ---- submit


@pytest.mark.parametrize("mode", ["ALB", "CUSTOM"])
async def test_only_queue_endpoints_take_tasks(bench: Bench, mode: str) -> None:
    endpoint_id = await bench.endpoint(serviceMode=mode, expose={"port": 80, "protocol": "http"}, workers=0)
    before = rows(bench)
    reply = await bench.call("POST", f"{ROOT}/{endpoint_id}/tasks", submit_body())
    refused(reply, 400, 10001, f"in {mode} mode; only QUEUE endpoints take tasks", "serviceMode=QUEUE")
    assert rows(bench) == before
    assert (await bench.get(f"/{endpoint_id}/tasks/count")) == {"processing": 0}
    assert (await bench.get(f"/{endpoint_id}/tasks"))["items"] == []


async def test_a_task_without_an_id_gets_one_that_is_valid_and_its_own(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    made = [await bench.submit(endpoint_id) for _ in range(5)]
    assert len(set(made)) == 5
    assert all(len(each) == 32 and each.isalnum() for each in made)


async def test_the_same_submit_again_is_the_same_task_in_every_state(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    first = json.dumps(submit_body(taskId="t", input={"a": 1, "b": [1.5]}, headers={"A": "1"})).encode()
    spelt_otherwise = (
        b'{"processUri":"run","headers":{"A":"1"},"workerPort":8e3,"input":{"b":[1.5],"a":1},"taskId":"t"}'
    )
    for _ in range(3):
        for body in (first, spelt_otherwise):
            assert (await bench.call("POST", f"{ROOT}/{endpoint_id}/tasks", body)).data == {"taskId": "t"}
            await settle()
        if bench.driver.calls:
            bench.driver.calls[0].ok()
            await settle()
    assert len(bench.driver.workers[0].all_calls) == 1
    assert (await bench.get(f"/{endpoint_id}/tasks"))["total"] == 1


async def test_one_id_submitted_many_times_at_once_is_one_task_and_one_execution(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=3)
    path = f"{ROOT}/{endpoint_id}/tasks"
    bodies = [submit_body(taskId="t", input=1 + number % 2) for number in range(20)]
    replies = await asyncio.gather(*[bench.call("POST", path, body) for body in bodies])
    assert sorted(reply.code for reply in replies) == [10000] * 10 + [10001] * 10
    await settle()
    assert len(bench.driver.calls) == 1
    assert (await bench.get(f"/{endpoint_id}/tasks"))["total"] == 1


OTHER_PAYLOADS = [
    {"input": {"prompt": "other"}},
    {"workerPort": 8001},
    {"processUri": "/other"},
    {"webhook": HOOK},
    {"webhookAuthKey": "k"},
    {"headers": {"A": "1"}},
]


@pytest.mark.parametrize("changes", OTHER_PAYLOADS, ids=lambda changes: next(iter(changes)))
async def test_a_known_id_with_another_payload_is_refused_or_the_first_wins(
    make_bench: MakeBench, changes: dict[str, Any]
) -> None:
    for setting in ("reject", "first-wins"):
        bench = make_bench(duplicate_task=setting)
        await settle()
        endpoint_id = await bench.endpoint(workers=0)
        await bench.submit(endpoint_id, taskId="t")
        before = await bench.task(endpoint_id, "t")
        reply = await bench.call("POST", f"{ROOT}/{endpoint_id}/tasks", submit_body(taskId="t", **changes))
        if setting == "reject":
            refused(reply, 400, 10001, "t belongs to a task with another payload", "Choose another taskId")
        else:
            assert reply.data == {"taskId": "t"}
        assert await bench.task(endpoint_id, "t") == before
        assert bench.sql("SELECT count(*) FROM task") == [(1,)]
        await bench.close()


async def test_numbers_that_nothing_can_hold_are_passed_on_and_can_be_repeated(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    for text in (b"[1e999]", b"1" + b"0" * 5000, b"-123456789012345678901234567890.5"):
        body = b'{"taskId":"t%d","input":%b,"workerPort":1,"processUri":"/"}' % (len(text), text)
        for spaced in (body, body.replace(b',"workerPort"', b' ,"workerPort"'), body.replace(b":", b": ")):
            reply = await bench.call("POST", f"{ROOT}/{endpoint_id}/tasks", spaced)
            assert reply.code in {10000, 10001}
        await settle()
        (call,) = bench.driver.calls
        assert call.body == text
        call.ok()
        await settle()


async def test_count_is_no_task_id(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    reply = await bench.call("POST", f"{ROOT}/{endpoint_id}/tasks", submit_body(taskId="count"))
    refused(reply, 400, 10001, "taskId must not be 'count'")
    assert await bench.get(f"/{endpoint_id}/tasks/count") == {"processing": 0}


# ---- reading tasks


async def test_a_task_is_shown_whole_and_never_with_its_key(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(name="llama")
    sent = submit_body(taskId="t", headers={"Authorization": "Bearer x"}, webhook=HOOK, webhookAuthKey="s3cret")
    await bench.post(f"/{endpoint_id}/tasks", sent)
    await settle()
    await bench.clock.advance(1)
    bench.driver.calls[0].ok(b'{"response":"Hi"}')
    await settle()
    created_ms = bench.clock.ms - 1000
    expected = {
        "taskId": "t",
        "endpointId": int(endpoint_id),
        "endpointName": "llama",
        "status": "SUCCESS",
        "workerUrl": "http://127.7.7.7:20000",
        "webhook": HOOK,
        "deliveryStatus": "FAILED",
        "deliveryAttempts": 1,
        "error": None,
        "createdAt": created_ms,
        "updatedAt": created_ms + 1000,
        "deliveredAt": None,
    }
    whole = {**expected, "input": sent["input"], "output": {"response": "Hi"}, "headers": sent["headers"]}
    assert await bench.task(endpoint_id, "t") == whole
    assert (await bench.get(f"/{endpoint_id}/tasks"))["items"] == [expected]


async def test_an_unknown_task_is_missing_and_one_of_another_endpoint_too(bench: Bench) -> None:
    one, two = await bench.endpoint(), await bench.endpoint()
    await bench.submit(one, taskId="t")
    refused(await bench.call("GET", f"{ROOT}/{two}/tasks/t"), 404, 24011, "t", two)
    refused(await bench.call("GET", f"{ROOT}/{one}/tasks/9b2f6c1e-0000-4000-8000-000000000000"), 404, 24011)


@pytest.mark.parametrize("size", [1, 7, 10, 100])
async def test_pages_show_every_task_once_newest_first_with_exact_totals(bench: Bench, size: int) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    other = await bench.endpoint(workers=0)
    for number in range(23):
        await bench.submit(endpoint_id, taskId=f"t{number:02}")
        await bench.submit(other, taskId=f"o{number:02}")
    pages = -(-23 // size)
    seen: list[str] = []
    for number in range(1, pages + 3):
        page = await bench.get(f"/{endpoint_id}/tasks?pageNumber={number}&pageSize={size}")
        assert (page["page"], page["size"], page["total"], page["pages"]) == (number, size, 23, pages)
        assert len(page["items"]) == max(0, min(size, 23 - (number - 1) * size))
        seen += [item["taskId"] for item in page["items"]]
    assert seen == [f"t{number:02}" for number in reversed(range(23))]


async def test_the_first_page_of_ten_is_the_default_and_no_task_means_no_page(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    empty = {"items": [], "page": 1, "size": 10, "total": 0, "pages": 0}
    assert await bench.get(f"/{endpoint_id}/tasks") == empty
    for _ in range(11):
        await bench.submit(endpoint_id)
    page = await bench.get(f"/{endpoint_id}/tasks")
    assert (len(page["items"]), page["total"], page["pages"]) == (10, 11, 2)
    assert (await bench.get(f"/{endpoint_id}/tasks?pageNumber=2147483647&pageSize=100"))["items"] == []


OUT_OF_RANGE = """
    pageNumber=0 pageNumber=2147483648 pageNumber=%31%0a
    pageSize=0 pageSize=101 pageSize=-1 pageSize=x pageSize= pageSize=1.0 pageSize=1&pageSize=2 pageSize=%ff
    status= status=DONE status=success status=SUCCESS,FAILED status=SUCCESS&status=FAILED
"""


async def test_lists_refuse_what_is_out_of_range(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    for query in OUT_OF_RANGE.split():
        refused(await bench.call("GET", f"{ROOT}/{endpoint_id}/tasks?{query}"), 400, 10001)


@pytest.mark.parametrize(
    "query", ["", "count=", "count=-1", "count=1001", "count=x", "count=1.5", "count=1&count=2", "workers=1"]
)
async def test_scaling_refuses_what_is_no_count_and_changes_nothing(bench: Bench, query: str) -> None:
    endpoint_id = await bench.endpoint(workers=2)
    refused(
        await bench.call("PUT", f"{ROOT}/{endpoint_id}/workers?{query}"),
        400,
        10001,
        "count" if query[:1] == "c" else "",
    )
    await settle()
    assert (await bench.get(f"/{endpoint_id}"))["totalWorkers"] == 2
    assert len(bench.driver.alive) == 2


async def test_unknown_statuses_are_refused_with_the_choices(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    for path in ("", f"/{endpoint_id}/workers"):
        refused(await bench.call("GET", f"{ROOT}{path}?statusList=NONE"), 400, 10001, "statusList", "RUNNING")
        refused(await bench.call("GET", f"{ROOT}{path}?statusList="), 400, 10001, "statusList")


async def test_the_count_is_of_open_tasks(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=1)
    for number in range(5):
        await bench.submit(endpoint_id, taskId=f"t{number}")
    counted = []
    for answer in (
        lambda call: call.ok(),
        lambda call: call.reply(500),
        lambda call: call.lose(),
        lambda call: call.ok(),
    ):
        counted.append((await bench.get(f"/{endpoint_id}/tasks/count"))["processing"])
        answer(bench.driver.calls[0])
        await settle()
        await bench.clock.advance(0.2)
    assert counted == [5, 4, 3, 3]
    for status, total in (("PROCESSING", 2), ("SUCCESS", 2), ("FAILED", 1), ("DELIVERED", 0)):
        assert (await bench.get(f"/{endpoint_id}/tasks?status={status}"))["total"] == total


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe",
        b'{"a":"\\ud800"}',
        b"<html>",
        b"NaN",
        b'{"a":1}\n',
        b"[" * 3000 + b"]" * 3000,
        b'"%b"' % (b"x" * 100_000),
    ],
)
async def test_whatever_a_worker_answers_the_task_can_be_read(bench: Bench, body: bytes) -> None:
    endpoint_id = await bench.endpoint()
    for status in (200, 500):
        task_id = await bench.submit(endpoint_id)
        bench.driver.calls[0].reply(status, body)
        await settle()
        task = await bench.task(endpoint_id, task_id)
        assert task["status"] == ("SUCCESS" if status == 200 else "FAILED")
        assert (task["error"] is None) == (status == 200)
        assert len(task["error"] or "") <= 4096


# ---- logs


async def test_the_log_of_a_worker_is_read_in_pages_both_ways_also_after_its_end(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    worker = bench.driver.workers[0]
    for number in range(25):
        worker.log(f"line {number}")
        await bench.clock.advance(0.001)
    await bench.put(f"/{endpoint_id}/workers?count=0")
    await settle()
    path = f"/{endpoint_id}/workers/{worker.id}/logs?pageSize=10"
    for direction, expected in (("Forward", list(range(25))), ("Backward", list(range(24, -1, -1)))):
        seen: list[str] = []
        query = f"{path}&direction={direction}"
        while True:
            page = await bench.get(query)
            seen += [entry["log"] for entry in page["logs"]]
            if not page["hasMore"]:
                break
            after = f"searchAfterTime={page['nextSearchAfterTime']}&searchAfterOffset={page['nextSearchAfterOffset']}"
            query = f"{path}&direction={direction}&{after}"
        assert seen == [f"line {number}" for number in expected]
    assert [entry["log"] for entry in (await bench.get(f"{path}&keyword=ne%202"))["logs"]] == [
        f"line {number}" for number in (2, 20, 21, 22, 23, 24)
    ]


async def test_the_log_of_a_worker_is_that_of_its_endpoint_alone(bench: Bench) -> None:
    one, two = await bench.endpoint(), await bench.endpoint()
    worker_id = bench.driver.workers[0].id
    assert (await bench.get(f"/{one}/workers/{worker_id}/logs"))["logs"] == []
    refused(await bench.call("GET", f"{ROOT}/{two}/workers/{worker_id}/logs"), 404, 10007, worker_id)
    refused(await bench.call("GET", f"{ROOT}/{one}/workers/9b2f-1/logs"), 404, 10007)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("pageSize=0", "pageSize"),
        ("pageSize=1001", "pageSize"),
        ("direction=Sideways", "direction"),
        ("startTime=yesterday", "startTime"),
        ("endTime=", "endTime"),
        ("startTime=2&endTime=1", "startTime"),
        ("searchAfterTime=1", "searchAfterOffset"),
        ("searchAfterOffset=1", "searchAfterTime"),
        ("keyword=", "keyword"),
        ("pageSize=1&pageSize=1", "pageSize"),
    ],
)
async def test_log_queries_are_refused_with_the_field_that_is_wrong(bench: Bench, query: str, field: str) -> None:
    endpoint_id = await bench.endpoint()
    worker_id = bench.driver.workers[0].id
    refused(await bench.call("GET", f"{ROOT}/{endpoint_id}/workers/{worker_id}/logs?{query}"), 400, 10001, field)


# ---- as a client sees it


async def test_httpx_reads_it_too(bench: Bench) -> None:
    transport = httpx.ASGITransport(bench.emulator.application, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://localhost", headers={"X-Api-Key": "me"}
    ) as client:
        made = (await client.post("/v2/serverless", json=create_body())).json()["data"]
        await settle()
        path = f"/v2/serverless/{made['id']}/tasks"
        sent = await client.post(path, json=submit_body(input={"text": "é ☃ \x00"}))
        await settle()
        (call,) = bench.driver.calls
        call.ok(call.body)
        await settle()
        task = (await client.get(f"{path}/{sent.json()['data']['taskId']}")).json()["data"]
        assert (task["status"], task["output"]) == ("SUCCESS", {"text": "é ☃ \x00"})
        listed = await client.get("/v2/serverless", params={"statusList": "RUNNING,STOPPED"})
        assert [each["id"] for each in listed.json()["data"]] == [made["id"]]
        assert (await client.get("/v2/serverless", headers={"X-Api-Key": ""})).status_code == 401


async def test_the_files_hold_secrets_and_are_for_their_owner_alone(bench: Bench, tmp_path: Path) -> None:
    endpoint_id = await bench.endpoint()
    bench.driver.workers[0].log("a line with a token")
    await bench.get(f"/{endpoint_id}/workers/{bench.driver.workers[0].id}/logs")
    for path in bench.settings.data.iterdir():
        if path.name != "lock":
            assert path.stat().st_mode & 0o077 == 0, path.name


def test_as_much_may_come_out_as_may_go_in() -> None:
    assert OUTPUT_MAX_BYTES >= BODY_MAX_BYTES
