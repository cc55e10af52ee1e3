"""A receiver lets in what is genuine and new, once, and wakes those who wait."""

import asyncio
import base64
import hashlib
import hmac
import http.client
import io
import json
import socket
import threading
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from wsgiref.validate import validator

import httpx
import pytest
import standardwebhooks
from hypothesis import given as for_all
from hypothesis import strategies as st

from tests.client.clients import Kind
from tests.client.queue import MemoryQueue
from tests.client.service import ID, Service
from tests.strategies import json_values
from yottabench.client import InvalidArgument, Receiver, TaskResult, WebhookRefused
from yottabench.client.models import WorkerStatusNotification
from yottabench.client.webhooks import check_sender, read_webhook

NOW_S = 1_705_306_200.0
HOOK_KEY = "hook-key-never-to-be-shown"
RESULT: dict[str, Any] = {
    "task_id": 7,
    "user_task_id": "mine",
    "endpoint_id": ID,
    "status": "Success",
    "success": True,
    "timestamp": "2024-01-15 08:10:00.000",
    "retry_count": 1,
    "result": {"response": "Hi"},
}
FAILURE = {**RESULT, "status": "Failed", "success": False, "failed_reason": "HTTP 500"}
WORKER = {
    "event": "worker.status",
    "endpoint_id": ID,
    "endpoint_name": "llama",
    "worker_id": "9",
    "status": "RUNNING",
    "previous_status": "INITIALIZING",
    "timestamp": "2024-01-15 08:10:00.000",
}


def body_of(content: Any) -> bytes:
    return json.dumps(content).encode()


def signed(body: bytes, *, key: str = HOOK_KEY, at_s: float = NOW_S, message_id: str = "msg_1") -> dict[str, str]:
    timestamp = str(int(at_s))
    text = hmac.digest(key.encode(), f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    signature = f"v1,{base64.b64encode(text).decode()}"
    return {"Webhook-Id": message_id, "Webhook-Timestamp": timestamp, "Webhook-Signature": signature}


def receiver(**more: Any) -> Receiver:
    return Receiver(**{"key": HOOK_KEY, "now_s": lambda: NOW_S, **more})


# ---- who may send


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": HOOK_KEY},
        {"x-api-key": HOOK_KEY},
        signed(b"{}"),
        {**signed(b"{}"), "X-API-Key": HOOK_KEY},
        {**signed(b"{}"), "Webhook-Signature": "v1a,AAAA v1,AAAA " + signed(b"{}")["Webhook-Signature"]},
        signed(b"{}", at_s=NOW_S - 300),
        signed(b"{}", at_s=NOW_S + 300),
    ],
)
def test_who_knows_the_key_is_let_in(headers: dict[str, str]) -> None:
    check_sender(headers, b"{}", HOOK_KEY, now_s=NOW_S)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, "X-API-Key is missing"),
        ({"X-API-Key": ""}, "not the key"),
        ({"X-API-Key": HOOK_KEY[:-1]}, "not the key"),
        ({"X-API-Key": HOOK_KEY + "x"}, "not the key"),
        ({"X-API-Key": "\u2603"}, "not the key"),
        (signed(b"{}", key="another"), "signature of the webhook is wrong"),
        (signed(b"{ }"), "signature of the webhook is wrong"),
        ({**signed(b"{}"), "Webhook-Id": "msg_2"}, "signature of the webhook is wrong"),
        ({**signed(b"{}"), "Webhook-Signature": "v2," + signed(b"{}")["Webhook-Signature"][3:]}, "is wrong"),
        ({**signed(b"{}"), "Webhook-Signature": ""}, "is wrong"),
        ({**signed(b"{}"), "Webhook-Signature": "v1,\u2603"}, "is wrong"),
        ({**signed(b"{}"), "Webhook-Timestamp": ""}, "missing or unreadable"),
        ({**signed(b"{}"), "Webhook-Timestamp": "-1"}, "missing or unreadable"),
        ({**signed(b"{}"), "Webhook-Timestamp": "\u0661"}, "missing or unreadable"),
        ({**signed(b"{}"), "X-API-Key": "wrong"}, "not the key"),
        ({**signed(b"{}", key="another"), "X-API-Key": HOOK_KEY}, "signature of the webhook is wrong"),
        (signed(b"{}", at_s=NOW_S - 301), "not from the last 300 s"),
        (signed(b"{}", at_s=NOW_S + 301), "not from the last 300 s"),
    ],
)
def test_who_does_not_know_the_key_or_repeats_old_news_is_not(headers: dict[str, str], said: str) -> None:
    with pytest.raises(WebhookRefused, match=said) as caught:
        check_sender(headers, b"{}", HOOK_KEY, now_s=NOW_S)
    assert caught.value.http_status == 401
    assert HOOK_KEY not in str(caught.value)


