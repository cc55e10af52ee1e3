"""Servers to compare the emulator with; each prints one JSON line when it is ready, as the emulator does."""

import asyncio
import json
import os
import sys
from typing import Any

import uvicorn

from yottabench.cli import main as yottabench
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
    uvicorn.Server(config).run(sockets=[listener])


def commit_per_request() -> None:
    """The emulator with one change per commit, as a store without group commit would do it."""
    writer.BATCH_MAX_COMMANDS = 1
    sys.argv = ["yottabench", "serve", "--port", "0", "--json", "--ephemeral"]
    yottabench()


if __name__ == "__main__":
    {"hello": hello, "commit-per-request": commit_per_request}[sys.argv[1]]()
