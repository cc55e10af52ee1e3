"""From the files of a run to its result: figures, audit, validity, gates, verdict and exit code."""

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from yottabench.load.audit import Audit, Auditor, Execution, ServerTask
from yottabench.load.figures import Figures, add_executions, measure, series
from yottabench.load.gates import METRICS, GateResult, judge
from yottabench.load.journal import Journal
from yottabench.load.profile import Profile
from yottabench.load.rundir import RunDir, read_lines

PASS, FAIL, INVALID = "PASS", "FAIL", "INVALID"
EXIT_PASS, EXIT_GATE, EXIT_AUDIT, EXIT_INVALID = 0, 99, 4, 5
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
    audit = _audit(run, journals, own_endpoint=bool(meta.get("endpoint", {}).get("made_by_run")))
    duration_s = float(meta.get("stopped_s") or meta.get("duration_s") or 0.0)
    figures = measure(journals, duration_s)
    add_executions(figures, journals, _executions(run))
    invalid = problems + _doubts(meta, profile, journals, figures, audit)
    values = gate_values(figures, duration_s)
    gates = judge(profile.parsed_gates(), values)
    verdict = _verdict(audit, invalid, gates)
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
        "refusals": figures.reasons,
        "audit": audit.to_json(),
        "gates": [{"gate": str(g.gate), "value": g.value, "kept": g.kept} for g in gates],
        "series": {"window_s": figures.window_s, "windows": series(figures)},
        "distribution": {
            "e2e": [[round(percent, 4), round(ms, 3)] for percent, ms in figures.e2e.curve()],
            "e2e_uncorrected": [[round(percent, 4), round(ms, 3)] for percent, ms in figures.e2e_from_sent.curve()],
        },
    }
    run.write_result(result)
    return result


def gate_values(figures: Figures, duration_s: float) -> dict[str, float | None]:
    """Every figure that a gate can name."""
    sent = figures.sent or None
    values: dict[str, float | None] = {
        "error_rate": (figures.refused + figures.unknown + figures.failed) / sent if sent else None,
        "throttle_rate": figures.throttled / sent if sent else None,
        "completed_per_s": figures.ended / _busy_s(figures, duration_s) if figures.ended else None,
        "e2e_max_ms": figures.e2e.max_ms,
    }
    for name, found in (("e2e", figures.e2e), ("submit", figures.submit)):
        for percent, value in zip((50, 95, 99), found.percentiles_ms((50, 95, 99)), strict=True):
            values[f"{name}_p{percent}_ms"] = value
    assert values.keys() == METRICS.keys()
    return values


def _audit(run: RunDir, journals: Sequence[Journal], *, own_endpoint: bool) -> Audit:
    auditor = Auditor(journals, own_endpoint=own_endpoint)
    notes: list[str] = []
    if run.server_file.exists():
        auditor.server(_server_tasks(run, notes))
        # A note says that the list broke off: what is not on it may be there all the same.
        auditor.audit.server_listed = not notes
    executed = [line for line in read_lines(run.executions_file) if "note" in line]
    notes.extend(str(line["note"]) for line in executed)
    if run.executions_file.exists():
        auditor.executions(_executions(run))
    audit = auditor.finish()
    audit.notes = notes
    return audit


def _server_tasks(run: RunDir, notes: list[str]) -> Iterator[ServerTask]:
    for line in read_lines(run.server_file):
        if "note" in line:
            notes.append(str(line["note"]))
        else:
            yield ServerTask(line["id"], line["status"], line["ended"], line["created"], line["updated"])


def _executions(run: RunDir) -> Iterator[Execution]:
    for line in read_lines(run.executions_file):
        if "id" in line:
            yield Execution(line["id"], line["attempt"], line["start"], line["end"])


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


def _doubts(
    meta: dict[str, Any], profile: Profile, journals: Sequence[Journal], figures: Figures, audit: Audit
) -> list[str]:
    """Why the figures may not count, one sentence each."""
    return [*_process_doubts(meta, journals), *_load_doubts(meta, profile, figures), *_audit_doubts(audit)]


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


def _audit_doubts(audit: Audit) -> Iterator[str]:
    if not audit.server_listed:
        yield "the audit is open: the server's list of tasks could not be read to its end"
    if audit.open_.count:
        yield f"the audit is open: {audit.open_.count} tasks had not ended when the drain was over"


def _verdict(audit: Audit, invalid: Sequence[str], gates: Sequence[GateResult]) -> Verdict:
    # A proven fault is a fact whatever the generator did, so it comes before validity; a gate does not.
    faults = [f"{finding.count} {name}" for name, finding in audit.faults.items() if finding.count]
    if faults:
        return Verdict(FAIL, EXIT_AUDIT, ("audit: " + ", ".join(faults), *invalid))
    if invalid:
        return Verdict(INVALID, EXIT_INVALID, tuple(invalid))
    broken = [
        f"{g.gate} not kept: {'not measured' if g.value is None else f'{g.value:.4g}'}" for g in gates if not g.kept
    ]
    return Verdict(FAIL, EXIT_GATE, tuple(broken)) if broken else Verdict(PASS, EXIT_PASS, ())
