"""The one writer: what waits while a commit runs goes into the next one; nobody is answered before it is durable."""

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import repeat
from typing import Any

from yottabench.clock import Clock
from yottabench.emulator.limits import (
    ANSWERS_PER_TURN,
    BATCH_FULL_COMMANDS,
    BATCH_GATHER_S,
    BATCH_MAX_COMMANDS,
    STORE_RETRY_MS,
)
from yottabench.emulator.store.base import Command, OutcomeT, Store, StoreError

_log = logging.getLogger("yottabench.store")

_QUIET_TURNS = 2  # of the loop: a request is read in one and comes here in the next

_Waiting = tuple[Command[Any], Callable[[Any], None]]
_Answer = tuple[Callable[[Any], None], Any]  # the outcome, or the StoreError


class Writer:
    """Commits commands in the order in which they are given, many per transaction, on a thread of its own.

    A commit has a price, however small it is: 100 us of processor time, and a sync. So the loop gathers while the
    thread is free too, until nothing more comes in, the batch is large enough, or the first of it has waited for long
    enough. A thread that helped itself would begin with the first command it sees, and wrestle with the loop for
    Python's lock command by command.

    `unanswered` counts what was given and not answered yet, `retrying` those who wait to try again.
    """

    unanswered = 0
    retrying = 0

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._store = store
        self._loop = loop
        self._clock = clock
        self._waiting: deque[_Waiting] = deque()
        self._answers: deque[_Answer] = deque()
        self._batches: queue.SimpleQueue[list[_Waiting] | None] = queue.SimpleQueue()
        self._turning = False  # `_turn` runs in the loop's next turn
        self._thread_is_free = True
        self._seen = 0  # of what waits, at the last turn
        self._quiet_turns = 0
        self._since_s: float | None = None  # the loop's time at which something waited and the thread was free
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()
        self.commits = 0
        self.commands = 0

    def commit(self, command: Command[OutcomeT]) -> "asyncio.Future[OutcomeT]":
        """Answers with the command's outcome once it is durable; raises StoreError when it is not kept."""
        done: asyncio.Future[OutcomeT] = self._loop.create_future()
        self.commit_then(command, partial(_settle, done))
        return done

    def commit_then(self, command: Command[OutcomeT], then: Callable[[OutcomeT | StoreError], None]) -> None:
        """The same without a future, which takes a twentieth of all that a submit takes.

        `then` is called once, on the event loop: with the outcome when it is durable, or with why it is not kept.
        """
        self.unanswered += 1
        self._waiting.append((command, then))
        self._go_on()

    async def insist(self, command: Command[OutcomeT], *, refused: bool = False) -> OutcomeT:
        """Commit what must not be forgotten: when the store fails, again and again until it works.

        `refused`: it was tried once, just now, and failed.
        """
        while True:
            if not refused:
                try:
                    return await self.commit(command)
                except StoreError:
                    pass
            refused = False
            self.retrying += 1
            again = asyncio.Event()
            self._clock.call_at(self._clock.now_ms() + STORE_RETRY_MS, again.set)
            try:
                await again.wait()
            finally:
                self.retrying -= 1

    def close(self) -> None:
        """Commit what waits, end the thread."""
        while self._waiting:
            self._hand_over()
        self._batches.put(None)
        self._thread.join()

    def _go_on(self) -> None:
        if not self._turning and (self._answers or (self._waiting and self._thread_is_free)):
            self._turning = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turning = False
        if self._waiting and self._thread_is_free and self._is_gathered():
            self._hand_over()
        self._answer(ANSWERS_PER_TURN)
        self._go_on()

    def _is_gathered(self) -> bool:
        waiting = len(self._waiting)
        now_s = self._loop.time()
        if self._since_s is None:
            self._since_s = now_s
        # Those who are answered often ask for the next thing at once.
        quiet = waiting == self._seen and not self._answers
        self._quiet_turns = self._quiet_turns + 1 if quiet else 0
        self._seen = waiting
        return (
            waiting >= BATCH_FULL_COMMANDS
            or self._quiet_turns >= _QUIET_TURNS
            or now_s - self._since_s >= BATCH_GATHER_S
        )

    def _hand_over(self) -> None:
        waiting = self._waiting
        batch = [waiting.popleft() for _ in range(min(len(waiting), BATCH_MAX_COMMANDS))]
        self._seen = self._quiet_turns = 0
        self._since_s = None
        self._thread_is_free = False
        self._batches.put(batch)

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                outcomes = self._store.apply([command for command, _ in batch])
            except StoreError as error:
                _log.error("Nothing of %d changes was kept. %s", len(batch), error)
                self._tell_loop(batch, error)
            except Exception as error:
                # A fault of ours must cost its batch, not every later request its answer.
                _log.exception("Nothing of %d changes was kept.", len(batch))
                self._tell_loop(batch, StoreError(f"The store failed: {error!r}"))
            else:
                self.commits += 1
                self.commands += len(batch)
                self._tell_loop(batch, outcomes)

    def _tell_loop(self, batch: list[_Waiting], outcome: Sequence[Any] | StoreError) -> None:
        try:
            self._loop.call_soon_threadsafe(self._committed, batch, outcome)
        except RuntimeError:  # the loop is closed: nobody is left to hear it
            _log.debug("The event loop ended before %d commits could be answered.", len(batch))

    def _committed(self, batch: list[_Waiting], outcome: Sequence[Any] | StoreError) -> None:
        self._thread_is_free = True
        self._note_answers(batch, outcome)
        if not self._turning:
            self._turn()

    def _note_answers(self, batch: list[_Waiting], outcome: Sequence[Any] | StoreError) -> None:
        outcomes = repeat(outcome, len(batch)) if isinstance(outcome, StoreError) else outcome
        self._answers.extend((then, result) for (_, then), result in zip(batch, outcomes, strict=True))

    def _answer(self, most: int) -> None:
        for _ in range(min(most, len(self._answers))):
            then, outcome = self._answers.popleft()
            self.unanswered -= 1
            try:
                then(outcome)
            except Exception:  # a fault of ours must not cost the others their answers
                _log.exception("What was to follow a commit failed.")


def _settle(done: "asyncio.Future[OutcomeT]", outcome: OutcomeT | StoreError) -> None:
    if done.done():  # nobody waits any more
        return
    if isinstance(outcome, StoreError):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)
