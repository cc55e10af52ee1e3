"""kill -9 and SIGSTOP of server and workers at random, under load: `python -m tests.torture.kills [ROUNDS] [SEED]`.

Each round ends with the death of the server; the next one takes its folder over. Afterwards every acknowledged task
must be there, ended, with the right output, and every webhook must have been told. Ends with 1 when one is not.
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

from tests.end_to_end.faults import forks
from tests.end_to_end.processes import ROOT, Server
from yottabench.emulator.http1 import Http1Error, Http1Pool

CLIENTS = 12
WORKERS = 3
LEASE_S = 1.0


class Load:
    """Clients that submit through all of it, and remember what was acknowledged."""

    def __init__(self, hook: str) -> None:
        self._numbers = itertools.count()
        self._hook = hook
        self.acknowledged: dict[str, int] = {}
        self.sent: set[str] = set()
        self.hooked: set[str] = set()

    async def run(self, port: int, endpoint_id: str, over: asyncio.Event) -> None:
        """Submit to one server until it is gone or `over`."""
        pool = Http1Pool("127.0.0.1", port)

        async def client() -> None:
            while not over.is_set():
                number = next(self._numbers)
                task_id = f"t{number}"
                body: dict[str, Any] = {"taskId": task_id, "input": number, "workerPort": 1, "processUri": "/run"}
                if number % 5 == 0:
                    body["webhook"] = self._hook
                    self.hooked.add(task_id)
                self.sent.add(task_id)
                try:
                    answer = await pool.request(
                        b"POST",
                        f"{ROOT}/{endpoint_id}/tasks".encode(),
                        b"X-Api-Key: me\r\nContent-Type: application/json\r\n",
                        json.dumps(body).encode(),
                        timeout_s=30,
                        max_body_bytes=10**6,
                    )
                except Http1Error:
                    return
                if answer.status == 200:
                    self.acknowledged[task_id] = number
                await asyncio.sleep(0.01)

        await asyncio.gather(*[client() for _ in range(CLIENTS)])
        pool.close()


def worker_pids(server: Server) -> list[int]:
    """The server's children but for its own forks: the sim workers."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [pid for pid in map(int, children) if pid not in forks(server.process.pid)]


async def misfortune(server: Server, chance: random.Random, seconds: float, done: dict[str, int]) -> None:
    """Kill workers and let workers and the server stand still, for a while."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        await asyncio.sleep(chance.uniform(0.1, 0.6))
        pids = worker_pids(server)
        what = chance.choice(["kill", "stop worker", "stop server", "nothing"])
        done[what] = done.get(what, 0) + 1
        if what == "kill" and pids:
            os.kill(chance.choice(pids), signal.SIGKILL)
        elif what != "nothing" and pids:
            pid = chance.choice(pids) if what == "stop worker" else server.process.pid
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(chance.choice([0.05, LEASE_S * 1.3]))
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue


async def told_by(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, told: set[str]) -> None:
    """Somebody who takes webhooks."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r")[0])
            told.add(json.loads(await reader.readexactly(length))["user_task_id"])
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
        writer.close()


def audit(server: Server, endpoint_id: str, load: Load) -> list[str]:
    """What is wrong, once nothing is open any more."""
    while server.data("GET", f"/{endpoint_id}/tasks/count")["processing"]:
        time.sleep(0.2)
    shown: dict[str, Any] = {}
    for page in itertools.count(1):
        items = server.data("GET", f"/{endpoint_id}/tasks?pageSize=100&pageNumber={page}")["items"]
        if not items:
            break
        shown.update({item["taskId"]: item for item in items})
    wrong = [f"{task_id} was acknowledged and is lost" for task_id in load.acknowledged.keys() - shown.keys()]
    wrong += [f"{task_id} was never sent" for task_id in shown.keys() - load.sent]
    wrong += [
        f"{task_id} is {item['status']}: {item['error']}"
        for task_id, item in shown.items()
        if item["status"] not in {"SUCCESS", "DELIVERED"}
    ]
    for task_id in random.Random(1).sample(sorted(load.acknowledged), min(300, len(load.acknowledged))):
        output = server.data("GET", f"/{endpoint_id}/tasks/{task_id}")["output"]
        if output != load.acknowledged[task_id]:
            wrong.append(f"{task_id} has the output {output}")
    return wrong


async def main(rounds: int, seed: int) -> int:
    """Run it; the exit code."""
    chance = random.Random(seed)
    told: set[str] = set()
    done: dict[str, int] = {}
    receiver = await asyncio.start_server(lambda *ends: told_by(*ends, told), "127.0.0.1", 0)
    load = Load(f"http://127.0.0.1:{receiver.sockets[0].getsockname()[1]}/hook")
    with tempfile.TemporaryDirectory(prefix="yottabench-kills-") as folder:
        log = Path(folder) / "stderr.txt"
        # Attempts without end: a task may well meet four deaths here, which must not look like a loss.
        options = ("--data", f"{folder}/data", "--worker-timeout-s", str(LEASE_S), "--max-attempts", "100")
        endpoint_id = ""
        for _ in range(rounds):
            server = Server(log, *options)
            if not endpoint_id:
                variables = [{"key": "SIM_MEAN_MS", "value": "20"}]
                endpoint_id = server.endpoint(image="sim/echo", workers=WORKERS, environmentVars=variables)
            over = asyncio.Event()
            loading = asyncio.ensure_future(load.run(int(server.ready["url"].rpartition(":")[2]), endpoint_id, over))
            await misfortune(server, chance, chance.uniform(0.3, 3), done)
            server.process.kill()
            over.set()
            await loading
            server.close()
        server = Server(log, *options)
        wrong = await asyncio.to_thread(audit, server, endpoint_id, load)
        expected = load.hooked & load.acknowledged.keys()
        until_s = time.monotonic() + 60
        while not expected <= told and time.monotonic() < until_s:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        wrong += [f"the receiver was never told of {task_id}" for task_id in expected - told]
        stats = server.http.get("/_emulator/stats").json()["data"]
        server.close()
        tracebacks = log.read_text().count("Traceback")
        if tracebacks:
            wrong.append(log.read_text()[-6_000:])
    receiver.close()
    for line in (
        f"{rounds} deaths of the server (seed {seed}), {done}",
        f"  sent {len(load.sent)}, acknowledged {len(load.acknowledged)}, wrong {len(wrong)}, tracebacks {tracebacks}",
        f"  {stats}",
        *wrong[:20],
    ):
        print(line)  # noqa: T201 -- a command
    return 1 if wrong or tracebacks else 0


if __name__ == "__main__":
    numbers = [int(each) for each in sys.argv[1:]] + [20, 1][len(sys.argv) - 1 :]
    sys.exit(asyncio.run(main(*numbers[:2])))
