"""An emulator as a user runs it, and a receiver of webhooks: real processes, real sockets."""

import contextlib
import http.server
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

ROOT = "/v2/serverless"
ENOUGH_S = 30.0  # far more than anything here takes: who waits longer waits for ever


def until(reached: Callable[[], Any]) -> Any:
    """What `reached` gives as soon as it gives something."""
    deadline_s = time.monotonic() + ENOUGH_S
    while not (found := reached()):
        assert time.monotonic() < deadline_s, "It never came to this."
        time.sleep(0.02)
    return found


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not yet reaped by its parent does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return state.strip() != "" and not state.startswith("Z")


class Server:
    """One `yottabench serve --json`, ready to serve."""

    def __init__(self, log: Path, *options: str, **environment: str) -> None:
        command = [sys.executable, "-m", "yottabench", "serve", "--port", "0", "--json", *options]
        self.log = log
        with log.open("a") as stderr:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=stderr, text=True, env={**os.environ, **environment}
            )
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline()
        assert self.first_line, log.read_text()
        self.ready = json.loads(self.first_line)
        self.http = httpx.Client(base_url=self.ready["url"], headers={"X-Api-Key": "me"}, trust_env=False, timeout=20)

    def data(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.http.request(method, ROOT + path, json=body)
        assert answer.json()["code"] == 10000, answer.text
        return answer.json()["data"]

    def endpoint(self, **changes: Any) -> str:
        body = {
            "name": "e2e",
            "image": "sim/echo",
            "resources": [{"region": "r", "gpuType": "g", "gpuCount": 1}],
            "workers": 1,
            "containerVolumeInGb": 20,
            "serviceMode": "QUEUE",
            **changes,
        }
        return self.data("POST", "", body)["id"]

    def submit(self, endpoint_id: str, payload: Any, **changes: Any) -> str:
        body = {"input": payload, "workerPort": 8000, "processUri": "/run", **changes}
        return self.data("POST", f"/{endpoint_id}/tasks", body)["taskId"]

    def ended(self, endpoint_id: str, task_id: str, *statuses: str) -> Any:
        """The task, as soon as it has one of these statuses."""
        wanted = statuses or ("SUCCESS", "FAILED", "DELIVERED")

        def look() -> Any:
            task = self.data("GET", f"/{endpoint_id}/tasks/{task_id}")
            return task if task["status"] in wanted else None

        return until(look)

    def worker_pids(self, endpoint_id: str, count: int) -> list[int]:
        """The processes of its workers, once there are so many; their logs tell."""

        def look() -> list[int]:
            found = []
            for worker in self.data("GET", f"/{endpoint_id}/workers?statusList=RUNNING"):
                logs = self.data("GET", f"/{endpoint_id}/workers/{worker['id']}/logs")["logs"]
                found += [int(pid) for entry in logs for pid in re.findall(r" pid=(\d+)", entry["log"])]
            return found if len(found) == count else []

        return until(look)

    def end(self, how: int = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(ENOUGH_S)

    def close(self) -> None:
        self.http.close()
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


Serve = Callable[..., Server]
Receive = Callable[..., "Receiver"]


def refused(*options: str) -> str:
    """What a server says that does not start."""
    command = [sys.executable, "-m", "yottabench", "serve", *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=ENOUGH_S, check=False)
    assert ended.returncode in {1, 2}
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    return " ".join(ended.stderr.replace("│", " ").split())


class Receiver:
    """Takes webhooks on a real socket and answers with the statuses it was given, the last one for ever."""

    def __init__(self, *statuses: int) -> None:
        self.told: list[tuple[dict[str, str], Any]] = []
        answers = itertools.chain(statuses, itertools.repeat(statuses[-1]))
        told = self.told

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = next(answers)
                self.send_response(status)
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()
                told.append(({name.lower(): value for name, value in self.headers.items()}, json.loads(body)))

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def raw(url: str, *pieces: bytes) -> tuple[int, dict[str, Any]]:
    """Status and envelope of the answer to these bytes; what is still to be sent when it comes is not."""
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port or 80), timeout=ENOUGH_S) as connection:
        with contextlib.suppress(OSError):
            for piece in pieces:
                connection.sendall(piece)
        answer = b""
        with contextlib.suppress(OSError):
            while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
                got = connection.recv(65536)
                if not got:
                    break
                answer += got
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)
