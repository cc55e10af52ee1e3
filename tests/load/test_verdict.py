import json
import math
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest

from tests.load.runs import START_EPOCH_S, Sent, make_run, server_tasks, write_journal, write_views
from yottabench.load.figures import measure, series
from yottabench.load.finish import conclude
from yottabench.load.journal import read_journal
from yottabench.load.profile import Profile, Validity
from yottabench.load.rundir import RunDir, RunDirError
from yottabench.load.verdict import evaluate

GOOD = [Sent(n, n / 20) for n in range(20)]


def test_a_good_run_passes(tmp_path: Path):
    result = evaluate(make_run(tmp_path, GOOD, Profile("p", gates=("e2e_p99_ms <= 50", "error_rate <= 0"))))
    assert (result["verdict"], result["exit_code"], result["reasons"]) == ("PASS", 0, [])
    assert result["counts"]["sent"] == result["counts"]["ended"] == 20
    assert result["rates"]["submitted_per_s"] == 20
    assert result["latency_ms"]["e2e"]["p50_ms"] == pytest.approx(10, rel=1e-3)
    assert result["latency_ms"]["e2e_uncorrected"]["p50_ms"] == pytest.approx(9, rel=1e-3)
    assert result["latency_ms"]["lateness"]["max_ms"] == pytest.approx(1, rel=1e-3)
    assert result["latency_ms"]["service"]["p50_ms"] == pytest.approx(2, rel=1e-3)
    assert json.loads(RunDir(tmp_path).result_file.read_bytes()) == json.loads(json.dumps(result))


def test_judging_again_gives_the_same_answer(tmp_path: Path):
    run = make_run(tmp_path, GOOD)
    assert evaluate(run) == evaluate(run)


def test_a_gate_that_is_not_kept_fails_with_99(tmp_path: Path):
    result = evaluate(make_run(tmp_path, GOOD, Profile("p", gates=("e2e_p95_ms <= 5",))))
    assert (result["verdict"], result["exit_code"]) == ("FAIL", 99)
    assert "e2e_p95_ms <= 5 not kept" in result["reasons"][0]


def test_errors_are_refused_unanswered_and_failed_and_throttling_is_its_own(tmp_path: Path):
    tasks = [
        *GOOD[:16],
        Sent(16, outcome="refused"),
        Sent(17, outcome="throttled"),
        Sent(18, outcome="unknown"),
        Sent(19, status="FAILED"),
    ]
    run = make_run(tmp_path, tasks, Profile("p", gates=("error_rate <= 0.15", "throttle_rate <= 0.05")))
    result = evaluate(run)
    assert result["verdict"] == "PASS"
    assert [gate["value"] for gate in result["gates"]] == [0.15, 0.05]


def test_a_lost_task_fails_with_4_even_when_the_run_is_also_invalid(tmp_path: Path):
    run = make_run(tmp_path, GOOD, interrupted=True, stopped_s=0.5)
    write_views(run, server_tasks(GOOD)[1:], [])
    result = evaluate(run)
    assert (result["verdict"], result["exit_code"]) == ("FAIL", 4)
    assert result["reasons"] == ["audit: 1 lost", "interrupted after 0.5 s"]


def test_a_late_generator_makes_a_run_invalid(tmp_path: Path):
    late = [attrs.evolve(task, late_s=0.2, end_s=0.5) for task in GOOD]
    strict = Profile("p", validity=Validity(lateness_p99_ms=199))
    result = evaluate(make_run(tmp_path / "a", late, strict))
    assert (result["verdict"], result["exit_code"]) == ("INVALID", 5)
    assert "the generator was late: p99 200.1 ms, allowed 199 ms" in result["reasons"][0]
    assert (
        evaluate(make_run(tmp_path / "b", late, Profile("p", validity=Validity(lateness_p99_ms=201))))["verdict"]
        == "PASS"
    )


@pytest.mark.parametrize(("planned", "verdict"), [(20, "PASS"), (21, "INVALID")])
def test_tasks_that_were_planned_and_never_sent_make_a_run_invalid(tmp_path: Path, planned: int, verdict: str):
    result = evaluate(make_run(tmp_path, GOOD, planned=planned))
    assert result["verdict"] == verdict
    assert all("of 21 planned tasks were sent" in reason for reason in result["reasons"])


def test_a_missing_process_makes_a_run_invalid(tmp_path: Path):
    result = evaluate(make_run(tmp_path, GOOD, processes=3))
    assert result["exit_code"] == 5
    assert "no journal of process 1, 2" in result["reasons"][0]


def test_a_process_that_died_makes_a_run_invalid(tmp_path: Path):
    run = make_run(tmp_path, [])
    run.journal_file(0).unlink()
    write_journal(run.journal_file(0), GOOD, closed=False)
    write_views(run, server_tasks(GOOD), [])
    assert evaluate(run)["reasons"] == ["process 0 did not end in order: its journal is cut off"]


