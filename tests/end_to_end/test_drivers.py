"""Every driver and the gateway with real processes: a server of ours, workers that are programs written here."""

import contextlib
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import pytest

from tests.emulator.docker_daemon import FakeDaemon, FakeImage

T = TypeVar("T")

# A program as people write them: it knows its host and port, answers tasks, and can be told to die or to be slow.
PROGRAM = """
import http.server, json, os, sys, time
host, port = sys.argv[1], int(sys.argv[2])
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        whole = b""
        while size := int(self.rfile.readline(), 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole
    def answer(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def chunk(self, data):
        self.wfile.write(b"%x\\r\\n%b\\r\\n" % (len(data), data))
        self.wfile.flush()
    def do_GET(self):
        if self.path == "/health":
            self.answer("up")
        elif self.path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for number in range(10_000):
                    self.chunk(b"data: %d\\n\\n" % number)
                    time.sleep(0.02)
            except OSError:
                print("client gone", flush=True)
        elif self.path == "/break":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.chunk(b"half")
            os._exit(9)
        else:
            self.answer({"path": self.path, "host": self.headers["Host"], "pid": os.getpid()}, 404)
    def do_POST(self):
        body = self.body()
        if self.path == "/die":
            os._exit(9)
        self.answer({
            "bytes": len(body), "host": host, "port": port, "pid": os.getpid(), "model": os.environ.get("MODEL"),
            "told": os.environ.get("TOLD"), "key": self.headers.get("X-Api-Key"), "task": self.headers.get("X-Task-Id"),
        })
    def log_message(self, *args):
        pass
if os.environ.get("HELPER"):
    import subprocess
    helper = subprocess.Popen(["sh", "-c", "setsid sleep 300 & exec sleep 300"])
print("serving on", host, port, flush=True)
http.server.ThreadingHTTPServer((host, port), Handler).serve_forever()
"""


class Server:
    """`yottabench serve` in a process of its own."""

    def __init__(self, folder: Path, *options: str, env: dict[str, str] | None = None) -> None:
        self.log = folder.parent / "server.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "yottabench", "serve", "--port", "0", "--json", "--data", str(folder), *options],
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **(env or {})},
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        self.url = json.loads(line)["url"]
        self.port = int(self.url.rpartition(":")[2])
        self.http = httpx.Client(base_url=self.url, headers={"X-Api-Key": "me"}, timeout=20, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGTERM)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.http.close()

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(20)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        envelope = self.http.request(method, f"/v2/serverless{path}", json=body).json()
        assert envelope["code"] == 10000, envelope
        return envelope["data"]

    def endpoint(self, image: str, **changes: Any) -> str:
        """A running endpoint of this image."""
        body = {
            "name": "it",
            "image": image,
            "resources": [{"region": "here", "gpuType": "NVIDIA_L4_24G", "gpuCount": 1}],
            "workers": 1,
            "containerVolumeInGb": 20,
            "expose": {"port": 8000, "protocol": "http"},
            "serviceMode": "QUEUE",
            **changes,
        }
        endpoint_id = self.call("POST", "", body)["id"]
        self.runs(endpoint_id, body["workers"])
        return endpoint_id

    def runs(self, endpoint_id: str, workers: int) -> None:
        until(lambda: self.call("GET", f"/{endpoint_id}")["runningWorkers"] == workers or None)

    def submit(self, endpoint_id: str, uri: str = "/run") -> str:
        body = {"input": {"a": 1}, "workerPort": 8000, "processUri": uri}
        return self.call("POST", f"/{endpoint_id}/tasks", body)["taskId"]

    def output(self, endpoint_id: str, task_id: str) -> Any:
        def ended() -> Any:
            task = self.call("GET", f"/{endpoint_id}/tasks/{task_id}")
            return None if task["status"] == "PROCESSING" else task

        task = until(ended)
        assert task["status"] == "SUCCESS", task
        return task["output"]

    def task(self, endpoint_id: str, uri: str = "/run") -> Any:
        return self.output(endpoint_id, self.submit(endpoint_id, uri))

    def worker_lines(self, endpoint_id: str) -> list[str]:
        workers = self.call("GET", f"/{endpoint_id}/workers")
        pages = [self.call("GET", f"/{endpoint_id}/workers/{worker['id']}/logs") for worker in workers]
        return [entry["log"] for page in pages for entry in page["logs"]]


