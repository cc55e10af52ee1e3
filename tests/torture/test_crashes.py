"""Crashes and losses of power between any two operations of the disk; `TORTURE=full` looks at many more of them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.scratch import scratch
from tests.torture.lives import Found, end_everywhere, record

FULL = os.environ.get("TORTURE") == "full"
LIVES = range(1, 13) if FULL else range(1, 3)  # each has some 900 operations


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch() as made:
        yield made


@pytest.mark.parametrize("seed", LIVES)
def test_a_crash_between_any_two_operations_of_the_disk_loses_nothing_that_was_answered(
    seed: int, folder: Path, record_property: Callable[[str, object], None]
) -> None:
    life = record(seed, folder / "life", batches=40)
    found = Found()
    end_everywhere(life, folder, seed, power=False, every=1 if FULL else 12, found=found)
    record_property("crashes", found.ends)
    assert found.bad == 0, found.first


@pytest.mark.parametrize("seed", LIVES)
def test_a_loss_of_power_loses_nothing_that_was_answered_and_leaves_no_half_transaction(
    seed: int, folder: Path, record_property: Callable[[str, object], None]
) -> None:
    life = record(seed, folder / "life", batches=40)
    found = Found()
    end_everywhere(life, folder, seed, power=True, every=4 if FULL else 12, found=found)
    record_property("power losses", found.ends)
    assert found.bad == 0, found.first


@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
def test_the_lost_commits_of_a_store_that_does_not_sync_are_found(synchronous: str, folder: Path) -> None:
    life = record(1, folder / "life", batches=40, synchronous=synchronous)
    found = Found()
    end_everywhere(life, folder, 1, power=True, every=12, found=found)
    assert found.lost > found.ends // 10
    crashes = Found()
    end_everywhere(life, folder, 1, power=False, every=60, found=crashes)
    assert crashes.bad == 0  # which is why killing a process proves nothing about a disk
