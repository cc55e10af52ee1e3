"""From end to end: the emulator beside the task queues people would pick, all with one HTTP call to a no-op worker."""

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

import attrs
import httpx

from bench import services
from bench.emulator import CONNECTIONS, SERVE, TASK, make_endpoint
from bench.frame import Figure, Ratio, Report
from bench.peers.work import SUBMITTERS
from bench.processes import CannotMeasure, end, server, wrk

ROUNDS = 3
OURS = 128  # tasks in the hands of workers at a time; Taskiq has 200, arq and others have 100 and less
OURS_TASKS = 10_000  # at least
FILL_S = 2
PATIENCE_S = 60
_SHARE = (0.1, 0.9)  # of the tasks between which the clock runs: without the start of workers, and without a slow last


@attrs.frozen
class Peer:
    """A queue of bench/peers, and how many tasks show its speed."""

    name: str
    module: str
    tasks: int
    database: str = "redis"


PEERS = (
    Peer("Dramatiq", "dramatiq_queue", 6000),
    Peer("Taskiq", "taskiq_queue", 6000),
    Peer("SAQ", "saq_queue", 5000),
    Peer("Huey", "huey_queue", 5000),
    Peer("arq", "arq_queue", 4000),
    Peer("Celery", "celery_queue", 3000),
    Peer("RQ", "rq_queue", 400),
    Peer("PgQueuer", "pgqueuer_queue", 3000, "postgres"),
    Peer("Procrastinate", "procrastinate_queue", 1500, "postgres"),
)


def queues() -> Report:
    """Tasks per second until the last worker has answered, on both cores."""
    report = Report(
        "End to end beside other queues",
        f"One HTTP call per task to one no-op worker; {ROUNDS} rounds in turn, nothing pinned. Redis without"
        f" persistence, PostgreSQL as it comes; {OURS} tasks under way in the emulator. Each is measured twice: its"
        " queue full before the clock runs, and with its submits inside the time, each task submitted and acknowledged"
        f" by itself: to the emulator over HTTP, by {CONNECTIONS} clients; to the others by their own client, as many"
        " at a time where that is asynchronous.",
    )
    drained: list[float] = []
    everything: list[float] = []
    rates: dict[str, list[tuple[float, float]]] = {peer.name: [] for peer in PEERS}
    with _worker() as target, contextlib.ExitStack() as stack:
        peers = _those_that_run(report, stack, target)
        for _ in range(ROUNDS):
            one, other = _emulator(target)
            drained.append(one)
            everything.append(other)
            for peer, run in list(peers):
                try:
                    rates[peer.name].append(run())
                except CannotMeasure as error:
                    report.skipped.append(f"{peer.name}: {error}")
                    peers.remove((peer, run))
    for how, ours, place in (("its queue full", drained, 0), ("with its submits", everything, 1)):
        figure = Figure(f"emulator, {how}", "tasks/s", tuple(ours))
        others = [
            Figure(f"{name}, {how}", "tasks/s", tuple(each[place] for each in measured))
            for name, measured in rates.items()
            if measured
        ]
        report.figures += [figure, *others]
        if others:
            best = max(others, key=lambda each: each.median)
            report.ratios.append(Ratio(f"{figure.name} / {best.name}, the best", figure.median / best.median, 5))
    return report


def _worker() -> contextlib.AbstractContextManager["_Target"]:
    @contextlib.contextmanager
    def started() -> Generator[_Target]:
        with server("bench.peers", "worker", core=None) as worker:
            yield _Target(worker.url)

    return started()


@attrs.frozen
class _Target:
    """The no-op worker."""

    url: str

    def answered(self) -> int:
        return int(httpx.get(self.url).text)

    def wait_for(self, answers: int) -> None:
        """Returns once there were so many."""
        until_s = time.monotonic() + PATIENCE_S
        while self.answered() < answers:
            if time.monotonic() > until_s:
                raise CannotMeasure(f"only {self.answered()} of {answers} tasks came to the worker.")
            time.sleep(0.01)

    def rate(self, before: int, tasks: int, process: "subprocess.Popen[bytes] | None" = None) -> float:
        """Of the `tasks` answers after the first `before`: how many a second come between the shares in _SHARE."""
        first, last = (before + share * tasks for share in _SHARE)
        until_s = time.monotonic() + PATIENCE_S
        begun: tuple[float, int] | None = None
        with httpx.Client() as http:
            while time.monotonic() < until_s and (process is None or process.poll() is None):
                now, answered = time.perf_counter(), int(http.get(self.url).text)
                if begun is None and answered >= first:
                    begun = now, answered
                if begun is not None and answered >= last:
                    return (answered - begun[1]) / (now - begun[0])
                time.sleep(0.01)
        raise CannotMeasure(f"only {self.answered() - before} of {tasks} tasks came to the worker.")


