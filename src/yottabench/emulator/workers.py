"""One worker from its start to its end: what it shows, who may use it, and what is written down of it."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable, Generator

import msgspec

from yottabench.emulator import http1
from yottabench.emulator.dispatch import Dispatcher, ReadyWorker, WorkerCaller
from yottabench.emulator.drivers.base import Driver, LogLine, RunningWorker, WorkerSpec, WorkerStartError
from yottabench.emulator.http1_stream import StreamPool
from yottabench.emulator.limits import OUTPUT_MAX_BYTES
from yottabench.emulator.places import Place
from yottabench.emulator.store.base import WorkerRecord, WorkerStatus

_log = logging.getLogger("yottabench.workers")

KILL_AFTER_S = 2.0  # a worker with nothing in hand needs no longer to end


class HttpCaller:
    """Calls one worker over connections that are kept."""

    def __init__(self, running: RunningWorker, timeout_s: float, concurrency: int) -> None:
        self._running = running
        self._timeout_s = timeout_s
        self._concurrency = concurrency
        self._tls: ssl.SSLContext | None = getattr(running, "tls", None)
        self._urls: dict[int, str] = {}  # by the port that tasks name
        self._pool_for: dict[int, http1.Http1Pool] = {}
        self._pools: dict[tuple[str, int], http1.Http1Pool] = {}  # many ports may lead to one address
        self._streams: dict[tuple[str, int], StreamPool] = {}

    def url(self, port: int) -> str:
        """See WorkerCaller.url."""
        url = self._urls.get(port)
        if url is None:
            host, real_port = self._running.address(port)
            url = self._urls[port] = f"http{'s' if self._tls else ''}://{host}:{real_port}"
        return url

    def post(self, port: int, target: str, headers: bytes, body: bytes) -> Awaitable[http1.Answer]:
        """See WorkerCaller.post."""
        pool = self._pool_for.get(port)
        if pool is None:
            address = self._running.address(port)
            pool = self._pools.get(address)
            if pool is None:
                pool = self._pools[address] = http1.Http1Pool(*address, tls=self._tls, max_idle=self._concurrency)
            self._pool_for[port] = pool
        return pool.request(
            b"POST",
            target.encode("ascii"),
            headers,
            body,
            timeout_s=self._timeout_s,
            max_body_bytes=OUTPUT_MAX_BYTES,
        )

    def streams(self, port: int) -> StreamPool:
        """The way for requests that are passed on as they come."""
        address = self._running.address(port)
        pool = self._streams.get(address)
        if pool is None:
            pool = self._streams[address] = StreamPool(*address, tls=self._tls)
        return pool

    def close(self) -> None:
        """Drop the connections; requests on them fail."""
        for pool in (*self._pools.values(), *self._streams.values()):
            pool.close()


class Worker:
    """A worker of an endpoint. `run` is its whole life; `leave` ends it politely.

    Without a dispatcher it takes no tasks: it is one of an ALB endpoint, whose gateway finds it here, or of a CUSTOM
    one, to which nothing is routed.
    """

    def __init__(
        self,
        record: WorkerRecord,
        driver: Driver,
        dispatcher: Dispatcher | None,
        save: Callable[[WorkerRecord, WorkerStatus | None], Awaitable[None]],
        past_faults: Callable[[int, WorkerCaller], WorkerCaller],
        place: Place,
    ) -> None:
        self.record = record
        self.ready_ms: int | None = None
        self.leaving = False  # set by its endpoint, which then calls `leave` once
        self.outdated = False  # its endpoint's settings have changed since it was started
        self._driver = driver
        self._dispatcher = dispatcher
        self._save = save
        self._saving = asyncio.Lock()
        self._past_faults = past_faults
        self.place = place
        self._starting: asyncio.Future[RunningWorker] | None = None
        self._running: RunningWorker | None = None
        self._ready: ReadyWorker | None = None
        self._caller: HttpCaller | None = None
        self._port: int | None = None
        self.last_turn = 0  # kept by the gateway

    @property
    def in_hand(self) -> int:
        """How many tasks, or requests of the gateway, it has right now."""
        return 0 if self._ready is None else self._ready.in_hand

    @property
    def takes_requests(self) -> bool:
        """Whether the gateway may send it something."""
        running = self.record.status is WorkerStatus.RUNNING and not self.leaving
        return running and self._ready is not None and self._ready.accepting

    @contextlib.contextmanager
    def request(self) -> Generator[StreamPool]:
        """The way to its exposed port for one request of the gateway; in hand until the block ends."""
        ready, caller = self._ready, self._caller
        assert ready is not None
        assert caller is not None
        assert self._port is not None  # an ALB endpoint is not created without
        ready.in_hand += 1
        ready.free.clear()
        try:
            yield caller.streams(self._port)
        finally:
            ready.in_hand -= 1
            if ready.in_hand == 0:
                ready.free.set()

    async def run(
        self, spec: WorkerSpec, log: LogLine, now_ms: Callable[[], int], timeout_s: float, concurrency: int
    ) -> None:
        """Start, serve, end. The reason of its end is in its record, and in `ready_ms` whether it had become ready."""
        self._port = spec.port
        await self._save(self.record, None)
        if not await self.place.wait() or self.leaving:
            await self._end("stopped", now_ms())
            return
        try:
            self._starting = asyncio.ensure_future(self._driver.start(spec, log))
            self._starting.add_done_callback(_seen)
            # Shielded: when this is cancelled half-way, `destroy` still learns what was started.
            running = await asyncio.shield(self._starting)
            self._running = running
            if self.leaving:
                running.kill()
            await running.wait_ready()
        except WorkerStartError as error:
            await self._end(error.reason, now_ms())
            return
        except Exception as error:
            _log.exception("The driver of worker %d broke down", self.record.id)
            if self._running is not None:
                self._running.kill()
            await self._end(f"did not start: the driver broke down ({type(error).__name__})", now_ms())
            return
        if not self.leaving:
            caller = self._caller = HttpCaller(running, timeout_s, concurrency)
            self._ready = ReadyWorker(self.record.id, self._past_faults(self.record.id, caller))
            self.ready_ms = now_ms()
            await self._become(WorkerStatus.RUNNING, self.ready_ms)
            if not self.leaving and self._dispatcher is not None:
                self._dispatcher.add_worker(self._ready)
            try:
                reason = await asyncio.shield(running.exited)
            finally:
                self._ready.gone = True
                self._withdraw(self._ready)
                caller.close()
        else:
            running.kill()
            reason = await asyncio.shield(running.exited)
        await self._end(reason, now_ms())

    async def leave(self, drain_s: float, now_ms: int) -> None:
        """Take no other task, end those in hand within `drain_s`, go. Those not ended by then return to the queue."""
        if self._running is None or self._ready is None:
            if self._running is not None:
                self._running.kill()
            elif self.place.waits:
                self.place.release()
            return
        if self.record.status is WorkerStatus.TERMINATED:  # it went by itself just now
            return
        self._ready.leaving = True
        self._withdraw(self._ready)
        await self._become(WorkerStatus.STOPPING, now_ms)
        try:
            await asyncio.wait_for(self._ready.free.wait(), drain_s)
        except TimeoutError:
            _log.info("Worker %d was not done after %g s; what it had in hand is taken away.", self.record.id, drain_s)
            self._running.kill()
        await self._running.stop(KILL_AFTER_S)

    async def destroy(self) -> None:
        """End it now, after `run` was cancelled; gone on return, and nothing is written down of it."""
        running = self._running
        if running is None and self._starting is not None:
            with contextlib.suppress(WorkerStartError):
                running = await self._starting
        if running is not None:
            running.kill()
            await asyncio.wait([running.exited], timeout=KILL_AFTER_S)
        self.place.release()
        if self._caller is not None:
            self._caller.close()

    def _withdraw(self, ready: ReadyWorker) -> None:
        if self._dispatcher is not None:
            self._dispatcher.remove_worker(ready)
        ready.accepting = False

    async def _become(self, status: WorkerStatus, now_ms: int) -> None:
        previous = self.record.status
        self.record.status = status
        self.record.updated_ms = now_ms
        now = msgspec.structs.replace(self.record)
        async with self._saving:  # one that a full disk holds up must not overwrite the next
            await self._save(now, previous)

    async def _end(self, reason: str, now_ms: int) -> None:
        self.place.release()
        self.record.reason = "stopped" if self.leaving else reason
        await self._become(WorkerStatus.TERMINATED, now_ms)


def _seen(starting: "asyncio.Future[RunningWorker]") -> None:
    # Nobody may be left to hear why it failed, and asyncio would complain of that.
    if not starting.cancelled():
        starting.exception()
