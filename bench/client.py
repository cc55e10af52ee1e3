"""The async client with 32 requests in flight, beside the generated code over plain httpx: per second and per CPU."""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping

import attrs
import httpx
from yotta_serverless_api import AuthenticatedClient
from yotta_serverless_api.api.tasks import submit_task
from yotta_serverless_api.models import SubmitTaskRequest

from bench.frame import Figure, Ratio, Report
from bench.processes import LOAD_CORE, server
from yottabench.client import AsyncClient
from yottabench.client.http_async import HttpxAsyncHttp

IN_FLIGHT = 32
SECONDS = 2.0
ROUNDS = 5
ENDPOINT = "378888638324150969"
INPUT = {"messages": [{"role": "user", "content": "hello " * 16}], "max_tokens": 64}

Send = Callable[[], Awaitable[object]]


@attrs.frozen
class Sample:
    """One way, once."""

    per_s: float
    cpu_us: float
    """CPU time of this process for one request: what other work on the machine disturbs least."""


async def _sample(send: Send) -> Sample:
    """`IN_FLIGHT` requests always under way."""
    await asyncio.gather(*[send() for _ in range(IN_FLIGHT)])
    done, until_s = 0, time.perf_counter() + SECONDS

    async def keep_sending() -> None:
        nonlocal done
        while time.perf_counter() < until_s:
            await send()
            done += 1

    started_s, cpu_s = time.perf_counter(), time.process_time()
    await asyncio.gather(*[keep_sending() for _ in range(IN_FLIGHT)])
    return Sample(done / (time.perf_counter() - started_s), (time.process_time() - cpu_s) / done * 1e6)


async def _generated(url: str) -> Sample:
    """As the generator's documentation has it: one client, its own httpx.AsyncClient."""
    async with AuthenticatedClient(base_url=url, token="bench") as client:
        body = SubmitTaskRequest(input_=INPUT, worker_port=8000, process_uri="/v1/chat/completions")
        return await _sample(lambda: submit_task.asyncio(ENDPOINT, client=client, body=body))


async def _ours(client: AsyncClient) -> Sample:
    def send() -> Awaitable[object]:
        return client.tasks.submit(ENDPOINT, INPUT, worker_port=8000, process_uri="/v1/chat/completions")

    async with client:
        return await _sample(send)


async def _with_aio(url: str) -> Sample:
    return await _ours(AsyncClient("bench", url))


async def _httpx_aiohttp(url: str) -> Sample:
    from httpx_aiohttp import AiohttpTransport

    async with httpx.AsyncClient(transport=AiohttpTransport()) as http:
        return await _ours(AsyncClient("bench", url, http=http))


async def _generated_without_search(url: str) -> Sample:
    """httpcore looks for the package sniffio for each lock that it makes; where that is installed, it finds it."""
    found = sys.modules.get("sniffio")
    sys.modules["sniffio"] = None  # type: ignore[assignment] -- how Python says at once that a module is not there
    try:
        return await _generated(url)
    finally:
        del sys.modules["sniffio"]
        if found is not None:
            sys.modules["sniffio"] = found


async def _over_httpx(url: str) -> Sample:
    http = HttpxAsyncHttp(url)
    try:
        return await _ours(AsyncClient("bench", url, http=http))
    finally:
        await http.close()


async def _bare_aiohttp(url: str) -> Sample:
    """The floor: the same bytes without models, checks, ids or error handling."""
    import aiohttp

    address = f"{url}/v2/serverless/{ENDPOINT}/tasks"
    body = {"taskId": "a" * 32, "input": INPUT, "workerPort": 8000, "processUri": "/v1/chat/completions"}
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def send() -> object:
            async with session.post(address, json=body, headers={"X-Api-Key": "bench"}) as answer:
                return await answer.json()

        return await _sample(send)


GENERATED, OURS = "generated code, httpx", "AsyncClient with the extra aio"
UNSEARCHED = "generated code, httpx that needs not search for sniffio"
WAYS: Mapping[str, Callable[[str], Awaitable[Sample]]] = {
    GENERATED: _generated,
    UNSEARCHED: _generated_without_search,
    "AsyncClient over httpx": _over_httpx,
    "AsyncClient over httpx-aiohttp": _httpx_aiohttp,
    OURS: _with_aio,
    "bare aiohttp (the floor)": _bare_aiohttp,
}


def async_client() -> Report:
    """submitTask against a constant answer: what the client costs, not what the server does."""
    samples: dict[str, list[Sample]] = {name: [] for name in WAYS}
    cores = os.sched_getaffinity(0)
    with server("bench.peers", "hello") as target:
        os.sched_setaffinity(0, {int(LOAD_CORE)})
        try:
            for _ in range(ROUNDS):
                for name, measure in WAYS.items():
                    samples[name].append(asyncio.run(_awaited(measure(target.url))))
        finally:
            os.sched_setaffinity(0, cores)
    report = Report(
        "The async client",
        f"submitTask, {IN_FLIGHT} in flight, {SECONDS:g} s at a time, {ROUNDS} rounds in turn; a server that answers a "
        "constant has a core of its own. Ratios are medians of the ratios within each round.",
    )
    for name, measured in samples.items():
        report.figures.append(Figure(name, "requests/s", tuple(sample.per_s for sample in measured)))
    for name, measured in samples.items():
        report.figures.append(Figure(name, "us of CPU a request", tuple(sample.cpu_us for sample in measured)))
    for peer in (GENERATED, UNSEARCHED):
        pairs = list(zip(samples[OURS], samples[peer], strict=True))
        for what, ratios in (
            ("requests/s", [ours.per_s / theirs.per_s for ours, theirs in pairs]),
            ("requests per CPU-second", [theirs.cpu_us / ours.cpu_us for ours, theirs in pairs]),
        ):
            report.ratios.append(Ratio(f"{OURS} / {peer}, {what}", statistics.median(ratios), 5))
    return report


async def _awaited(awaitable: Awaitable[Sample]) -> Sample:
    return await awaitable


_IMPORT = "import time; {}; before = time.process_time(); {}; print(time.process_time() - before)"
_BASE = "import attrs, httpx"
IMPORTS = {
    "Client": "from yottabench.client import Client",
    "AsyncClient": "from yottabench.client import AsyncClient",
    "Client, and one made": "from yottabench.client import Client; Client('k', 'http://127.0.0.1:1')",
}
IMPORTED = ("Client", "AsyncClient")


def import_time() -> Report:
    """What a program pays for the client beyond attrs and httpx, which it needs anyhow."""
    report = Report("Import", "CPU time beyond `import attrs, httpx`, each in a new process, in turn.")
    ways = {"attrs and httpx": ("pass", _BASE), **{name: (_BASE, statement) for name, statement in IMPORTS.items()}}
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(2 * ROUNDS):
        for name, (before, statement) in ways.items():
            done = subprocess.run(
                [sys.executable, "-c", _IMPORT.format(before, statement)], capture_output=True, text=True, check=True
            )
            samples[name].append(float(done.stdout) * 1000)
    for name, measured in samples.items():
        report.figures.append(Figure(name, "ms", tuple(measured)))
    # The least is what it costs; the rest is what else the machine did.
    report.ratios += [Ratio(f"{name}, ms at least", min(samples[name]), 100, at_least=False) for name in IMPORTED]
    return report
