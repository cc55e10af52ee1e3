import itertools
import math
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yottabench.load.profile import Arrivals, Stage
from yottabench.load.schedule import Arrival, LiveSchedule, RateCurve, build_schedule
from yottabench.load.synthetic import synthetic_trace

seeds = st.integers(0, 2**32)
arrivals = st.one_of(
    st.builds(
        Arrivals,
        kind=st.sampled_from(["constant", "poisson", "gamma"]),
        rate=st.floats(0.5, 200),
        duration_s=st.floats(0.1, 5),
        gap_cv=st.floats(0.2, 4),
    ),
    st.builds(
        Arrivals,
        stages=st.lists(
            st.builds(Stage, st.floats(0.1, 3), st.floats(0, 100), st.none() | st.floats(0, 100)),
            min_size=1,
            max_size=4,
        ).map(tuple),
    ),
)


def gaps_of(due_s: list[float]) -> list[float]:
    return [b - a for a, b in itertools.pairwise(due_s)]


def cv(gaps: list[float]) -> float:
    mean = statistics.fmean(gaps)
    return math.sqrt(statistics.fmean((gap - mean) ** 2 for gap in gaps)) / mean


@given(arrivals, seeds)
def test_the_same_seed_gives_the_same_schedule(wanted: Arrivals, seed: int):
    assert list(build_schedule(wanted, seed)) == list(build_schedule(wanted, seed))


@given(arrivals, seeds, st.sampled_from([1, 2, 3, 4, 7]))
def test_stripes_share_one_schedule_whatever_their_number(wanted: Arrivals, seed: int, of: int):
    whole = list(build_schedule(wanted, seed))
    stripes = [list(build_schedule(wanted, seed).stripe(index, of)) for index in range(of)]
    assert sorted(itertools.chain(*stripes), key=lambda arrival: arrival.seq) == whole
    assert all(arrival.seq % of == index for index, stripe in enumerate(stripes) for arrival in stripe)


@given(arrivals, seeds)
def test_arrivals_come_in_order_within_the_run_and_without_gaps_in_their_numbers(wanted: Arrivals, seed: int):
    schedule = build_schedule(wanted, seed)
    found = list(schedule)
    assert [arrival.seq for arrival in found] == list(range(len(found)))
    assert all(0 <= arrival.due_s < schedule.duration_s for arrival in found)
    assert all(a.due_s <= b.due_s for a, b in itertools.pairwise(found))


@given(arrivals, seeds, st.floats(0, 6))
def test_planned_counts_what_is_due_before_a_time(wanted: Arrivals, seed: int, until_s: float):
    schedule = build_schedule(wanted, seed)
    assert schedule.planned(until_s) == sum(arrival.due_s < until_s for arrival in schedule)
    assert schedule.planned() == len(list(schedule))


def test_other_seeds_give_other_schedules():
    first, second = (list(build_schedule(Arrivals(rate=50, duration_s=2), seed)) for seed in (1, 2))
    assert first != second


@settings(max_examples=20)
@given(seeds)
def test_poisson_arrivals_have_their_rate_and_exponential_gaps(seed: int):
    due_s = [arrival.due_s for arrival in build_schedule(Arrivals(rate=200, duration_s=50), seed)]
    gaps = gaps_of(due_s)
    # 10,000 expected, so a standard deviation of 100; six of them make a false alarm a matter of years.
    assert abs(len(due_s) - 10_000) < 600
    assert cv(gaps) == pytest.approx(1, abs=0.1)
    mean_s = statistics.fmean(gaps)
    over = sum(gap > mean_s for gap in gaps) / len(gaps)
    assert over == pytest.approx(math.exp(-1), abs=0.03)


@settings(max_examples=10)
@given(seeds, st.sampled_from([0.5, 2.0]))
def test_gamma_arrivals_are_as_bursty_as_asked(seed: int, gap_cv: float):
    wanted = Arrivals(kind="gamma", rate=200, duration_s=100, gap_cv=gap_cv)
    due_s = [arrival.due_s for arrival in build_schedule(wanted, seed)]
    assert cv(gaps_of(due_s)) == pytest.approx(gap_cv, rel=0.15)


def test_constant_arrivals_are_evenly_spaced_from_the_start():
    found = [arrival.due_s for arrival in build_schedule(Arrivals(kind="constant", rate=4, duration_s=2), 1)]
    assert found == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75])


def test_a_ramp_sends_as_many_as_its_area_and_most_of_them_late():
    ramp = Arrivals(kind="constant", stages=(Stage(10, 0, 20),))
    found = [arrival.due_s for arrival in build_schedule(ramp, 1)]
    assert len(found) == 100
    assert sum(due_s >= 5 for due_s in found) == 75


