import base64
import hashlib
import hmac
import logging
from collections.abc import Callable
from typing import Any

import pytest

from tests.emulator.harness import ROOT, START_MS, Bench, Call, settle, submit_body
from tests.spec.reading import validator
from yottabench.emulator import http1, limits, webhooks
from yottabench.emulator.receivers import address_of, destination_of, target_of
from yottabench.emulator.store.base import ClaimDelivery, StoreError
from yottabench.emulator.webhooks import timestamp

pytestmark = pytest.mark.anyio

MakeBench = Callable[..., Bench]
HOOK = "http://127.0.0.1:9000/hook?a=1#fragment"


def accept(call: Call) -> None:
    call.reply(200)


def decline(call: Call) -> None:
    call.reply(500, b"not now")


async def done(
    bench: Bench, endpoint_id: str, *, body: bytes = b'{"answer":42}', status: int = 200, **changes: Any
) -> str:
    """A task that was submitted and answered; its taskId."""
    task_id = await bench.submit(endpoint_id, **{"webhook": HOOK, **changes})
    (call,) = [call for call in bench.driver.calls if call.task_id == task_id]
    call.reply(status, body)
    await settle()
    return task_id


def deliveries(bench: Bench) -> list[tuple[Any, ...]]:
    return bench.sql("SELECT state, attempts FROM delivery ORDER BY id")


# ---- body and headers


async def test_the_result_is_sent_with_the_documented_body_and_headers(bench: Bench) -> None:
    receiver = bench.network.receiver(then=accept)
    endpoint_id = await bench.endpoint()
    await done(bench, endpoint_id, taskId="my_task_001", webhookAuthKey="my-secret-key", body=b'{ "answer" : 42.50 }')
    (call,) = receiver.all_calls
    validator("TaskResultNotification").validate(call.json)
    assert call.json == {
        "task_id": call.json["task_id"],
        "user_task_id": "my_task_001",
        "endpoint_id": endpoint_id,
        "status": "Success",
        "success": True,
        "timestamp": "2027-01-15 08:00:00.000",
        "retry_count": 1,
        "result": {"answer": 42.5},
    }
    assert b'{ "answer" : 42.50 }' in call.body
    assert call.target == "/hook?a=1"
    assert call.headers["content-type"] == "application/json"
    assert call.headers["x-api-key"] == "my-secret-key"


async def test_a_failure_tells_its_reason_and_no_result(bench: Bench) -> None:
    receiver = bench.network.receiver(then=accept)
    await done(bench, await bench.endpoint(), status=503, body=b"busy", taskId="t")
    told = receiver.all_calls[0].json
    validator("TaskResultNotification").validate(told)
    assert (told["status"], told["success"], told["failed_reason"]) == ("Failed", False, "HTTP 503: busy")
    assert "result" not in told


@pytest.mark.parametrize(
    ("body", "result"),
    [(b"", None), (b"null", None), (b"[]", []), (b"plain text", {"raw": "plain text"}), (b"false", False)],
)
async def test_a_success_always_has_a_result(bench: Bench, body: bytes, result: Any) -> None:
    receiver = bench.network.receiver(then=accept)
    await done(bench, await bench.endpoint(), body=body)
    assert receiver.all_calls[0].json["result"] == result


async def test_without_a_key_no_key_header_and_no_signature_is_sent(bench: Bench) -> None:
    receiver = bench.network.receiver(then=accept)
    await done(bench, await bench.endpoint())
    assert not {"x-api-key", "webhook-signature"} & set(receiver.all_calls[0].headers)


async def test_the_signature_is_that_of_standard_webhooks_with_the_bytes_of_the_key(bench: Bench) -> None:
    receiver = bench.network.receiver(then=decline)
    await done(bench, await bench.endpoint(), webhookAuthKey="my-secret-key")
    await bench.clock.advance(60)
    first, second = receiver.all_calls
    for call in (first, second):
        signed = b".".join([call.headers["webhook-id"].encode(), call.headers["webhook-timestamp"].encode(), call.body])
        expected = base64.b64encode(hmac.digest(b"my-secret-key", signed, hashlib.sha256)).decode()
        assert call.headers["webhook-signature"] == f"v1,{expected}"
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) == 60


