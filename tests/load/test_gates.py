import pytest

from yottabench.load.audit import FAULTS
from yottabench.load.gates import COUNTS, METRICS, Gate, GateResult, judge, parse_gate, samples_needed


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("e2e_p95_ms <= 2000", Gate("e2e_p95_ms", "<=", 2000)),
        ("  error_rate<0.001 ", Gate("error_rate", "<", 0.001)),
        ("completed_per_s >= 1e2", Gate("completed_per_s", ">=", 100)),
        ("completed_per_s > 5", Gate("completed_per_s", ">", 5)),
        ("lost = 0", Gate("lost", "=", 0)),
        ("get_p999_ms <= 5", Gate("get_p999_ms", "<=", 5)),
    ],
)
def test_a_gate_is_a_metric_a_comparison_and_a_bound(text: str, gate: Gate):
    assert parse_gate(text) == gate
    assert parse_gate(str(gate)) == gate


@pytest.mark.parametrize(
    "text",
    [
        "",
        "e2e_p95_ms",
        "e2e_p95_ms <=",
        "<= 5",
        "e2e_p95_ms == 5",
        "a b <= 5",
        "e2e_p95_ms <= x",
        "e2e_p95_ms <= 1.2.3",
    ],
)
def test_anything_else_is_refused(text: str):
    with pytest.raises(ValueError, match="is not a gate"):
        parse_gate(text)


@pytest.mark.parametrize("metric", sorted(METRICS.keys() - COUNTS.keys()))
def test_what_is_measured_is_never_held_to_be_equal(metric: str):
    with pytest.raises(ValueError, match="only counts can be"):
        parse_gate(f"{metric} = 5")


@pytest.mark.parametrize(
    ("comparison", "kept"),
    [
        ("<=", [True, True, False]),
        ("<", [True, False, False]),
        (">=", [False, True, True]),
        (">", [False, False, True]),
        ("=", [False, True, False]),
    ],
)
def test_both_sides_of_the_bound(comparison: str, kept: list[bool]):
    assert [Gate("error_rate", comparison, 5).kept(value) for value in (4.999, 5, 5.001)] == kept


def test_what_was_not_measured_keeps_no_gate():
    results = judge((Gate("e2e_p50_ms", "<=", 5), Gate("error_rate", ">=", 0)), {"e2e_p50_ms": None})
    assert [result.kept for result in results] == [False, False]


def test_every_metric_is_explained_and_every_fault_of_the_audit_can_be_a_gate():
    assert all(METRICS.values())
    assert set(FAULTS) <= set(COUNTS) <= set(METRICS)


@pytest.mark.parametrize(("percent", "samples"), [(50, 7), (90, 44), (95, 90), (99, 459), (99.9, 4603)])
def test_the_samples_that_a_percentile_needs_are_those_of_mlperf(percent: float, samples: int):
    assert samples_needed(percent) == samples


def test_a_percentile_of_too_few_samples_is_marked_as_thin():
    gates = (Gate("e2e_p99_ms", "<=", 5), Gate("submit_p95_ms", "<=", 5), Gate("error_rate", "<=", 0))
    figures = {"e2e_p99_ms": 4.0, "submit_p95_ms": 4.0, "error_rate": 0.0}
    found = judge(gates, figures, {"e2e": 458, "submit": 90})
    assert [result.thin for result in found] == [True, False, False]
    assert found[0] == GateResult(gates[0], 4.0, True, 458, 459)
    assert judge(gates, figures, {"e2e": 459, "submit": 89})[0].thin is False


def test_a_time_without_samples_has_none_and_a_run_that_counted_none_needs_none():
    gates = (Gate("e2e_p99_ms", "<=", 5),)
    assert judge(gates, {}, {}) == [GateResult(gates[0], None, False, 0, 459)]
    assert judge(gates, {}) == [GateResult(gates[0], None, False, None, None)]
