"""The HTML report: one file that needs no network, with the verdict first and what it rests on below."""

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from yottabench.load.audit import FAULTS
from yottabench.load.charts import Line, line_chart, percentile_chart
from yottabench.load.outcome import comparison_rows
from yottabench.load.summary import LATENCY_ROWS, audit_text, facts, latency_cells, limits

Result = Mapping[str, Any]

MOST_IDS_SHOWN = 50
_OF_WEBHOOKS = ("redelivered", "undelivered")  # without webhooks they would be rows about nothing
_COLUMNS = (
    ("count", "tasks"),
    ("p50_ms", "p50"),
    ("p95_ms", "p95"),
    ("p99_ms", "p99"),
    ("p999_ms", "p99.9"),
    ("max_ms", "max"),
)


def html_report(result: Result) -> str:
    """The whole page."""
    run, word = result["run"], result["verdict"]
    title = f"{run['name']}: {word}"
    style = files("yottabench.load").joinpath("report.css").read_text("utf-8")
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in result["reasons"])
    parts = [
        f'<header><h1>Load run {escape(run["name"])}</h1><span class="badge {word}">{word}</span></header>',
        f'<p class="sub">{escape(run["started"])} &middot; {escape(run["host"])}</p>',
        f'<ul class="reasons">{reasons}</ul>' if reasons else "",
        _tiles(result),
        "<h2>In time</h2>",
        _rates_chart(result),
        _latency_chart(result),
        _lateness_chart(result),
        "<h2>How latency is spread</h2>",
        _distribution_chart(result),
        _latency_table(result),
        "<h2>Gates</h2>",
        _gates_table(result),
        *_comparison(result),
        "<h2>Audit</h2>",
        _audit_table(result),
        "<h2>The run</h2>",
        _pairs_table([*facts(result), ("audit", audit_text(result)), ("machine", _machine(run))]),
        "<h2>What these figures do not say</h2>",
        "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in limits(result)) + "</ul>",
        f"<footer>Run {escape(run['prefix'])}. For machines the same figures are in result.json.</footer>",
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>'
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _tiles(result: Result) -> str:
    e2e, audit = result["latency_ms"].get("e2e", {}), result["audit"]
    tiles = [
        (_number(result["rates"]["submitted_per_s"]), "submitted per second"),
        (_number(result["rates"]["completed_per_s"]), "completed per second"),
        *((_number(e2e.get(f"p{p}_ms")), f"ms end to end, p{p}") for p in (50, 95, 99)),
        (str(audit["lost"]["count"]), f"lost of {audit['acknowledged']:,} acknowledged"),
    ]
    inner = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in tiles
    )
    return f'<div class="tiles">{inner}</div>'


def _column(result: Result, key: str) -> list[tuple[float, float | None]]:
    return [(window["t_s"], window[key]) for window in result["series"]["windows"]]


def _rates_chart(result: Result) -> str:
    lines = [
        Line("due", "a", _column(result, "due_per_s"), dashed=True),
        Line("acknowledged", "b", _column(result, "accepted_per_s")),
        Line("ended", "d", _column(result, "ended_per_s")),
    ]
    throttled = _column(result, "throttled_per_s")
    if any(y for _, y in throttled):
        lines.append(Line("answered 429", "c", throttled))
    return line_chart("Rate", "tasks per second", lines)


def _latency_chart(result: Result) -> str:
    names = (("p99", "c"), ("p95", "d"), ("p50", "a"))
    lines = [Line(name, colour, _column(result, f"e2e_{name}_ms")) for name, colour in names]
    return line_chart("End to end, by the second in which tasks were due", "ms", lines, may_be_log=True)


def _lateness_chart(result: Result) -> str:
    return line_chart(
        "Lateness of the generator, largest", "ms", [Line("due until sent", "a", _column(result, "late_max_ms"))]
    )


def _distribution_chart(result: Result) -> str:
    spread = result["distribution"]
    lines = [
        Line("from due (counts)", "a", [(x, y) for x, y in spread["e2e"]]),
        Line("from sent (uncorrected)", "c", [(x, y) for x, y in spread["e2e_uncorrected"]], dashed=True),
    ]
    return percentile_chart("End to end by percentile", "ms", lines)


