"""Validity, and how exact figures are that rest on several clocks."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.load.runs import PREFIX, START_EPOCH_MS, START_EPOCH_S, Sent, make_run, write_views
from yottabench.load.audit import Execution, ServerTask
from yottabench.load.figures import correction_ms, uncertainty_ms
from yottabench.load.finish import conclude
from yottabench.load.journal import JournalWriter, task_id
from yottabench.load.profile import Profile, Validity
from yottabench.load.rundir import RunDir, write_lines
from yottabench.load.summary import latency_cells, limits, summary_text
from yottabench.load.verdict import evaluate


def metrics(run: RunDir, shares: list[float], *, due: int = 5) -> None:
    lines: list[dict[str, Any]] = [
        {"t": n + 1.0, "due": due, "cpu": share, "looks": 4, "lists": 1} for n, share in enumerate(shares)
    ]
    run.metrics_file(0).write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))


@pytest.mark.parametrize(("busy", "valid"), [(0, True), (2, True), (3, False), (20, False)])
def test_a_generator_that_is_busy_for_over_a_tenth_of_the_time_makes_a_run_invalid(
    tmp_path: Path, busy: int, valid: bool
):
    run = make_run(tmp_path, [Sent(n, n / 100) for n in range(20)])
    metrics(run, [0.96] * busy + [0.95] * (20 - busy))
    result = evaluate(run)
    assert result["exit_code"] == (0 if valid else 5)
    assert any("was busy" in reason for reason in result["reasons"]) is not valid


def test_how_busy_it_may_be_is_the_profiles_to_say(tmp_path: Path):
    profile = Profile("p", validity=Validity(cpu=0.5))
    run = make_run(tmp_path, [Sent(n, n / 100) for n in range(20)], profile)
    metrics(run, [0.6] * 10)
    assert evaluate(run)["reasons"] == [
        "process 0 was busy: more than 50% of a core in 10 of 10 seconds (add --processes, or lower the rate)"
    ]


def test_a_short_run_may_have_two_busy_seconds(tmp_path: Path):
    run = make_run(tmp_path, [Sent(n, n / 100) for n in range(20)])
    metrics(run, [1.0, 1.0])
    assert evaluate(run)["exit_code"] == 0


def test_seconds_in_which_nothing_was_due_do_not_count(tmp_path: Path):
    run = make_run(tmp_path, [Sent(n, n / 100) for n in range(20)])
    metrics(run, [1.0] * 10, due=0)
    assert evaluate(run)["exit_code"] == 0


def test_a_receiver_that_died_makes_a_run_invalid_and_nothing_undelivered(tmp_path: Path):
    run = make_run(tmp_path, [Sent(0)], webhooks=True, receiver_died=True)
    result = evaluate(run)
    assert (result["exit_code"], result["audit"]["receipts"]) == (5, None)
    assert "the webhook receiver ended" in result["reasons"][0]


def test_what_looking_cost_is_reported(tmp_path: Path):
    run = make_run(tmp_path, [Sent(n, n / 100) for n in range(10)])
    metrics(run, [0.1] * 5)
    result = conclude(run)
    looked = result["detection"]
    assert (looked["requests"], looked["lists"], looked["per_task"], looked["most_per_s"]) == (20, 5, 2.0, 4)
    assert looked["seen_by"] == {"get": 10}
    assert "hybrid: 2 requests per task" in summary_text(result)
    assert "hybrid: 2 requests per task" in run.html_file.read_text("utf-8")


def shifted(run: RunDir, server_ahead_ms: int, worker_ahead_ms: int) -> None:
    """A run of ten tasks on a server and workers whose clocks are ahead; each task takes the same known times."""
    run.journal_file(0).unlink()
    writer = JournalWriter(
        run.journal_file(0), {"prefix": PREFIX, "process": 0, "of": 1, "start_epoch_s": START_EPOCH_S}
    )
    held: list[ServerTask] = []
    done: list[Execution] = []
    for n in range(10):
        sent_ms = n * 100
        made_ms = START_EPOCH_MS + sent_ms + 2 + server_ahead_ms
        writer.intent(n, task_id(PREFIX, n), n / 10, n / 10)
        writer.accepted(n, (sent_ms + 4) / 1000)
        writer.ended(n, (sent_ms + 80) / 1000, "SUCCESS", made_ms, made_ms + 48)
        held.append(ServerTask(task_id(PREFIX, n), "SUCCESS", True, made_ms, made_ms + 48))
        done.append(Execution(task_id(PREFIX, n), 1, made_ms + 10 + worker_ahead_ms, made_ms + 40 + worker_ahead_ms))
    writer.close()
    write_views(run, held, done)


@pytest.mark.parametrize("server_ahead_ms", [0, 500, -70_000])
@pytest.mark.parametrize("worker_ahead_ms", [0, 250, -3_000])
def test_clocks_that_are_far_apart_are_corrected_as_far_as_the_tasks_bound_them(
    tmp_path: Path, server_ahead_ms: int, worker_ahead_ms: int
):
    run = make_run(tmp_path, [Sent(0)], planned=None)
    shifted(run, server_ahead_ms, worker_ahead_ms)
    result = evaluate(run)
    for key, bounds, truth_ms, ahead_ms in (
        ("detection", "clock_ahead_ms", 30, server_ahead_ms),
        ("queued", "worker_clock_ahead_ms", 10, worker_ahead_ms),
    ):
        low, high = result[bounds]
        assert low <= ahead_ms <= high
        floor = result["floors_ms"][key]
        assert abs(result["latency_ms"][key]["p50_ms"] - truth_ms) <= floor + 0.1
    assert result["latency_ms"]["server"]["p50_ms"] == pytest.approx(48, abs=0.1)
    assert result["latency_ms"]["service"]["p50_ms"] == pytest.approx(30, abs=0.1)


@given(st.floats(-1e6, 1e6), st.floats(0, 1e4), st.floats(0, 1))
def test_after_its_correction_a_difference_is_never_wrong_by_more_than_is_said(low: float, width: float, where: float):
    bounds = (low, low + width)
    truth = low + width * where
    assert abs(truth - correction_ms(bounds)) <= uncertainty_ms(bounds) * (1 + 1e-9) + 1e-9


def test_clocks_that_may_agree_are_left_alone():
    assert correction_ms((-3.0, 0.5)) == 0.0
    assert correction_ms(None) == 0.0


def test_nothing_smaller_than_the_clocks_can_tell_is_shown(tmp_path: Path):
    run = make_run(tmp_path, [Sent(n, n / 100, answer_s=0.03, end_s=0.05) for n in range(10)])
    result = conclude(run)
    floor = result["floors_ms"]["detection"]
    assert floor > 10
    assert latency_cells(result, "detection") == [f"<{floor:.1f}"] * 4
    assert any(f"'detection' is no more exact than {floor:.1f} ms" in line for line in limits(result))
    assert f"&lt;{floor:.1f}" in run.html_file.read_text("utf-8")
    assert f"<{floor:.1f}" in run.markdown_file.read_text("utf-8")


def test_a_late_attempt_that_was_given_up_says_nothing_about_clocks(tmp_path: Path):
    run = make_run(tmp_path, [Sent(0)], planned=None)
    shifted(run, 0, 0)
    before = evaluate(run)["worker_clock_ahead_ms"]
    lines = [orjson.loads(line) for line in run.executions_file.read_bytes().splitlines()]
    # The first attempt of a task goes on for a minute after the second one has ended it.
    write_lines(
        run.executions_file, [*lines[1:], lines[0] | {"end": lines[0]["end"] + 60_000}, lines[0] | {"attempt": 2}]
    )
    assert evaluate(run)["worker_clock_ahead_ms"] == before


def test_the_source_of_waiting_and_working_is_said_when_it_is_not_the_workers(tmp_path: Path):
    run = make_run(tmp_path, [Sent(0)], planned=1)
    note = "joined from what the server has recorded of its attempts"
    done = {"id": task_id(PREFIX, 0), "attempt": 1, "start": START_EPOCH_MS + 3, "end": START_EPOCH_MS + 5}
    write_lines(run.executions_file, [done, {"source": "attempts", "note": note}])
    result = conclude(run)
    assert result["detection"]["joined"] is True
    assert note in run.html_file.read_text("utf-8")
