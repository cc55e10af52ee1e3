"""What every benchmark shares: results, the machine they come from, and how they are written."""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs


@attrs.frozen
class Figure:
    """One measured thing: `samples` of it in `unit`, one per repetition."""

    name: str
    unit: str
    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """The figure."""
        return statistics.median(self.samples)

    @property
    def spread(self) -> str:
        """Smallest to largest."""
        return f"{_number(min(self.samples))} to {_number(max(self.samples))}"


@attrs.frozen
class Ratio:
    """`ours` over `peer` (or the other way round for what should be small), with the target it is held to."""

    name: str
    value: float
    target: float
    at_least: bool = True

    @property
    def reached(self) -> bool:
        """Whether the target is met."""
        return self.value >= self.target if self.at_least else self.value <= self.target


@attrs.define
class Report:
    """All of one benchmark."""

    title: str
    about: str
    figures: list[Figure] = attrs.field(factory=list[Figure])
    ratios: list[Ratio] = attrs.field(factory=list[Ratio])
    skipped: list[str] = attrs.field(factory=list[str])  # what could not be measured here, and why

    def markdown(self) -> str:
        """A title and two tables."""
        return f"## {self.title}\n\n{self.tables()}"

    def tables(self) -> str:
        """How it was measured, the figures, and the ratios with what they should be."""
        lines = [self.about, "", "| figure | median | unit | spread |", "|---|---:|---|---|"]
        lines += [f"| {each.name} | {_number(each.median)} | {each.unit} | {each.spread} |" for each in self.figures]
        if self.ratios:
            lines += ["", "| ratio | value | target | reached |", "|---|---:|---:|---|"]
        for each in self.ratios:
            sign = ">=" if each.at_least else "<="
            lines.append(
                f"| {each.name} | {each.value:.2f} | {sign} {each.target:g} | {'yes' if each.reached else 'no'} |"
            )
        if self.skipped:
            lines += ["", *(f"Not measured: {each}" for each in self.skipped)]
        return "\n".join([*lines, ""])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


PACKAGES = ("uvicorn", "uvloop", "httptools", "msgspec", "httpx", "locust", "gevent", "orjson")


_LOAD_BEFORE = os.getloadavg()[0]


def machine() -> dict[str, Any]:
    """Where this ran: ratios travel, figures do not."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load_before": round(_LOAD_BEFORE, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": sys.version.split()[0],
        "packages": {name: version(name) for name in PACKAGES},
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


_MARK = re.compile(r"(<!-- bench (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def update(page: Path, reports: dict[str, Report]) -> None:
    """Put the tables of `reports` where the page has `<!-- bench NAME -->` ... `<!-- end -->`; what was not run stays.

    The mark `machine` gets where and on what commit this ran.
    """
    found = {name: report.tables() for name, report in reports.items()} | {"machine": _where(machine())}

    def fresh(mark: "re.Match[str]") -> str:
        return f"{mark[1]}{found[mark[2]].rstrip()}\n{mark[3]}" if mark[2] in found else mark[0]

    page.write_text(_MARK.sub(fresh, page.read_text(encoding="utf-8")), encoding="utf-8")


def _where(where: dict[str, Any]) -> str:
    return (
        f"{where['cpu']}, {where['cores']} cores, {where['system']}, Python {where['python']},"
        f" commit {where['commit']}; load average before the run {where['load_before']};"
        f" {', '.join(f'{name} {number}' for name, number in where['packages'].items())}."
    )


def write(reports: list[Report], folder: Path) -> Path:
    """bench.json for programs and bench.md for people; returns the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    where = machine()
    content = {"machine": where, "reports": [attrs.asdict(report) for report in reports]}
    (folder / "bench.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    page = folder / "bench.md"
    head = f"# Benchmarks\n\n{_where(where)}\n\n"
    page.write_text(head + "\n".join(report.markdown() for report in reports), encoding="utf-8")
    return page
