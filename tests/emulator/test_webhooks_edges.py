"""What the outbox does at its edges; what it does every day is in test_webhooks.py."""

import asyncio
import re
import ssl
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.emulator import harness
from tests.emulator.harness import START_MS, Bench, Call, settle
from yottabench.emulator import http1, limits, receivers, webhooks
from yottabench.emulator.http1 import ConnectFailed
from yottabench.emulator.receivers import EgressRefused, address_of, allowed_address, authority_of, target_of
from yottabench.emulator.store import base
from yottabench.emulator.store.base import ClaimDelivery, DueDelivery, StoreError
from yottabench.emulator.store.sqlite import SqliteStore
from yottabench.emulator.webhooks import delivery_headers, timestamp

pytestmark = pytest.mark.anyio

MakeBench = Callable[..., Bench]
HOOK = "http://127.0.0.1:9000/"
OTHER = "http://127.0.0.1:9001/"


def accept(call: Call) -> None:
    call.reply(200)


def decline(call: Call) -> None:
    call.reply(500)


async def done(bench: Bench, endpoint_id: str, *task_ids: str, webhook: str = HOOK, **changes: Any) -> None:
    """Tasks that were submitted and answered, each before the next."""
    for task_id in task_ids:
        await bench.submit(endpoint_id, taskId=task_id, webhook=webhook, **changes)
        (call,) = bench.driver.calls
        call.ok()
        await settle()


async def redeliver(bench: Bench, number: int) -> None:
    reply = await bench.call("POST", f"/_emulator/deliveries/{number}/redeliver", key=None)
    assert reply.code == 10000
    await settle()


def told(calls: list[Call]) -> list[str]:
    return [call.json["user_task_id"] for call in calls]


def deliveries(bench: Bench) -> list[tuple[Any, ...]]:
    return bench.sql("SELECT state, attempts FROM delivery ORDER BY id")


def notes(bench: Bench) -> list[str]:
    return [note for (note,) in bench.sql("SELECT note FROM delivery_attempt ORDER BY delivery_id, number")]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two places and a window of four for each receiver."""
    monkeypatch.setattr(webhooks, "DELIVERIES_PER_DESTINATION", 2)
    monkeypatch.setattr(webhooks, "DELIVERY_WINDOW", 4)


class Readings:
    """What the outbox asked the store for, and what it found."""

    def __init__(self, store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: list[list[int]] = []
        real = store.due_deliveries

        def due_deliveries(limit: int, destination: str | None = None) -> list[DueDelivery]:
            found = real(limit, destination)
            self.found.append([each.id for each in found])
            return found

        monkeypatch.setattr(store, "due_deliveries", due_deliveries)


class Names:
    """A name service that knows one address for all names, and what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *ips: str) -> None:
        self.asked: list[tuple[str, int, int]] = []

        async def look_up(host: str, port: int, *, proto: int = 0) -> list[Any]:
            self.asked.append((host, port, proto))
            if not ips:
                raise UnicodeError("label empty or too long")
            return [(2, 1, 6, "", (ip, port)) for ip in ips]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)


# ---- what is on the wire


def test_headers_have_the_names_that_are_documented_to_the_letter() -> None:
    delivery = DueDelivery(id=7, url=HOOK, auth_key=None, task_seq=1, body=None, attempts=0, next_ms=0)
    assert delivery_headers(delivery, b"{}", 1) == (b"Content-Type: application/json\r\nUser-Agent: yottabench\r\n")
    delivery.auth_key = "clé"
    names = [line.split(b":")[0] for line in delivery_headers(delivery, b"{}", 1).splitlines()]
    assert names[2:] == [b"X-API-Key", b"webhook-id", b"webhook-timestamp", b"webhook-signature"]
    assert b"\r\nX-API-Key: cl\xc3\xa9\r\nwebhook-id: msg_7\r\nwebhook-timestamp: 1\r\nwebhook-signature: v1," in (
        delivery_headers(delivery, b"{}", 1)
    )


