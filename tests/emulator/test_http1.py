import asyncio
import contextlib
import errno
import gc
import itertools
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yottabench.emulator import http1
from yottabench.emulator.http1 import (
    Answer,
    AnswerTimeout,
    AnswerTooLarge,
    BadAnswer,
    ConnectFailed,
    ConnectionLost,
    Http1Pool,
)

pytestmark = pytest.mark.anyio

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

PEM = Path(__file__).parent / "tls" / "receiver.test.pem"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LIMIT = 1000


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


class Peer:
    """A server whose every connection is handled by one scripted coroutine."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.connections = 0
        self.seen_closed = asyncio.Event()
        self._open: set[asyncio.Task[None]] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task
        self._open.add(task)
        try:
            await self._handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.seen_closed.set()
        except asyncio.CancelledError:
            pass
        finally:
            self._open.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def close(self) -> None:
        for task in list(self._open):
            task.cancel()
        if self._open:
            await asyncio.wait(self._open)


@contextlib.asynccontextmanager
async def served(
    handler: Handler, *, server_tls: ssl.SSLContext | None = None, **pool_settings: object
) -> AsyncIterator[tuple[Peer, Http1Pool]]:
    """A scripted peer and a pool that talks to it."""
    peer = Peer(handler)
    server = await asyncio.start_server(peer.handle, "127.0.0.1", 0, ssl=server_tls)
    pool = Http1Pool("127.0.0.1", server.sockets[0].getsockname()[1], **pool_settings)
    try:
        async with asyncio.timeout(30):  # what waits for an event that never comes must fail, not hang
            yield peer, pool
    finally:
        pool.close()
        server.close()
        await peer.close()


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The head and the body of the next request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return head, await reader.readexactly(length)


def answers(*scripted: bytes, then_close: bool = False) -> Handler:
    """Answer the requests of each connection with these bytes, in turn and then the last one over and over."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = list(scripted)
        while True:
            await read_request(reader)
            writer.write(left[0])
            await writer.drain()
            if len(left) > 1:
                left.pop(0)
            elif then_close:
                return

    return handle


async def ask(pool: Http1Pool, body: bytes = b"{}", **settings: object) -> Answer:
    """A request with generous limits, unless `settings` say otherwise."""
    given = {"timeout_s": 10.0, "max_body_bytes": LIMIT, **settings}
    return await pool.request(b"POST", b"/run", b"X-Task-Id: t1\r\n", body, **given)


async def test_a_request_is_sent_with_host_and_length_and_its_answer_comes_back() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(
            b"HTTP/1.1 404 Nope\r\nContent-Type: text/plain\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 4\r\n\r\ngone"
        )

    async with served(handle) as (_, pool):
        answer = await ask(pool, b'{"prompt": "hi"}')
        port = pool._port
    assert answer.status == 404
    assert answer.body == b"gone"
    assert answer.headers[:3] == [(b"Content-Type", b"text/plain"), (b"X-A", b"1"), (b"x-a", b"2")]
    assert (answer.header(b"x-A"), answer.header(b"nothing")) == (b"1", None)
    head = b"POST /run HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-Task-Id: t1\r\nContent-Length: 16\r\n\r\n" % port
    assert seen == [(head, b'{"prompt": "hi"}')]


async def test_a_get_without_a_body_says_no_length() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        body = b"yes" if b"Content-Length" in head else b"no"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with served(handle) as (_, pool):
        answer = await pool.request(b"GET", b"/", b"", b"", timeout_s=10, max_body_bytes=LIMIT)
    assert answer.body == b"no"


async def test_one_connection_serves_one_request_after_the_other() -> None:
    async with served(answers(OK)) as (peer, pool):
        for _ in range(5):
            assert (await ask(pool)).body == b"ok"
        assert peer.connections == 1


