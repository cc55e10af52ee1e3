import asyncio
import random
import time

import pytest

from tests.emulator.harness import FakeClock, settle, until
from yottabench.clock import Ids, LoopClock

pytestmark = pytest.mark.anyio


async def test_timers_run_in_the_order_of_their_due_times_and_then_of_booking() -> None:
    clock = LoopClock(asyncio.get_running_loop())
    ran: list[str] = []
    now_ms = clock.now_ms()
    for name, due_ms in (
        ("c", now_ms + 3),
        ("a", now_ms - 5),
        ("b", now_ms + 1),
        ("a2", now_ms - 5),
        ("c2", now_ms + 3),
    ):
        clock.call_at(due_ms, lambda name=name: ran.append(name))
    await until(lambda: len(ran) == 5)
    assert ran == ["a", "a2", "b", "c", "c2"]


async def test_a_timer_never_finds_itself_early() -> None:
    clock = LoopClock(asyncio.get_running_loop())
    early: list[int] = []
    left = 30
    due_ms = clock.now_ms()

    def run(due_ms: int) -> None:
        nonlocal left
        left -= 1
        early.append(max(0, due_ms - clock.now_ms()))

    for step in range(30):
        clock.call_at(due_ms + step, lambda due_ms=due_ms + step: run(due_ms))
    await until(lambda: left == 0)
    assert early == [0] * 30


async def test_a_timer_that_was_called_off_does_not_run_even_when_it_was_due_already() -> None:
    clock = LoopClock(asyncio.get_running_loop())
    ran: list[str] = []
    now_ms = clock.now_ms()
    later = clock.call_at(now_ms + 1, lambda: ran.append("later"))
    later.cancel()
    second = clock.call_at(now_ms, lambda: ran.append("second"))
    clock.call_at(now_ms - 1, second.cancel)
    clock.call_at(now_ms + 2, lambda: ran.append("last"))
    await until(lambda: ran != [])
    await settle()
    assert ran == ["last"]
    second.cancel()


async def test_a_step_of_the_wall_clock_moves_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = LoopClock(asyncio.get_running_loop())
    before_ms = clock.now_ms()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 100_000)
    assert before_ms <= clock.now_ms() < before_ms + 60_000


def test_numbers_rise_and_have_18_or_19_digits_also_when_time_stands_still() -> None:
    clock = FakeClock()
    ids = Ids(clock, random.Random(1))
    numbers = [ids.number() for _ in range(1000)]
    clock.ms -= 1000
    numbers += [ids.number() for _ in range(10)]
    assert numbers == sorted(set(numbers))
    assert all(2**53 < number < 2**63 and len(str(number)) in {18, 19} for number in numbers)


def test_task_ids_are_uuids_without_hyphens_and_all_different() -> None:
    ids = Ids(FakeClock(), random.Random(1))
    made = [ids.task_id() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(len(each) == 32 and set(each) <= set("0123456789abcdef") for each in made)
