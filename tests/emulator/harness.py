"""An emulator inside the test: real store, real API, but time, workers and receivers do what the test says."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import json
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self
from unittest import mock
from urllib.parse import unquote

import attrs

from tests.emulator import contract
from yottabench.emulator import http1, server
from yottabench.emulator.drivers.base import LogLine, WorkerSpec, WorkerStartError
from yottabench.emulator.settings import Settings
from yottabench.emulator.store.base import Command, Store, StoreError
from yottabench.emulator.store.sqlite import SqliteStore
from yottabench.emulator.store.sqlite_connection import Connection, connect
from yottabench.emulator.store.writer import Writer

START_MS = 1_800_000_000_000
ROOT = "/v2/serverless"


_settling = 0  # those who settle at the same time must not wait for each other


async def settle() -> None:
    """Let everything happen that can happen without time passing or anybody answering."""
    global _settling
    ready: Any = asyncio.get_running_loop()._ready  # type: ignore[attr-defined] - nothing public says "nothing to do"
    _settling += 1
    try:
        await asyncio.sleep(0)
        while len(ready) >= _settling:  # noqa: ASYNC110 -- there is no event to wait for: this is the end of all of them
            await asyncio.sleep(0)
    finally:
        _settling -= 1


async def until(reached: Callable[[], bool], timeout_s: float = 30) -> None:
    """Wait for what another thread or process is about to do."""
    async with asyncio.timeout(timeout_s):
        while not reached():  # noqa: ASYNC110 -- it has no event to give
            await asyncio.sleep(0.002)


# ---- time


@attrs.define(eq=False)
class _Booked:
    due_ms: int
    order: int
    run: Callable[[], None] | None

    def __lt__(self, other: _Booked) -> bool:
        return (self.due_ms, self.order) < (other.due_ms, other.order)

    def cancel(self) -> None:
        self.run = None


class FakeClock:
    """Time that stands still until `advance`, which stops at each timer on its way."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.ms = now_ms
        self._booked: list[_Booked] = []
        self._order = itertools.count()

    def now_ms(self) -> int:
        return self.ms

    def call_at(self, due_ms: int, run: Callable[[], None]) -> _Booked:
        booked = _Booked(due_ms, next(self._order), run)
        heapq.heappush(self._booked, booked)
        return booked

    def next_due_ms(self) -> int | None:
        """When the next timer is due; None when there is none."""
        while self._booked and self._booked[0].run is None:
            heapq.heappop(self._booked)
        return self._booked[0].due_ms if self._booked else None

    async def advance(self, seconds: float) -> None:
        """Let time pass, everything due on the way in its order."""
        await settle()
        until_ms = self.ms + round(seconds * 1000)
        while (due_ms := self.next_due_ms()) is not None and due_ms <= until_ms:
            self.ms = max(self.ms, due_ms)
            run = heapq.heappop(self._booked).run
            assert run is not None
            run()
            await settle()
        self.ms = max(self.ms, until_ms)


# ---- the store


class QuickStore(SqliteStore):
    """The real store without its syncs, which only a power loss could tell from it, and which are slow."""

    def _connect(self) -> Connection:
        connection = super()._connect()
        connection.execute("PRAGMA synchronous = OFF")
        return connection


# ---- the writer


