"""Carry out plans: one on this thread, the other on an event loop. Both do the same things in the same order."""

import asyncio
import concurrent.futures
import threading
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar, cast

from yottabench.client.batch import Batch, BatchProgress, BatchResult, Job
from yottabench.client.envelope import opened, translated
from yottabench.client.errors import YottaError
from yottabench.client.plans import AtOnce, Effect, Pause, Plan, Try, log
from yottabench.client.transport import AsyncChannel, AsyncHttpClient, Channel, HttpAnswer, HttpClient, Target

R = TypeVar("R")
OnProgress = Callable[[BatchProgress], None]
THREADS_AT_ONCE = 16

last_answer: ContextVar[list[HttpAnswer] | None] = ContextVar("yottabench_last_answer", default=None)
"""Where the answers of a call are kept while somebody wants to see them raw."""


class Stopped(BaseException):
    """Ends a plan whose result nobody wants any more."""


def _moved_on(plan: Plan[Any], outcome: Any) -> Effect:
    """Give a plan the outcome of its last effect; what to do next. Raises StopIteration with its result."""
    if isinstance(outcome, YottaError):
        return plan.throw(outcome)
    return plan.send(outcome)


class SyncDriver:
    """Carries out plans on the calling thread."""

    def __init__(self, http: HttpClient, target: Target, sleep: Callable[[float], None]) -> None:
        self._http = http
        self._target = target
        self._sleep = sleep

    def run(self, plan: Plan[R], stop: threading.Event | None = None) -> R:
        """The result of a plan. Raises the YottaError that it ends in; Stopped once `stop` is set."""
        outcome: Any = None
        try:
            while True:
                effect = _moved_on(plan, outcome)
                if stop is not None and stop.is_set():
                    raise Stopped
                outcome = self._perform(effect, stop)
        except StopIteration as end:
            return end.value
        finally:
            plan.close()

    def _perform(self, effect: Effect, stop: threading.Event | None) -> Any:
        match effect:
            case Try():
                return self._try(effect)
            case Pause():
                if effect.bell is not None:
                    effect.bell.wait(effect.seconds)
                elif stop is not None:
                    stop.wait(effect.seconds)
                else:
                    self._sleep(effect.seconds)
                return None
            case AtOnce():
                return self._at_once(effect, stop)

    def _try(self, effect: Try[Any]) -> Any:
        request = effect.request
        channel = Channel(self._http, self._target, effect.timeout_s)
        try:
            with translated(request, self._target.api_key):
                answer = request.send_now(client=cast("Any", channel))
            data = opened(request, answer, self._target.api_key)
        except YottaError as error:
            return _noted(error)
        finally:
            _keep(channel.answer)
        log.debug("%s: HTTP %d", request.operation, answer.status_code)
        return data

    def _at_once(self, effect: AtOnce, stop: threading.Event | None) -> list[Any]:
        threads = min(THREADS_AT_ONCE, len(effect.plans))
        with concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="yottabench") as pool:
            futures = [pool.submit(copy_context().run, self.run, plan, stop) for plan in effect.plans]
        return [_outcome_of(future) for future in futures]

    def run_batch(
        self, batch: Batch, items: Iterable[Any], concurrency: int, on_progress: OnProgress | None
    ) -> Iterator[BatchResult]:
        """Submit the items, and give the results as the tasks end. Closing the iterator stops all that goes on."""
        self.run(batch.check())
        source, stop = iter(items), threading.Event()
        running: dict[concurrent.futures.Future[Any], Job] = {}
        teller = _Teller(batch, on_progress)
        with concurrent.futures.ThreadPoolExecutor(concurrency, thread_name_prefix="yottabench") as pool:
            try:
                while not batch.done:
                    while len(running) < concurrency and (job := _next_job(batch, source)) is not None:
                        running[pool.submit(copy_context().run, self.run, job.plan, stop)] = job
                    ended = self._ended(running, batch.pause_s())
                    for future in ended:
                        _report(running.pop(future), _outcome_of(future))
                    teller.tell()
                    while (result := batch.take_result()) is not None:
                        yield result
                        batch.given(result)
            finally:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)

    def _ended(
        self, running: dict[concurrent.futures.Future[Any], Job], pause_s: float | None
    ) -> Iterable[concurrent.futures.Future[Any]]:
        if running:
            return concurrent.futures.wait(running, pause_s, concurrent.futures.FIRST_COMPLETED).done
        if pause_s:
            self._sleep(pause_s)
        return ()


