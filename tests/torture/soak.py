"""A long run at 70 % load with crashes, retries, webhooks and retention in it: `make soak`, SOAK_S seconds of it.

Ends with 0 when memory, descriptors and the WAL stayed flat and no acknowledged task is missing; else with 1.
"""

import asyncio
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs

from tests.end_to_end.faults import forks, memory_mb, open_files
from tests.end_to_end.processes import ROOT, Server
from tests.torture.steady import Limit, judge
from yottabench.emulator.http1 import Answer, Http1Error, Http1Pool

SOAK_S = float(os.environ.get("SOAK_S", "7200"))
LOAD = float(os.environ.get("SOAK_LOAD", "0.7"))  # of what was measured at first
RATE = float(os.environ.get("SOAK_RATE", "0"))  # tasks per second; 0: measured
WARM_S = min(150.0, SOAK_S / 4)  # until what is kept has been there long enough to be removed again, which costs too
MEASURE_S = 30.0
SAMPLE_S = min(5.0, SOAK_S / 60)
SAY_S = 60.0
WORKERS = 8
CALLERS = 64
CRASH_S = 30.0  # between tasks that end their workers; with more of them it is a crash loop, and the endpoint FAILED
HELD_BACK_MAX = 0.05  # of the tasks due: with more of them not sent it is another load than the one that is named
QUEUE_FULL = 500  # open tasks beyond which more at once does not measure more
OPEN_MAX = 5_000  # open tasks beyond which nothing is sent: the machine is busy with something else
RETENTION_DAYS = 0.001  # 86 s, so that tasks come and go many times
BODY_MAX = 1_000_000

LIMITS = (
    Limit("memory", "MB", share=0.05, amount=3.0, most=300.0),
    Limit("descriptors", "", share=0.0, amount=3.0),
    Limit("WAL", "MB", share=0.0, amount=8.0, most=80.0),
)


@attrs.define
class Counts:
    """What the clients did and saw."""

    acknowledged: int = 0
    refused: int = 0
    unanswered: int = 0
    held_back: int = 0
    told: int = 0
    reads: int = 0
    crashes: int = 0