async def test_requests_at_the_same_time_use_connections_of_their_own_and_only_some_are_kept() -> None:
    arrived = 0
    all_here = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        while True:
            await read_request(reader)
            arrived += 1
            if arrived == 4:
                all_here.set()
            await all_here.wait()
            writer.write(OK)

    async with served(handle, max_idle=2) as (peer, pool):
        await asyncio.gather(*[ask(pool) for _ in range(4)])
        assert peer.connections == 4
        await peer.seen_closed.wait()
        await asyncio.gather(*[ask(pool) for _ in range(2)])
        assert peer.connections == 4


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n5;ext=1\r\nabcde\r\n0\r\nX-Trailer: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde",
    ],
    ids=["chunked", "chunked with trailers", "with a length", "after interim answers"],
)
async def test_the_body_is_the_same_however_it_is_framed_and_the_connection_is_kept(wire: bytes) -> None:
    async with served(answers(wire)) as (peer, pool):
        for _ in range(2):
            answer = await ask(pool)
            assert (answer.status, answer.body) == (200, b"abcde")
            assert answer.header(b"Link") is None
        assert peer.connections == 1


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_that_has_no_body_ends_with_its_headers(status: int) -> None:
    async with served(answers(b"HTTP/1.1 %d None\r\nContent-Length: 10\r\n\r\n" % status)) as (peer, pool):
        for _ in range(2):
            assert (await ask(pool)).body == b""
        assert peer.connections == 1


async def test_a_head_answer_has_no_body_whatever_length_it_names() -> None:
    async with served(answers(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n")) as (_, pool):
        answer = await pool.request(b"HEAD", b"/", b"", b"", timeout_s=10, max_body_bytes=LIMIT)
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_without_a_length_the_end_of_the_connection_ends_the_body(version: bytes) -> None:
    wire = b"HTTP/%b 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end" % version
    async with served(answers(wire, then_close=True)) as (peer, pool):
        for _ in range(2):
            assert (await ask(pool)).body == b"until the end"
        assert peer.connections == 2


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong",
        OK + b"junk",
    ],
    ids=["close", "HTTP/1.0", "a second answer", "junk after it"],
)
async def test_a_connection_that_must_or_should_not_be_kept_is_closed(wire: bytes) -> None:
    async with served(answers(wire)) as (peer, pool):
        for _ in range(2):
            assert (await ask(pool)).body == b"ok"
        assert peer.connections == 2


async def test_bytes_that_come_while_a_connection_is_idle_spoil_it() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await writer.drain()
        writer.write(b"HTTP/1.1 408 Too Slow\r\nContent-Length: 0\r\n\r\n")
        await reader.readexactly(1)

    async with served(handle) as (peer, pool):
        assert (await ask(pool)).status == 200
        await peer.seen_closed.wait()
        assert (await ask(pool)).status == 200
        assert peer.connections == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "a" * 64 + ".example", "bad host name"])
async def test_nothing_that_listens_is_a_failure_to_connect(host: str) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        pool = Http1Pool(host, sock.getsockname()[1])
        with pytest.raises(ConnectFailed, match=host):
            await ask(pool)


async def test_a_peer_that_does_not_accept_in_time_is_a_failure_to_connect() -> None:
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # fills the queue, so that the next one gets no answer at all
            client = sockets.enter_context(socket.socket())
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(listener.getsockname())
        pool = Http1Pool(*listener.getsockname())
        with pytest.raises(ConnectFailed, match=r"within 0\.05 s"):
            await ask(pool, connect_timeout_s=0.05)


@pytest.mark.parametrize(
    "part",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
    ids=["nothing", "half a line", "short of its length", "no last chunk", "only an interim answer"],
)
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_connection_that_ends_early_is_lost(part: bytes, *, reset: bool) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(part)
        await writer.drain()
        if reset:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with served(handle) as (_, pool):
        with pytest.raises(ConnectionLost) as lost:
            await ask(pool)
    assert not lost.value.reused


async def test_a_kept_connection_that_dies_without_a_byte_is_told_apart() -> None:
    async with served(answers(OK, b"", then_close=True)) as (peer, pool):
        await ask(pool)
        with pytest.raises(ConnectionLost) as lost:
            await ask(pool)
        assert lost.value.reused
        assert (await ask(pool)).status == 200
        assert peer.connections == 2


async def test_a_kept_connection_that_dies_in_the_middle_of_an_answer_is_an_ordinary_loss() -> None:
    async with served(answers(OK, b"HTTP/1.1 200", then_close=True)) as (_, pool):
        await ask(pool)
        with pytest.raises(ConnectionLost) as lost:
            await ask(pool)
    assert not lost.value.reused


async def test_a_connection_the_peer_closed_while_idle_is_not_used_even_before_the_loop_has_noticed() -> None:
    closed = threading.Event()

    def serve(listener: socket.socket) -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            connection.recv(10_000)
            connection.sendall(OK)
            connection.close()
            closed.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        pool = Http1Pool(*listener.getsockname())
        for _ in range(2):
            assert (await ask(pool)).status == 200
            assert closed.wait(30)  # holds the loop up: it cannot have seen the end of the connection
            closed.clear()
        thread.join()
        pool.close()


