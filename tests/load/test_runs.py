"""Whole runs, each in processes of its own as a user starts them, against a server that can cheat."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.load.stub_api import Cheats, StubApi
from yottabench.load.journal import read_journal
from yottabench.load.rundir import RunDir
from yottabench.load.schedule import build_schedule

ROOT = Path(__file__).parents[2]
PROFILE = """
gates = ["error_rate <= 0.5"]
[arrivals]
rate = 60
duration_s = 0.8
[detection]
sweep_every_ms = 100
[limits]
request_timeout_s = 0.5
drain_timeout_s = 2
[validity]
lateness_p99_ms = 5000
cpu = 100
"""


@attrs.frozen
class Ended:
    code: int
    result: dict[str, Any]
    run: RunDir
    stderr: str


def command(folder: Path, url: str, *more: str, profile: str = PROFILE) -> list[str]:
    path = folder / "mine.toml"
    path.write_text(profile)
    return [
        sys.executable,
        "-m",
        "yottabench",
        "load",
        "run",
        str(path),
        "--host",
        url,
        "--out",
        str(folder / "runs"),
        "--json",
        *more,
    ]


def run_dir(folder: Path) -> RunDir:
    (path,) = (folder / "runs").iterdir()
    return RunDir(path)


def ran(folder: Path, cheats: Cheats | None = None, *more: str, profile: str = PROFILE) -> tuple[Ended, StubApi]:
    with StubApi(cheats) as stub:
        done = subprocess.run(
            command(folder, stub.url, *more, profile=profile),
            cwd=ROOT,
            capture_output=True,
            timeout=90,
            text=True,
            check=False,
        )
    run = run_dir(folder)
    log = (run.path / "locust.log").read_text() if (run.path / "locust.log").exists() else ""
    assert done.stdout.startswith("{"), f"{done.stderr}\n{log}"
    return Ended(done.returncode, json.loads(done.stdout), run, done.stderr), stub


def test_an_honest_server_passes_and_its_endpoint_is_made_and_removed_once(tmp_path: Path):
    ended, stub = ran(tmp_path)
    assert (ended.code, ended.result["verdict"], ended.result["reasons"]) == (0, "PASS", [])
    assert ended.result["counts"]["sent"] == ended.result["counts"]["planned"] == stub.submits > 30
    assert ended.result["audit"]["executions"] == stub.submits
    assert (stub.made, stub.deleted) == (1, 1)
    assert ended.run.html_file.exists()
    assert ended.run.markdown_file.exists()


def test_two_processes_send_the_schedule_that_one_would(tmp_path: Path):
    ended, stub = ran(tmp_path, None, "--processes", "2", "--seed", "11")
    assert ended.code == 0, ended.result["reasons"]
    assert (stub.made, stub.deleted) == (1, 1)
    journals, _ = ended.run.journals()
    assert [len(journal) > 5 for journal in journals] == [True, True]
    sent = sorted(pair for journal in journals for pair in zip(journal.seq, journal.due_s, strict=True))
    planned = build_schedule(ended.run.read_profile().arrivals, 11)
    assert sent == [(arrival.seq, round(arrival.due_s, 6)) for arrival in planned]


def test_lost_tasks_fail_the_run_and_are_named(tmp_path: Path):
    ended, _ = ran(tmp_path, Cheats(forget=lambda n: n in (3, 17)))
    assert ended.code == 4
    assert ended.result["audit"]["lost"]["count"] == 2
    assert ended.result["reasons"][0] == "audit: 2 lost"


def test_double_executions_and_ghosts_fail_the_run(tmp_path: Path):
    ended, _ = ran(tmp_path, Cheats(execute_twice=lambda n: n == 5, ghosts=("ghost_1",)))
    assert ended.code == 4
    assert ended.result["audit"]["unexpected"]["ids"] == ["ghost_1"]
    assert ended.result["audit"]["duplicated"]["count"] == 1


@pytest.mark.parametrize("style", ["status", "envelope200"])
def test_throttling_is_an_outcome_of_its_own(tmp_path: Path, style: str):
    ended, _ = ran(tmp_path, Cheats(throttle=lambda n: n % 4 == 0, refuse=lambda n: n % 10 == 1, error_style=style))
    counts = ended.result["counts"]
    assert ended.code == 0, ended.result["reasons"]
    assert counts["throttled"] == -(-counts["sent"] // 4)
    assert counts["refused"] == sum(n % 10 == 1 and n % 4 != 0 for n in range(counts["sent"]))
    assert ended.result["audit"]["throttled"] == counts["throttled"]


def test_submits_without_an_answer_are_resolved_by_asking_never_by_sending_again(tmp_path: Path):
    cheats = Cheats(
        stall=lambda n: n == 8, answer_500_but_keep=lambda n: n == 12, answer_500_and_forget=lambda n: n == 20
    )
    ended, stub = ran(tmp_path, cheats)
    counts, audit = ended.result["counts"], ended.result["audit"]
    assert ended.code == 0, ended.result["reasons"]
    assert counts["unknown"] == 3
    assert (audit["unknown_there"], audit["unknown_absent"]) == (2, 1)
    assert stub.submits == counts["sent"]
    assert "ReadTimeout" in ended.result["refusals"]


def test_tasks_that_never_end_leave_the_run_invalid(tmp_path: Path):
    ended, _ = ran(tmp_path, Cheats(never_end=lambda n: n == 4))
    assert ended.code == 5
    assert ended.result["audit"]["open_"]["count"] == 1


def test_the_httpx_client_gives_the_same_run(tmp_path: Path):
    ended, _ = ran(tmp_path, None, "--client", "httpx")
    assert ended.code == 0, ended.result["reasons"]
    assert ended.result["run"]["client"] == "httpx"


@pytest.mark.parametrize("mode", ["get-quantile", "list-sweep"])
def test_every_way_of_looking_finds_every_end(tmp_path: Path, mode: str):
    ended, _ = ran(tmp_path, profile=PROFILE.replace("[detection]", f'[detection]\nmode = "{mode}"'))
    assert ended.code == 0, ended.result["reasons"]
    assert ended.result["counts"]["ended"] == ended.result["counts"]["sent"]


def begun(folder: Path, url: str, *more: str, processes: int | None = None) -> "subprocess.Popen[str]":
    """A run that would go on for a minute, as soon as it has sent something."""
    process = subprocess.Popen(
        command(folder, url, *(() if "--duration" in more else ("--duration", "60")), *more),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until_s = time.monotonic() + 60
    while time.monotonic() < until_s:
        if (folder / "runs").is_dir():
            journals = list(run_dir(folder).path.glob("journal-*.jsonl"))
            if (
                journals
                and all(path.stat().st_size > 1000 for path in journals)
                and len(journals) == (processes or (2 if more else 1))
            ):
                return process
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("nothing was sent")


def children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_is_drained_audited_reported_and_invalid(tmp_path: Path, number: int):
    with StubApi() as stub:
        process = begun(tmp_path, stub.url)
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
        assert stub.deleted == 1
    result = json.loads(out)
    assert process.returncode == 5
    assert result["reasons"][0].startswith("interrupted after")
    assert result["counts"]["sent"] == result["counts"]["planned"] == result["audit"]["ended"]
    assert run_dir(tmp_path).html_file.exists()


def test_a_killed_locust_still_leaves_a_judged_run_and_no_endpoint(tmp_path: Path):
    with StubApi() as stub:
        process = begun(tmp_path, stub.url)
        (locust,) = children(process.pid)
        os.kill(locust, signal.SIGKILL)
        out, _ = process.communicate(timeout=60)
        assert stub.deleted == 1
    result = json.loads(out)
    assert process.returncode == 5
    assert any("did not end in order" in reason for reason in result["reasons"])
    assert result["audit"]["lost"]["count"] == 0
    assert run_dir(tmp_path).html_file.exists()


def test_a_killed_worker_of_locust_makes_the_run_invalid(tmp_path: Path):
    with StubApi() as stub:
        process = begun(tmp_path, stub.url, "--processes", "2")
        (locust,) = children(process.pid)
        os.kill(children(locust)[0], signal.SIGKILL)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=90)
        assert stub.deleted == 1
    result = json.loads(out)
    assert process.returncode == 5
    assert sum("did not end in order" in reason for reason in result["reasons"]) == 1
    journals, _ = run_dir(tmp_path).journals()
    assert sum(journal.closing is None for journal in journals) == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--host", "http://127.0.0.1:1"], "Nothing answers at http://127.0.0.1:1"),
        (["--trace", "no-such.csv"], "Cannot read the trace"),
        (["--rate", "0"], "rate must be at least 0.001"),
        (["--duration", "-1"], "duration_s must be at least 0.1"),
    ],
)
def test_what_cannot_run_says_why_and_ends_with_2(tmp_path: Path, more: list[str], said: str):
    arguments = command(tmp_path, "http://127.0.0.1:1")
    done = subprocess.run([*arguments, *more], cwd=ROOT, capture_output=True, timeout=60, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""


def test_an_old_run_is_judged_again_by_other_gates(tmp_path: Path):
    ended, _ = ran(tmp_path)
    file = ended.run.profile_file
    file.write_text(file.read_text().replace("error_rate <= 0.5", "completed_per_s >= 1000"))
    again = subprocess.run(
        [sys.executable, "-m", "yottabench", "load", "report", str(ended.run.path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 99
    assert "completed_per_s >= 1000" in again.stdout
    assert read_journal(ended.run.journal_file(0)).closing is not None


def test_the_profiles_are_listed_with_what_they_are():
    listed = subprocess.run(
        [sys.executable, "-m", "yottabench", "load", "profiles"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {"smoke", "steady", "azure-code"} <= {line.split()[0] for line in listed.stdout.splitlines()}
