"""Is this run slower than that one? Percentiles of two runs compared by a block bootstrap over their time."""

import bisect
import itertools
import math
import operator
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs

from yottabench.load.journal import ACCEPTED, Journal
from yottabench.load.profile import Profile
from yottabench.load.tables import write_table

# Several comparisons are made; all together alarm wrongly in at most this share of the runs.
FALSE_ALARMS = 0.01
TOLERANCE = 0.05  # what is slower by less is not worth an alarm, however sure it is
RESAMPLES = 1000
BLOCKS = 40  # of a run's time: long enough that what happens in one says little about the next
LEAST_BLOCKS = 8
TASKS_PER_BLOCK = 25
BIN = math.log(1.002)  # durations are sorted into bins of 0.2 %
METRICS: tuple[tuple[str, str, float], ...] = (
    ("e2e_p50_ms", "e2e", 50),
    ("e2e_p95_ms", "e2e", 95),
    ("e2e_p99_ms", "e2e", 99),
    ("submit_p50_ms", "submit", 50),
    ("submit_p95_ms", "submit", 95),
)
# A percentile is compared only with this many tasks beyond it in each run.
LEAST_BEYOND = 20


class CannotCompare(ValueError):
    """Two runs that say nothing about each other; the text says why and what next."""


@attrs.frozen
class Row:
    """One percentile of both runs: the ratio with its confidence interval (one-sided limits), and whether it alarms."""

    metric: str
    before_ms: float
    now_ms: float
    ratio: float
    low: float
    high: float
    slower: bool


@attrs.frozen
class Comparison:
    """What came of comparing a run with an earlier one; `notes` say what was left out and why."""

    baseline: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    @property
    def regressions(self) -> list[Row]:
        """The rows that alarm."""
        return [row for row in self.rows if row.slower]

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain JSON."""
        return attrs.asdict(self) | {
            "false_alarms": FALSE_ALARMS,
            "tolerance": TOLERANCE,
            "regressed": bool(self.regressions),
        }


class Blocks:
    """Durations of a run, cut into blocks of its time, each as counts in common logarithmic bins."""

    def __init__(self, timed: Iterable[tuple[float, float]], span_s: float) -> None:
        pairs = [(at_s, seconds) for at_s, seconds in timed if seconds > 0]
        self.count = len(pairs)
        number = max(1, min(BLOCKS, self.count // TASKS_PER_BLOCK))
        bins = [(min(number - 1, int(at_s / span_s * number)), round(math.log(s) / BIN)) for at_s, s in pairs]
        self.first = min((bin_ for _, bin_ in bins), default=0)
        width = max((bin_ for _, bin_ in bins), default=0) - self.first + 1
        counts = [[0] * width for _ in range(number)]
        for block, bin_ in bins:
            counts[block][bin_ - self.first] += 1
        # Per bin, how many durations of each block are in it or below: quantiles of any resample are a binary search.
        self._up_to = list(zip(*(list(itertools.accumulate(row)) for row in counts), strict=True))
        self.sizes = self._up_to[-1]

    def __len__(self) -> int:
        return len(self.sizes)

    def quantile_log(self, share: float, times: Sequence[int]) -> float:
        """The logarithm of a quantile when block i is counted times[i] times; -infinity when nothing is counted."""
        total = sum(map(operator.mul, times, self.sizes))
        if not total:
            return -math.inf
        wanted = max(1, math.ceil(share * total))
        below = bisect.bisect_left(self._up_to, wanted, key=lambda column: sum(map(operator.mul, times, column)))
        return (self.first + below) * BIN


def compare_journals(before: Sequence[Journal], now: Sequence[Journal], *, baseline: str, seed: int = 1) -> Comparison:
    """Compares the percentiles of METRICS.

    Blocks of a run's time are drawn with replacement, because tasks that are neighbours share their fate and are no
    independent samples. A percentile alarms when its ratio exceeds 1 + TOLERANCE and the lower confidence limit of the
    ratio exceeds 1; limits are set so that all percentiles together alarm in no more than FALSE_ALARMS of equal runs.
    """
    rows: list[Row] = []
    notes: list[str] = []
    for kind in ("e2e", "submit"):
        timed = [list(_durations(journals, kind)) for journals in (before, now)]
        old, new = (Blocks(found, _span_s(found)) for found in timed)
        if min(len(old), len(new)) < LEAST_BLOCKS:
            notes.append(
                f"{kind} was not compared: {min(old.count, new.count)} tasks are too few "
                f"(at least {LEAST_BLOCKS * TASKS_PER_BLOCK} in each run)"
            )
            continue
        for metric, of, percent in METRICS:
            if of != kind:
                continue
            if min(old.count, new.count) * (1 - percent / 100) < LEAST_BEYOND:
                notes.append(f"{metric} was not compared: too few tasks lie beyond it in one of the runs")
                continue
            rows.append(_row(metric, percent / 100, old, new, random.Random(f"compare/{metric}/{seed}")))
    return Comparison(baseline, tuple(rows), tuple(notes))


def check_comparable(before: Profile, now: Profile) -> None:
    """Refuses to compare different things. Raises CannotCompare that names the parts that differ."""
    parts = ("arrivals", "mix", "endpoint", "task", "detection", "actions", "emulator")
    differing = [name for name in parts if getattr(before, name) != getattr(now, name)]
    if differing:
        told = "; ".join(f"{name}: {_difference(getattr(before, name), getattr(now, name))}" for name in differing)
        raise CannotCompare(
            f"The runs are not of the same kind, so neither is slower than the other ({told}). "
            "Compare runs of one profile, with the same rate, duration and endpoint."
        )


def _difference(before: object, now: object) -> str:
    if not attrs.has(type(before)):
        return "differ"
    old, new = (
        dict(line.split(" = ", 1) for line in write_table(part).splitlines() if " = " in line) for part in (before, now)
    )
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return ", ".join(f"{key} {old.get(key, 'unset')} then, {new.get(key, 'unset')} now" for key in changed[:3])


def _durations(journals: Sequence[Journal], kind: str) -> Iterable[tuple[float, float]]:
    for journal in journals:
        until = journal.detected_s if kind == "e2e" else journal.answered_s
        counts: Callable[[int], bool] = (
            journal.ended if kind == "e2e" else lambda row, journal=journal: journal.outcome[row] == ACCEPTED
        )
        for row, due_s in enumerate(journal.due_s):
            if counts(row):
                yield due_s, until[row] - due_s


def _span_s(timed: Sequence[tuple[float, float]]) -> float:
    return max((at_s for at_s, _ in timed), default=0.0) or 1.0


def _row(metric: str, share: float, old: Blocks, new: Blocks, rng: random.Random) -> Row:
    before, now = (blocks.quantile_log(share, [1] * len(blocks)) for blocks in (old, new))
    ratios = sorted(
        new.quantile_log(share, _drawn(len(new), rng)) - old.quantile_log(share, _drawn(len(old), rng))
        for _ in range(RESAMPLES)
    )
    one_sided = FALSE_ALARMS / len(METRICS)
    low, high = (_at(ratios, part) for part in (one_sided, 1 - one_sided))
    ratio = math.exp(now - before)
    return Row(
        metric=metric,
        before_ms=math.exp(before) * 1000,
        now_ms=math.exp(now) * 1000,
        ratio=ratio,
        low=math.exp(low),
        high=math.exp(high),
        slower=low > 0 and ratio > 1 + TOLERANCE,
    )


def _drawn(number: int, rng: random.Random) -> list[int]:
    times = [0] * number
    for index in rng.choices(range(number), k=number):
        times[index] += 1
    return times


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