def test_a_journal_without_a_first_line_makes_a_run_invalid(tmp_path: Path):
    run = make_run(tmp_path, GOOD)
    run.journal_file(1).write_bytes(b"")
    assert "does not begin with a journal line" in evaluate(run)["reasons"][0]


def test_an_open_task_makes_a_run_invalid(tmp_path: Path):
    result = evaluate(make_run(tmp_path, [*GOOD, Sent(20, 0.9, end_s=None)]))
    assert (result["exit_code"], result["reasons"]) == (
        5,
        ["the audit is open: 1 tasks had not ended when the drain was over"],
    )


def test_without_the_servers_list_a_run_is_invalid(tmp_path: Path):
    run = make_run(tmp_path, GOOD)
    run.server_file.unlink()
    assert "the server's list of tasks could not be read" in evaluate(run)["reasons"][0]


def test_a_list_that_broke_off_counts_as_no_list_and_nothing_as_lost(tmp_path: Path):
    run = make_run(tmp_path, GOOD)
    run.server_file.write_text('{"note": "the list of tasks could not be read: boom"}\n')
    result = evaluate(run)
    assert (result["exit_code"], result["audit"]["lost"]["count"]) == (5, 0)
    assert "the list of tasks could not be read: boom" in result["audit"]["notes"]


def test_a_run_without_tasks_is_invalid_and_still_has_a_report(tmp_path: Path):
    run = make_run(tmp_path, [], planned=0)
    result = conclude(run)
    assert (result["verdict"], result["reasons"]) == ("INVALID", ["no task was sent"])
    assert run.html_file.exists()


def test_latency_counts_from_the_due_time(tmp_path: Path):
    """A server that stalls for a second in every ten, at 100 tasks/s: p95 is 500 ms and p99 900 ms, by arithmetic."""
    tasks: list[Sent] = []
    for n in range(3000):
        due_s = n / 100
        stalled_s = 1 - due_s % 10 if due_s % 10 < 1 else 0.0
        tasks.append(Sent(n, due_s, late_s=stalled_s, answer_s=0.001, end_s=stalled_s + 0.002))
    write_journal(tmp_path / "journal-0.jsonl", tasks)
    figures = measure([read_journal(tmp_path / "journal-0.jsonl")], 30)
    assert figures.e2e.percentile_ms(95) == pytest.approx(500, rel=0.05)
    assert figures.e2e.percentile_ms(99) == pytest.approx(900, rel=0.05)
    assert figures.e2e_from_sent.percentile_ms(99) == pytest.approx(2, rel=0.05)


def test_the_servers_clock_is_bounded_by_the_tasks(tmp_path: Path):
    write_journal(tmp_path / "journal-0.jsonl", GOOD)
    figures = measure([read_journal(tmp_path / "journal-0.jsonl")], 1)
    assert figures.clock_ahead_ms is not None
    low, high = figures.clock_ahead_ms
    assert low <= 0 <= high
    assert high - low < 4


def test_windows_hold_every_task_once_and_rates_fit_their_length(tmp_path: Path):
    tasks = [Sent(n, n / 10) for n in range(96)]
    write_journal(tmp_path / "journal-0.jsonl", tasks)
    figures = measure([read_journal(tmp_path / "journal-0.jsonl")], 9.6)
    assert sum(window.due for window in figures.windows) == sum(window.ended for window in figures.windows) == 96
    assert all(entry["due_per_s"] == pytest.approx(10, rel=0.05) for entry in series(figures))
    assert series(figures)[0]["e2e_p99_ms"] == pytest.approx(10)


def test_a_long_run_has_few_windows(tmp_path: Path):
    write_journal(tmp_path / "journal-0.jsonl", [Sent(0, 0.0), Sent(1, 5000.0)])
    figures = measure([read_journal(tmp_path / "journal-0.jsonl")], 5000)
    assert len(figures.windows) <= 120
    assert sum(window.due for window in figures.windows) == 2
    assert math.isclose(figures.windows[-1].start_s + figures.windows[-1].length_s, 5000.01, rel_tol=0.01)


def test_a_run_folder_is_made_once_for_each_run(tmp_path: Path):
    at = datetime(2027, 1, 15, 8, 0, 0, tzinfo=UTC)
    names = [RunDir.create(tmp_path / "runs", "my run/1", at).path.name for _ in range(3)]
    assert names == ["20270115-080000-my_run_1", "20270115-080000-my_run_1-2", "20270115-080000-my_run_1-3"]


def test_what_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(RunDirError, match="is not the folder of a run"):
        RunDir.open(tmp_path)
    (tmp_path / "meta.json").write_text("{")
    with pytest.raises(RunDirError, match="cannot be read"):
        RunDir.open(tmp_path).read_meta()
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirError, match="Choose another with --out"):
        RunDir.create(tmp_path / "file", "x", datetime(2027, 1, 15, tzinfo=UTC))


def test_the_start_of_a_run_is_one_moment_for_all_processes(tmp_path: Path):
    run = make_run(tmp_path, GOOD)
    journals, problems = run.journals()
    assert not problems
    assert journals[0].start_epoch_s == START_EPOCH_S
