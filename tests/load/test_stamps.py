import csv
import io
from pathlib import Path

import pytest

from tests.load.runs import PREFIX, START_EPOCH_MS, Sent, executions, make_run, server_tasks, write_views
from yottabench.load.audit import Execution, ServerTask
from yottabench.load.journal import task_id
from yottabench.load.rundir import RunDir
from yottabench.load.stamps import COLUMNS, write_stamps

TASKS = [Sent(0, 0.0), Sent(1, 0.1, outcome="refused"), Sent(2, 0.2, end_s=None), Sent(3, 0.3, outcome="silent")]


def rows(run: RunDir) -> list[dict[str, str]]:
    text = io.StringIO()
    count = write_stamps(run, text)
    found = list(csv.DictReader(io.StringIO(text.getvalue())))
    assert len(found) == count
    return found


def test_every_task_has_a_row_and_what_nobody_told_is_empty(tmp_path: Path):
    found = rows(make_run(tmp_path, TASKS))
    assert [row["outcome"] for row in found] == ["accepted", "refused", "accepted", "silent"]
    assert list(found[0]) == list(COLUMNS)
    assert [bool(row["detected_s"]) for row in found] == [True, False, False, False]
    assert [bool(row["accepted_s"]) for row in found] == [True, False, True, False]
    assert [row["due_s"] for row in found] == ["0.000000", "0.100000", "0.200000", "0.300000"]


def test_the_stamps_of_a_task_are_in_the_order_of_its_life(tmp_path: Path):
    run = make_run(tmp_path, [Sent(0, end_s=0.05)])
    held = server_tasks([Sent(0, end_s=0.05)])
    made_ms, done_ms = START_EPOCH_MS + 2, START_EPOCH_MS + 47
    held = [ServerTask(held[0].task_id, "DELIVERED", True, made_ms, done_ms, delivered_ms=done_ms + 2)]
    write_views(run, held, [Execution(task_id(PREFIX, 0), 1, made_ms + 3, done_ms - 1)])
    (row,) = rows(run)
    life = ("due", "sent", "created", "accepted", "worker_start", "worker_end", "ended", "delivered", "detected")
    times = [float(row[f"{name}_s"]) for name in life]
    assert times == sorted(times)


def test_of_several_executions_the_last_one_counts(tmp_path: Path):
    run = make_run(tmp_path, [Sent(0)])
    first = executions([Sent(0)])[0]
    second = Execution(first.task_id, 2, first.start_ms + 100, first.end_ms + 100)
    write_views(run, server_tasks([Sent(0)]), [second, first])
    (row,) = rows(run)
    assert float(row["worker_start_s"]) == pytest.approx(0.103, abs=1e-6)
