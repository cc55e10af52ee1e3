"""When each task of a run is due: one seeded, open-loop sequence that any number of processes share by striping."""

import bisect
import functools
import math
import random
from collections.abc import Callable, Iterator, Mapping

import attrs

from yottabench.load.profile import DEFAULT_DURATION_S, Arrivals
from yottabench.load.trace import Size, Trace

Gaps = Iterator[float]


@attrs.frozen
class Arrival:
    """One task to come: its place in the run, when it is due (seconds from the start), and what makes its body."""

    seq: int
    due_s: float
    draw: int
    size: Size | None = None


@attrs.frozen
class RateCurve:
    """A rate in time made of straight pieces: (start_s, tasks due before it, duration_s, rate, rate at its end)."""

    pieces: tuple[tuple[float, float, float, float, float], ...]

    @classmethod
    def of(cls, arrivals: Arrivals) -> "RateCurve":
        """The curve of a profile: its stages, or its one rate for its duration."""
        stages = [(s.duration_s, s.rate, s.rate if s.rate_to is None else s.rate_to) for s in arrivals.stages]
        if not stages:
            stages = [(arrivals.duration_s or DEFAULT_DURATION_S, arrivals.rate, arrivals.rate)]
        pieces: list[tuple[float, float, float, float, float]] = []
        start_s = before = 0.0
        for duration_s, rate, rate_to in stages:
            pieces.append((start_s, before, duration_s, rate, rate_to))
            start_s += duration_s
            before += duration_s * (rate + rate_to) / 2
        return cls(tuple(pieces))

    @property
    def duration_s(self) -> float:
        """Where the last piece ends."""
        start_s, _, duration_s, _, _ = self.pieces[-1]
        return start_s + duration_s

    @property
    def expected(self) -> float:
        """How many tasks the whole curve stands for, on average."""
        _, before, duration_s, rate, rate_to = self.pieces[-1]
        return before + duration_s * (rate + rate_to) / 2

    def when(self, expected: float) -> float:
        """The second by which `expected` tasks are due on average; infinity beyond the curve's end."""
        if expected >= self.expected:
            return math.inf
        index = bisect.bisect_right(self.pieces, expected, key=lambda piece: piece[1]) - 1
        start_s, before, duration_s, rate, rate_to = self.pieces[index]
        wanted = expected - before
        bend = (rate_to - rate) / (2 * duration_s)
        # This form of the quadratic's root neither cancels nor divides by a bend of zero.
        root = math.sqrt(max(0.0, rate * rate + 4 * bend * wanted))
        return start_s + (2 * wanted / (rate + root) if wanted else 0.0)


@attrs.frozen
class Schedule:
    """All arrivals of a run. Iterating gives them in order, the same for the same seed, as often as wanted."""

    seed: int
    duration_s: float
    expected: float
    due_times: Callable[[random.Random], Iterator[tuple[float, Size | None]]]

    def __iter__(self) -> Iterator[Arrival]:
        return self.stripe(0, 1)

    def stripe(self, index: int, of: int) -> Iterator[Arrival]:
        """The arrivals of process `index` out of `of`: every of-th, so that the union is the schedule itself."""
        draws = random.Random(f"draws/{self.seed}")
        for seq, (due_s, size) in enumerate(self.due_times(random.Random(f"times/{self.seed}"))):
            draw = draws.getrandbits(32)
            if seq % of == index:
                yield Arrival(seq, due_s, draw, size)

    def planned(self, until_s: float = math.inf) -> int:
        """How many tasks are due before `until_s`."""
        count = 0
        for due_s, _ in self.due_times(random.Random(f"times/{self.seed}")):
            if due_s >= until_s:
                break
            count += 1
        return count


