"""The one writer: what waits while a commit runs goes into the next one; nobody is answered before it is durable."""

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from yottabench.clock import Clock
from yottabench.emulator.limits import BATCH_MAX_COMMANDS, STORE_RETRY_MS
from yottabench.emulator.store.base import Command, OutcomeT, Store, StoreError

_log = logging.getLogger("yottabench.store")

_Waiting = tuple[Command[Any], "asyncio.Future[Any]"]


class Writer:
    """Commits commands in the order in which they are given, many per transaction, on a thread of its own.

    The loop hands over all it has once the thread is free. A thread that helped itself would begin with the first
    command it sees, and wrestle with the loop for Python's lock command by command.

    `unanswered` counts what was given and not answered yet, `retrying` those who wait to try again.
    """

    unanswered = 0
    retrying = 0

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._store = store
        self._loop = loop
        self._clock = clock
        self._waiting: deque[_Waiting] = deque()
        self._batches: queue.SimpleQueue[list[_Waiting] | None] = queue.SimpleQueue()
        self._busy = False  # the thread has a batch, or is about to get one
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()
        self.commits = 0
        self.commands = 0

    def commit(self, command: Command[OutcomeT]) -> "asyncio.Future[OutcomeT]":
        """Answers with the command's outcome once it is durable; raises StoreError when it is not kept."""
        done: asyncio.Future[OutcomeT] = self._loop.create_future()
        self.unanswered += 1
        self._waiting.append((command, done))
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._hand_over)  # what else comes in this turn of the loop shares the commit
        return done

    async def insist(self, command: Command[OutcomeT]) -> OutcomeT:
        """Commit what must not be forgotten: when the store fails, again and again until it works."""
        while True:
            try:
                return await self.commit(command)
            except StoreError:
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

    def _hand_over(self) -> None:
        waiting = self._waiting
        batch = [waiting.popleft() for _ in range(min(len(waiting), BATCH_MAX_COMMANDS))]
        self._busy = bool(batch)
        if batch:
            self._batches.put(batch)

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                outcomes = self._store.apply([command for command, _ in batch])
            except StoreError as error:
                _log.error("Nothing of %d changes was kept. %s", len(batch), error)
                self._answer(batch, error)
            except Exception as error:
                # A fault of ours must cost its batch, not every later request its answer.
                _log.exception("Nothing of %d changes was kept.", len(batch))
                self._answer(batch, StoreError(f"The store failed: {error!r}"))
            else:
                self.commits += 1
                self.commands += len(batch)
                self._answer(batch, outcomes)

    def _answer(self, batch: list[_Waiting], outcome: Sequence[Any] | StoreError) -> None:
        try:
            self._loop.call_soon_threadsafe(self._committed, batch, outcome)
        except RuntimeError:  # the loop is closed: nobody is left to hear it
            _log.debug("The event loop ended before %d commits could be answered.", len(batch))

    def _committed(self, batch: list[_Waiting], outcome: Sequence[Any] | StoreError) -> None:
        self._hand_over()  # first, so that the next commit runs while this one is answered
        self._resolve(batch, outcome)

    def _resolve(self, batch: list[_Waiting], outcome: Sequence[Any] | StoreError) -> None:
        self.unanswered -= len(batch)
        if isinstance(outcome, StoreError):
            for _, done in batch:
                if not done.done():
                    done.set_exception(outcome)
            return
        for (_, done), result in zip(batch, outcome, strict=True):
            if not done.done():
                done.set_result(result)
