"""The emulator: durable submissions, start, memory, and tasks from end to end."""

import json
import time
from collections.abc import Callable

import httpx

from bench.frame import Figure, Ratio, Report
from bench.processes import Server, Wrk, server, wrk

CONNECTIONS = 64
SECONDS = 5
REPETITIONS = 3
DRAINTASKS = 5_000
TASK = json.dumps(
    {
        "input": {"messages": [{"role": "user", "content": "hello " * 16}], "max_tokens": 64},
        "workerPort": 8000,
        "processUri": "/v1/chat/completions",
    }
)
SERVE = ("yottabench", "serve", "--port", "0", "--json", "--ephemeral")


def make_endpoint(target: Server, workers: int, image: str = "sim/echo") -> str:
    """The URL of a new QUEUE endpoint."""
    body = {
        "name": "bench",
        "image": image,
        "resources": [{"region": "local", "gpuType": "NVIDIA_RTX_4090_24G", "gpuCount": 1}],
        "workers": workers,
        "containerVolumeInGb": 20,
        "serviceMode": "QUEUE",
    }
    answer = httpx.post(f"{target.url}/v2/serverless", json=body, headers={"X-Api-Key": "bench"})
    return f"{target.url}/v2/serverless/{answer.json()['data']['id']}"


def _submissions(*command: str) -> tuple[Wrk, float]:
    with server(*command) as target:
        return _with_cpu(target, f"{make_endpoint(target, workers=0)}/tasks")


def _hello() -> tuple[Wrk, float]:
    with server("bench.peers", "hello") as target:
        return _with_cpu(target, target.url)


def _with_cpu(target: Server, url: str) -> tuple[Wrk, float]:
    before_s = target.cpu_s
    measured = wrk(url, CONNECTIONS, SECONDS, body=TASK)
    return measured, (target.cpu_s - before_s) / measured.requests * 1e6


def submissions() -> Report:
    """POST .../tasks, acknowledged after the commit, against a constant answer and against commit per request."""
    ways: dict[str, Callable[[], tuple[Wrk, float]]] = {
        "emulator": lambda: _submissions(*SERVE),
        "hello": _hello,
        "commit per request": lambda: _submissions("bench.peers", "commit-per-request"),
    }
    runs: dict[str, list[tuple[Wrk, float]]] = {name: [] for name in ways}
    for _ in range(REPETITIONS):
        for name, measure in ways.items():
            runs[name].append(measure())
    report = Report(
        "Durable submissions",
        f"{CONNECTIONS} connections, {SECONDS} s, {REPETITIONS} rounds in turn; server and wrk on a core each, so that"
        " a thread of the server writes the store. SQLite with synchronous=FULL; every answer after its commit.",
    )
    rate, p99_ms, cpu_us = (
        {name: Figure(f"{name}{what}", unit, tuple(map(pick, measured))) for name, measured in runs.items()}
        for what, unit, pick in (
            ("", "requests/s", lambda run: run[0].per_s),
            (", p99", "ms", lambda run: run[0].p99_ms),
            (", processor time", "us per request", lambda run: run[1]),
        )
    )
    for name in ways:
        report.figures += [rate[name], p99_ms[name], cpu_us[name]]
    ours, hello = rate["emulator"].median, rate["hello"].median
    report.ratios += [
        Ratio("emulator / hello on the same server", ours / hello, 0.5),
        Ratio("the same, by processor time", cpu_us["hello"].median / cpu_us["emulator"].median, 0.5),
        Ratio("emulator / commit per request", ours / rate["commit per request"].median, 8),
        Ratio("emulator, p99 in ms", p99_ms["emulator"].median, 10, at_least=False),
    ]
    return report


def start_and_memory() -> Report:
    """From the start of the process to the first answer, and the memory then."""
    ready_s: list[float] = []
    memory_mb: list[float] = []
    for _ in range(REPETITIONS):
        with server(*SERVE, core=None) as target:
            ready_s.append(target.ready_s)
            memory_mb.append(target.memory_mb)
    report = Report(
        "Start", f"{REPETITIONS} starts on an empty store, nothing pinned: with two cores, of both processes."
    )
    report.figures += [Figure("ready", "s", tuple(ready_s)), Figure("memory", "MB", tuple(memory_mb))]
    report.ratios.append(Ratio("ready in s", report.figures[0].median, 0.5, at_least=False))
    report.ratios.append(Ratio("memory in MB", report.figures[1].median, 80, at_least=False))
    return report


def drain() -> Report:
    """A queue that is full when its workers come: tasks per second, each by HTTP, each result durable."""
    per_s: list[float] = []
    for _ in range(REPETITIONS):
        with server(*SERVE) as target:
            endpoint = make_endpoint(target, workers=0)
            with httpx.Client(headers={"X-Api-Key": "bench"}) as client:
                _fill(endpoint)
                client.put(f"{endpoint}/workers", params={"count": 16})
                per_s.append(_drained_per_s(client, endpoint))
    report = Report("Draining a full queue", "16 sim/echo workers, one task at a time each; all on one core.")
    report.figures.append(Figure("tasks", "1/s", tuple(per_s)))
    return report


def _fill(endpoint: str) -> None:
    wrk(f"{endpoint}/tasks", CONNECTIONS, 2, body=TASK)


def _drained_per_s(client: httpx.Client, endpoint: str) -> float:
    def open_tasks() -> int:
        return int(client.get(f"{endpoint}/tasks/count").json()["data"]["processing"])

    full = before = open_tasks()
    while before == full:  # the workers are starting
        time.sleep(0.05)
        before = open_tasks()
    started = time.perf_counter()
    left = before
    while left > max(0, before - DRAINTASKS):
        time.sleep(0.05)
        left = open_tasks()
    return (before - left) / (time.perf_counter() - started)
