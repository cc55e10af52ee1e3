import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.emulator.harness import FakeClock, settle, until
from yottabench.emulator.limits import (
    ANSWERS_PER_TURN,
    BATCH_FULL_COMMANDS,
    BATCH_GATHER_S,
    BATCH_MAX_COMMANDS,
    STORE_RETRY_MS,
)
from yottabench.emulator.store.base import ClaimDelivery, Command, StoreError
from yottabench.emulator.store.writer import Writer

pytestmark = pytest.mark.anyio


class ScriptedStore:
    """Answers each command with its id; commits wait at `gate`, and fail as told."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.faults: list[Exception | None] = []
        self.threads: set[int] = set()

    def apply(self, batch: Sequence[Command[Any]]) -> list[Any]:
        self.threads.add(threading.get_ident())
        self.entered.set()
        assert self.gate.wait(30)
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault
        ids = [command.id for command in batch if isinstance(command, ClaimDelivery)]
        self.batches.append(ids)
        return list(ids)


@pytest.fixture
def store() -> ScriptedStore:
    return ScriptedStore()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def writer(store: ScriptedStore, clock: FakeClock, anyio_backend: str) -> AsyncIterator[Writer]:
    made = Writer(store, asyncio.get_running_loop(), clock)  # type: ignore[arg-type]
    yield made
    store.gate.set()
    made.close()


def put(writer: Writer, number: int) -> "asyncio.Future[Any]":
    return writer.commit(ClaimDelivery(id=number))


async def while_one_commit_runs(writer: Writer, store: ScriptedStore, then: Callable[[], list[Any]]) -> list[Any]:
    """Hold a first commit open, do something, let it go, and wait for all that came of it."""
    store.gate.clear()
    store.entered.clear()
    first = put(writer, 0)
    await settle()  # the loop hands over what it has at the end of its turn
    assert store.entered.wait(30)
    waiting = then()
    assert not first.done()
    store.gate.set()
    return await asyncio.gather(first, *waiting, return_exceptions=True)


async def test_what_waits_while_a_commit_runs_goes_into_the_next_one_in_order(
    writer: Writer, store: ScriptedStore
) -> None:
    answers = await while_one_commit_runs(writer, store, lambda: [put(writer, number) for number in range(1, 6)])
    assert answers == [0, 1, 2, 3, 4, 5]
    assert store.batches == [[0], [1, 2, 3, 4, 5]]
    assert (writer.commits, writer.commands) == (2, 6)


class TimedLoop:
    """The running loop with a time of its own, which goes on by `tick_s` whenever it is asked for."""

    def __init__(self, tick_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._tick_s = tick_s
        self._now_s = 1000.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def time(self) -> float:
        self._now_s += self._tick_s
        return self._now_s


async def one_each_turn(writer: Writer, store: ScriptedStore) -> int:
    """How many commands the first commit has if another one comes in every turn of the loop."""
    waiting: list[asyncio.Future[Any]] = []
    while not store.entered.is_set() and len(waiting) < 10 * BATCH_FULL_COMMANDS:
        waiting.append(put(writer, len(waiting)))
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    return len(store.batches[0])


async def test_a_commit_waits_for_what_comes_in_turn_after_turn_until_it_is_full(
    store: ScriptedStore, clock: FakeClock
) -> None:
    writer = Writer(store, TimedLoop(0), clock)  # type: ignore[arg-type]
    assert await one_each_turn(writer, store) == BATCH_FULL_COMMANDS
    writer.close()


async def test_a_commit_waits_for_more_no_longer_than_told(store: ScriptedStore, clock: FakeClock) -> None:
    turns = 5
    writer = Writer(store, TimedLoop(BATCH_GATHER_S / (turns - 0.5)), clock)  # type: ignore[arg-type]
    assert await one_each_turn(writer, store) == turns + 1  # it looks at the time from the first turn on
    writer.close()


async def test_time_in_which_nothing_waited_does_not_count(store: ScriptedStore, clock: FakeClock) -> None:
    loop = TimedLoop(0)
    writer = Writer(store, loop, clock)  # type: ignore[arg-type]
    for _ in range(2):
        store.entered.clear()
        store.batches.clear()
        assert await one_each_turn(writer, store) == BATCH_FULL_COMMANDS
        loop._now_s += 10 * BATCH_GATHER_S
    writer.close()


async def test_a_commit_does_not_wait_for_more_once_nothing_comes(store: ScriptedStore, clock: FakeClock) -> None:
    writer = Writer(store, TimedLoop(0), clock)  # type: ignore[arg-type]
    assert await asyncio.wait_for(put(writer, 1), 30) == 1
    writer.close()


async def test_a_large_commit_is_answered_in_parts_between_which_others_have_their_turn(
    writer: Writer, store: ScriptedStore
) -> None:
    waiting: list[asyncio.Future[Any]] = []

    def many() -> list[Any]:
        waiting.extend(put(writer, number) for number in range(3 * ANSWERS_PER_TURN))
        return []

    await while_one_commit_runs(writer, store, many)
    answered = [0]
    while answered[-1] < len(waiting):
        await asyncio.sleep(0)
        answered.append(sum(done.done() for done in waiting))
    assert sorted({*answered}) == [0, ANSWERS_PER_TURN, 2 * ANSWERS_PER_TURN, 3 * ANSWERS_PER_TURN]


async def test_what_came_while_a_commit_is_answered_in_parts_is_committed_too(
    writer: Writer, store: ScriptedStore
) -> None:
    again: list[asyncio.Future[Any]] = []

    def many() -> list[Any]:
        first = [put(writer, number) for number in range(3 * ANSWERS_PER_TURN)]
        for done in first:
            done.add_done_callback(lambda done: again.append(put(writer, 1000 + done.result())))
        return list(first)

    await while_one_commit_runs(writer, store, many)
    assert sorted(await asyncio.gather(*again)) == [1000 + number for number in range(3 * ANSWERS_PER_TURN)]
    assert writer.unanswered == 0


async def test_a_batch_has_a_largest_size(writer: Writer, store: ScriptedStore) -> None:
    more = BATCH_MAX_COMMANDS + 3
    answers = await while_one_commit_runs(writer, store, lambda: [put(writer, number) for number in range(1, more)])
    assert answers == list(range(more))
    assert [len(batch) for batch in store.batches] == [1, BATCH_MAX_COMMANDS, 2]


async def test_nobody_is_answered_before_the_commit(writer: Writer, store: ScriptedStore) -> None:
    store.gate.clear()
    done = put(writer, 1)
    await settle()
    assert store.entered.wait(30)
    assert not done.done()
    store.gate.set()
    assert await done == 1


async def test_one_thread_writes_and_it_is_not_the_loops(writer: Writer, store: ScriptedStore) -> None:
    for number in range(20):
        await put(writer, number)
    assert len(store.threads) == 1
    assert threading.get_ident() not in store.threads


async def test_those_who_wait_are_answered_in_the_order_of_their_commands(writer: Writer) -> None:
    answered: list[int] = []

    async def one(number: int) -> None:
        answered.append(await put(writer, number))

    await asyncio.gather(*[one(number) for number in range(100)])
    assert answered == list(range(100))


async def test_a_store_error_reaches_exactly_its_batch(writer: Writer, store: ScriptedStore) -> None:
    store.faults = [None, StoreError("The disk is full."), None]
    failed = await while_one_commit_runs(writer, store, lambda: [put(writer, 1), put(writer, 2)])
    assert failed[0] == 0
    assert [type(outcome) for outcome in failed[1:]] == [StoreError, StoreError]
    assert await put(writer, 3) == 3
    assert store.batches == [[0], [3]]
    assert writer.commands == 2


@pytest.mark.parametrize("fault", [OSError("a stat failed"), OverflowError("too large"), KeyError("unknown command")])
async def test_a_fault_that_is_no_store_error_is_answered_as_one_and_ends_nothing(
    writer: Writer, store: ScriptedStore, fault: Exception
) -> None:
    store.faults = [fault]
    with pytest.raises(StoreError):
        await asyncio.wait_for(put(writer, 1), 30)
    assert await asyncio.wait_for(put(writer, 2), 30) == 2


async def test_who_gave_up_waiting_stalls_nobody_else(writer: Writer, store: ScriptedStore) -> None:
    def give_up() -> list[Any]:
        leaving, staying = put(writer, 1), put(writer, 2)
        leaving.cancel()
        return [staying]

    assert await while_one_commit_runs(writer, store, give_up) == [0, 2]
    assert store.batches == [[0], [1, 2]]


async def test_insisting_tries_again_after_a_while_until_it_is_kept(
    writer: Writer, store: ScriptedStore, clock: FakeClock
) -> None:
    store.faults = [StoreError("full"), StoreError("still full")]
    kept = asyncio.ensure_future(writer.insist(ClaimDelivery(id=7)))
    for faults_left in (1, 0):
        await until(lambda left=faults_left: len(store.faults) == left and clock.next_due_ms() is not None)
        assert clock.next_due_ms() == clock.ms + STORE_RETRY_MS
        await clock.advance((STORE_RETRY_MS - 1) / 1000)
        assert len(store.faults) == faults_left
        await clock.advance(1 / 1000)
    assert await asyncio.wait_for(kept, 30) == 7
    assert store.batches == [[7]]


async def test_who_does_not_wait_is_told_the_outcome_or_why_there_is_none(writer: Writer, store: ScriptedStore) -> None:
    told: list[Any] = []
    for number in range(2):
        writer.commit_then(ClaimDelivery(id=number), told.append)
    await until(lambda: len(told) == 2)
    assert told == [0, 1]
    store.faults = [StoreError("full")]
    writer.commit_then(ClaimDelivery(id=2), told.append)
    await until(lambda: len(told) == 3)
    assert isinstance(told[2], StoreError)
    assert writer.unanswered == 0


async def test_one_whose_sequel_fails_costs_nobody_else_an_answer(
    writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise ValueError("a fault of ours")

    writer.commit_then(ClaimDelivery(id=0), fail)
    assert await asyncio.wait_for(put(writer, 1), 30) == 1
    assert writer.unanswered == 0
    assert "a fault of ours" in caplog.text


async def test_insisting_on_what_was_refused_waits_before_it_tries(
    writer: Writer, store: ScriptedStore, clock: FakeClock
) -> None:
    kept = asyncio.ensure_future(writer.insist(ClaimDelivery(id=7), refused=True))
    await until(lambda: clock.next_due_ms() is not None)
    assert (store.batches, writer.retrying, writer.unanswered) == ([], 1, 0)
    await clock.advance(STORE_RETRY_MS / 1000)
    assert await asyncio.wait_for(kept, 30) == 7
    assert (store.batches, writer.retrying) == ([[7]], 0)


@pytest.mark.parametrize("commands", [3, 2 * BATCH_MAX_COMMANDS + 1])
async def test_closing_commits_what_waits(writer: Writer, store: ScriptedStore, commands: int) -> None:
    store.gate.clear()
    waiting = [put(writer, number) for number in range(commands)]
    threading.Timer(0.05, store.gate.set).start()
    writer.close()
    assert await asyncio.wait_for(asyncio.gather(*waiting), 30) == list(range(commands))
    assert [number for batch in store.batches for number in batch] == list(range(commands))


async def test_a_loop_that_has_ended_does_not_break_the_writer(store: ScriptedStore, clock: FakeClock) -> None:
    loop = asyncio.new_event_loop()
    writer = Writer(store, loop, clock)  # type: ignore[arg-type]
    store.gate.clear()
    put(writer, 1)
    loop.close()
    store.gate.set()
    writer.close()
    assert store.batches == [[1]]


async def test_many_writers_of_commands_share_few_commits(writer: Writer, store: ScriptedStore) -> None:
    real = store.apply

    def slow(batch: Sequence[Command[Any]]) -> list[Any]:
        time.sleep(0.002)  # a disk's sync, in which the others queue up
        return real(batch)

    store.apply = slow  # type: ignore[method-assign]

    async def client(start: int) -> None:
        for number in range(start, start + 5):
            assert await put(writer, number) == number

    await asyncio.gather(*[client(1000 * each) for each in range(50)])
    assert writer.commands == 250
    assert writer.commits <= 125


# ---- whatever happens in whatever order

STEPS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from([1, 2, ANSWERS_PER_TURN + 1, BATCH_FULL_COMMANDS, 200])),
    st.tuples(st.just("turns"), st.integers(1, 5)),
    st.tuples(st.just("hold"), st.just(0)),
    st.tuples(st.just("let go"), st.just(0)),
    st.tuples(st.just("fail"), st.just(0)),
    st.tuples(st.just("leave"), st.integers(0, 3)),
)


async def play(steps: list[tuple[str, int]], *, close_early: bool) -> None:
    store = ScriptedStore()
    writer = Writer(store, asyncio.get_running_loop(), FakeClock())  # type: ignore[arg-type]
    waiting: list[asyncio.Future[Any]] = []
    for step, amount in steps:
        if step == "put":
            waiting += [put(writer, len(waiting) + each) for each in range(amount)]
        elif step == "turns":
            for _ in range(amount):
                await asyncio.sleep(0)
        elif step == "fail":
            store.faults.append(StoreError("The disk is full."))
        elif step == "leave":
            for done in waiting[-amount:]:  # with 0 it is all of them
                done.cancel()
        else:
            (store.gate.clear if step == "hold" else store.gate.set)()
    store.gate.set()
    if close_early:
        writer.close()
    outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 60)
    await until(lambda: not writer.unanswered)  # those who left are counted until their commit is over
    if not close_early:
        writer.close()
    kept = [number for batch in store.batches for number in batch]
    assert kept == sorted(set(kept))  # each at most once, and in the order in which they came
    assert (writer.commits, writer.commands) == (len(store.batches), len(kept))
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, asyncio.CancelledError):
            continue  # it may have been kept or not
        assert (outcome == number) if number in kept else isinstance(outcome, StoreError)


@given(steps=st.lists(STEPS, max_size=12), close_early=st.booleans())
def test_every_command_is_kept_once_in_its_order_or_refused_and_everybody_hears_of_it(
    steps: list[tuple[str, int]], close_early: bool
) -> None:
    asyncio.run(play(steps, close_early=close_early))
