import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.load.runs import Sent, executions, make_run, server_tasks, write_views
from yottabench.load.actions import Actor, action_doubts, check_actions, read_done, workers_of
from yottabench.load.audit import Execution
from yottabench.load.finish import conclude
from yottabench.load.outcome import note_abort
from yottabench.load.profile import Action, Arrivals, EmulatorSettings, Mix, Profile, ProfileError, TaskSettings
from yottabench.load.reads import ReadTally, reads_file, write_tally
from yottabench.load.rundir import RunDir
from yottabench.load.summary import markdown_report, summary_text

TASKS = [Sent(seq, due_s=seq * 0.01) for seq in range(50)]
KILL = Profile("p", actions=(Action("kill-worker", 0.0),))


def test_a_run_ended_early_fails_though_it_was_interrupted(tmp_path: Path):
    run = make_run(tmp_path / "run", TASKS, interrupted=True, stopped_s=0.5)
    assert conclude(run)["exit_code"] == 5
    note_abort(run, "e2e_p95_ms <= 5 can no longer be kept")
    result = conclude(run)
    assert (result["verdict"], result["exit_code"]) == ("FAIL", 99)
    assert result["reasons"] == ["ended early: e2e_p95_ms <= 5 can no longer be kept"]
    assert "ended early   e2e_p95_ms <= 5 can no longer be kept" in summary_text(result)


def test_tasks_still_open_do_not_save_a_run_that_was_ended_early(tmp_path: Path):
    run = make_run(tmp_path / "run", [*TASKS, Sent(50, due_s=0.5, end_s=None)], interrupted=True)
    note_abort(run, "hopeless")
    assert conclude(run)["exit_code"] == 99


def test_a_late_generator_makes_a_run_invalid_even_if_it_was_ended_early(tmp_path: Path):
    run = make_run(tmp_path / "run", [Sent(seq, due_s=seq * 0.01, late_s=0.4) for seq in range(50)])
    note_abort(run, "hopeless")
    assert conclude(run)["exit_code"] == 5


def test_a_fault_comes_before_everything_else(tmp_path: Path):
    run = make_run(tmp_path / "run", TASKS)
    write_views(run, server_tasks(TASKS[1:]), executions(TASKS[1:]))
    note_abort(run, "hopeless")
    assert conclude(run)["exit_code"] == 4


@pytest.mark.parametrize(
    ("gate", "code"), [("lost = 0", 0), ("duplicated = 0", 0), ("first_end_s <= 1", 0), ("first_end_s <= 0.001", 99)]
)
def test_gates_on_counts_and_on_the_first_end(tmp_path: Path, gate: str, code: int):
    assert conclude(make_run(tmp_path / "run", TASKS, Profile("p", gates=(gate,))))["exit_code"] == code


def test_a_thin_percentile_is_said_in_the_report(tmp_path: Path):
    report = markdown_report(conclude(make_run(tmp_path / "run", TASKS, Profile("p", gates=("e2e_p99_ms <= 500",)))))
    assert "e2e_p99_ms <= 500 was judged by 50 tasks; 459 without a miss are the fewest" in report


def test_expected_refusals_are_no_errors_and_accepted_breaches_break_their_gate(tmp_path: Path):
    profile = Profile("p", gates=("error_rate <= 0", "bad_accepted = 0"), task=TaskSettings(bad=0.5))
    refused = [Sent(seq, due_s=seq * 0.01, outcome="refused" if seq % 2 else "accepted") for seq in range(40)]
    result = conclude(make_run(tmp_path / "sound", refused, profile))
    assert result["exit_code"] == 0
    assert ("20 of 20 refused as they should be") in summary_text(result)
    result = conclude(make_run(tmp_path / "unsound", TASKS[:40], profile))
    assert result["exit_code"] == 99
    assert "0 of 20 refused as they should be   TAKEN: workerPort 0 (2)" in summary_text(result)


def test_tasks_with_more_than_one_attempt_are_counted(tmp_path: Path):
    run = make_run(tmp_path / "run", TASKS, Profile("p", gates=("retried <= 0",)))
    held, done = server_tasks(TASKS), executions(TASKS)
    write_views(run, held, [*done[1:], Execution(done[0].task_id, 2, done[0].start_ms, done[0].end_ms)])
    result = conclude(run)
    assert (result["exit_code"], result["retried"]) == (99, 1)
    assert "1 tasks needed more than one attempt" in summary_text(result)


