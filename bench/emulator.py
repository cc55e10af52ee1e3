"""The emulator: durable submissions, start, memory, and tasks from end to end."""

import json
import time

import httpx

from bench.frame import Figure, Ratio, Report
from bench.processes import Server, Wrk, server, wrk

CONNECTIONS = 64
SECONDS = 5
REPETITIONS = 3
DRAIN_TASKS = 5_000
_TASK = json.dumps(
    {
        "input": {"messages": [{"role": "user", "content": "hello " * 16}], "max_tokens": 64},
        "workerPort": 8000,
        "processUri": "/v1/chat/completions",
    }
)
_SERVE = ("yottabench", "serve", "--port", "0", "--json", "--ephemeral")


def _endpoint(target: Server, workers: int) -> str:
    body = {
        "name": "bench",
        "image": "sim/echo",
        "resources": [{"region": "local", "gpuType": "NVIDIA_RTX_4090_24G", "gpuCount": 1}],
        "workers": workers,
        "containerVolumeInGb": 20,
        "serviceMode": "QUEUE",
    }
    answer = httpx.post(f"{target.url}/v2/serverless", json=body, headers={"X-Api-Key": "bench"})
    return f"{target.url}/v2/serverless/{answer.json()['data']['id']}"


def _submissions(*command: str) -> Wrk:
    with server(*command) as target:
        return wrk(f"{_endpoint(target, workers=0)}/tasks", CONNECTIONS, SECONDS, body=_TASK)


def _hello() -> Wrk:
    with server("bench.peers", "hello") as target:
        return wrk(target.url, CONNECTIONS, SECONDS, body=_TASK)


def submissions() -> Report:
    """POST .../tasks, acknowledged after the commit, against a constant answer and against commit per request."""
    runs = {"emulator": list[Wrk](), "hello": list[Wrk](), "commit per request": list[Wrk]()}
    for _ in range(REPETITIONS):
        runs["hello"].append(_hello())
        runs["emulator"].append(_submissions(*_SERVE))
        runs["commit per request"].append(_submissions("bench.peers", "commit-per-request"))
    report = Report(
        "Durable submissions",
        f"{CONNECTIONS} connections, {SECONDS} s, {REPETITIONS} rounds in turn; server and wrk on a core each. SQLite"
        " with synchronous=FULL; every answer after its commit.",
    )
    rate: dict[str, Figure] = {}
    for name, measured in runs.items():
        rate[name] = Figure(name, "requests/s", tuple(each.per_s for each in measured))
        report.figures.append(rate[name])
        report.figures.append(Figure(f"{name}, p99", "ms", tuple(each.p99_ms for each in measured)))
    ours = rate["emulator"].median
    report.ratios.append(Ratio("emulator / hello on the same server", ours / rate["hello"].median, 0.5))
    report.ratios.append(Ratio("emulator / commit per request", ours / rate["commit per request"].median, 8))
    p99_ms = next(each for each in report.figures if each.name == "emulator, p99").median
    report.ratios.append(Ratio("emulator, p99 in ms", p99_ms, 10, at_least=False))
    return report


def start_and_memory() -> Report:
    """From the start of the process to the first answer, and the memory then."""
    ready_s: list[float] = []
    memory_mb: list[float] = []
    for _ in range(REPETITIONS):
        with server(*_SERVE) as target:
            ready_s.append(target.ready_s)
            memory_mb.append(target.memory_mb)
    report = Report("Start", f"{REPETITIONS} starts on an empty store, on one core.")
    report.figures += [Figure("ready", "s", tuple(ready_s)), Figure("memory", "MB", tuple(memory_mb))]
    report.ratios.append(Ratio("ready in s", report.figures[0].median, 0.5, at_least=False))
    report.ratios.append(Ratio("memory in MB", report.figures[1].median, 80, at_least=False))
    return report


def drain() -> Report:
    """A queue that is full when its workers come: tasks per second, each by HTTP, each result durable."""
    per_s: list[float] = []
    for _ in range(REPETITIONS):
        with server(*_SERVE) as target:
            endpoint = _endpoint(target, workers=0)
            with httpx.Client(headers={"X-Api-Key": "bench"}) as client:
                _fill(endpoint)
                client.put(f"{endpoint}/workers", params={"count": 16})
                per_s.append(_drained_per_s(client, endpoint))
    report = Report("Draining a full queue", "16 sim/echo workers, one task at a time each; all on one core.")
    report.figures.append(Figure("tasks", "1/s", tuple(per_s)))
    return report


def _fill(endpoint: str) -> None:
    wrk(f"{endpoint}/tasks", CONNECTIONS, 2, body=_TASK)


def _drained_per_s(client: httpx.Client, endpoint: str) -> float:
    def open_tasks() -> int:
        return int(client.get(f"{endpoint}/tasks/count").json()["data"]["processing"])

    full = before = open_tasks()
    while before == full:  # the workers are starting
        time.sleep(0.05)
        before = open_tasks()
    started = time.perf_counter()
    left = before
    while left > max(0, before - DRAIN_TASKS):
        time.sleep(0.05)
        left = open_tasks()
    return (before - left) / (time.perf_counter() - started)