# ---- retries


async def test_an_unacknowledged_result_is_sent_at_0_1_6_and_21_minutes_and_then_given_up(bench: Bench) -> None:
    at_s: list[float] = []
    receiver = bench.network.receiver()
    receiver.then = lambda call: (at_s.append((bench.clock.ms - START_MS) / 1000), decline(call))[-1]
    endpoint_id = await bench.endpoint()
    task_id = await done(bench, endpoint_id)
    seen = []
    for until_s in (0, 59.9, 60, 359.9, 360, 1259.9, 1260, 100_000):
        await bench.clock.advance(until_s - (bench.clock.ms - START_MS) / 1000)
        task = await bench.task(endpoint_id, task_id)
        seen.append((task["status"], task["deliveryStatus"], task["deliveryAttempts"], task["deliveredAt"]))
    assert at_s == [0, 60, 360, 1260]
    assert [call.json["retry_count"] for call in receiver.all_calls] == [1, 2, 3, 4]
    assert seen == [
        *[("SUCCESS", "FAILED", 1, None)] * 2,
        *[("SUCCESS", "FAILED", 2, None)] * 2,
        *[("SUCCESS", "FAILED", 3, None)] * 2,
        *[("SUCCESS", "MAX_RETRIES_EXCEEDED", 4, None)] * 2,
    ]
    assert len({call.json["user_task_id"] for call in receiver.all_calls}) == 1


@pytest.mark.parametrize("sends", [1, 2, 3, 4])
async def test_the_first_2xx_ends_the_sending(bench: Bench, sends: int) -> None:
    receiver = bench.network.receiver()
    receiver.then = lambda call: accept(call) if call.json["retry_count"] == sends else decline(call)
    endpoint_id = await bench.endpoint()
    task_id = await done(bench, endpoint_id)
    await bench.clock.advance(100_000)
    task = await bench.task(endpoint_id, task_id)
    assert (task["status"], task["deliveryStatus"], task["deliveryAttempts"]) == ("DELIVERED", "SUCCESS", sends)
    assert task["deliveredAt"] == START_MS + [0, 60, 360, 1260][sends - 1] * 1000
    assert len(receiver.all_calls) == sends


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_every_2xx_acknowledges(bench: Bench, status: int) -> None:
    bench.network.receiver(then=lambda call: call.reply(status))
    await done(bench, await bench.endpoint())
    assert deliveries(bench) == [(2, 1)]


@pytest.mark.parametrize("status", [199, 300, 301, 302, 307, 400, 401, 404, 410, 429, 500, 503])
async def test_nothing_else_does_and_no_redirect_is_followed(bench: Bench, status: int) -> None:
    bench.network.receiver(then=lambda call: call.reply(status))
    await done(bench, await bench.endpoint())
    assert deliveries(bench) == [(0, 1)]
    assert [each for each in bench.network.connected if each[1] == 9000] == [("127.0.0.1", 9000)]


@pytest.mark.parametrize("fault", ["refuse", "lose", "time_out", "garbage", "flood"])
async def test_a_receiver_that_fails_is_tried_again(bench: Bench, fault: str) -> None:
    receiver = bench.network.receiver()
    receiver.then = lambda call: getattr(call, fault)() if call.json["retry_count"] == 1 else accept(call)
    await done(bench, await bench.endpoint())
    assert deliveries(bench) == [(0, 1)]
    await bench.clock.advance(60)
    assert deliveries(bench) == [(2, 2)]


async def test_the_ladder_is_a_setting(make_bench: MakeBench) -> None:
    for ladder, sends in (((), 1), ((0.05, 0.05), 3)):
        bench = make_bench(webhook_retry_s=ladder)
        receiver = bench.network.receiver(then=decline)
        await done(bench, await bench.endpoint())
        await bench.clock.advance(1)
        assert len(receiver.all_calls) == sends
        assert deliveries(bench) == [(3, sends)]
        await bench.close()


