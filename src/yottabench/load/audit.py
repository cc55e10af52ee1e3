"""The audit: the journals held against what the server holds, what the workers executed and what webhooks told."""

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from yottabench.load.journal import ACCEPTED, REFUSED, SENT, STRANGE, THROTTLED, UNKNOWN, UNMARKED, Journal, seq_of

FAULTS = {
    "lost": "acknowledged, but not on the server",
    "duplicated": "executed twice without a recorded retry, or listed twice",
    "unexpected": "on the server, executed or told by webhook, but never sent or refused",
    "resurrected": "seen to have ended, open again later",
    "mismatched": "ended in one state, later shown in another, or with another task's result",
    "redelivered": "told twice by webhook without a recorded retry",
    "undelivered": "said to be delivered, but no webhook came",
    "miscounted": "tasks that the count of open tasks and the list disagree about",
}
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
    delivered_ms: int = 0


@attrs.frozen
class Receipt:
    """One webhook that came with the right key: when (the receiver's clock), of which task, with which end.

    `send` is which attempt the service says it is, `sent_ms` its stamp, `mark` the task id in the result, if any.
    """

    at_s: float
    task_id: str
    ok: bool
    send: int
    sent_ms: int
    mark: str | None = None


@attrs.frozen
class Execution:
    """One execution as a worker's log tells it, or the server's record of attempts; times are that one's clock."""

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

    All that `faults` names are faults. `open_` tasks had not ended when the run stopped waiting: neither good nor bad,
    so the audit itself stays open. `receipts` and `executions` are None where nobody told.
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
    receipts: int | None = None
    receipts_refused: int = 0
    sent_again: int = 0
    results_checked: int = 0
    processing: int | None = None
    server_listed: bool = False
    lost: Finding = attrs.field(factory=Finding)
    duplicated: Finding = attrs.field(factory=Finding)
    unexpected: Finding = attrs.field(factory=Finding)
    resurrected: Finding = attrs.field(factory=Finding)
    mismatched: Finding = attrs.field(factory=Finding)
    redelivered: Finding = attrs.field(factory=Finding)
    undelivered: Finding = attrs.field(factory=Finding)
    miscounted: Finding = attrs.field(factory=Finding)
    open_: Finding = attrs.field(factory=Finding)
    notes: list[str] = attrs.field(factory=list[str])

    @property
    def faults(self) -> dict[str, Finding]:
        """The findings that make a run fail, by name."""
        return {name: getattr(self, name) for name in FAULTS}

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
        self._attempts = {process: Masks(len(journal)) for process, journal in self._journals.items()}
        self._sends = {process: Masks(len(journal)) for process, journal in self._journals.items()}
        self._told_failed = {process: bytearray(len(journal)) for process, journal in self._journals.items()}
        self._delivered = {process: bytearray(len(journal)) for process, journal in self._journals.items()}
        self._listed_open = 0
        self._unexpected: set[str] = set()
        self._mismatched: set[str] = set()
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

    def count(self, processing: int) -> None:
        """Takes what the server's count of open tasks said while nothing changed; call it after `server`.

        On an endpoint that others use too, the list is not ours to compare it with.
        """
        self.audit.processing = processing
        if self._own_endpoint:
            self.audit.miscounted.count = abs(processing - self._listed_open)

    def receipts(self, receipts: Iterable[Receipt], refused: int = 0) -> None:
        """Takes the webhooks that came, and how many came with a wrong key or unreadable; call it after `server`."""
        count = 0
        for receipt in receipts:
            count += 1
            self._receipt(receipt)
        self.audit.receipts, self.audit.receipts_refused = count, refused

    def finish(self) -> Audit:
        """Goes through the journals and settles every task's fate."""
        for process, journal in self._journals.items():
            for row in range(len(journal)):
                self._task(process, journal, row)
        self.audit.retried = sum(masks.several() for masks in self._attempts.values())
        self.audit.sent_again = sum(masks.several() for masks in self._sends.values())
        return self.audit

    def _did_not_match(self, task_id: str) -> None:
        if task_id not in self._mismatched:
            self._mismatched.add(task_id)
            self.audit.mismatched.add(task_id)

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
        self._listed_open += not task.ended
        found = self._find(task.task_id)
        if found is None:
            self._did_not_expect(task.task_id)
            return
        process, journal, row = found
        self._delivered[process][row] = task.delivered_ms > 0
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
            self._did_not_match(task.task_id)

    def _receipt(self, receipt: Receipt) -> None:
        found = self._find(receipt.task_id)
        if found is None:
            self._did_not_expect(receipt.task_id)
            return
        process, journal, row = found
        if journal.outcome[row] in (REFUSED, THROTTLED):
            self._did_not_expect(receipt.task_id)
        again = not self._sends[process].mark(row, receipt.send)
        if again:
            self.audit.redelivered.add(receipt.task_id)
        told_failed = 1 if receipt.ok else 2
        before, self._told_failed[process][row] = self._told_failed[process][row], told_failed
        seen = journal.statuses[journal.status[row]]
        if before not in (0, told_failed) or (seen and (seen == "FAILED") is receipt.ok):
            self._did_not_match(receipt.task_id)
        if receipt.mark is not None and receipt.mark != receipt.task_id:
            self._did_not_match(receipt.task_id)

    def _execution(self, execution: Execution) -> None:
        found = self._find(execution.task_id)
        if found is None:
            if seq_of(self._prefix, execution.task_id) is not None or self._own_endpoint:
                self._did_not_expect(execution.task_id)
            return
        process, _, row = found
        if not self._attempts[process].mark(row, execution.attempt):
            self.audit.duplicated.add(execution.task_id)

    def _task(self, process: int, journal: Journal, row: int) -> None:
        audit, outcome, seen = self.audit, journal.outcome[row], self._seen[process][row]
        audit.sent += 1
        self._result(process, journal, row)
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

    def _result(self, process: int, journal: Journal, row: int) -> None:
        self.audit.results_checked += journal.own_result[row] != UNMARKED
        if journal.own_result[row] == STRANGE:
            self._did_not_match(journal.task_id(row))
        if self.audit.receipts is not None and self._delivered[process][row] and not self._told_failed[process][row]:
            self.audit.undelivered.add(journal.task_id(row))


class Masks:
    """For each row, which attempts were met: one bit per number, in eight bytes."""

    def __init__(self, rows: int) -> None:
        self._bits = array("Q", bytes(8 * rows))

    def mark(self, row: int, number: int) -> bool:
        """Takes attempt `number` of a row; False when it was met before."""
        bit = 1 << min(max(number, 0), _MOST_ATTEMPTS)
        new = not self._bits[row] & bit
        self._bits[row] |= bit
        return new

    def several(self) -> int:
        """How many rows had more than one attempt."""
        return sum(1 for bits in self._bits if bits.bit_count() > 1)
