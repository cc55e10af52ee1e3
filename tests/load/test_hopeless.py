import random
from typing import Any

import pytest

from yottabench.load.gates import parse_gate
from yottabench.load.hopeless import Odds, Watchdog, allowed_misses
from yottabench.load.latency import Latencies


def line(at_s: float, *, due: int = 0, e2e_ms: tuple[float, ...] = (), **counts: int) -> dict[str, Any]:
    latencies = Latencies()
    for ms in e2e_ms:
        latencies.record_s(ms / 1000)
    zeros = dict.fromkeys(("refused", "throttled", "unknown", "failed"), 0)
    found = {"t": at_s, "due": due, "ended": len(e2e_ms), **zeros, **counts}
    return found | ({"e2e": latencies.encode()} if e2e_ms else {})


def watchdog(*gates: str, planned: int | None = 1000, duration_s: float | None = 100, steady: bool = False) -> Watchdog:
    return Watchdog([parse_gate(gate) for gate in gates], planned, duration_s, steady=steady)


def test_a_gate_is_lost_once_more_tasks_miss_it_than_the_whole_plan_allows():
    dog = watchdog("e2e_p95_ms <= 100")
    dog.take(0, line(1, due=50, e2e_ms=(101,) * 50))
    assert dog.hopeless() is None  # exactly what 1,000 tasks allow
    dog.take(0, line(2, due=1, e2e_ms=(101,)))
    assert dog.hopeless() == (
        "e2e_p95_ms <= 100 can no longer be kept: 51 tasks miss it, of 1000 planned at most 50 may"
    )


def test_what_lies_within_the_bound_is_no_miss():
    dog = watchdog("e2e_p95_ms <= 100")
    for at_s in range(1, 50):
        dog.take(0, line(at_s, due=20, e2e_ms=(99,) * 20))
    assert dog.hopeless() is None


def test_tasks_open_for_longer_than_the_bound_are_misses_too():
    dog = watchdog("e2e_p95_ms <= 2000")
    dog.take(0, line(1, due=30))
    dog.take(1, line(1, due=30))
    for at_s in (2, 3):
        for process in (0, 1):
            dog.take(process, line(at_s))
    assert dog.hopeless() is not None
    recovered = watchdog("e2e_p95_ms <= 2000")
    recovered.take(0, line(1, due=60))
    recovered.take(0, line(2, e2e_ms=(900,) * 60))
    recovered.take(0, line(5))
    assert recovered.hopeless() is None


@pytest.mark.parametrize(
    ("gate", "counts", "lost"),
    [
        ("error_rate <= 0.01", {"failed": 5, "refused": 3, "unknown": 2}, False),
        ("error_rate <= 0.01", {"failed": 5, "refused": 3, "unknown": 3}, True),
        ("error_rate <= 0", {"failed": 1}, True),
        ("throttle_rate <= 0.01", {"throttled": 10}, False),
        ("throttle_rate <= 0.01", {"throttled": 11}, True),
        ("throttle_rate >= 0.5", {"throttled": 999}, False),
        ("completed_per_s >= 50", {"failed": 999}, False),
        ("e2e_max_ms <= 100", {}, False),
    ],
)
def test_which_counts_lose_which_gate(gate: str, counts: dict[str, int], lost: bool):
    dog = watchdog(gate)
    dog.take(0, line(1, due=1000, e2e_ms=(50,) * 10, **counts))
    assert (dog.hopeless() is not None) is lost


def test_a_maximum_allows_no_miss():
    dog = watchdog("e2e_max_ms <= 100")
    dog.take(0, line(1, due=1, e2e_ms=(102,)))
    assert dog.hopeless() is not None


def test_gates_that_say_nothing_before_the_end_are_left_alone():
    for gate in ("lost = 0", "completed_per_s >= 5", "e2e_p95_ms >= 5", "get_p95_ms <= 5", "error_rate <= 1"):
        assert allowed_misses(parse_gate(gate)) is None


def told(share: float, seconds: int, seed: int, **settings: Any) -> str | None:
    """What a watchdog says of a run whose tasks fail with a probability that changes from second to second."""
    dog = watchdog("error_rate <= 0.05", planned=None, **settings)
    rng = random.Random(seed)
    for at_s in range(1, seconds + 1):
        chance = rng.betavariate(0.3, 0.3 * (1 - share) / share)
        dog.take(0, line(at_s, due=40, ended=40, failed=sum(rng.random() < chance for _ in range(40))))
        if why := dog.hopeless():
            return why
    return None


def test_the_odds_end_a_steady_run_that_misses_far_too_much_and_only_a_steady_one():
    assert "as good as lost" in (told(0.5, 40, 1, steady=True) or "")
    assert told(0.5, 40, 1, steady=False) is None


def test_a_run_at_its_bound_is_hardly_ever_given_up_though_neighbours_share_their_fate():
    assert sum(told(0.05, 60, seed, steady=True) is not None for seed in range(40)) == 0


def test_the_odds_wait_for_the_start_of_a_run_and_for_enough_tasks():
    dog = watchdog("e2e_p95_ms <= 100", planned=None, duration_s=300, steady=True)
    for at_s in range(1, 30):
        dog.take(0, line(at_s, due=10, e2e_ms=(200,) * 10))
        assert dog.hopeless() is None, at_s
    dog.take(0, line(30, due=10, e2e_ms=(200,) * 10))
    assert dog.hopeless() is not None
    few = watchdog("e2e_p999_ms <= 100", planned=None, duration_s=10, steady=True)
    for at_s in range(1, 20):
        few.take(0, line(at_s, due=10, e2e_ms=(200,) * 10))
    assert few.hopeless() is None  # 190 tasks; a 99.9th percentile takes 4,603


def test_a_bet_gains_on_misses_and_loses_without_them():
    odds = Odds(0.05)
    assert odds.wealth == pytest.approx(1)
    odds.second(0, 0)
    assert odds.wealth == pytest.approx(1)
    for _ in range(20):
        odds.second(0, 10)
    assert odds.wealth < 1
    for _ in range(20):
        odds.second(10, 10)
    assert odds.wealth > 1000
