"""Carries out plans on an event loop: the same things in the same order as drivers.py."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

from yottabench.client.driving import keep, moved_on, noted, outcome_of
from yottabench.client.envelope import opened, translated
from yottabench.client.errors import YottaError
from yottabench.client.plans import AtOnce, Effect, Pause, Plan, Try, log
from yottabench.client.transport import AsyncChannel, AsyncHttpClient, Target

R = TypeVar("R")


class AsyncDriver:
    """Carries out plans on the running event loop (asyncio)."""

    def __init__(self, http: AsyncHttpClient, target: Target, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._http = http
        self._target = target
        self.sleep = sleep

    async def run(self, plan: Plan[R]) -> R:
        """The result of a plan. Raises the YottaError that it ends in."""
        outcome: Any = None
        try:
            while True:
                outcome = await self._perform(moved_on(plan, outcome))
        except StopIteration as end:
            return end.value
        finally:
            plan.close()

    async def _perform(self, effect: Effect) -> Any:
        match effect:
            case Try():
                return await self._try(effect)
            case Pause():
                if effect.bell is not None:
                    await effect.bell.wait_async(effect.seconds)
                else:
                    await self.sleep(effect.seconds)
                return None
            case AtOnce():
                running = [asyncio.ensure_future(self.run(plan)) for plan in effect.plans]
                return await _gathered(running)

    async def _try(self, effect: Try[Any]) -> Any:
        request = effect.request
        channel = AsyncChannel(self._http, self._target, effect.timeout_s)
        try:
            with translated(request, self._target.api_key):
                # The HTTP clients' own limits hold for each part; this one for all of it.
                async with asyncio.timeout(effect.timeout_s):
                    answer = await request.send_async(client=cast("Any", channel))
            data = opened(request, answer, self._target.api_key)
        except YottaError as error:
            return noted(error)
        finally:
            keep(channel.answer)
        log.debug("%s: HTTP %d", request.operation, answer.status_code)
        return data


async def _gathered(running: "Sequence[asyncio.Future[Any]]") -> list[Any]:
    try:
        await asyncio.wait(running)
    finally:
        await cancelled(running)
    return [outcome_of(future) for future in running]


async def cancelled(running: "Iterable[asyncio.Future[Any]]") -> None:
    """End futures that nobody waits for any more."""
    still_running = [future for future in running if not future.done()]
    for future in still_running:
        future.cancel()
    if still_running:
        await asyncio.wait(still_running)
    for future in running:
        # Errors beside the one that is raised are looked at, so that the event loop does not complain of them.
        if not future.cancelled():
            future.exception()