def test_reads_are_told_and_their_gates_judged(tmp_path: Path):
    gates = ("get_p95_ms <= 50", "read_error_rate <= 0.1", "count_p50_ms <= 1")
    run = make_run(tmp_path / "run", TASKS, Profile("p", gates=gates, mix=Mix(get=1)))
    assert "the profile's reads were not made" in conclude(run)["reasons"]
    tally = ReadTally(made=10, errors=1)
    for _ in range(9):
        tally.latencies.record_s(0.02)
    write_tally(reads_file(run, 0), 1.0, "get", tally)
    result = conclude(run)
    assert [gate["kept"] for gate in result["gates"]] == [True, True, False]  # nothing was counted
    assert "10   p50/p95/p99 20.0 / 20.0 / 20.0 ms from due   throttled 0   errors 1" in summary_text(result)


def test_times_are_told_by_size(tmp_path: Path):
    profile = Profile("p", task=TaskSettings(body="sized", sizes=(100, 5000)))
    tasks = [Sent(seq, due_s=seq * 0.01, end_s=0.5 if seq % 2 else 0.1) for seq in range(20)]
    result = conclude(make_run(tmp_path / "run", tasks, profile))
    assert [(size, found["count"], round(found["p50_ms"], -1)) for size, found in result["by_size"].items()] == [
        ("100", 10, 100),
        ("5000", 10, 500),
    ]


# ---- actions


def begun(folder: Path, **meta: Any) -> RunDir:
    run = RunDir(folder)
    run.update_meta(
        **{"start_epoch_s": time.time(), "duration_s": 1.0, "host": "http://127.0.0.1:1"} | meta,
        endpoint={"endpoint_id": "7"},
    )
    return run


def test_a_killed_worker_is_one_of_the_emulators_children(tmp_path: Path):
    emulator = subprocess.Popen(
        ["sh", "-c", "sleep 60 & echo started; wait"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert emulator.stdout is not None
    with emulator, emulator.stdout:
        assert emulator.stdout.readline() == "started\n"
        (worker,) = workers_of(emulator.pid)
        actor = Actor(KILL, begun(tmp_path), emulator.pid)
        actor.start()
        actor.join(30)
        emulator.wait(30)
    (done,) = read_done(RunDir(tmp_path))
    assert (done.do, done.ok, done.what) == ("kill-worker", True, f"killed worker process {worker}, one of 1")
    assert done.at_s is not None
    assert action_doubts(KILL, [done]) == []


def test_the_emulators_writing_process_is_no_worker():
    table = (
        "7 1 yottabench serve --port 0\n 9 7 python -m worker\n8 7 yottabench serve --port 0\n6 1 python -m worker\n"
    )

    def ps(*_: Any, **__: Any) -> "subprocess.CompletedProcess[str]":
        return subprocess.CompletedProcess([], 0, table)

    assert workers_of(7, ps) == [9]


def test_an_action_that_fails_is_told_and_makes_the_run_doubtful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("YOTTA_API_KEY", raising=False)
    profile = Profile("p", actions=(Action("scale", 0.0, 3), Action("kill-worker", 0.0)))
    actor = Actor(profile, begun(tmp_path, host="https://api.example"), None)
    actor.start()
    actor.join(60)
    done = read_done(RunDir(tmp_path))
    assert [one.ok for one in done] == [False, False]
    doubts = action_doubts(profile, done)
    assert doubts[0].startswith("the action scale at 0.0 s was not done: https://api.example needs an API key")
    assert doubts[1] == "the action kill-worker at 0.0 s was not done: the run started no emulator"


def test_actions_that_were_never_reached_are_told(tmp_path: Path):
    profile = Profile("p", actions=(Action("kill-worker", 1.0),))
    actor = Actor(profile, begun(tmp_path, duration_s=3600.0), None)
    actor.start()
    actor.stop()
    (done,) = read_done(RunDir(tmp_path))
    assert (done.ok, done.what) == (False, "the run ended before")
    unbegun = Actor(profile, RunDir(tmp_path / "nowhere"), None)
    unbegun.stop()  # never started: nothing to wait for
    assert "`yottabench load run`, which does them" in action_doubts(profile, [])[0]


def test_killing_needs_an_emulator_of_the_run_and_scaling_does_not():
    check_actions(KILL, emulator=True)
    check_actions(Profile("p", actions=(Action("scale", 0.5, 2),)), emulator=False)
    with pytest.raises(ProfileError, match="Leave --host out"):
        check_actions(KILL, emulator=False)


def test_an_emulator_gets_the_options_that_the_profile_wants():
    assert EmulatorSettings().options == []
    assert EmulatorSettings(limits="documented").options == ["--limits", "documented"]
    assert Arrivals().tick_s is None
