"""A reverse proxy in a thread that may change what passes, to put bugs between a client and a right server."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Protocol
from urllib.parse import urlsplit

import attrs
import uvicorn

from yottabench.emulator.http1 import Http1Pool

BODY_MAX_BYTES = 20_000_000
TIMEOUT_S = 30.0
START_WITHIN_S = 10.0
# Each connection has its own.
_OF_CONNECTION = {b"host", b"connection", b"content-length", b"transfer-encoding", b"keep-alive"}


@attrs.define
class Request:
    """A request on its way to the server; may be changed. Header names are in lower case."""

    method: str
    path: str
    query: str
    headers: dict[bytes, bytes]
    body: bytes


@attrs.define
class Reply:
    """An answer on its way to the client; may be changed."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Change(Protocol):
    """What is done to the traffic."""

    def on_request(self, request: Request) -> None:
        """Change a request before the server sees it."""
        ...

    def on_reply(self, request: Request, reply: Reply) -> None:
        """Change the answer before the client sees it; `request` is as the server got it."""
        ...


class _Proxy:
    def __init__(self, target: str, change: Change) -> None:
        parts = urlsplit(target)
        self._peer = (str(parts.hostname), int(parts.port or 80))
        self._change = change
        self._pool: Http1Pool | None = None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {name: value for name, value in scope["headers"] if name not in _OF_CONNECTION}
        request = Request(scope["method"], scope["raw_path"].decode(), scope["query_string"].decode(), headers, body)
        self._change.on_request(request)
        reply = await self._forward(request)
        self._change.on_reply(request, reply)
        reply.headers[b"content-length"] = b"%d" % len(reply.body)
        await send({"type": "http.response.start", "status": reply.status, "headers": list(reply.headers.items())})
        await send({"type": "http.response.body", "body": reply.body})

    async def close(self) -> None:
        """Drop the connections to the server; on the loop that they are used on."""
        if self._pool is not None:
            self._pool.close()
            await asyncio.sleep(0)  # their transports close on the loop's next turn

    async def _forward(self, request: Request) -> Reply:
        if self._pool is None:  # made here: it belongs to the loop that it is used on
            self._pool = Http1Pool(*self._peer)
        query = f"?{request.query}" if request.query else ""
        answer = await self._pool.request(
            request.method.encode(),
            (request.path + query).encode("latin-1"),
            b"".join(name + b": " + value + b"\r\n" for name, value in request.headers.items()),
            request.body,
            timeout_s=TIMEOUT_S,
            max_body_bytes=BODY_MAX_BYTES,
        )
        headers = {name.lower(): value for name, value in answer.headers if name.lower() not in _OF_CONNECTION}
        return Reply(answer.status, headers, answer.body)


@contextlib.contextmanager
def proxy(target: str, change: Change) -> Iterator[str]:
    """The URL of a proxy before `target`."""
    ready = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            ready.set()

    application = _Proxy(target, change)
    config = uvicorn.Config(
        application,
        port=0,
        lifespan="off",
        log_config=None,
        access_log=False,
        loop="asyncio",
        timeout_graceful_shutdown=1,
    )
    server = Server(config)

    async def serve() -> None:
        await server.serve()
        await application.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="proxy", daemon=True)
    thread.start()
    try:
        assert ready.wait(START_WITHIN_S)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(START_WITHIN_S)
