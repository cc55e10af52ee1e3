"""The one door for time, ids and chance, so that tests and simulations can hold all three still."""

import asyncio
import heapq
import itertools
import random
import time
from collections.abc import Callable
from typing import Protocol

# Ids count milliseconds from here, which keeps them at 18 digits until 2030 (above 2**53: JavaScript must read text).
ID_EPOCH_MS = 1_672_531_200_000
_SEQUENCE_BITS = 22
_LOW_62_BITS = (1 << 62) - 1
_VARIANT = 0b10 << 62  # of RFC 9562


class Timer(Protocol):
    """Something due later that can still be called off."""

    def cancel(self) -> None:
        """Never run it; harmless when it already ran."""
        ...


class Clock(Protocol):
    """What the emulator knows of time: milliseconds since the epoch that never step back, and timers on them."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC, never smaller than an earlier answer."""
        ...

    def call_at(self, due_ms: int, run: Callable[[], None]) -> Timer:
        """Run `run` on the event loop once `now_ms() >= due_ms`; equally due timers run in order of booking."""
        ...


class _Booked:
    __slots__ = ("due_ms", "order", "run")

    def __init__(self, due_ms: int, order: int, run: Callable[[], None]) -> None:
        self.due_ms = due_ms
        self.order = order
        self.run: Callable[[], None] | None = run

    def __lt__(self, other: "_Booked") -> bool:
        return (self.due_ms, self.order) < (other.due_ms, other.order)

    def cancel(self) -> None:
        self.run = None


class LoopClock:
    """Real time on an event loop: wall time read once, then carried on by the monotonic clock.

    A step of the machine's wall clock therefore moves no lease, no retry and no createdAt of a running server.
    `advance` adds virtual time on top, for whoever does not want to wait for a retry that is due in 15 minutes.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._origin_s = time.time() - time.monotonic()
        self._booked: list[_Booked] = []
        self._order = itertools.count()
        self._wake: asyncio.TimerHandle | None = None
        self._wake_ms = 0

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC, plus what `advance` added."""
        return int((self._origin_s + time.monotonic()) * 1000)

    def call_at(self, due_ms: int, run: Callable[[], None]) -> Timer:
        """See Clock.call_at."""
        booked = _Booked(due_ms, next(self._order), run)
        heapq.heappush(self._booked, booked)
        self._arm()
        return booked

    def advance(self, milliseconds: int) -> None:
        """Move time forward; what became due runs on the next turns of the loop, in order of its due time."""
        if milliseconds < 0:
            raise ValueError(f"Time only moves forward; got {milliseconds} ms.")
        self._origin_s += milliseconds / 1000
        self._run_due()

    def _arm(self) -> None:
        while self._booked and self._booked[0].run is None:
            heapq.heappop(self._booked)
        if not self._booked:
            return
        due_ms = self._booked[0].due_ms
        if self._wake is not None:
            if self._wake_ms <= due_ms:
                return
            self._wake.cancel()
        self._wake_ms = due_ms
        # One more millisecond: now_ms() rounds down, and a timer must never find itself early.
        self._wake = self._loop.call_later(max(0, due_ms - self.now_ms() + 1) / 1000, self._run_due)

    def _run_due(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        now_ms = self.now_ms()
        while self._booked and self._booked[0].due_ms <= now_ms:
            run = heapq.heappop(self._booked).run
            if run is not None:
                self._loop.call_soon(run)
        self._arm()


class Ids:
    """Makes the ids that the server hands out; unique for one server, and as good as unique across several."""

    def __init__(self, clock: Clock, chance: random.Random) -> None:
        self._clock = clock
        self._chance = chance
        self._last = 0

    def number(self) -> int:
        """A new endpoint or worker id: 18 or 19 decimal digits, larger than every earlier one of this server."""
        milliseconds = self._clock.now_ms() - ID_EPOCH_MS
        # The random low bits keep two servers apart that count in the same millisecond.
        number = (milliseconds << _SEQUENCE_BITS) | self._chance.getrandbits(_SEQUENCE_BITS)
        self._last = max(number, self._last + 1)
        return self._last

    def task_id(self) -> str:
        """A new task id: a version 7 UUID as 32 hex digits (hyphens would break the documented character set).

        Version 7 begins with the time: ids that are made together lie together in the store's index, which makes a
        commit of many of them several times smaller than random ones would.
        """
        chance = self._chance.getrandbits(74)
        return f"{self._clock.now_ms():012x}7{chance >> 62:03x}{(chance & _LOW_62_BITS) | _VARIANT:016x}"