async def test_a_send_has_the_time_of_the_settings_and_a_bound_for_the_answer(make_bench: MakeBench) -> None:
    sent: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    class Pool:
        async def request(self, *what: Any, **how: Any) -> http1.Answer:
            sent.append((what, how))
            return http1.Answer(200, [], b"")

        def close(self) -> None:
            pass

    bench = make_bench(webhook_timeout_s=7.5)
    await settle()
    endpoint_id = await bench.endpoint()
    real = http1.Http1Pool
    # Undone here: the bench has its own in that place, and takes it away when it ends.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            http1, "Http1Pool", lambda host, port, **more: Pool() if port == 9000 else real(host, port, **more)
        )
        await done(bench, endpoint_id, "t", webhook=f"{HOOK}a?b")
    (((method, target, _, _), how),) = sent
    assert (method, target) == (b"POST", b"/a?b")
    assert how == {"timeout_s": 7.5, "connect_timeout_s": 7.5, "max_body_bytes": limits.DELIVERY_ANSWER_MAX_BYTES}


async def test_the_sends_to_one_address_share_its_connections_and_only_https_has_tls(make_bench: MakeBench) -> None:
    bench = make_bench(webhook_allow=("public.example",))
    await settle()
    bench.network.receiver(9000, then=accept)
    bench.network.receiver(443, "93.184.216.34", then=accept)
    endpoint_id = await bench.endpoint()
    for number, url in enumerate([HOOK, "http://localhost:9000/x", HOOK, "https://public.example/", HOOK]):
        await done(bench, endpoint_id, f"t{number}", webhook=url)
    plain, named, secure = [pool for pool in bench.network.pools if pool[1] in {443, 9000}]
    common = {"max_idle": limits.DELIVERIES_PER_DESTINATION}
    assert plain == ("127.0.0.1", 9000, {"tls": None, "server_name": "127.0.0.1", **common})
    assert named == ("127.0.0.1", 9000, {"tls": None, "server_name": "localhost", **common})
    assert isinstance(secure[2]["tls"], ssl.SSLContext)
    assert secure[2]["server_name"] == "public.example"


