"""However a run ends, it leaves a folder that can be read, the right exit code, and no endpoint."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.load.stub_api import Cheats, StubApi
from tests.load.test_runs import PROFILE, ROOT, begun, children, command, ran, run_dir
from yottabench.load.rundir import RunDir, read_lines
from yottabench.load.schedule import build_schedule

full = pytest.mark.skipif(os.environ.get("LOAD_FULL") != "1", reason="set LOAD_FULL=1 (make load-full)")
MARKED = PROFILE + '[task]\nmark = true\n[endpoint]\nimage = "sim/echo"\n'


def soon(true: Callable[[], object], process: "subprocess.Popen[str] | None" = None) -> None:
    until_s = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until_s
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.02)


def opening(folder: Path, stub: StubApi) -> "subprocess.Popen[str]":
    """A run whose endpoint was made and never gets ready."""
    process = subprocess.Popen(
        command(folder, stub.url), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    soon(lambda: stub.made, process)
    return process


@pytest.mark.parametrize(
    "killed", [pytest.param(False, id="SIGTERM"), pytest.param(True, id="kill -9 of Locust", marks=full)]
)
def test_a_run_that_is_stopped_while_its_endpoint_is_made_leaves_none(tmp_path: Path, killed: bool):
    with StubApi(Cheats(never_ready=True)) as stub:
        process = opening(tmp_path, stub)
        if killed:
            (locust,) = children(process.pid)
            os.kill(locust, signal.SIGKILL)
        else:
            process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert (stub.made, stub.deleted) == (1, 1)
    assert process.returncode == 2
    assert "could not begin" in errors
    assert not run_dir(tmp_path).endpoint_file.exists()


def test_a_killed_master_leaves_a_judged_run_and_no_process(tmp_path: Path):
    with StubApi() as stub:
        process = begun(tmp_path, stub.url, "--processes", "2")
        (master,) = children(process.pid)
        workers = children(master)
        os.kill(master, signal.SIGKILL)
        out, _ = process.communicate(timeout=90)
        assert stub.deleted == 1
    result = json.loads(out)
    assert process.returncode == result["exit_code"] == 5
    assert len(workers) == 2
    soon(lambda: not any(alive(pid) for pid in workers))
    assert result["audit"]["lost"]["count"] == 0
    assert result["counts"]["sent"] > 0
    assert run_dir(tmp_path).html_file.exists()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@full
def test_a_killed_worker_of_locust_is_missed_by_the_master_and_the_rest_goes_on(tmp_path: Path):
    with StubApi() as stub:
        process = begun(tmp_path, stub.url, "--processes", "2", "--duration", "6")
        (locust,) = children(process.pid)
        os.kill(children(locust)[0], signal.SIGKILL)
        out, _ = process.communicate(timeout=120)
        assert stub.deleted == 1
    result = json.loads(out)
    assert process.returncode == 5
    assert sum("did not end in order" in reason for reason in result["reasons"]) == 1
    journals, _ = run_dir(tmp_path).journals()
    assert sorted(journal.closing is None for journal in journals) == [False, True]


@full
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_same_seed_sends_the_same_tasks_at_the_same_moments(tmp_path: Path, processes: int):
    ended, _ = ran(tmp_path, None, "--processes", str(processes), "--seed", "11")
    assert ended.code == 0, ended.result["reasons"]
    journals, _ = ended.run.journals()
    assert len(journals) == processes
    sent = sorted(pair for journal in journals for pair in zip(journal.seq, journal.due_s, strict=True))
    planned = build_schedule(ended.run.read_profile().arrivals, 11)
    assert sent == [(arrival.seq, round(arrival.due_s, 6)) for arrival in planned]


def test_webhooks_end_a_run_without_looking_and_their_faults_are_found(tmp_path: Path):
    cheats = Cheats(drop_webhook=lambda n: n == 3, double_webhook=lambda n: n == 9, swap_result=lambda n: n == 14)
    profile = MARKED.replace("[detection]", '[detection]\nmode = "webhook"\nreconcile_every_ms = 300')
    ended, stub = ran(tmp_path, cheats, profile=profile)
    audit, looked = ended.result["audit"], ended.result["detection"]
    found = {name: audit[name]["count"] for name in ("undelivered", "redelivered", "mismatched", "lost", "duplicated")}
    assert found == {"undelivered": 1, "redelivered": 1, "mismatched": 1, "lost": 0, "duplicated": 0}
    assert ended.code == 4
    assert audit["receipts"] == stub.submits == ended.result["counts"]["ended"]
    assert looked["seen_by"]["webhook"] >= stub.submits / 2
    assert looked["per_task"] < 1
    # What the harness keeps of a run never holds the key of its webhooks.
    key = "webhookAuthKey"
    assert all(key not in path.read_text("utf-8") for path in ended.run.path.iterdir() if path.suffix != ".out")
    assert all("id" in line for line in read_lines(ended.run.receipts_file))


@full
def test_a_receiver_that_is_killed_makes_the_run_invalid(tmp_path: Path):
    with StubApi() as stub:
        process = begun(tmp_path, stub.url, "--detection", "webhook", "--api-qps", "v1", processes=1)
        (locust,) = children(process.pid)
        (receiver,) = children(locust)
        os.kill(receiver, signal.SIGKILL)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=90)
    result = json.loads(out)
    assert process.returncode == 5
    assert any("the webhook receiver ended" in reason for reason in result["reasons"])
    assert result["detection"]["api_qps"] == 60


def test_a_count_that_lies_fails_the_run(tmp_path: Path):
    ended, _ = ran(tmp_path, Cheats(miscount=2))
    assert (ended.code, ended.result["reasons"]) == (4, ["audit: 2 miscounted"])


def test_locusts_own_table_holds_each_request_once_and_nothing_else(tmp_path: Path):
    with StubApi() as stub:
        profile = tmp_path / "p.toml"
        profile.write_text(PROFILE)
        arguments = ["--headless", "-u", "1", "--only-summary", "--host", stub.url]
        arguments += ["--load-profile-file", str(profile), "--runs-dir", str(tmp_path / "runs")]
        done = subprocess.run(
            [sys.executable, "-m", "locust", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    table = done.stderr[: done.stderr.index("Response time percentiles")]
    rows = {match[1]: int(match[2]) for match in re.finditer(r"^.*?(\w+) +(\d+) +0\(0\.00%\) \|", table, re.MULTILINE)}
    aggregated = rows.pop("Aggregated")
    assert set(rows) <= {"submitTask", "getTaskById", "listTasks"}
    assert rows["submitTask"] == stub.submits
    assert aggregated == sum(rows.values())
    result = RunDir(next((tmp_path / "runs").iterdir())).read_result()
    assert result is not None
    assert aggregated == result["counts"]["sent"] + result["detection"]["requests"]