def test_a_signature_can_be_insisted_on() -> None:
    with pytest.raises(WebhookRefused, match="webhook-signature is missing"):
        check_sender({"X-API-Key": HOOK_KEY}, b"{}", HOOK_KEY, now_s=NOW_S, require_signature=True)
    check_sender(signed(b"{}"), b"{}", HOOK_KEY, now_s=NOW_S, require_signature=True)


@for_all(st.text(max_size=200), st.from_regex(r"[!-~]{4,50}", fullmatch=True))
def test_the_signatures_are_those_of_the_standard_webhooks_library(text: str, key: str) -> None:
    now = datetime.now(UTC)
    theirs = standardwebhooks.Webhook("whsec_" + base64.b64encode(key.encode()).decode())
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": theirs.sign("msg_1", now, text),
    }
    check_sender(headers, text.encode(), key, now_s=now.timestamp(), require_signature=True)


# ---- what is said


def test_a_result_is_read() -> None:
    found = read_webhook(body_of(RESULT))
    assert isinstance(found, TaskResult)
    assert (found.task_id, found.endpoint_id, found.succeeded, found.output) == ("mine", ID, True, {"response": "Hi"})
    assert (found.error, found.send) == (None, 1)


def test_a_failure_is_read() -> None:
    found = read_webhook(body_of(FAILURE))
    assert isinstance(found, TaskResult)
    assert (found.succeeded, found.error) == (False, "HTTP 500")


def test_both_published_forms_of_a_result_are_read() -> None:
    found = read_webhook(body_of({**RESULT, "endpoint_id": int(ID), "status": "SUCCESS", "more": 1}))
    assert isinstance(found, TaskResult)
    assert (found.endpoint_id, found.notification["more"]) == (ID, 1)


def test_a_workers_status_is_read() -> None:
    found = read_webhook(body_of(WORKER))
    assert isinstance(found, WorkerStatusNotification)
    assert (found.worker_id, found.status, found.previous_status) == ("9", "RUNNING", "INITIALIZING")


@for_all(st.one_of(st.binary(max_size=50), json_values().map(body_of)))
def test_no_body_breaks_a_receiver(body: bytes) -> None:
    reply = receiver().handle("POST", {"X-API-Key": HOOK_KEY}, body)
    assert reply.status == 400


@for_all(st.sampled_from(sorted(RESULT)), json_values())
def test_no_field_breaks_a_receiver(field: str, value: Any) -> None:
    reply = receiver().handle("POST", {"X-API-Key": HOOK_KEY}, body_of({**RESULT, field: value}))
    assert reply.status in (200, 400)


# ---- once


def test_the_same_news_is_dealt_with_once_however_often_it_is_sent() -> None:
    seen: list[TaskResult] = []
    one = receiver(on_task=seen.append)
    for send in (1, 2, 3):
        body = body_of({**RESULT, "retry_count": send})
        assert one.handle("POST", signed(body), body).status == 200
    assert [result.send for result in seen] == [1]


def test_news_of_other_tasks_and_endpoints_is_other_news() -> None:
    seen: list[TaskResult] = []
    one = receiver(on_task=seen.append)
    for content in (RESULT, {**RESULT, "user_task_id": "other"}, {**RESULT, "endpoint_id": "8"}):
        one.handle("POST", {"X-API-Key": HOOK_KEY}, body_of(content))
    assert len(seen) == 3


def test_what_was_not_dealt_with_is_dealt_with_when_it_comes_again() -> None:
    seen: list[TaskResult] = []

    def deal(result: TaskResult) -> None:
        seen.append(result)
        if len(seen) == 1:
            raise RuntimeError("the database is away")

    one = receiver(on_task=deal)
    statuses = [one.handle("POST", {"X-API-Key": HOOK_KEY}, body_of(RESULT)).status for _ in range(3)]
    assert (statuses, len(seen)) == ([500, 200, 200], 2)


