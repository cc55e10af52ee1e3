"""Whether a run goes on in vain: which gate can no longer be kept, told from what its processes measured so far."""

import bisect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from yottabench.load.gates import Gate, samples_needed
from yottabench.load.latency import Latencies

# A wrong abort is to be rarer than this, were all seconds alike.
ERROR_PROBABILITY = 0.001
LEAST_SECONDS = 10.0
LEAST_PART = 0.1  # of the run, before the odds decide: a slow start says little about a long run
# Stakes, as shares of the most that may be staked: small ones tell small excesses, large ones tell a disaster soon.
STAKES = (0.02, 0.05, 0.1, 0.25, 0.5)


class Odds:
    """A bet, renewed every second, that more than the share `allowed` of the tasks are misses.

    Were it no more than that, its wealth would exceed 1 / p with probability p at most, however often one looks
    (Ville's inequality; betting as in Waudby-Smith and Ramdas, 2024). A second counts once, whatever it holds, because
    tasks of one second share their fate.
    """

    def __init__(self, allowed: float) -> None:
        self._allowed = allowed
        self._logs = [0.0] * len(STAKES)

    def second(self, misses: float, of: float) -> None:
        """Takes one second's tasks."""
        if of <= 0:
            return
        share = min(1.0, misses / of)
        for index, stake in enumerate(STAKES):
            self._logs[index] += math.log1p(stake / self._allowed * (share - self._allowed))

    @property
    def wealth(self) -> float:
        """What the bet has made of 1."""
        return math.fsum(math.exp(min(log, 500.0)) for log in self._logs) / len(self._logs)


@attrs.define
class _Process:
    """What one process has told: tasks begun by when, and counts so far."""

    begun: list[tuple[float, int]] = attrs.field(factory=list[tuple[float, int]])
    closed: int = 0


@attrs.define
class _Second:
    """What all processes told of one second: tasks closed, and for each gate its misses."""

    closed: int
    misses: list[int]


class Watchdog:
    """Reads the lines of the metrics files as they come; `hopeless` says which gate is lost, if one is.

    Sure is that more misses were counted than the whole plan allows. Where tasks come at one rate all the time
    (`steady`), the odds may decide earlier, with as many samples as the percentile needs at least.
    """

    def __init__(self, gates: Sequence[Gate], planned: int | None, duration_s: float | None, *, steady: bool) -> None:
        self._gates = [(gate, allowed) for gate in gates if (allowed := allowed_misses(gate)) is not None]
        self._planned = planned
        self._steady = steady
        self._least_s = max(LEAST_SECONDS, LEAST_PART * (duration_s or 0.0))
        self._processes: dict[object, _Process] = {}
        self._seconds: dict[int, _Second] = {}
        self._odds = [Odds(allowed) if allowed > 0 else None for _, allowed in self._gates]
        self._misses = [0] * len(self._gates)
        self._ended = self._at_s = 0.0

    def take(self, process: object, line: Mapping[str, Any]) -> None:
        """One line of a process's metrics."""
        if not self._gates:
            return
        at_s = float(line["t"])
        self._at_s = max(self._at_s, at_s)
        told = self._processes.setdefault(process, _Process())
        told.begun.append((at_s, (told.begun[-1][1] if told.begun else 0) + line["due"]))
        closed = int(line["ended"] + line["refused"] + line["throttled"] + line["unknown"])
        told.closed += closed
        second = self._seconds.setdefault(int(at_s), _Second(0, [0] * len(self._gates)))
        second.closed += closed
        self._ended += line["ended"]
        e2e = Latencies(line["e2e"]) if "e2e" in line else None
        for index, (gate, _) in enumerate(self._gates):
            missed = _missed(gate, line, e2e)
            self._misses[index] += missed
            second.misses[index] += missed

    def hopeless(self) -> str | None:
        """Why the run goes on in vain, None while it does not."""
        for number in sorted(second for second in self._seconds if second < self._at_s - 1):
            second = self._seconds.pop(number)
            for index, odds in enumerate(self._odds):
                if odds is not None:
                    odds.second(second.misses[index], second.closed)
        for index, (gate, allowed) in enumerate(self._gates):
            misses = self._misses[index] + self._overdue(gate)
            if self._planned and misses > allowed * self._planned:
                return (
                    f"{gate} can no longer be kept: {misses} tasks miss it, "
                    f"of {self._planned} planned at most {math.floor(allowed * self._planned)} may"
                )
            if self._lost_by_odds(index, misses, allowed):
                return (
                    f"{gate} is as good as lost: {misses} of {self._ended:.0f} tasks miss it so far, {allowed:.3g} may "
                    f"(a chance below {ERROR_PROBABILITY:g} if seconds were independent)"
                )
        return None

    def _lost_by_odds(self, index: int, misses: int, allowed: float) -> bool:
        gate, odds = self._gates[index][0], self._odds[index]
        if not self._steady or odds is None or self._at_s < self._least_s:
            return False
        percentile = gate.percentile
        needed = samples_needed(percentile[1]) if percentile else samples_needed(100 * (1 - allowed))
        return self._ended >= needed and misses > allowed * self._ended and odds.wealth > 1 / ERROR_PROBABILITY

    def _overdue(self, gate: Gate) -> int:
        """Tasks that are open for longer than the bound: whatever becomes of them, they miss it."""
        if not gate.metric.startswith("e2e_"):
            return 0
        before_s = self._at_s - gate.bound / 1000
        overdue = 0
        for told in self._processes.values():
            upto = bisect.bisect_right(told.begun, before_s, key=lambda entry: entry[0])
            overdue += max(0, told.begun[upto - 1][1] - told.closed) if upto else 0
        return overdue


def allowed_misses(gate: Gate) -> float | None:
    """Which share of the tasks may miss a gate; None for gates that say nothing before the end."""
    if gate.comparison not in ("<=", "<"):
        return None
    if gate.metric.startswith("e2e_"):
        percentile = gate.percentile
        return 1 - percentile[1] / 100 if percentile else 0.0
    return gate.bound if gate.metric in ("error_rate", "throttle_rate") and gate.bound < 1 else None


def _missed(gate: Gate, line: Mapping[str, Any], e2e: Latencies | None) -> int:
    if gate.metric == "error_rate":
        return int(line["refused"] + line["unknown"] + line["failed"])
    if gate.metric == "throttle_rate":
        return int(line["throttled"])
    return e2e.count_over_ms(gate.bound) if e2e is not None else 0
