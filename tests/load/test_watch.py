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
""",
    "an error is counted and the task looked at again": """
queue.tasks, queue.ended, queue.fail = ["t_1"], {"t_1"}, 3
watching = watch(mode="get-backoff")
add(watching, 1)
until(lambda: ends == [1])
assert errors == ["busy"] * 3, errors
""",
    "a webhook ends a flight at the time it came, and no request is made for it": """
heard = []
watching = Watch(queue, Detection("webhook", reconcile_every_ms=60_000), now_s,
                 lambda flight, seen, at_s, by: heard.append((flight.seq, at_s, by)), lambda *_: None, 0.05)
add(watching, 1)
add(watching, 2)
watching.hear(Seen("t_1", "SUCCESS", True, 0, 0), 1.25, True)
watching.hear(Seen("t_1", "SUCCESS", True, 0, 0), 1.5, False)
assert heard == [(1, 1.25, "webhook")], heard
assert (watching.open, queue.gets, queue.pages) == (1, 0, 0)
""",
    "a webhook that overtakes the answer to its submit is not lost": """
watching = watch(mode="webhook", reconcile_every_ms=60_000)
watching.hear(Seen("t_1", "SUCCESS", True, 0, 0), 1.25, True)
assert ends == []
add(watching, 1)
assert ends == [1] and watching.open == 0
""",
    "an end that no webhook told is found by a late sweep": """
watching = watch(mode="webhook", reconcile_every_ms=30)
queue.tasks, queue.ended = ["t_1"], {"t_1"}
add(watching, 1)
until(lambda: ends == [1])
assert queue.gets == 0
""",
    "sweeps and gets share one budget": """
queue.tasks = [f"t_{n}" for n in range(1000)]
watching = watch(mode="hybrid", api_qps=200, gets=100, longest_ms=5, sweep_every_ms=10)
begun_s = now_s()
for n in range(1000):
    add(watching, n)
gevent.sleep(0.5)
allowed = 200 * (now_s() - begun_s) + 200 * 0.02 + 2
assert queue.gets + queue.pages <= allowed, (queue.gets, queue.pages)
assert queue.gets > 10 and queue.pages > 2, (queue.gets, queue.pages)
""",
    "processes share the budget": """
queue.tasks = [f"t_{n}" for n in range(1000)]
how = Detection("get-fixed", api_qps=200, interval_ms=1)
watching = Watch(queue, how, now_s, lambda *_: None, lambda *_: None, 0.05, 1 / 4)
begun_s = now_s()
for n in range(1000):
    add(watching, n)
gevent.sleep(0.5)
assert 5 < queue.gets <= 50 * (now_s() - begun_s) + 3, queue.gets
""",
    "receipts of other processes and of other runs are left alone": """
import pathlib, tempfile, orjson
from loadtest.hearing import Hearing
path = pathlib.Path(tempfile.mkdtemp()) / "receipts.jsonl"
news = []
hearing = Hearing(path, "r1", lambda seq: seq % 2 == 1, 1000.0, lambda *told: news.append(told))
def line(task_id, send=1, **more):
    told = {"at": 1001.5, "id": task_id, "ok": True, "send": send, "sent": 0}
    return orjson.dumps(told | more, option=orjson.OPT_APPEND_NEWLINE)
half = line("r1_5")
refused = orjson.dumps({"at": 1, "refused": "x"}, option=orjson.OPT_APPEND_NEWLINE)
others = line("r1_2") + line("r2_3")
path.write_bytes(line("r1_1", mark="r1_1") + others + line("r1_3", 2) + refused + half[:9])
until(lambda: len(news) == 2)
with path.open("ab") as file:
    file.write(half[9:])
until(lambda: len(news) == 3)
hearing.close()
assert [(seen.task_id, seen.mark, at_s, first) for seen, at_s, first in news] == [
    ("r1_1", "r1_1", 1.5, True), ("r1_3", None, 1.5, False), ("r1_5", None, 1.5, True)], news
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
""",
}


# Importing Locust's world takes longer than most cases, so one process imports and forks one for each case.
ALL = """
import json, os, sys, traceback
import loadtest.hearing, loadtest.watch
failed = {}
for claim, program in json.load(sys.stdin).items():
    out, told = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            exec(program, {})
        except BaseException:
            os.write(told, traceback.format_exc().encode()[-4000:])
        os._exit(0)
    os.close(told)
    with os.fdopen(out) as file:
        failed[claim] = file.read()
    os.waitpid(pid, 0)
print(json.dumps(failed))
"""


def printed(program: str, given: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        input=given,
        timeout=120,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def failures() -> dict[str, str]:
    """What went wrong in each case; empty for those that hold."""
    return json.loads(printed(ALL, json.dumps({claim: WATCH + program for claim, program in CASES.items()})))


def test_no_waiter_returns_early():
    assert [json.loads(line) for line in printed(WAITERS).splitlines()] == [0, 0]


@pytest.mark.parametrize("claim", CASES)
def test_looking_for_ends(failures: dict[str, str], claim: str):
    assert failures[claim] == ""
