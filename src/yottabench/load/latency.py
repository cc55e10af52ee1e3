"""Latencies in HdrHistograms: three digits from a microsecond up, merged over processes."""

from collections.abc import Sequence
from typing import Any

from hdrh.histogram import HdrHistogram  # pyright: ignore[reportMissingTypeStubs]  the package has no type stubs

LARGEST_US = 24 * 3_600 * 1_000_000  # a day; what is longer is recorded as a day


class Latencies:
    """A mergeable distribution of durations from 1 microsecond to a day, each kept to three significant digits."""

    __slots__ = ("_hdr",)

    def __init__(self, encoded: str | None = None) -> None:
        histogram: Any = HdrHistogram
        self._hdr: Any = histogram.decode(encoded.encode("ascii")) if encoded else histogram(1, LARGEST_US, 3)

    def record_s(self, seconds: float) -> None:
        """Adds one duration; one below a microsecond, or below zero for a clock's sake, counts as a microsecond."""
        us = int(seconds * 1e6)
        self._hdr.record_value(1 if us < 1 else us if us < LARGEST_US else LARGEST_US)

    def merge(self, other: "Latencies") -> None:
        """Adds everything the other one holds."""
        self._hdr.add(other._hdr)

    def encode(self) -> str:
        """The whole distribution as base64 text, for `Latencies(encoded)` in another process."""
        return self._hdr.encode().decode("ascii")

    @property
    def count(self) -> int:
        """How many durations were recorded."""
        return int(self._hdr.get_total_count())

    def percentile_ms(self, percent: float) -> float | None:
        """The duration that `percent` of the recorded ones do not exceed; None when nothing was recorded."""
        return self.percentiles_ms([percent])[0]

    def percentiles_ms(self, percents: Sequence[float]) -> list[float | None]:
        """Several percentiles in one pass, in the order asked for: one at a time, each is a walk from the start."""
        if not self.count:
            return [None] * len(percents)
        found: dict[float, int] = self._hdr.get_percentile_to_value_dict(list(percents))
        return [found[percent] / 1000 for percent in percents]

    def count_over_ms(self, bound_ms: float) -> int:
        """How many durations exceed a bound, as exactly as durations are kept."""
        first = self._hdr.get_counts_array_index(min(int(bound_ms * 1000), LARGEST_US)) + 1
        return sum(self._hdr.counts[first:])

    @property
    def max_ms(self) -> float | None:
        """The largest duration, None when nothing was recorded."""
        return self._hdr.get_max_value() / 1000 if self.count else None

    def curve(self) -> list[tuple[float, float]]:
        """(percent, ms) along the distribution, ever denser towards the end, where the long ones are."""
        percents: list[float] = []
        percent = 0.0
        while self.count and 100 - percent > 50 / self.count:
            percents.append(percent)
            percent += 1.0 if percent < 90 else (100 - percent) / 10
        found = self.percentiles_ms([*percents, 100.0])
        return [(at, ms) for at, ms in zip([*percents, 100.0], found, strict=True) if ms is not None]

    def summary(self) -> dict[str, float | int | None]:
        """Count, p50, p90, p95, p99, p999 and max in milliseconds, rounded to a microsecond."""
        percents = {"p50_ms": 50.0, "p90_ms": 90.0, "p95_ms": 95.0, "p99_ms": 99.0, "p999_ms": 99.9}
        figures = dict(zip(percents, self.percentiles_ms(list(percents.values())), strict=True))
        figures["max_ms"] = self.max_ms
        return {"count": self.count} | {k: None if v is None else round(v, 3) for k, v in figures.items()}
