"""Whether a figure that was sampled over hours is flat, or grows."""

import statistics
from collections.abc import Sequence

import attrs

WARM_UP = 0.25  # the first share of a run in which caches, pools and the store's first pages fill
PAIRS_MAX = 60  # samples that slopes are taken between: more say the same


@attrs.frozen
class Limit:
    """How much a figure may grow from the end of warming up to the end of the run: a share of it, and an amount."""

    name: str
    unit: str
    share: float
    amount: float
    most: float | None = None
    """What it may be at any time."""


@attrs.frozen
class Verdict:
    """What became of one figure."""

    limit: Limit
    median: float
    highest: float
    growth: float
    allowed: float

    @property
    def is_kept(self) -> bool:
        """Whether it is flat enough."""
        return self.growth <= self.allowed and (self.limit.most is None or self.highest <= self.limit.most)

    def __str__(self) -> str:
        word = "flat" if self.is_kept else "GROWS"
        return (
            f"  {self.limit.name:<14} {word:<6} median {self.median:,.1f} {self.limit.unit},"
            f" highest {self.highest:,.1f}, growth {self.growth:+,.2f} (allowed {self.allowed:,.2f})"
        )


def slope(samples: Sequence[tuple[float, float]]) -> float:
    """The median of the slopes between all pairs of (time, figure): a few outliers do not move it (Theil and Sen)."""
    step = max(1, len(samples) // PAIRS_MAX)
    some = samples[::step]
    slopes = [
        (later - earlier) / (end - start)
        for at, (start, earlier) in enumerate(some)
        for end, later in some[at + 1 :]
        if end > start
    ]
    return statistics.median(slopes) if slopes else 0.0


def judge(limit: Limit, samples: Sequence[tuple[float, float]]) -> Verdict:
    """Hold the samples, (seconds, figure) in order, against a limit; warming up does not count."""
    start_s, end_s = samples[0][0], samples[-1][0]
    begin_s = start_s + WARM_UP * (end_s - start_s)
    counted = [sample for sample in samples if sample[0] >= begin_s]
    figures = [figure for _, figure in counted]
    median = statistics.median(figures)
    return Verdict(
        limit=limit,
        median=median,
        highest=max(figures),
        growth=slope(counted) * (end_s - begin_s),
        allowed=median * limit.share + limit.amount,
    )
