import asyncio
import copy
import json
import os
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.emulator.harness import ROOT, Call, Peer, changed, create_body, submit_body, until
from tests.emulator.live import LiveBench
from yottabench.emulator.control import state
from yottabench.emulator.control.seeds import SeedError, read_seed
from yottabench.emulator.hosts import HostCheck, LocalNames
from yottabench.emulator.server import CannotServe

pytestmark = pytest.mark.anyio
HOOK = "http://127.0.0.1:9000/hook"
KEY = "control-secret"


@pytest.fixture
async def live(tmp_path: Path, anyio_backend: str) -> AsyncIterator[LiveBench]:
    async with LiveBench(tmp_path / "data") as bench:
        bench.workers_then(Call.ok)
        yield bench


def refuse(call: Call) -> None:
    call.reply(500)


async def request(application: Any, path: str, *, peer: str | None = "127.0.0.1", **headers: str) -> int:
    """The HTTP status of a GET."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        "client": None if peer is None else (peer, 50_000),
    }
    events: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(event: Any) -> None:
        events.append(event)

    await application(scope, receive, send)
    return events[0]["status"]


# ---- who may


@pytest.mark.parametrize("peer", ["10.0.0.7", "8.8.8.8", "::ffff:10.0.0.7", "fe80::1", None])
async def test_without_a_key_nobody_else_than_this_machine_is_answered(live: LiveBench, peer: str | None) -> None:
    for path in ("live", "ready", "settings", "metrics", "snapshot", "clock"):
        assert await request(live.emulator.application, f"/_emulator/{path}", peer=peer) == 404


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1"])
async def test_without_a_key_this_machine_is_answered(live: LiveBench, peer: str) -> None:
    assert await request(live.emulator.application, "/_emulator/live", peer=peer) == 200


@pytest.mark.parametrize("peer", ["127.0.0.1", "10.0.0.7"])
async def test_with_a_key_whoever_has_it_is_answered_and_nobody_else(tmp_path: Path, peer: str) -> None:
    async with LiveBench(tmp_path / "data", control_key=KEY) as live:
        ask = live.emulator.application
        assert await request(ask, "/_emulator/live", peer=peer, x_control_key=KEY) == 200
        for wrong in ("", "control", KEY + "x", KEY.upper()):
            assert await request(ask, "/_emulator/live", peer=peer, x_control_key=wrong) == 401
        assert await request(ask, "/_emulator/live", peer=peer) == 401
        assert await request(ask, "/_emulator/live", peer=peer, x_api_key=KEY) == 401


@pytest.mark.parametrize("origin", ["http://evil.example", "https://localhost.evil.example", "null", "file://", "evil"])
async def test_a_page_of_another_server_may_not(live: LiveBench, origin: str) -> None:
    assert await request(live.emulator.application, "/_emulator/live", origin=origin) == 403


@pytest.mark.parametrize(
    "origin", ["http://localhost:8080", "http://127.0.0.1:1", "https://[::1]", "http://a.localhost"]
)
async def test_a_page_of_this_machine_may(live: LiveBench, origin: str) -> None:
    assert await request(live.emulator.application, "/_emulator/live", origin=origin) == 200


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8080",
        "localhost.",
        "127.0.0.1",
        "127.0.0.1:8080",
        "127.255.1.9:80",
        "[::1]",
        "[::1]:8080",
        "123.localhost:8080",
        "my-machine:8080",
        "123.my-gateway.example",
        "123.my-gateway.example:80",
    ],
)
async def test_requests_to_a_name_of_this_server_get_in(live: LiveBench, host: str) -> None:
    guarded = HostCheck(live.emulator.application, LocalNames("my-machine", "my-gateway.example:8080"))
    assert await request(guarded, "/_emulator/live", host=host) != 421


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "notlocalhost",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "10.0.0.1",
        "[fe80::1]:80",
        "",
        "localhost:x",
        "a b",
        "\u00e9",
    ],
)
async def test_requests_to_another_name_do_not_get_in(live: LiveBench, host: str) -> None:
    guarded = HostCheck(live.emulator.application, LocalNames("my-machine", ""))
    assert await request(guarded, "/_emulator/live", host=host) == 421
    assert await request(guarded, ROOT, host=host, x_api_key="me") == 421


async def test_a_request_without_a_host_comes_from_no_browser(live: LiveBench) -> None:
    assert await request(live.emulator.guarded(), "/_emulator/live") == 200


# ---- the server itself


async def test_it_says_that_it_lives_and_whether_it_is_ready(live: LiveBench) -> None:
    assert await live.told("GET", "live") is True
    assert await live.told("GET", "ready") is True
    live.emulator.control.ready = False
    assert (await live.ask("GET", "ready")).http_status == 503


async def test_an_unknown_path_is_told_what_there_is(live: LiveBench) -> None:
    for method, path in (("GET", "nothing"), ("GET", "reset"), ("POST", "live"), ("GET", "faults/f1"), ("GET", "")):
        reply = await live.ask(method, path)
        assert reply.http_status == 404
        assert "POST /_emulator/reset" in reply.message


async def test_settings_are_shown_without_secrets(tmp_path: Path) -> None:
    keys = frozenset({"api-secret-1", "api-secret-2"})
    async with LiveBench(tmp_path / "data", api_keys=keys, control_key=KEY, concurrency=3) as live:
        reply = await live.ask("GET", "settings", headers=[("X-Control-Key", KEY)])
        assert reply.data["concurrency"] == 3
        assert reply.data["data"] == str(tmp_path / "data")
        assert reply.data["api_keys"] == reply.data["control_key"] == {"set": True}
        assert b"secret" not in reply.body


async def test_metrics_are_what_prometheus_reads_and_hold_no_secret(live: LiveBench) -> None:
    live.network.receiver(then=refuse)
    endpoint_id = await live.endpoint(environmentVars=[{"key": "TOKEN", "value": "worker-secret"}])
    await live.submit(endpoint_id, webhook=HOOK, webhookAuthKey="hook-secret", headers={"X-Token": "task-secret"})
    await live.told("POST", "faults", {"kind": "error", "operation": "*", "probability": 0})
    reply = await live.ask("GET", "metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=")
    text = reply.body.decode()
    assert "secret" not in text
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert values["yottabench_endpoints", "RUNNING"] == 1
    assert values["yottabench_workers", "RUNNING"] == 1
    assert values["yottabench_tasks", endpoint_id, "SUCCEEDED"] == 1
    assert values["yottabench_deliveries_pending",] == 1
    assert values["yottabench_events_total", "deliveries_due"] == 1
    assert values["yottabench_faults_fired_total", "f1"] == 0
    assert values["yottabench_http_answers_total", "200"] >= 2
    assert values["yottabench_store_commits_total",] > 0
    assert "process_resident_memory_bytes" in text


async def test_a_library_that_is_missing_is_named(live: LiveBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
    reply = await live.ask("GET", "metrics")
    assert reply.http_status == 501
    assert "pip install 'yottabench[emulator]'" in reply.message


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"1", b"{}" * 40_000])
async def test_a_body_that_cannot_be_read_is_refused(live: LiveBench, body: bytes) -> None:
    assert (await live.ask("POST", "faults", body)).code == 10001


# ---- reset


def rows(live: LiveBench) -> dict[str, int]:
    tables = ("endpoint", "worker", "task", "task_input", "task_output", "task_count", "attempt", "delivery")
    return {
        table: live.sql(f"SELECT count(*) FROM {table}")[0][0] for table in (*tables, "task_block", "delivery_attempt")
    }


async def test_a_reset_leaves_nothing(live: LiveBench) -> None:
    live.network.receiver(then=refuse)
    endpoint_id = await live.endpoint(workers=2, webhook=HOOK)
    await live.submit(endpoint_id, webhook=HOOK)
    live.workers_then(None)
    await live.submit(endpoint_id)  # a worker has this one
    deleted = await live.endpoint()
    await live.delete(f"/{deleted}")
    await live.told("POST", "faults", {"kind": "error", "operation": "*", "probability": 0})
    live.driver.workers[0].log("a line")
    assert len(live.driver.alive) >= 2

    assert await live.told("POST", "reset") == {"endpoints": 2}

    assert live.driver.alive == []
    assert set(rows(live).values()) == {0}
    assert await live.get("") == []
    assert (await live.call("GET", f"{ROOT}/{endpoint_id}")).code == 14000
    assert await live.told("GET", "faults") == []
    assert (await live.told("GET", "deliveries"))["deliveries"] == []
    assert live.on.outbox.pending == 0
    assert live.on.logs._streams == {}


async def test_a_reset_of_one_key_leaves_the_others_alone(live: LiveBench) -> None:
    mine, yours = await live.endpoint(), await live.endpoint(key="you")
    await live.submit(yours, key="you", taskId="t")
    await live.told("POST", "faults", {"kind": "error", "operation": "createEndpoint"}, key="you")
    before = rows(live)

    assert await live.told("POST", "reset", key="me") == {"endpoints": 1}

    assert (await live.call("GET", f"{ROOT}/{mine}")).code == 14000
    assert (await live.get(f"/{yours}", key="you"))["status"] == "RUNNING"
    assert (await live.get(f"/{yours}/tasks/t", key="you"))["status"] == "SUCCESS"
    assert len(await live.told("GET", "faults")) == 1
    after = rows(live)
    assert (after["endpoint"], after["worker"]) == (before["endpoint"] - 1, before["worker"] - 1)
    assert after["task"] == before["task"]


async def test_everything_works_after_a_reset_and_no_delivery_id_is_given_twice(live: LiveBench) -> None:
    receiver = live.network.receiver(then=refuse)
    ids: list[int] = []
    for _ in range(3):
        await live.submit(await live.endpoint(), webhook=HOOK, taskId="t")
        ids += [each["id"] for each in (await live.told("GET", "deliveries"))["deliveries"]]
        await live.told("POST", "reset")
    assert len(set(ids)) == 3
    sent = len(receiver.all_calls)
    await live.advance(3_600)
    assert len(receiver.all_calls) == sent == 3


async def test_a_send_under_way_is_broken_off_by_a_reset(live: LiveBench) -> None:
    live.network.receiver()
    live.api.endpoints.clear()
    endpoint_id = (await live.post("", create_body()))["id"]
    await live.post(f"/{endpoint_id}/tasks", submit_body(webhook=HOOK))
    await until(lambda: live.on.outbox.busy > 0)
    await live.told("POST", "reset")
    await live.quiet()
    assert live.on.outbox.busy == 0


async def test_a_worker_that_is_being_started_is_ended_too(live: LiveBench) -> None:
    live.driver.gate = asyncio.Event()
    endpoint_id = (await live.post("", create_body()))["id"]
    endpoint = live.api.endpoints[int(endpoint_id)]
    await until(lambda: any(worker._starting for worker in endpoint.live_workers))
    asked = asyncio.ensure_future(live.told("POST", "reset"))
    await until(lambda: not live.api.endpoints)
    live.driver.gate.set()
    await asyncio.wait_for(asked, 10)
    assert len(live.driver.workers) == 1
    assert live.driver.alive == []
    assert rows(live)["worker"] == 0


async def test_an_endpoint_that_is_made_during_a_reset_is_there_or_refused(live: LiveBench) -> None:
    for _ in range(5):
        made, _ = await asyncio.gather(live.call("POST", ROOT, create_body()), live.told("POST", "reset"))
        await live.quiet()
        listed = [each["id"] for each in await live.get("")]
        stored = [str(record.id) for record in live.store.endpoints()]
        assert listed == stored
        assert listed == ([made.data["id"]] if made.code == 10000 else [])
        await live.told("POST", "reset")


# ---- snapshots


def timeless(snapshot: dict[str, Any]) -> dict[str, Any]:
    """Without what a snapshot that is put back need not have in common with its first form."""
    found = copy.deepcopy(snapshot)
    del found["taken_ms"]
    seqs = {task.pop("seq"): number for number, task in enumerate(found["tasks"])}
    for delivery in found["deliveries"]:
        delivery["task_seq"] = seqs.get(delivery["task_seq"])
    return found


async def take(live: LiveBench, **more: Any) -> dict[str, Any]:
    reply = await live.ask("GET", "snapshot", **more)
    assert reply.http_status == 200
    return json.loads(reply.body)


async def many_things(live: LiveBench) -> str:
    """An endpoint without workers left that has tasks and deliveries in most states. Time stands still from here on."""
    await live.told("POST", "clock/freeze")
    live.network.receiver(then=refuse)
    live.network.receiver(9001, then=Call.ok)
    endpoint_id = await live.endpoint(webhook="http://127.0.0.1:9001/worker")
    await live.submit(endpoint_id, taskId="due", webhook=HOOK, webhookAuthKey="k", headers={"X-A": "1"})
    await live.submit(endpoint_id, taskId="delivered", webhook="http://127.0.0.1:9001/")
    await live.submit(endpoint_id, taskId="plain", input=[1.50, {"b": "\u00e9"}])
    live.workers_then(refuse)
    await live.submit(endpoint_id, taskId="failed")
    live.workers_then(Call.lose)
    await live.submit(endpoint_id, taskId="waiting")
    live.workers_then(Call.ok)
    await live.put(f"/{endpoint_id}/workers?count=0")
    await live.quiet()
    await live.submit(endpoint_id, taskId="queued")
    return endpoint_id


async def test_what_is_saved_comes_back_as_it_was(live: LiveBench) -> None:
    endpoint_id = await many_things(live)
    seen = {
        path: await live.get(f"/{endpoint_id}{path}")
        for path in ("", "/tasks?pageSize=100", "/tasks/count", "/tasks/due", "/tasks/failed", "/tasks/plain")
    }
    attempts = await live.told("GET", f"tasks/{endpoint_id}/waiting/attempts")
    snapshot = await take(live)
    await live.told("POST", "reset")
    told = await live.told("POST", "snapshot/load", snapshot)
    assert told["endpoints"] == 1
    assert told["tasks"] == len(snapshot["tasks"]) == 6
    assert timeless(await take(live)) == timeless(snapshot)
    for path, before in seen.items():
        assert await live.get(f"/{endpoint_id}{path}") == before, path
    assert await live.told("GET", f"tasks/{endpoint_id}/waiting/attempts") == attempts
    assert "1.5,{" in json.dumps(snapshot, separators=(",", ":"))


async def test_what_was_under_way_goes_on_after_it_was_put_back(live: LiveBench) -> None:
    receiver = live.network.receiver(then=refuse)
    live.workers_then(None)
    endpoint_id = await live.endpoint()
    await live.submit(endpoint_id, taskId="leased")
    await live.submit(endpoint_id, taskId="queued", webhook=HOOK)
    snapshot = await take(live)
    live.workers_then(Call.ok)
    await live.told("POST", "snapshot/load", snapshot)
    await live.quiet()
    found = await live.told("GET", f"tasks/{endpoint_id}/leased/attempts")
    assert [(each["attempt"], each["outcome"]) for each in found["attempts"]] == [(1, "RETURNED"), (2, "SUCCEEDED")]
    assert found["strikes"] == 0
    assert "snapshot" in found["attempts"][0]["reason"]
    await live.advance(22 * 60)
    assert (await live.task(endpoint_id, "queued"))["deliveryStatus"] == "MAX_RETRIES_EXCEEDED"
    assert len(receiver.all_calls) == 4


async def test_a_delivery_that_is_due_later_is_sent_then_after_it_was_put_back(live: LiveBench) -> None:
    receiver = live.network.receiver(then=refuse)
    await live.told("POST", "clock/freeze")
    await live.submit(await live.endpoint(), webhook=HOOK)
    await live.advance(30)
    await live.told("POST", "snapshot/load", await take(live))
    await live.advance(29.999)
    assert len(receiver.all_calls) == 1
    await live.advance(0.001)
    assert len(receiver.all_calls) == 2


async def test_a_snapshot_replaces_what_is_there(live: LiveBench) -> None:
    await live.endpoint(name="first")
    snapshot = await take(live)
    await live.endpoint(name="second")
    await live.told("POST", "snapshot/load", snapshot)
    await live.quiet()
    assert [each["name"] for each in await live.get("")] == ["first"]
    assert len(live.driver.alive) == 1


async def test_a_snapshot_survives_a_restart(live: LiveBench, tmp_path: Path) -> None:
    endpoint_id = await many_things(live)
    snapshot = await take(live)
    await live.told("POST", "reset")
    await live.told("POST", "snapshot/load", snapshot)
    await live.close()
    async with LiveBench(tmp_path / "data") as again:
        assert len((await again.get(f"/{endpoint_id}/tasks?pageSize=100"))["items"]) == 6


async def test_a_key_saves_and_puts_back_its_own_things_only(live: LiveBench) -> None:
    await live.endpoint(name="mine")
    yours = await live.endpoint(name="yours", key="you")
    snapshot = await take(live, key="me")
    assert [each["record"]["spec"]["name"] for each in snapshot["endpoints"]] == ["mine"]
    await live.told("POST", "reset", key="me")
    await live.told("POST", "snapshot/load", snapshot, key="me")
    assert [each["name"] for each in await live.get("")] == ["mine"]
    assert [each["id"] for each in await live.get("", key="you")] == [yours]


async def test_a_snapshot_can_be_put_under_another_key(live: LiveBench) -> None:
    endpoint_id = await live.endpoint()
    await live.submit(endpoint_id, taskId="t")
    snapshot = await take(live, key="me")
    await live.told("POST", "reset", key="me")
    await live.told("POST", "snapshot/load", snapshot, key="you")
    assert await live.get("") == []
    assert (await live.get(f"/{endpoint_id}/tasks/t", key="you"))["status"] == "SUCCESS"


async def test_ids_of_another_key_are_not_taken_over(live: LiveBench) -> None:
    endpoint_id = await live.endpoint(name="mine")
    snapshot = await take(live, key="me")
    other = await live.endpoint(name="yours", key="you")
    reply = await live.ask("POST", "snapshot/load", snapshot, key="you")
    assert reply.code == 24002
    assert "another API key" in reply.message
    await live.quiet()
    assert [each["id"] for each in await live.get("")] == [endpoint_id]
    (left,) = await live.get("", key="you")
    assert (left["id"], left["status"]) == (other, "RUNNING")


def spoil(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def spoilt(snapshot: dict[str, Any]) -> dict[str, Any]:
        change(snapshot)
        return snapshot

    return spoilt


SPOILT: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no snapshot": lambda _: {"hello": 1},
    "no object": lambda _: [1],
    "another version": spoil(lambda s: s.update(snapshot=2)),
    "an endpoint twice": spoil(lambda s: s["endpoints"].append(s["endpoints"][0])),
    "a worker twice": spoil(lambda s: s["workers"].append(s["workers"][0])),
    "a worker of nobody": spoil(lambda s: s["workers"][0].update(endpoint_id=1)),
    "a task twice": spoil(lambda s: s["tasks"].append(s["tasks"][0])),
    "a task id twice": spoil(lambda s: s["tasks"].append({**s["tasks"][0], "seq": 999})),
    "a task of nobody": spoil(lambda s: s["tasks"][0].update(endpoint_id=1)),
    "an end that is missing": spoil(lambda s: s["tasks"][0].update(ended_ms=None)),
    "an end too early": spoil(lambda s: s["tasks"][-1].update(ended_ms=5)),
    "a wait without an end": spoil(lambda s: next(t for t in s["tasks"] if t["state"] == 2).update(next_ms=None)),
    "attempts out of order": spoil(lambda s: s["tasks"][0].update(attempts=s["tasks"][0]["attempts"] * 2)),
    "a delivery of nobody": spoil(lambda s: s["deliveries"][-1].update(task_seq=999)),
    "two deliveries of a task": spoil(
        lambda s: s["deliveries"].append(next(d for d in s["deliveries"] if d["task_seq"] is not None))
    ),
    "a delivery of no worker": spoil(lambda s: s["deliveries"][0].update(worker_id=1)),
    "sends out of order": spoil(lambda s: s["deliveries"][0].update(attempts=s["deliveries"][0]["attempts"] * 2)),
    "a number beyond 64 bits": spoil(lambda s: s["tasks"][0].update(seq=2**63)),
    "a worker id beyond 64 bits": spoil(lambda s: s["workers"][0].update(id=2**63)),
    "a time beyond 64 bits": spoil(lambda s: s["workers"][0].update(created_ms=2**70)),
    "a negative time": spoil(lambda s: s["tasks"][0].update(created_ms=-1)),
    "a state that is none": spoil(lambda s: s["tasks"][0].update(state=9)),
    "a webhook of an endpoint that is none": spoil(
        lambda s: s["endpoints"][0]["record"]["spec"].update(webhook="file:///etc/passwd")
    ),
    "a webhook of a task that is none": spoil(lambda s: s["tasks"][0].update(webhook="http://user:word@127.0.0.1/")),
    "a webhook with a line end": spoil(lambda s: s["deliveries"][0].update(url="http://127.0.0.1/\r\nX: 1")),
    "a webhook beyond the last port": spoil(lambda s: s["deliveries"][0].update(url="http://127.0.0.1:65536/")),
    "a webhook without an address": spoil(lambda s: s["deliveries"][0].update(url="http://[::::]/")),
    "a webhook that is too long": spoil(lambda s: s["deliveries"][0].update(url="http://a/" + 504 * "x")),
    "a webhook with a password": spoil(lambda s: s["deliveries"][0].update(url="http://user:word@127.0.0.1/")),
    "a key with a line end": spoil(lambda s: s["deliveries"][-1].update(auth_key="a\r\nX-Other: b")),
    "a path that leads elsewhere": spoil(lambda s: s["tasks"][0].update(process_uri="/run HTTP/1.1\r\nX: 1")),
    "a header with a line end": spoil(lambda s: s["tasks"][0].update(headers={"a": "b\r\nc: d"})),
    "a task id that no submit may have": spoil(lambda s: s["tasks"][0].update(task_id="../x")),
    "a port that is none": spoil(lambda s: s["tasks"][0].update(worker_port=65536)),
}


@pytest.mark.parametrize("how", SPOILT)
async def test_a_snapshot_that_is_not_whole_is_refused_and_nothing_is_lost(live: LiveBench, how: str) -> None:
    endpoint_id = await many_things(live)
    before = await take(live)
    reply = await live.ask("POST", "snapshot/load", SPOILT[how](copy.deepcopy(before)))
    assert (reply.http_status, reply.code) == (400, 10001), reply.body
    assert b"word@" not in reply.body
    assert timeless(await take(live)) == timeless(before)
    assert (await live.get(f"/{endpoint_id}"))["status"] == "RUNNING"


async def test_a_snapshot_is_kept_by_name_for_its_owner_alone(live: LiveBench) -> None:
    endpoint_id = await live.endpoint()
    saved = await live.told("POST", "snapshot/save", {"file": "before.v1"})
    path = Path(saved["path"])
    assert path == live.settings.data / "snapshots" / "before.v1.json"
    assert [stat.S_IMODE(os.stat(each).st_mode) for each in (path, path.parent)] == [0o600, 0o700]  # noqa: PTH116
    await live.told("POST", "reset")
    await live.told("POST", "snapshot/load", {"file": "before.v1"})
    assert [each["id"] for each in await live.get("")] == [endpoint_id]
    assert os.listdir(path.parent) == ["before.v1.json"]  # noqa: PTH208 -- Path's way is not for async functions


@pytest.mark.parametrize("name", ["", "../x", "/etc/passwd", ".hidden", "a/b", "a\x00b", "x" * 101, "a b", 5, None])
async def test_a_snapshots_name_leads_nowhere_else(live: LiveBench, name: Any) -> None:
    for action in ("save", "load"):
        assert (await live.ask("POST", f"snapshot/{action}", {"file": name})).code == 10001


async def test_a_snapshot_that_was_never_saved_is_not_found(live: LiveBench) -> None:
    await live.told("POST", "snapshot/save", {"file": "one"})
    reply = await live.ask("POST", "snapshot/load", {"file": "two"})
    assert reply.http_status == 404
    assert "one" in reply.message


async def test_more_tasks_than_a_snapshot_holds_are_refused_with_a_way_out(live: LiveBench) -> None:
    endpoint_id = await live.endpoint()
    for number in range(3):
        await live.submit(endpoint_id, taskId=f"t{number}")
    with changed(state, SNAPSHOT_MAX_TASKS=2):
        reply = await live.ask("GET", "snapshot")
        assert reply.code == 10001
        assert "3 tasks" in reply.message
        assert "data folder" in reply.message
    with changed(state, SNAPSHOT_MAX_TASKS=3):
        await take(live)


# ---- tasks and deliveries


async def test_every_attempt_at_a_task_is_told_with_its_worker_and_its_end(live: LiveBench) -> None:
    await live.told("POST", "clock/freeze")
    live.workers_then(None)
    endpoint_id = await live.endpoint()
    await live.submit(endpoint_id, taskId="t")
    (first,) = live.driver.workers
    await live.advance(2)
    first.die()
    await live.quiet()
    await live.advance(1)
    second = live.driver.alive[0]
    live.driver.calls[0].ok()
    await live.quiet()
    found = await live.told("GET", f"tasks/{endpoint_id}/t/attempts")
    assert (found["state"], found["strikes"]) == ("SUCCEEDED", 1)
    assert [(a["attempt"], a["workerId"], a["outcome"]) for a in found["attempts"]] == [
        (1, first.id, "RETURNED"),
        (2, second.id, "SUCCEEDED"),
    ]
    one, two = found["attempts"]
    assert one["endedMs"] - one["leasedMs"] == 2_000
    assert one["endedMs"] <= two["leasedMs"] <= two["endedMs"]
    assert "reset" in one["reason"]
    assert two["reason"] is None
    assert one["workerUrl"].startswith("http://127.7.7.7:")


async def test_attempts_are_remembered_by_the_next_server(live: LiveBench, tmp_path: Path) -> None:
    live.workers_then(None)
    endpoint_id = await live.endpoint()
    await live.submit(endpoint_id, taskId="t")
    await live.close()
    async with LiveBench(tmp_path / "data") as again:
        again.workers_then(Call.ok)
        await again.quiet()
        found = await again.told("GET", f"tasks/{endpoint_id}/t/attempts")
        assert found["attempts"][0]["reason"] == "The server ended."
        assert found["attempts"][0]["outcome"] == "RETURNED"
        assert found["strikes"] == 0


async def test_the_error_of_the_last_attempt_is_its_reason(live: LiveBench) -> None:
    live.workers_then(refuse)
    endpoint_id = await live.endpoint()
    await live.submit(endpoint_id, taskId="t")
    (attempt,) = (await live.told("GET", f"tasks/{endpoint_id}/t/attempts"))["attempts"]
    assert (attempt["outcome"], attempt["reason"]) == ("FAILED", "HTTP 500 without a body.")


async def test_a_task_that_no_worker_had_has_no_attempt(live: LiveBench) -> None:
    endpoint_id = await live.endpoint(workers=0)
    await live.submit(endpoint_id, taskId="t")
    found = await live.told("GET", f"tasks/{endpoint_id}/t/attempts")
    assert (found["state"], found["attempts"]) == ("QUEUED", [])


@pytest.mark.parametrize(("path", "code"), [("1/t", 24011), ("x/t", 10001), ("1/a.b", 10001), ("9" * 19 + "/t", 24011)])
async def test_attempts_of_no_task_are_not_found(live: LiveBench, path: str, code: int) -> None:
    assert (await live.ask("GET", f"tasks/{path}/attempts")).code == code


async def test_deliveries_are_found_by_endpoint_task_state_and_key(live: LiveBench) -> None:
    live.network.receiver(then=refuse)
    live.network.receiver(9001, then=Call.ok)
    mine = await live.endpoint(webhook="http://127.0.0.1:9001/worker")
    yours = await live.endpoint(key="you")
    await live.submit(mine, taskId="a", webhook=HOOK)
    await live.submit(mine, taskId="b", webhook="http://127.0.0.1:9001/")
    await live.submit(yours, taskId="a", key="you", webhook=HOOK)

    async def found(query: str = "", **more: Any) -> list[tuple[str, str | None, str]]:
        page = await live.told("GET", f"deliveries{query}", **more)
        return [(each["endpointId"], each["taskId"], each["state"]) for each in page["deliveries"]]

    everything = await found()
    assert everything[:3] == [(yours, "a", "DUE"), (mine, "b", "ACKED"), (mine, "a", "DUE")]
    assert set(everything[3:]) == {(mine, None, "ACKED")}
    assert await found(f"?endpointId={mine}&taskId=a") == [(mine, "a", "DUE")]
    assert await found("?state=DUE") == [(yours, "a", "DUE"), (mine, "a", "DUE")]
    assert await found(key="you") == [(yours, "a", "DUE")]
    assert await found("?state=EXHAUSTED") == []

    first = await live.told("GET", "deliveries?limit=2")
    rest = await live.told("GET", f"deliveries?before={first['nextBefore']}")
    assert [d["id"] for d in first["deliveries"] + rest["deliveries"]] == sorted(
        (d["id"] for d in first["deliveries"] + rest["deliveries"]), reverse=True
    )
    assert len(first["deliveries"]) + len(rest["deliveries"]) == len(everything)
    assert rest["nextBefore"] is None
    one = first["deliveries"][0]
    assert await live.told("GET", f"deliveries/{one['id']}") == one


@pytest.mark.parametrize(
    "query",
    ["?state=GONE", "?taskId=a", "?endpointId=x", "?limit=0", "?limit=1001", "?before=0", "?endpointId=1&taskId=a.b"],
)
async def test_a_query_for_deliveries_that_makes_no_sense_is_refused(live: LiveBench, query: str) -> None:
    assert (await live.ask("GET", f"deliveries{query}")).code == 10001


@pytest.mark.parametrize(("path", "code"), [("7", 10007), ("x", 10001), ("9" * 19, 10001), ("-1", 10001)])
async def test_a_delivery_that_is_none_is_not_found(live: LiveBench, path: str, code: int) -> None:
    assert (await live.ask("GET", f"deliveries/{path}")).code == code
    assert (await live.ask("POST", f"deliveries/{path}/redeliver")).code == code


async def delivered(live: LiveBench, receiver: Peer, then: Callable[[Call], None]) -> tuple[str, int]:
    receiver.then = then
    endpoint_id = await live.endpoint()
    await live.submit(endpoint_id, taskId="t", webhook=HOOK)
    (delivery,) = (await live.told("GET", f"deliveries?endpointId={endpoint_id}"))["deliveries"]
    return endpoint_id, delivery["id"]


async def redeliver(live: LiveBench, number: int) -> dict[str, Any]:
    await live.told("POST", f"deliveries/{number}/redeliver")
    await live.quiet()
    return await live.told("GET", f"deliveries/{number}")


async def test_what_was_given_up_can_be_sent_once_more(live: LiveBench) -> None:
    receiver = live.network.receiver()
    endpoint_id, number = await delivered(live, receiver, refuse)
    await live.advance(22 * 60)
    again = await redeliver(live, number)
    assert (again["state"], len(again["attempts"])) == ("EXHAUSTED", 5)
    receiver.then = Call.ok
    again = await redeliver(live, number)
    assert (again["state"], len(again["attempts"])) == ("ACKED", 6)
    assert [call.json["retry_count"] for call in receiver.all_calls] == [1, 2, 3, 4, 5, 6]
    task = await live.task(endpoint_id, "t")
    assert (task["status"], task["deliveryStatus"], task["deliveryAttempts"]) == ("DELIVERED", "SUCCESS", 6)


async def test_what_waits_for_its_next_send_can_be_sent_now_and_is_not_sent_too_early_again(live: LiveBench) -> None:
    await live.told("POST", "clock/freeze")
    receiver = live.network.receiver()
    _, number = await delivered(live, receiver, refuse)
    await live.advance(30)
    again = await redeliver(live, number)
    assert (again["state"], len(again["attempts"])) == ("DUE", 2)
    await live.advance(299.999)
    assert len(receiver.all_calls) == 2
    await live.advance(0.001)
    assert len(receiver.all_calls) == 3


async def test_what_was_acknowledged_stays_so_whatever_a_second_send_brings(live: LiveBench) -> None:
    receiver = live.network.receiver()
    endpoint_id, number = await delivered(live, receiver, Call.ok)
    before = await live.task(endpoint_id, "t")
    receiver.then = refuse
    again = await redeliver(live, number)
    assert again["state"] == "ACKED"
    assert [each["acknowledged"] for each in again["attempts"]] == [True, False]
    await live.advance(3_600)
    assert len(receiver.all_calls) == 2
    after = await live.task(endpoint_id, "t")
    assert (after["status"], after["deliveredAt"]) == (before["status"], before["deliveredAt"])


async def test_what_is_being_sent_is_not_sent_twice(live: LiveBench) -> None:
    live.network.receiver()
    endpoint_id = await live.endpoint()
    await live.post(f"/{endpoint_id}/tasks", submit_body(webhook=HOOK))
    receiver = live.network.peers["127.0.0.1", 9000]
    await until(lambda: bool(receiver.calls))
    (delivery,) = (await live.told("GET", "deliveries"))["deliveries"]
    assert (await live.ask("POST", f"deliveries/{delivery['id']}/redeliver")).code == 24002
    receiver.calls[0].ok()


async def test_a_worker_webhook_can_be_sent_again_too(live: LiveBench) -> None:
    receiver = live.network.receiver(then=Call.ok)
    endpoint_id = await live.endpoint(webhook=HOOK)
    found = (await live.told("GET", f"deliveries?endpointId={endpoint_id}"))["deliveries"]
    await redeliver(live, found[0]["id"])
    assert receiver.all_calls[-1].body == receiver.all_calls[len(found) - 1].body


# ---- the seed file


SEED: dict[str, Any] = {
    "apiKey": "me",
    "endpoints": [
        {**create_body(name="chat"), "tasks": [submit_body(taskId="t1"), submit_body()]},
        {**create_body(name="other"), "apiKey": "you"},
    ],
}
SEED_TOML = """
apiKey = "me"

