"""uvicorn's server, told to stop instead of looking now and then: with nothing under way it ends at once."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Generator

import uvicorn

_log = logging.getLogger("yottabench.server")

_TICK_S = 0.1  # what uvicorn counts its ticks in; the Date header is made anew every ten of them


class Server(uvicorn.Server):
    """Serves until `stop`; signals are the caller's business. `listening` is called once connections are accepted."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Accept nothing more, and end when what is under way has been answered, or has had its time."""
        self.should_exit = True
        self._stopping.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._listening()

    async def main_loop(self) -> None:
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _TICK_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in tuple(self.server_state.connections):
            connection.shutdown()
        try:
            await asyncio.wait_for(self._answered(), self.config.timeout_graceful_shutdown)
        except TimeoutError:
            _log.warning("%d requests were not answered in time and are broken off.", len(self.server_state.tasks))
            for task in tuple(self.server_state.tasks):
                task.cancel()

    async def _answered(self) -> None:
        while tasks := tuple(self.server_state.tasks):
            await asyncio.wait(tasks)