class Soak:
    """One server, its clients, and what is seen of it from outside."""

    def __init__(self, server: Server, data: Path) -> None:
        self._server = server
        self._data = data
        port = int(server.ready["url"].rpartition(":")[2])
        self._pool = Http1Pool("127.0.0.1", port, max_idle=CALLERS)
        self._chance = random.Random(1)
        self._numbers = itertools.count()
        self._hook = ""
        self._open = 0
        self._crash_s = time.monotonic() + CRASH_S
        self.endpoint_id = ""
        self.counts = Counts()
        self.samples: dict[str, list[tuple[float, float]]] = {limit.name: [] for limit in LIMITS}
        self.store_mb = 0.0

    async def ask(self, method: bytes, path: str, body: Any = None) -> Answer:
        """One request to the API."""
        sent = b"" if body is None else json.dumps(body).encode()
        headers = b"X-Api-Key: me\r\nContent-Type: application/json\r\n"
        target = path if path.startswith("/_") else ROOT + path
        return await self._pool.request(
            method, target.encode(), headers, sent, timeout_s=60, max_body_bytes=10 * BODY_MAX
        )

    async def data(self, method: bytes, path: str, body: Any = None) -> Any:
        """The data of a request that must succeed."""
        answer = await self.ask(method, path, body)
        if answer.status != 200:
            raise RuntimeError(f"{path} answered {answer.status}: {answer.body[:200]!r}")
        return json.loads(answer.body)["data"]

    async def prepare(self) -> asyncio.Server:
        """An endpoint, and somebody who takes its results."""
        receiver = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self._hook = f"http://127.0.0.1:{receiver.sockets[0].getsockname()[1]}/hook"
        made = await self.data(
            b"POST",
            "",
            {
                "name": "soak",
                "image": "sim/echo",
                "resources": [{"region": "r", "gpuType": "g", "gpuCount": 1}],
                "workers": WORKERS,
                "containerVolumeInGb": 20,
                "serviceMode": "QUEUE",
            },
        )
        self.endpoint_id = made["id"]
        while len(await self.data(b"GET", f"/{self.endpoint_id}/workers?statusList=RUNNING")) < WORKERS:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        return receiver

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().split(b"content-length: ")[1].split(b"\r")[0]
                await reader.readexactly(int(length))
                self.counts.told += 1
                # One in fifty is refused the first time, so that there are always some that wait.
                status = b"503 No" if self.counts.told % 50 == 0 else b"200 OK"
                writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def _task(self, number: int) -> dict[str, Any]:
        body: dict[str, Any] = {"input": {"n": number}, "workerPort": 8000, "processUri": "/run"}
        if number % 10 == 0:
            body |= {"webhook": self._hook, "webhookAuthKey": "soak"}
        if number % 37 == 0:
            body["input"] = {"simulate": {"status": 500}}
        if number % 101 == 0:
            body["input"] = {"text": "x" * 100_000}
        if time.monotonic() >= self._crash_s:
            self._crash_s += CRASH_S
            self.counts.crashes += 1
            body["input"] = {"simulate": {"exit": 1}}
        return body

    async def submit(self) -> None:
        """One task more."""
        try:
            answer = await self.ask(b"POST", f"/{self.endpoint_id}/tasks", self._task(next(self._numbers) + 1))
        except Http1Error:
            self.counts.unanswered += 1
            return
        if answer.status == 200:
            self.counts.acknowledged += 1
        else:
            self.counts.refused += 1

    async def measure(self) -> float:
        """Tasks per second that go through when as many as possible are sent, beside everything else of the soak."""
        start_s = time.monotonic() + WARM_S
        end_s = start_s + MEASURE_S

        async def keep_sending() -> None:
            while time.monotonic() < end_s:
                if self._open > QUEUE_FULL:
                    await asyncio.sleep(0.01)
                else:
                    await self.submit()

        async def count() -> float:
            await asyncio.sleep(WARM_S)
            before, open_before = self.counts.acknowledged, self._open
            await asyncio.sleep(MEASURE_S)
            ended = self.counts.acknowledged - before - (self._open - open_before)
            return ended / (time.monotonic() - start_s)

        sending = [keep_sending() for _ in range(CALLERS)]
        capacity, *_ = await asyncio.gather(count(), self.look(end_s), *sending)
        await self.drained()
        return capacity

    async def drained(self) -> None:
        """Returns once no task is open."""
        while (await self.data(b"GET", f"/{self.endpoint_id}/tasks/count"))["processing"]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)

    async def load(self, per_s: float, until_s: float) -> None:
        """Tasks at a rate, each due at its own time."""
        begin_s, sent, under_way = time.monotonic(), 0, set[asyncio.Task[None]]()
        while (now_s := time.monotonic()) < until_s:
            due = int((now_s - begin_s) * per_s)
            if self._open > OPEN_MAX or len(under_way) > CALLERS * 4:
                self.counts.held_back += due - sent
                sent = due
            while sent < due:
                sent += 1
                task = asyncio.create_task(self.submit())
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            await asyncio.sleep(0.005)
        await asyncio.gather(*under_way)

    async def look(self, until_s: float) -> None:
        """What users of an API do beside submitting, and an operator who scales."""
        for turn in itertools.count():
            if time.monotonic() > until_s:
                return
            page = 1 + turn % 50
            found = await self.data(b"GET", f"/{self.endpoint_id}/tasks?pageSize=50&pageNumber={page}")
            for item in found["items"][:2]:
                await self.ask(b"GET", f"/{self.endpoint_id}/tasks/{item['taskId']}")
            self._open = (await self.data(b"GET", f"/{self.endpoint_id}/tasks/count"))["processing"]
            workers = await self.data(b"GET", f"/{self.endpoint_id}/workers")
            if workers:
                await self.ask(b"GET", f"/{self.endpoint_id}/workers/{workers[0]['id']}/logs?keyword=task")
            if turn % 300 == 299:
                await self.data(b"PUT", f"/{self.endpoint_id}/workers?count={WORKERS - turn // 300 % 3}")
            self.counts.reads += 5
            await asyncio.sleep(0.2)

    async def sample(self, until_s: float) -> None:
        """Figures of the server, every few seconds, and a line now and then."""
        begin_s, said_s = time.monotonic(), time.monotonic()
        while (now_s := time.monotonic()) < until_s:
            pid = self._server.process.pid
            wal = self._data / "yottabench.sqlite-wal"
            figures = (memory_mb(pid), float(sum(map(open_files, [pid, *forks(pid)]))), wal.stat().st_size / 1e6)
            for limit, figure in zip(LIMITS, figures, strict=True):
                self.samples[limit.name].append((now_s - begin_s, figure))
            self.store_mb = (self._data / "yottabench.sqlite").stat().st_size / 1e6
            if now_s - said_s >= SAY_S:
                said_s = now_s
                memory, files, wal_mb = figures
                say(
                    f"{now_s - begin_s:7.0f} s  {self.counts.acknowledged:>9} acknowledged  {memory:6.1f} MB "
                    f" {files:.0f} descriptors  WAL {wal_mb:.1f} MB  store {self.store_mb:.0f} MB  open {self._open}"
                )
            await asyncio.sleep(SAMPLE_S)

    async def missing(self) -> int:
        """Acknowledged tasks of which neither a row nor the sweep of retention tells."""
        await self.drained()
        stats = await self.data(b"GET", "/_emulator/stats")
        total = (await self.data(b"GET", f"/{self.endpoint_id}/tasks?pageSize=1"))["total"]
        return self.counts.acknowledged - total - int(_purged(stats))

    def close(self) -> None:
        """Drop the connections."""
        self._pool.close()


