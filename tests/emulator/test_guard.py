"""What strangers send: slow, huge and double-tongued requests, over real sockets."""

import asyncio
import contextlib
import gc
import json
import socket
import struct
import weakref
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest
import uvicorn

from yottabench.emulator import guard
from yottabench.emulator.limits import HEADER_MAX_BYTES, HEADER_MAX_COUNT
from yottabench.emulator.server import bind

HELLO = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


async def _application(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/at-leisure":
        scope["extensions"]["yottabench.body_deadline"]["lift"]()
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def _server(state: uvicorn.server.ServerState | None = None) -> AsyncGenerator[int]:
    state = state or uvicorn.server.ServerState()
    listener = bind("127.0.0.1", 0, with_keys=False)
    config = uvicorn.Config(_application, http=guard.GuardedProtocol, ws="none", lifespan="off", log_config=None)
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: guard.GuardedProtocol(config=config, server_state=state, app_state={}), sock=listener
    )
    sweeping = loop.create_task(guard.sweep(state.connections))
    try:
        yield listener.getsockname()[1]
    finally:
        sweeping.cancel()
        for connection in tuple(state.connections):
            connection.transport.abort()
        server.close()
        await server.wait_closed()


async def _say(port: int, data: bytes, *, then_close: bool = False) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        if then_close:
            writer.write_eof()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def _envelope(answer: bytes) -> dict[str, Any]:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


@pytest.mark.anyio
@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", id="two lengths"),
        pytest.param(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", id="two lengths, other order"),
        pytest.param(b"Content-Length: 5\r\nContent-Length: 6\r\n", id="two different content lengths"),
        pytest.param(b"Content-Length: +5\r\n", id="signed length"),
        pytest.param(b"Content-Length : 5\r\n", id="space before the colon"),
        pytest.param(b"A: b\r\n c\r\n", id="folded line"),
        pytest.param(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", id="two encodings"),
    ],
)
async def test_pairs_that_smuggle_a_second_request_are_refused(head: bytes) -> None:
    smuggled = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    async with _server() as port:
        request = b"POST / HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n" + smuggled
        answer = await _say(port, request, then_close=True)
        assert answer.count(b"content-length: ") <= 1
        assert not answer or _status(answer) == 400


@pytest.mark.anyio
async def test_what_is_no_http_is_answered_with_the_envelope() -> None:
    async with _server() as port:
        answer = await _say(port, b"\x16\x03\x01\x02\x00\x01\x00")
        assert _status(answer) == 400
        assert _envelope(answer)["code"] == 10001


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"".join(b"X-%d: y\r\n" % n for n in range(HEADER_MAX_COUNT - 2)) + b"Connection: close\r\n", 200),
        (b"".join(b"X-%d: y\r\n" % n for n in range(HEADER_MAX_COUNT)), 431),
        (b"X: " + b"y" * (HEADER_MAX_BYTES - 1000) + b"\r\nConnection: close\r\n", 200),
        (b"X: " + b"y" * HEADER_MAX_BYTES + b"\r\n", 431),
    ],
    ids=["most headers", "one header more", "most bytes", "more bytes"],
)
async def test_the_header_block_has_an_end(headers: bytes, status: int) -> None:
    async with _server() as port:
        answer = await _say(port, HELLO + headers + b"\r\n")
        assert _status(answer) == status
        if status != 200:
            assert _envelope(answer)["code"] == 10001


@pytest.mark.anyio
@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(HELLO, id="half a header block"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", id="half a body"),
        pytest.param(HELLO + b"\r\n" + HELLO, id="a whole request and half another"),
    ],
)
async def test_a_request_that_does_not_arrive_in_time_is_given_up(
    begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "HEADER_DEADLINE_S", 0)
    monkeypatch.setattr(guard, "BODY_DEADLINE_S", 0)
    monkeypatch.setattr(guard, "_SWEEP_S", 0.01)
    async with _server() as port:
        answer = await _say(port, begun)  # reads until the server closes
        last = answer[answer.rindex(b"HTTP/1.1") :] if answer else b""
        # While the application still waits for the body, nobody may answer in its place: the connection just ends.
        assert not last or _status(last) in {408, 200}


@pytest.mark.anyio
async def test_a_connection_that_waits_for_its_next_request_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_SWEEP_S", 0.01)
    async with _server() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(HELLO + b"\r\n")
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
            monkeypatch.setattr(guard, "HEADER_DEADLINE_S", 5)
            await asyncio.sleep(0.05)  # several sweeps
        writer.close()
        await writer.wait_closed()


@pytest.mark.anyio
async def test_an_application_that_sees_to_a_body_itself_may_lift_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_DEADLINE_S", 0.05)
    monkeypatch.setattr(guard, "_SWEEP_S", 0.01)
    async with _server() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /at-leisure HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\na")
        await asyncio.sleep(0.15)  # past the deadline, and several sweeps
        writer.write(b"b")
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        writer.close()
        await writer.wait_closed()


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.anyio
@pytest.mark.usefixtures("no_garbage_collection")
@pytest.mark.parametrize(
    "sent",
    [HELLO + b"\r\n", (HELLO + b"\r\n") * 3, HELLO, b"no http\r\n\r\n"],
    ids=["answered", "pipelined", "half sent", "no http"],
)
@pytest.mark.parametrize("reset", [False, True])
async def test_a_connection_that_ended_stays_in_memory_for_nothing(sent: bytes, reset: bool) -> None:
    state = uvicorn.server.ServerState()
    async with _server(state) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        async with asyncio.timeout(20):
            while not state.connections:  # noqa: ASYNC110 -- a set tells nobody
                await asyncio.sleep(0)
        gone = asyncio.Event()
        weakref.finalize(next(iter(state.connections)), gone.set)
        if sent != HELLO:
            await reader.readexactly(20)
        if reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()
        async with asyncio.timeout(20):
            await gone.wait()
