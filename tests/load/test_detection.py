import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yottabench.load.detection import LEAST_SAMPLES, MODES, MOST_SAMPLES, Detection, Intervals, parse_api_qps
from yottabench.load.profile import ProfileError, parse_profile
from yottabench.load.runner import Wishes, wished_profile


def test_the_preset_v1_is_the_documented_limit_of_reads():
    assert parse_api_qps("v1") == 60
    assert parse_api_qps("12.5") == 12.5


@pytest.mark.parametrize("text", ["v2", "", "many", "1/s"])
def test_what_is_no_rate_is_refused_with_what_is_known(text: str):
    with pytest.raises(ProfileError, match="v1 \\(60\\)"):
        parse_api_qps(text)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_can_be_named_in_a_profile(mode: str):
    profile = parse_profile(f'[detection]\nmode = "{mode}"', name="p", where="here")
    assert profile.detection.mode == mode
    assert parse_profile(profile.to_toml(), name="p", where="there") == profile


@pytest.mark.parametrize(("text", "said"), [("nan", "finite"), ("0", "at least 0.1"), ("1e9", "at most")])
def test_a_rate_out_of_bounds_is_refused_wherever_it_comes_from(text: str, said: str):
    wishes = Wishes(**(dict.fromkeys(Wishes.__annotations__) | {"profile": "smoke", "api_qps": text}))
    with pytest.raises(ProfileError, match=said):
        wished_profile(wishes)


def test_the_command_line_decides_over_the_profile():
    given_ = {"profile": "smoke", "api_qps": "v1", "detection": "get-quantile"}
    looking = wished_profile(Wishes(**(dict.fromkeys(Wishes.__annotations__) | given_))).detection
    assert (looking.mode, looking.api_qps) == ("get-quantile", 60)


def test_a_fixed_interval_is_the_same_at_every_look():
    intervals = Intervals(Detection("get-fixed", interval_ms=250))
    assert {intervals.next_s(open_s, looks) for open_s in (0, 1, 99) for looks in range(50)} == {0.25}


def test_a_growing_interval_begins_at_the_first_and_ends_at_the_longest():
    intervals = Intervals(Detection("get-backoff", first_ms=10, factor=2, longest_ms=100))
    assert [round(intervals.next_s(0, looks), 3) for looks in (0, 1, 2, 3, 4, 500)] == [
        0.01,
        0.02,
        0.04,
        0.08,
        0.1,
        0.1,
    ]


def test_quantiles_are_used_once_enough_tasks_have_ended():
    intervals = Intervals(Detection("get-quantile", first_ms=10, factor=2, longest_ms=60_000))
    for _ in range(LEAST_SAMPLES - 1):
        intervals.took(7.0)
    assert intervals.next_s(0.0, 0) == 0.01
    intervals.took(7.0)
    assert intervals.next_s(0.0, 0) == 7.0
    assert intervals.next_s(5.0, 1) == 2.0
    # Longer than any: nothing is known, so the interval grows.
    assert intervals.next_s(7.5, 2) == 0.04


@given(st.integers(0, 100), st.floats(0.05, 0.95))
def test_each_look_finds_about_the_asked_share_of_what_is_still_open(seed: int, quantile: float):
    rng = random.Random(seed)
    how = Detection("get-quantile", first_ms=0, longest_ms=3_600_000, quantile=quantile)
    intervals = Intervals(how)
    took_s = [rng.lognormvariate(0, 1) for _ in range(MOST_SAMPLES)]
    for each in took_s:
        intervals.took(each)
    at_s = intervals.next_s(0.0, 0)
    assert abs(sum(each <= at_s for each in took_s) / MOST_SAMPLES - quantile) <= 0.01


def test_tasks_of_long_ago_are_forgotten():
    intervals = Intervals(Detection("get-quantile", longest_ms=3_600_000))
    for _ in range(MOST_SAMPLES):
        intervals.took(100.0)
    for _ in range(MOST_SAMPLES):
        intervals.took(1.0)
    assert intervals.next_s(0.0, 0) == 1.0
