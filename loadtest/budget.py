"""A request budget: no more than so many per second, whoever in this process asks."""

from collections.abc import Callable

import gevent

BURST_S = 0.02  # how much of the pace may be made up for at once: the loop's timers are coarse


class Budget:
    """Hands out slots at an even pace, in the order in which they are asked for."""

    def __init__(self, per_s: float, now_s: Callable[[], float]) -> None:
        self._gap_s = 1 / per_s
        self._now_s = now_s
        self._next_s = 0.0

    def take(self) -> None:
        """Waits until a request may be made."""
        now_s = self._now_s()
        slot_s = max(self._next_s, now_s - BURST_S)
        self._next_s = slot_s + self._gap_s
        if slot_s > now_s:
            gevent.sleep(slot_s - now_s)

    def give_back(self) -> None:
        """The slot just taken was not needed."""
        self._next_s -= self._gap_s
