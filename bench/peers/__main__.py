"""Servers to compare the emulator with; each prints one JSON line when it is ready, as the emulator does."""

import asyncio
import json
import os
import sys
from typing import Any

import httptools
import uvicorn
import uvloop

from yottabench.cli import main as yottabench
from yottabench.emulator import garbage
from yottabench.emulator.guard import GuardedProtocol
from yottabench.emulator.server import bind
from yottabench.emulator.store import writer

_HELLO = b'{"message":"success","code":10000,"data":{"taskId":"hello"}}'


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_HELLO))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _HELLO})


def hello() -> None:
    """A bare ASGI application that answers a constant, on the same server as the emulator."""
    listener = bind("127.0.0.1", 0, with_keys=False)
    config = uvicorn.Config(_hello, http=GuardedProtocol, ws="none", lifespan="off", log_config=None, access_log=False)
    print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}", "pid": os.getpid()}), flush=True)  # noqa: T201 -- the line is its interface
    asyncio.set_event_loop_policy(None)
    garbage.collect_less()  # as the emulator does
    uvicorn.Server(config).run(sockets=[listener])


class _Worker(asyncio.Protocol):
    """Answers every POST at once, and any GET with how many there were."""

    answered = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        if self._parser.get_method() == b"POST":
            _Worker.answered += 1
            body = b'{"ok":true}'
        else:
            body = b"%d" % _Worker.answered
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self._transport.write(head % len(body) + body)


def worker() -> None:
    """The worker of every queue: does nothing, and counts."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(_Worker, "127.0.0.1", 0, backlog=1024)
        host, port = server.sockets[0].getsockname()
        print(json.dumps({"url": f"http://{host}:{port}", "pid": os.getpid()}), flush=True)  # noqa: T201 -- the line is its interface
        await server.serve_forever()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def commit_per_request() -> None:
    """The emulator with one change per commit, as a store without group commit would do it."""
    writer.BATCH_MAX_COMMANDS = writer.BATCH_FULL_COMMANDS = 1
    sys.argv = ["yottabench", "serve", "--port", "0", "--json", "--ephemeral"]
    yottabench()


if __name__ == "__main__":
    {"hello": hello, "commit-per-request": commit_per_request, "worker": worker}[sys.argv[1]]()