# ---- the emulator


def _emulator(target: _Target) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images.toml"
        images.write_text(
            f'[[image]]\npattern = "bench"\nurls = ["{target.url}"]\nworkers_per_url = {OURS}\n'
            "ready = { none = true }\n",
            encoding="utf-8",
        )
        with server(*SERVE, "--images", str(images), core=None) as emulator:
            endpoint = make_endpoint(emulator, workers=0, image="bench")
            with httpx.Client(headers={"X-Api-Key": "bench"}) as client:
                before, full = target.answered(), 0
                while full < OURS_TASKS:
                    wrk(f"{endpoint}/tasks", CONNECTIONS, FILL_S, body=TASK, core=None)
                    full = _open_tasks(client, endpoint)
                client.put(f"{endpoint}/workers", params={"count": OURS})
                drained = target.rate(before, full)
                while _open_tasks(client, endpoint):
                    time.sleep(0.02)
                before, started = target.answered(), time.perf_counter()
                wrk(f"{endpoint}/tasks", CONNECTIONS, FILL_S, body=TASK, core=None)
                while _open_tasks(client, endpoint):
                    time.sleep(0.005)
                return drained, (target.answered() - before) / (time.perf_counter() - started)


def _open_tasks(client: httpx.Client, endpoint: str) -> int:
    return int(client.get(f"{endpoint}/tasks/count").json()["data"]["processing"])


# ---- the others


def _those_that_run(report: Report, stack: contextlib.ExitStack, target: _Target) -> list:
    try:
        programs = services.environment()
    except CannotMeasure as error:
        report.skipped.append(str(error))
        return []
    urls: dict[str, str] = {}
    for name, start in (("redis", services.redis), ("postgres", services.postgres)):
        try:
            urls[name] = stack.enter_context(start())
        except CannotMeasure as error:
            report.skipped.append(f"{', '.join(each.name for each in PEERS if each.database == name)}: {error}")
    surroundings = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        "BENCH_REDIS": urls.get("redis", ""),
        "BENCH_POSTGRES": urls.get("postgres", ""),
        "BENCH_TARGET": f"{target.url}/v1/chat/completions",
    }
    return [
        (peer, lambda peer=peer: _Run(peer, surroundings, programs).rates(target))
        for peer in PEERS
        if peer.database in urls
    ]


@attrs.frozen
class _Run:
    peer: Peer
    surroundings: dict[str, str]
    programs: Path

    def _say(self, *command: str) -> str:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=self.surroundings, timeout=PATIENCE_S
        )
        if done.returncode != 0:
            raise CannotMeasure(f"{' '.join(command[:4])} failed: {(done.stderr or done.stdout)[-400:].strip()}")
        return done.stdout

    def rates(self, target: _Target) -> tuple[float, float]:
        """Fill the queue, then let the workers come; once they have done it all, submit as many again."""
        fill = (f"{self.programs}/python", "-m", "bench.peers.fill", self.peer.module)
        found = json.loads(self._say(*fill, "--commands"))
        if found["schema"]:
            with contextlib.suppress(CannotMeasure):  # it is there after the first round
                self._say(*found["schema"])
        tasks = self.peer.tasks // SUBMITTERS * SUBMITTERS
        self._say(*fill, str(tasks))
        before = target.answered()
        command = [f"{self.programs}/{found['worker'][0]}", *found["worker"][1:]]
        process = subprocess.Popen(
            command,
            env=self.surroundings,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            drained = target.rate(before, tasks, process)
            target.wait_for(before + tasks)
            with subprocess.Popen([*fill, str(tasks), "--submit"], env=self.surroundings) as submitting:
                with_submits = target.rate(before + tasks, tasks, process)
                submitting.wait(PATIENCE_S)
            return drained, with_submits
        finally:
            end(process)
