from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Self

import pytest

from tests.emulator.harness import Bench, settle

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
EXPOSE = {"port": 8000, "protocol": "http"}


class Served:
    """What stands in a worker: a real HTTP server whose every connection is handled by one scripted coroutine."""

    def __init__(self, handler: Callable[[Connection], Awaitable[None]]) -> None:
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections: list[Connection] = []
        self.connected = asyncio.Event()
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        connection = Connection(reader, writer)
        self.connections.append(connection)
        self.connected.set()
        try:
            await self._handler(connection)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            connection.gone.set()
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


class Connection:
    """One connection to a worker, from its side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.gone = asyncio.Event()
        self.heads: list[bytes] = []

    async def head(self) -> bytes:
        self.heads.append(await self.reader.readuntil(b"\r\n\r\n"))
        return self.heads[-1]

    @property
    def line(self) -> str:
        return self.heads[-1].split(b"\r\n")[0].decode()

    @property
    def headers(self) -> dict[str, str]:
        lines = self.heads[-1].decode("latin-1").split("\r\n")[1:-2]
        return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}

    async def until_gone(self) -> None:
        await self.reader.read()


def answering(*answers: bytes) -> Callable[[Connection], Awaitable[None]]:
    """Answers the requests of a connection with these, then waits for its end."""

    async def handler(connection: Connection) -> None:
        for answer in answers:
            head = await connection.head()
            length = next((line[15:] for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), b"0")
            await connection.reader.readexactly(int(length))
            connection.writer.write(answer)
            await connection.writer.drain()
        await connection.until_gone()

    return handler


class Client:
    """One request through the ASGI application, whose events the test sends and sees one by one."""

    def __init__(
        self,
        bench: Bench,
        method: str,
        path: str,
        *,
        key: str | None = "me",
        host: str = "localhost",
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
    ) -> None:
        raw_path, _, query = path.partition("?")
        sent = [("host", host), *headers]
        if key is not None:
            sent.append(("x-api-key", key))
        if body is not None:
            sent.append(("content-length", str(len(body))))
        self.scope = {
            "type": "http",
            "method": method,
            "scheme": "http",
            "path": raw_path,
            "raw_path": raw_path.encode("latin-1"),
            "query_string": query.encode("latin-1"),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in sent],
            "client": ("10.1.2.3", 50_000),
            "server": ("127.0.0.1", 8080),
        }
        self._bench = bench
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._changed = asyncio.Event()
        self.events: list[dict[str, Any]] = []
        self._task: asyncio.Task[None] | None = None
        if body is not None or not {name.lower() for name, _ in headers} & {"transfer-encoding", "content-length"}:
            self.send(body or b"", more=False)

    def send(self, data: bytes, *, more: bool = True) -> None:
        self._incoming.put_nowait({"type": "http.request", "body": data, "more_body": more})

    def disconnect(self) -> None:
        self._incoming.put_nowait({"type": "http.disconnect"})

    async def _receive(self) -> dict[str, Any]:
        return await self._incoming.get()

    async def _hear(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        self._changed.set()

    async def __aenter__(self) -> Self:
        application: Any = self._bench.emulator.application
        self._task = asyncio.create_task(application(self.scope, self._receive, self._hear))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        if not self._task.done():
            self.disconnect()
        await asyncio.wait_for(self._task, 10)

    async def ends(self) -> Self:
        """The whole exchange."""
        async with self:
            assert self._task is not None
            await asyncio.wait_for(self._task, 10)
        return self

    async def has(self, body: bytes) -> None:
        """Wait until this much of the answer's body has come."""
        async with asyncio.timeout(10):
            while self.body != body:
                self._changed.clear()
                await self._changed.wait()

    @property
    def status(self) -> int:
        return self.events[0]["status"]

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.events[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(event["body"] for event in self.events[1:])

    @property
    def complete(self) -> bool:
        return bool(self.events[1:]) and not self.events[-1].get("more_body", False)

    @property
    def code(self) -> int:
        return json.loads(self.body)["code"]

    @property
    def message(self) -> str:
        return json.loads(self.body)["message"]


class Alb:
    """An ALB endpoint of a bench, each of whose workers is a server of the test."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.id = ""
        self.served: list[Served] = []
        self._servers: list[asyncio.Server] = []

    async def open(self, *handlers: Callable[[Connection], Awaitable[None]], **changes: Any) -> None:
        self.id = await self.bench.endpoint(
            **{"serviceMode": "ALB", "expose": EXPOSE, "workers": len(handlers), **changes}
        )
        for worker, handler in zip(self.bench.driver.workers, handlers, strict=True):
            served = Served(handler)
            server = await asyncio.start_server(served.handle, "127.0.0.1", 0)
            served.port = server.sockets[0].getsockname()[1]
            worker.address = lambda port, at=served.port: ("127.0.0.1", at)  # type: ignore[method-assign]
            self.served.append(served)
            self._servers.append(server)

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for served in self.served:
            await served.close()

    def client(self, method: str = "GET", path: str = "/", **more: Any) -> Client:
        return Client(self.bench, method, f"/_gateway/{self.id}{path}", **more)

    async def connections(self, count: int) -> None:
        """Wait until its workers have had so many."""
        while sum(len(served.connections) for served in self.served) < count:
            waiting = [asyncio.create_task(served.connected.wait()) for served in self.served]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task, served in zip(waiting, self.served, strict=True):
                task.cancel()
                served.connected.clear()

    @property
    def in_hand(self) -> list[int]:
        return [worker.in_hand for worker in self.bench.api.endpoints[int(self.id)].live_workers]


@pytest.fixture
async def alb(bench: Bench) -> AsyncIterator[Alb]:
    made = Alb(bench)
    yield made
    await made.close()


# ---- which requests are its own


async def test_the_path_names_the_endpoint_and_the_rest_goes_to_the_worker_as_it_is(alb: Alb) -> None:
    await alb.open(answering(OK))
    client = await alb.client("POST", "/v1/a%2Fb;c/../d?x=1&y=%20", body=b"hello").ends()
    assert (client.status, client.body, client.complete) == (200, b"ok", True)
    (connection,) = alb.served[0].connections
    assert connection.line == "POST /v1/a%2Fb;c/../d?x=1&y=%20 HTTP/1.1"
    assert connection.headers["content-length"] == "5"
    assert connection.headers["x-forwarded-prefix"] == f"/_gateway/{alb.id}"


@pytest.mark.parametrize("path", ["", "/"])
async def test_the_root_of_the_worker_is_reached(alb: Alb, path: str) -> None:
    await alb.open(answering(OK))
    assert (await alb.client(path=path).ends()).status == 200
    assert alb.served[0].connections[0].line == "GET / HTTP/1.1"


@pytest.mark.parametrize("host", ["{}.localhost", "{}.localhost:8080", "{}.LocalHost:1"])
async def test_the_host_names_the_endpoint_and_every_path_goes_to_the_worker(alb: Alb, host: str) -> None:
    await alb.open(answering(OK))
    client = await Client(alb.bench, "GET", "/v2/serverless", host=host.format(alb.id)).ends()
    assert client.body == b"ok"
    (connection,) = alb.served[0].connections
    assert connection.line == "GET /v2/serverless HTTP/1.1"
    assert connection.headers["host"] == host.format(alb.id)
    assert "x-forwarded-prefix" not in connection.headers


@pytest.mark.parametrize("host", ["localhost", "x.localhost", "{}.example.com", "{}", "1.{}.localhost"])
async def test_other_hosts_are_the_apis(alb: Alb, host: str) -> None:
    await alb.open(answering(OK))
    client = await Client(alb.bench, "GET", "/v2/serverless", host=host.format(alb.id)).ends()
    assert [endpoint["id"] for endpoint in json.loads(client.body)["data"]] == [alb.id]


async def test_the_domain_is_shown_and_leads_there(bench: Bench, make_bench: Callable[..., Bench]) -> None:
    queue = await bench.endpoint()
    assert (await bench.get(f"/{queue}"))["domain"] is None
    custom = await bench.endpoint(serviceMode="CUSTOM")
    assert (await bench.get(f"/{custom}"))["domain"] is None
    balanced = await bench.endpoint(serviceMode="ALB", expose=EXPOSE)
    assert (await bench.get(f"/{balanced}"))["domain"] == f"{balanced}.localhost:8080"

    other = make_bench(gateway_domain="gpu.Example.com:443", port=9)
    alb = Alb(other)
    await alb.open(answering(OK))
    domain = (await other.get(f"/{alb.id}"))["domain"]
    assert domain == f"{alb.id}.gpu.Example.com:443"
    assert (await Client(other, "GET", "/", host=domain).ends()).body == b"ok"
    await alb.close()


# ---- whom it lets in


async def test_without_a_key_nobody_gets_in(alb: Alb) -> None:
    await alb.open(answering(OK))
    client = await alb.client(key=None).ends()
    assert (client.status, client.code) == (401, 40101)
    assert "Authorization: Bearer" in client.message


@pytest.mark.parametrize("value", ["Bearer me", "bearer   me ", "BEARER me"])
async def test_a_bearer_key_is_as_good(alb: Alb, value: str) -> None:
    await alb.open(answering(OK))
    assert (await alb.client(key=None, headers=[("Authorization", value)]).ends()).status == 200


@pytest.mark.parametrize("value", ["Basic bWU6", "Bearer", "Bearer ", "me", "Bearer me too"])
async def test_other_credentials_are_no_key(alb: Alb, value: str) -> None:
    await alb.open(answering(OK))
    assert (await alb.client(key=None, headers=[("Authorization", value)]).ends()).status == 401


async def test_the_endpoint_of_another_key_does_not_exist(alb: Alb) -> None:
    await alb.open(answering(OK))
    client = await alb.client(key="you").ends()
    assert (client.status, client.code) == (404, 14000)
    assert not alb.served[0].connections


async def test_a_key_that_is_not_in_the_keys_file_is_refused(make_bench: Callable[..., Bench]) -> None:
    alb = Alb(make_bench(api_keys=frozenset(["me"])))
    await alb.open(answering(OK))
    assert (await alb.client(key="you").ends()).status == 401
    assert (await alb.client().ends()).status == 200
    await alb.close()


async def test_the_key_is_not_told_to_the_worker_but_other_credentials_are(alb: Alb) -> None:
    await alb.open(answering(OK, OK))
    await alb.client(headers=[("Authorization", "Bearer for-the-worker")]).ends()
    (connection,) = alb.served[0].connections
    assert connection.headers["authorization"] == "Bearer for-the-worker"
    assert "x-api-key" not in connection.headers
    await alb.client(key=None, headers=[("Authorization", "Bearer me")]).ends()
    assert "authorization" not in connection.headers


@pytest.mark.parametrize("mode", ["QUEUE", "CUSTOM"])
async def test_only_alb_endpoints_are_behind_it(alb: Alb, mode: str) -> None:
    await alb.open(answering(OK), serviceMode=mode)
    client = await alb.client().ends()
    assert (client.status, client.code) == (400, 10001)
    assert f"is in {mode} mode; the gateway leads to ALB endpoints only" in client.message
    assert not alb.served[0].connections


@pytest.mark.parametrize("name", ["", "x", "1", "9" * 19, "9" * 40, "-1", "1%30"])
async def test_an_endpoint_that_is_none_is_not_found(bench: Bench, name: str) -> None:
    client = await Client(bench, "GET", f"/_gateway/{name}/x").ends()
    assert (client.status, client.code) == (404, 14000)


# ---- whom it sends to


async def test_without_a_ready_worker_it_says_so(alb: Alb) -> None:
    alb.bench.driver.by_hand = True
    await alb.open(answering(OK))
    client = await alb.client().ends()
    assert (client.status, client.code, client.headers["retry-after"]) == (503, 24000, "1")
    assert f"Endpoint {alb.id} is INITIALIZING and has no ready worker" in client.message
    alb.bench.driver.workers[0].become_ready()
    await settle()
    assert (await alb.client().ends()).status == 200
    await alb.bench.post(f"/{alb.id}/stop")
    await settle()
    client = await alb.client().ends()
    assert (client.status, client.message.partition(" and")[0]) == (503, f"Endpoint {alb.id} is STOPPED")


async def test_the_worker_with_the_fewest_requests_gets_the_next(alb: Alb) -> None:
    go_on = asyncio.Event()

    async def slow(connection: Connection) -> None:
        await connection.head()
        await go_on.wait()
        connection.writer.write(OK)
        await connection.until_gone()

    await alb.open(slow, slow, slow)
    async with contextlib.AsyncExitStack() as stack:
        for count in range(1, 8):
            await stack.enter_async_context(alb.client())
            async with asyncio.timeout(10):
                await alb.connections(count)
            assert max(alb.in_hand) - min(alb.in_hand) <= 1
        assert sorted(alb.in_hand) == [2, 2, 3]
        go_on.set()
    assert alb.in_hand == [0, 0, 0]


async def test_idle_workers_take_turns(alb: Alb) -> None:
    await alb.open(*[answering(OK, OK, OK)] * 3)
    for _ in range(6):
        assert (await alb.client().ends()).status == 200
    assert [len(served.connections) for served in alb.served] == [1, 1, 1]
    assert [len(served.connections[0].heads) for served in alb.served] == [2, 2, 2]


async def test_a_worker_that_refuses_the_connection_is_passed_over(alb: Alb) -> None:
    await alb.open(answering(OK), answering(OK, OK, OK, OK))
    alb.bench.driver.workers[0].address = lambda port: ("127.0.0.1", 1)  # type: ignore[method-assign]
    for _ in range(3):
        assert (await alb.client("POST", body=b"x").ends()).status == 200
    assert alb.in_hand == [0, 0]


async def test_when_every_worker_refuses_it_is_a_bad_gateway(alb: Alb) -> None:
    await alb.open(answering(OK), answering(OK))
    for worker in alb.bench.driver.workers:
        worker.address = lambda port: ("127.0.0.1", 1)  # type: ignore[method-assign]
    client = await alb.client().ends()
    assert (client.status, client.code) == (502, 10002)
    assert "Cannot connect to 127.0.0.1:1" in client.message


async def test_workers_of_alb_and_custom_endpoints_run_but_take_no_tasks(bench: Bench) -> None:
    for mode in ("ALB", "CUSTOM"):
        endpoint_id = await bench.endpoint(serviceMode=mode, expose=EXPOSE, workers=2)
        shown = await bench.get(f"/{endpoint_id}")
        assert (shown["status"], shown["totalWorkers"], shown["runningWorkers"]) == ("RUNNING", 2, 2)
        workers = await bench.get(f"/{endpoint_id}/workers?statusList=RUNNING")
        assert [worker["status"] for worker in workers] == ["RUNNING"] * 2
        refused = await bench.call(
            "POST", f"/v2/serverless/{endpoint_id}/tasks", {"input": 1, "workerPort": 1, "processUri": "/"}
        )
        assert (refused.http_status, refused.code) == (400, 10001)
        assert not bench.api.endpoints[int(endpoint_id)].dispatcher._idle
        await bench.put(f"/{endpoint_id}/workers?count=0")
        await settle()
        assert await bench.get(f"/{endpoint_id}/workers") == []
        assert len(await bench.get(f"/{endpoint_id}/workers?statusList=TERMINATED")) == 2


async def test_a_worker_that_is_to_go_ends_what_it_has_and_gets_no_more(alb: Alb) -> None:
    go_on = asyncio.Event()

    async def slow(connection: Connection) -> None:
        await connection.head()
        await go_on.wait()
        connection.writer.write(OK)
        await connection.until_gone()

    await alb.open(slow)
    async with alb.client() as client:
        await alb.served[0].connected.wait()
        await alb.bench.put(f"/{alb.id}/workers?count=0")
        await settle()
        (worker,) = await alb.bench.get(f"/{alb.id}/workers")
        assert worker["status"] == "STOPPING"
        assert (await alb.client().ends()).status == 503
        assert not alb.bench.driver.workers[0].stops
        go_on.set()
        await client.has(b"ok")
    await settle()
    assert alb.bench.driver.workers[0].stops


# ---- what passes through


async def test_what_belongs_to_one_connection_stays_there(alb: Alb) -> None:
    answer = (
        b"HTTP/1.1 201 Made\r\nConnection: keep-alive, X-Down\r\nKeep-Alive: timeout=5\r\nX-Down: 1\r\n"
        b"Date: then\r\nServer: it\r\nX-Kept: a\r\nX-Kept: b\r\nContent-Length: 0\r\n\r\n"
    )
    await alb.open(answering(answer))
    sent = [
        ("Connection", "close, X-Up"),
        ("X-Up", "1"),
        ("Keep-Alive", "1"),
        ("TE", "trailers"),
        ("Upgrade", "websocket"),
        ("Proxy-Authorization", "secret"),
        ("Expect", "100-continue"),
        ("Accept", "text/plain"),
        ("X-Forwarded-For", "1.2.3.4"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "forged"),
        ("X-Forwarded-Prefix", "/forged"),
    ]
    client = await alb.client(headers=sent).ends()
    (connection,) = alb.served[0].connections
    assert connection.headers == {
        "host": "localhost",
        "accept": "text/plain",
        "x-forwarded-for": "1.2.3.4, 10.1.2.3",
        "x-forwarded-proto": "http",
        "x-forwarded-host": "localhost",
        "x-forwarded-prefix": f"/_gateway/{alb.id}",
    }
    assert client.status == 201
    assert client.events[0]["headers"] == [
        (b"server", b"it"),
        (b"x-kept", b"a"),
        (b"x-kept", b"b"),
        (b"content-length", b"0"),
    ]


async def test_an_answer_passes_piece_by_piece(alb: Alb) -> None:
    go_on = asyncio.Event()

    async def events(connection: Connection) -> None:
        await connection.head()
        connection.writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"9\r\ndata: 1\n\n\r\n"
        )
        await go_on.wait()
        connection.writer.write(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")
        await connection.until_gone()

    await alb.open(events)
    async with alb.client() as client:
        await client.has(b"data: 1\n\n")
        assert not client.complete
        assert client.headers == {"content-type": "text/event-stream"}
        go_on.set()
        await client.has(b"data: 1\n\ndata: 2\n\n")
    assert client.complete


async def test_a_request_passes_piece_by_piece(alb: Alb) -> None:
    first, second = asyncio.Event(), asyncio.Event()

    async def reads(connection: Connection) -> None:
        await connection.head()
        assert await connection.reader.readexactly(8) == b"3\r\none\r\n"
        first.set()
        assert await connection.reader.readexactly(13) == b"3\r\ntwo\r\n0\r\n\r\n"
        second.set()
        connection.writer.write(OK)
        await connection.until_gone()

    await alb.open(reads)
    async with alb.client("POST", headers=[("Transfer-Encoding", "chunked"), ("Content-Length", "9")]) as client:
        client.send(b"one")
        await asyncio.wait_for(first.wait(), 10)
        assert not second.is_set()
        client.send(b"")
        client.send(b"two", more=False)
        await client.has(b"ok")
    assert alb.served[0].connections[0].headers.get("content-length") is None


async def test_an_answer_may_come_before_the_request_is_complete(alb: Alb) -> None:
    async def hasty(connection: Connection) -> None:
        await connection.head()
        connection.writer.write(b"HTTP/1.1 413 Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")
        await connection.writer.drain()

    await alb.open(hasty)
    async with alb.client("PUT", headers=[("Transfer-Encoding", "chunked")]) as client:
        client.send(b"one")
        await client.has(b"big")
    assert (client.status, client.complete) == (413, True)


@pytest.mark.parametrize(
    ("method", "answer", "status", "headers"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, {"content-length": "5"}),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, {}),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n", 304, {"etag": "x"}),
        (
            "GET",
            b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
            500,
            {"content-length": "0"},
        ),
    ],
)
async def test_answers_without_a_body_pass_too(
    alb: Alb, method: str, answer: bytes, status: int, headers: dict[str, str]
) -> None:
    await alb.open(answering(answer))
    client = await alb.client(method).ends()
    assert (client.status, client.headers, client.body, client.complete) == (status, headers, b"", True)


async def test_a_body_that_ends_with_the_connection_passes_whole(alb: Alb) -> None:
    async def old(connection: Connection) -> None:
        await connection.head()
        connection.writer.write(b"HTTP/1.0 200 OK\r\n\r\nall of it")

    await alb.open(old)
    client = await alb.client().ends()
    assert (client.body, client.complete) == (b"all of it", True)


async def test_a_connection_to_a_worker_is_used_again(alb: Alb) -> None:
    await alb.open(answering(OK, OK, OK))
    for _ in range(3):
        await alb.client("POST", body=b"x").ends()
    assert len(alb.served[0].connections) == 1


# ---- what goes wrong


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"])
async def test_a_client_that_leaves_frees_the_worker(alb: Alb, before: bytes) -> None:
    async def endless(connection: Connection) -> None:
        await connection.head()
        connection.writer.write(before)
        await connection.until_gone()

    await alb.open(endless)
    async with alb.client() as client:
        await alb.served[0].connected.wait()
        if before:
            await client.has(b"a")
        assert alb.in_hand == [1]
        client.disconnect()
        await asyncio.wait_for(alb.served[0].connections[0].gone.wait(), 10)
    assert alb.in_hand == [0]
    assert not client.complete


async def test_a_client_that_leaves_in_the_middle_of_its_request_frees_the_worker(alb: Alb) -> None:
    async def reads(connection: Connection) -> None:
        await connection.head()
        await connection.until_gone()

    await alb.open(reads)
    async with alb.client("POST", headers=[("Transfer-Encoding", "chunked")]) as client:
        client.send(b"one")
        await alb.served[0].connected.wait()
        client.disconnect()
        await asyncio.wait_for(alb.served[0].connections[0].gone.wait(), 10)
    assert client.events == []
    assert alb.in_hand == [0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "closed the connection before its answer was complete, after 0 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-", "closed the connection before its answer was complete"),
        (b"hello\r\n\r\n", "did not answer in HTTP/1.x"),
        (b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n", "status 999, which HTTP does not have"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", "switched protocols"),
    ],
)
async def test_a_worker_that_fails_is_a_bad_gateway(alb: Alb, answer: bytes, words: str) -> None:
    async def fails(connection: Connection) -> None:
        await connection.head()
        connection.writer.write(answer)

    await alb.open(fails)
    client = await alb.client("POST", body=b"x").ends()
    assert (client.status, client.code, client.headers["content-type"]) == (502, 10002, "application/json")
    assert words in client.message
    assert alb.in_hand == [0]


async def test_a_silent_worker_is_a_gateway_timeout(make_bench: Callable[..., Bench]) -> None:
    async def silent(connection: Connection) -> None:
        await connection.head()
        await connection.until_gone()

    alb = Alb(make_bench(gateway_timeout_s=0.05))
    await alb.open(silent)
    client = await alb.client().ends()
    assert (client.status, client.code) == (504, 10002)
    assert "sent nothing for 0.05 s" in client.message
    await alb.close()


async def test_a_silent_client_is_not_waited_for(make_bench: Callable[..., Bench]) -> None:
    async def waits(connection: Connection) -> None:
        await connection.head()
        await connection.until_gone()

    alb = Alb(make_bench(gateway_timeout_s=0.05))
    await alb.open(waits)
    client = await alb.client("POST", headers=[("Transfer-Encoding", "chunked")]).ends()
    assert (client.status, client.code) == (408, 10001)
    assert alb.in_hand == [0]
    await alb.close()


async def test_a_worker_that_does_not_read_is_a_gateway_timeout(make_bench: Callable[..., Bench]) -> None:
    async def deaf(connection: Connection) -> None:
        await connection.head()
        await asyncio.Event().wait()

    alb = Alb(make_bench(gateway_timeout_s=0.2))
    await alb.open(deaf)
    async with alb.client("POST", headers=[("Transfer-Encoding", "chunked")]) as client:
        for _ in range(400):
            client.send(b"x" * 65536)
    assert client.status == 504
    assert "read nothing of the request for 0.2 s" in client.message
    await alb.close()


async def test_an_upload_may_take_longer_than_any_silence(make_bench: Callable[..., Bench]) -> None:
    alb = Alb(make_bench(gateway_timeout_s=1.0))
    await alb.open(answering(OK))
    async with alb.client("POST", headers=[("Content-Length", "4")]) as client:
        for _ in range(4):
            await asyncio.sleep(0.3)
            client.send(b"x")
        client.send(b"", more=False)
        await client.has(b"ok")
    assert client.status == 200
    await alb.close()


async def test_the_servers_own_deadline_for_bodies_is_lifted(alb: Alb) -> None:
    await alb.open(answering(OK, OK))
    lifted: list[str] = []
    for method, body in (("GET", None), ("POST", b"x")):
        client = alb.client(method, body=body)
        client.scope["extensions"] = {"yottabench.body_deadline": {"lift": lambda method=method: lifted.append(method)}}
        await client.ends()
    assert lifted == ["POST"]


async def test_an_answer_that_breaks_off_has_no_end(alb: Alb, caplog: pytest.LogCaptureFixture) -> None:
    async def breaks_off(connection: Connection) -> None:
        await connection.head()
        connection.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")

    await alb.open(breaks_off)
    client = await alb.client().ends()
    assert (client.status, client.body, client.complete) == (200, b"half", False)
    assert "An answer was cut off" in caplog.text


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("POST", 502)])
async def test_a_kept_connection_that_died_is_replaced_only_where_that_is_safe(
    alb: Alb, method: str, status: int
) -> None:
    async def dies_at_the_second(connection: Connection) -> None:
        await connection.head()
        connection.writer.write(OK)
        await connection.head()

    await alb.open(dies_at_the_second)
    assert (await alb.client(method, body=None if method == "GET" else b"").ends()).status == 200
    assert (await alb.client(method).ends()).status == status
    assert len(alb.served[0].connections) == (2 if status == 200 else 1)


async def test_what_the_gateway_does_is_counted(alb: Alb) -> None:
    await alb.open(answering(OK))
    await alb.client().ends()
    await alb.client(key="you").ends()
    counts = alb.bench.on.stats.counts
    assert (counts["gateway_requests"], counts["gateway_refusals"]) == (1, 1)