[[endpoints]]
name = "chat"
image = "sim/echo"
serviceMode = "QUEUE"
workers = 1
containerVolumeInGb = 20
resources = [{ region = "us-east-1", gpuType = "NVIDIA_L4_24G", gpuCount = 1 }]

[[endpoints.tasks]]
taskId = "t1"
workerPort = 8000
processUri = "/run"
input = { prompt = "hi" }
"""


@pytest.mark.parametrize("form", ["json", "toml"])
async def test_a_seed_file_makes_endpoints_and_tasks_once(tmp_path: Path, form: str) -> None:
    seed = tmp_path / f"seed.{form}"
    seed.write_text(json.dumps(SEED) if form == "json" else SEED_TOML, encoding="utf-8")
    for _ in range(2):  # the second server finds them there
        async with LiveBench(tmp_path / "data", seed_file=seed) as live:
            live.workers_then(Call.ok)
            await live.emulator.plant()
            await live.quiet()
            (chat,) = await live.get("")
            assert chat["name"] == "chat"
            assert (await live.task(chat["id"], "t1"))["status"] == "SUCCESS"
            assert (await live.get(f"/{chat['id']}/tasks"))["total"] == (2 if form == "json" else 1)
            if form == "json":
                assert [each["name"] for each in await live.get("", key="you")] == ["other"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid JSON"),
        ("[]", "the file must be an object"),
        ('{"endpoint": []}', "there is no endpoint in a seed file"),
        ('{"endpoints": {}}', "endpoints must be an array"),
        ('{"endpoints": [1]}', "endpoints[0] must be an object"),
        ('{"endpoints": [{}]}', "endpoints[0] has no apiKey"),
        ('{"apiKey": " ", "endpoints": [{}]}', "endpoints[0] has no apiKey"),
        ('{"apiKey": "k", "endpoints": [{"tasks": 1}]}', "endpoints[0].tasks must be an array"),
        ('{"apiKey": "k", "endpoints": [{"tasks": [1]}]}', "endpoints[0].tasks must be an object"),
    ],
)
def test_a_seed_file_that_cannot_be_read_says_where(tmp_path: Path, text: str, says: str) -> None:
    seed = tmp_path / "seed.json"
    seed.write_text(text, encoding="utf-8")
    with pytest.raises(SeedError) as caught:
        read_seed(seed)
    assert says in str(caught.value)
    assert str(seed) in str(caught.value)


def test_a_seed_file_that_is_missing_says_so(tmp_path: Path) -> None:
    with pytest.raises(SeedError, match="cannot be read"):
        read_seed(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ({**create_body(), "name": "1"}, "endpoints[0]: name must not be '1'"),
        ({**create_body(), "tasks": [submit_body(workerPort=0)]}, "endpoints[0].tasks[0]: workerPort"),
        ({**create_body(serviceMode="CUSTOM"), "tasks": [submit_body()]}, "only QUEUE endpoints take tasks"),
        ({**create_body(), "apiKey": "stranger"}, "not in the keys file"),
    ],
)
async def test_a_seed_that_the_api_refuses_keeps_the_server_from_starting(
    tmp_path: Path, endpoint: dict[str, Any], says: str
) -> None:
    seed = tmp_path / "seed.json"
    seed.write_text(json.dumps({"apiKey": "me", "endpoints": [endpoint]}), encoding="utf-8")
    async with LiveBench(tmp_path / "data", seed_file=seed, api_keys=frozenset({"me"})) as live:
        with pytest.raises(CannotServe) as caught:
            await live.emulator.plant()
    assert says in str(caught.value)
