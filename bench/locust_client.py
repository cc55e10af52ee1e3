"""The load generator: what a request costs it inside Locust, and how late its pacer is, beside Locust's own ways."""

import json
import resource
import statistics
import subprocess
import sys

from bench.frame import Figure, Ratio, Report
from bench.processes import LOAD_CORE, CannotMeasure, server, wrk

SECONDS = 3
ROUNDS = 3
CLIENT_ROUNDS = 7
CLIENTS = {"light": "generated, light client", "fast": "FastHttpUser, no types", "stock": "generated, httpx per user"}
RATES = (500, 2000, 5000)
# The targets of the design; at 500/s there is none of its own, so the one of 2,000/s holds.
LATENESS_P99_MS = {500: 0.5, 2000: 0.5, 5000: 2.0}
BODY = json.dumps(
    {"taskId": "t", "input": {"messages": [{"role": "user", "content": "hello " * 16}]}, "workerPort": 8000}
)


def _probe(*arguments: str) -> dict[str, float]:
    command = ["taskset", "-c", LOAD_CORE, sys.executable, "-m", "bench.locust_probe", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        raise CannotMeasure(f"{' '.join(arguments)} failed: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _cpu_of_ended_children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def generator() -> Report:
    """submitTask by 32 Locust users against a constant answer, per second of the generator's own CPU."""
    per_cpu: dict[str, list[float]] = {kind: [] for kind in CLIENTS}
    limit: list[float] = []
    with server("bench.peers", "hello") as target:
        for _ in range(CLIENT_ROUNDS):
            for kind in CLIENTS:
                per_cpu[kind].append(_probe("client", kind, target.url, str(SECONDS))["per_cpu_s"])
            cpu_s = _cpu_of_ended_children_s()
            requests = wrk(target.url, 32, SECONDS, body=BODY).per_s * SECONDS
            limit.append(requests / (_cpu_of_ended_children_s() - cpu_s))
    report = Report(
        "The load generator's client",
        f"submitTask by 32 users inside Locust, {SECONDS} s, {CLIENT_ROUNDS} rounds in turn; a server that answers a "
        "constant has a core of its own. Per CPU-second of the generator's process. wrk, in C, with 32 connections and "
        "without Locust, is the limit. Ratios are medians of the ratios within each round.",
    )
    figures = {kind: Figure(name, "requests/CPU-s", tuple(per_cpu[kind])) for kind, name in CLIENTS.items()}
    report.figures += [*figures.values(), Figure("wrk", "requests/CPU-s", tuple(limit))]
    for kind, name, target in (("fast", "FastHttpUser", 2.5), ("stock", "generated as it comes", 12)):
        in_round = (ours / theirs for ours, theirs in zip(per_cpu["light"], per_cpu[kind], strict=True))
        report.ratios.append(Ratio(f"light / {name}", statistics.median(in_round), target))
    return report


def pacer() -> Report:
    """How late tasks are sent, from when they were due, at three rates in one process."""
    report = Report(
        "The load generator's pacer",
        f"Constant arrivals for {SECONDS} s, {ROUNDS} rounds in turn, nothing is sent: from when a task was due until "
        "the engine was about to send it (with its journal on disk), beside Locust's constant_throughput with 10 "
        "tasks/s for each user, whose tasks are held against the same even schedule.",
    )
    for rate in RATES:
        late: dict[str, list[dict[str, float]]] = {"paced": [], "throughput": []}
        for _ in range(ROUNDS):
            for way, found in late.items():
                found.append(_probe(way, str(rate), str(SECONDS)))
        for way, name in (("paced", "ours"), ("throughput", "constant_throughput")):
            p99 = tuple(each["p99_ms"] for each in late[way])
            report.figures.append(Figure(f"{name} at {rate:,}/s, p99", "ms", p99))
            share = tuple(each["per_s"] / rate for each in late[way])
            report.figures.append(Figure(f"{name} at {rate:,}/s, of the rate", "", share))
        p99_ms = report.figures[-4].median
        report.ratios.append(Ratio(f"lateness p99 in ms at {rate:,}/s", p99_ms, LATENESS_P99_MS[rate], at_least=False))
    return report