async def test_no_webhook_means_init_for_ever(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    task_id = await done(bench, endpoint_id, webhook=None)
    task = await bench.task(endpoint_id, task_id)
    assert (task["status"], task["deliveryStatus"], task["deliveryAttempts"]) == ("SUCCESS", "INIT", 0)
    assert (task["webhook"], task["deliveredAt"]) == (None, None)
    assert deliveries(bench) == []


async def test_an_open_task_has_nothing_to_deliver_yet(bench: Bench) -> None:
    receiver = bench.network.receiver(then=accept)
    endpoint_id = await bench.endpoint()
    task_id = await bench.submit(endpoint_id, webhook=HOOK)
    task = await bench.task(endpoint_id, task_id)
    assert (task["deliveryStatus"], task["deliveryAttempts"], task["webhook"]) == ("INIT", 0, HOOK)
    assert receiver.all_calls == []


async def test_every_terminal_task_with_a_webhook_has_exactly_one_outbox_row(bench: Bench) -> None:
    bench.network.receiver(then=decline)
    endpoint_id = await bench.endpoint()
    for number in range(12):
        hook = HOOK if number % 3 else None
        await done(bench, endpoint_id, taskId=f"t{number}", status=500 if number % 2 else 200, webhook=hook)
    await bench.submit(endpoint_id, webhook=HOOK, taskId="open")
    await bench.clock.advance(100_000)
    rows = bench.sql("SELECT t.task_id, count(d.id) FROM task t LEFT JOIN delivery d ON d.task_seq = t.seq GROUP BY 1")
    assert dict(rows) == {**{f"t{number}": int(number % 3 > 0) for number in range(12)}, "open": 0}


# ---- what DELIVERED means


@pytest.mark.parametrize(
    ("setting", "in_hand", "before", "after", "failed"),
    [
        ("webhook", "PROCESSING", "SUCCESS", "DELIVERED", "FAILED"),
        ("worker", "DELIVERED", "SUCCESS", "SUCCESS", "FAILED"),
        ("sample", "PROCESSING", "SUCCESS", "SUCCESS", "FAILED"),
    ],
)
async def test_delivered_means_what_the_setting_says(
    make_bench: MakeBench, setting: str, in_hand: str, before: str, after: str, failed: str
) -> None:
    bench = make_bench(delivered_status=setting)
    await settle()
    receiver = bench.network.receiver()
    endpoint_id = await bench.endpoint()

    async def shown(task_id: str) -> str:
        status = (await bench.task(endpoint_id, task_id))["status"]
        page = await bench.get(f"/{endpoint_id}/tasks?status={status}")
        assert task_id in [item["taskId"] for item in page["items"]]
        assert {item["status"] for item in page["items"]} == {status}
        others = await bench.get(f"/{endpoint_id}/tasks?pageSize=100")
        assert page["total"] == sum(item["status"] == status for item in others["items"])
        return status

    task_id = await bench.submit(endpoint_id, webhook=HOOK, taskId="one")
    waiting = await bench.submit(endpoint_id, webhook=HOOK, taskId="two")
    assert await shown(task_id) == in_hand
    assert await shown(waiting) == "PROCESSING"
    assert (await bench.get(f"/{endpoint_id}/tasks/count"))["processing"] == 2
    bench.driver.calls[0].ok()
    await settle()
    assert await shown(task_id) == before
    receiver.calls[0].reply(200)
    await settle()
    assert await shown(task_id) == after
    assert (await bench.task(endpoint_id, task_id))["deliveryStatus"] == "SUCCESS"
    bench.driver.calls[0].reply(500)
    await settle()
    receiver.calls[0].reply(200)
    await settle()
    assert await shown(waiting) == failed
    assert (await bench.get(f"/{endpoint_id}/tasks/count"))["processing"] == 0


# ---- where it may go


@pytest.mark.parametrize(
    "url",
    [
        "http://public.example/x",
        "https://93.184.216.34/",
        "http://both.example/",
        "http://10.0.0.1:80/",
        "http://169.254.1.1/latest",
        "http://0.0.0.0:9000/",
        "http://[::]:9000/",
    ],
)
async def test_only_loopback_is_reached_unless_it_is_allowed(
    bench: Bench, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await done(bench, await bench.endpoint(), webhook=url)
    assert [host for host, _ in bench.network.connected if not host.startswith("127.7")] == []
    assert deliveries(bench) == [(0, 1)]
    assert "Allow it with --webhook-allow" in caplog.text
    await bench.clock.advance(100_000)
    assert deliveries(bench) == [(3, 4)]


@pytest.mark.parametrize("url", ["http://localhost:9000/", "http://127.0.0.1:9000/", "http://127.0.0.1:9000?x"])
async def test_loopback_is_reached_under_all_its_names(bench: Bench, url: str) -> None:
    receiver = bench.network.receiver(then=accept)
    await done(bench, await bench.endpoint(), webhook=url)
    assert len(receiver.all_calls) == 1


async def test_allowed_hosts_are_connected_to_at_the_address_that_was_looked_up(make_bench: MakeBench) -> None:
    bench = make_bench(webhook_allow=("public.example",))
    await settle()
    receiver = bench.network.receiver(443, "93.184.216.34", then=accept)
    await done(bench, await bench.endpoint(), webhook="https://public.example/x")
    assert len(receiver.all_calls) == 1
    ((host, port, more),) = [pool for pool in bench.network.pools if pool[1] == 443]
    assert (host, port, more["server_name"]) == ("93.184.216.34", 443, "public.example")
    assert more["tls"] is not None


async def test_a_name_that_is_unknown_is_a_failed_send(bench: Bench) -> None:
    await done(bench, await bench.endpoint(), webhook="http://no.such.name/")
    assert deliveries(bench) == [(0, 1)]


@pytest.mark.parametrize(
    ("url", "address", "target"),
    [
        ("http://a", ("http", "a", 80), b"/"),
        ("HTTPS://A.B:8443/x/y?q=1&r#f", ("https", "a.b", 8443), b"/x/y?q=1&r"),
        ("https://a", ("https", "a", 443), b"/"),
        ("http://[::1]:9/", ("http", "::1", 9), b"/"),
        ("http://a?x", ("http", "a", 80), b"/?x"),
        ("http://a#x", ("http", "a", 80), b"/"),
        ("http://a/p;v=1?a?b", ("http", "a", 80), b"/p;v=1?a?b"),
        ("http://a//evil.example/x", ("http", "a", 80), b"//evil.example/x"),
        ("http://a/[x]", ("http", "a", 80), b"/[x]"),
    ],
)
def test_a_url_is_taken_apart_without_leaving_its_host(url: str, address: tuple[str, str, int], target: bytes) -> None:
    assert (address_of(url), target_of(url)) == (address, target)


@pytest.mark.parametrize(
    "url", ["http://[::::]/", "http://[1.2.3.4]/", "http://[..]/", "http://[12345::]/", "http://[:]/"]
)
async def test_a_url_that_no_address_can_be_made_of_is_refused_at_once(bench: Bench, url: str) -> None:
    endpoint_id = await bench.endpoint()
    reply = await bench.call("POST", f"{ROOT}/{endpoint_id}/tasks", submit_body(webhook=url))
    assert (reply.http_status, reply.code) == (400, 10001)
    assert "webhook" in reply.message


# ---- many at a time


async def test_a_dead_receiver_delays_no_other(bench: Bench) -> None:
    dead = bench.network.receiver(9001)
    alive = bench.network.receiver(9000, then=accept)
    endpoint_id = await bench.endpoint()
    for number in range(3 * limits.DELIVERIES_PER_DESTINATION):
        await done(bench, endpoint_id, taskId=f"dead{number}", webhook="http://127.0.0.1:9001/")
    assert len(dead.calls) == limits.DELIVERIES_PER_DESTINATION
    for number in range(5):
        await done(bench, endpoint_id, taskId=f"alive{number}")
    assert len(alive.all_calls) == 5
    dead.calls[0].reply(200)
    await settle()
    assert len(dead.calls) == limits.DELIVERIES_PER_DESTINATION
    assert len(dead.all_calls) == limits.DELIVERIES_PER_DESTINATION + 1


async def test_more_deliveries_than_the_window_holds_are_each_sent_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "DELIVERY_WINDOW", 6)
    monkeypatch.setattr(webhooks, "DELIVERIES_PER_DESTINATION", 2)
    receiver = bench.network.receiver()
    endpoint_id = await bench.endpoint()
    for number in range(25):
        await done(bench, endpoint_id, taskId=f"t{number}")
    assert len(bench.on.outbox._held) == 6 + 2
    while receiver.calls:
        receiver.calls[0].reply(200)
        await settle()
    assert sorted(call.json["user_task_id"] for call in receiver.all_calls) == sorted(f"t{n}" for n in range(25))
    assert deliveries(bench) == [(2, 1)] * 25


async def test_the_retries_of_a_receiver_that_is_down_delay_no_other_even_when_they_fill_the_window(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "DELIVERY_WINDOW", 6)
    alive = bench.network.receiver(9000, then=accept)
    endpoint_id = await bench.endpoint()
    for number in range(15):
        await done(bench, endpoint_id, taskId=f"down{number}", webhook="http://127.0.0.1:9001/")
    await done(bench, endpoint_id, taskId="alive")
    assert [call.json["user_task_id"] for call in alive.all_calls] == ["alive"]
    assert len(bench.on.outbox._held) <= 6
    # Nor are those retries lost: each is made at its time.
    at_s: dict[str, list[float]] = {}
    down = bench.network.receiver(9001)

    def note(call: Call) -> None:
        at_s.setdefault(call.json["user_task_id"], []).append((bench.clock.ms - START_MS) / 1000)
        decline(call)

    down.then = note
    await bench.clock.advance(100_000)
    assert at_s == {f"down{number}": [60, 360, 1260] for number in range(15)}
    assert deliveries(bench) == [(3, 4)] * 15 + [(2, 1)]


async def test_a_restart_with_more_retries_than_the_window_holds_makes_each_at_its_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "DELIVERY_WINDOW", 6)
    endpoint_id = await bench.endpoint()
    for number in range(15):
        await done(bench, endpoint_id, taskId=f"t{number}")
    await bench.crash()
    receiver = bench.network.receiver(9000, then=accept)
    async with await bench.again() as again:
        await again.clock.advance(59)
        assert receiver.all_calls == []
        await again.clock.advance(1)
        assert sorted(call.json["user_task_id"] for call in receiver.all_calls) == sorted(f"t{n}" for n in range(15))


