"""The webhook receiver: what it takes, what it refuses, and that a receipt is on disk before it is acknowledged."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from yottabench.load.children import start_receiver
from yottabench.load.receiver import KEY_VARIABLE, Receipts, sent_ms
from yottabench.load.rundir import read_lines

KEY = "the-key-of-this-run"
HEADERS = {"X-API-Key": KEY}


def told(task_id: str = "r1_7", **changes: Any) -> dict[str, Any]:
    return {
        "task_id": 1,
        "user_task_id": task_id,
        "endpoint_id": "380000000000000001",
        "status": "Success",
        "success": True,
        "timestamp": "2027-01-15 08:00:00.250",
        "retry_count": 1,
        "result": {"yottabench_task": task_id},
    } | changes


def taken(folder: Path, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, list[dict[str, Any]]]:
    receipts = Receipts(folder / "receipts.jsonl", KEY, now_s=lambda: 5.5)
    status, _ = receipts.take({"x-api-key": KEY} if headers is None else headers, body)
    receipts.close()
    return status, list(read_lines(folder / "receipts.jsonl"))


def test_a_webhook_becomes_one_line_with_what_the_audit_needs(tmp_path: Path):
    status, lines = taken(tmp_path, json.dumps(told()).encode())
    endpoint = "380000000000000001"
    stamp = 1_800_000_000_250
    assert status == 200
    assert lines == [
        {"at": 5.5, "id": "r1_7", "endpoint": endpoint, "ok": True, "send": 1, "sent": stamp, "mark": "r1_7"}
    ]


@pytest.mark.parametrize("headers", [{}, {"x-api-key": "another"}, {"x-api-key": ""}])
def test_without_the_key_nothing_is_taken_and_the_key_is_never_written(tmp_path: Path, headers: dict[str, str]):
    status, lines = taken(tmp_path, json.dumps(told()).encode(), headers)
    assert status == 401
    assert [set(line) for line in lines] == [{"at", "refused"}]
    assert KEY not in (tmp_path / "receipts.jsonl").read_text()


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"nope", b'{"user_task_id": 7}', json.dumps(told(success="yes")).encode()]
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, body: bytes):
    status, lines = taken(tmp_path, body)
    assert status == 400
    assert "id" not in lines[0]


@pytest.mark.parametrize("stamp", ["", "yesterday", None, 12])
def test_an_unreadable_stamp_is_no_stamp(stamp: object):
    assert sent_ms(stamp) == 0


def test_a_receiver_in_its_own_process_takes_many_and_ends_when_asked(tmp_path: Path):
    file = tmp_path / "receipts.jsonl"
    receiver, url = start_receiver(file, KEY, "127.0.0.1", 0)
    with receiver, httpx.Client(base_url=url) as http:
        for n in range(20):
            assert http.post("/", json=told(f"r1_{n}"), headers=HEADERS).status_code == 200
            # It is on disk before it is acknowledged.
            assert len(list(read_lines(file))) == n + 1
        assert http.post("/", json=told(), headers={"X-API-Key": "no"}).status_code == 401
        assert http.get("/").status_code == 405
        assert http.post("/", content=b"x", headers=HEADERS).status_code == 400
        large = http.post("/", content=b"x" * 16_000_001, headers=HEADERS)
        assert large.status_code == 413
        with socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0)) as sock:
            sock.sendall(b"\x00\x01nonsense\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 400")
        receiver.ask_to_end()
        receiver.end(grace_s=5.0)
    assert receiver.exit_code == 0
    assert [line["id"] for line in read_lines(file) if "id" in line] == [f"r1_{n}" for n in range(20)]


def test_a_receiver_without_a_key_does_not_start(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "yottabench.load.receiver", str(tmp_path / "r.jsonl")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={},
    )
    assert done.returncode == 2
    assert KEY_VARIABLE in done.stderr
