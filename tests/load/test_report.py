import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.load.runs import Sent, make_run, server_tasks, write_views
from yottabench.load.charts import Line, line_chart, percentile_chart
from yottabench.load.finish import conclude
from yottabench.load.profile import Profile
from yottabench.load.rundir import RunDir
from yottabench.load.summary import summary_text

VOID = {"meta", "br"}


class Checker(HTMLParser):
    """Every element closed in order, nothing fetched, all text kept."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            assert name not in ("src", "href", "xlink:href"), f"{tag} fetches {value}"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    tasks = [Sent(n, n / 50, end_s=0.01 + n % 7 / 100) for n in range(100)]
    tasks += [Sent(100, 1.9, outcome="throttled"), Sent(101, 1.95, status="FAILED")]
    return make_run(tmp_path, tasks, Profile("p", gates=("e2e_p99_ms <= 50", "error_rate <= 0.5")), duration_s=2.0)


def test_the_page_stands_alone_and_says_what_was_found(run: RunDir):
    result = conclude(run)
    page = run.html_file.read_text("utf-8")
    found = read(page)
    assert {"svg", "table", "figure"} <= found.tags
    assert "script" not in found.tags
    assert not re.search(r"@import|url\(|https?://(?!127\.0\.0\.1:1\b)", page)
    assert "prefers-color-scheme: dark" in page
    for said in (
        "FAIL",
        "end to end",
        "uncorrected",
        "lateness",
        "lost",
        "e2e_p99_ms <= 50",
        "What these figures do not say",
        "answered 429",
    ):
        assert said in found.text
    assert result["verdict"] == "FAIL"


def test_every_chart_is_well_formed(run: RunDir):
    conclude(run)
    charts = re.findall(r"<svg.*?</svg>", run.html_file.read_text("utf-8"), re.DOTALL)
    assert len(charts) == 4
    for chart in charts:
        ElementTree.fromstring(chart)


def test_ids_of_findings_are_shown_and_escaped(run: RunDir):
    held = server_tasks([Sent(n) for n in range(102)])
    write_views(run, [*held[1:100], held[101]], [])
    meta = run.read_meta()
    run.update_meta(host="http://<script>alert(1)</script>", arrivals="a & b")
    conclude(run)
    page = run.html_file.read_text("utf-8")
    assert "<script" not in page
    assert f"{meta['prefix']}_0" in read(page).text


def test_the_terminals_block_is_aligned_and_names_the_report(run: RunDir):
    text = summary_text(conclude(run), run)
    lines = text.splitlines()
    assert lines[0].endswith("FAIL")
    assert "lost 0   duplicated 0   unexpected 0   open 0" in text
    assert lines[-1] == f"  report        {run.html_file}"
    table = [line for line in lines if re.match(r"  (latency, ms|end to end|submit|server|detection|lateness) ", line)]
    assert len({len(line[:58].rstrip()) for line in table}) == 1


def test_the_markdown_page_has_the_same_figures(run: RunDir):
    result = conclude(run)
    text = run.markdown_file.read_text("utf-8")
    assert text.startswith("# Load run made-up: FAIL")
    assert f"| end to end | {result['latency_ms']['e2e']['count']} |" in text
    assert "**not kept**" in text
    assert "What these figures do not say" in text


values = st.none() | st.floats(0, 1e7, allow_nan=False)


@given(st.lists(st.tuples(st.floats(0, 1e5), values), max_size=20), st.booleans())
def test_any_values_make_a_chart(points: list[tuple[float, float | None]], may_be_log: bool):
    ordered = sorted(points, key=lambda point: point[0])
    chart = line_chart("a <b>", "ms", [Line("one & two", "a", ordered), Line("none", "b", [])], may_be_log=may_be_log)
    read(chart)
    for number in re.findall(r"[ML](-?[0-9.]+) (-?[0-9.]+)", chart):
        assert 0 <= float(number[0]) <= 860
        assert 0 <= float(number[1]) <= 260


@given(st.lists(st.floats(0, 1e7), min_size=1, max_size=30))
def test_any_distribution_makes_a_chart(values: list[float]):
    points = [(100 * n / len(values), value) for n, value in enumerate(sorted(values), 1)]
    chart = percentile_chart("spread", "ms", [Line("one", "a", points)])
    read(chart)
    assert "nan" not in chart
