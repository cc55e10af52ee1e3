import re
from pathlib import Path

from bench.__main__ import ALL
from bench.frame import Figure, Ratio, Report, update

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"


def test_every_benchmark_has_its_place_and_its_command_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert {*re.findall(r"<!-- bench (\w+) -->", text)} == {*ALL, "machine"}
    named = " ".join(re.findall(r'make bench BENCH="?([\w ]+)', text)).split()
    assert set(named) == set(ALL)


def test_a_run_replaces_its_own_tables_and_leaves_the_others(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- bench one -->\nold\n<!-- end -->\nb\n<!-- bench two -->\nkept\n<!-- end -->\n")
    for value in (1.0, 2.0):
        report = Report("One", "How.", [Figure("f", "s", (value,))], [Ratio("r", value, 5)])
        update(page, {"one": report})
    text = page.read_text()
    assert "old" not in text
    assert "| f | 2 | s | 2 to 2 |" in text
    assert "| r | 2.00 | >= 5 | no |" in text
    assert text.count("| f |") == 1
    assert text.endswith("b\n<!-- bench two -->\nkept\n<!-- end -->\n")


def test_what_could_not_be_measured_is_said() -> None:
    assert "Not measured: Redis: it is not here" in Report("One", "", skipped=["Redis: it is not here"]).markdown()
