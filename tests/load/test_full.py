"""What takes minutes: faults planted one in ten thousand, a server that stalls, and memory over a long run.

Run by `make load-full`; what they found is in loadtest/README.md.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.load.quick_api import quick_api
from tests.load.stub_api import Cheats
from tests.load.test_runs import ROOT, command, ran

pytestmark = pytest.mark.skipif(os.environ.get("LOAD_FULL") != "1", reason="set LOAD_FULL=1 (make load-full)")
TASKS = 10_000
MANY = """
[arrivals]
kind = "constant"
rate = 1000
duration_s = 10
[detection]
mode = "list-sweep"
[limits]
drain_timeout_s = 6
request_timeout_s = 60
[validity]
lateness_p99_ms = 60000
cpu = 100
"""


@pytest.mark.parametrize("seed", range(20))
def test_a_dropped_a_doubled_and_a_foreign_task_in_ten_thousand_are_found_and_nothing_else(tmp_path: Path, seed: int):
    lost, doubled = random.Random(seed).sample(range(TASKS), 2)
    ghost = f"ghost_{seed}"
    cheats = Cheats(forget=lambda n: n == lost, execute_twice=lambda n: n == doubled, ghosts=(ghost,))
    ended, _ = ran(tmp_path, cheats, "--seed", str(seed), profile=MANY)
    audit = ended.result["audit"]
    assert ended.code == 4
    assert audit["sent"] == TASKS
    assert (audit["lost"]["count"], audit["duplicated"]["count"]) == (1, 1)
    assert audit["unexpected"]["ids"] == [ghost]
    assert ended.result["reasons"][0] == "audit: 1 lost, 1 duplicated, 1 unexpected"


@pytest.mark.parametrize("seed", range(20))
def test_a_run_of_ten_thousand_without_faults_is_clean(tmp_path: Path, seed: int):
    ended, stub = ran(tmp_path, None, "--seed", str(seed), profile=MANY)
    audit = ended.result["audit"]
    assert (ended.code, ended.result["reasons"]) == (0, [])
    assert (audit["sent"], audit["clean"], audit["settled"]) == (TASKS, True, True)
    assert audit["executions"] + audit["unknown_absent"] == TASKS
    assert len(stub.tasks) == audit["executions"]


STALLING = """
[arrivals]
kind = "constant"
rate = 100
duration_s = 60
[detection]
# One list tells of a hundred tasks that end together; a GET for each would take most of the 5 % that are allowed.
mode = "list-sweep"
sweep_every_ms = 10
[limits]
senders = {senders}
[validity]
lateness_p99_ms = 60000
"""


@contextlib.contextmanager
def stopping(process: "subprocess.Popen[str]") -> Generator[None]:
    """Stops the server for the first second of every ten, as a process is stopped: it does nothing at all then."""
    over = threading.Event()

    def stop_and_go() -> None:
        while not over.wait(9.0):
            process.send_signal(signal.SIGSTOP)
            over.wait(1.0)
            process.send_signal(signal.SIGCONT)

    thread = threading.Thread(target=stop_and_go)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def run_against(folder: Path, url: str, profile: str, *more: str) -> dict[str, Any]:
    done = subprocess.run(
        command(folder, url, *more, profile=profile), cwd=ROOT, capture_output=True, text=True, check=False
    )
    return json.loads(done.stdout)


def test_latency_counts_from_when_tasks_were_due_though_the_server_stalls(tmp_path: Path):
    with quick_api() as (url, process), stopping(process):
        result = run_against(tmp_path, url, STALLING.format(senders=2000))
    for name in ("submit", "e2e"):
        latency = result["latency_ms"][name]
        assert latency["p95_ms"] == pytest.approx(500, rel=0.05), name
        assert latency["p99_ms"] == pytest.approx(900, rel=0.05), name
    assert result["exit_code"] == 0, result["reasons"]


def test_a_closed_loop_hides_the_stall_and_the_corrected_row_shows_it(tmp_path: Path):
    # Four senders that wait for their answers are what a closed-loop tool with four users is.
    with quick_api() as (url, process), stopping(process):
        result = run_against(tmp_path, url, STALLING.format(senders=4))
    latency = result["latency_ms"]
    assert latency["submit_uncorrected"]["p95_ms"] < 100
    assert latency["submit"]["p95_ms"] == pytest.approx(500, rel=0.1)
    assert latency["submit"]["p99_ms"] == pytest.approx(900, rel=0.1)


GROWING = """
[arrivals]
kind = "constant"
rate = {rate}
duration_s = {seconds}
[detection]
mode = "list-sweep"
sweep_every_ms = 1000
[validity]
lateness_p99_ms = 60000
cpu = 100
"""


def resident_kb(parent: int) -> list[int]:
    """Of a process's children."""
    found = subprocess.run(["ps", "-o", "rss=", "--ppid", str(parent)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def test_the_generators_memory_does_not_grow_with_the_tasks_sent(tmp_path: Path):
    # LOAD_TASKS=1000000 makes it the run of a million.
    tasks, rate = int(os.environ.get("LOAD_TASKS", "60000")), int(os.environ.get("LOAD_RATE", "1000"))
    profile = GROWING.format(rate=rate, seconds=tasks / rate)
    with quick_api() as (url, _):
        process = subprocess.Popen(command(tmp_path, url, profile=profile), cwd=ROOT, stdout=subprocess.PIPE, text=True)
        sizes: list[tuple[float, int]] = []
        begun_s = time.monotonic()
        while process.poll() is None:
            sizes += [(time.monotonic() - begun_s, kb) for kb in resident_kb(process.pid)[:1]]
            time.sleep(1)
        result = json.loads(process.communicate()[0])
    assert result["audit"]["clean"], result["reasons"]
    assert result["counts"]["ended"] == tasks
    sending = [kb for at_s, kb in sizes if at_s < tasks / rate]
    half = len(sending) // 2
    judged_kb = max(kb for _, kb in sizes)
    sys.stdout.write(
        f"{tasks} tasks: {sending[half]} kB after a half, {sending[-1]} kB at the end of sending, "
        f"at most {judged_kb} kB while judging\n"
    )
    # What stays of a task while they are sent is its line on the disk; the rest is as much as was under way at once.
    assert sending[-1] - sending[half] < 10_000, sizes
    # The verdict reads the journals into columns.
    assert judged_kb - sending[-1] < 60_000 + tasks * 0.25, sizes
