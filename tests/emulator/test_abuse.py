"""Whatever is sent, no answer is a fault of ours, nothing else is reached, and what is accepted can be read again."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.harness import ROOT, Bench, Reply, run, settle
from tests.spec.reading import operations
from tests.strategies import odd_json

# Places of a request in which bytes stand for JSON; each is complete with valid JSON in it.
BODIES = {
    ("POST", ""): b"%b",
    ("POST", "/{id}/tasks"): b"%b",
    ("PATCH", "/{id}"): b"%b",
    ("POST", "/{id}/tasks#input"): b'{"input":%b,"workerPort":8000,"processUri":"/run"}',
    ("POST", "/{id}/tasks#headers"): b'{"input":1,"workerPort":8000,"processUri":"/run","headers":{"A":%b}}',
    ("POST", "/{id}/tasks#taskId"): b'{"input":1,"workerPort":8000,"processUri":"/run","taskId":%b}',
    ("POST", "/{id}/tasks#workerPort"): b'{"input":1,"workerPort":%b,"processUri":"/run"}',
    ("POST", "/{id}/tasks#processUri"): b'{"input":1,"workerPort":8000,"processUri":%b}',
    ("POST", "/{id}/tasks#webhook"): b'{"input":1,"workerPort":8000,"processUri":"/run","webhook":%b}',
    ("PATCH", "/{id}#workers"): b'{"workers":%b}',
    ("PATCH", "/{id}#environmentVars"): b'{"environmentVars":[{"key":"A","value":%b}]}',
    ("POST", "/{id}/stop"): b"%b",
}
INPUT = ("POST", "/{id}/tasks#input")


async def check_reads(bench: Bench, endpoint_id: str, task_id: str, sent: bytes) -> None:
    """An accepted input is shown as it was sent, byte for byte, and so are the lists that it is in."""
    shown = await bench.call("GET", f"{ROOT}/{endpoint_id}/tasks/{task_id}")
    assert shown.http_status == 200
    assert sent.strip(b" \t\r\n") in shown.body
    assert (await bench.call("GET", f"{ROOT}/{endpoint_id}/tasks")).http_status == 200


@settings(max_examples=12)
@given(st.lists(st.tuples(st.sampled_from(list(BODIES)), odd_json()), min_size=10, max_size=40))
def test_odd_json_is_never_a_fault_of_ours_and_what_is_accepted_is_kept_byte_for_byte(
    requests: list[tuple[tuple[str, str], bytes]],
) -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with Bench(Path(folder) / "data") as bench:
                endpoint_id = await bench.endpoint(workers=0)
                for place, value in requests:
                    path = place[1].partition("#")[0].format(id=endpoint_id)
                    reply = await bench.call(place[0], ROOT + path, BODIES[place] % value)
                    assert reply.http_status in {200, 400, 409, 413}, (place, value[:100], reply.body)
                    if place == INPUT and reply.http_status == 200:
                        await check_reads(bench, endpoint_id, reply.data["taskId"], value)

    run(main)


SEGMENTS = (
    *("..", ".", "%2e%2e", "%2E.", "..%2f..", "%2f", "a%2fb", "%5c..%5c", "%00", "a%00", "%0a", "%0d%0aX:%20y"),
    *("*", "%", "%%", "%zz", "%e4", "%ff%fe", "%f0%9f%98%80", "%c0%ae%c0%ae", "~", ";", "a;b=c", "@", "a@b", "a:b"),
    *("-1", "0", "00", "+1", "1e3", "0x10", "1_0", "9" * 19, "9" * 20, "9" * 5000, "a" * 256, "a" * 60_000),
    *("9223372036854775807", "9223372036854775808", "18446744073709551616", "%d9%a1%d9%a2%d9%a3", "1%2c2", "null"),
)
TEMPLATES = sorted({(method.upper(), path) for path, method, _ in operations() if "{" in path})


def refused(reply: Reply) -> None:
    assert 400 <= reply.http_status < 500
    assert len(reply.body) < 2_000


@pytest.mark.anyio
@pytest.mark.parametrize(("method", "template"), TEMPLATES)
async def test_tricks_in_a_path_reach_nothing(bench: Bench, method: str, template: str) -> None:
    endpoint_id = await bench.endpoint(workers=1)
    task_id = await bench.submit(endpoint_id)
    names = [part for part in template.split("/") if part.startswith("{")]
    good = {"{endpointId}": endpoint_id, "{id}": endpoint_id, "{taskId}": task_id, "{workerId}": "1"}
    for name in names:
        for trick in SEGMENTS:
            path = template
            for other in names:
                path = path.replace(other, trick if other == name else good[other])
            refused(await bench.call(method, path + "?count=1"))
            refused(await bench.call(method, path.replace(trick, f"{endpoint_id}/{trick}", 1) + "?count=1"))
    everything = await bench.get("")
    assert [each["id"] for each in everything] == [endpoint_id]
    assert everything[0]["status"] in {"INITIALIZING", "RUNNING"}
    assert (await bench.get(f"/{endpoint_id}/tasks"))["total"] == 1


URIS = (
    *("//evil.example/x", "http://evil.example/", "/\\evil.example", "\\\\evil.example", "/..", "/../x", "/a/../../b"),
    *("/./x", "/%2e%2e/x", "/a%0d%0aHost:%20evil", "/a\r\nHost: evil", "/a b", "/a?b=c", "/a#b", "/a\x00", "/ä"),
    *("/a//b", "@evil.example/", "/\u2028", "", "/" + "a" * 255),
)


@pytest.mark.anyio
@pytest.mark.parametrize("uri", URIS)
async def test_a_process_uri_leads_to_the_worker_or_nowhere(bench: Bench, uri: str) -> None:
    endpoint_id = await bench.endpoint()
    body: dict[str, Any] = {"input": 1, "workerPort": 8000, "processUri": uri}
    reply = await bench.call("POST", f"{ROOT}/{endpoint_id}/tasks", body)
    await settle()
    if reply.http_status == 200:
        (call,) = bench.driver.calls
        assert call.target == "/" + uri.removeprefix("/")
        assert bench.network.connected == [bench.driver.workers[0].address(8000)]
    else:
        assert (reply.http_status, reply.code) == (400, 10001)
        assert bench.driver.calls == []
