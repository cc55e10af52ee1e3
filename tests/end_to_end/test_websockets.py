"""WebSockets through the gateway: a client and a worker of a library that knows nothing of it, and odd peers."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import httpx
import pytest
from aiohttp import web

from tests.end_to_end.processes import Server

pytestmark = pytest.mark.anyio

KEY = {"X-Api-Key": "me"}
SILENCE_S = 2


class Worker:
    """A server with a WebSocket that echoes, one that speaks first and leaves, and one that refuses."""

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[dict[str, str]] = []
        self.left = asyncio.Event()

    async def echo(self, request: web.Request) -> web.WebSocketResponse:
        self.seen.append({name.lower(): value for name, value in request.headers.items()})
        answer = web.WebSocketResponse(protocols=("chat",), max_msg_size=0)
        await answer.prepare(request)
        async for message in answer:
            if message.type is aiohttp.WSMsgType.TEXT:
                await answer.send_str(message.data)
            else:
                await answer.send_bytes(message.data)
        self.left.set()
        return answer

    async def hello(self, request: web.Request) -> web.WebSocketResponse:
        answer = web.WebSocketResponse()
        await answer.prepare(request)
        await answer.send_str("hello")
        await answer.close(code=4001, message=b"bye")
        return answer

    async def there(self, request: web.Request) -> web.Response:
        return web.Response()

    async def plain(self, request: web.Request) -> web.Response:
        return web.json_response({"upgrade": request.headers.get("Upgrade")}, status=403)


@contextlib.asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[Worker]:
    app = web.Application()
    app.router.add_get("/echo", worker.echo)
    app.router.add_get("/hello", worker.hello)
    app.router.add_get("/plain", worker.plain)
    app.router.add_get("/", worker.there)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    worker.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield worker
    await runner.cleanup()


@pytest.fixture
async def worker(anyio_backend: str) -> AsyncIterator[Worker]:
    async with running(Worker()) as found:
        yield found


@pytest.fixture
async def gate(worker: Worker, tmp_path: Path) -> AsyncIterator[str]:
    """Where the gateway leads to the worker."""
    data = tmp_path / "data"
    data.mkdir()
    images = f'[[image]]\npattern = "me/ws"\nurls = ["{worker.url}"]\nworkers_per_url = 2\n'
    (data / "images.toml").write_text(images, encoding="utf-8")
    options = ("--data", str(data), "--gateway-timeout-s", str(SILENCE_S))
    server = await asyncio.to_thread(Server, tmp_path / "stderr.txt", *options)
    try:
        endpoint_id = await asyncio.to_thread(
            lambda: server.endpoint(
                image="me/ws", serviceMode="ALB", workers=2, expose={"port": 8000, "protocol": "http"}
            )
        )
        async with httpx.AsyncClient(headers=KEY, trust_env=False) as http:
            url = f"{server.ready['url']}/_gateway/{endpoint_id}"
            while (await http.get(f"{url}/")).status_code != 200:  # noqa: ASYNC110 -- its workers become ready
                await asyncio.sleep(0.02)
        yield url
    finally:
        await asyncio.to_thread(server.close)


async def test_a_websocket_passes_with_all_kinds_of_messages_and_its_close(gate: str, worker: Worker) -> None:
    async with aiohttp.ClientSession(headers=KEY) as session:
        async with session.ws_connect(f"{gate}/echo", protocols=("chat",), max_msg_size=0) as socket_:
            assert socket_.protocol == "chat"
            for text in ("", "é 😀", "x" * 200_000):
                await socket_.send_str(text)
                assert (await socket_.receive()).data == text
            await socket_.send_bytes(bytes(range(256)) * 8_000)
            assert (await socket_.receive()).data == bytes(range(256)) * 8_000
            await socket_.ping(b"are you there")
        await worker.left.wait()
        assert "x-api-key" not in worker.seen[0]
        assert worker.seen[0]["x-forwarded-proto"] == "http"
        async with session.ws_connect(f"{gate}/hello") as socket_:
            assert (await socket_.receive()).data == "hello"
            closed = await socket_.receive()
            assert (closed.type, closed.data, closed.extra) == (aiohttp.WSMsgType.CLOSE, 4001, "bye")


async def test_many_websockets_pass_at_a_time_beside_plain_requests(gate: str) -> None:
    async with aiohttp.ClientSession(headers=KEY) as session:

        async def talk(number: int) -> None:
            async with session.ws_connect(f"{gate}/echo") as socket_:
                for turn in range(20):
                    await socket_.send_str(f"{number}/{turn}")
                    assert (await socket_.receive()).data == f"{number}/{turn}"

        async def ask() -> None:
            async with session.get(f"{gate}/") as answer:
                assert answer.status == 200

        await asyncio.gather(*(talk(number) for number in range(10)), *(ask() for _ in range(10)))


async def test_a_worker_that_does_not_agree_answers_as_usual(gate: str) -> None:
    async with aiohttp.ClientSession(headers=KEY) as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{gate}/plain")
        assert refused.value.status == 403
        upgrade = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
        async with session.get(f"{gate}/plain", headers=upgrade) as answer:
            assert await answer.json() == {"upgrade": None}
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{gate}/echo", headers={"X-Api-Key": "you"})
        assert refused.value.status == 404


@pytest.mark.parametrize("rude", [True, False])
async def test_a_client_that_goes_without_a_word_frees_its_worker(gate: str, worker: Worker, rude: bool) -> None:
    async with aiohttp.ClientSession(headers=KEY) as session:
        socket_ = await session.ws_connect(f"{gate}/echo")
        await socket_.send_str("here")
        assert (await socket_.receive()).data == "here"
        transport = socket_._conn.transport  # type: ignore[union-attr]
        if rude:
            transport.abort()
        else:
            transport.close()
        await worker.left.wait()


async def test_a_silent_websocket_ends_after_the_time_of_silence(gate: str, worker: Worker) -> None:
    async with aiohttp.ClientSession(headers=KEY) as session, session.ws_connect(f"{gate}/echo") as socket_:
        closed = await socket_.receive()
        assert closed.type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR}
        await worker.left.wait()


async def test_what_a_client_sends_before_the_answer_is_passed_on_behind_it(gate: str) -> None:
    host, port = gate.removeprefix("http://").split("/")[0].split(":")
    path = "/" + gate.removeprefix("http://").partition("/")[2] + "/echo"
    head = (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: me\r\nConnection: keep-alive, Upgrade\r\n"
        "Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()
    frame = bytes([0x81, 0x82, 0, 0, 0, 0]) + b"hi"  # a text, masked with zeros
    reader, writer = await asyncio.open_connection(host, int(port))
    for piece in (head + frame[:3], frame[3:]):
        writer.write(piece)
        await writer.drain()
    answered = await reader.readuntil(b"\r\n\r\n")
    assert answered.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answered  # RFC 6455, 1.3
    assert await reader.readexactly(4) == bytes([0x81, 2]) + b"hi"
    writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
    assert await reader.read() == b""
    writer.close()
