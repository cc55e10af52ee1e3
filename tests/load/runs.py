"""Small runs for tests: written with the real writers, so that the readers meet what they will meet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from yottabench.load.audit import Execution, ServerTask
from yottabench.load.journal import JournalWriter, task_id
from yottabench.load.profile import Profile
from yottabench.load.rundir import RunDir, write_lines

PREFIX = "r1"
START_EPOCH_S = 1_800_000_000.0
START_EPOCH_MS = int(START_EPOCH_S * 1000)


@attrs.frozen
class Sent:
    """One task of a made-up run; `outcome` is accepted, refused, throttled, unknown or silent (sent, nothing more)."""

    seq: int
    due_s: float = 0.0
    late_s: float = 0.001
    outcome: str = "accepted"
    answer_s: float = 0.002
    end_s: float | None = 0.01
    status: str = "SUCCESS"


def meta(**changes: Any) -> dict[str, Any]:
    """The meta.json of a run that went well."""
    return {
        "name": "made-up",
        "prefix": PREFIX,
        "started": "2027-01-15T08:00:00+00:00",
        "start_epoch_s": START_EPOCH_S,
        "host": "http://127.0.0.1:1",
        "local": True,
        "endpoint": {"endpoint_id": "7", "made_by_run": True, "image": "sim/echo", "workers": 2},
        "seed": 1,
        "processes": 1,
        "client": "light",
        "arrivals": "Poisson, 10 tasks/s",
        "prompts": None,
        "duration_s": 1.0,
        "planned": None,
        "machine": {"system": "Linux", "machine": "x86_64", "cpus": 2, "versions": {"python": "3.11"}},
        "interrupted": False,
    } | changes


def write_journal(path: Path, tasks: Sequence[Sent], *, process: int = 0, of: int = 1, closed: bool = True) -> None:
    """The journal of one process."""
    writer = JournalWriter(path, {"prefix": PREFIX, "process": process, "of": of, "start_epoch_s": START_EPOCH_S})
    for task in tasks:
        sent_s = task.due_s + task.late_s
        writer.intent(task.seq, task_id(PREFIX, task.seq), task.due_s, sent_s)
        answered_s = sent_s + task.answer_s
        if task.outcome == "accepted":
            writer.accepted(task.seq, answered_s)
        elif task.outcome == "unknown":
            writer.unknown(task.seq, answered_s, "ReadTimeout")
        elif task.outcome == "refused":
            writer.refused(task.seq, answered_s, 400, 10001)
        elif task.outcome == "throttled":
            writer.refused(task.seq, answered_s, 429, 429)
        if task.end_s is not None and task.outcome in ("accepted", "unknown"):
            created_ms = START_EPOCH_MS + round((sent_s + task.answer_s / 2) * 1000)
            ended_ms = START_EPOCH_MS + round((task.due_s + task.end_s) * 1000) - 1
            writer.ended(task.seq, task.due_s + task.end_s, task.status, created_ms, max(created_ms, ended_ms))
    if closed:
        writer.close(released=len(tasks), open=0, stopped_s=None, error=None)


def server_tasks(tasks: Sequence[Sent]) -> list[ServerTask]:
    """What a server without faults holds after those tasks."""
    return [
        ServerTask(task_id(PREFIX, task.seq), task.status if task.end_s else "PROCESSING", task.end_s is not None, 1, 2)
        for task in tasks
        if task.outcome in ("accepted", "unknown")
    ]


def executions(tasks: Sequence[Sent]) -> list[Execution]:
    """What its workers executed."""
    return [
        Execution(task_id(PREFIX, task.seq), 1, START_EPOCH_MS + 3, START_EPOCH_MS + 5)
        for task in tasks
        if task.outcome in ("accepted", "unknown") and task.end_s is not None
    ]


def write_views(run: RunDir, held: Sequence[ServerTask], executed: Sequence[Execution]) -> None:
    """The files in which a run keeps what the server holds and what was executed."""
    lines: list[dict[str, Any]] = []
    for t in held:
        about = {"id": t.task_id, "status": t.status, "ended": t.ended, "created": t.created_ms}
        lines.append(about | {"updated": t.updated_ms, "delivered": t.delivered_ms})
    write_lines(run.server_file, lines)
    write_lines(
        run.executions_file,
        [{"id": e.task_id, "attempt": e.attempt, "start": e.start_ms, "end": e.end_ms} for e in executed],
    )


def make_run(path: Path, tasks: Sequence[Sent], profile: Profile | None = None, **changes: Any) -> RunDir:
    """A whole run's folder, ready to be judged."""
    path.mkdir(exist_ok=True)
    run = RunDir(path)
    run.write_profile(profile or Profile("made-up"))
    run.update_meta(**meta(**({"planned": len(tasks)} | changes)))
    write_journal(run.journal_file(0), tasks)
    write_views(run, server_tasks(tasks), executions(tasks))
    return run
