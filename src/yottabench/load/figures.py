"""The figures of a run, computed from its journals: rates, latencies from the due time, and how they went in time."""

import math
from array import array
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import attrs

from yottabench.load.audit import Execution
from yottabench.load.journal import ACCEPTED, REFUSED, SENT, THROTTLED, UNKNOWN, Journal
from yottabench.load.latency import Latencies
from yottabench.load.views import Rows

STAMP_MS = 1.0  # the server's and the workers' stamps are whole milliseconds
MOST_WINDOWS = 120  # as many points as a chart can show


@attrs.define
class Window:
    """One stretch of the run; counts are tasks, latencies are those of the tasks due in it."""

    start_s: float
    length_s: float
    due: int = 0
    accepted: int = 0
    ended: int = 0
    throttled: int = 0
    failed: int = 0
    late_max_s: float = 0.0
    e2e_s: "array[float]" = attrs.field(factory=lambda: array("d"))


@attrs.define
class Figures:
    """Everything measured; latencies in their own histograms, so that each says how many tasks it stands for."""

    sent: int = 0
    accepted: int = 0
    refused: int = 0
    throttled: int = 0
    unknown: int = 0
    ended: int = 0
    failed: int = 0
    last_due_s: float = 0.0
    last_detected_s: float = 0.0
    e2e: Latencies = attrs.field(factory=Latencies)
    e2e_from_sent: Latencies = attrs.field(factory=Latencies)
    submit: Latencies = attrs.field(factory=Latencies)
    submit_from_sent: Latencies = attrs.field(factory=Latencies)
    lateness: Latencies = attrs.field(factory=Latencies)
    server: Latencies = attrs.field(factory=Latencies)
    detection: Latencies = attrs.field(factory=Latencies)
    queued: Latencies = attrs.field(factory=Latencies)
    service: Latencies = attrs.field(factory=Latencies)
    worked_s: float = 0.0
    clock_ahead_ms: tuple[float, float] | None = None
    worker_clock_ahead_ms: tuple[float, float] | None = None
    reasons: dict[str, int] = attrs.field(factory=dict[str, int])
    window_s: float = 1.0
    windows: list[Window] = attrs.field(factory=list[Window])

    def floors_ms(self) -> dict[str, float]:
        """Below which milliseconds a row says nothing, for rows made of whole milliseconds or of two clocks."""
        floors = {"server": STAMP_MS, "service": STAMP_MS}
        for name, bounds in (("detection", self.clock_ahead_ms), ("queued", self.worker_clock_ahead_ms)):
            if bounds is not None:
                floors[name] = max(STAMP_MS, round(uncertainty_ms(bounds), 3))
        return floors

    def latencies(self) -> dict[str, Latencies]:
        """The histograms by the name they have in result.json."""
        return {
            "e2e": self.e2e,
            "e2e_uncorrected": self.e2e_from_sent,
            "submit": self.submit,
            "submit_uncorrected": self.submit_from_sent,
            "lateness": self.lateness,
            "server": self.server,
            "detection": self.detection,
            "queued": self.queued,
            "service": self.service,
        }


def correction_ms(bounds: tuple[float, float] | None) -> float:
    """What to take off a difference of two clocks: nothing while they may agree, else the middle of the bounds."""
    if bounds is None or bounds[0] <= 0 <= bounds[1]:
        return 0.0
    return (bounds[0] + bounds[1]) / 2


def uncertainty_ms(bounds: tuple[float, float]) -> float:
    """By how much a difference of two clocks may be wrong after its correction."""
    middle = correction_ms(bounds)
    return max(abs(bounds[0] - middle), abs(bounds[1] - middle))


def measure(journals: Sequence[Journal], duration_s: float) -> Figures:
    """Goes once through the journals. `duration_s` is how long tasks were due; the drain comes on top."""
    figures = Figures()
    span_s = max([duration_s, *(_latest(journal) for journal in journals)])
    figures.window_s = max(1.0, math.ceil(span_s / MOST_WINDOWS))
    # What would be less than half a window at the end makes the last one longer: its rate would say nothing.
    starts_s = [n * figures.window_s for n in range(max(1, round(span_s / figures.window_s)))]
    ends_s = [*starts_s[1:], max(span_s, starts_s[-1] + 0.5 * figures.window_s)]
    figures.windows = [Window(start_s, end_s - start_s) for start_s, end_s in zip(starts_s, ends_s, strict=True)]
    figures.clock_ahead_ms = _clock_ahead_ms(journals)
    for journal in journals:
        for row in range(len(journal)):
            _count(figures, journal, row)
    for journal in journals:
        for reason, times in journal.reasons.items():
            figures.reasons[reason] = figures.reasons.get(reason, 0) + times
    return figures


