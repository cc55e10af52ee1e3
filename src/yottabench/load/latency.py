"""Latencies in HdrHistograms: three digits from a microsecond up, merged over processes."""

from collections.abc import Iterator
from typing import Any

from hdrh.histogram import HdrHistogram  # pyright: ignore[reportMissingTypeStubs]  the package has no type stubs

LARGEST_US = 24 * 3_600 * 1_000_000  # a day; what is longer is recorded as a day
PERCENTILES = (50.0, 95.0, 99.0)


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
        if not self.count:
            return None
        return self._hdr.get_value_at_percentile(percent) / 1000

    @property
    def max_ms(self) -> float | None:
        """The largest duration, None when nothing was recorded."""
        return self._hdr.get_max_value() / 1000 if self.count else None

    @property
    def mean_ms(self) -> float | None:
        """The mean duration, None when nothing was recorded."""
        return self._hdr.get_mean_value() / 1000 if self.count else None

    def curve(self) -> Iterator[tuple[float, float]]:
        """(percent, ms) along the distribution, ever denser towards the end, where the long ones are."""
        if not self.count:
            return
        percent = 0.0
        while 100 - percent > 100 / max(self.count, 1) / 2:
            yield percent, self._hdr.get_value_at_percentile(percent) / 1000
            percent += 1.0 if percent < 90 else (100 - percent) / 10
        yield 100.0, self._hdr.get_max_value() / 1000

    def summary(self) -> dict[str, float | int | None]:
        """Count, mean, p50, p90, p95, p99, p999 and max in milliseconds, rounded to a microsecond."""
        percents = {"p50_ms": 50.0, "p90_ms": 90.0, "p95_ms": 95.0, "p99_ms": 99.0, "p999_ms": 99.9}
        figures: dict[str, float | None] = {"mean_ms": self.mean_ms}
        figures |= {name: self.percentile_ms(percent) for name, percent in percents.items()}
        figures["max_ms"] = self.max_ms
        return {"count": self.count} | {k: None if v is None else round(v, 3) for k, v in figures.items()}
