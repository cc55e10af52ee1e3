"""From the files of a run to its result: figures, audit, validity, gates, verdict and exit code."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import attrs

from yottabench.load.audit import Audit
from yottabench.load.figures import Figures, add_executions, measure, series
from yottabench.load.gates import GateResult, judge
from yottabench.load.journal import Journal
from yottabench.load.measures import gate_times, gate_values
from yottabench.load.outcome import OPEN_AUDIT, Outcome, read_outcome
from yottabench.load.profile import Profile
from yottabench.load.rundir import RunDir
from yottabench.load.validity import doubts
from yottabench.load.views import audit_run, executions, executions_are_joined, join_stamps, looks

PASS, FAIL, INVALID = "PASS", "FAIL", "INVALID"
EXIT_PASS, EXIT_GATE, EXIT_REGRESSION, EXIT_AUDIT, EXIT_INVALID = 0, 99, 3, 4, 5
RESULT_VERSION = 1


@attrs.frozen
class Verdict:
    """PASS, FAIL or INVALID, with the exit code that says so to scripts and the reasons that say so to people."""

    word: str
    exit_code: int
    reasons: tuple[str, ...]


def evaluate(run: RunDir) -> dict[str, Any]:
    """Judges a run from its files and keeps the result in result.json. Gives the same answer however often it runs."""
    meta, profile = run.read_meta(), run.read_profile()
    journals, problems = run.journals()
    audit = audit_run(run, journals, meta)
    join_stamps(run, journals)
    duration_s = float(meta.get("stopped_s") or meta.get("duration_s") or 0.0)
    figures = measure(journals, duration_s)
    retried = {execution.task_id for execution in executions(run) if execution.attempt > 1}
    add_executions(figures, journals, executions(run), retried)
    outcome = read_outcome(run, profile, journals)
    if outcome.aborted:
        meta |= {"interrupted": False}  # it was, by us, and for a reason that the verdict names
    invalid = problems + doubts(run, meta, profile, journals, figures, audit) + outcome.doubts(profile)
    busy_s = _busy_s(figures, duration_s)
    values = gate_values(figures, audit, journals, outcome, busy_s, len(retried))
    samples = {name: found.count for name, found in gate_times(figures, outcome.reads).items()}
    gates = judge(profile.parsed_gates(), values, samples)
    verdict = _verdict(audit, invalid, gates, outcome)
    result = {
        "result": RESULT_VERSION,
        "verdict": verdict.word,
        "exit_code": verdict.exit_code,
        "reasons": list(verdict.reasons),
        "run": meta,
        "time_scale": profile.arrivals.time_scale if profile.endpoint.scale_env else 1.0,
        "counts": _counts(meta, figures),
        "rates": _rates(meta, figures, duration_s),
        "latency_ms": {name: found.summary() for name, found in figures.latencies().items() if found.count},
        "clock_ahead_ms": figures.clock_ahead_ms,
        "worker_clock_ahead_ms": figures.worker_clock_ahead_ms,
        "floors_ms": figures.floors_ms(),
        "detection": _detection(run, profile, journals, figures, duration_s),
        "refusals": figures.reasons,
        "audit": audit.to_json(),
        "gates": [gate.to_json() for gate in gates],
        **outcome.to_json(),
        "retried": len(retried),
        "series": {"window_s": figures.window_s, "windows": series(figures)},
        "distribution": {
            "e2e": [[round(percent, 4), round(ms, 3)] for percent, ms in figures.e2e.curve()],
            "e2e_uncorrected": [[round(percent, 4), round(ms, 3)] for percent, ms in figures.e2e_from_sent.curve()],
        },
    }
    run.write_result(result)
    return result


def _detection(
    run: RunDir, profile: Profile, journals: Sequence[Journal], figures: Figures, duration_s: float
) -> dict[str, Any]:
    """What it cost to see the ends: requests in all and per task, and by what each end was seen."""
    found = looks(run)
    seen_by: Counter[str] = Counter()
    for journal in journals:
        seen_by.update(journal.seen_by)
    busy_s = _busy_s(figures, duration_s)
    return {
        "mode": profile.detection.mode,
        "api_qps": profile.detection.api_qps,
        **found,
        "per_task": round(found["requests"] / figures.ended, 3) if figures.ended else None,
        "per_s": round(found["requests"] / busy_s, 3) if busy_s else None,
        "seen_by": dict(seen_by),
        "joined": executions_are_joined(run),
    }


def _counts(meta: dict[str, Any], figures: Figures) -> dict[str, int | None]:
    return {
        "planned": meta.get("planned"),
        "sent": figures.sent,
        "accepted": figures.accepted,
        "refused": figures.refused,
        "throttled": figures.throttled,
        "unknown": figures.unknown,
        "ended": figures.ended,
        "failed": figures.failed,
    }


def _rates(meta: dict[str, Any], figures: Figures, duration_s: float) -> dict[str, float | None]:
    planned = meta.get("planned")
    busy_s = _busy_s(figures, duration_s)
    span_s = duration_s or busy_s
    return {
        "offered_per_s": round(planned / span_s, 3) if planned and span_s else None,
        "sent_per_s": round(figures.sent / span_s, 3) if span_s else None,
        "submitted_per_s": round(figures.accepted / span_s, 3) if span_s else None,
        "completed_per_s": round(figures.ended / busy_s, 3) if busy_s else None,
        # Little's law: the mean number at work is the rate times the mean time of work.
        "workers_busy": round(figures.worked_s / busy_s, 3) if busy_s and figures.service.count else None,
    }


def _busy_s(figures: Figures, duration_s: float) -> float:
    """From the start until the last task ended, but no less than while tasks were due."""
    return max(duration_s, figures.last_detected_s, figures.last_due_s)


def _verdict(audit: Audit, invalid: Sequence[str], gates: Sequence[GateResult], outcome: Outcome) -> Verdict:
    # A proven fault is a fact whatever the generator did, so it comes before validity; a gate does not.
    faults = [f"{finding.count} {name}" for name, finding in audit.faults.items() if finding.count]
    if faults:
        return Verdict(FAIL, EXIT_AUDIT, ("audit: " + ", ".join(faults), *invalid))
    if outcome.aborted and all(doubt.startswith(OPEN_AUDIT) for doubt in invalid):
        # What is still open can only make a gate worse that is lost already.
        return Verdict(FAIL, EXIT_GATE, (f"ended early: {outcome.aborted}", *invalid))
    if invalid:
        return Verdict(INVALID, EXIT_INVALID, tuple(invalid))
    broken = [
        f"{g.gate} not kept: {'not measured' if g.value is None else f'{g.value:.4g}'}" for g in gates if not g.kept
    ]
    if broken:
        return Verdict(FAIL, EXIT_GATE, tuple(broken))
    if outcome.comparison is not None and outcome.comparison.regressions:
        slower = [
            f"{row.metric} is slower than in {outcome.comparison.baseline}: "
            f"{row.before_ms:.4g} -> {row.now_ms:.4g} ms ({row.ratio - 1:+.1%}, at least {row.low - 1:+.1%})"
            for row in outcome.comparison.regressions
        ]
        return Verdict(FAIL, EXIT_REGRESSION, tuple(slower))
    return Verdict(PASS, EXIT_PASS, ())
