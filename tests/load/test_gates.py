import pytest

from yottabench.load.gates import METRICS, Gate, judge, parse_gate


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("e2e_p95_ms <= 2000", Gate("e2e_p95_ms", "<=", 2000)),
        ("  error_rate<0.001 ", Gate("error_rate", "<", 0.001)),
        ("completed_per_s >= 1e2", Gate("completed_per_s", ">=", 100)),
        ("completed_per_s > 5", Gate("completed_per_s", ">", 5)),
    ],
)
def test_a_gate_is_a_metric_a_comparison_and_a_bound(text: str, gate: Gate):
    assert parse_gate(text) == gate
    assert parse_gate(str(gate)) == gate


@pytest.mark.parametrize(
    "text", ["", "e2e_p95_ms", "e2e_p95_ms <=", "<= 5", "e2e_p95_ms == 5", "a b <= 5", "e2e_p95_ms <= x"]
)
def test_anything_else_is_refused(text: str):
    with pytest.raises(ValueError, match="is not a gate"):
        parse_gate(text)


@pytest.mark.parametrize(
    ("comparison", "kept"),
    [
        ("<=", [True, True, False]),
        ("<", [True, False, False]),
        (">=", [False, True, True]),
        (">", [False, False, True]),
    ],
)
def test_both_sides_of_the_bound(comparison: str, kept: list[bool]):
    assert [Gate("error_rate", comparison, 5).kept(value) for value in (4.999, 5, 5.001)] == kept


def test_what_was_not_measured_keeps_no_gate():
    results = judge((Gate("e2e_p50_ms", "<=", 5), Gate("error_rate", ">=", 0)), {"e2e_p50_ms": None})
    assert [result.kept for result in results] == [False, False]


def test_every_metric_is_explained():
    assert all(METRICS.values())
