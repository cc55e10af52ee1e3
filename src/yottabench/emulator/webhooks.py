"""Sends what is in the outbox: documented body and headers, documented retries, one slow receiver delays no other."""

import asyncio
import base64
import hashlib
import hmac
import logging
import ssl
from collections import deque
from collections.abc import Coroutine, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from yottabench.clock import Clock, Timer
from yottabench.emulator import http1
from yottabench.emulator.faults import Faults
from yottabench.emulator.limits import (
    DELIVERIES_PER_DESTINATION,
    DELIVERY_ANSWER_MAX_BYTES,
    DELIVERY_WINDOW,
    IDLE_DESTINATIONS_MAX,
    STORE_RETRY_MS,
)
from yottabench.emulator.receivers import (
    EgressRefused,
    address_of,
    allowed_address,
    authority_of,
    destination_of,
    target_of,
)
from yottabench.emulator.settings import Settings
from yottabench.emulator.stats import Stats
from yottabench.emulator.store import base
from yottabench.emulator.store.base import (
    ClaimDelivery,
    DeliveryState,
    DueDelivery,
    EndDelivery,
    FinishedTask,
    Moved,
    Store,
    StoreError,
    TaskState,
)
from yottabench.emulator.store.writer import Writer

_log = logging.getLogger("yottabench.webhooks")


