"""Many clients that submit one and the same task at once, to a real server with a real worker."""

import concurrent.futures
import http.client
import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.servers import emulator

CLIENTS = 100


class Worker(http.server.ThreadingHTTPServer):
    """Counts the tasks that it is given."""

    daemon_threads = True

    def __init__(self) -> None:
        self.tasks: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Worker

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.tasks.append(self.headers["X-Task-Id"])
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(url: str, method: str, path: str, body: Any = None) -> dict[str, Any]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    sent = None if body is None else json.dumps(body)
    connection.request(method, f"/v2/serverless{path}", sent, {"X-Api-Key": "me", "Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def test_a_hundred_identical_submits_at_once_are_one_task_and_one_execution(tmp_path: Path, worker: Worker) -> None:
    images = tmp_path / "images.toml"
    port = worker.server_address[1]
    images.write_text(f'[[image]]\npattern = "mine"\nurls = ["http://127.0.0.1:{port}"]\n')
    with emulator(tmp_path / "data", "--images", str(images)) as url:
        endpoint = {
            "name": "same",
            "image": "mine",
            "resources": [{"region": "r", "gpuType": "NVIDIA_RTX_4090_24G", "gpuCount": 1}],
            "workers": 1,
            "containerVolumeInGb": 20,
            "serviceMode": "QUEUE",
        }
        number = ask(url, "POST", "", endpoint)["data"]["id"]
        body = {"taskId": "once", "input": {"n": 1}, "workerPort": port, "processUri": "/run"}
        together = threading.Barrier(CLIENTS)

        def client(_: int) -> dict[str, Any]:
            together.wait(30)
            return ask(url, "POST", f"/{number}/tasks", body)

        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            answers = list(pool.map(client, range(CLIENTS)))
        assert {(answer["code"], answer["data"]["taskId"]) for answer in answers} == {(10000, "once")}
        until = time.monotonic() + 30
        while (task := ask(url, "GET", f"/{number}/tasks/once")["data"])["status"] == "PROCESSING":
            assert time.monotonic() < until
            time.sleep(0.01)
        assert task["status"] == "SUCCESS"
        assert ask(url, "GET", f"/{number}/tasks")["data"]["total"] == 1
        assert ask(url, "GET", f"/{number}/tasks/count")["data"] == {"processing": 0}
        assert worker.tasks == ["once"]
