"""Readings of openapi/NOTES.md that are about requests and answers, through the API."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.emulator.harness import ROOT, Bench, create_body, settle, submit_body
from yottabench.emulator.limits import BODY_MAX_BYTES

pytestmark = pytest.mark.anyio
MakeBench = Callable[..., Bench]


async def test_the_count_equals_the_open_tasks(bench: Bench) -> None:
    endpoint = await bench.endpoint(workers=1)
    for _ in range(3):
        await bench.submit(endpoint)
    assert await bench.get(f"/{endpoint}/tasks/count") == {"processing": 3}
    bench.driver.calls[0].ok()
    await settle()
    assert await bench.get(f"/{endpoint}/tasks/count") == {"processing": 2}
    bench.driver.calls[0].lose()  # waits for its next attempt: still open
    await settle()
    assert await bench.get(f"/{endpoint}/tasks/count") == {"processing": 2}


async def test_an_id_the_server_makes_obeys_its_own_rule(bench: Bench) -> None:
    endpoint = await bench.endpoint(workers=0)
    made = {await bench.submit(endpoint) for _ in range(20)}
    assert len(made) == 20
    for task_id in made:
        assert uuid.UUID(task_id).hex == task_id
        body = submit_body(taskId=task_id)
        assert (await bench.call("POST", f"{ROOT}/{endpoint}/tasks", body)).code == 10000


async def test_errors_come_in_the_style_that_is_set(make_bench: MakeBench) -> None:
    for style, hides in (("status", False), ("envelope200", True)):
        bench = make_bench(error_style=style)
        endpoint = await bench.endpoint(workers=0)
        for path, code, status in (("/1", 14000, 404), (f"/{endpoint}/tasks/nobody", 24011, 404), ("/x", 10001, 400)):
            reply = await bench.call("GET", ROOT + path)
            assert (reply.code, reply.http_status) == (code, 200 if hides else status)
        # No source ever saw these hidden in an HTTP 200.
        assert (await bench.call("GET", ROOT, key=None)).http_status == 401


async def test_every_refusal_has_its_code(bench: Bench) -> None:
    queue = await bench.endpoint(workers=0)
    custom = await bench.endpoint(workers=0, serviceMode="CUSTOM")
    alb = await bench.endpoint(workers=0, serviceMode="ALB", expose={"port": 8000, "protocol": "http"})
    stopped = await bench.endpoint(workers=0)
    await bench.post(f"/{stopped}/stop")
    await settle()
    refused: list[tuple[str, str, Any, int, int]] = [
        ("POST", f"/{custom}/tasks", submit_body(), 400, 10001),
        ("POST", f"/{alb}/tasks", submit_body(), 400, 10001),
        ("POST", f"/{stopped}/tasks", submit_body(), 409, 24000),
        ("POST", f"/{queue}/tasks", b"{", 400, 10001),
        ("GET", "/378888638324150969", None, 404, 14000),
        ("GET", f"/{queue}/tasks/no_such_task", None, 404, 24011),
        ("GET", f"/{queue}/workers/17/logs", None, 404, 10007),
        ("PUT", f"/{queue}/workers?count=1001", None, 400, 10001),
        ("GET", f"/{queue}/nowhere", None, 404, 40400),
        ("DELETE", f"/{queue}/tasks", None, 405, 10001),
    ]
    for method, path, body, status, code in refused:
        reply = await bench.call(method, ROOT + path, body)
        assert (reply.http_status, reply.code) == (status, code), path
        assert reply.data is None
        assert reply.message
    assert await bench.get(f"/{queue}/tasks/count") == {"processing": 0}


async def test_a_key_is_needed_and_is_the_namespace(bench: Bench, make_bench: MakeBench) -> None:
    for key in (None, "", "   "):
        reply = await bench.call("GET", ROOT, key=key)
        assert (reply.http_status, reply.code) == (401, 40101)
    endpoint = await bench.endpoint(key="mine", workers=0)
    assert [each["id"] for each in await bench.get("", key="mine")] == [endpoint]
    assert await bench.get("", key="yours") == []
    assert (await bench.call("GET", f"{ROOT}/{endpoint}", key="yours")).code == 14000
    assert (await bench.call("DELETE", f"{ROOT}/{endpoint}", key="yours")).code == 14000
    closed = make_bench(api_keys=frozenset({"known"}))
    assert (await closed.call("GET", ROOT, key="known")).code == 10000
    assert (await closed.call("GET", ROOT, key="unknown")).code == 40101


async def test_two_names_of_one_setting_must_agree(bench: Bench) -> None:
    one = [{"key": "A", "value": "1"}]
    for sent, code in (
        ({"envVars": one}, 10000),
        ({"environmentVars": one, "envVars": one}, 10000),
        ({"environmentVars": one, "envVars": []}, 10001),
        ({"credentialId": 7}, 10000),
        ({"containerRegistryAuthId": 7, "credentialId": 8}, 10001),
    ):
        assert (await bench.call("POST", ROOT, create_body(workers=0, **sent))).code == code, sent


async def test_a_body_over_the_limit_is_refused_with_413(bench: Bench) -> None:
    endpoint = await bench.endpoint(workers=0)
    frame = len(b'{"input":"","workerPort":8000,"processUri":"/run"}')

    async def send(size: int) -> tuple[int, int]:
        body = b'{"input":"%s","workerPort":8000,"processUri":"/run"}' % (b"x" * (size - frame))
        assert len(body) == size
        reply = await bench.call("POST", f"{ROOT}/{endpoint}/tasks", body)
        return reply.http_status, reply.code

    assert await send(BODY_MAX_BYTES) == (200, 10000)
    assert await send(BODY_MAX_BYTES + 1) == (413, 10001)
    assert await bench.get(f"/{endpoint}/tasks/count") == {"processing": 1}


async def test_a_status_list_may_be_repeated_and_in_any_case(bench: Bench) -> None:
    running = await bench.endpoint(workers=0)
    stopped = await bench.endpoint(workers=0)
    await bench.post(f"/{stopped}/stop")
    await settle()
    for query in (
        "RUNNING,STOPPED",
        "running%2Cstopped",
        "RUNNING&statusList=stopped",
        " running , STOPPED".replace(" ", "+"),
    ):
        found = await bench.get(f"?statusList={query}")
        assert [each["id"] for each in found] == [stopped, running], query
    assert [each["id"] for each in await bench.get("?statusList=stopped")] == [stopped]
    assert (await bench.call("GET", f"{ROOT}?statusList=BROKEN")).code == 10001


async def test_worker_url_is_null_until_a_worker_has_the_task(bench: Bench) -> None:
    endpoint = await bench.endpoint(workers=0)
    task_id = await bench.submit(endpoint)
    assert (await bench.task(endpoint, task_id))["workerUrl"] is None
    await bench.put(f"/{endpoint}/workers?count=1")
    await settle()
    assert (await bench.task(endpoint, task_id))["workerUrl"].startswith("http://127.")


async def test_a_whole_number_may_be_written_with_a_fraction_of_zero(bench: Bench) -> None:
    endpoint = await bench.endpoint(workers=0)
    for port, code in ((b"8000.0", 10000), (b"8e3", 10000), (b"8000.5", 10001), (b"true", 10001), (b'"8000"', 10001)):
        body = b'{"input":1,"processUri":"/","workerPort":%s}' % port
        assert (await bench.call("POST", f"{ROOT}/{endpoint}/tasks", body)).code == code, port


async def test_stop_and_start_ignore_a_body(bench: Bench) -> None:
    endpoint = await bench.endpoint(workers=0)
    for body in (None, {}, b"not json"):
        for action in ("stop", "start"):
            assert (await bench.call("POST", f"{ROOT}/{endpoint}/{action}", body)).code == 10000