async def test_an_outbox_that_cannot_be_read_now_is_read_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "DELIVERY_WINDOW", 4)
    receiver = bench.network.receiver()
    endpoint_id = await bench.endpoint()
    for number in range(10):
        await done(bench, endpoint_id, taskId=f"t{number}")
    with monkeypatch.context() as broken:

        def unreadable(*asked: Any) -> None:
            raise StoreError("disk I/O error")

        broken.setattr(bench.store, "due_deliveries", unreadable)
        for call in receiver.calls:
            call.reply(200)
        await settle()
    receiver.then = accept
    await bench.clock.advance(10)
    assert deliveries(bench) == [(2, 1)] * 10


async def test_a_hanging_receiver_with_thousands_of_overdue_deliveries_delays_no_other_not_even_after_a_restart(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "DELIVERY_WINDOW", 4)
    monkeypatch.setattr(webhooks, "DELIVERIES_PER_DESTINATION", 2)
    hanging = bench.network.receiver(9001)
    endpoint_id = await bench.endpoint()
    for number in range(40):
        await done(bench, endpoint_id, taskId=f"hanging{number}", webhook="http://127.0.0.1:9001/")
    alive = bench.network.receiver(9000)
    for number in range(3):
        await done(bench, endpoint_id, taskId=f"alive{number}")
    assert (len(hanging.calls), len(alive.calls)) == (2, 2)
    await bench.crash()
    hanging.all_calls.clear()
    alive.all_calls.clear()
    alive.then = accept
    async with await bench.again() as again:
        assert len(hanging.calls) == 2
        assert sorted(call.json["user_task_id"] for call in alive.all_calls) == ["alive0", "alive1", "alive2"]
        assert again.on.outbox.pending == 38
        hanging.then = accept
        for call in hanging.calls:
            call.reply(200)
        await settle()
        assert len({call.json["user_task_id"] for call in hanging.all_calls}) == len(hanging.all_calls) == 40
        assert deliveries(again) == [(2, 1)] * 43


