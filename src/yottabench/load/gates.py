"""Gates: the figures that a run must keep to pass, one comparison each."""

import operator
import re
from collections.abc import Mapping

import attrs

METRICS = {
    "e2e_p50_ms": "end-to-end latency from the due time, median",
    "e2e_p95_ms": "end-to-end latency from the due time, 95th percentile",
    "e2e_p99_ms": "end-to-end latency from the due time, 99th percentile",
    "e2e_max_ms": "end-to-end latency from the due time, largest",
    "submit_p50_ms": "from the due time until the submit was acknowledged, median",
    "submit_p95_ms": "from the due time until the submit was acknowledged, 95th percentile",
    "submit_p99_ms": "from the due time until the submit was acknowledged, 99th percentile",
    "error_rate": "submits refused or not answered and tasks failed, as a share of the tasks sent",
    "throttle_rate": "submits answered 429, as a share of the tasks sent",
    "completed_per_s": "tasks seen to end per second, while tasks were due",
}
_COMPARE = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt}
_GATE = re.compile(r"\s*([a-z0-9_]+)\s*(<=|>=|<|>)\s*(-?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*")


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


@attrs.frozen
class GateResult:
    """A gate with what was measured."""

    gate: Gate
    value: float | None
    kept: bool


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
    return Gate(match[1], match[2], bound)


def judge(gates: tuple[Gate, ...], figures: Mapping[str, float | None]) -> list[GateResult]:
    """Holds the measured figures to the gates, in their order."""
    return [GateResult(gate, figures.get(gate.metric), gate.kept(figures.get(gate.metric))) for gate in gates]