def add_executions(
    figures: Figures,
    journals: Sequence[Journal],
    executions: Iterable[Execution],
    retried: Collection[str] = (),
) -> None:
    """Splits the server's time in waiting and working, where the workers' logs tell when work began and ended.

    `retried` are tasks with several attempts: an attempt that was given up may go on after its task has ended.
    """
    rows = Rows(journals)
    low_ms, high_ms = -math.inf, math.inf
    waits_ms: array[int] = array("q")
    for execution in executions:
        found = rows.find(execution.task_id)
        if found is None or not found[0].created_ms[found[1]]:
            continue
        journal, row = found
        waits_ms.append(execution.start_ms - journal.created_ms[row])
        # The work began after the task was made and ended before the task did; stamps may be a millisecond too low.
        high_ms = min(high_ms, waits_ms[-1] + STAMP_MS)
        if journal.updated_ms[row] and execution.task_id not in retried:
            low_ms = max(low_ms, execution.end_ms - journal.updated_ms[row] - STAMP_MS)
        figures.service.record_s((execution.end_ms - execution.start_ms) / 1000)
        figures.worked_s += (execution.end_ms - execution.start_ms) / 1000
    if math.isfinite(low_ms):
        figures.worker_clock_ahead_ms = (min(low_ms, high_ms), max(low_ms, high_ms))
    off_ms = correction_ms(figures.worker_clock_ahead_ms)
    for wait_ms in waits_ms:
        figures.queued.record_s((wait_ms - off_ms) / 1000)


def _clock_ahead_ms(journals: Sequence[Journal]) -> tuple[float, float] | None:
    """How far the server's clock is ahead: it made each task between its sending and its acknowledgement."""
    low_ms, high_ms = -math.inf, math.inf
    for journal in journals:
        start_ms = journal.start_epoch_s * 1000
        for row, created_ms in enumerate(journal.created_ms):
            if created_ms and journal.outcome[row] == ACCEPTED:
                low_ms = max(low_ms, created_ms - (start_ms + journal.answered_s[row] * 1000))
                # A stamp of whole milliseconds may be up to one too low.
                high_ms = min(high_ms, created_ms + 1 - (start_ms + journal.sent_s[row] * 1000))
    return (min(low_ms, high_ms), max(low_ms, high_ms)) if math.isfinite(low_ms) else None


def _latest(journal: Journal) -> float:
    latest_s = journal.due_s[-1] if journal.due_s else 0.0
    return max([latest_s, *(at_s for at_s in journal.detected_s if at_s == at_s)])


def _count(figures: Figures, journal: Journal, row: int) -> None:
    due_s, sent_s, answered_s = journal.due_s[row], journal.sent_s[row], journal.answered_s[row]
    window = _window(figures, due_s)
    window.due += 1
    window.late_max_s = max(window.late_max_s, sent_s - due_s)
    figures.sent += 1
    figures.last_due_s = max(figures.last_due_s, due_s)
    figures.lateness.record_s(sent_s - due_s)
    outcome = journal.outcome[row]
    if outcome == ACCEPTED:
        figures.accepted += 1
        _window(figures, answered_s).accepted += 1
        figures.submit.record_s(answered_s - due_s)
        figures.submit_from_sent.record_s(answered_s - sent_s)
    elif outcome == THROTTLED:
        figures.throttled += 1
        _window(figures, answered_s).throttled += 1
    elif outcome == REFUSED:
        figures.refused += 1
    elif outcome in (UNKNOWN, SENT):
        figures.unknown += 1
    if journal.ended(row):
        _count_end(figures, journal, row, window)


def _count_end(figures: Figures, journal: Journal, row: int, due_window: Window) -> None:
    due_s, detected_s = journal.due_s[row], journal.detected_s[row]
    ended_window = _window(figures, detected_s)
    ended_window.ended += 1
    figures.ended += 1
    if journal.statuses[journal.status[row]] == "FAILED":
        figures.failed += 1
        ended_window.failed += 1
    figures.last_detected_s = max(figures.last_detected_s, detected_s)
    figures.e2e.record_s(detected_s - due_s)
    figures.e2e_from_sent.record_s(detected_s - journal.sent_s[row])
    due_window.e2e_s.append(detected_s - due_s)
    if journal.updated_ms[row]:
        figures.server.record_s((journal.updated_ms[row] - journal.created_ms[row]) / 1000)
        ended_s = (journal.updated_ms[row] - correction_ms(figures.clock_ahead_ms)) / 1000
        figures.detection.record_s(journal.start_epoch_s + detected_s - ended_s)


def _window(figures: Figures, at_s: float) -> Window:
    return figures.windows[max(0, min(len(figures.windows) - 1, int(at_s / figures.window_s)))]


def series(figures: Figures) -> list[dict[str, Any]]:
    """The run in time, one entry per window, rates per second and latencies in milliseconds."""
    entries: list[dict[str, Any]] = []
    for window in figures.windows:
        ordered = sorted(window.e2e_s)
        entries.append(
            {
                "t_s": window.start_s,
                "due_per_s": round(window.due / window.length_s, 3),
                "accepted_per_s": round(window.accepted / window.length_s, 3),
                "ended_per_s": round(window.ended / window.length_s, 3),
                "throttled_per_s": round(window.throttled / window.length_s, 3),
                "failed_per_s": round(window.failed / window.length_s, 3),
                "late_max_ms": round(window.late_max_s * 1000, 3),
                "e2e_p50_ms": _percentile_ms(ordered, 50),
                "e2e_p95_ms": _percentile_ms(ordered, 95),
                "e2e_p99_ms": _percentile_ms(ordered, 99),
            }
        )
    return entries


def _percentile_ms(ordered: Sequence[float], percent: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] * 1000, 3)
