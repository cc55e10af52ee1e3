"""A trace: recorded arrivals with their sizes, and what is done to their times before they are sent again."""

import itertools
import math
import random
from array import array
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import attrs

# A trace whose rows mostly share their time with others, and whose times lie at least this far apart, is quantised.
LEAST_TICK_S = 0.01
SHARED_PART = 0.5


class Size(NamedTuple):
    """How much a task carries and asks for: tokens of a prompt and its answer, or bytes and 0."""

    prompt_tokens: int
    output_tokens: int


@attrs.frozen
class Trace:
    """Rows in order of time: seconds from the first row, prompt and output tokens; `kind` and `notes` for people."""

    name: str
    at_s: "array[float]"
    prompt_tokens: "array[int]"
    output_tokens: "array[int]"
    kind: str = "replay of"
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.at_s)

    @property
    def duration_s(self) -> float:
        """The time of the last row."""
        return self.at_s[-1]

    def rows(self) -> Iterator[tuple[float, Size]]:
        """Every row: when, and how large."""
        return zip(self.at_s, map(Size, self.prompt_tokens, self.output_tokens), strict=True)

    def figures(self) -> tuple[float, int, float]:
        """The mean rate per second, the tasks of the busiest second, and the gaps' coefficient of variation."""
        gaps = [later - earlier for earlier, later in itertools.pairwise(self.at_s)]
        mean_s = math.fsum(gaps) / len(gaps) if gaps else 0.0
        variance = math.fsum((gap - mean_s) ** 2 for gap in gaps) / len(gaps) if gaps else 0.0
        busiest = max(sum(1 for _ in group) for _, group in itertools.groupby(self.at_s, key=math.floor))
        rate = len(self) / self.duration_s if self.duration_s else float(len(self))
        return rate, busiest, math.sqrt(variance) / mean_s if mean_s else 0.0

    def summary(self) -> str:
        """One line for people: rows, span, mean rate, busiest second, how bursty the gaps are, and the notes."""
        rate, busiest, cv = self.figures()
        found = (
            f"{self.kind} {self.name}: {len(self)} tasks in {self.duration_s:.0f} s, "
            f"mean {rate:.1f}/s, busiest second {busiest}, gap CV {cv:.1f}"
        )
        return "; ".join((found, *self.notes))


def from_rows(name: str, rows: list[tuple[float, int, int]], kind: str = "replay of") -> Trace:
    """A trace of (seconds, prompt tokens, output tokens) in any order; its time begins with its first row."""
    rows.sort(key=lambda row: row[0])
    first_s = rows[0][0]
    return Trace(
        name,
        array("d", (row[0] - first_s for row in rows)),
        array("q", (row[1] for row in rows)),
        array("q", (row[2] for row in rows)),
        kind=kind,
    )


def tick_of(trace: Trace) -> float:
    """The tick to which the times of a trace were rounded, in seconds; 0 when they look exact."""
    times = Counter(trace.at_s)
    if len(times) < 2 or sum(count for count in times.values() if count > 1) < SHARED_PART * len(trace):
        return 0.0
    steps = sorted(later - earlier for earlier, later in itertools.pairwise(sorted(times)))
    if steps[0] < LEAST_TICK_S:
        return 0.0
    # Ticks without a row make some steps longer; rounding makes the least one a little too short.
    usual_s = steps[len(steps) // 2]
    return usual_s if steps[0] >= 0.9 * usual_s else steps[0]


def spread(trace: Trace, tick_s: float, seed: int) -> Trace:
    """The trace with each time moved by chance within its tick (0 to `tick_s` later), rows staying in their order."""
    rng = random.Random(f"jitter/{seed}")
    at_s = array("d")
    for start_s, group in itertools.groupby(trace.at_s):
        at_s.extend(sorted(start_s + rng.random() * tick_s for _ in group))
    # Where a tick was shorter than the others, its last rows may have passed the first of the next.
    note = f"times drawn within their tick of {tick_s:g} s"
    return attrs.evolve(trace, at_s=array("d", sorted(at_s)), notes=(*trace.notes, note))