def until(look: Callable[[], T | None]) -> T:
    """What `look` finds, which must be something before long."""
    for _ in range(2000):
        found = look()
        if found is not None:
            return found
        time.sleep(0.01)
    raise AssertionError("it did not come about")


def gone(pids: list[int]) -> bool:
    def look() -> bool | None:
        return None if any(runs(pid) for pid in pids) else True

    return until(look)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    """Every process that `pid` started, and those that they started."""
    with contextlib.suppress(OSError):
        children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return children + [each for child in children for each in descendants(child)]
    return []


on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder whose images file maps the image `program`."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM)
    (folder / "images.toml").write_text(
        f'[[image]]\npattern = "program"\ncommand = ["{sys.executable}", "program.py", "{{host}}", "{{port}}"]\n'
    )
    return folder


# ---- command


def test_tasks_are_done_by_a_program_of_this_machine(data: Path) -> None:
    with Server(data) as server:
        endpoint_id = server.endpoint(
            "program:v1",
            environmentVars=[{"key": "MODEL", "value": "llama"}],
            initializationCommand="echo preparing; export TOLD=yes",
            workers=2,
        )
        outputs = [server.task(endpoint_id) for _ in range(4)]
        assert {output["host"].startswith("127.") for output in outputs} == {True}
        # Both workers listen on the very port that the task names.
        assert len({output["host"] for output in outputs}) == 2
        assert {output["port"] for output in outputs} == {8000}
        assert {(output["bytes"], output["model"], output["told"]) for output in outputs} == {(7, "llama", "yes")}
        lines = server.worker_lines(endpoint_id)
        assert lines.count("preparing") == 2
        assert len([line for line in lines if line.startswith("serving on 127.")]) == 2


def test_a_program_that_dies_is_replaced_and_its_task_goes_to_another(data: Path) -> None:
    with Server(data) as server:
        endpoint_id = server.endpoint("program", workers=2)
        before = {worker["id"] for worker in server.call("GET", f"/{endpoint_id}/workers")}
        task_id = server.submit(endpoint_id, "/die")

        def failed() -> Any:
            task = server.call("GET", f"/{endpoint_id}/tasks/{task_id}")
            return task if task["status"] == "FAILED" else None

        assert "No worker ended this task in 4 attempts" in until(failed)["error"]
        server.runs(endpoint_id, 2)
        after = {worker["id"] for worker in server.call("GET", f"/{endpoint_id}/workers")}
        assert not before & after
        assert server.task(endpoint_id)["bytes"] == 7


@on_linux
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_programs_when_the_server_ends(data: Path, how: signal.Signals) -> None:
    with Server(data) as server:
        endpoint_id = server.endpoint("program", environmentVars=[{"key": "HELPER", "value": "1"}])
        output = server.task(endpoint_id)
        family = until(lambda: found if len(found := descendants(output["pid"])) == 2 else None)
        code = server.end(how)
        assert code == (0 if how is signal.SIGTERM else -signal.SIGKILL)
    assert gone([output["pid"], *family])
    # And the next server of the same data goes on where that one was.
    with Server(data) as server:
        server.runs(endpoint_id, 1)
        assert server.task(endpoint_id)["pid"] != output["pid"]


def test_a_program_that_cannot_be_started_is_said_why_in_the_servers_log(data: Path) -> None:
    (data / "images.toml").write_text('[[image]]\npattern = "typo"\ncommand = ["vlm", "serve"]\n')
    with Server(data) as server:
        body = {
            "name": "it",
            "image": "typo",
            "resources": [{"region": "here", "gpuType": "NVIDIA_L4_24G", "gpuCount": 1}],
            "workers": 1,
            "containerVolumeInGb": 20,
            "expose": {"port": 8000, "protocol": "http"},
            "serviceMode": "QUEUE",
        }
        endpoint_id = server.call("POST", "", body)["id"]
        log = until(lambda: text if "typo" in (text := server.log.read_text()) or "cannot start" in text else None)
        assert "exited with code 127 before it was ready. Its last line: cannot start vlm: No such file" in log
        server.call("DELETE", f"/{endpoint_id}")


