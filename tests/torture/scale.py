"""A million queued tasks: what a submit, a read, a restart and the memory cost on the way there.

`python -m tests.torture.scale [TASKS]` prints a line per size; it ends with 1 when a target is missed.
"""

import asyncio
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs

from tests.end_to_end.faults import forks, memory_mb
from tests.end_to_end.processes import ROOT, Server
from yottabench.emulator.http1 import Http1Pool

TASKS = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
SIZES = [size for size in (10_000, 100_000, 1_000_000, 10_000_000) if size < TASKS] + [TASKS]
CALLERS = 64
READS = 60
# From the smallest size to the largest; ratios, since the machine may be busy. Reads have the design's factor of 2.
SUBMIT_SLOWER_MAX = 1.5
READ_SLOWER_MAX = 2.0
MEMORY_MAX_MB = 200.0

HEADINGS = (
    *("tasks", "per CPU s", "per s", "memory MB", "get ms"),
    *("page 1 ms", "middle ms", "last page ms", "count ms", "store MB"),
)


@attrs.frozen
class Row:
    """What was measured at one size."""

    tasks: int
    submits_per_cpu_s: float
    submits_per_s: float
    memory_mb: float
    get_ms: float
    first_page_ms: float
    middle_page_ms: float
    last_page_ms: float
    count_ms: float
    store_mb: float


class Scale:
    """One server without workers, and many who submit."""

    def __init__(self, server: Server, data: Path) -> None:
        self._server = server
        self._data = data
        self._pool = Http1Pool("127.0.0.1", int(server.ready["url"].rpartition(":")[2]), max_idle=CALLERS)
        self._numbers = itertools.count()
        self.endpoint_id = server.endpoint(workers=0)
        self.done = 0

    async def _ask(self, method: bytes, path: str, body: bytes = b"") -> bytes:
        answer = await self._pool.request(
            method,
            f"{ROOT}/{self.endpoint_id}{path}".encode(),
            b"X-Api-Key: me\r\nContent-Type: application/json\r\n",
            body,
            timeout_s=60,
            max_body_bytes=10_000_000,
        )
        if answer.status != 200:
            raise RuntimeError(f"{path} answered {answer.status}: {answer.body[:200]!r}")
        return answer.body

    async def fill(self, size: int) -> None:
        """Submit until there are so many."""

        async def keep_sending() -> None:
            while self.done < size:
                self.done += 1
                task = {"taskId": f"t{next(self._numbers)}", "input": {"prompt": "x" * 100, "max_tokens": 64}}
                await self._ask(b"POST", "/tasks", json.dumps({**task, "workerPort": 1, "processUri": "/run"}).encode())

        await asyncio.gather(*[keep_sending() for _ in range(CALLERS)])

    async def measure(self, begun: tuple[int, float, float]) -> Row:
        """A row, with the submits since (tasks, seconds, CPU seconds of the server)."""
        tasks, at_s, cpu_s = begun
        submits = self.done - tasks
        elapsed_s, used_s = time.monotonic() - at_s, self.cpu_s() - cpu_s
        pages = -(-self.done // 100)
        middle = itertools.cycle(f"/tasks/t{self.done * share // READS}" for share in range(READS))

        async def of(path: Callable[[], str]) -> float:
            return await _median_ms(lambda: self._ask(b"GET", path()))

        return Row(
            tasks=self.done,
            submits_per_cpu_s=submits / used_s,
            submits_per_s=submits / elapsed_s,
            memory_mb=memory_mb(self._server.process.pid),
            get_ms=await of(lambda: next(middle)),
            first_page_ms=await of(lambda: "/tasks?pageSize=100"),
            middle_page_ms=await of(lambda: f"/tasks?pageSize=100&pageNumber={pages // 2}"),
            last_page_ms=await of(lambda: f"/tasks?pageSize=100&pageNumber={pages}"),
            count_ms=await of(lambda: "/tasks/count"),
            store_mb=sum(path.stat().st_size for path in self._data.iterdir()) / 1e6,
        )

    def cpu_s(self) -> float:
        """Processor time of the server so far."""
        pid = self._server.process.pid
        fields = [Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split() for each in (pid, *forks(pid))]
        return sum(int(each[11]) + int(each[12]) for each in fields) / 100

    def begin(self) -> tuple[int, float, float]:
        """What `measure` counts from."""
        return self.done, time.monotonic(), self.cpu_s()

    def close(self) -> None:
        """Drop the connections."""
        self._pool.close()


async def _median_ms(ask: Callable[[], Awaitable[bytes]]) -> float:
    taken = []
    for _ in range(READS):
        begun_s = time.perf_counter()
        await ask()
        taken.append((time.perf_counter() - begun_s) * 1000)
    return statistics.median(taken)


def say(line: str) -> None:
    """To whoever watches."""
    print(line, flush=True)  # noqa: T201 -- a command


async def main() -> int:
    """Run it; the exit code."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="yottabench-scale-") as folder:
        data = Path(folder) / "data"
        server = Server(Path(folder) / "stderr.txt", "--data", str(data))
        scale = Scale(server, data)
        say("".join(f"{name:>13}" for name in HEADINGS))
        for size in SIZES:
            begun = scale.begin()
            await scale.fill(size)
            row = await scale.measure(begun)
            rows.append(row)
            say("".join(f"{figure:>13,.2f}" for figure in attrs.astuple(row)))
        scale.close()
        server.process.kill()
        server.close()
        begun_s = time.monotonic()
        again = Server(Path(folder) / "stderr.txt", "--data", str(data))
        ready_s = time.monotonic() - begun_s
        (endpoint,) = again.data("GET", "")
        begun_s = time.monotonic()
        again.data("GET", f"/{endpoint['id']}/tasks?pageSize=100&pageNumber={TASKS // 200}")
        first_s = time.monotonic() - begun_s
        again.data("PUT", f"/{endpoint['id']}/workers?count=4")
        oldest = again.ended(endpoint["id"], "t0")
        say(
            f"after kill -9: ready in {ready_s:.2f} s, the first list takes {first_s:.2f} s, memory at work"
            f" {memory_mb(again.process.pid):.0f} MB; the oldest task is {oldest['status']}"
        )
        again.close()
    return verdict(rows)


def verdict(rows: list[Row]) -> int:
    """Say what was missed; the exit code."""
    small, large = rows[0], rows[-1]
    ratios = {
        "a submit costs": (small.submits_per_cpu_s / large.submits_per_cpu_s, SUBMIT_SLOWER_MAX),
        "get takes": (large.get_ms / small.get_ms, READ_SLOWER_MAX),
        "the first page takes": (large.first_page_ms / small.first_page_ms, READ_SLOWER_MAX),
        "the middle page takes": (large.middle_page_ms / small.middle_page_ms, READ_SLOWER_MAX),
        "the last page takes": (large.last_page_ms / small.last_page_ms, READ_SLOWER_MAX),
        "count takes": (large.count_ms / small.count_ms, READ_SLOWER_MAX),
        "of the memory allowed are used": (large.memory_mb / MEMORY_MAX_MB, 1.0),
    }
    for name, (value, most) in ratios.items():
        say(f"  {name:<32} {value:5.2f} x   at most {most:g}   {'kept' if value <= most else 'MISSED'}")
    return 0 if all(value <= most for value, most in ratios.values()) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