def _purged(stats: dict[str, Any]) -> int:
    return int(stats.get("purged_tasks", 0) or stats.get("events", {}).get("purged_tasks", 0))


def say(line: str) -> None:
    """To whoever watches."""
    print(line, flush=True)  # noqa: T201 -- a command


async def main() -> int:
    """Run it; the exit code."""
    with tempfile.TemporaryDirectory(prefix="yottabench-soak-") as folder:
        data = Path(folder) / "data"
        options = ("--data", str(data), "--retention-days", str(RETENTION_DAYS), "--webhook-retry", "5,10,20")
        server = Server(Path(folder) / "stderr.txt", *options)
        soak = Soak(server, data)
        try:
            receiver = await soak.prepare()
            capacity = await soak.measure()
            per_s = RATE or LOAD * capacity
            say(f"{capacity:.0f} tasks/s go through; {per_s:.0f}/s for {SOAK_S:.0f} s")
            until_s = time.monotonic() + SOAK_S
            await asyncio.gather(soak.load(per_s, until_s), soak.look(until_s), soak.sample(until_s))
            missing = await soak.missing()
            receiver.close()
        finally:
            soak.close()
            log = server.log.read_text()
            ended = server.process.poll()
            server.close()
    verdicts = [judge(limit, soak.samples[limit.name]) for limit in LIMITS]
    say(f"\nsoak: {SOAK_S:.0f} s at {per_s:.0f} tasks/s\n  {soak.counts}\n  store {soak.store_mb:.0f} MB")
    for verdict in verdicts:
        say(str(verdict))
    due = per_s * SOAK_S
    sent_enough = soak.counts.held_back <= HELD_BACK_MAX * due
    say(f"  held back      {soak.counts.held_back / due:.1%} of the tasks due, {HELD_BACK_MAX:.0%} allowed")
    say(f"  missing        {missing}   the server's log: {log.count('Traceback')} tracebacks")
    good = (
        all(verdict.is_kept for verdict in verdicts)
        and sent_enough
        and missing == 0
        and ended is None
        and "Traceback" not in log
    )
    say("PASS" if good else "FAIL")
    if not good:
        say(log[-3000:])
    return 0 if good else 1


async def run() -> int:
    """The exit code; a SIGTERM ends the server too."""
    running = asyncio.ensure_future(main())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    try:
        return await running
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM


if __name__ == "__main__":
    sys.exit(asyncio.run(run()))
