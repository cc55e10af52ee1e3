"""The journal of a run: each task is written before it is sent, its outcome after; one append-only file per process."""

import bisect
import math
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import attrs
import orjson

VERSION = 1

# Outcome of a submit, as kept in Journal.outcome.
SENT, ACCEPTED, REFUSED, THROTTLED, UNKNOWN = range(5)

# Whose mark a result showed, as kept in Journal.own_result.
UNMARKED, OWN, STRANGE = range(3)


class JournalError(ValueError):
    """A journal that cannot be read at all; the text names the file and what next."""


class JournalWriter:
    """Appends one process's journal. Every call is one write to the file, so a killed process loses no line.

    Times are seconds from the start of the run. Raises OSError when the disk refuses; the run must end then.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._write({"journal": VERSION} | header)

    def intent(self, seq: int, task_id: str, due_s: float, sent_s: float) -> None:
        """The task is about to be sent."""
        self._write({"n": seq, "id": task_id, "due": round(due_s, 6), "sent": round(sent_s, 6)})

    def accepted(self, seq: int, at_s: float) -> None:
        """The server acknowledged the task."""
        self._write({"n": seq, "ok": round(at_s, 6)})

    def refused(self, seq: int, at_s: float, http: int, code: int | None) -> None:
        """The server said no; HTTP 429 or code 429 is throttling, an outcome of its own."""
        self._write({"n": seq, "no": round(at_s, 6), "http": http, "code": code})

    def unknown(self, seq: int, at_s: float, why: str) -> None:
        """No answer came: the task may or may not be there."""
        self._write({"n": seq, "lost_sight": round(at_s, 6), "why": why})

    def ended(
        self,
        seq: int,
        at_s: float,
        status: str,
        created_ms: int,
        updated_ms: int,
        *,
        by: str = "get",
        own_result: bool | None = None,
    ) -> None:
        """The task was seen to have ended, by a get, a list or a webhook; both stamps are the server's clock.

        `own_result` says whether the result shows this task's mark; None when it shows none.
        """
        line = {"n": seq, "end": round(at_s, 6), "status": status, "created": created_ms, "updated": updated_ms}
        self._write(line | {"by": by} | ({} if own_result is None else {"own": own_result}))

    def close(self, **totals: Any) -> None:
        """The process ended its work; the line says that nothing is missing behind it."""
        if self._file >= 0:
            self._write({"closed": True} | totals)
            os.close(self._file)
            self._file = -1

    def _write(self, line: dict[str, Any]) -> None:
        data = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        if os.write(self._file, data) != len(data):
            raise OSError("The journal's disk took only part of a line. Free some space and run again.")


@attrs.define
class Journal:
    """One process's journal as columns, a row per task in order of its sequence number; absent times are NaN."""

    path: Path
    header: dict[str, Any]
    closing: dict[str, Any] | None = None
    broken_lines: int = 0
    seq: "array[int]" = attrs.field(factory=lambda: array("q"))
    due_s: "array[float]" = attrs.field(factory=lambda: array("d"))
    sent_s: "array[float]" = attrs.field(factory=lambda: array("d"))
    answered_s: "array[float]" = attrs.field(factory=lambda: array("d"))
    detected_s: "array[float]" = attrs.field(factory=lambda: array("d"))
    created_ms: "array[int]" = attrs.field(factory=lambda: array("q"))
    updated_ms: "array[int]" = attrs.field(factory=lambda: array("q"))
    outcome: "array[int]" = attrs.field(factory=lambda: array("b"))
    status: "array[int]" = attrs.field(factory=lambda: array("b"))
    own_result: "array[int]" = attrs.field(factory=lambda: array("b"))
    seen_by: dict[str, int] = attrs.field(factory=dict[str, int])
    statuses: list[str] = attrs.field(factory=lambda: [""])
    reasons: dict[str, int] = attrs.field(factory=dict[str, int])
    prefix: str = ""

    def __len__(self) -> int:
        return len(self.seq)

    @property
    def start_epoch_s(self) -> float:
        """The wall-clock time of the run's second 0, as this process has it."""
        return float(self.header["start_epoch_s"])

    def row(self, seq: int) -> int | None:
        """The row of a sequence number, None when it was never written."""
        at = bisect.bisect_left(self.seq, seq)
        return at if at < len(self.seq) and self.seq[at] == seq else None

    def task_id(self, row: int) -> str:
        """The id of the task in a row."""
        return task_id(self.prefix, self.seq[row])

    def ended(self, row: int) -> bool:
        """Whether the task in a row was seen to have ended."""
        return self.status[row] != 0

    def read_line(self, line: dict[str, Any]) -> None:
        """Takes one line; raises KeyError, TypeError or ValueError when it is not one of ours."""
        if "id" in line:
            self._intent(line)
        elif "closed" in line:
            self.closing = line
        else:
            self._outcome(line)

    def _intent(self, line: dict[str, Any]) -> None:
        seq, due_s, sent_s = int(line["n"]), float(line["due"]), float(line["sent"])
        if self.seq and seq <= self.seq[-1]:
            raise ValueError("sequence numbers must rise")
        self.seq.append(seq)
        self.due_s.append(due_s)
        self.sent_s.append(sent_s)
        for column in (self.answered_s, self.detected_s):
            column.append(math.nan)
        for column in (self.created_ms, self.updated_ms, self.outcome, self.status, self.own_result):
            column.append(0)

    def _outcome(self, line: dict[str, Any]) -> None:
        row = self.row(int(line["n"]))
        if row is None:
            raise ValueError("an outcome without its task")
        if "ok" in line:
            self._answer(row, ACCEPTED, float(line["ok"]))
        elif "no" in line:
            throttled = 429 in (line["http"], line["code"])
            self._answer(row, THROTTLED if throttled else REFUSED, float(line["no"]))
            self._because(f"HTTP {line['http']}, code {line['code']}")
        elif "lost_sight" in line:
            self._answer(row, UNKNOWN, float(line["lost_sight"]))
            self._because(str(line["why"]))
        else:
            self.detected_s[row] = float(line["end"])
            self.created_ms[row], self.updated_ms[row] = int(line["created"]), int(line["updated"])
            self.status[row] = self._status_number(str(line["status"]))
            own: bool | None = line.get("own")
            self.own_result[row] = UNMARKED if own is None else OWN if own else STRANGE
            by = str(line.get("by", ""))
            self.seen_by[by] = self.seen_by.get(by, 0) + 1

    def _answer(self, row: int, outcome: int, at_s: float) -> None:
        self.outcome[row] = outcome
        self.answered_s[row] = at_s

    def _because(self, reason: str) -> None:
        self.reasons[reason] = self.reasons.get(reason, 0) + 1

    def _status_number(self, status: str) -> int:
        if status not in self.statuses:
            self.statuses.append(status)
        return self.statuses.index(status)


