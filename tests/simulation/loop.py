"""An event loop without threads, sockets or real time: what runs next, and when, is for the simulation to say."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from tests.emulator.harness import FakeClock


class SimLoop(asyncio.AbstractEventLoop):
    """Runs one callback per `step`, first in, first out, as asyncio and uvloop promise.

    Everything that really comes from outside (the end of a commit, an answer, a timer) is put in by the simulation,
    between any two callbacks. Timers are those of the clock; executors run at once.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.ready: deque[asyncio.Handle] = deque()
        self.tasks: list[asyncio.Task[Any]] = []
        self.errors: list[str] = []
        self.buried = False

    def step(self) -> None:
        """Run the callback whose turn it is."""
        handle = self.ready.popleft()
        if not handle._cancelled:
            handle._run()

    def enter(self) -> None:
        """Be the running loop from here on."""
        asyncio._set_running_loop(self)

    def bury(self) -> None:
        """End every task in the order in which they were made; nobody hears of it."""
        self.buried = True
        for _ in range(20):
            for task in self.tasks:
                task.cancel()
            while self.ready:
                self.step()
            self.tasks = [task for task in self.tasks if not task.done()]
            if not self.tasks:
                return

    # ---- what asyncio asks of a loop

    def time(self) -> float:
        return self.clock.ms / 1000

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.clock.call_at(-int(-when * 1000 // 1), lambda: self.ready.append(handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing: `step` passes over it."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        self.tasks.append(task)
        if len(self.tasks) > 200:
            self.tasks = [each for each in self.tasks if not each.done()]
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.buried:
            self.errors.append(f"{context['message']}: {context.get('exception')!r}")

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False