class StepWriter(Writer):
    """The writer without its thread: what was handed in during one turn of the loop is one commit at its end.

    `refuse` commits fail as a full disk makes them fail, or as many as `refuse_those` has for a kind of command in
    them; `held` is like a commit that takes long.
    """

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop, clock: Any) -> None:
        self._store = store
        self._loop = loop
        self._clock = clock
        self._batch: list[tuple[Command[Any], Callable[[Any], None]]] = []
        self._booked = False
        self.commits = 0
        self.commands = 0
        self.refuse = 0
        self.refuse_those: Counter[type[Command[Any]]] = Counter()
        self.held = False
        self.done: list[tuple[Command[Any], Any]] = []

    def commit_then(self, command: Command[Any], then: Callable[[Any], None]) -> None:
        self.unanswered += 1
        self._batch.append((command, then))
        self._book()

    def let_go(self) -> None:
        """End a long commit."""
        self.held = False
        self._book()

    def close(self) -> None:
        self._flush()

    def drop(self) -> None:
        """A crash: what was not committed never is."""
        self._batch.clear()

    def _check_room(self, kinds: set[type[Command[Any]]]) -> None:
        refused = next((kind for kind in kinds if self.refuse_those[kind] > 0), None)
        if refused is not None:
            self.refuse_those[refused] -= 1
        elif self.refuse:
            self.refuse -= 1
        else:
            return
        raise StoreError("The disk is full, says the test.")

    def _book(self) -> None:
        if not self._booked and not self.held:
            self._booked = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._booked = False
        if self.held or not self._batch:
            return
        batch, self._batch = self._batch, []
        self.unanswered -= len(batch)
        try:
            self._check_room({type(command) for command, _ in batch})
            outcomes = self._store.apply([command for command, _ in batch])
        except StoreError as error:
            for _, then in batch:
                then(error)
            return
        self.commits += 1
        self.commands += len(batch)
        for (command, then), outcome in zip(batch, outcomes, strict=True):
            self.done.append((command, outcome))
            then(outcome)


# ---- whoever is called over HTTP


@attrs.define(eq=False)
class Call:
    """One request that a worker or a receiver has in its hands."""

    peer: Peer
    target: str
    headers: dict[str, str]
    body: bytes
    answer: asyncio.Future[http1.Answer]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def task_id(self) -> str:
        return self.headers["x-task-id"]

    @property
    def attempt(self) -> int:
        return int(self.headers["x-task-attempt"])

    @property
    def is_open(self) -> bool:
        return not self.answer.done()

    def ok(self, body: bytes = b'{"ok":true}') -> None:
        self.reply(200, body)

    def reply(self, status: int, body: bytes = b"") -> None:
        if self.is_open:
            self.answer.set_result(http1.Answer(status, [], body))

    def fail(self, error: http1.Http1Error) -> None:
        if self.is_open:
            self.answer.set_exception(error)

    def refuse(self) -> None:
        self.fail(http1.ConnectFailed("Cannot connect, says the test."))

    def lose(self) -> None:
        self.fail(http1.ConnectionLost("The connection was reset, says the test.", reused=False))

    def time_out(self) -> None:
        self.fail(http1.AnswerTimeout("No complete answer, says the test."))

    def garbage(self) -> None:
        self.fail(http1.BadAnswer("It did not answer in HTTP/1.x, says the test."))

    def flood(self) -> None:
        self.fail(http1.AnswerTooLarge("It answered with more than it may, says the test."))


@attrs.define(eq=False)
class Peer:
    """Somebody who listens. `then` answers each call at once; without it the test does, through `calls`."""

    then: Callable[[Call], None] | None = None
    listens: bool = True
    all_calls: list[Call] = attrs.field(factory=list)

    @property
    def calls(self) -> list[Call]:
        """What waits for an answer."""
        return [call for call in self.all_calls if call.is_open]

    def took(self, call: Call) -> None:
        """Called for every call, before it is answered."""

    async def take(self, target: bytes, headers: bytes, body: bytes) -> http1.Answer:
        lines = [line.split(": ", 1) for line in headers.decode("latin-1").split("\r\n") if line]
        answer = asyncio.get_running_loop().create_future()
        call = Call(self, target.decode(), {name.lower(): value for name, value in lines}, body, answer)
        self.all_calls.append(call)
        self.took(call)
        if not self.listens:
            call.refuse()
        elif self.then is not None:
            self.then(call)
        return await answer


