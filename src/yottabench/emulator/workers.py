"""One worker from its start to its end: what it shows, who may use it, and what is written down of it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from yottabench.emulator import http1
from yottabench.emulator.dispatch import Dispatcher, ReadyWorker
from yottabench.emulator.drivers.base import Driver, LogLine, RunningWorker, WorkerSpec, WorkerStartError
from yottabench.emulator.limits import OUTPUT_MAX_BYTES
from yottabench.emulator.store.base import WorkerRecord, WorkerStatus

_log = logging.getLogger("yottabench.workers")

KILL_AFTER_S = 2.0  # a worker with nothing in hand needs no longer to end


class HttpCaller:
    """Calls one worker over connections that are kept."""

    def __init__(self, running: RunningWorker, timeout_s: float, concurrency: int) -> None:
        self._running = running
        self._timeout_s = timeout_s
        self._concurrency = concurrency
        self._pools: dict[tuple[str, int], http1.Http1Pool] = {}

    def url(self, port: int) -> str:
        """See WorkerCaller.url."""
        host, real_port = self._running.address(port)
        return f"http://{host}:{real_port}"

    async def post(self, port: int, target: str, headers: bytes, body: bytes) -> http1.Answer:
        """See WorkerCaller.post."""
        address = self._running.address(port)
        pool = self._pools.get(address)
        if pool is None:
            pool = self._pools[address] = http1.Http1Pool(*address, max_idle=self._concurrency)
        return await pool.request(
            b"POST",
            target.encode("ascii"),
            headers,
            body,
            timeout_s=self._timeout_s,
            max_body_bytes=OUTPUT_MAX_BYTES,
        )

    def close(self) -> None:
        """Drop the connections; requests on them fail."""
        for pool in self._pools.values():
            pool.close()


class Worker:
    """A worker of an endpoint. `run` is its whole life; `leave` ends it politely."""

    def __init__(
        self,
        record: WorkerRecord,
        driver: Driver,
        dispatcher: Dispatcher,
        save: Callable[[WorkerRecord, WorkerStatus | None], Awaitable[None]],
    ) -> None:
        self.record = record
        self.ready_ms: int | None = None
        self.leaving = False  # set by its endpoint, which then calls `leave` once
        self.outdated = False  # its endpoint's settings have changed since it was started
        self._driver = driver
        self._dispatcher = dispatcher
        self._save = save
        self._running: RunningWorker | None = None
        self._ready: ReadyWorker | None = None

    @property
    def in_hand(self) -> int:
        """How many tasks it has right now."""
        return 0 if self._ready is None else self._ready.in_hand

    async def run(
        self, spec: WorkerSpec, log: LogLine, now_ms: Callable[[], int], timeout_s: float, concurrency: int
    ) -> bool:
        """Start, serve, end. True when it had become ready; the reason of its end is in its record."""
        await self._save(self.record, None)
        try:
            running = self._running = await self._driver.start(spec, log)
            await running.wait_ready()
        except WorkerStartError as error:
            await self._end(error.reason, now_ms())
            return False
        if not self.leaving:
            caller = HttpCaller(running, timeout_s, concurrency)
            self._ready = ReadyWorker(self.record.id, caller)
            self.ready_ms = now_ms()
            await self._become(WorkerStatus.RUNNING, self.ready_ms)
            if not self.leaving:
                self._dispatcher.add_worker(self._ready)
            reason = await asyncio.shield(running.exited)
            self._ready.gone = True
            self._dispatcher.remove_worker(self._ready)
            caller.close()
        else:
            running.kill()
            reason = await asyncio.shield(running.exited)
        await self._end(reason, now_ms())
        return True

    async def leave(self, drain_s: float, now_ms: int) -> None:
        """Take no other task, end those in hand within `drain_s`, go. Those not ended by then return to the queue."""
        if self._running is None or self._ready is None:
            if self._running is not None:
                self._running.kill()
            return
        self._ready.leaving = True
        self._dispatcher.remove_worker(self._ready)
        await self._become(WorkerStatus.STOPPING, now_ms)
        try:
            await asyncio.wait_for(self._ready.free.wait(), drain_s)
        except TimeoutError:
            _log.info("Worker %d still had a task after %g s; it goes back to the queue.", self.record.id, drain_s)
            self._running.kill()
        await self._running.stop(KILL_AFTER_S)

    async def _become(self, status: WorkerStatus, now_ms: int) -> None:
        previous = self.record.status
        self.record.status = status
        self.record.updated_ms = now_ms
        await self._save(self.record, previous)

    async def _end(self, reason: str, now_ms: int) -> None:
        self.record.reason = "stopped" if self.leaving else reason
        await self._become(WorkerStatus.TERMINATED, now_ms)
