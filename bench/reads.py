"""The emulator's reads: while submits take all they can get, and with more and more tasks in the store."""

import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import httpx

from bench.emulator import CONNECTIONS, SERVE, TASK, make_endpoint
from bench.frame import Figure, Ratio, Report
from bench.processes import Server, server, wrk
from yottabench.emulator.store.base import SubmitTask
from yottabench.emulator.store.sqlite import SqliteStore

ROUNDS = 3
SECONDS = 3
SIZES = (10_000, 100_000, 1_000_000)
LOOKS = 200
_FILL = 2_000
_KEY = {"X-Api-Key": "bench"}


def under_load() -> Report:
    """GET of one task, one after the other, with and without submits from 64 connections; and the same of hello."""
    samples: dict[str, list[float]] = {}
    with server(*SERVE) as target, server("bench.peers", "hello") as hello, httpx.Client(headers=_KEY) as client:
        tasks = f"{make_endpoint(target, workers=0)}/tasks"
        task = f"{tasks}/{client.post(tasks, content=TASK).json()['data']['taskId']}"
        for _ in range(ROUNDS):
            for name, read, submit in (("GET", task, tasks), ("GET of hello", hello.url, hello.url)):
                samples.setdefault(f"{name} alone, p99", []).append(wrk(read, 1, SECONDS).p99_ms)
                submits = threading.Thread(target=wrk, args=(submit, CONNECTIONS, SECONDS + 2), kwargs={"body": TASK})
                submits.start()
                time.sleep(1)
                samples.setdefault(f"{name} under POSTs, p99", []).append(wrk(read, 1, SECONDS).p99_ms)
                submits.join()
    report = Report(
        "Reads under submits",
        f"GET of one task over one connection for {SECONDS} s, {ROUNDS} rounds in turn: alone, and while"
        f" {CONNECTIONS} connections submit as fast as they are answered; and of hello, a constant answer on the same"
        " server, while as many POST to it. Both drivers share a core.",
    )
    report.figures += [Figure(name, "ms", tuple(figures)) for name, figures in samples.items()]
    alone, loaded, hello_alone, hello_loaded = (figure.median for figure in report.figures)
    report.ratios += [
        Ratio("p99 under submits / alone", loaded / alone, 5, at_least=False),
        Ratio("the same of hello", hello_loaded / hello_alone, 5, at_least=False),
    ]
    return report


def growth() -> Report:
    """What a client sees of list, get and count as the queue grows."""
    report = Report(
        "Reads of a growing store",
        f"Queued tasks in one endpoint; the median of {LOOKS} requests, one after the other and to each size in turn,"
        f" {ROUNDS} rounds. Pages have ten tasks.",
    )
    samples: dict[tuple[str, int], list[float]] = {}
    with ExitStack() as stack:
        client = stack.enter_context(httpx.Client(headers=_KEY, timeout=60))
        places = {size: _place(stack, client, size) for size in SIZES}
        for _ in range(ROUNDS):
            round_: dict[tuple[str, int], list[float]] = {}
            for _ in range(LOOKS):
                for size, reads in places.items():
                    for name, url in reads.items():
                        started = time.perf_counter()
                        client.get(url).raise_for_status()
                        round_.setdefault((name, size), []).append((time.perf_counter() - started) * 1000)
            for key, times in round_.items():
                samples.setdefault(key, []).append(statistics.median(times))
    figures = {key: Figure(f"{key[0]}, {key[1]:,} tasks", "ms", tuple(times)) for key, times in samples.items()}
    report.figures += [figures[key] for key in sorted(figures)]
    for name in sorted({name for name, _ in figures}):
        value = figures[name, SIZES[-1]].median / figures[name, SIZES[0]].median
        report.ratios.append(Ratio(f"{name}, {SIZES[-1]:,} / {SIZES[0]:,} tasks", value, 2, at_least=False))
    return report


def _place(stack: ExitStack, client: httpx.Client, size: int) -> dict[str, str]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    options = [*(option for option in SERVE if option != "--ephemeral"), "--data", str(folder)]
    with server(*options) as target:
        path = make_endpoint(target, workers=0).removeprefix(target.url)
    _fill(folder, int(path.rpartition("/")[2]), size)
    target = stack.enter_context(server(*options))
    return _reads(target, path, size)


def _reads(target: Server, path: str, size: int) -> dict[str, str]:
    tasks = f"{target.url}{path}/tasks"
    return {
        "first page": f"{tasks}?pageNumber=1&pageSize=10",
        "page in the middle": f"{tasks}?pageNumber={size // 20}&pageSize=10",
        "last page": f"{tasks}?pageNumber={size // 10}&pageSize=10",
        "one task": f"{tasks}/task_{size // 2}",
        "count": f"{tasks}/count",
    }


def _fill(folder: Path, endpoint_id: int, size: int) -> None:
    store = SqliteStore(folder)
    for start in range(0, size, _FILL):
        store.apply(
            [
                SubmitTask(
                    endpoint_id=endpoint_id,
                    task_id=f"task_{number}",
                    input=b'{"prompt":"hello"}',
                    worker_port=8000,
                    process_uri="/",
                    webhook=None,
                    webhook_auth_key=None,
                    headers=None,
                    now_ms=1_790_000_000_000 + number,
                )
                for number in range(start, min(size, start + _FILL))
            ]
        )
    store.close()
