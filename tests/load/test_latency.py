import pytest
from hypothesis import given
from hypothesis import strategies as st

from yottabench.load.latency import LARGEST_US, Latencies

seconds = st.floats(1e-6, 10)


def recorded(values: list[float]) -> Latencies:
    latencies = Latencies()
    for value in values:
        latencies.record_s(value)
    return latencies


@given(st.lists(seconds, min_size=1, max_size=50))
def test_percentiles_are_right_to_three_digits(values: list[float]):
    latencies = recorded(values)
    ordered = sorted(values)
    assert latencies.percentile_ms(100) == pytest.approx(ordered[-1] * 1000, rel=2e-3, abs=2e-3)
    assert latencies.percentile_ms(0) == pytest.approx(ordered[0] * 1000, rel=2e-3, abs=2e-3)
    assert latencies.max_ms == pytest.approx(ordered[-1] * 1000, rel=2e-3, abs=2e-3)
    assert latencies.count == len(values)


@given(st.lists(seconds, max_size=30), st.lists(seconds, max_size=30))
def test_merging_is_as_if_all_had_been_recorded_in_one(first: list[float], second: list[float]):
    merged = recorded(first)
    merged.merge(recorded(second))
    assert merged.curve() == recorded(first + second).curve()
    assert merged.count == len(first) + len(second)


@given(st.lists(seconds, max_size=30))
def test_a_distribution_survives_its_encoding(values: list[float]):
    latencies = recorded(values)
    again = Latencies(latencies.encode())
    assert again.curve() == latencies.curve()
    again.record_s(1.0)
    assert again.count == len(values) + 1


def test_nothing_recorded_is_none_and_not_zero():
    latencies = Latencies()
    assert (latencies.percentile_ms(50), latencies.max_ms, latencies.count) == (None, None, 0)
    assert latencies.curve() == []


@pytest.mark.parametrize("value", [-5.0, 0.0, 1e-9])
def test_what_is_below_a_microsecond_counts_as_one(value: float):
    assert recorded([value]).max_ms == 0.001


def test_what_is_beyond_a_day_counts_as_a_day():
    assert recorded([1e9]).max_ms == pytest.approx(LARGEST_US / 1000, rel=1e-3)


@given(st.lists(seconds, min_size=1, max_size=50))
def test_the_curve_rises_to_its_end(values: list[float]):
    curve = recorded(values).curve()
    assert [x for x, _ in curve] == sorted(x for x, _ in curve)
    assert [y for _, y in curve] == sorted(y for _, y in curve)
    assert curve[-1][0] == 100


def test_the_summary_names_its_figures():
    summary = recorded([0.001, 0.002, 0.003]).summary()
    assert list(summary) == ["count", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "p999_ms", "max_ms"]
    assert (summary["count"], summary["p50_ms"]) == (3, 2.0)