def test_a_pause_between_stages_has_no_arrivals():
    stages = (Stage(1, 10), Stage(2, 0), Stage(1, 10))
    found = [arrival.due_s for arrival in build_schedule(Arrivals(kind="constant", stages=stages), 1)]
    assert len(found) == 20
    assert not [due_s for due_s in found if 1.001 < due_s < 2.999]


def test_a_shorter_duration_cuts_the_stages():
    schedule = build_schedule(Arrivals(kind="constant", stages=(Stage(10, 10),), duration_s=2), 1)
    assert (schedule.duration_s, schedule.planned()) == (2, 20)


@given(
    st.lists(st.tuples(st.floats(0.1, 10), st.floats(0, 50), st.floats(0, 50)), min_size=1, max_size=5), st.floats(0, 1)
)
def test_a_rate_curve_reaches_each_share_of_its_tasks_in_time(pieces: list[tuple[float, float, float]], share: float):
    curve = RateCurve.of(Arrivals(stages=tuple(Stage(*piece) for piece in pieces)))
    wanted = curve.expected * share
    at_s = curve.when(wanted)
    if math.isinf(at_s):
        assert wanted >= curve.expected
        return
    due = 0.0
    start_s = 0.0
    for duration_s, rate, rate_to in pieces:
        part_s = min(max(at_s - start_s, 0), duration_s)
        due += part_s * rate + (rate_to - rate) / duration_s * part_s**2 / 2
        start_s += duration_s
    assert due == pytest.approx(wanted, rel=1e-6, abs=1e-6)


def test_a_replay_is_the_trace_squeezed_by_its_time_scale():
    trace = synthetic_trace("azure-code", 3)
    schedule = build_schedule(Arrivals(kind="trace", synthetic="azure-code", time_scale=50), 1, trace)
    found = list(schedule)
    assert len(found) == len(trace) == schedule.expected
    assert [arrival.due_s for arrival in found] == pytest.approx([at_s / 50 for at_s in trace.at_s])
    assert found[7].size is not None
    assert found[7].size.prompt_tokens == trace.prompt_tokens[7]
    assert schedule.duration_s == pytest.approx(trace.duration_s / 50)


def test_a_replay_may_stop_early():
    trace = synthetic_trace("azure-code", 3)
    wanted = Arrivals(kind="trace", synthetic="azure-code", time_scale=50, duration_s=10)
    assert all(arrival.due_s <= 10 for arrival in build_schedule(wanted, 1, trace))


class TestLiveSchedule:
    def take_until(self, live: LiveSchedule, until_s: float) -> list[Arrival]:
        found: list[Arrival] = []
        while live.due_s() < until_s:
            found.append(live.take())
        return found

    def test_nothing_is_due_at_rate_zero(self):
        assert LiveSchedule(1, 0, 1).due_s() == math.inf

    def test_it_keeps_its_rate(self):
        live = LiveSchedule(1, 0, 1)
        live.set_rate(0, 100)
        assert len(self.take_until(live, 100)) == pytest.approx(10_000, abs=600)

    def test_another_rate_counts_from_when_it_was_set(self):
        live = LiveSchedule(1, 0, 1)
        live.set_rate(0, 10)
        before = self.take_until(live, 100)
        live.set_rate(100, 1000)
        after = self.take_until(live, 110)
        assert len(before) == pytest.approx(1000, abs=200)
        assert len(after) == pytest.approx(10_000, abs=600)

    def test_a_pause_keeps_what_is_left_of_the_gap(self):
        paused, straight = LiveSchedule(5, 0, 1), LiveSchedule(5, 0, 1)
        for live in (paused, straight):
            live.set_rate(0, 0.1)
        part_s = straight.due_s() / 2
        paused.set_rate(part_s, 0)
        assert paused.due_s() == math.inf
        paused.set_rate(part_s + 60, 0.1)
        assert paused.due_s() == pytest.approx(straight.due_s() + 60)

    def test_numbers_of_different_processes_never_meet(self):
        numbers: list[int] = []
        for index in range(3):
            live = LiveSchedule(1, index, 4096)
            live.set_rate(0, 10)
            numbers += [arrival.seq for arrival in self.take_until(live, 20)]
        assert len(set(numbers)) == len(numbers)

    def test_due_times_rise_while_the_rate_changes(self):
        live = LiveSchedule(9, 0, 1)
        last_s = 0.0
        for step in range(200):
            live.set_rate(last_s, 1 + step % 7)
            due_s = live.take().due_s
            assert due_s >= last_s
            last_s = due_s
