"""The views of a run, read from its folder: journals, the server's list, executions, receipts; joined and audited."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from yottabench.load.audit import Audit, Auditor, Execution, Receipt, ServerTask
from yottabench.load.journal import Journal, seq_of
from yottabench.load.rundir import RunDir, read_lines


class Rows:
    """Finds a task's row in the journals by its id."""

    def __init__(self, journals: Sequence[Journal]) -> None:
        self._by_process = {int(journal.header["process"]): journal for journal in journals}
        self._prefix = journals[0].prefix if journals else ""
        self._of = int(journals[0].header["of"]) if journals else 1

    def find(self, task_id: str) -> tuple[Journal, int] | None:
        """The journal and the row of a task, None for one that no journal has."""
        seq = seq_of(self._prefix, task_id)
        journal = None if seq is None else self._by_process.get(seq % self._of)
        row = None if journal is None or seq is None else journal.row(seq)
        return None if journal is None or row is None else (journal, row)


def audit_run(run: RunDir, journals: Sequence[Journal], meta: dict[str, Any]) -> Audit:
    """Holds the journals against every other view that the run's folder has."""
    auditor = Auditor(journals, own_endpoint=bool(meta.get("endpoint", {}).get("made_by_run")))
    notes: list[str] = []
    if run.server_file.exists():
        auditor.server(server_tasks(run))
        notes = [str(line["note"]) for line in read_lines(run.server_file) if "note" in line]
        # A note says that the list broke off: what is not on it may be there all the same.
        auditor.audit.server_listed = not notes
        for line in read_lines(run.server_file):
            if "processing" in line and not notes:
                auditor.count(int(line["processing"]))
    if run.executions_file.exists():
        auditor.executions(executions(run))
        notes.extend(str(line["note"]) for line in read_lines(run.executions_file) if "note" in line)
    if meta.get("webhooks") and not meta.get("receiver_died"):
        auditor.receipts(receipts(run), sum(1 for line in read_lines(run.receipts_file) if "refused" in line))
    audit = auditor.finish()
    audit.notes = notes
    return audit


def server_tasks(run: RunDir) -> Iterator[ServerTask]:
    """What the server held when the run was over."""
    for line in read_lines(run.server_file):
        if "id" in line:
            delivered_ms = int(line.get("delivered", 0))
            yield ServerTask(line["id"], line["status"], line["ended"], line["created"], line["updated"], delivered_ms)


def executions(run: RunDir) -> Iterator[Execution]:
    """What the workers executed."""
    for line in read_lines(run.executions_file):
        if "id" in line:
            yield Execution(line["id"], line["attempt"], line["start"], line["end"])


def executions_are_joined(run: RunDir) -> bool:
    """Whether the executions stem from the server's record of attempts, not from the workers."""
    return any(line.get("source") == "attempts" for line in read_lines(run.executions_file))


def receipts(run: RunDir) -> Iterator[Receipt]:
    """The webhooks that came with the right key; a line that a kill cut off is none."""
    for line in read_lines(run.receipts_file):
        if "id" in line:
            yield Receipt(line["at"], line["id"], line["ok"], line["send"], line["sent"], line.get("mark"))


def join_stamps(run: RunDir, journals: Sequence[Journal]) -> None:
    """Fills in the server's stamps of tasks that a webhook told of: it carries none but that of its sending.

    Then a task was made when the list says so, and had ended by its first webhook's stamp.
    """
    if all("webhook" not in journal.seen_by for journal in journals):
        return
    rows = Rows(journals)
    for task in server_tasks(run):
        found = rows.find(task.task_id)
        if found is not None and not found[0].created_ms[found[1]]:
            found[0].created_ms[found[1]] = task.created_ms
    for receipt in receipts(run):
        found = rows.find(receipt.task_id)
        if found is not None and receipt.sent_ms:
            journal, row = found
            known_ms = journal.updated_ms[row] or math.inf
            journal.updated_ms[row] = int(min(known_ms, receipt.sent_ms))


def looks(run: RunDir) -> dict[str, float]:
    """How many requests looked for ends, from the metrics files: all, those for lists, and the most in one second."""
    per_second: dict[int, int] = {}
    found: dict[str, float] = {"requests": 0, "lists": 0}
    for path in run.path.glob("metrics-*.jsonl"):
        for line in read_lines(path):
            found["requests"] += line.get("looks", 0)
            found["lists"] += line.get("lists", 0)
            second = math.floor(line["t"])
            per_second[second] = per_second.get(second, 0) + line.get("looks", 0)
    return found | {"most_per_s": max(per_second.values(), default=0)}