class Network:
    """What stands in for sockets: peers by address."""

    def __init__(self) -> None:
        self.peers: dict[tuple[str, int], Peer] = {}
        self.connected: list[tuple[str, int]] = []
        self.pools: list[tuple[str, int, dict[str, Any]]] = []
        self._seeds = itertools.count(1)

    def randbits(self, bits: int) -> int:
        """Stands in for the module secrets; another answer for every server."""
        return next(self._seeds)

    def receiver(self, port: int = 9000, host: str = "127.0.0.1", **more: Any) -> Peer:
        """Somebody who takes webhooks."""
        peer = self.peers[host, port] = Peer(**more)
        return peer

    def pool(self, host: str, port: int, **more: Any) -> Any:
        """Stands in for http1.Http1Pool."""
        self.pools.append((host, port, more))
        return _Pool(self, host, port)


@attrs.define
class _Pool:
    network: Network
    host: str
    port: int

    async def request(self, method: bytes, target: bytes, headers: bytes, body: bytes, **_: Any) -> http1.Answer:
        assert method == b"POST"
        self.network.connected.append((self.host, self.port))
        peer = self.network.peers.get((self.host, self.port))
        if peer is None:
            raise http1.ConnectFailed(f"Nobody listens on {self.host}:{self.port}.")
        return await peer.take(target, headers, body)

    def close(self) -> None:
        pass


class FakeWorker(Peer):
    """A worker that becomes ready, answers and dies as it is told."""

    def __init__(self, driver: FakeDriver, spec: WorkerSpec, log: LogLine, port: int) -> None:
        super().__init__(then=driver.then)
        loop = asyncio.get_running_loop()
        self.driver = driver
        self.spec = spec
        self.log = log
        self.port = port
        self.pid = None
        self.exited: asyncio.Future[str] = loop.create_future()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.stops: list[float] = []
        self.killed = False

    @property
    def id(self) -> str:
        return self.spec.worker_id

    def address(self, port: int) -> tuple[str, int]:
        return "127.7.7.7", self.port

    async def wait_ready(self) -> None:
        await asyncio.wait([self.ready, self.exited], return_when=asyncio.FIRST_COMPLETED)
        if not self.ready.done():
            raise WorkerStartError(f"The worker {self.exited.result()} before it answered.")

    def took(self, call: Call) -> None:
        self.driver.all_calls.append(call)

    def become_ready(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)

    def die(self, reason: str = "was ended by signal SIGSEGV") -> None:
        """Gone, and every call in its hands with it."""
        self.listens = False
        for call in self.calls:
            call.lose()
        if not self.exited.done():
            self.exited.set_result(reason)

    async def stop(self, grace_s: float) -> None:
        self.stops.append(grace_s)
        self.die("exited with code 0, as asked")

    def kill(self) -> None:
        self.killed = True
        self.die("was ended by signal SIGKILL, as asked")


class FakeDriver:
    """Starts workers that are ready at once, or (`by_hand`) when the test says so; `break_next` starts fail."""

    name = "fake"

    def __init__(self, network: Network) -> None:
        self.network = network
        self.workers: list[FakeWorker] = []
        self.all_calls: list[Call] = []
        self.by_hand = False
        self.break_next = 0
        self.then: Callable[[Call], None] | None = None
        self.gate: asyncio.Event | None = None
        self.closed = False
        self._ports = itertools.count(20_000)

    def takes(self, image: str) -> bool:
        return True

    async def start(self, spec: WorkerSpec, log: LogLine) -> FakeWorker:
        if self.gate is not None:
            await self.gate.wait()
        if self.break_next:
            self.break_next -= 1
            raise WorkerStartError("The worker exited with code 1 before it answered.")
        worker = FakeWorker(self, spec, log, next(self._ports))
        self.workers.append(worker)
        self.network.peers[worker.address(0)] = worker
        if not self.by_hand:
            worker.become_ready()
        return worker

    async def close(self) -> None:
        self.closed = True
        for worker in self.alive:
            worker.kill()

    @property
    def alive(self) -> list[FakeWorker]:
        return [worker for worker in self.workers if not worker.exited.done()]

    @property
    def calls(self) -> list[Call]:
        """Every task in the hands of a worker, oldest first."""
        return [call for worker in self.workers for call in worker.calls]


