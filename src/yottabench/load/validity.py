"""Validity before verdict: why a run's figures may not count, one sentence each."""

from collections.abc import Iterator, Sequence
from typing import Any

from yottabench.load.audit import Audit
from yottabench.load.figures import Figures
from yottabench.load.journal import Journal
from yottabench.load.profile import Profile
from yottabench.load.rundir import RunDir, read_lines

BUSY_SHARE = 0.1  # of the seconds
HICCUPS = 2  # busy seconds that a run of any length may have; lateness tells what they cost


def doubts(
    run: RunDir, meta: dict[str, Any], profile: Profile, journals: Sequence[Journal], figures: Figures, audit: Audit
) -> list[str]:
    """Everything that speaks against the figures; none when they count."""
    return [
        *_process_doubts(meta, journals),
        *_load_doubts(meta, profile, figures),
        *_cpu_doubts(run, profile.validity.cpu),
        *_audit_doubts(meta, audit),
    ]


def _process_doubts(meta: dict[str, Any], journals: Sequence[Journal]) -> Iterator[str]:
    there = {int(journal.header["process"]) for journal in journals}
    missing = [str(n) for n in range(int(meta.get("processes", 1))) if n not in there]
    if missing:
        yield f"no journal of process {', '.join(missing)}: it died at once, or its file is to be copied here"
    for journal in journals:
        if journal.closing is None:
            yield f"process {journal.header['process']} did not end in order: its journal is cut off"
        elif journal.closing.get("error"):
            yield f"process {journal.header['process']} stopped: {journal.closing['error']}"
        if journal.broken_lines > (journal.closing is None):
            yield f"{journal.path.name} holds {journal.broken_lines} lines that cannot be read"
    if meta.get("interrupted"):
        yield f"interrupted after {float(meta.get('stopped_s') or 0):.1f} s"


def _load_doubts(meta: dict[str, Any], profile: Profile, figures: Figures) -> Iterator[str]:
    planned = meta.get("planned")
    if not figures.sent:
        yield "no task was sent"
        return
    if planned and figures.sent < planned * profile.validity.offered_share:
        yield (
            f"only {figures.sent} of {planned} planned tasks were sent "
            f"(at least {profile.validity.offered_share:.0%} must be)"
        )
    late_ms = figures.lateness.percentile_ms(99) or 0.0
    if late_ms > profile.validity.lateness_p99_ms:
        yield (
            f"the generator was late: p99 {late_ms:.1f} ms, allowed {profile.validity.lateness_p99_ms:g} ms "
            "(lower the rate, add --processes, or give it a quieter machine)"
        )


def _cpu_doubts(run: RunDir, allowed: float) -> Iterator[str]:
    for path in sorted(run.path.glob("metrics-*.jsonl")):
        shares = [line["cpu"] for line in read_lines(path) if line.get("due")]
        busy = sum(share > allowed for share in shares)
        if busy > max(HICCUPS, len(shares) * BUSY_SHARE):
            yield (
                f"process {path.stem.removeprefix('metrics-')} was busy: more than {allowed:.0%} of a core in "
                f"{busy} of {len(shares)} seconds (add --processes, or lower the rate)"
            )


def _audit_doubts(meta: dict[str, Any], audit: Audit) -> Iterator[str]:
    if meta.get("receiver_died"):
        yield "the webhook receiver ended before the run did: what it should have been told is not known"
    if not audit.server_listed:
        yield "the audit is open: the server's list of tasks could not be read to its end"
    if audit.open_.count:
        yield f"the audit is open: {audit.open_.count} tasks had not ended when the drain was over"