def task_id(prefix: str, seq: int) -> str:
    """The id of the seq-th task of a run: letters, digits and underscores only, and never `count`."""
    return f"{prefix}_{seq}"


def seq_of(prefix: str, identifier: str) -> int | None:
    """The sequence number in a task id of this run, None for any other id."""
    head, _, tail = identifier.rpartition("_")
    if head != prefix or not tail.isascii() or not tail.isdigit() or (tail != "0" and tail[0] == "0"):
        return None
    return int(tail)


def read_journal(path: Path) -> Journal:
    """Reads a journal, whole or cut off anywhere; lines that cannot be read are counted, not fatal.

    Raises JournalError when even the first line is missing.
    """
    lines = _lines(path)
    try:
        header = next(lines)
        if header is None or header.get("journal") != VERSION:
            raise StopIteration
        journal = Journal(path, header, prefix=str(header["prefix"]))
        float(header["start_epoch_s"])
    except (StopIteration, KeyError, TypeError, ValueError):
        raise JournalError(
            f"{path} does not begin with a journal line. It is no journal, or its process died at once."
        ) from None
    for line in lines:
        try:
            if line is None:
                raise ValueError("not JSON")
            journal.read_line(line)
        except (KeyError, TypeError, ValueError):
            journal.broken_lines += 1
    return journal


def _lines(path: Path) -> Iterator[dict[str, Any] | None]:
    with path.open("rb") as file:
        for raw in file:
            try:
                line: Any = orjson.loads(raw) if raw.endswith(b"\n") else None
            except orjson.JSONDecodeError:
                line = None
            yield cast("dict[str, Any]", line) if isinstance(line, dict) else None
