"""Every figure that a gate can name, from what a run's files tell."""

from collections.abc import Mapping, Sequence

from yottabench.load.audit import Audit
from yottabench.load.figures import Figures
from yottabench.load.gates import COUNTS, METRICS, PERCENTS
from yottabench.load.journal import Journal
from yottabench.load.latency import Latencies
from yottabench.load.outcome import Outcome
from yottabench.load.reads import ReadTally


def gate_values(
    figures: Figures, audit: Audit, journals: Sequence[Journal], outcome: Outcome, busy_s: float, retried: int
) -> dict[str, float | None]:
    """The value of each of METRICS, None where nothing was measured.

    `busy_s` is how long tasks were at work, `retried` how many tasks had more than one attempt.
    """
    sent, refusals, reads = figures.sent or None, outcome.refusals, outcome.reads
    # What broke a rule was to be refused, so that it was is no error.
    errors = figures.refused + figures.unknown + figures.failed - refusals.refused
    read = sum(tally.made for tally in reads.values()) or None
    values: dict[str, float | None] = {
        "error_rate": errors / sent if sent else None,
        "throttle_rate": figures.throttled / sent if sent else None,
        "read_error_rate": sum(tally.errors for tally in reads.values()) / read if read else None,
        "read_throttle_rate": sum(tally.throttled for tally in reads.values()) / read if read else None,
        "completed_per_s": figures.ended / busy_s if figures.ended else None,
        "first_end_s": first_end_s(journals),
        "retried": retried,
        "bad_accepted": sum(refusals.accepted.values()),
        "bad_unclear": sum(refusals.unclear.values()),
    }
    # An audit without the server's list proves nothing about what is missing or too much.
    known = audit.server_listed
    values |= {name: finding.count if known else None for name, finding in audit.faults.items() if name in COUNTS}
    for name, found in gate_times(figures, reads).items():
        for part, value in zip(PERCENTS, found.percentiles_ms(list(PERCENTS.values())), strict=True):
            values[f"{name}_{part}_ms"] = value
        values[f"{name}_max_ms"] = found.max_ms
    assert values.keys() == METRICS.keys(), values.keys() ^ METRICS.keys()
    return values


def gate_times(figures: Figures, reads: Mapping[str, ReadTally]) -> dict[str, Latencies]:
    """The durations whose percentiles a gate can name."""
    nothing = ReadTally()
    times = {"e2e": figures.e2e, "submit": figures.submit, "detection": figures.detection}
    return times | {name: reads.get(name, nothing).latencies for name in ("get", "list", "count")}


def first_end_s(journals: Sequence[Journal]) -> float | None:
    """When the first task was seen to have ended, in seconds from the run's start."""
    seen = [at_s for journal in journals for at_s in journal.detected_s if at_s == at_s]
    return min(seen) if seen else None
