"""Locust's usual way, in its web interface: the number of users is the rate. Only with LOAD_FULL=1."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.load.stub_api import StubApi
from yottabench.load.journal import Journal
from yottabench.load.rundir import RunDir

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(os.environ.get("LOAD_FULL") != "1", reason="LOAD_FULL=1 runs Locust's web interface")


def until(what: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    end_s = time.monotonic() + 60
    while time.monotonic() < end_s:
        assert process.poll() is None
        try:
            if what():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def journal_of(folder: Path) -> Journal:
    (path,) = folder.iterdir()
    (journal,), _ = RunDir(path).journals()
    return journal


def test_the_users_slider_of_the_web_page_sets_the_rate(tmp_path: Path):
    port = free_port()
    with StubApi() as stub, httpx.Client(base_url=f"http://127.0.0.1:{port}") as page:
        command = [sys.executable, "-m", "locust", "--locustfile", str(ROOT / "loadtest" / "locustfile.py")]
        command += ["--host", stub.url, "--web-host", "127.0.0.1", "--web-port", str(port)]
        locust = subprocess.Popen(
            [*command, "--runs-dir", str(tmp_path), "--tasks-per-user", "2"], stderr=subprocess.DEVNULL
        )
        try:
            until(lambda: page.get("/").status_code == 200, locust)
            assert "tasks_per_user" in page.get("/").text
            for users, tasks in ((20, 200), (60, 1000)):
                answer = page.post("/swarm", data={"user_count": users, "spawn_rate": 200, "host": stub.url})
                assert answer.json()["success"], answer.text
                until(lambda tasks=tasks: stub.submits >= tasks, locust)
            rows = page.get("/stats/requests").json()["extended_stats"][0]["data"]
            assert next(row["count"] for row in rows if row["name"] == "Tasks acknowledged") >= 800
        finally:
            locust.send_signal(signal.SIGTERM)
            locust.wait(60)
    due_s = list(journal_of(tmp_path).due_s)
    # The 150th task came at 40/s and the 950th at 120/s; counts of 100 and 500 Poisson arrivals, five sigma wide.
    assert 100 / (due_s[150] - due_s[50]) == pytest.approx(40, rel=0.5)
    assert 500 / (due_s[950] - due_s[450]) == pytest.approx(120, rel=0.25)