def _latency_table(result: Result) -> str:
    head = (
        "<tr><th>latency, ms</th>"
        + "".join(f'<th class="n">{name}</th>' for _, name in _COLUMNS)
        + "<th>from, to</th></tr>"
    )
    rows: list[str] = []
    for key, name, meaning in LATENCY_ROWS:
        found = result["latency_ms"].get(key)
        if found:
            figures = latency_cells(result, key, [column for column, _ in _COLUMNS if column != "count"])
            cells = "".join(f'<td class="n">{escape(cell)}</td>' for cell in [f"{found['count']:,}", *figures])
            kind = "part" if name.startswith(" ") else ""
            label = f'<td class="{kind}">{escape(name.strip())}</td>'
            rows.append(f'<tr>{label}{cells}<td class="mean">{escape(meaning)}</td></tr>')
    return f'<div class="table"><table>{head}{"".join(rows)}</table></div>'


def _gates_table(result: Result) -> str:
    if not result["gates"]:
        return '<p class="none">The profile has no gates.</p>'
    rows = [
        f'<tr><td><code>{escape(gate["gate"])}</code></td><td class="n">{_number(gate["value"])}</td>'
        f'<td class="{"kept" if gate["kept"] else "broken"}">{"kept" if gate["kept"] else "not kept"}</td></tr>'
        for gate in result["gates"]
    ]
    head = '<tr><th>gate</th><th class="n">measured</th><th></th></tr>'
    return f'<div class="table"><table>{head}{"".join(rows)}</table></div>'


def _comparison(result: Result) -> list[str]:
    rows = [
        f"<tr><td><code>{name}</code></td>"
        + "".join(f'<td class="n">{cell}</td>' for cell in cells)
        + ('<td class="broken">slower</td></tr>' if slower else '<td class="kept">not slower</td></tr>')
        for name, *cells, slower in comparison_rows(result)
    ]
    if not rows:
        return []
    head = "".join(f'<th class="n">{name}</th>' for name in ("before, ms", "now, ms", "change", "limits of it"))
    title = f"<h2>Compared with {escape(result['comparison']['baseline'])}</h2>"
    return [
        title,
        f'<div class="table"><table><tr><th>percentile</th>{head}<th></th></tr>{"".join(rows)}</table></div>',
    ]


def _audit_table(result: Result) -> str:
    audit = result["audit"]
    meanings = [*FAULTS.items(), ("open_", "acknowledged, not ended when the run stopped waiting")]
    rows: list[str] = []
    for key, meaning in meanings:
        finding = audit[key]
        if key in _OF_WEBHOOKS and audit["receipts"] is None:
            continue
        mark = "kept" if not finding["count"] else "INVALID" if key == "open_" else "broken"
        rows.append(
            f'<tr><td>{key.rstrip("_")}</td><td class="n {mark}">{finding["count"]}</td>'
            f'<td class="mean">{meaning}{_ids(finding["ids"])}</td></tr>'
        )
    known = audit["executions"] is not None
    executions = f"{audit['executions']:,} executions in the workers' logs" if known else "no log read"
    webhooks = "no webhooks asked for" if audit["receipts"] is None else f"{audit['receipts']:,} webhooks"
    checked = f"tasks sent; {audit['acknowledged']:,} acknowledged, {audit['ended']:,} ended; {executions}; {webhooks}"
    if audit["receipts_refused"]:
        checked += f", {audit['receipts_refused']:,} more refused for a wrong key"
    if audit["results_checked"]:
        checked += f"; {audit['results_checked']:,} results seen to be the task's own"
    rows.append(
        f'<tr><td>checked</td><td class="n">{audit["sent"]:,}</td>'
        f'<td class="mean">{escape(checked)}, {audit["retried"]} tasks retried</td></tr>'
    )
    return f'<div class="table"><table>{"".join(rows)}</table></div>'


def _ids(ids: Sequence[str]) -> str:
    if not ids:
        return ""
    more = " and more in result.json" if len(ids) > MOST_IDS_SHOWN else ""
    return f"<br><code>{escape(', '.join(ids[:MOST_IDS_SHOWN]))}</code>{more}"


def _pairs_table(pairs: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in pairs)
    return f'<div class="table"><table>{rows}</table></div>'


def _machine(run: Mapping[str, Any]) -> str:
    machine = run["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine['system']} {machine['machine']}, {machine['cpus']} CPUs; {versions}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if abs(value) < 0.01:
        return "0"
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"
