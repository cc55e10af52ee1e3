"""Batches of real processes: killed in the middle, and of a length that would not fit into memory."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.emulator import emulator, make_endpoint
from yottabench.client import Client

KEY = "batches"
LONG = int(os.environ.get("BATCH_TASKS", "0"))

# Prints each result, and only then asks for the next: what a reader does that keeps results.
READER = """
import json, sys
from yottabench.client import Client

endpoint, count, journal = sys.argv[1], int(sys.argv[2]), sys.argv[3]
with Client() as client:
    for result in client.tasks.submit_many(
        endpoint, ({"n": n} for n in range(count)), worker_port=8000, process_uri="/run",
        journal=journal, max_open=40, concurrency=8,
    ):
        print(json.dumps([result.index, result.task_id, result.task.output["n"]]), flush=True)
"""

# Prints how much memory it ever had after a twentieth of the results and at the end.
LONG_READER = """
import asyncio, json, resource, sys
from yottabench.client import AsyncClient, Client

kind, endpoint, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
how = {"worker_port": 8000, "process_uri": "/run", "journal": sys.argv[4]}
given = 0
peaks_mb = []

def seen(result):
    global given
    assert result.outcome == "SUCCESS" and result.task.output == {"n": result.index}, result
    given += 1
    if given in (count // 20, count):
        peaks_mb.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

def items():
    return ({"n": n} for n in range(count))

async def run():
    async with AsyncClient() as client:
        async for result in client.tasks.submit_many(endpoint, items(), **how):
            seen(result)

if kind == "async":
    asyncio.run(run())
else:
    with Client() as client:
        for result in client.tasks.submit_many(endpoint, items(), **how):
            seen(result)
print(json.dumps({"given": given, "peaks_mb": peaks_mb}))
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with emulator() as made:
        yield made


def environment(url: str) -> dict[str, str]:
    return {**os.environ, "YOTTA_BASE_URL": url, "YOTTA_API_KEY": KEY}


def lines_of(process: "subprocess.Popen[str]", most: int) -> list[Any]:
    assert process.stdout is not None
    found: list[Any] = []
    while len(found) < most and (line := process.stdout.readline()).endswith("\n"):
        found.append(json.loads(line))
    return found


def test_a_batch_whose_process_is_killed_goes_on_and_no_task_runs_twice(url: str, tmp_path: Path) -> None:
    count, endpoint = 240, make_endpoint(url, KEY, workers=2)
    command = [sys.executable, "-c", READER, endpoint, str(count), str(tmp_path / "journal")]
    given: list[Any] = []
    for stop_after in (1, 35, 90, count):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(url)) as process:
            given += lines_of(process, stop_after)
            if stop_after < count:
                process.send_signal(signal.SIGKILL)
                given += lines_of(process, count)  # what it had written when it was killed
        assert process.returncode == (0 if stop_after == count else -signal.SIGKILL)
    times = Counter(index for index, _, _ in given)
    assert set(times) == set(range(count))
    assert sum(times.values()) - count <= 3  # of each killed reader the result that it had not dealt with
    assert all(output == index for index, _, output in given)
    ids = {task_id for _, task_id, _ in given}
    assert len(ids) == count
    with Client(KEY, url) as client:
        assert {task.task_id for task in client.tasks.iterate(endpoint)} == ids
        runs: Counter[str] = Counter()
        while sum(runs.values()) < count:  # a line may reach the log a moment after its task has ended
            runs.clear()
            for worker in client.workers.list(endpoint):
                for line in client.workers.iterate_logs(endpoint, str(worker.worker_id), keyword="task="):
                    runs[next(word[5:] for word in line.log.split() if word.startswith("task="))] += 1
    assert runs == Counter(ids)


@pytest.mark.skipif(LONG == 0, reason="minutes long: BATCH_TASKS=100000 makes it run")
@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_long_batch_takes_no_more_memory_than_a_short_one(kind: str, url: str, tmp_path: Path) -> None:
    endpoint = make_endpoint(url, KEY, workers=4)
    command = [sys.executable, "-c", LONG_READER, kind, endpoint, str(LONG), str(tmp_path / "journal")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(url), check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)

    assert found["given"] == LONG
    early_mb, late_mb = found["peaks_mb"]
    assert late_mb - early_mb < 10
