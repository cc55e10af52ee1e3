"""A thousand sockets that send a byte a second, while good clients go on: `python -m tests.torture.crowd [ROUNDS]`.

Prints the latency of the good clients with and without the crowd, measured in turns; ends with 1 when the 99th
percentile with it is twice that without or more.
"""

import asyncio
import contextlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.end_to_end.faults import memory_mb, open_files
from tests.end_to_end.processes import ROOT, Server
from yottabench.emulator.http1 import Http1Pool

SOCKETS = 1_000
CLIENTS = 8
ROUND_S = 5.0
RATIO_MAX = 2.0


async def crowd(port: int, endpoint_id: str) -> None:
    """For ever: half of the sockets never end their headers, half never their body; who is shown out comes back."""
    head = f"POST {ROOT}/{endpoint_id}/tasks HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: me\r\n".encode()

    async def dribble(number: int) -> None:
        chance = random.Random(number)
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                begun = head + (b"X-Slow: " if number % 2 else b"Content-Length: 5000\r\n\r\n{")
                try:
                    writer.write(begun)
                    while not writer.is_closing():
                        await asyncio.sleep(0.5 + chance.random())
                        writer.write(b"a")
                        await writer.drain()
                finally:
                    writer.close()
            await asyncio.sleep(chance.random())

    print("begun", flush=True)  # noqa: T201 -- to the parent
    await asyncio.gather(*[dribble(number) for number in range(SOCKETS)])


async def latencies_ms(pool: Http1Pool, endpoint_id: str, seconds: float) -> list[float]:
    """Of good clients that submit and get by turns."""
    taken: list[float] = []
    until_s = time.monotonic() + seconds
    headers = b"X-Api-Key: me\r\nContent-Type: application/json\r\n"
    body = json.dumps({"input": {"a": 1}, "workerPort": 1, "processUri": "/"}).encode()

    async def client() -> None:
        while time.monotonic() < until_s:
            for method, path, sent in ((b"POST", "/tasks", body), (b"GET", "/tasks/count", b"")):
                begun_s = time.perf_counter()
                answer = await pool.request(
                    method, f"{ROOT}/{endpoint_id}{path}".encode(), headers, sent, timeout_s=60, max_body_bytes=10**6
                )
                if answer.status != 200:
                    raise RuntimeError(f"A good client was answered {answer.status}.")
                taken.append((time.perf_counter() - begun_s) * 1000)
            await asyncio.sleep(0.005)

    await asyncio.gather(*[client() for _ in range(CLIENTS)])
    return taken


def p99(taken: list[float]) -> float:
    """The 99th percentile."""
    return sorted(taken)[len(taken) * 99 // 100]


async def main(rounds: int) -> int:
    """Measure; the exit code."""
    with tempfile.TemporaryDirectory(prefix="yottabench-crowd-") as folder:
        server = Server(Path(folder) / "stderr.txt", "--ephemeral")
        endpoint_id = server.endpoint(workers=0)
        port = int(server.ready["url"].rpartition(":")[2])
        pool = Http1Pool("127.0.0.1", port, max_idle=CLIENTS)
        alone: list[float] = []
        crowded: list[float] = []
        most = 0
        await latencies_ms(pool, endpoint_id, ROUND_S)
        before_mb = memory_mb(server.process.pid)
        for _ in range(rounds):
            alone.append(p99(await latencies_ms(pool, endpoint_id, ROUND_S)))
            command = [sys.executable, "-m", "tests.torture.crowd", "crowd", str(port), endpoint_id]
            process = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: ASYNC220 -- its first line is waited for
            assert process.stdout is not None
            process.stdout.readline()
            await asyncio.sleep(3)  # until all have connected
            crowded.append(p99(await latencies_ms(pool, endpoint_id, ROUND_S)))
            most = max(most, open_files(server.process.pid))
            process.kill()
            process.wait()
            process.stdout.close()
            await asyncio.sleep(1)
        pool.close()
        grown_mb = memory_mb(server.process.pid) - before_mb
        server.close()
    ratio = statistics.median(crowded) / statistics.median(alone)
    for line in (
        f"{SOCKETS} slow sockets (the server had up to {most} descriptors), {CLIENTS} good clients, {rounds} rounds",
        f"  p99 without   {statistics.median(alone):.2f} ms   ({', '.join(f'{each:.2f}' for each in alone)})",
        f"  p99 with      {statistics.median(crowded):.2f} ms   ({', '.join(f'{each:.2f}' for each in crowded)})",
        f"  ratio         {ratio:.2f}   below {RATIO_MAX:g}: {'kept' if ratio < RATIO_MAX else 'MISSED'}",
        f"  memory        {grown_mb:+.1f} MB",
    ):
        print(line)  # noqa: T201 -- a command
    return 0 if ratio < RATIO_MAX and most > SOCKETS else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["crowd"]:
        asyncio.run(crowd(int(sys.argv[2]), sys.argv[3]))
    sys.exit(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)))
