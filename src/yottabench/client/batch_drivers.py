"""Carries out batches: jobs side by side, on threads or on an event loop."""

import asyncio
import concurrent.futures
import queue
import threading
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from contextvars import copy_context
from typing import Any, TypeVar

from yottabench.client.async_driver import AsyncDriver, cancelled
from yottabench.client.batch import Batch, BatchProgress, BatchResult, Job, OnProgress
from yottabench.client.drivers import SyncDriver
from yottabench.client.driving import outcome_of
from yottabench.client.errors import YottaError

T = TypeVar("T")


def run_batch(
    driver: SyncDriver, batch: Batch, items: Iterable[Any], concurrency: int, on_progress: OnProgress | None
) -> Iterator[BatchResult]:
    """Submit the items, and give the results as the tasks end. Closing the iterator stops all that goes on."""
    driver.run(batch.check())
    source, stop = iter(items), threading.Event()
    running: dict[concurrent.futures.Future[Any], Job] = {}
    # Not concurrent.futures.wait, which looks at all that runs for each that ends.
    ended: queue.SimpleQueue[concurrent.futures.Future[Any]] = queue.SimpleQueue()
    teller = _Teller(batch, on_progress)
    with concurrent.futures.ThreadPoolExecutor(concurrency, thread_name_prefix="yottabench") as pool:
        try:
            while not batch.done:
                while len(running) < concurrency and (job := _next_job(batch, source)) is not None:
                    future = pool.submit(copy_context().run, driver.run, job.plan, stop)
                    running[future] = job
                    future.add_done_callback(ended.put)
                pause_s = _pause_s(batch, len(running), concurrency)
                if running:
                    for future in _some(ended, pause_s):
                        _report(running.pop(future), outcome_of(future))
                elif pause_s:
                    driver.sleep(pause_s)
                teller.tell()
                while (result := batch.take_result()) is not None:
                    yield result
                    batch.given(result)
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)


async def run_batch_async(
    driver: AsyncDriver,
    batch: Batch,
    items: Iterable[Any] | AsyncIterable[Any],
    concurrency: int,
    on_progress: OnProgress | None,
) -> AsyncGenerator[BatchResult]:
    """The same on the running event loop."""
    await driver.run(batch.check())
    source = aiter(items) if isinstance(items, AsyncIterable) else iter(items)
    running: dict[asyncio.Future[Any], Job] = {}
    teller = _Teller(batch, on_progress)
    try:
        while not batch.done:
            while len(running) < concurrency and (job := await _next_job_async(batch, source)) is not None:
                running[asyncio.ensure_future(driver.run(job.plan))] = job
            pause_s = _pause_s(batch, len(running), concurrency)
            if running:
                ended, _ = await asyncio.wait(running, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
                for future in ended:
                    _report(running.pop(future), outcome_of(future))
            elif pause_s:
                await driver.sleep(pause_s)
            teller.tell()
            while (result := batch.take_result()) is not None:
                yield result
                batch.given(result)
    finally:
        await cancelled(running)


def _pause_s(batch: Batch, running: int, concurrency: int) -> float | None:
    # While all hands are full, something that is due cannot be begun before one is free.
    return None if running >= concurrency else batch.pause_s()


def _some(ended: "queue.SimpleQueue[T]", pause_s: float | None) -> Iterator[T]:
    """All that are there; where none is, what comes first, waited for at most so long."""
    try:
        yield ended.get(timeout=pause_s)
        while True:
            yield ended.get_nowait()
    except queue.Empty:
        return


class _Teller:
    """Calls the progress callback when there is something new, where the reader waits."""

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
