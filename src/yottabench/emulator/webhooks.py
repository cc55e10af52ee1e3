"""Sends what is in the outbox: documented body and headers, documented retries, one slow receiver delays no other."""

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import logging
import re
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
    STORE_RETRY_MS,
)
from yottabench.emulator.settings import Egress, Settings
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

Address = tuple[str, str, int]  # scheme, host, port


class _Held:
    """A delivery in the window: what it waits for, or what sends it."""

    __slots__ = ("sending", "timer")

    def __init__(self) -> None:
        self.timer: Timer | None = None
        self.sending: asyncio.Task[None] | None = None


class Outbox:
    """Every delivery that is due goes out; deliveries to one host and port share a few places and a queue."""

    def __init__(
        self, settings: Settings, clock: Clock, store: Store, writer: Writer, stats: Stats, faults: Faults
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._store = store
        self._writer = writer
        self._stats = stats
        self._faults = faults
        self._held: dict[int, _Held] = {}
        self._waiting = 0  # of those held: how many wait for a time
        self._spilled = True  # a store that was opened may hold deliveries
        self._wake: Timer | None = None  # when the first of those that were left in the store is due
        self._wake_ms = 0
        self._destinations: dict[Address, _Destination] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._closed = False

    def load(self) -> None:
        """Take up what the store holds; called at start, and whenever the window has room again."""
        if self._closed:
            return
        try:
            due = self._store.due_deliveries(DELIVERY_WINDOW)
        except StoreError as error:
            _log.error("The outbox cannot be read now. %s", error)
            self._leave(self._clock.now_ms() + STORE_RETRY_MS)
            return
        self._spilled = False
        for delivery in due:
            self.add(delivery)
        if len(due) == DELIVERY_WINDOW:
            self._leave(due[-1].next_ms)

    def add(self, delivery: DueDelivery) -> None:
        """A delivery that was just made durable."""
        # What waits for its time gets half of the window: a receiver that is down must not fill it with its retries.
        waits = delivery.next_ms > self._clock.now_ms()
        room = len(self._held) < DELIVERY_WINDOW and (not waits or self._waiting < DELIVERY_WINDOW // 2)
        if room or delivery.id in self._held:
            self._hold(delivery)
        else:
            self._leave(delivery.next_ms)

    def resend(self, delivery: DueDelivery) -> None:
        """A delivery that was just made due again on request, whatever it waited for."""
        held = self._held.get(delivery.id)
        if held is None:
            self.add(delivery)
        elif held.timer is not None:
            held.timer.cancel()
            self._enqueue(delivery)

    def forget(self, ids: Iterable[int]) -> None:
        """Deliveries that were removed: those that wait are not sent, those under way are broken off."""
        for delivery_id in ids:
            held = self._held.pop(delivery_id, None)
            if held is not None and held.timer is not None:
                held.timer.cancel()
                self._waiting -= 1
            if held is not None and held.sending is not None:
                held.sending.cancel()

    @property
    def busy(self) -> int:
        """How many deliveries are under way; those that only wait for a time are not."""
        return len(self._under_way) - self._faults.waiting_sends

    @property
    def pending(self) -> int:
        """How many deliveries are held in memory, due now or later."""
        return len(self._held)

    async def close(self) -> None:
        """End what is under way; the store's recovery makes it due again."""
        self._closed = True
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        for destination in self._destinations.values():
            destination.close()

    def _hold(self, delivery: DueDelivery) -> None:
        if delivery.id in self._held or self._closed:
            return
        self._held[delivery.id] = _Held()
        if delivery.next_ms <= self._clock.now_ms():
            self._enqueue(delivery)
        else:
            self._enqueue_at(delivery, delivery.next_ms)

    def _leave(self, next_ms: int) -> None:
        """One is left in the store: it is taken up when it is due, or when there is room again."""
        if next_ms <= self._clock.now_ms():
            self._spilled = True
        elif self._wake is None or next_ms < self._wake_ms:
            if self._wake is not None:
                self._wake.cancel()
            self._wake_ms = next_ms
            self._wake = self._clock.call_at(next_ms, self._wake_up)

    def _wake_up(self) -> None:
        self._wake = None
        self.load()

    def _enqueue_at(self, delivery: DueDelivery, due_ms: int) -> None:
        held = self._held.get(delivery.id)
        if held is not None:
            held.timer = self._clock.call_at(due_ms, lambda: self._enqueue(delivery))
            self._waiting += 1

    def _let_go(self, delivery: DueDelivery) -> None:
        self._held.pop(delivery.id, None)
        if self._spilled and len(self._held) - self._waiting < DELIVERY_WINDOW // 4:
            self.load()

    def _enqueue(self, delivery: DueDelivery) -> None:
        held = self._held.get(delivery.id)
        if held is None:
            return
        if held.timer is not None:
            held.timer = None
            self._waiting -= 1
        address = address_of(delivery.url)
        destination = self._destinations.get(address)
        if destination is None:
            destination = self._destinations[address] = _Destination(address, self._settings)
        destination.queue.append(delivery)
        self._pump(destination)

    def _pump(self, destination: "_Destination") -> None:
        while destination.queue and destination.inflight < DELIVERIES_PER_DESTINATION and not self._closed:
            delivery = destination.queue.popleft()
            held = self._held.get(delivery.id)
            if held is not None:
                destination.inflight += 1
                held.sending = self._spawn(self._send(delivery, destination))

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
                    self._let_go(delivery)
                    return
            except StoreError:
                self._enqueue_at(delivery, self._clock.now_ms() + STORE_RETRY_MS)
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

        if not self._faults.armed:
            return await post()
        return await self._faults.send(destination.name, self._settings.webhook_timeout_s, post)

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
        self._let_go(delivery)
        if state is DeliveryState.DUE:
            delivery.attempts += 1
            delivery.next_ms = next_ms
            self.add(delivery)


class _Destination:
    """One receiver: its queue, its places, its connections."""

    def __init__(self, address: Address, settings: Settings) -> None:
        self._address = address
        self._settings = settings
        self._pools: dict[str, http1.Http1Pool] = {}
        self.queue: deque[DueDelivery] = deque()
        self.inflight = 0

    @property
    def name(self) -> str:
        """host:port, as rules of faults have it."""
        _, host, port = self._address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

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


class EgressRefused(Exception):
    """The address is not one that this server may send webhooks to."""


# Where clouds answer whoever asks from inside with credentials: never, not even when allowed by name.
_METADATA = frozenset(
    ipaddress.ip_address(text) for text in ("169.254.169.254", "169.254.170.2", "100.100.100.200", "fd00:ec2::254")
)


async def allowed_address(host: str, port: int, allowed: tuple[str, ...], egress: Egress = "loopback") -> str:
    """One address of `host` that may be connected to: loopback, with egress `public` any global one, or any allowed.

    Raises EgressRefused, or http1.ConnectFailed when the name is unknown. The default keeps a replayed trace from
    reaching the receivers of the real service.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, proto=6)
    except (OSError, UnicodeError) as error:
        raise http1.ConnectFailed(f"The name {host} is unknown: {error}") from error
    ips = [str(entry[4][0]) for entry in found]
    addresses = [_unmapped(ip) for ip in ips]
    if any(address in _METADATA for address in addresses):
        raise EgressRefused(f"{host} is an address of a cloud's metadata service, which no webhook may reach.")
    if host in allowed or all(address.is_loopback for address in addresses):
        return ips[0]
    if egress == "loopback":
        raise EgressRefused(f"{host} is not on this machine's loopback. Allow it with --webhook-allow {host}.")
    if not all(address.is_global for address in addresses):
        raise EgressRefused(f"{host} has an address that is not public. Allow it with --webhook-allow {host}.")
    return ips[0]


def _unmapped(ip: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(ip.split("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


# Of a URL that was validated when it came in. urlsplit is stricter: it raises for brackets without an IPv6 address in
# them, which are for the resolver to refuse, once, as an address that cannot be reached.
_URL = re.compile(r"(?P<scheme>\w+)://(?:\[(?P<ip>[^]]*)\]|(?P<host>[^:/?#]*))(?::(?P<port>[0-9]+))?(?P<rest>[^#]*)")


def _parts(url: str) -> re.Match[str]:
    match = _URL.match(url)
    if match is None:
        raise ValueError("A webhook that was never validated.")
    return match


def address_of(url: str) -> Address:
    """Scheme, host and port of a webhook that was validated when it came in."""
    parts = _parts(url)
    scheme = parts["scheme"].lower()
    port = int(parts["port"]) if parts["port"] else 443 if scheme == "https" else 80
    return scheme, (parts["ip"] or parts["host"] or "").lower(), port


def target_of(url: str) -> bytes:
    """Path and query of a webhook, as they go on the wire."""
    rest = _parts(url)["rest"]
    return (rest if rest.startswith("/") else "/" + rest).encode("ascii")


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