async def _getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
    known = {
        "localhost": ["127.0.0.1"],
        "public.example": ["93.184.216.34"],
        "both.example": ["127.0.0.1", "93.184.216.34"],
    }
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except OSError:
        if host not in known:
            raise socket.gaierror(-2, "Name or service not known") from None
        ips = known[host]
    else:
        ips = [host]
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ips]


# ---- the emulator


@attrs.frozen
class Reply:
    """One answer of the API."""

    http_status: int
    headers: dict[str, str]
    body: bytes

    @property
    def envelope(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def code(self) -> int:
        return self.envelope["code"]

    @property
    def message(self) -> str:
        return self.envelope["message"]

    @property
    def data(self) -> Any:
        return self.envelope["data"]


class Bench:
    """One emulator on a folder; `crash` and `close` end it, and another may take the folder over."""

    def __init__(self, data: Path, clock: FakeClock | None = None, network: Network | None = None, **chosen: Any):
        self.settings = Settings(data=data, **chosen)
        self.clock = clock or FakeClock()
        self.network = network or Network()
        self.driver = FakeDriver(self.network)
        loop = asyncio.get_running_loop()
        loop.getaddrinfo = _getaddrinfo  # type: ignore[method-assign] - the real one needs a thread, and time
        with mock.patch.multiple(server, **self._stand_ins()):
            self.emulator = server.Emulator(self.settings)
        self.api = self.emulator._api
        self.on = self.emulator._on
        self.store = self.on.store
        self.writer: StepWriter = self.on.writer  # type: ignore[assignment]
        self._pools = mock.patch.object(http1, "Http1Pool", self.network.pool)
        self._pools.start()
        self._ended = False
        self._sql: Connection | None = None
        self.emulator.open()

    def _stand_ins(self) -> dict[str, Any]:
        """What of the server's own parts is replaced."""
        return {
            "LoopClock": lambda *_: self.clock,
            "open_store": QuickStore,
            "Writer": StepWriter,
            "SimDriver": lambda *_, **__: self.driver,
            "secrets": self.network,  # ids that are the same in every run of a test
        }

    async def __aenter__(self) -> Self:
        await settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """A clean end."""
        if not self._ended:
            self._end()
            await self.emulator.close()
            self._pools.stop()

    async def crash(self) -> None:
        """As kill -9: nothing more is written, everybody it talked to is gone."""
        self._end()
        self.writer.drop()
        self.writer.held = True
        for endpoint in (*self.api.endpoints.values(), *self.api.ending):
            await endpoint.close()
        await self.on.outbox.close()
        await self.driver.close()
        self.writer.drop()
        self.store.close()
        self.on.logs.close()
        self._pools.stop()

    async def again(self) -> Bench:
        """Another server on the same folder, at the same time, with the same settings."""
        chosen = {name: value for name, value in attrs.asdict(self.settings, recurse=False).items() if name != "data"}
        bench = Bench(self.settings.data, self.clock, self.network, **chosen)
        await settle()
        return bench

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = "me",
        headers: Sequence[tuple[str, str]] = (),
        chunks: Sequence[bytes] | None = None,
    ) -> Reply:
        """One request through the ASGI application, its answer held against the contract.

        `path` is raw; bytes are sent as they are, all else as JSON. `chunks`: without a Content-Length.
        """
        raw_path, _, query = path.partition("?")
        sent = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        all_headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
        all_headers.append((b"host", b"localhost"))
        if chunks is None:
            all_headers.append((b"content-length", b"%d" % len(sent)))
        if key is not None:
            all_headers.append((b"x-api-key", key.encode()))
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(raw_path),
            "raw_path": raw_path.encode("latin-1"),
            "query_string": query.encode("latin-1"),
            "headers": all_headers,
            "client": ("127.0.0.1", 50_000),
            "server": ("127.0.0.1", 8080),
        }
        events: list[dict[str, Any]] = []

        parts = [sent] if chunks is None else list(chunks)

        async def receive() -> dict[str, Any]:
            part = parts.pop(0) if parts else b""
            return {"type": "http.request", "body": part, "more_body": bool(parts)}

        async def send(event: dict[str, Any]) -> None:
            events.append(event)

        await self.emulator.application(scope, receive, send)
        answered = {name.decode(): value.decode() for name, value in events[0]["headers"]}
        reply = Reply(events[0]["status"], answered, b"".join(event["body"] for event in events[1:]))
        assert answered["content-length"] == str(len(reply.body))
        if raw_path.startswith(ROOT):
            contract.check(method, raw_path, reply.http_status, reply.envelope)
        return reply

    async def get(self, path: str, **more: Any) -> Any:
        """The data of a GET that must succeed."""
        return self._data(await self.call("GET", ROOT + path, **more))

    async def post(self, path: str, body: Any = None, **more: Any) -> Any:
        """The data of a POST that must succeed."""
        return self._data(await self.call("POST", ROOT + path, body, **more))

    async def put(self, path: str, **more: Any) -> Any:
        """The data of a PUT that must succeed."""
        return self._data(await self.call("PUT", ROOT + path, **more))

    async def delete(self, path: str, **more: Any) -> Any:
        """The data of a DELETE that must succeed."""
        return self._data(await self.call("DELETE", ROOT + path, **more))

    def _data(self, reply: Reply) -> Any:
        assert (reply.http_status, reply.code) == (200, 10000), reply.body
        return reply.data

    async def endpoint(self, *, key: str = "me", **changes: Any) -> str:
        """A new endpoint, its workers started; its id."""
        made = await self.post("", create_body(**changes), key=key)
        await settle()
        return made["id"]

    async def submit(self, endpoint_id: str, *, key: str = "me", **changes: Any) -> str:
        """A new task, in the hands of a worker if one is free; its taskId."""
        made = await self.post(f"/{endpoint_id}/tasks", submit_body(**changes), key=key)
        await settle()
        return made["taskId"]

    async def task(self, endpoint_id: str, task_id: str) -> Any:
        return await self.get(f"/{endpoint_id}/tasks/{task_id}")

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What is in the store's file, read apart from the store."""
        if self._sql is None:
            self._sql = connect(self.settings.data / "yottabench.sqlite")
        return self._sql.execute(query, values).fetchall()

    def _end(self) -> None:
        self._ended = True
        if self._sql is not None:
            self._sql.close()


def create_body(**changes: Any) -> dict[str, Any]:
    """A body of createEndpoint; None takes a field away."""
    body = {
        "name": "llama",
        "image": "sim/echo",
        "resources": [{"region": "us-east-1", "gpuType": "NVIDIA_RTX_4090_24G", "gpuCount": 1}],
        "workers": 1,
        "containerVolumeInGb": 20,
        "serviceMode": "QUEUE",
        **changes,
    }
    return {name: value for name, value in body.items() if value is not None}


def submit_body(**changes: Any) -> dict[str, Any]:
    """A body of submitTask; None takes a field away."""
    body = {"input": {"prompt": "hi"}, "workerPort": 8000, "processUri": "/run", **changes}
    return {name: value for name, value in body.items() if value is not None}


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run an async body of a Hypothesis test on a loop of its own."""

    async def whole() -> None:
        await main()

    with asyncio.Runner() as runner:
        runner.run(whole())


@contextlib.contextmanager
def changed(module: Any, **values: Any) -> Iterator[None]:
    """Constants of a module with other values for a while."""
    with mock.patch.multiple(module, **values):
        yield
