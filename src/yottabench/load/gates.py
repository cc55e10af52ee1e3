"""Gates: the figures that a run must keep to pass, one comparison each."""

import math
import operator
import re
from collections.abc import Mapping

import attrs

from yottabench.load.audit import FAULTS

PERCENTS = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p999": 99.9}
TIMES = {
    "e2e": "end-to-end latency from the due time",
    "submit": "from the due time until the submit was acknowledged",
    "detection": "from the end until it was seen",
    "get": "a read of one task, from its due time",
    "list": "a read of a page of tasks, from its due time",
    "count": "a read of the number of tasks, from its due time",
}
COUNTS = {
    **{name: f"tasks that the audit found {name}" for name in FAULTS},
    "retried": "tasks that needed more than one attempt",
    "bad_accepted": "submits that broke a rule and were taken all the same",
    "bad_unclear": "submits that broke a rule and got neither a refusal nor an acknowledgement",
}
METRICS = {
    **{f"{name}_{part}_ms": f"{text}, {part}" for name, text in TIMES.items() for part in (*PERCENTS, "max")},
    **COUNTS,
    "error_rate": "submits refused or not answered and tasks failed, as a share of the tasks sent",
    "throttle_rate": "submits answered 429, as a share of the tasks sent",
    "read_error_rate": "reads refused or not answered, as a share of the reads made",
    "read_throttle_rate": "reads answered 429, as a share of the reads made",
    "completed_per_s": "tasks seen to end per second, while tasks were due",
    "first_end_s": "from the run's start until the first task was seen to have ended",
}
CONFIDENCE = 0.99
_COMPARE = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt, "=": operator.eq}
_GATE = re.compile(r"\s*([a-z0-9_]+)\s*(<=|>=|<|>|=)\s*(-?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*")
_PERCENTILE = re.compile(r"([a-z0-9]+)_(p[0-9]+)_ms")


@attrs.frozen
class Gate:
    """One comparison, such as `e2e_p95_ms <= 2000`."""

    metric: str
    comparison: str
    bound: float

    def __str__(self) -> str:
        return f"{self.metric} {self.comparison} {self.bound:g}"

    def kept(self, value: float | None) -> bool:
        """Whether the measured value keeps the gate; a figure that could not be measured (None) does not."""
        return value is not None and bool(_COMPARE[self.comparison](value, self.bound))

    @property
    def percentile(self) -> tuple[str, float] | None:
        """Of a gate on a percentile: of which time, and which percent."""
        match = _PERCENTILE.fullmatch(self.metric)
        return (match[1], PERCENTS[match[2]]) if match else None


@attrs.frozen
class GateResult:
    """A gate with what was measured.

    `samples` is how many durations a percentile was taken from, `needed` the fewest that could show it.
    """

    gate: Gate
    value: float | None
    kept: bool
    samples: int | None = None
    needed: int | None = None

    @property
    def thin(self) -> bool:
        """Whether there were too few samples to show anything about the percentile."""
        return self.samples is not None and self.needed is not None and self.samples < self.needed

    def to_json(self) -> dict[str, object]:
        """The result as plain JSON."""
        return {
            "gate": str(self.gate),
            "value": self.value,
            "kept": self.kept,
            "samples": self.samples,
            "needed": self.needed,
        }


def parse_gate(text: str) -> Gate:
    """Reads `metric <= number`. Raises ValueError that says which gates there are."""
    match = _GATE.fullmatch(text)
    try:
        bound = float(match[3]) if match else None
    except ValueError:
        bound = None
    if match is None or bound is None:
        raise ValueError(f"{text!r} is not a gate. Write METRIC <= NUMBER, as in 'e2e_p95_ms <= 2000'.")
    if match[1] not in METRICS:
        raise ValueError(f"{text!r} names no known figure. Known: {', '.join(METRICS)}.")
    if match[2] == "=" and match[1] not in COUNTS:
        raise ValueError(f"{text!r} wants a measured figure to be equal; only counts can be. Write <= or >=.")
    return Gate(match[1], match[2], bound)


def judge(
    gates: tuple[Gate, ...], figures: Mapping[str, float | None], samples: Mapping[str, int] | None = None
) -> list[GateResult]:
    """Holds the measured figures to the gates, in their order; `samples` counts each time's durations, by its name."""
    results: list[GateResult] = []
    for gate in gates:
        value = figures.get(gate.metric)
        found = gate.percentile if samples is not None else None
        there = None if found is None or samples is None else samples.get(found[0], 0)
        needed = None if found is None else samples_needed(found[1])
        results.append(GateResult(gate, value, gate.kept(value), there, needed))
    return results


def samples_needed(percent: float) -> int:
    """The fewest samples, all within the bound, that show a percentile at 99 % confidence.

    After MLPerf's load generator. It assumes that samples are independent, which latencies of a queue are not: a lower
    bound, no more.
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(percent / 100))
