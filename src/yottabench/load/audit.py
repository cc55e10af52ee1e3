"""The audit: what the journals say was sent, held against what the server holds and what the workers executed."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from yottabench.load.journal import ACCEPTED, REFUSED, SENT, THROTTLED, UNKNOWN, Journal, seq_of

MOST_IDS = 1000  # of each kind of finding; the count is always exact

_ABSENT, _OPEN, _ENDED = range(3)
_MOST_ATTEMPTS = 63  # a server that tries more often is caught by the first 63


@attrs.frozen
class ServerTask:
    """A task as the server showed it after the run; times are the server's clock."""

    task_id: str
    status: str
    ended: bool
    created_ms: int
    updated_ms: int


@attrs.frozen
class Execution:
    """One execution as a worker's log tells it; times are the worker's clock."""

    task_id: str
    attempt: int
    start_ms: int
    end_ms: int


@attrs.define
class Finding:
    """How many tasks a finding concerns, and the ids of the first thousand."""

    count: int = 0
    ids: list[str] = attrs.field(factory=list[str])

    def add(self, task_id: str) -> None:
        """Counts one more task."""
        self.count += 1
        if len(self.ids) < MOST_IDS:
            self.ids.append(task_id)


@attrs.define
class Audit:
    """What became of every task.

    `lost`, `duplicated`, `unexpected`, `resurrected` and `mismatched` are faults. `open_` tasks had not ended when the
    run stopped waiting: neither good nor bad, so the audit itself stays open.
    """

    sent: int = 0
    acknowledged: int = 0
    refused: int = 0
    throttled: int = 0
    ended: int = 0
    failed: int = 0
    unknown_there: int = 0
    unknown_absent: int = 0
    foreign: int = 0
    retried: int = 0
    executions: int | None = None
    server_listed: bool = False
    lost: Finding = attrs.field(factory=Finding)
    duplicated: Finding = attrs.field(factory=Finding)
    unexpected: Finding = attrs.field(factory=Finding)
    resurrected: Finding = attrs.field(factory=Finding)
    mismatched: Finding = attrs.field(factory=Finding)
    open_: Finding = attrs.field(factory=Finding)
    notes: list[str] = attrs.field(factory=list[str])

    @property
    def faults(self) -> dict[str, Finding]:
        """The findings that make a run fail, by name."""
        return {
            "lost": self.lost,
            "duplicated": self.duplicated,
            "unexpected": self.unexpected,
            "resurrected": self.resurrected,
            "mismatched": self.mismatched,
        }

    @property
    def clean(self) -> bool:
        """Whether no fault was found."""
        return not any(finding.count for finding in self.faults.values())

    @property
    def settled(self) -> bool:
        """Whether every task's fate is known."""
        return self.server_listed and not self.open_.count

    def to_json(self) -> dict[str, Any]:
        """The audit as plain JSON."""
        return attrs.asdict(self) | {"clean": self.clean, "settled": self.settled}


class Auditor:
    """Compares the views one after the other; each call adds what it finds."""

    def __init__(self, journals: Sequence[Journal], *, own_endpoint: bool) -> None:
        self.audit = Audit()
        self._journals = {int(journal.header["process"]): journal for journal in journals}
        self._own_endpoint = own_endpoint
        self._seen = {process: bytearray(len(journal)) for process, journal in self._journals.items()}
        self._attempts: dict[int, dict[int, int]] = {process: {} for process in self._journals}
        self._unexpected: set[str] = set()
        self._prefix = journals[0].prefix if journals else ""
        self._of = int(journals[0].header["of"]) if journals else 1

    def server(self, tasks: Iterable[ServerTask]) -> None:
        """Takes what the server holds: the whole list of the endpoint's tasks, and the answers to single GETs."""
        self.audit.server_listed = True
        for task in tasks:
            self._server_task(task)

    def executions(self, executions: Iterable[Execution]) -> None:
        """Takes what the workers executed."""
        count = 0
        for execution in executions:
            count += 1
            self._execution(execution)
        self.audit.executions = count

    def finish(self) -> Audit:
        """Goes through the journals and settles every task's fate."""
        for process, journal in self._journals.items():
            for row in range(len(journal)):
                self._task(process, journal, row)
        for attempts in self._attempts.values():
            self.audit.retried += sum(1 for mask in attempts.values() if mask.bit_count() > 1)
        return self.audit

    def _did_not_expect(self, task_id: str) -> None:
        if task_id not in self._unexpected:
            self._unexpected.add(task_id)
            self.audit.unexpected.add(task_id)

    def _find(self, task_id: str) -> tuple[int, Journal, int] | None:
        seq = seq_of(self._prefix, task_id)
        journal = None if seq is None else self._journals.get(seq % self._of)
        row = None if journal is None or seq is None else journal.row(seq)
        return None if journal is None or seq is None or row is None else (seq % self._of, journal, row)

    def _server_task(self, task: ServerTask) -> None:
        if seq_of(self._prefix, task.task_id) is None and not self._own_endpoint:
            self.audit.foreign += 1
            return
        found = self._find(task.task_id)
        if found is None:
            self._did_not_expect(task.task_id)
            return
        process, journal, row = found
        if journal.outcome[row] in (REFUSED, THROTTLED):
            self._did_not_expect(task.task_id)
        if self._seen[process][row]:
            self.audit.duplicated.add(task.task_id)
            return
        self._seen[process][row] = _ENDED if task.ended else _OPEN
        if task.ended and task.status == "FAILED":
            self.audit.failed += 1
        if not journal.ended(row):
            return
        seen = journal.statuses[journal.status[row]]
        if not task.ended:
            self.audit.resurrected.add(task.task_id)
        elif task.status != seen and (seen, task.status) != ("SUCCESS", "DELIVERED"):
            self.audit.mismatched.add(task.task_id)

    def _execution(self, execution: Execution) -> None:
        found = self._find(execution.task_id)
        if found is None:
            if seq_of(self._prefix, execution.task_id) is not None or self._own_endpoint:
                self._did_not_expect(execution.task_id)
            return
        process, _, row = found
        bit = 1 << min(max(execution.attempt, 0), _MOST_ATTEMPTS)
        mask = self._attempts[process].get(row, 0)
        if mask & bit:
            self.audit.duplicated.add(execution.task_id)
        self._attempts[process][row] = mask | bit

    def _task(self, process: int, journal: Journal, row: int) -> None:
        audit, outcome, seen = self.audit, journal.outcome[row], self._seen[process][row]
        audit.sent += 1
        if outcome == THROTTLED:
            audit.throttled += 1
        elif outcome == REFUSED:
            audit.refused += 1
        elif outcome in (UNKNOWN, SENT):
            if seen == _ABSENT and audit.server_listed:
                audit.unknown_absent += 1
                return
            audit.unknown_there += 1
        if outcome in (ACCEPTED, UNKNOWN, SENT):
            audit.acknowledged += 1
            if seen == _ENDED:
                audit.ended += 1
            elif seen == _OPEN or not audit.server_listed:
                audit.open_.add(journal.task_id(row))
            else:
                audit.lost.add(journal.task_id(row))


def status_counts(journals: Iterable[Journal]) -> Counter[str]:
    """How many tasks were seen to end in each status."""
    counts: Counter[str] = Counter()
    for journal in journals:
        for number in journal.status:
            if number:
                counts[journal.statuses[number]] += 1
    return counts
