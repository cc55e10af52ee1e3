"""The async client: requests per second with 32 in flight, beside the generated code over plain httpx."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx
from yotta_serverless_api import AuthenticatedClient
from yotta_serverless_api.api.tasks import submit_task
from yotta_serverless_api.models import SubmitTaskRequest

from bench.frame import Figure, Ratio, Report
from bench.processes import server
from yottabench.client import AsyncClient
from yottabench.client.http_async import HttpxAsyncHttp

IN_FLIGHT = 32
SECONDS = 3.0
REPETITIONS = 3
ENDPOINT = "378888638324150969"
INPUT = {"messages": [{"role": "user", "content": "hello " * 16}], "max_tokens": 64}

Send = Callable[[], Awaitable[object]]


async def _per_s(send: Send) -> float:
    """Requests per second, `IN_FLIGHT` of them always under way."""
    for _ in range(IN_FLIGHT):
        await send()
    done, until_s = 0, time.perf_counter() + SECONDS

    async def keep_sending() -> None:
        nonlocal done
        while time.perf_counter() < until_s:
            await send()
            done += 1

    started_s = time.perf_counter()
    await asyncio.gather(*[keep_sending() for _ in range(IN_FLIGHT)])
    return done / (time.perf_counter() - started_s)


async def _generated(url: str) -> float:
    """As the generator's documentation has it: one client, its own httpx.AsyncClient."""
    async with AuthenticatedClient(base_url=url, token="bench") as client:
        body = SubmitTaskRequest(input_=INPUT, worker_port=8000, process_uri="/v1/chat/completions")
        return await _per_s(lambda: submit_task.asyncio(ENDPOINT, client=client, body=body))


async def _ours(client: AsyncClient) -> float:
    def send() -> Awaitable[object]:
        return client.tasks.submit(ENDPOINT, INPUT, worker_port=8000, process_uri="/v1/chat/completions")

    async with client:
        return await _per_s(send)


async def _httpx_aiohttp(url: str) -> float:
    from httpx_aiohttp import AiohttpTransport

    async with httpx.AsyncClient(transport=AiohttpTransport()) as http:
        return await _ours(AsyncClient("bench", url, http=http))


async def _over_httpx(url: str) -> float:
    http = HttpxAsyncHttp(url)
    try:
        return await _ours(AsyncClient("bench", url, http=http))
    finally:
        await http.close()


def async_client() -> Report:
    """submitTask against a constant answer: what the client costs, not what the server does."""
    ways: dict[str, Callable[[str], Awaitable[float]]] = {
        "generated, httpx": _generated,
        "AsyncClient, httpx": _over_httpx,
        "AsyncClient, httpx-aiohttp": _httpx_aiohttp,
        "AsyncClient (aiohttp)": lambda url: _ours(AsyncClient("bench", url)),
    }
    samples: dict[str, list[float]] = {name: [] for name in ways}
    with server("bench.peers", "hello") as target:
        for _ in range(REPETITIONS):
            for name, measure in ways.items():
                samples[name].append(asyncio.run(_awaited(measure(target.url))))
    report = Report(
        "The async client",
        f"submitTask, {IN_FLIGHT} in flight, {SECONDS:g} s, {REPETITIONS} rounds in turn; a server that answers a "
        "constant has a core of its own.",
    )
    figures = {name: Figure(name, "requests/s", tuple(measured)) for name, measured in samples.items()}
    report.figures.extend(figures.values())
    base = figures["generated, httpx"].median
    report.ratios.append(Ratio("AsyncClient / generated over httpx", figures["AsyncClient (aiohttp)"].median / base, 5))
    return report


async def _awaited(awaitable: Awaitable[float]) -> float:
    return await awaitable