async def test_an_idle_connection_is_closed_after_its_time() -> None:
    async with served(answers(OK), idle_timeout_s=0.01) as (peer, pool):
        await ask(pool)
        await peer.seen_closed.wait()
        await ask(pool)
        assert peer.connections == 2


@pytest.mark.parametrize(
    "part",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcd", b"HTTP/1.1 200 OK\r\n\r\nuntil the end"],
    ids=["nothing", "all but a byte", "no end"],
)
async def test_an_answer_that_is_not_complete_in_time_is_given_up_and_its_connection_closed(part: bytes) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(part)
        await reader.readexactly(1)

    async with served(handle) as (peer, pool):
        with pytest.raises(AnswerTimeout, match=r"within 0\.05 s"):
            await ask(pool, timeout_s=0.05)
        await peer.seen_closed.wait()


@pytest.mark.parametrize(
    "wire",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 099 Low\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokmore\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nBad Header: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Long: 0123456789\r\n" * 4000,
        b"HTTP/1.1 200 OK\r\nX-Endless: " + b"x" * 70_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 4000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 70_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: " + b"x" * 70_000,
    ],
    ids=[
        "SSH", "HTTP/2", "status 99", "a word as length", "a negative length", "two lengths", "length and chunks",
        "a coding other than chunked", "a coding before chunked", "no chunk size", "a chunk too long", "an upgrade",
        "a space in a header name", "many headers", "an endless header", "endless interim answers",
        "an endless chunk extension", "an endless trailer",
    ],
)  # fmt: skip
async def test_what_is_not_proper_http_is_a_bad_answer(wire: bytes) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(wire)
        await reader.readexactly(1)

    async with served(handle) as (peer, pool):
        with pytest.raises(BadAnswer):
            await ask(pool)
        await peer.seen_closed.wait()


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_body_may_have_exactly_the_size_that_is_allowed(framing: str) -> None:
    def wire(size: int) -> bytes:
        if framing == "length":
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, b"x" * size)
        if framing == "chunked":
            return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % (b"1\r\nx\r\n" * size)
        return b"HTTP/1.1 200 OK\r\n\r\n%b" % (b"x" * size)

    async with served(answers(wire(LIMIT), then_close=framing == "close")) as (_, pool):
        assert len((await ask(pool)).body) == LIMIT
    async with served(answers(wire(LIMIT + 1), then_close=framing == "close")) as (_, pool):
        with pytest.raises(AnswerTooLarge):
            await ask(pool)


async def test_many_small_chunks_are_not_mistaken_for_headers() -> None:
    body = b"1\r\nx\r\n" * 100_000
    async with served(answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n")) as (
        _,
        pool,
    ):
        assert len((await ask(pool, max_body_bytes=10**6)).body) == 100_000


async def test_cancelling_a_request_closes_its_connection() -> None:
    asked = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        asked.set()
        await reader.readexactly(1)

    async with served(handle) as (peer, pool):
        request = asyncio.ensure_future(ask(pool))
        await asked.wait()
        request.cancel()
        await peer.seen_closed.wait()
        with pytest.raises(asyncio.CancelledError):
            await request


async def test_an_answer_before_the_request_was_read_is_taken_and_the_connection_closed() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await reader.read(1)
        await peer.seen_closed.wait()

    async with served(handle) as (peer, pool):
        assert (await ask(pool, b"x" * 20_000_000)).status == 413
        assert not pool._idle
        peer.seen_closed.set()


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        (b"", b""),
        (b"/a b", b""),
        (b"/a\r\nX: 1", b""),
        (b"/a\n", b""),
        (b"/", b"X: 1"),
        (b"/", b"X: 1\r\n\r\nPOST / HTTP/1.1\r\n"),
    ],
)
async def test_a_target_or_headers_that_would_break_the_framing_are_refused(target: bytes, headers: bytes) -> None:
    pool = Http1Pool("127.0.0.1", 1)
    with pytest.raises(ValueError, match="must"):
        await pool.request(b"POST", target, headers, b"", timeout_s=1, max_body_bytes=1)


