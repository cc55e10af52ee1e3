"""One measurement inside Locust, in a process of its own; prints one JSON line.

Importing locust patches the sockets of the process, so a benchmark starts this for each figure.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import gevent
import locust
from locust.env import Environment
from yotta_serverless_api import AuthenticatedClient
from yotta_serverless_api.api.tasks import submit_task
from yotta_serverless_api.models import SubmitTaskRequest

from loadtest.engine import Engine, Plan
from loadtest.wire import Submitted, Wire
from yottabench.load.bodies import body_maker
from yottabench.load.journal import read_journal
from yottabench.load.profile import Arrivals, Profile
from yottabench.load.rundir import RunDir
from yottabench.load.schedule import build_schedule

ENDPOINT = "378888638324150969"
INPUT = {"messages": [{"role": "user", "content": "hello " * 16}], "max_tokens": 64}
PORT, URI, KEY = 8000, "/v1/chat/completions", "bench"
USERS = 32
WARM_UP_S = 0.5


class _Submitting(locust.User):
    """Submits without a pause; every request is told to Locust, as FastHttpUser does by itself."""

    abstract = True
    send: ClassVar[Callable[["_Submitting"], int]]

    @locust.task
    def submit(self) -> None:
        """One submit."""
        started = time.perf_counter()
        length = type(self).send(self)
        self.environment.events.request.fire(
            request_type="POST",
            name="submitTask",
            response_time=(time.perf_counter() - started) * 1000,
            response_length=length,
            exception=None,
            context={},
        )


def light_user(url: str) -> type[locust.User]:
    """The generated client over the light one, shared by all users as in a load run."""
    wire = Wire(url, KEY, ENDPOINT)

    class LightUser(_Submitting):
        def send(self) -> int:
            answer = wire.submit("t", INPUT, PORT, URI)
            assert answer.ok, answer.why
            return answer.length

    return LightUser


def stock_user(url: str) -> type[locust.User]:
    """The generated client as it comes, with an httpx.Client for each user."""

    class StockUser(_Submitting):
        def on_start(self) -> None:
            self.client = AuthenticatedClient(base_url=url, token=KEY)

        def send(self) -> int:
            body = SubmitTaskRequest(input_=INPUT, worker_port=PORT, process_uri=URI, task_id="t")
            answer = submit_task.sync_detailed(ENDPOINT, client=self.client, body=body)
            assert answer.parsed is not None
            return len(answer.content)

    return StockUser


def fast_user(url: str) -> type[locust.User]:
    """Locust's own fast user, with no types at all."""
    body = {"taskId": "t", "input": INPUT, "workerPort": PORT, "processUri": URI}

    class FastUser(locust.FastHttpUser):
        host = url

        @locust.task
        def submit(self) -> None:
            path = f"/v2/serverless/{ENDPOINT}/tasks"
            answer = self.client.post(path, json=body, headers={"X-Api-Key": KEY}, name="submitTask")
            assert answer.json()["code"] == 10000

    return FastUser


CLIENTS = {"light": light_user, "stock": stock_user, "fast": fast_user}


def client(kind: str, url: str, seconds: float) -> dict[str, float]:
    """Requests per second and per CPU-second of this process, once all users are at it."""
    environment = Environment(user_classes=[CLIENTS[kind](url)])
    runner = environment.create_local_runner()
    runner.start(USERS, spawn_rate=USERS)
    gevent.sleep(WARM_UP_S)
    requests, cpu_s, wall_s = environment.stats.num_requests, time.process_time(), time.perf_counter()
    gevent.sleep(seconds)
    requests = environment.stats.num_requests - requests
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    failed = environment.stats.num_failures or environment.runner.exceptions
    if failed or not requests:
        sys.exit(f"{kind}: some requests failed: {failed}")
    runner.quit()
    return {"per_cpu_s": requests / cpu_s, "per_s": requests / wall_s}


class _Nowhere(Wire):
    """Refuses every task at once: what is left is the pacer and the engine's own work."""

    def submit(self, task_id: str, body: Any, worker_port: int, process_uri: str) -> Submitted:
        return Submitted(False, 429, 429, "nowhere", 0)


def paced(rate: float, seconds: float) -> dict[str, float]:
    """Lateness of our pacer: from when a task was due until the engine was about to send it, from its journal."""
    profile = Profile("bench", arrivals=Arrivals(kind="constant", rate=rate, duration_s=seconds))
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(folder, "b1", "http://127.0.0.1:1", "7", 1, 0, 1, time.time() + 0.5, live=False, client="light")
        schedule = build_schedule(profile.arrivals, 1)
        nowhere = _Nowhere(plan.host, KEY, ENDPOINT)
        engine = Engine(plan, profile, schedule, body_maker(profile.task), nowhere, lambda **_: None)
        cpu_s = time.process_time()
        engine.start()
        engine.finished.wait()
        engine.drain()
        cpu_s = time.process_time() - cpu_s
        journal = read_journal(RunDir(Path(folder)).journal_file(0))
    late_ms = [(sent - due) * 1000 for due, sent in zip(journal.due_s, journal.sent_s, strict=True)]
    return _lateness(late_ms) | {"per_s": len(late_ms) / seconds, "cpu": cpu_s / seconds}


def throughput(rate: float, seconds: float) -> dict[str, float]:
    """Lateness of Locust's constant_throughput, 10 tasks/s for each user: against tasks due at even distances.

    The even schedule begins so that no task is early: nothing tells when Locust would have wanted to begin.
    """
    each = 10.0
    at_s: list[float] = []

    class Paced(locust.User):
        wait_time = locust.constant_throughput(each)

        @locust.task
        def tick(self) -> None:
            at_s.append(time.perf_counter())

    environment = Environment(user_classes=[Paced])
    runner = environment.create_local_runner()
    users = round(rate / each)
    runner.start(users, spawn_rate=users)
    gevent.sleep(WARM_UP_S)
    at_s.clear()
    cpu_s = time.process_time()
    gevent.sleep(seconds)
    cpu_s = time.process_time() - cpu_s
    found = list(at_s)
    runner.quit()
    late_ms = [(when_s - found[0] - number / rate) * 1000 for number, when_s in enumerate(found)]
    earliest_ms = min(late_ms)
    return _lateness([each_ms - earliest_ms for each_ms in late_ms]) | {
        "per_s": len(found) / seconds,
        "cpu": cpu_s / seconds,
    }


def _lateness(late_ms: list[float]) -> dict[str, float]:
    ordered = sorted(late_ms)
    return {f"p{percent}_ms": ordered[math.ceil(len(ordered) * percent / 100) - 1] for percent in (50, 99)}


def main() -> None:
    """`python -m bench.locust_probe client KIND URL SECONDS`, or `paced|throughput RATE SECONDS`."""
    parser = argparse.ArgumentParser(prog="python -m bench.locust_probe", description=__doc__)
    parser.add_argument("what", choices=("client", "paced", "throughput"))
    parser.add_argument("arguments", nargs="+")
    asked = parser.parse_args()
    given = asked.arguments
    if asked.what == "client":
        found = client(given[0], given[1], float(given[2]))
    else:
        found = {"paced": paced, "throughput": throughput}[asked.what](float(given[0]), float(given[1]))
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
