"""The soak's own judgement: it must see a leak through noise, and must not see one in noise alone."""

import random

import pytest

from tests.torture.steady import Limit, judge

MEMORY = Limit("memory", "MB", share=0.05, amount=2.0)


def samples(per_hour: float, noise: float, seed: int, seconds: int = 7200) -> list[tuple[float, float]]:
    chance = random.Random(seed)
    return [(at, 100 + per_hour * at / 3600 + chance.gauss(0, noise)) for at in range(0, seconds, 5)]


@pytest.mark.parametrize("seed", range(10))
def test_noise_is_flat_and_a_leak_is_not(seed: int) -> None:
    assert judge(MEMORY, samples(0, 5, seed)).is_kept
    assert not judge(MEMORY, samples(10, 5, seed)).is_kept


def test_filling_up_at_first_is_no_leak_and_neither_is_a_peak() -> None:
    filling = [(at, min(100.0, 40 + at / 10)) for at in range(0, 7200, 5)]
    assert judge(MEMORY, filling).is_kept
    peaks = [(at, 300.0 if at % 600 == 0 else 100.0) for at in range(0, 7200, 5)]
    assert judge(MEMORY, peaks).is_kept
    assert judge(Limit("memory", "MB", 0.05, 2.0, most=200.0), peaks).is_kept is False


@pytest.mark.parametrize(("growth", "kept"), [(6.9, True), (7.5, False)])
def test_the_allowance_is_a_share_and_an_amount(growth: float, kept: bool) -> None:
    # From a quarter of the run to its end three quarters of the growth are left.
    grown = [(at, 100 + growth / 0.75 * at / 1000) for at in range(0, 1001)]
    assert judge(MEMORY, grown).is_kept is kept