async def test_a_closed_pool_refuses_requests_and_lets_those_under_way_end() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            asked.set()
            await go_on.wait()
            writer.write(OK)

    async with served(handle) as (peer, pool):
        under_way = asyncio.ensure_future(ask(pool))
        await asked.wait()
        pool.close()
        pool.close()
        go_on.set()
        assert (await under_way).status == 200
        await peer.seen_closed.wait()
        with pytest.raises(ConnectFailed, match="closed"):
            await ask(pool)


@pytest.mark.parametrize(
    ("host", "port", "server_name", "authority"),
    [
        ("example.com", 80, None, b"example.com"),
        ("example.com", 8080, None, b"example.com:8080"),
        ("::1", 8080, None, b"[::1]:8080"),
        ("127.0.0.1", 8080, "receiver.test", b"receiver.test:8080"),
        ("127.0.0.1", 80, "bücher.example", b"xn--bcher-kva.example"),
    ],
)
def test_the_host_header_names_the_server(host: str, port: int, server_name: str | None, authority: bytes) -> None:
    pool = Http1Pool(host, port, server_name=server_name)
    assert pool._after_target == b" HTTP/1.1\r\nHost: " + authority + b"\r\n"


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    return context


async def test_tls_checks_the_certificate_for_the_server_name_and_keeps_the_connection() -> None:
    trusting = ssl.create_default_context(cafile=PEM)
    async with served(answers(OK), server_tls=server_tls(), tls=trusting, server_name="receiver.test") as (peer, pool):
        for _ in range(3):
            assert (await ask(pool)).body == b"ok"
        assert peer.connections == 1


@pytest.mark.parametrize(("name", "trusted"), [("other.test", True), ("receiver.test", False)])
async def test_a_certificate_that_does_not_fit_is_a_failure_to_connect(name: str, *, trusted: bool) -> None:
    context = ssl.create_default_context(cafile=PEM if trusted else None)
    async with served(answers(OK), server_tls=server_tls(), tls=context, server_name=name) as (_, pool):
        with pytest.raises(ConnectFailed, match=r"(?i)certificate"):
            await ask(pool)


class FedTransport(asyncio.Transport):
    """A transport that goes nowhere."""

    aborted = False

    def write(self, data: bytes) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.aborted = True


def begin_exchange(sock: socket.socket) -> tuple[http1._Connection, FedTransport, asyncio.Future[Answer]]:
    """A request under way on a connection that is fed by hand."""
    connection, transport = http1._Connection(asyncio.get_running_loop(), "peer", sock), FedTransport()
    connection.connection_made(transport)
    return connection, transport, connection.exchange(b"", timeout_s=10, max_body_bytes=LIMIT, head=False)


@pytest.mark.parametrize(("wire", "fails"), [(OK, False), (b"junk", True)])
async def test_who_gives_up_when_the_answer_is_there_costs_no_connection_and_no_error_is_forgotten(
    wire: bytes, fails: bool
) -> None:
    async def wait(answer: asyncio.Future[Answer]) -> Answer:
        return await answer

    with socket.socket() as sock:
        connection, transport, exchange = begin_exchange(sock)
        waiting = asyncio.create_task(wait(exchange))
        await asyncio.sleep(0)
        connection.data_received(wire)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (transport.aborted, connection.reusable) == (fails, not fails)
    del exchange
    gc.collect()  # a forgotten exception would be reported here, and warnings are errors


async def test_who_gives_up_before_the_answer_closes_the_connection() -> None:
    with socket.socket() as sock:
        connection, transport, exchange = begin_exchange(sock)
        assert exchange.cancel()
        assert (transport.aborted, connection.reusable) == (True, False)
        connection.data_received(OK)
        assert exchange.cancelled()


async def test_a_connection_that_ended_before_the_request_was_sent_is_a_failure_to_connect() -> None:
    with socket.socket() as sock:
        connection = http1._Connection(asyncio.get_running_loop(), "peer", sock)
        connection.connection_made(FedTransport())
        connection.connection_lost(None)
        with pytest.raises(ConnectFailed):
            connection.exchange(b"", timeout_s=10, max_body_bytes=LIMIT, head=False)


class HandTimer:
    def __init__(self, due_s: float, run: Callable[[], None]) -> None:
        self.due_s, self.run, self.cancelled = due_s, run, False

    def when(self) -> float:
        return self.due_s

    def cancel(self) -> None:
        self.cancelled = True


