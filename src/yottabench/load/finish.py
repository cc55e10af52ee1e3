"""The end of a run: ask the server what it holds, judge, write the reports."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yottabench.client import YottaError
from yottabench.load.attempts import NoRecord
from yottabench.load.audit import Execution, ServerTask
from yottabench.load.journal import ACCEPTED, Journal
from yottabench.load.report import html_report
from yottabench.load.rundir import RunDir, write_lines
from yottabench.load.summary import markdown_report
from yottabench.load.target import EndpointInUse, Target
from yottabench.load.verdict import evaluate

POLL_S, QUIET_S, SETTLE_AT_MOST_S = 0.1, 0.5, 5.0
MOST_READINGS = 5  # of the server's list, while tasks whose submit got no answer still come


def collect(run: RunDir, target: Target, endpoint: EndpointInUse) -> None:
    """Writes down what the server holds and what its workers executed; what cannot be read is noted in the files."""
    journals, _ = run.journals()
    for reading in range(1, MOST_READINGS + 1):
        listing = _Listing(target, endpoint, journals, last=reading == MOST_READINGS)
        write_lines(run.server_file, listing.lines())
        if not listing.moved or not endpoint.made_by_run:
            break
    ended = sum(1 for journal in journals for status in journal.status if status)
    write_lines(run.executions_file, _execution_lines(target, endpoint.endpoint_id, ended, journals))


def settle(receipts: Path) -> None:
    """Waits until webhooks have stopped coming, but not for long: one that is sent again later is no news."""
    until_s = time.monotonic() + SETTLE_AT_MOST_S
    size, quiet_s = -1, 0.0
    while time.monotonic() < until_s and quiet_s < QUIET_S:
        time.sleep(POLL_S)
        now = receipts.stat().st_size if receipts.exists() else 0
        size, quiet_s = now, quiet_s + POLL_S if now == size else 0.0


def conclude(run: RunDir) -> dict[str, Any]:
    """Judges the run from its files and writes result.json, report.html and report.md."""
    result = evaluate(run)
    run.write_text(run.html_file, html_report(result))
    run.write_text(run.markdown_file, markdown_report(result))
    return result


class _Listing:
    """One reading of everything that the server holds; `moved` when tasks came meanwhile.

    Pages count from the newest task, so one that comes shifts all others: the next page begins with what the last one
    ended with. Meeting a task twice proves nothing then.
    """

    def __init__(self, target: Target, endpoint: EndpointInUse, journals: list[Journal], *, last: bool) -> None:
        self._target = target
        self._endpoint = endpoint
        self._last = last
        self.moved = False
        self._unsure = {
            journal.task_id(row)
            for journal in journals
            for row, outcome in enumerate(journal.outcome)
            if outcome != ACCEPTED
        }

    def lines(self) -> Iterator[dict[str, Any]]:
        endpoint_id = self._endpoint.endpoint_id
        try:
            before = self._target.count(endpoint_id)
            yield from self._listed()
            for task_id in sorted(self._unsure):
                found = self._target.task(endpoint_id, task_id)
                if found is not None:
                    yield _line(found)
            if not self.moved and self._target.count(endpoint_id) == before:
                # What changed while the list was read cannot be compared with it.
                yield {"processing": before}
        except YottaError as error:
            yield {"note": f"the list of tasks could not be read: {error}"}

    def _listed(self) -> Iterator[dict[str, Any]]:
        # Where others submit too, or tasks still come after several readings, each is taken once.
        once = self._last or not self._endpoint.made_by_run
        met: set[str] = set()
        first_total: int | None = None
        for page, total in self._target.pages(self._endpoint.endpoint_id):
            first_total = total if first_total is None else first_total
            self.moved = self.moved or total != first_total
            for task in page:
                self._unsure.discard(task.task_id)
                if not once or task.task_id not in met:
                    yield _line(task)
                if once:
                    met.add(task.task_id)
        if self.moved and self._last and self._endpoint.made_by_run:
            yield {"note": "tasks still came while the list was read, time and again: it may miss some"}


def _line(task: ServerTask) -> dict[str, Any]:
    return {
        "id": task.task_id,
        "status": task.status,
        "ended": task.ended,
        "created": task.created_ms,
        "updated": task.updated_ms,
        "delivered": task.delivered_ms,
    }


def _execution_lines(target: Target, endpoint_id: str, ended: int, journals: list[Journal]) -> Iterator[dict[str, Any]]:
    told = 0
    try:
        for execution in target.executions(endpoint_id, ended):
            told += 1
            yield _execution_line(execution)
    except YottaError as error:
        yield {"note": f"the workers' logs could not be read, so double executions would not be seen: {error}"}
        return
    if told or not ended:
        return
    acknowledged = (
        journal.task_id(row)
        for journal in journals
        for row, outcome in enumerate(journal.outcome)
        if outcome == ACCEPTED
    )
    try:
        for execution in target.attempts(endpoint_id, acknowledged):
            told += 1
            yield _execution_line(execution)
    except NoRecord as error:
        yield {
            "note": "the workers' logs tell of no executions, and the target has no other record of them "
            f"({error}): double executions would not be seen, waiting and working are not told apart"
        }
        return
    yield {
        "source": "attempts",
        "note": "the workers' logs tell of no executions: waiting and working are joined from the server's own record "
        f"of its attempts (of {told}), in which a worker that did a task twice unasked would not show",
    }


def _execution_line(execution: Execution) -> dict[str, Any]:
    return {
        "id": execution.task_id,
        "attempt": execution.attempt,
        "start": execution.start_ms,
        "end": execution.end_ms,
    }
