"""The control surface of a real server: what only real sockets, processes and files can show."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

Serve = Callable[..., "Served"]


class Served:
    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url
        self.http = httpx.Client(base_url=url, headers={"X-Api-Key": "me"}, trust_env=False, timeout=20)

    def told(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        answer = self.http.request(method, f"/_emulator/{path}", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def end(self, how: int = signal.SIGTERM) -> int:
        self.http.close()
        self.process.send_signal(how)
        return self.process.wait(20)


@pytest.fixture
def serve() -> Iterator[Serve]:
    with contextlib.ExitStack() as running:

        def start(*options: str) -> Served:
            command = [sys.executable, "-m", "yottabench", "serve", "--port", "0", "--json", "--ephemeral", *options]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            running.enter_context(process)
            running.callback(process.kill)
            assert process.stdout is not None
            served = Served(process, json.loads(process.stdout.readline())["url"])
            running.callback(served.http.close)
            return served

        yield start


def test_faults_of_the_connection_are_faults_of_a_real_connection(serve: Serve) -> None:
    served = serve()
    served.told("POST", "faults", {"kind": "reset", "operation": "listEndpoints", "count": 1})
    with pytest.raises(httpx.ReadError, match="reset by peer"):
        served.http.get("/v2/serverless")
    served.told("POST", "faults", {"kind": "garbage", "operation": "listEndpoints", "count": 1})
    garbled = served.http.get("/v2/serverless")
    assert garbled.status_code == 200
    with pytest.raises(UnicodeDecodeError):
        garbled.content.decode()
    served.told("POST", "faults", {"kind": "drop", "operation": "listEndpoints", "count": 1})
    with pytest.raises(httpx.ReadTimeout):
        served.http.get("/v2/serverless", timeout=0.2)
    assert served.http.get("/v2/serverless").status_code == 200


def test_an_answer_that_a_fault_holds_back_does_not_keep_the_server_from_ending(serve: Serve) -> None:
    served = serve()
    served.told("POST", "faults", {"kind": "drop", "operation": "listEndpoints"})
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as waiting:
        waiting.sendall(b"GET /v2/serverless HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: me\r\n\r\n")
        while served.told("GET", "faults")[0]["fired"] == 0:
            pass
        assert served.end() == 0
        waiting.settimeout(20)
        with pytest.raises(ConnectionResetError):
            waiting.recv(1)


def test_a_server_on_loopback_answers_to_its_own_names_only(serve: Serve) -> None:
    served = serve()
    for host, status in (("localhost", 200), ("evil.example", 421), ("127.0.0.1.evil.example:80", 421)):
        assert served.http.get("/_emulator/live", headers={"Host": host}).status_code == status
        assert served.http.get("/v2/serverless", headers={"Host": host}).status_code == status


def test_the_key_of_the_control_surface_is_read_from_its_file(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("# ours\ncontrol-secret\n", encoding="utf-8")
    served = serve("--control-key-file", str(tmp_path / "key"))
    assert served.http.get("/_emulator/live").status_code == 401
    assert served.told("GET", "live", **{"X-Control-Key": "control-secret"}) is True
    assert "control-secret" not in str(served.told("GET", "settings", **{"X-Control-Key": "control-secret"}))


@pytest.mark.parametrize(
    ("text", "says"), [("", "holds no key"), ("a\nb\n", "holds 2 keys"), ("\u00e9\n", "not printable ASCII")]
)
def test_a_control_key_file_that_is_no_use_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "key").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "yottabench", "serve", "--ephemeral", "--control-key-file", str(tmp_path / "key")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert says in " ".join(done.stderr.replace("│", " ").split())


def test_a_server_ends_with_its_standard_input_when_asked(serve: Serve) -> None:
    served = serve("--end-with-stdin")
    assert served.process.stdin is not None
    served.process.stdin.close()
    assert served.process.wait(20) == 0


def test_a_server_goes_on_without_its_standard_input_unless_asked(serve: Serve) -> None:
    served = serve()
    assert served.process.stdin is not None
    served.process.stdin.close()
    assert served.told("GET", "live") is True


def test_a_standard_input_that_cannot_be_watched_is_refused() -> None:
    command = [sys.executable, "-m", "yottabench", "serve", "--port", "0", "--ephemeral", "--end-with-stdin"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "--end-with-stdin cannot watch" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_seed_file_is_there_from_the_first_answer_on(serve: Serve, tmp_path: Path) -> None:
    seed = tmp_path / "seed.toml"
    seed.write_text(
        'apiKey = "me"\n[[endpoints]]\nname = "chat"\nimage = "sim/echo"\nserviceMode = "QUEUE"\nworkers = 1\n'
        "containerVolumeInGb = 20\n"
        'resources = [{ region = "us-east-1", gpuType = "NVIDIA_L4_24G", gpuCount = 1 }]\n',
        encoding="utf-8",
    )
    served = serve("--seed-file", str(seed))
    assert [each["name"] for each in served.http.get("/v2/serverless").json()["data"]] == ["chat"]


def test_a_seed_file_that_is_wrong_keeps_the_server_from_starting(tmp_path: Path) -> None:
    seed = tmp_path / "seed.json"
    seed.write_text('{"apiKey": "me", "endpoints": [{"name": "1"}]}', encoding="utf-8")
    command = [sys.executable, "-m", "yottabench", "serve", "--port", "0", "--ephemeral", "--seed-file", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "endpoints[0]: " in done.stderr
    assert "Traceback" not in done.stderr