class HandLoop:
    """As much of a loop as a connection needs, with a time that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.timers: list[HandTimer] = []
        real = asyncio.get_running_loop()
        self.get_debug, self.call_soon = real.get_debug, real.call_soon

    def time(self) -> float:
        return self.now_s

    def call_at(self, due_s: float, run: Callable[[], None]) -> HandTimer:
        self.timers.append(HandTimer(due_s, run))
        return self.timers[-1]

    @property
    def booked(self) -> list[HandTimer]:
        return [timer for timer in self.timers if not timer.cancelled]

    def advance(self, now_s: float) -> None:
        self.now_s = now_s
        for timer in self.booked:
            if timer.due_s <= now_s:
                self.timers.remove(timer)
                timer.run()


@contextlib.asynccontextmanager
async def timed() -> AsyncIterator[tuple[HandLoop, http1._Connection, Callable[[float], asyncio.Future[Answer]]]]:
    """A connection on a loop by hand, and what sends a request on it with a time of so many seconds."""
    loop = HandLoop()
    with socket.socket() as sock:
        connection = http1._Connection(loop, "peer", sock)  # type: ignore[arg-type] -- as much of a loop as it uses
        connection.connection_made(FedTransport())

        def ask(timeout_s: float) -> asyncio.Future[Answer]:
            return connection.exchange(b"", timeout_s=timeout_s, max_body_bytes=LIMIT, head=False)

        yield loop, connection, ask


async def test_a_request_has_its_own_time_whatever_time_those_before_it_on_the_connection_had() -> None:
    async with timed() as (loop, connection, ask):
        for timeout_s in (10, 4, 30):
            exchange = ask(timeout_s)
            await asyncio.sleep(0)
            connection.data_received(OK)
            await exchange
            assert len(loop.booked) == 1
        last = ask(3)
        await asyncio.sleep(0)
        loop.advance(102.9)
        await asyncio.sleep(0)
        assert not last.done()
        loop.advance(103)
        with pytest.raises(AnswerTimeout, match="within 3 s"):
            await last
        assert loop.booked == []


async def test_the_timer_of_an_earlier_request_ends_no_later_one_and_no_silence_between_them() -> None:
    async with timed() as (loop, connection, ask):
        first = ask(5)
        await asyncio.sleep(0)
        connection.data_received(OK)
        await first
        loop.advance(106)
        assert connection.reusable
        assert loop.booked == []  # what waits for nothing costs nothing
        for timeout_s in (5, 50):
            exchange = ask(timeout_s)
            await asyncio.sleep(0)
            if timeout_s == 5:
                connection.data_received(OK)
                await exchange
        loop.advance(112)
        await asyncio.sleep(0)
        assert not exchange.done()
        loop.advance(156)
        with pytest.raises(AnswerTimeout, match="within 50 s"):
            await exchange


@pytest.mark.parametrize("end", ["dropped", "lost"])
async def test_a_connection_that_ended_leaves_no_timer(end: str) -> None:
    async with timed() as (loop, connection, ask):
        exchange = ask(3600)
        await asyncio.sleep(0)
        connection.data_received(OK)
        await exchange
        assert len(loop.booked) == 1
        connection.drop() if end == "dropped" else connection.connection_lost(None)
        assert loop.booked == []


WIRES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nabcde",
        b"HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-T: 1\r\n\r\n",
        b"HTTP/1.1 102 Wait\r\nX-I: 1\r\n\r\nHTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 5\r\n\r\nabcde",
        b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\nabcde",
    ]
)


@given(WIRES, st.lists(st.integers(1, 120), max_size=8))
def test_an_answer_is_the_same_in_whatever_pieces_it_arrives(wire: bytes, cuts: list[int]) -> None:
    async def receive() -> Answer:
        with socket.socket() as sock:
            connection, _, exchange = begin_exchange(sock)
            await asyncio.sleep(0)
            edges = sorted({0, *(cut for cut in cuts if cut < len(wire)), len(wire)})
            for first, last in itertools.pairwise(edges):
                connection.data_received(wire[first:last])
            connection.eof_received()
            return await exchange

    answer = asyncio.run(receive())
    assert (answer.status, answer.body, answer.header(b"X-A")) == (200, b"abcde", b"b")
    assert answer.header(b"X-I") is None


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_no_room_for_a_connection_here_says_nothing_about_the_peer(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError(number, "No room")

    pool = Http1Pool("127.0.0.1", 9)
    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", refuse)
        with pytest.raises(http1.OutOfResources, match="No room"):
            await pool.request(b"GET", b"/", b"", b"", timeout_s=5, max_body_bytes=LIMIT)
