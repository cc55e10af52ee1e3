"""A run's result in words and aligned text: the block that the terminal shows and the Markdown report."""

from collections.abc import Mapping
from typing import Any

from yottabench.load.rundir import RunDir

Result = Mapping[str, Any]

LATENCY_ROWS = (
    ("e2e", "end to end", "due until seen to have ended"),
    ("e2e_uncorrected", "  uncorrected", "sent until seen: what closed-loop tools report"),
    ("submit", "submit", "due until acknowledged"),
    ("submit_uncorrected", "  uncorrected", "sent until acknowledged"),
    ("server", "server", "created until ended, by the server's clock"),
    ("queued", "  queued", "created until its worker began (both clocks)"),
    ("service", "  service", "the worker's own work"),
    ("detection", "detection", "ended until seen: what looking at intervals adds"),
    ("lateness", "lateness", "due until sent: the generator's own error"),
)
LEAST_BUSY = 0.05  # below it workers answer at once, and millisecond stamps cannot say how busy they are
_COLUMNS = ("p50_ms", "p95_ms", "p99_ms", "max_ms")


def summary_text(result: Result, run: RunDir | None = None) -> str:
    """The block for a terminal; `run` adds where the report is."""
    lines = [f"{'yottabench load':<16}{result['run']['name']:<44}{result['verdict']:>8}", ""]
    lines += [f"  {name:<14}{text}" for name, text in facts(result)]
    lines += ["", f"  {'latency, ms':<16}{'p50':>10}{'p95':>10}{'p99':>10}{'max':>10}"]
    for key, name, meaning in LATENCY_ROWS:
        found = result["latency_ms"].get(key)
        if found:
            lines.append(
                f"  {name:<16}" + "".join(f"{_ms(found[column]):>10}" for column in _COLUMNS) + f"   {meaning}"
            )
    lines += ["", f"  {'audit':<14}{audit_text(result)}"]
    lines += [f"  {'' if n else 'gates':<14}{text}" for n, text in enumerate(gate_texts(result))]
    lines += [f"  {'' if n else 'because':<14}{text}" for n, text in enumerate(result["reasons"])]
    if run is not None:
        lines.append(f"  {'report':<14}{run.html_file}")
    return "\n".join(lines)


def facts(result: Result) -> list[tuple[str, str]]:
    """What was run and what became of it, as pairs of a name and a sentence."""
    run, counts, rates = result["run"], result["counts"], result["rates"]
    endpoint = run["endpoint"]
    where = "this machine" if run["local"] else "remote"
    planned = f" of {counts['planned']} planned" if counts["planned"] is not None else ""
    processes = f"{run['processes']} process{'es' if run['processes'] != 1 else ''}"
    found = [
        ("target", f"{run['host']} ({where}), {endpoint['image']}, {endpoint['workers']} workers"),
        ("arrivals", run["arrivals"]),
        ("generator", f"{processes}, {run['client']} client, seed {run['seed']}"),
    ]
    if run.get("prompts"):
        found.append(("bodies", f"chat, with {run['prompts']}"))
    found += [
        ("sent", f"{counts['sent']}{planned} = {_rate(rates['sent_per_s'])}"),
        (
            "submitted",
            f"{_rate(rates['submitted_per_s'])}   refused {counts['refused']}   throttled {counts['throttled']}"
            f"   no answer {counts['unknown']}",
        ),
        ("completed", f"{_rate(rates['completed_per_s'])}   failed {counts['failed']}"),
    ]
    if (rates["workers_busy"] or 0) >= LEAST_BUSY:
        found.append(("workers", f"{rates['workers_busy']:.1f} of {endpoint['workers']} busy on average"))
    return found