class AsyncDriver:
    """Carries out plans on the running event loop (asyncio)."""

    def __init__(self, http: AsyncHttpClient, target: Target, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._http = http
        self._target = target
        self._sleep = sleep

    async def run(self, plan: Plan[R]) -> R:
        """The result of a plan. Raises the YottaError that it ends in."""
        outcome: Any = None
        try:
            while True:
                outcome = await self._perform(_moved_on(plan, outcome))
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
                    await self._sleep(effect.seconds)
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
            return _noted(error)
        finally:
            _keep(channel.answer)
        log.debug("%s: HTTP %d", request.operation, answer.status_code)
        return data

    async def run_batch(
        self,
        batch: Batch,
        items: Iterable[Any] | AsyncIterable[Any],
        concurrency: int,
        on_progress: OnProgress | None,
    ) -> AsyncGenerator[BatchResult]:
        """Submit the items, and give the results as the tasks end. Closing the iterator stops all that goes on."""
        await self.run(batch.check())
        source = aiter(items) if isinstance(items, AsyncIterable) else iter(items)
        running: dict[asyncio.Future[Any], Job] = {}
        teller = _Teller(batch, on_progress)
        try:
            while not batch.done:
                while len(running) < concurrency and (job := await _next_job_async(batch, source)) is not None:
                    running[asyncio.ensure_future(self.run(job.plan))] = job
                for future in await self._ended(running, batch.pause_s()):
                    _report(running.pop(future), _outcome_of(future))
                teller.tell()
                while (result := batch.take_result()) is not None:
                    yield result
                    batch.given(result)
        finally:
            await _cancelled(running)

    async def _ended(
        self, running: dict[asyncio.Future[Any], Job], pause_s: float | None
    ) -> Iterable[asyncio.Future[Any]]:
        if running:
            return (await asyncio.wait(running, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED))[0]
        if pause_s:
            await self._sleep(pause_s)
        return ()


class _Teller:
    """Calls the progress callback when there is something new, on the reader's own thread."""

    def __init__(self, batch: Batch, on_progress: OnProgress | None) -> None:
        self._batch = batch
        self._on_progress = on_progress
        self._told: BatchProgress | None = None

    def tell(self) -> None:
        if self._on_progress is not None and self._batch.progress != self._told:
            self._told = self._batch.progress
            self._on_progress(self._told)


def _next_job(batch: Batch, source: Iterator[Any]) -> Job | None:
    while (job := batch.next_job()) is None and batch.wants_item:
        try:
            batch.offer(next(source))
        except StopIteration:
            batch.no_more_items()
    return job


async def _next_job_async(batch: Batch, source: Iterator[Any] | AsyncIterator[Any]) -> Job | None:
    if isinstance(source, Iterator):
        return _next_job(batch, source)
    while (job := batch.next_job()) is None and batch.wants_item:
        try:
            batch.offer(await anext(source))
        except StopAsyncIteration:
            batch.no_more_items()
    return job


def _report(job: Job, outcome: Any) -> None:
    if isinstance(outcome, YottaError):
        job.fail(outcome)
    else:
        job.finish(outcome)


def _outcome_of(future: "concurrent.futures.Future[Any] | asyncio.Future[Any]") -> Any:
    try:
        return future.result()
    except YottaError as error:
        return error


async def _gathered(running: "Sequence[asyncio.Future[Any]]") -> list[Any]:
    try:
        await asyncio.wait(running)
    finally:
        await _cancelled(running)
    return [_outcome_of(future) for future in running]


async def _cancelled(running: "Iterable[asyncio.Future[Any]]") -> None:
    still_running = [future for future in running if not future.done()]
    for future in still_running:
        future.cancel()
    if still_running:
        await asyncio.wait(still_running)
    for future in running:
        # Errors beside the one that is raised are looked at, so that the event loop does not complain of them.
        if not future.cancelled():
            future.exception()


def _keep(answer: HttpAnswer | None) -> None:
    kept = last_answer.get()
    if kept is not None and answer is not None:
        kept.append(answer)


def _noted(error: YottaError) -> YottaError:
    log.debug("%s", error)
    return error