def build_schedule(arrivals: Arrivals, seed: int, trace: Trace | None = None) -> Schedule:
    """The schedule of a profile's [arrivals]; `trace` holds the rows when its kind is trace."""
    if trace is not None:
        return _replay(arrivals, seed, trace)
    curve = RateCurve.of(arrivals)
    duration_s = min(curve.duration_s, arrivals.duration_s or math.inf)

    def due_times(rng: random.Random) -> Iterator[tuple[float, Size | None]]:
        for operational in _operational_times(arrivals, rng):
            due_s = curve.when(operational)
            if due_s >= duration_s:
                return
            yield due_s, None

    return Schedule(seed, duration_s, curve.expected * duration_s / curve.duration_s, due_times)


def share_out(whole: Schedule, weights: Mapping[str, float]) -> dict[str, Schedule]:
    """Splits a schedule by chance among operations, as their weights say; what is Poisson stays Poisson.

    Each part numbers its arrivals anew, so the tasks of a mixed load are numbered without gaps as those of any other.
    """
    total = math.fsum(weights.values())
    parts: dict[str, Schedule] = {}
    low = 0.0
    for name, weight in weights.items():
        high = low + weight / total
        due_times = functools.partial(_thinned, whole, low, high)
        parts[name] = Schedule(whole.seed, whole.duration_s, whole.expected * weight / total, due_times)
        low = high
    return parts


def _thinned(whole: Schedule, low: float, high: float, rng: random.Random) -> Iterator[tuple[float, Size | None]]:
    chances = random.Random(f"mix/{whole.seed}")
    for entry in whole.due_times(rng):
        # The last part takes what rounding left over.
        chance = chances.random()
        if low <= chance and (chance < high or high > 1 - 1e-9):
            yield entry


def _replay(arrivals: Arrivals, seed: int, trace: Trace) -> Schedule:
    until_s = min(arrivals.duration_s or math.inf, trace.duration_s / arrivals.time_scale)

    def due_times(_: random.Random) -> Iterator[tuple[float, Size | None]]:
        for at_s, size in trace.rows():
            due_s = at_s / arrivals.time_scale
            if due_s > until_s:
                return
            yield due_s, size

    return Schedule(seed, until_s, float(sum(1 for _ in due_times(random.Random(0)))), due_times)


def _operational_times(arrivals: Arrivals, rng: random.Random) -> Iterator[float]:
    """Arrival times in a clock that runs at the rate, so that one task is due per unit on average."""
    if arrivals.kind == "constant":
        count = 0
        while True:
            yield float(count)
            count += 1
    at = 0.0
    for gap in unit_gaps(arrivals.kind, arrivals.gap_cv, rng):
        at += gap
        yield at


def unit_gaps(kind: str, gap_cv: float, rng: random.Random) -> Gaps:
    """Endless gaps with mean 1: all equal, exponential, or Gamma with the given coefficient of variation."""
    if kind == "gamma":
        shape = 1 / (gap_cv * gap_cv)
        while True:
            yield rng.gammavariate(shape, 1 / shape)
    while True:
        yield 1.0 if kind == "constant" else -math.log(1.0 - rng.random())


class LiveSchedule:
    """Poisson arrivals at a rate that is changed while they come: Locust's usual way, where users set the rate."""

    def __init__(self, seed: int, index: int, stride: int) -> None:
        self._rng = random.Random(f"live/{seed}/{index}")
        self._seq = index
        self._stride = stride
        self._rate = 0.0
        self._at_s = 0.0
        self._left = self._gap()

    def set_rate(self, now_s: float, rate: float) -> None:
        """From now on tasks come at `rate` per second; what is left of the present gap stretches or shrinks with it."""
        if now_s > self._at_s:
            self._left = max(0.0, self._left - (now_s - self._at_s) * self._rate)
            self._at_s = now_s
        self._rate = rate

    def due_s(self) -> float:
        """When the next task is due; infinity while the rate is zero."""
        return self._at_s + self._left / self._rate if self._rate > 0 else math.inf

    def take(self) -> Arrival:
        """The next task; the one after it becomes next."""
        arrival = Arrival(self._seq, self.due_s(), self._rng.getrandbits(32))
        self._at_s = arrival.due_s
        self._left = self._gap()
        self._seq += self._stride
        return arrival

    def _gap(self) -> float:
        return -math.log(1.0 - self._rng.random())
