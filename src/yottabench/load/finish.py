"""The end of a run: ask the server what it holds, judge, write the reports."""

from collections.abc import Iterator
from typing import Any

from yottabench.client import YottaError
from yottabench.load.audit import ServerTask
from yottabench.load.journal import ACCEPTED, Journal
from yottabench.load.report import html_report
from yottabench.load.rundir import RunDir, write_lines
from yottabench.load.summary import markdown_report
from yottabench.load.target import EndpointInUse, Target
from yottabench.load.verdict import evaluate


def collect(run: RunDir, target: Target, endpoint: EndpointInUse) -> None:
    """Writes down what the server holds and what its workers executed; what cannot be read is noted in the files."""
    journals, _ = run.journals()
    write_lines(run.server_file, _server_lines(target, endpoint, journals))
    ended = sum(1 for journal in journals for status in journal.status if status)
    write_lines(run.executions_file, _execution_lines(target, endpoint.endpoint_id, ended))


def conclude(run: RunDir) -> dict[str, Any]:
    """Judges the run from its files and writes result.json, report.html and report.md."""
    result = evaluate(run)
    run.write_text(run.html_file, html_report(result))
    run.write_text(run.markdown_file, markdown_report(result))
    return result


def _server_lines(target: Target, endpoint: EndpointInUse, journals: list[Journal]) -> Iterator[dict[str, Any]]:
    unsure = {
        journal.task_id(row)
        for journal in journals
        for row, outcome in enumerate(journal.outcome)
        if outcome != ACCEPTED
    }
    met: set[str] = set()
    try:
        for task in target.tasks(endpoint.endpoint_id):
            unsure.discard(task.task_id)
            if not endpoint.made_by_run:
                # Tasks that others submit meanwhile shift the pages; meeting one twice proves nothing then.
                if task.task_id in met:
                    continue
                met.add(task.task_id)
            yield _line(task)
        for task_id in sorted(unsure):
            found = target.task(endpoint.endpoint_id, task_id)
            if found is not None:
                yield _line(found)
    except YottaError as error:
        yield {"note": f"the list of tasks could not be read: {error}"}


def _line(task: ServerTask) -> dict[str, Any]:
    return {
        "id": task.task_id,
        "status": task.status,
        "ended": task.ended,
        "created": task.created_ms,
        "updated": task.updated_ms,
    }


def _execution_lines(target: Target, endpoint_id: str, ended: int) -> Iterator[dict[str, Any]]:
    try:
        found = target.executions(endpoint_id, ended)
    except YottaError as error:
        yield {"note": f"the workers' logs could not be read, so double executions would not be seen: {error}"}
        return
    if not found:
        yield {"note": "the workers' logs tell of no executions, so double executions would not be seen"}
    for execution in found:
        yield {
            "id": execution.task_id,
            "attempt": execution.attempt,
            "start": execution.start_ms,
            "end": execution.end_ms,
        }