async def test_receivers_that_have_had_all_are_forgotten(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "IDLE_DESTINATIONS_MAX", 2)
    endpoint_id = await bench.endpoint()
    for port in range(9100, 9110):
        bench.network.receiver(port, then=accept)
        await done(bench, endpoint_id, webhook=f"http://127.0.0.1:{port}/")
    assert set(bench.on.outbox._destinations) == {"http://127.0.0.1:9108", "http://127.0.0.1:9109"}
    await done(bench, endpoint_id, webhook="http://127.0.0.1:9100/again")
    assert deliveries(bench) == [(2, 1)] * 11


@pytest.mark.parametrize(
    ("url", "destination"),
    [
        ("HTTP://A.B/x", "http://a.b:80"),
        ("https://a.b:443?x", "https://a.b:443"),
        ("https://a.b", "https://a.b:443"),
        ("http://[2001:DB8::1]:80/", "http://[2001:db8::1]:80"),
    ],
)
def test_a_destination_is_scheme_host_and_port(url: str, destination: str) -> None:
    assert destination_of(url) == destination_of(destination) == destination


async def test_a_sending_that_breaks_down_is_a_failed_send(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> bytes:
        raise RuntimeError("a bug")

    with monkeypatch.context() as changed:
        changed.setattr(webhooks, "delivery_headers", broken)
        await done(bench, await bench.endpoint())
    assert deliveries(bench) == [(0, 1)]
    assert "broke down" in caplog.text
    bench.network.receiver(then=accept)
    await bench.clock.advance(60)
    assert deliveries(bench) == [(2, 2)]


# ---- a store that fails, and restarts


async def test_a_send_that_cannot_be_noted_before_is_not_made_and_tried_again(bench: Bench) -> None:
    receiver = bench.network.receiver(then=accept)
    endpoint_id = await bench.endpoint()
    bench.writer.refuse_those[ClaimDelivery] = 1
    task_id = await done(bench, endpoint_id)
    assert receiver.all_calls == []
    await bench.clock.advance(limits.STORE_RETRY_MS / 1000)
    assert len(receiver.all_calls) == 1
    assert (await bench.task(endpoint_id, task_id))["status"] == "DELIVERED"


async def test_an_acknowledgement_is_noted_as_soon_as_the_store_works_again(bench: Bench) -> None:
    receiver = bench.network.receiver()
    endpoint_id = await bench.endpoint()
    task_id = await done(bench, endpoint_id)
    bench.writer.refuse = 3
    receiver.calls[0].reply(200)
    await bench.clock.advance(10)
    assert (await bench.task(endpoint_id, task_id))["status"] == "DELIVERED"
    assert len(receiver.all_calls) == 1


async def test_a_result_that_cannot_be_read_now_is_sent_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = bench.network.receiver(then=accept)
    endpoint_id = await bench.endpoint()

    def broken(seq: int) -> None:
        raise StoreError("disk I/O error")

    monkeypatch.setattr(bench.store, "finished_task", broken)
    task_id = await done(bench, endpoint_id)
    assert receiver.all_calls == []
    monkeypatch.undo()
    await bench.clock.advance(limits.STORE_RETRY_MS / 1000)
    assert (await bench.task(endpoint_id, task_id))["status"] == "DELIVERED"
    assert [call.json["retry_count"] for call in receiver.all_calls] == [1]


async def test_a_delivery_under_way_when_the_server_dies_is_sent_again_and_retries_go_on_where_they_were(
    bench: Bench,
) -> None:
    receiver = bench.network.receiver(then=decline)
    endpoint_id = await bench.endpoint()
    await done(bench, endpoint_id, taskId="waiting")
    receiver.then = None
    await done(bench, endpoint_id, taskId="inflight")
    assert [call.json["user_task_id"] for call in receiver.calls] == ["inflight"]
    await bench.crash()
    receiver.all_calls.clear()
    receiver.then = accept
    async with await bench.again() as again:
        assert [(call.json["user_task_id"], call.json["retry_count"]) for call in receiver.all_calls] == [
            ("inflight", 1)
        ]
        await again.clock.advance(60)
        assert [(c.json["user_task_id"], c.json["retry_count"]) for c in receiver.all_calls[1:]] == [("waiting", 2)]
        assert (await again.get(f"/{endpoint_id}/tasks?status=DELIVERED"))["total"] == 2


# ---- the webhook of an endpoint


async def test_every_change_of_a_worker_is_told_to_the_endpoints_webhook(bench: Bench) -> None:
    receiver = bench.network.receiver(then=accept)
    bench.driver.by_hand = True
    endpoint_id = await bench.endpoint(webhook=HOOK, name="llama")
    (worker,) = bench.driver.workers
    worker.become_ready()
    await settle()
    await bench.put(f"/{endpoint_id}/workers?count=0")
    await settle()
    told = [call.json for call in receiver.all_calls]
    for each in told:
        validator("WorkerStatusNotification").validate(each)
        assert (each["event"], each["endpoint_id"], each["endpoint_name"]) == ("worker.status", endpoint_id, "llama")
        assert each["worker_id"] == worker.id
    assert [(each["previous_status"], each["status"]) for each in told] == [
        (None, "INITIALIZING"),
        ("INITIALIZING", "RUNNING"),
        ("RUNNING", "STOPPING"),
        ("STOPPING", "TERMINATED"),
    ]
    assert not {"x-api-key", "webhook-signature"} & {name for call in receiver.all_calls for name in call.headers}


async def test_worker_status_is_sent_again_as_results_are(bench: Bench) -> None:
    receiver = bench.network.receiver(then=decline)
    await bench.endpoint(webhook=HOOK)
    await bench.clock.advance(100_000)
    assert len(receiver.all_calls) == 2 * 4
    assert deliveries(bench) == [(3, 4)] * 2


async def test_without_descriptors_of_our_own_a_result_waits_and_no_send_is_counted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "STORE_RETRY_MS", 0)
    refusals = iter(range(20))

    def then(call: Call) -> None:
        if next(refusals, None) is None:
            call.ok()
        else:
            call.fail(http1.OutOfResources("Cannot connect: too many open files."))

    receiver = bench.network.receiver(then=then)
    endpoint_id = await bench.endpoint()
    task_id = await done(bench, endpoint_id)
    await settle()
    task = await bench.task(endpoint_id, task_id)
    assert (task["deliveryStatus"], task["deliveryAttempts"]) == ("SUCCESS", 1)
    assert len(receiver.all_calls) == 21


# ---- secrets


async def test_the_key_of_a_webhook_is_shown_nowhere(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    secret = "k3y-of-the-webhook"
    bench.network.receiver(then=decline)
    with caplog.at_level(logging.DEBUG):
        endpoint_id = await bench.endpoint()
        task_id = await done(bench, endpoint_id, webhookAuthKey=secret)
        await bench.clock.advance(100_000)
        replies = [await bench.call("GET", f"{ROOT}/{endpoint_id}/tasks{path}") for path in ("", f"/{task_id}")]
        replies.append(await bench.call("POST", f"{ROOT}/{endpoint_id}/tasks", submit_body(taskId=task_id)))
        replies.append(
            await bench.call("POST", f"{ROOT}/{endpoint_id}/tasks", submit_body(webhookAuthKey=f"{secret}\n"))
        )
    assert [reply.code for reply in replies] == [10000, 10000, 10001, 10001]
    assert not any(secret.encode() in reply.body for reply in replies)
    assert secret not in caplog.text


def test_timestamps_are_utc_with_milliseconds() -> None:
    assert timestamp(1_705_306_215_003) == "2024-01-15 08:10:15.003"
