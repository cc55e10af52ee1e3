"""Waiting until all is quiet: what advancing the clock needs at each of its steps."""

import asyncio
from collections.abc import Callable, Iterable, Mapping

from yottabench.emulator.dispatch import Dispatcher
from yottabench.emulator.limits import SETTLE_TIMEOUT_S

# What one thing starts is counted at the latest this many turns of the loop later; the start of a worker takes most.
_QUIET_TURNS = 20
# What is not over after so many turns waits for a disk or for somebody else: no need to look all the time.
_BUSY_TURNS = 50
_PAUSE_S = 0.0005


class NotSettled(Exception):
    """Something went on for too long; the message says what."""


class Settler:
    """Knows who may be busy: each of `busy`, by name, says how much it is doing right now."""

    def __init__(self, busy: Mapping[str, Callable[[], int]]) -> None:
        self._busy = busy

    async def settle(self) -> None:
        """Return once nobody is busy. Raises NotSettled."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + SETTLE_TIMEOUT_S
        quiet_turns = turns = 0
        while quiet_turns < _QUIET_TURNS:
            quiet_turns = quiet_turns + 1 if self._is_quiet() else 0
            turns += 1
            await asyncio.sleep(0 if quiet_turns or turns < _BUSY_TURNS else _PAUSE_S)
            if loop.time() > until_s:
                names = ", ".join(name for name, busy in self._busy.items() if busy() > 0)
                raise NotSettled(f"Not over after {SETTLE_TIMEOUT_S:g} s: {names}.")

    def _is_quiet(self) -> bool:
        return all(busy() <= 0 for busy in self._busy.values())


class Leases:
    """The leases of every endpoint, as something that becomes due; see clock.Due."""

    def __init__(self, dispatchers: Callable[[], Iterable[Dispatcher]]) -> None:
        self._dispatchers = dispatchers

    def next_ms(self) -> int | None:
        """See Due."""
        found = (dispatcher.next_ms() for dispatcher in self._dispatchers())
        return min((next_ms for next_ms in found if next_ms is not None), default=None)

    def run_due(self, now_ms: int) -> None:
        """See Due."""
        for dispatcher in self._dispatchers():
            dispatcher.end_leases(now_ms)
