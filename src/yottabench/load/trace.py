"""Traces of real arrivals: readers for public formats, and a synthetic stand-in fitted to published figures."""

import bisect
import csv
import gzip
import io
import itertools
import math
import random
from array import array
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import attrs

from yottabench.load.tables import ProfileError

MAX_TOKENS = 1_000_000  # a row beyond it is a broken file, not a prompt


class Size(NamedTuple):
    """How much a task carries and asks for, in tokens."""

    prompt_tokens: int
    output_tokens: int


@attrs.frozen
class Trace:
    """Rows in order of time: seconds from the first row, prompt and output tokens."""

    name: str
    at_s: "array[float]"
    prompt_tokens: "array[int]"
    output_tokens: "array[int]"
    synthetic: bool = False

    def __len__(self) -> int:
        return len(self.at_s)

    @property
    def duration_s(self) -> float:
        """The time of the last row."""
        return self.at_s[-1]

    def rows(self) -> Iterator[tuple[float, Size]]:
        """Every row: when, and how large."""
        return zip(self.at_s, map(Size, self.prompt_tokens, self.output_tokens), strict=True)

    def summary(self) -> str:
        """One line for people: rows, span, mean rate, busiest second and how bursty the gaps are."""
        gaps = [later - earlier for earlier, later in itertools.pairwise(self.at_s)]
        mean_s = sum(gaps) / len(gaps) if gaps else 0.0
        variance = sum((gap - mean_s) ** 2 for gap in gaps) / len(gaps) if gaps else 0.0
        cv = math.sqrt(variance) / mean_s if mean_s else 0.0
        busiest = max(sum(1 for _ in group) for _, group in itertools.groupby(self.at_s, key=math.floor))
        rate = len(self) / self.duration_s if self.duration_s else float(len(self))
        kind = "synthetic, fitted to" if self.synthetic else "replay of"
        return (
            f"{kind} {self.name}: {len(self)} tasks in {self.duration_s:.0f} s, "
            f"mean {rate:.1f}/s, busiest second {busiest}, gap CV {cv:.1f}"
        )


def read_trace(path: Path) -> Trace:
    """Reads a CSV trace, plain or .gz, in either layout of `_LAYOUTS`. Raises ProfileError that names line and rule."""
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ProfileError(f"Cannot read the trace {path}: {error}. Give a CSV file, plain or gzipped.") from None
    reader = csv.reader(io.StringIO(text))
    no_header: list[str] = []
    header = [cell.strip().lower() for cell in next(reader, no_header)]
    parse = _LAYOUTS.get(",".join(header))
    if parse is None:
        known = " or ".join(f"'{layout}'" for layout in _LAYOUTS)
        raise ProfileError(f"{path}: line 1 must be the header {known}, not {','.join(header)[:80]!r}.")
    rows = [_row(parse, cells, f"{path}: line {reader.line_num}") for cells in reader if cells]
    if not rows:
        raise ProfileError(f"{path} has a header but no rows.")
    rows.sort(key=lambda row: row[0])
    return _trace(path.name, rows)


def synthetic_trace(name: str, seed: int) -> Trace:
    """A seeded trace whose gaps and sizes follow the published quantiles of the trace of that name."""
    figures = _FITTED[name]
    rng = random.Random(f"trace/{name}/{seed}")
    rows: list[tuple[float, int, int]] = []
    at_s = 0.0
    while True:
        rows.append((at_s, round(_draw(figures.prompt_tokens, rng)), round(_draw(figures.output_tokens, rng))))
        at_s += _draw(figures.gaps_s, rng)
        if at_s > figures.duration_s:
            return attrs.evolve(_trace(name, rows), synthetic=True)


def _trace(name: str, rows: list[tuple[float, int, int]]) -> Trace:
    first_s = rows[0][0]
    return Trace(
        name,
        array("d", (row[0] - first_s for row in rows)),
        array("q", (row[1] for row in rows)),
        array("q", (row[2] for row in rows)),
    )


def _row(parse: Callable[[list[str]], tuple[float, int, int]], cells: list[str], where: str) -> tuple[float, int, int]:
    try:
        at_s, prompt_tokens, output_tokens = parse(cells)
    except (ValueError, IndexError) as error:
        raise ProfileError(f"{where} cannot be read: {error}.") from None
    if not math.isfinite(at_s) or not 0 <= prompt_tokens <= MAX_TOKENS or not 0 <= output_tokens <= MAX_TOKENS:
        raise ProfileError(f"{where}: the time must be finite and sizes must be 0 to {MAX_TOKENS}.")
    return at_s, prompt_tokens, output_tokens


def _azure_row(cells: list[str]) -> tuple[float, int, int]:
    # Azure writes seven digits of a second, which datetime does not read; the fraction is added by hand.
    stamp, _, fraction = cells[0].partition(".")
    seconds = (datetime.fromisoformat(stamp) - _AZURE_EPOCH).total_seconds()
    return seconds + (int(fraction) / 10 ** len(fraction) if fraction else 0.0), int(cells[1]), int(cells[2])


def _plain_row(cells: list[str]) -> tuple[float, int, int]:
    return float(cells[0]), int(cells[1]), 0


_AZURE_EPOCH = datetime(2020, 1, 1)  # noqa: DTZ001  the file's stamps carry no zone; only their differences are used
_LAYOUTS: dict[str, Callable[[list[str]], tuple[float, int, int]]] = {
    "timestamp,contexttokens,generatedtokens": _azure_row,
    "t,size": _plain_row,
}


@attrs.frozen
class _Fitted:
    duration_s: float
    gaps_s: tuple[tuple[float, float], ...]
    prompt_tokens: tuple[tuple[float, float], ...]
    output_tokens: tuple[tuple[float, float], ...]


# (share, value) knots. Azure LLM inference trace 2023, code service: 8,819 requests in 3,436 s
# (Azure/AzurePublicDataset, CC-BY-4.0; Patel et al., Splitwise, ISCA 2024).
_FITTED = {
    "azure-code": _Fitted(
        duration_s=3436.0,
        gaps_s=(
            (0.0, 0.0001), (0.10, 0.0002), (0.25, 0.0021), (0.50, 0.0638), (0.75, 0.104), (0.90, 0.273), (0.95, 0.40),
            (0.984, 1.0), (0.99, 2.2), (0.995, 10.1), (0.999, 82.8), (1.0, 217.0),
        ),
        prompt_tokens=(
            (0.0, 3), (0.01, 17), (0.05, 75), (0.10, 147), (0.25, 578), (0.50, 1469), (0.75, 2745), (0.90, 5194),
            (0.95, 7315), (1.0, 7437),
        ),
        output_tokens=(
            (0.0, 6), (0.10, 7), (0.25, 9), (0.50, 13), (0.75, 24), (0.90, 55), (0.95, 90), (0.99, 252), (1.0, 1899),
        ),
    )
}  # fmt: skip


def _draw(knots: tuple[tuple[float, float], ...], rng: random.Random) -> float:
    """A value by inverse transform, interpolated between the knots on a logarithmic scale."""
    share = rng.random()
    index = min(bisect.bisect_right(knots, share, key=lambda knot: knot[0]), len(knots) - 1)
    (low_share, low), (high_share, high) = knots[index - 1], knots[index]
    part = (share - low_share) / (high_share - low_share)
    return math.exp(math.log(low) + part * (math.log(high) - math.log(low)))
