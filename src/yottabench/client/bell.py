"""Wakes a client that pauses, from any thread: a webhook may bring the news before the next poll would."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


class Bell:
    """Rung by one side, waited for by the other, in a thread or on an event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rung = threading.Event()
        self._sleeper: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None

    def ring(self) -> None:
        """End the pause, or the next one if there is none now."""
        with self._lock:
            self._rung.set()
            sleeper, self._sleeper = self._sleeper, None
        if sleeper is not None:
            loop, future = sleeper
            loop.call_soon_threadsafe(_wake, future)

    def wait(self, seconds: float) -> None:
        """Block until it rings, at most so long."""
        self._rung.wait(seconds)
        self._rung.clear()

    async def wait_async(self, seconds: float) -> None:
        """Wait on the running event loop until it rings, at most so long."""
        import asyncio

        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if not self._rung.is_set():
                self._sleeper = (loop, future)
        if self._sleeper is not None:
            await asyncio.wait([future], timeout=seconds)
        with self._lock:
            self._sleeper = None
            self._rung.clear()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
