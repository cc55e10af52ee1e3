"""The one door for time, ids and chance, so that tests and simulations can hold all three still."""

import asyncio
import heapq
import itertools
import random
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

# Ids count milliseconds from here, which keeps them at 18 digits until 2030 (above 2**53: JavaScript must read text).
ID_EPOCH_MS = 1_672_531_200_000
_SEQUENCE_BITS = 22
# Of RFC 9562: the bits of a UUID that say of what kind it is, and these bits of the kind that begins with the time.
_UUID_KIND = (0b1111 << 76) | (0b11 << 62)
_UUID_7 = (7 << 76) | (0b10 << 62)


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

    def fire(self) -> None:
        run, self.run = self.run, None
        if run is not None:
            run()


class Due(Protocol):
    """Something besides timers that becomes due: asked while time is advanced, so that nothing is passed over."""

    def next_ms(self) -> int | None:
        """When the first of it is due; None when nothing is to come."""
        ...

    def run_due(self, now_ms: int) -> None:
        """Begin all that is due by now; it must not be among `next_ms` any more."""
        ...


class LoopClock:
    """Real time on an event loop: wall time read once, then carried on by the monotonic clock.

    A step of the machine's wall clock therefore moves no lease, no retry and no createdAt of a running server.
    `advance` adds virtual time on top, for whoever does not want to wait for a retry that is due in 15 minutes, and
    `freeze` holds time still, for whoever wants to compare times exactly.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._origin_s = time.time() - time.monotonic()
        self._started_origin_s = self._origin_s
        self._frozen_ms: int | None = None
        self._booked: list[_Booked] = []
        self._order = itertools.count()
        self._wake: asyncio.TimerHandle | None = None
        self._wake_ms = 0
        self._in_control = asyncio.Lock()

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC, plus what `advance` added."""
        if self._frozen_ms is not None:
            return self._frozen_ms
        return int((self._origin_s + time.monotonic()) * 1000)

    @property
    def frozen(self) -> bool:
        """Whether time stands still; it also does while it is being advanced."""
        return self._frozen_ms is not None

    @property
    def ahead_ms(self) -> int:
        """How far it is ahead of real time; negative after a time of being frozen."""
        return self.now_ms() - int((self._started_origin_s + time.monotonic()) * 1000)

    def call_at(self, due_ms: int, run: Callable[[], None]) -> Timer:
        """See Clock.call_at."""
        booked = _Booked(due_ms, next(self._order), run)
        heapq.heappush(self._booked, booked)
        self._arm()
        return booked

    async def freeze(self) -> None:
        """Let time stand still until `thaw`; `advance` still moves it. Harmless when it stands already."""
        async with self._in_control:
            self._hold()

    async def thaw(self) -> None:
        """Let time pass again, from where it stands. Harmless when it does."""
        async with self._in_control:
            self._let_go()

    async def advance(self, milliseconds: int, settle: Callable[[], Awaitable[None]], also: Due | None = None) -> None:
        """Move time forward, and on the way run what becomes due, in the order of its due times.

        Time steps from one due time to the next and stands still at each until `settle` returns, so what happens there
        is stamped with that time, and what it books for later is met on the way. An error of `settle` ends it where
        time stands then.
        """
        if milliseconds < 0:
            raise ValueError(f"Time only moves forward; got {milliseconds} ms.")
        async with self._in_control:
            stood_still = self.frozen
            now_ms = self._hold()
            target_ms = now_ms + milliseconds
            try:
                await settle()
                while (due_ms := self._next_due_ms(also)) is not None and due_ms <= target_ms:
                    now_ms = self._frozen_ms = max(now_ms, due_ms)
                    if also is not None:
                        also.run_due(now_ms)
                    self._run_due()
                    await settle()
                self._frozen_ms = target_ms
            finally:
                if not stood_still:
                    self._let_go()

    def _next_due_ms(self, also: Due | None) -> int | None:
        self._drop_cancelled()
        found = [self._booked[0].due_ms] if self._booked else []
        if also is not None and (other_ms := also.next_ms()) is not None:
            found.append(other_ms)
        return min(found, default=None)

    def _hold(self) -> int:
        self._frozen_ms = self.now_ms()
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        return self._frozen_ms

    def _let_go(self) -> None:
        if self._frozen_ms is None:
            return
        # Half a millisecond more: rounding must not make the first answer earlier than the last.
        self._origin_s = (self._frozen_ms + 0.5) / 1000 - time.monotonic()
        self._frozen_ms = None
        self._run_due()

    def _drop_cancelled(self) -> None:
        while self._booked and self._booked[0].run is None:
            heapq.heappop(self._booked)

    def _arm(self) -> None:
        self._drop_cancelled()
        if not self._booked or self.frozen:
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
            self._loop.call_soon(heapq.heappop(self._booked).fire)  # and may be called off until then
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
        return f"{(self._clock.now_ms() << 80) | (self._chance.getrandbits(80) & ~_UUID_KIND) | _UUID_7:032x}"
