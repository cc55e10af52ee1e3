"""The parts that need gevent, in a process of their own so that this one stays as it is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

WAITERS = """
import json, time
from loadtest.pacer import SpinWaiter, make_waiter
for waiter in (make_waiter(), SpinWaiter()):
    early = 0
    for _ in range(30):
        when_s = time.monotonic() + 0.002
        waiter.until(when_s)
        early += time.monotonic() < when_s
    waiter.until(time.monotonic() - 5)
    waiter.close()
    print(json.dumps(early))
"""

# A queue in memory: tasks end when the test says so; every request is counted.
WATCH = """
import json, sys, time
import attrs, gevent
from loadtest.watch import Flight, Watch
from loadtest.wire import Look, Seen, WireError
from yottabench.load.profile import Detection

class Queue:
    def __init__(self):
        self.tasks, self.ended, self.gets, self.pages, self.fail = [], set(), 0, 0, 0
    def look(self, task_id):
        self.gets += 1
        if self.fail:
            self.fail -= 1
            raise WireError(503, 10002, "busy")
        return Look((self.seen(task_id),), 1, 10) if task_id in self.tasks else Look((), 0, 0)
    def page(self, status, number, size):
        self.pages += 1
        found = [t for t in reversed(self.tasks) if t in self.ended and status == "SUCCESS"]
        return Look(tuple(self.seen(t) for t in found[(number - 1) * size:number * size]), len(found), 10)
    def seen(self, task_id):
        return Seen(task_id, "SUCCESS" if task_id in self.ended else "PROCESSING", task_id in self.ended, 1, 2)

start_s = time.monotonic()
now_s = lambda: time.monotonic() - start_s
queue, ends, errors = Queue(), [], []

def watch(**settings):
    quick = {"first_ms": 5, "interval_ms": 10, "longest_ms": 20, "sweep_every_ms": 20, "pollers": 4}
    how = Detection(**(quick | settings))
    return Watch(queue, how, now_s, lambda flight, seen, at_s, by: ends.append(flight.seq),
                 lambda name, seconds, length, error: errors.append(error) if error else None, give_up_s=0.05)

def add(watching, seq, acknowledged=True):
    watching.add(Flight(seq, f"t_{seq}", 0.0, 0.0, acknowledged, now_s()))

def until(done):
    with gevent.Timeout(20):
        while not done():
            gevent.sleep(0.005)
"""

CASES = {
    "each end is reported once, whatever the mode": """
for mode in ("get-fixed", "get-backoff", "get-quantile", "list-sweep", "hybrid"):
    queue, ends = Queue(), []
    watching = watch(mode=mode)
    queue.tasks = [f"t_{n}" for n in range(300)]
    for n in range(300):
        add(watching, n)
    queue.ended = set(queue.tasks[:150])
    until(lambda: len(ends) == 150)
    queue.ended = set(queue.tasks)
    until(lambda: watching.open == 0)
    gevent.sleep(0.05)
    watching.close()
    assert sorted(ends) == list(range(300)), mode
print("ok")
""",
    "a task that younger ones overtook is found": """
watching = watch(mode="list-sweep")
queue.tasks = [f"t_{n}" for n in range(500)]
for n in range(500):
    add(watching, n)
queue.ended = set(queue.tasks) - {"t_3"}
until(lambda: len(ends) == 499)
queue.ended.add("t_3")
until(lambda: len(ends) == 500)
print("ok")
""",
    "a sweep reads no further than the news goes": """
queue.tasks = [f"t_{n}" for n in range(2000)]
queue.ended = set(queue.tasks[:1990])
watching = watch(mode="list-sweep")
for n in range(1990, 2000):
    add(watching, n)
queue.ended |= {"t_1990", "t_1991"}
until(lambda: len(ends) == 2)
before = queue.pages
gevent.sleep(0.2)
assert queue.pages - before <= 3 * 12, queue.pages
print("ok")
""",
    "tasks that take longer than a sweep's interval are not asked for one by one": """
quick = queue.seen
queue.seen = lambda task_id: attrs.evolve(quick(task_id), updated_ms=60_000)
watching = watch(mode="hybrid")
queue.tasks = [f"t_{n}" for n in range(20)]
add(watching, 0)
queue.ended = {"t_0"}
until(lambda: len(ends) == 1)
asked = queue.gets
for n in range(1, 20):
    add(watching, n)
gevent.sleep(0.1)
assert queue.gets == asked, queue.gets
queue.ended = set(queue.tasks)
until(lambda: watching.open == 0)
print("ok")
""",
    "an unacknowledged task is asked for, watched when it is there, and given up when it is not": """
queue.tasks = ["t_1"]
watching = watch(mode="hybrid")
add(watching, 1, acknowledged=False)
add(watching, 2, acknowledged=False)
until(lambda: watching.open == 1)
assert ends == []
queue.ended.add("t_1")
until(lambda: watching.open == 0)
assert ends == [1]
print("ok")
""",
    "an error is counted and the task looked at again": """
queue.tasks, queue.ended, queue.fail = ["t_1"], {"t_1"}, 3
watching = watch(mode="get-backoff")
add(watching, 1)
until(lambda: ends == [1])
assert errors == ["busy"] * 3, errors
print("ok")
""",
    "no more looks are made than allowed": """
queue.tasks = [f"t_{n}" for n in range(1000)]
watching = watch(mode="get-backoff", api_qps=100, longest_ms=5)
begun_s = now_s()
for n in range(1000):
    add(watching, n)
gevent.sleep(0.5)
assert queue.gets <= 100 * (now_s() - begun_s) + 3, queue.gets
assert queue.gets > 10
print("ok")
""",
}


def printed(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        timeout=60,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_waiter_returns_early():
    assert [json.loads(line) for line in printed(WAITERS).splitlines()] == [0, 0]


@pytest.mark.parametrize("claim", CASES)
def test_looking_for_ends(claim: str):
    assert printed(WATCH + CASES[claim]) == "ok\n"