def test_the_same_news_at_the_same_time_is_told_to_come_again() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def deal(result: TaskResult) -> None:
        begun.set()
        go_on.wait(10)

    one = receiver(on_task=deal)
    first = threading.Thread(target=one.handle, args=("POST", {"X-API-Key": HOOK_KEY}, body_of(RESULT)))
    first.start()
    assert begun.wait(10)
    assert one.handle("POST", {"X-API-Key": HOOK_KEY}, body_of(RESULT)).status == 409
    go_on.set()
    first.join()
    assert one.handle("POST", {"X-API-Key": HOOK_KEY}, body_of(RESULT)).status == 200


def test_workers_news_has_a_function_of_its_own() -> None:
    tasks: list[Any] = []
    workers: list[Any] = []
    one = receiver(on_task=tasks.append, on_worker=workers.append)
    for content in (WORKER, WORKER, {**WORKER, "status": "TERMINATED"}):
        one.handle("POST", {"X-API-Key": HOOK_KEY}, body_of(content))
    assert (len(tasks), [event.status for event in workers]) == (0, ["RUNNING", "TERMINATED"])


def test_a_receiver_without_a_key_takes_everything_and_one_by_default_has_its_own() -> None:
    assert Receiver(key=None).handle("POST", {}, body_of(RESULT)).status == 200
    one, other = Receiver(), Receiver()
    assert one.key != other.key
    assert len(one.key or "") >= 32
    assert (one.key or "") not in repr(one)
    assert one.handle("POST", {}, body_of(RESULT)).status == 401


# ---- inside applications, and as a server


def wsgi_reply(one: Receiver, method: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": "/hook",
        "QUERY_STRING": "",
        "SERVER_NAME": "x",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()},
    }
    statuses: list[str] = []

    def start(status: str, headers: Any, exc_info: Any = None) -> Any:
        statuses.append(status)
        return lambda data: None

    answer: Any = validator(one.wsgi)(environ, start)
    content = b"".join(answer)
    answer.close()
    return int(statuses[0].split()[0]), content


