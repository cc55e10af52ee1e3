"""A run's result in words and aligned text: the block that the terminal shows and the Markdown report."""

from collections.abc import Mapping, Sequence
from typing import Any

from yottabench.load.audit import FAULTS
from yottabench.load.outcome import comparison_lines, comparison_rows, outcome_facts, outcome_limits
from yottabench.load.rundir import RunDir

Result = Mapping[str, Any]

LATENCY_ROWS = (
    ("e2e", "end to end", "due until seen to have ended"),
    ("e2e_uncorrected", "  uncorrected", "sent until seen: what closed-loop tools report"),
    ("submit", "submit", "due until acknowledged"),
    ("submit_uncorrected", "  uncorrected", "sent until acknowledged"),
    ("server", "server", "created until ended, by the server's clock"),
    ("queued", "  queued", "created until its worker began"),
    ("service", "  service", "the worker's own work"),
    ("detection", "detection", "ended until seen: what looking for ends adds"),
    ("lateness", "lateness", "due until sent: the generator's own error"),
)
LEAST_BUSY = 0.05  # below it workers answer at once, and millisecond stamps cannot say how busy they are
_COLUMNS = ("p50_ms", "p95_ms", "p99_ms", "max_ms")


def summary_text(result: Result, run: RunDir | None = None) -> str:
    """The block for a terminal; `run` adds where the report is."""
    lines = [f"{'yottabench load':<16}{result['run']['name']:<44}{result['verdict']:>8}", ""]
    lines += [f"  {name:<14}{text}" for name, text in facts(result)]
    lines += [f"  {'':<14}{text}" for text in comparison_lines(result)]
    lines += ["", f"  {'latency, ms':<16}{'p50':>10}{'p95':>10}{'p99':>10}{'max':>10}"]
    for key, name, meaning in LATENCY_ROWS:
        found = result["latency_ms"].get(key)
        if found:
            lines.append(
                f"  {name:<16}" + "".join(f"{cell:>10}" for cell in latency_cells(result, key)) + f"   {meaning}"
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
    found.append(("looking", looking_text(result)))
    if (rates["workers_busy"] or 0) >= LEAST_BUSY:
        found.append(("workers", f"{rates['workers_busy']:.1f} of {endpoint['workers']} busy on average"))
    return found + outcome_facts(result)


def looking_text(result: Result) -> str:
    """How ends were looked for, and what it cost."""
    looked = result["detection"]
    ended = sum(looked["seen_by"].values())
    by = ", ".join(f"{name} {count / ended:.0%}" for name, count in sorted(looked["seen_by"].items()) if name and ended)
    per_task = "-" if looked["per_task"] is None else f"{looked['per_task']:.3g}"
    return (
        f"{looked['mode']}: {per_task} requests per task, {_rate(looked['per_s'])}, at most "
        f"{looked['most_per_s']:,.0f} in a second (allowed {looked['api_qps']:g}/s)" + (f"; seen by {by}" if by else "")
    )


def latency_cells(result: Result, key: str, columns: Sequence[str] = _COLUMNS) -> list[str]:
    """A row's figures; what is smaller than the clocks can tell is shown as less than that."""
    found, floor = result["latency_ms"][key], result["floors_ms"].get(key, 0.0)
    values = [found[column] for column in columns]
    return [f"<{_ms(floor)}" if value is not None and value < floor else _ms(value) for value in values]


def audit_text(result: Result) -> str:
    """The audit's counts in one line."""
    audit = result["audit"]
    names = tuple(FAULTS)
    counts = "   ".join(f"{name} {audit[name]['count']}" for name in names if audit[name]["count"] or name in names[:3])
    unknown = ""
    if audit["unknown_there"] or audit["unknown_absent"]:
        unknown = f"   no answer: {audit['unknown_there']} there, {audit['unknown_absent']} absent"
    retried = f"   retried {audit['retried']}" if audit["retried"] else ""
    told = "" if audit["receipts"] is None else f"   webhooks {audit['receipts']}"
    return f"{counts}   open {audit['open_']['count']}{unknown}{retried}{told}"


def gate_texts(result: Result) -> list[str]:
    """Each gate with what was measured."""
    return [
        f"{gate['gate']:<26}{'kept' if gate['kept'] else 'NOT KEPT':<10}"
        + ("not measured" if gate["value"] is None else f"measured {gate['value']:.4g}")
        for gate in result["gates"]
    ]


def limits(result: Result) -> list[str]:
    """What the figures do not say, for whoever quotes them."""
    run = result["run"]
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
    lines.extend(_clock_limits(result))
    if run["client"] != "light":
        lines.append("The generated client ran over httpx, which costs the generator many times as much per request.")
    lines.extend(result["audit"]["notes"])
    return lines


def _clock_limits(result: Result) -> list[str]:
    """How exact the rows are that rest on other clocks than the generator's."""
    lines: list[str] = []
    found, floors = result["latency_ms"], result["floors_ms"]
    webhook = result["detection"]["mode"] == "webhook"
    if "detection" in found:
        added = latency_cells(result, "detection", ["p50_ms"])[0]
        how = "by webhooks, which came" if webhook else "by looking at intervals, which added"
        after = " ms in the median after they were sent" if webhook else " ms in the median"
        lines.append(f"Ends are seen {how} {added}{after}. The server's own time is the row 'server'.")
    if webhook:
        lines.append(
            "A webhook carries no stamp but that of its sending, so 'server' goes until the first webhook was sent, "
            "and the time it waited for that counts as the server's."
        )
    for bounds, name, key in (
        ("clock_ahead_ms", "The server's clock is between {} and {} ms ahead of the generator's", "detection"),
        ("worker_clock_ahead_ms", "The workers' clock is between {} and {} ms ahead of the server's", "queued"),
    ):
        if result[bounds] and key in found:
            low, high = result[bounds]
            corrected = "; the middle of that is taken off" if low > 0 or high < 0 else ""
            lines.append(
                name.format(f"{low:+.1f}", f"{high:+.1f}")
                + f", as the tasks' own stamps bound it{corrected}. '{key}' is no more exact than "
                f"{_ms(floors[key])} ms, and what is smaller is not shown."
            )
    lines.extend(outcome_limits(result))
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
            cells = " | ".join(latency_cells(result, key))
            lines.append(f"| {name.strip()} | {found['count']} | {cells} | {meaning} |")
    if result["gates"]:
        lines += ["", "| gate | measured | |", "|---|--:|---|"]
        for gate in result["gates"]:
            value = "" if gate["value"] is None else f"{gate['value']:.4g}"
            lines.append(f"| {gate['gate']} | {value} | {'kept' if gate['kept'] else '**not kept**'} |")
    compared = comparison_rows(result)
    if compared:
        lines += ["", "| compared, ms | before | now | change | limits of it | |", "|---|--:|--:|--:|--:|---|"]
        lines += [f"| {' | '.join(cells)} | {'**slower**' if slower else ''} |" for *cells, slower in compared]
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
