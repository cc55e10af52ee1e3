"""Seeds of the simulation, each a life of the server; `SIMULATION_SEEDS=2000` runs more (make torture)."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.plan import FEATURES, plan_of
from tests.simulation.world import Failed, run

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "200"))
PORTION = 20
FOUND_WITHIN = 100  # seeds; most of the planted bugs are found by the third, one only by every tenth


@pytest.mark.parametrize("first", range(1, SEEDS + 1, PORTION))
def test_every_promise_is_kept_at_every_step_whatever_goes_wrong(
    first: int, record_property: Callable[[str, object], None]
) -> None:
    runs = [run(seed) for seed in range(first, min(first + PORTION, SEEDS + 1))]
    record_property("simulated lives", len(runs))
    record_property("simulated steps", sum(each.steps for each in runs))
    for event, many in (("crash", "crashes"), ("commit", "commits"), ("call", "calls"), ("send", "sends")):
        record_property(f"simulated {many}", sum(each.counts.get(event, 0) for each in runs))


def test_the_seeds_leave_nothing_out() -> None:
    plans = [plan_of(seed) for seed in range(1, 201)]
    for feature in FEATURES:
        alone_or_not = [plan.has(feature) for plan in plans]
        assert any(alone_or_not)
        assert not all(alone_or_not)
    assert sum(plan.prompt for plan in plans) > 40


def test_the_same_seed_is_the_same_life_step_by_step_in_another_process() -> None:
    once = run(7)
    again = run(7)
    assert once == again
    code = "from tests.simulation.world import run; print(run(7).trace)"
    other = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "12345"},
    )
    assert other.stdout.strip() == once.trace
    assert run(8).trace != once.trace


def hunt(name: str) -> None:
    """Run seeds with a bug planted, until one finds it."""
    plant, always = MUTANTS[name]
    with plant():
        for seed in range(1, FOUND_WITHIN + 1):
            run(seed, always=always)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_found(name: str) -> None:
    with pytest.raises(Failed):
        hunt(name)


def test_a_failing_seed_is_printed_with_the_command_that_runs_it_again() -> None:
    with pytest.raises(Failed) as found:
        hunt("a_retry_goes_out_a_second_late")
    again = f"python -m tests.simulation {found.value.seed} --trace --always 'receivers fail'"
    assert str(found.value).endswith(f"Again: {again}")
