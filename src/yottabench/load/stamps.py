"""The stamps of every task of a run, joined from all views: one row each, in seconds from the run's start."""

import csv
import math
from array import array
from collections.abc import Iterator
from typing import TextIO

from yottabench.load.figures import correction_ms, measure
from yottabench.load.journal import ACCEPTED, Journal
from yottabench.load.rundir import RunDir
from yottabench.load.views import Rows, executions, join_stamps, server_tasks

COLUMNS = (
    "task_id",
    "outcome",
    "status",
    "due_s",
    "sent_s",
    "accepted_s",
    "created_s",
    "worker_start_s",
    "worker_end_s",
    "ended_s",
    "delivered_s",
    "detected_s",
)
OUTCOMES = ("silent", "accepted", "refused", "throttled", "unknown")


def write_stamps(run: RunDir, to: TextIO) -> int:
    """Writes the table as CSV; says how many tasks are in it. What nobody told is left empty.

    Server and worker stamps are whole milliseconds of their clocks. The server's are put on the generator's clock as
    far as the tasks bound the two; the workers' are taken for the server's.
    """
    journals, _ = run.journals()
    join_stamps(run, journals)
    off_ms = correction_ms(measure(journals, 0.0).clock_ahead_ms)
    worked = _worked(run, journals)
    delivered = _delivered(run, journals)
    writer = csv.writer(to, lineterminator="\n")
    writer.writerow(COLUMNS)
    for journal in journals:
        start_ms = journal.start_epoch_s * 1000 + off_ms
        starts, ends = worked[id(journal)]
        for row in range(len(journal)):
            accepted_s = journal.answered_s[row] if journal.outcome[row] == ACCEPTED else math.nan
            theirs = (journal.created_ms[row], starts[row], ends[row], journal.updated_ms[row])
            since = [
                (at_ms - start_ms) / 1000 if at_ms else math.nan for at_ms in (*theirs, delivered[id(journal)][row])
            ]
            ours = (journal.due_s[row], journal.sent_s[row], accepted_s)
            times = (*ours, *since, journal.detected_s[row])
            cells = ("" if math.isnan(each) else f"{each:.6f}" for each in times)
            status = journal.statuses[journal.status[row]]
            writer.writerow((journal.task_id(row), OUTCOMES[journal.outcome[row]], status, *cells))
    return sum(len(journal) for journal in journals)


def _zeros(journal: Journal) -> "array[int]":
    return array("q", bytes(8 * len(journal)))


def _worked(run: RunDir, journals: list[Journal]) -> "dict[int, tuple[array[int], array[int]]]":
    """When each task's last execution began and ended, by journal."""
    found = {id(journal): (_zeros(journal), _zeros(journal)) for journal in journals}
    for (journal, row), start_ms, end_ms in _executed(run, Rows(journals)):
        starts, ends = found[id(journal)]
        if start_ms >= starts[row]:
            starts[row], ends[row] = start_ms, end_ms
    return found


def _executed(run: RunDir, rows: Rows) -> Iterator[tuple[tuple[Journal, int], int, int]]:
    for execution in executions(run):
        place = rows.find(execution.task_id)
        if place is not None:
            yield place, execution.start_ms, execution.end_ms


def _delivered(run: RunDir, journals: list[Journal]) -> "dict[int, array[int]]":
    """When each task's webhook was acknowledged, by journal."""
    found = {id(journal): _zeros(journal) for journal in journals}
    rows = Rows(journals)
    for task in server_tasks(run):
        place = rows.find(task.task_id)
        if place is not None:
            found[id(place[0])][place[1]] = task.delivered_ms
    return found