# ---- external


@pytest.fixture
def elsewhere() -> Iterator[http.server.ThreadingHTTPServer]:
    """A server that runs already, and is none of ours."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            body = json.dumps({"path": self.path, "got": json.loads(self.rfile.read(7))}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_tasks_are_done_by_servers_that_run_already(
    data: Path, elsewhere: http.server.ThreadingHTTPServer, tmp_path: Path
) -> None:
    images = tmp_path / "there.toml"
    images.write_text(f'[[image]]\npattern = "far/*"\nurls = ["http://127.0.0.1:{elsewhere.server_port}"]\n')
    with Server(data, "--images", str(images)) as server:
        endpoint_id = server.endpoint("far/model:1", workers=1)
        task_id = server.submit(endpoint_id, "/v1/run")
        assert server.output(endpoint_id, task_id) == {"path": "/v1/run", "got": {"a": 1}}
        task = server.call("GET", f"/{endpoint_id}/tasks/{task_id}")
        assert task["workerUrl"] == f"http://127.0.0.1:{elsewhere.server_port}"
        server.call("POST", f"/{endpoint_id}/stop")
        until(lambda: server.call("GET", f"/{endpoint_id}")["status"] == "STOPPED" or None)
    with httpx.Client(trust_env=False) as client:
        assert client.get(f"http://127.0.0.1:{elsewhere.server_port}/").status_code == 200


# ---- docker, by a daemon that is made up


def test_tasks_are_done_by_containers_and_orphans_are_removed(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("docker")
    with FakeDaemon(tmp_path / "docker.sock") as daemon:
        daemon.remote["me/model:1"] = FakeImage(says=["loading", "ready"])
        env = {"DOCKER_HOST": daemon.url}
        with Server(data, "--driver", "docker", env=env) as server:
            endpoint_id = server.endpoint("me/model:1", workers=2)
            assert server.task(endpoint_id) == {"a": 1}
            lines = until(lambda: found if (found := server.worker_lines(endpoint_id)).count("ready") == 2 else None)
            assert "pulling image me/model:1" in lines
            server.call("PUT", f"/{endpoint_id}/workers?count=1")
            until(lambda: len(daemon.containers) == 1 or None)
            left = set(daemon.containers)
            server.end(signal.SIGKILL)
        assert set(daemon.containers) == left
        with Server(data, "--driver", "docker", env=env) as server:
            server.runs(endpoint_id, 1)
            assert not left & set(daemon.containers)
        assert not daemon.containers


# ---- what cannot be


@pytest.mark.parametrize(
    ("file", "options", "words"),
    [
        ("[[image]]\npattern = 'a'\ncommand = 'x'", [], 'line 1, [[image]] no. 1 ("a"): command must be a list'),
        ("", ["--images", "no.toml"], "no.toml cannot be read: No such file or directory"),
        ("", ["--driver", "podman"], "--driver podman names no driver. There are: docker"),
        ("", ["--driver", "docker"], "--driver docker found no Docker daemon that answers"),
    ],
)
def test_a_server_that_cannot_run_images_as_it_was_told_does_not_start(
    data: Path, file: str, options: list[str], words: str
) -> None:
    (data / "images.toml").write_text(file)
    ended = subprocess.run(
        [sys.executable, "-m", "yottabench", "serve", "--port", "0", "--json", "--data", str(data), *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "DOCKER_HOST": f"unix://{data}/none.sock"},
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert words in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr


def test_an_image_that_nobody_takes_is_simulated_and_the_server_says_so(data: Path) -> None:
    with Server(data, "--cold-start-s", "0.05") as server:
        endpoint_id = server.endpoint("vllm/vllm-openai:latest")
        assert server.task(endpoint_id) == {"a": 1}
        lines = server.worker_lines(endpoint_id)
        assert any(line.startswith("cold start: ready in 0.") for line in lines)
        assert "Image vllm/vllm-openai:latest is mapped to no driver and runs simulated" in server.log.read_text()


# ---- the gateway


@pytest.fixture
def alb(data: Path) -> Iterator[tuple[Server, str]]:
    with Server(data, "--gateway-timeout-s", "5") as server:
        yield server, server.endpoint("program", serviceMode="ALB", workers=2)


def test_requests_reach_the_workers_of_an_alb_endpoint(alb: tuple[Server, str]) -> None:
    server, endpoint_id = alb
    domain = server.call("GET", f"/{endpoint_id}")["domain"]
    assert domain == f"{endpoint_id}.localhost:{server.port}"
    by_path = server.http.post(f"/_gateway/{endpoint_id}/run", content=b"hello")
    by_host = server.http.post("/run", headers={"Host": domain}, content=iter([b"he", b"llo"]))
    assert [answer.status_code for answer in (by_path, by_host)] == [200, 200]
    assert [answer.json()["bytes"] for answer in (by_path, by_host)] == [5, 5]
    assert {answer.json()["host"] for answer in (by_path, by_host)} != {"127.0.0.1"}
    assert by_path.json()["key"] is None
    assert by_path.json()["pid"] != by_host.json()["pid"]  # in turn
    missing = server.http.get("/a?b=c", headers={"Host": domain})
    assert (missing.status_code, missing.json()["path"], missing.json()["host"]) == (404, "/a?b=c", domain)


def test_events_come_as_they_are_sent_and_end_when_the_client_leaves(alb: tuple[Server, str]) -> None:
    server, endpoint_id = alb
    with server.http.stream("GET", f"/_gateway/{endpoint_id}/events") as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        lines = answer.iter_lines()
        assert [next(lines), next(lines), next(lines)] == ["data: 0", "", "data: 1"]
    until(lambda: "client gone" in server.worker_lines(endpoint_id) or None)


def test_a_large_request_passes_while_it_is_still_being_written(alb: tuple[Server, str]) -> None:
    server, endpoint_id = alb

    def pieces() -> Iterator[bytes]:
        for _ in range(64):
            yield b"x" * 262_144

    answer = server.http.post(f"/_gateway/{endpoint_id}/run", content=pieces())
    assert answer.json()["bytes"] == 64 * 262_144


def test_an_answer_that_breaks_off_is_seen_to_break_off(alb: tuple[Server, str]) -> None:
    server, endpoint_id = alb
    with pytest.raises(httpx.RemoteProtocolError):
        server.http.get(f"/_gateway/{endpoint_id}/break")
    assert server.http.post(f"/_gateway/{endpoint_id}/run", content=b"1").status_code == 200


def test_a_client_that_waits_for_100_continue_is_answered(alb: tuple[Server, str]) -> None:
    server, endpoint_id = alb
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        sock.sendall(
            f"POST /_gateway/{endpoint_id}/run HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: me\r\nContent-Length: 3\r\n"
            "Expect: 100-continue\r\n\r\n".encode()
        )
        reader = sock.makefile("rb")
        assert reader.readline().startswith(b"HTTP/1.1 100")
        assert reader.readline() == b"\r\n"
        sock.sendall(b"abc")
        assert reader.readline().startswith(b"HTTP/1.1 200")
        reader.close()


def test_without_workers_the_gateway_says_503(alb: tuple[Server, str]) -> None:
    server, endpoint_id = alb
    server.call("PUT", f"/{endpoint_id}/workers?count=0")
    answer = until(
        lambda: got if (got := server.http.get(f"/_gateway/{endpoint_id}/health")).status_code != 200 else None
    )
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, 24000, "1")


def test_requests_for_other_hosts_do_not_reach_a_worker(alb: tuple[Server, str]) -> None:
    server, endpoint_id = alb
    answer = server.http.get("/health", headers={"Host": f"{endpoint_id}.evil.example"})
    assert answer.json() != "up"
    answer = server.http.get(f"/_gateway/{endpoint_id}/health", headers={"Host": "evil.example"})
    assert answer.status_code == 421
