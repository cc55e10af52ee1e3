"""`yottabench chaos` as a user runs it."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

ENOUGH_S = 30.0


@contextlib.contextmanager
def chaos(*options: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "yottabench", "chaos", *options]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def read(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def tell(process: "subprocess.Popen[str]", command: str) -> dict[str, Any]:
    assert process.stdin is not None
    process.stdin.write(command + "\n")
    process.stdin.flush()
    return read(process)


def test_rules_are_given_at_start_and_changed_while_it_runs_and_nothing_that_passes_is_shown() -> None:
    secret = b"Authorization: planted-secret"
    with socket.create_server(("127.0.0.1", 0)) as target:
        target.settimeout(ENOUGH_S)
        address = f"127.0.0.1:{target.getsockname()[1]}"
        options = ("--target", f"http://{address}/", "--rule", "reset count=1", "--stdin", "--json")
        with chaos(*options) as process:
            ready = read(process)
            assert ready == {
                "ready": True,
                "listen": ready["listen"],
                "target": address,
                "pid": process.pid,
                "rules": [{"id": "r1", "rule": "reset towards=both count=1"}],
            }
            host, _, port = ready["listen"].partition(":")

            def connect() -> socket.socket:
                return socket.create_connection((host, int(port)), timeout=ENOUGH_S)

            with pytest.raises(ConnectionResetError), connect() as broken:  # it may come before the connect returns
                broken.recv(1)
            with connect() as whole:
                whole.sendall(secret)
                accepted, _ = target.accept()
                with accepted:
                    assert accepted.recv(100) == secret
            assert tell(process, "add garbage ms=1")["error"].startswith("'ms=1' is nothing that garbage has.")
            assert tell(process, "add slow rate=10") == {"added": "r2", "rule": "slow towards=both rate=10"}
            assert tell(process, "remove r1") == {"removed": "r1"}
            assert "There is no rule 'r1'" in tell(process, "remove r1")["error"]
            assert tell(process, "clear") == {"cleared": ["r2"]}
            assert "is no command" in tell(process, "explode")["error"]
            stats = tell(process, "stats")
            assert (stats["connections"], stats["bytes_to_target"]) == (2, len(secret))
            assert process.stdin is not None
            process.stdin.close()  # whoever holds it has ended
            assert read(process)["ended"] is True
            assert process.wait(ENOUGH_S) == 0
            assert process.stderr is not None
            assert process.stderr.read() == ""


def test_a_person_is_told_where_it_listens_and_in_the_end_what_it_did() -> None:
    with chaos("--target", "localhost:9", "--rule", "latency ms=5 jitter=2 towards=client") as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(3)]
        assert said[0].startswith("yottabench chaos listens on 127.0.0.1:")
        assert said[0].endswith(" and passes on to localhost:9\n")
        assert said[1:] == ["  r1   latency towards=client ms=5 jitter=2\n", "Stop it with Ctrl-C.\n"]
        process.send_signal(signal.SIGINT)
        assert process.stdout.read().startswith("0 connections")
        assert process.wait(ENOUGH_S) == 0
