"""What every queue does for a task: one HTTP request, on connections that stay open."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

BODY = {"messages": [{"role": "user", "content": "hello " * 16}], "max_tokens": 64}
REDIS = os.environ.get("BENCH_REDIS", "")
POSTGRES = os.environ.get("BENCH_POSTGRES", "")
TARGET = os.environ.get("BENCH_TARGET", "")
SUBMITTERS = 64
_HEADERS = {"Content-Type": "application/json"}
_clients: dict[int, Any] = {}  # by process: a pool must not be shared with the one that forked


def call(body: dict[str, Any]) -> dict[str, Any]:
    """POST it with urllib3, the quickest of the usual ones; what requests is made on."""
    import urllib3

    pool = _clients.setdefault(os.getpid(), urllib3.PoolManager(maxsize=64))
    answer = pool.request("POST", TARGET, body=json.dumps(body), headers=_HEADERS)
    assert answer.status == 200, answer.status
    return answer.json()


async def call_async(body: dict[str, Any]) -> dict[str, Any]:
    """POST it with aiohttp, the quickest of the usual ones."""
    import aiohttp

    if os.getpid() not in _clients:
        _clients[os.getpid()] = aiohttp.ClientSession()
    async with _clients[os.getpid()].post(TARGET, data=json.dumps(body), headers=_HEADERS) as answer:
        assert answer.status == 200, answer.status
        return await answer.json()


async def one_by_one(count: int, submit: Callable[[], Awaitable[Any]]) -> None:
    """Submit tasks as many clients at once would: each gives one, hears that it is taken, and gives the next."""

    async def some() -> None:
        for _ in range(count // SUBMITTERS):
            await submit()

    await asyncio.gather(*(some() for _ in range(SUBMITTERS)))