def asgi_reply(one: Receiver, method: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(one.asgi)  # pyright: ignore[reportArgumentType] -- its types are narrower
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.request(method, "http://x/hook", headers=headers, content=body)

    answer = asyncio.run(call())
    return answer.status_code, answer.content


def server_reply(one: Receiver, method: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    with one:
        answer = httpx.request(method, one.url, headers=headers, content=body)
    return answer.status_code, answer.content


PLACES = [wsgi_reply, asgi_reply, server_reply]


@pytest.mark.parametrize("reply", PLACES)
def test_a_receiver_works_wherever_it_is_mounted(reply: Any) -> None:
    seen: list[TaskResult] = []
    one = receiver(on_task=seen.append)
    body = body_of(RESULT)
    assert reply(one, "POST", {"X-API-Key": HOOK_KEY}, body) == (200, b"")
    assert reply(one, "POST", signed(body), body)[0] == 200
    assert reply(one, "POST", {}, body)[0] == 401
    assert reply(one, "POST", {"X-API-Key": HOOK_KEY}, b"[")[0] == 400
    assert reply(one, "GET", {"X-API-Key": HOOK_KEY}, b"")[0] == 405
    assert [result.task_id for result in seen] == ["mine"]


@pytest.mark.parametrize("reply", PLACES)
def test_a_body_that_is_too_large_is_refused(reply: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yottabench.client.webhooks.BODY_MAX_BYTES", 1000)
    one = receiver()
    assert reply(one, "POST", {"X-API-Key": HOOK_KEY}, b'"' + b"x" * 999 + b'"')[0] == 400
    assert reply(one, "POST", {"X-API-Key": HOOK_KEY}, body_of(RESULT))[0] == 200


def test_an_asgi_server_may_ask_for_a_lifespan() -> None:
    async def live() -> list[str]:
        messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
        sent: list[str] = []

        async def receive() -> dict[str, Any]:
            return next(messages)

        async def send(message: dict[str, Any]) -> None:
            sent.append(message["type"])

        await receiver().asgi({"type": "lifespan"}, receive, send)
        return sent

    assert asyncio.run(live()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_the_server_reads_chunked_bodies_and_keeps_connections() -> None:
    seen: list[TaskResult] = []
    with receiver(on_task=seen.append) as one:
        connection = http.client.HTTPConnection(urlsplit(one.url).netloc, timeout=10)
        for number in range(3):
            body = body_of({**RESULT, "user_task_id": f"t{number}"})
            pieces = iter([body[:10], body[10:]])
            connection.request("POST", "/", body=pieces, headers={"X-API-Key": HOOK_KEY}, encode_chunked=True)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, b"")
        connection.close()
    assert [result.task_id for result in seen] == ["t0", "t1", "t2"]


@pytest.mark.parametrize(
    "request_text",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n",
    ],
)
def test_the_server_refuses_bodies_whose_length_it_cannot_know(request_text: bytes) -> None:
    with receiver() as one:
        parts = urlsplit(one.url)
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10) as stream:
            stream.sendall(request_text)
            assert stream.recv(1000).startswith(b"HTTP/1.1 400")


def test_a_receiver_has_an_address_only_while_it_serves_unless_one_was_given() -> None:
    one = receiver()
    with pytest.raises(InvalidArgument, match="no address yet"):
        _ = one.url
    with one:
        assert one.url.startswith("http://127.0.0.1:")
        with pytest.raises(InvalidArgument, match="running already"):
            one.start()
    with pytest.raises(InvalidArgument, match="no address yet"):
        _ = one.url
    with receiver(url="https://hooks.test/yotta") as other:
        assert other.url == "https://hooks.test/yotta"


def test_a_port_that_is_taken_is_told() -> None:
    with receiver() as one, pytest.raises(InvalidArgument, match="cannot listen on 127"):
        receiver().start(port=urlsplit(one.url).port or 0)


# ---- waking


def told(one: Receiver, queue: MemoryQueue, task_id: str) -> None:
    queue.end(task_id)
    body = body_of({**RESULT, "user_task_id": task_id})
    assert one.handle("POST", {"X-API-Key": HOOK_KEY}, body).status == 200


@pytest.mark.parametrize("many", [False, True])
def test_news_ends_a_wait_before_the_next_poll_would(many: bool, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yottabench.client.waiting.FIRST_POLL_S", 60.0)
    service, queue, one = Service(kind), MemoryQueue(), receiver()
    queue.add("mine")
    asked = threading.Event()

    def answer(request: httpx.Request) -> httpx.Response:
        found = queue.handle(request)
        asked.set()
        return found

    def tell() -> None:
        assert asked.wait(10)
        told(one, queue, "other")
        told(one, queue, "mine")

    queue.add("other")
    service.answer = answer
    teller = threading.Thread(target=tell)
    teller.start()
    started_s = time.monotonic()
    if many:
        (found,) = service.client().tasks.wait_many(ID, ["mine"], receiver=one)
    else:
        found = service.client().tasks.wait(ID, "mine", receiver=one)
    teller.join()
    assert found.status == "SUCCESS"
    assert time.monotonic() - started_s < 30
    assert queue.gets == 2
    assert one._listeners == {}


def test_submit_and_wait_sends_the_result_to_the_receiver(kind: Kind) -> None:
    service, queue, one = Service(kind), MemoryQueue(), receiver(url="https://hooks.test/yotta")
    service.answer = queue.handle

    def answer(request: httpx.Request) -> httpx.Response:
        found = queue.handle(request)
        if request.method == "POST":
            told(one, queue, json.loads(request.content)["taskId"])
        return found

    service.answer = answer
    found = service.client().tasks.submit_and_wait(ID, 5, worker_port=8000, process_uri="/run", receiver=one)
    sent = json.loads(service.requests[0].content)
    assert (sent["webhook"], sent["webhookAuthKey"]) == ("https://hooks.test/yotta", HOOK_KEY)
    assert found.output == 5


def test_a_batch_is_fed_by_the_receiver_without_reading_the_list(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yottabench.client.batch.FIRST_POLL_S", 60.0)
    service, queue, one = Service(kind), MemoryQueue(), receiver(url="https://hooks.test/yotta")

    def answer(request: httpx.Request) -> httpx.Response:
        found = queue.handle(request)
        if request.method == "POST":
            told(one, queue, json.loads(request.content)["taskId"])
        return found

    service.answer = answer
    results = service.client().tasks.submit_many(
        ID, range(1, 21), worker_port=8000, process_uri="/run", receiver=one, poll_s=60
    )
    assert sorted(result.task.output for result in results) == list(range(1, 21))
    assert queue.lists <= 2