async def test_a_setting_lets_webhooks_out_to_public_addresses(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(egress="public")
    await settle()
    names = Names(monkeypatch, "93.184.216.34")
    receiver = bench.network.receiver(8080, "93.184.216.34", then=accept)
    await done(bench, await bench.endpoint(), "t", webhook="http://there.example:8080/")
    assert told(receiver.all_calls) == ["t"]
    assert names.asked == [("there.example", 8080, 6)]


async def test_what_went_wrong_is_noted_with_each_attempt(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = bench.network.receiver(then=decline)
    endpoint_id = await bench.endpoint()
    await done(bench, endpoint_id, "t")
    receiver.then = Call.refuse
    await bench.clock.advance(60)

    def broken(*_: Any) -> bytes:
        raise RuntimeError("a bug")

    with monkeypatch.context() as changed:
        changed.setattr(webhooks, "delivery_headers", broken)
        await bench.clock.advance(300)
    receiver.then = accept
    await bench.clock.advance(900)
    await done(bench, endpoint_id, "far", webhook="http://10.0.0.1/")
    await done(bench, endpoint_id, "nowhere", webhook="http://no.localhost/")
    assert notes(bench) == [
        "The receiver answered HTTP 500; only 2xx acknowledges.",
        "Cannot connect, says the test.",
        "The sending broke down (RuntimeError); see the server's log.",
        None,
        "10.0.0.1 is not on this machine's loopback. Allow it with --webhook-allow 10.0.0.1.",
        "The name no.localhost is unknown: [Errno -2] Name or service not known",
    ]
    assert {name: n for name, n in bench.on.stats.counts.items() if name.startswith("deliveries_")} == {
        "deliveries_due": 5,
        "deliveries_acked": 1,
    }


async def test_an_attempt_is_recorded_from_its_start_to_its_end(bench: Bench) -> None:
    receiver = bench.network.receiver()
    await done(bench, await bench.endpoint(), "t")
    await bench.clock.advance(5)
    receiver.calls[0].reply(500)
    await settle()
    assert bench.sql("SELECT started_ms, ended_ms FROM delivery_attempt") == [(START_MS, START_MS + 5000)]
    assert bench.sql("SELECT next_ms FROM delivery") == [(START_MS + 65_000,)]


async def test_retries_without_a_pause_are_counted_too(make_bench: MakeBench) -> None:
    bench = make_bench(webhook_retry_s=(0, 0.0009, 0))
    await settle()
    receiver = bench.network.receiver()
    receiver.then = lambda call: decline(call) if len(receiver.all_calls) < 9 else accept(call)
    await done(bench, await bench.endpoint(), "t")
    assert [call.json["retry_count"] for call in receiver.all_calls] == [1, 2, 3, 4]
    assert deliveries(bench) == [(3, 4)]


async def test_a_result_whose_task_is_gone_is_told_as_null(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = bench.network.receiver(then=accept)
    endpoint_id = await bench.endpoint()
    monkeypatch.setattr(bench.store, "finished_task", lambda seq: None)
    await done(bench, endpoint_id, "t")
    assert [call.body for call in receiver.all_calls] == [b"null"]


async def test_without_room_for_a_connection_it_is_tried_again_after_a_while(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds:
            slept.append(seconds)
        await real(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    receiver = bench.network.receiver()
    bodies: list[tuple[bytes, dict[str, str]]] = []

    def then(call: Call) -> None:
        bodies.append((call.body, call.headers))
        if len(bodies) < 3:
            call.fail(http1.OutOfResources("Too many open files."))
        else:
            call.reply(200)

    receiver.then = then
    await done(bench, await bench.endpoint(), "t", webhookAuthKey="key")
    assert slept == [limits.STORE_RETRY_MS / 1000] * 2
    assert bodies == [bodies[0]] * 3
    assert bodies[0][1]["webhook-timestamp"] == str(START_MS // 1000)
    assert deliveries(bench) == [(2, 1)]


# ---- queues and places


@pytest.mark.usefixtures("small")
async def test_a_receiver_has_its_places_and_no_more_after_every_answer(bench: Bench) -> None:
    receiver = bench.network.receiver()
    endpoint_id = await bench.endpoint()
    await done(bench, endpoint_id, *(f"t{number}" for number in range(12)))
    sizes = []
    while receiver.calls:
        sizes.append((len(receiver.calls), bench.on.outbox.busy))
        receiver.calls[-1].reply(200)
        await settle()
    assert sizes == [(2, 2)] * 11 + [(1, 1)]
    assert bench.on.outbox.busy == 0
    assert bench.on.outbox._held == {}


@pytest.mark.usefixtures("small")
async def test_what_fits_the_window_is_never_read_back_from_the_store(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = bench.network.receiver(then=decline)
    endpoint_id = await bench.endpoint()
    readings = Readings(bench.store, monkeypatch)
    await done(bench, endpoint_id, "later")
    receiver.then = None
    await done(bench, endpoint_id, "1", "2", "3", "4", "5", "6")
    while receiver.calls:
        receiver.calls[0].reply(200)
        await settle()
    assert readings.found == []
    await bench.clock.advance(60)  # the one that waits for its time is read back then
    assert readings.found == [[1]]
    receiver.calls[0].reply(500)
    await done(bench, endpoint_id, "7", "8")
    assert readings.found == [[1]]


async def test_a_retry_to_come_that_a_restart_found_leaves_the_store_alone_until_its_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = bench.network.receiver(then=decline)
    endpoint_id = await bench.endpoint()
    await done(bench, endpoint_id, "later")
    await bench.crash()
    receiver.then = accept
    async with await bench.again() as again:
        readings = Readings(again.store, monkeypatch)
        await done(again, endpoint_id, "now")
        assert (told(receiver.all_calls), readings.found) == (["later", "now"], [])
        await again.clock.advance(60)
        assert (told(receiver.all_calls), readings.found) == (["later", "now", "later"], [[1]])


@pytest.mark.usefixtures("small")
async def test_a_reading_of_the_store_brings_a_whole_window_of_new_ones_however_many_are_found_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = bench.network.receiver()
    endpoint_id = await bench.endpoint()
    await done(bench, endpoint_id, *(f"t{number}" for number in range(30)))
    readings = Readings(bench.store, monkeypatch)
    held = set(bench.on.outbox._held)
    brought = []
    while receiver.calls:
        receiver.calls[0].reply(200)
        await settle()
        while len(brought) < len(readings.found):
            new = set(readings.found[len(brought)]) - held
            brought.append(len(new))
            held |= new
    assert sum(brought) == 30 - (4 + 2)
    assert all(new >= 4 for new in brought[:-1])


@pytest.mark.usefixtures("small")
async def test_a_delivery_that_waits_for_its_turn_and_is_asked_for_again_is_sent_once(bench: Bench) -> None:
    receiver = bench.network.receiver()
    endpoint_id = await bench.endpoint()
    await done(bench, endpoint_id, "a", "b", "c")
    await redeliver(bench, 3)
    assert (told(receiver.calls), len(bench.on.outbox._held)) == (["a", "b"], 3)
    receiver.then = accept
    for call in receiver.calls:
        call.reply(200)
    await settle()
    assert told(receiver.all_calls) == ["a", "b", "c"]


async def test_a_retry_that_is_asked_for_now_takes_the_next_step_of_the_ladder(bench: Bench) -> None:
    at_s: list[float] = []
    receiver = bench.network.receiver()
    receiver.then = lambda call: (at_s.append((bench.clock.ms - START_MS) / 1000), decline(call))[-1]
    await done(bench, await bench.endpoint(), "t")
    await bench.clock.advance(10)
    await redeliver(bench, 1)
    await bench.clock.advance(100_000)
    assert at_s == [0, 10, 310, 1210]
    assert deliveries(bench) == [(3, 4)]


async def test_what_was_acknowledged_and_is_asked_for_again_is_sent_once_more_and_stays_acknowledged(
    bench: Bench,
) -> None:
    receiver = bench.network.receiver(then=accept)
    await done(bench, await bench.endpoint(), "t")
    receiver.then = decline
    await redeliver(bench, 1)
    await bench.clock.advance(100_000)
    assert len(receiver.all_calls) == 2
    assert [state for state, _ in deliveries(bench)] == [2]


async def test_a_retry_that_is_due_sooner_does_not_wait_for_one_that_is_due_later(bench: Bench) -> None:
    at_s: list[tuple[str, float]] = []
    receiver = bench.network.receiver()

    def then(call: Call) -> None:
        at_s.append((call.json["user_task_id"], (bench.clock.ms - START_MS) / 1000))
        decline(call)

    receiver.then = then
    endpoint_id = await bench.endpoint()
    await done(bench, endpoint_id, "old")
    await bench.clock.advance(70)  # its next one is due at 360 s
    await done(bench, endpoint_id, "new")
    await bench.clock.advance(100_000)
    assert at_s == [
        ("old", 0),
        ("old", 60),
        ("new", 70),
        ("new", 130),
        ("old", 360),
        ("new", 430),
        ("old", 1260),
        ("new", 1330),
    ]


# ---- what goes


@pytest.mark.usefixtures("small")
async def test_what_is_forgotten_is_not_sent_and_makes_room_for_others(bench: Bench) -> None:
    receiver = bench.network.receiver()
    endpoint_id = await bench.endpoint()
    await done(bench, endpoint_id, "sending", "kept", "queued", "next", "last")
    bench.on.outbox.forget([999, 3, 1])
    await settle()
    assert told(receiver.all_calls) == ["sending", "kept", "next"]
    assert bench.on.outbox.busy == 2
    for number in (1, 2):
        receiver.all_calls[number].reply(200)
    await settle()
    assert told(receiver.all_calls) == ["sending", "kept", "next", "last"]
    assert [state for state, _ in deliveries(bench)] == [1, 2, 0, 2, 1]


@pytest.mark.usefixtures("small")
async def test_what_is_gone_from_the_store_when_its_turn_comes_is_not_sent(bench: Bench) -> None:
    receiver = bench.network.receiver()
    endpoint_id = await bench.endpoint()
    await done(bench, endpoint_id, "a", "b", "gone", "c")
    bench.sql("DELETE FROM delivery WHERE id = 3")
    for call in receiver.calls:
        call.reply(200)
    await settle()
    assert told(receiver.all_calls) == ["a", "b", "c"]
    receiver.calls[0].reply(200)
    await settle()
    assert (bench.on.outbox._held, bench.on.outbox.busy) == ({}, 0)
    assert bench.on.outbox._destinations[HOOK.rstrip("/")].is_idle


async def test_the_connections_of_the_receiver_that_was_idle_longest_are_closed_and_no_busy_ones(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "IDLE_DESTINATIONS_MAX", 2)
    endpoint_id = await bench.endpoint()
    closed: list[int] = []
    monkeypatch.setattr(harness._Pool, "close", lambda pool: closed.append(pool.port))
    peers = {port: bench.network.receiver(port, then=accept) for port in range(9000, 9006)}

    async def send(port: int) -> None:
        await done(bench, endpoint_id, f"t{len(bench.sql('SELECT 1 FROM task'))}", webhook=f"http://127.0.0.1:{port}/")

    await send(9000)
    await send(9001)
    await send(9000)  # so that 9001 was idle for longer
    await send(9002)
    assert closed == [9001]
    peers[9000].then = None
    await send(9000)  # and is busy from here on
    peers[9003].then = decline
    await send(9003)  # has a retry to come
    await send(9004)
    await send(9005)
    assert closed == [9001, 9002]
    peers[9000].calls[0].reply(200)
    await settle()
    assert closed == [9001, 9002, 9004]
    await bench.on.outbox.close()
    assert sorted(closed[3:]) == [9000, 9003, 9005]


@pytest.mark.usefixtures("small")
async def test_after_its_end_the_outbox_sends_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = bench.network.receiver()
    endpoint_id = await bench.endpoint()
    await done(bench, endpoint_id, "a", "b", "c")
    outbox = bench.on.outbox
    await outbox.close()
    assert (outbox.busy, told(receiver.all_calls)) == (0, ["a", "b"])
    readings = Readings(bench.store, monkeypatch)
    monkeypatch.setattr(bench.store, "delivery_destinations", lambda: pytest.fail("It has ended."))
    held = dict(outbox._held)
    await done(bench, endpoint_id, "d")
    outbox.load()
    await bench.clock.advance(100_000)
    assert told(receiver.all_calls) == ["a", "b"]
    assert (readings.found, outbox._held) == ([], held)


# ---- a store that fails


async def test_an_outbox_that_cannot_be_read_at_the_start_is_read_a_moment_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint_id = await bench.endpoint()
    await done(bench, endpoint_id, "t")
    await bench.clock.advance(60)
    await bench.crash()
    receiver = bench.network.receiver(then=accept)
    await bench.clock.advance(300)
    with monkeypatch.context() as broken:

        def unreadable(_: SqliteStore) -> None:
            raise StoreError("disk I/O error")

        broken.setattr(SqliteStore, "delivery_destinations", unreadable)
        again = await bench.again()
    async with again:
        await again.clock.advance(limits.STORE_RETRY_MS / 1000 - 0.001)
        assert receiver.all_calls == []
        await again.clock.advance(0.001)
        assert told(receiver.all_calls) == ["t"]


@pytest.mark.parametrize("what", ["claim", "result", "queue"])
async def test_a_store_that_fails_is_asked_again_a_moment_later_and_not_sooner(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    receiver = bench.network.receiver(then=decline)
    endpoint_id = await bench.endpoint()
    await done(bench, endpoint_id, "t")
    receiver.then = accept

    def unreadable(*_: Any) -> None:
        raise StoreError("disk I/O error")

    with monkeypatch.context() as broken:
        if what == "claim":
            bench.writer.refuse_those[ClaimDelivery] = 1
        else:
            broken.setattr(bench.store, "finished_task" if what == "result" else "due_deliveries", unreadable)
        await bench.clock.advance(60)
    assert (len(receiver.all_calls), bench.on.outbox._held, bench.on.outbox.busy) == (1, {}, 0)
    await bench.clock.advance(limits.STORE_RETRY_MS / 1000 - 0.001)
    assert len(receiver.all_calls) == 1
    await bench.clock.advance(0.001)
    assert [call.json["retry_count"] for call in receiver.all_calls] == [1, 2]


# ---- receivers


def test_an_authority_has_brackets_around_an_ipv6_address_only() -> None:
    assert authority_of(("http", "::1", 80)) == "[::1]:80"
    assert authority_of(("http", "a.b", 80)) == "a.b:80"
    # As it is kept for each URL once it was asked for, it is asked for here of one that is in no other test.
    assert receivers.destination_of("HTTPS://[2001:DB8::77]/x") == "https://[2001:db8::77]:443"


def test_a_url_without_a_host_is_one_of_no_host() -> None:
    assert (address_of("http://[]/x"), target_of("http://[]/x")) == (("http", "", 80), b"/x")
    assert address_of("http:///x") == ("http", "", 80)


@pytest.mark.parametrize("host", ["localhost", "localhost.", "a.localhost", "a.localhost."])
async def test_names_of_this_machine_are_looked_up_once_for_tcp(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    names = Names(monkeypatch, "127.0.0.3", "127.0.0.2")
    assert await allowed_address(host, 9000, ()) == "127.0.0.3"
    assert names.asked == [(host, 9000, 6)]


@pytest.mark.parametrize("host", [".localhost.example", "localhostx", "localhost.x", "localhostX", "xlocalhost"])
async def test_names_that_only_look_like_this_machines_are_not(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    names = Names(monkeypatch, "127.0.0.1")
    with pytest.raises(EgressRefused, match=f"^{re.escape(host)} is not on this machine's loopback"):
        await allowed_address(host, 80, ())
    assert names.asked == []


async def test_a_name_that_is_none_is_a_name_that_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch)
    with pytest.raises(ConnectFailed, match=r"The name a\.\.localhost is unknown: label empty") as caught:
        await allowed_address("a..localhost", 80, ())
    assert isinstance(caught.value.__cause__, UnicodeError)


@pytest.mark.parametrize("egress", ["loopback", "public"])
async def test_an_address_with_a_zone_is_the_address_without_it(egress: Any) -> None:
    with pytest.raises(EgressRefused, match="metadata"):
        await allowed_address("fd00:ec2::254%eth0", 80, ("fd00:ec2::254%eth0",), egress)
    assert await allowed_address("::1%lo", 80, (), egress) == "::1%lo"


async def test_a_refusal_says_what_is_refused_why_and_what_next() -> None:
    said = {}
    for host in ("10.1.2.3", "169.254.169.254"):
        with pytest.raises(EgressRefused) as caught:
            await allowed_address(host, 80, (), "public")
        said[host] = str(caught.value)
    assert said == {
        "10.1.2.3": "10.1.2.3 has an address that is not public. Allow it with --webhook-allow 10.1.2.3.",
        "169.254.169.254": "169.254.169.254 is an address of a cloud's metadata service, which no webhook may reach.",
    }


def test_a_timestamp_is_utc_wherever_the_server_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "JST-9")
        time.tzset()
        there = timestamp(START_MS)
    time.tzset()
    assert there == "2027-01-15 08:00:00.000"


def test_a_success_without_output_has_the_result_null() -> None:
    task = base.FinishedTask(
        seq=3, endpoint_id=5, task_id="t", state=base.TaskState.SUCCEEDED, output=None, error="not shown"
    )
    assert b'"result":null' in webhooks.task_body(task, 1, START_MS)
    task.state, task.output = base.TaskState.FAILED, b"not shown"
    assert b'"failed_reason":"not shown"}' in webhooks.task_body(task, 1, START_MS)