class Outbox:
    """Every delivery that is due goes out; deliveries to one host and port share a few places and a queue.

    What waits for its time, and what is more than a destination's window, is left in the store, which is asked by
    destination: however much one receiver has to come, it is in nobody else's way.
    """

    def __init__(
        self, settings: Settings, clock: Clock, store: Store, writer: Writer, stats: Stats, faults: Faults
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._store = store
        self._writer = writer
        self._stats = stats
        self._faults = faults
        self._held: dict[int, asyncio.Task[None] | None] = {}  # None: it waits for a place
        self._destinations: dict[str, _Destination] = {}
        self._idle: dict[str, _Destination] = {}  # the longest idle first
        self._under_way: set[asyncio.Task[None]] = set()
        self._closed = False

    def load(self) -> None:
        """Take up what the store holds; called at start, and when a snapshot was put back."""
        if self._closed:
            return
        try:
            found = self._store.delivery_destinations()
        except StoreError as error:
            _log.error("The outbox cannot be read now. %s", error)
            self._clock.call_at(self._clock.now_ms() + STORE_RETRY_MS, self.load)
            return
        for name in found:
            destination = self._destination(name)
            destination.spilled = True
            self._pump(destination)

    def add(self, delivery: DueDelivery) -> None:
        """A delivery that was just made durable."""
        if delivery.id in self._held or self._closed:
            return
        destination = self._destination(destination_of(delivery.url))
        if delivery.next_ms > self._clock.now_ms():
            self._wake_at(destination, delivery.next_ms)
        elif destination.spilled or len(destination.queue) >= DELIVERY_WINDOW:
            destination.spilled = True
        else:
            self._queue(destination, delivery)
        self._pump(destination)

    def resend(self, delivery: DueDelivery) -> None:
        """A delivery that was just made due again on request, whatever it waited for."""
        self.add(delivery)

    def forget(self, ids: Iterable[int]) -> None:
        """Deliveries that were removed: those that wait are not sent, those under way are broken off."""
        for delivery_id in ids:
            sending = self._held.pop(delivery_id, None)
            if sending is not None:
                sending.cancel()

    @property
    def busy(self) -> int:
        """How many deliveries are under way; those that only wait for a time are not."""
        return len(self._under_way) - self._faults.waiting_sends

    @property
    def pending(self) -> int:
        """How many deliveries are to be sent, now or later."""
        return self._store.pending_deliveries()

    async def close(self) -> None:
        """End what is under way; the store's recovery makes it due again."""
        self._closed = True
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        for destination in self._destinations.values():
            destination.close()

    def _destination(self, name: str) -> "_Destination":
        destination = self._destinations.get(name)
        if destination is None:
            destination = self._destinations[name] = _Destination(name, self._settings)
        self._idle.pop(name, None)
        return destination

    def _queue(self, destination: "_Destination", delivery: DueDelivery) -> None:
        self._held[delivery.id] = None
        destination.queue.append(delivery)

    def _wake_at(self, destination: "_Destination", due_ms: int) -> None:
        """One that is left in the store is due then; the first is enough to know of."""
        if destination.timer is not None:
            if destination.timer_ms <= due_ms:
                return
            destination.timer.cancel()
        destination.timer_ms = due_ms
        destination.timer = self._clock.call_at(due_ms, lambda: self._wake(destination))

    def _wake(self, destination: "_Destination") -> None:
        destination.timer = None
        destination.spilled = True
        self._pump(destination)

    def _pump(self, destination: "_Destination") -> None:
        while not self._closed:
            self._take_up(destination)
            if not destination.queue or destination.inflight >= DELIVERIES_PER_DESTINATION:
                break
            delivery = destination.queue.popleft()
            if delivery.id in self._held:
                destination.inflight += 1
                self._held[delivery.id] = self._spawn(self._send(delivery, destination))
        if destination.is_idle:
            self._idle[destination.name] = destination
            if len(self._idle) > IDLE_DESTINATIONS_MAX:
                oldest = next(iter(self._idle))
                del self._destinations[oldest]
                self._idle.pop(oldest).close()

    def _take_up(self, destination: "_Destination") -> None:
        """Read on in the store when it has more for this destination and there is room."""
        if not destination.spilled or len(destination.queue) > DELIVERY_WINDOW // 4:
            return
        now_ms = self._clock.now_ms()
        # Those that are queued or about to be claimed are found once more.
        limit = DELIVERY_WINDOW + len(destination.queue) + destination.inflight
        try:
            found = self._store.due_deliveries(limit, destination.name)
        except StoreError as error:
            _log.error("The outbox cannot be read now. %s", error)
            self._wake_at(destination, now_ms + STORE_RETRY_MS)
            return
        destination.spilled = len(found) == limit
        for delivery in found:
            if delivery.next_ms > now_ms:
                destination.spilled = False
                self._wake_at(destination, delivery.next_ms)
                break
            if delivery.id not in self._held:
                self._queue(destination, delivery)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def _send(self, delivery: DueDelivery, destination: "_Destination") -> None:
        try:
            try:
                # Read first: a store that cannot tell the result now must not leave a claim behind.
                finished = None if delivery.task_seq is None else self._store.finished_task(delivery.task_seq)
                if await self._writer.commit(ClaimDelivery(id=delivery.id)) is Moved.STALE:
                    self._held.pop(delivery.id, None)
                    return
            except StoreError:
                self._held.pop(delivery.id, None)
                self._wake_at(destination, self._clock.now_ms() + STORE_RETRY_MS)
                return
            now_ms = self._clock.now_ms()
            body = delivery.body or b"null" if finished is None else task_body(finished, delivery.attempts + 1, now_ms)
            note = await self._post(destination, delivery, body, now_ms)
        finally:
            destination.inflight -= 1
            self._pump(destination)
        await self._write_down(delivery, note, now_ms)

    async def _post(self, destination: "_Destination", delivery: DueDelivery, body: bytes, now_ms: int) -> str | None:
        def post() -> Coroutine[Any, Any, str | None]:
            return destination.post(delivery, body, now_ms // 1000)

        try:
            if not self._faults.armed:
                return await post()
            return await self._faults.send(destination.authority, self._settings.webhook_timeout_s, post)
        except Exception as error:  # a claim must not be left behind, whatever it was
            _log.exception("Delivery %d broke down", delivery.id)
            return f"The sending broke down ({type(error).__name__}); see the server's log."

    async def _write_down(self, delivery: DueDelivery, note: str | None, started_ms: int) -> None:
        now_ms = self._clock.now_ms()
        ladder = self._settings.webhook_retry_s
        next_ms = now_ms
        if note is None or delivery.once:
            state = DeliveryState.ACKED
        elif delivery.attempts < len(ladder):
            state = DeliveryState.DUE
            next_ms += int(ladder[delivery.attempts] * 1000)
        else:
            state = DeliveryState.EXHAUSTED
        end = EndDelivery(id=delivery.id, state=state, next_ms=next_ms, note=note, now_ms=now_ms, started_ms=started_ms)
        await self._writer.insist(end)
        self._stats.add(f"deliveries_{state.name.lower()}")
        self._held.pop(delivery.id, None)
        if state is DeliveryState.DUE:
            delivery.attempts += 1
            delivery.next_ms = next_ms
            self.add(delivery)


class _Destination:
    """One receiver: its queue, its places, its connections."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self._address = address_of(name)
        self._settings = settings
        self._pools: dict[str, http1.Http1Pool] = {}
        self.queue: deque[DueDelivery] = deque()
        self.inflight = 0
        self.spilled = False  # the store may hold more that is due than the queue does
        self.timer: Timer | None = None  # of the next that is due
        self.timer_ms = 0

    @property
    def authority(self) -> str:
        """host:port, as rules of faults have it."""
        return authority_of(self._address)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is known to come."""
        return not (self.queue or self.inflight or self.spilled or self.timer)

    async def post(self, delivery: DueDelivery, body: bytes, now_s: int) -> str | None:
        """Send once. None: acknowledged; else why not."""
        _, host, _ = self._address
        try:
            pool = await self._pool()
            answer = await pool.request(
                b"POST",
                target_of(delivery.url),
                delivery_headers(delivery, body, now_s),
                body,
                timeout_s=self._settings.webhook_timeout_s,
                connect_timeout_s=self._settings.webhook_timeout_s,
                max_body_bytes=DELIVERY_ANSWER_MAX_BYTES,
            )
        except EgressRefused as error:
            _log.warning("A webhook to %s was not sent: %s", host, error)
            return str(error)
        except http1.OutOfResources as error:  # no fault of the receiver, and none of its few retries
            _log.error("No webhook can be sent now. %s", error)
            await asyncio.sleep(STORE_RETRY_MS / 1000)
            return await self.post(delivery, body, now_s)
        except http1.Http1Error as error:
            return str(error)
        if 200 <= answer.status < 300:
            return None
        return f"The receiver answered HTTP {answer.status}; only 2xx acknowledges."

    async def _pool(self) -> http1.Http1Pool:
        """Resolved for every send, and connected to the address that was checked: a name that changes gains nothing."""
        scheme, host, port = self._address
        ip = await allowed_address(host, port, self._settings.webhook_allow, self._settings.egress)
        pool = self._pools.get(ip)
        if pool is None:
            tls = ssl.create_default_context() if scheme == "https" else None
            pool = http1.Http1Pool(ip, port, tls=tls, server_name=host, max_idle=DELIVERIES_PER_DESTINATION)
            self._pools[ip] = pool
        return pool

    def close(self) -> None:
        """Drop the connections."""
        for pool in self._pools.values():
            pool.close()


def delivery_headers(delivery: DueDelivery, body: bytes, now_s: int) -> bytes:
    """The documented header X-API-Key, and beside it a Standard Webhooks signature made with the same key."""
    headers = [b"Content-Type: application/json", b"User-Agent: yottabench"]
    if delivery.auth_key is not None:
        key = delivery.auth_key.encode("utf-8")
        message_id = f"msg_{delivery.id}".encode()
        timestamp = str(now_s).encode()
        signature = base64.b64encode(hmac.digest(key, b".".join([message_id, timestamp, body]), hashlib.sha256))
        headers += [
            b"X-API-Key: " + key,
            b"webhook-id: " + message_id,
            b"webhook-timestamp: " + timestamp,
            b"webhook-signature: v1," + signature,
        ]
    return b"".join(header + b"\r\n" for header in headers)


def task_body(task: FinishedTask, send: int, now_ms: int) -> bytes:
    """The body of a task webhook, as documented for v1; `send` counts from 1."""
    success = task.state is not TaskState.FAILED
    body: dict[str, Any] = {
        "task_id": task.seq,
        "user_task_id": task.task_id,
        "endpoint_id": str(task.endpoint_id),
        "status": "Success" if success else "Failed",
        "success": success,
        "timestamp": timestamp(now_ms),
        "retry_count": send,
    }
    if success:
        body["result"] = msgspec.Raw(task.output or b"null")
    else:
        body["failed_reason"] = task.error
    return msgspec.json.encode(body)


def worker_body(endpoint: base.EndpointRecord, worker: base.WorkerRecord, previous: base.WorkerStatus | None) -> bytes:
    """The body of a worker webhook. Nothing of it is documented: it is ours, in the style of the task webhook."""
    return msgspec.json.encode(
        {
            "event": "worker.status",
            "endpoint_id": str(endpoint.id),
            "endpoint_name": endpoint.spec.name,
            "worker_id": str(worker.id),
            "status": worker.status.name,
            "previous_status": None if previous is None else previous.name,
            "timestamp": timestamp(worker.updated_ms),
        }
    )


def timestamp(now_ms: int) -> str:
    """`YYYY-MM-DD HH:mm:ss.SSS` in UTC, as the documented webhook has it."""
    moment = datetime.fromtimestamp(now_ms // 1000, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{now_ms % 1000:03d}"