def audit_text(result: Result) -> str:
    """The audit's counts in one line."""
    audit = result["audit"]
    names = ("lost", "duplicated", "unexpected", "resurrected", "mismatched")
    counts = "   ".join(f"{name} {audit[name]['count']}" for name in names if audit[name]["count"] or name in names[:3])
    unknown = ""
    if audit["unknown_there"] or audit["unknown_absent"]:
        unknown = f"   no answer: {audit['unknown_there']} there, {audit['unknown_absent']} absent"
    retried = f"   retried {audit['retried']}" if audit["retried"] else ""
    return f"{counts}   open {audit['open_']['count']}{unknown}{retried}"


def gate_texts(result: Result) -> list[str]:
    """Each gate with what was measured."""
    return [
        f"{gate['gate']:<26}{'kept' if gate['kept'] else 'NOT KEPT':<10}"
        + ("not measured" if gate["value"] is None else f"measured {gate['value']:.4g}")
        for gate in result["gates"]
    ]


def limits(result: Result) -> list[str]:
    """What the figures do not say, for whoever quotes them."""
    run, found = result["run"], result["latency_ms"]
    lines = [
        f"The figures measure {run['host']} as it was during this run, with {run['endpoint']['image']} on "
        f"{run['endpoint']['workers']} workers; they say nothing about any other deployment.",
        "End to end counts from when a task was due, so a stalled server or a late generator shows in full. "
        "Tasks that never ended are in no percentile; the audit lists them.",
    ]
    if run["local"]:
        lines.append(
            f"Generator, server and workers shared one machine with {run['machine']['cpus']} CPUs: at high rates each "
            "slows the others."
        )
    if run["endpoint"]["image"].startswith("sim/"):
        lines.append("The workers were simulated: their service times are drawn, not computed.")
    if result["time_scale"] != 1:
        lines.append(
            f"Time ran {result['time_scale']:g} times as fast as in the trace, for arrivals and for simulated work. "
            "What the API itself takes does not scale, so it weighs that much more here."
        )
    if "detection" in found:
        lines.append(
            f"Ends are seen by looking at intervals, which added {found['detection']['p50_ms']:.0f} ms in the median; "
            "the server's own time is the row 'server', in whole milliseconds."
        )
    if result["clock_ahead_ms"]:
        low, high = result["clock_ahead_ms"]
        lines.append(
            f"The server's clock is between {low:+.1f} and {high:+.1f} ms off the generator's; what is a difference of "
            "the two clocks (detection) is no more exact than that."
        )
    if run["client"] != "light":
        lines.append("The generated client ran over httpx, which costs the generator many times as much per request.")
    lines.extend(result["audit"]["notes"])
    return lines


def markdown_report(result: Result) -> str:
    """The result as a Markdown page."""
    lines = [f"# Load run {result['run']['name']}: {result['verdict']}", ""]
    lines += [f"- {reason}" for reason in result["reasons"]] + ([""] if result["reasons"] else [])
    lines += ["| | |", "|---|---|"]
    lines += [f"| {name} | {text} |" for name, text in [*facts(result), ("audit", audit_text(result))]]
    lines += ["", "| latency, ms | count | p50 | p95 | p99 | max | from, to |", "|---|--:|--:|--:|--:|--:|---|"]
    for key, name, meaning in LATENCY_ROWS:
        found = result["latency_ms"].get(key)
        if found:
            cells = " | ".join(_ms(found[column]) for column in _COLUMNS)
            lines.append(f"| {name.strip()} | {found['count']} | {cells} | {meaning} |")
    if result["gates"]:
        lines += ["", "| gate | measured | |", "|---|--:|---|"]
        for gate in result["gates"]:
            value = "" if gate["value"] is None else f"{gate['value']:.4g}"
            lines.append(f"| {gate['gate']} | {value} | {'kept' if gate['kept'] else '**not kept**'} |")
    lines += ["", "What these figures do not say:", ""]
    lines += [f"- {line}" for line in limits(result)]
    return "\n".join(lines) + "\n"


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    if value < 0.01:
        return "0"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}/s"
