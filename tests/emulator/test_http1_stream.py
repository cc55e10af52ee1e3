import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from yottabench.emulator.http1 import AnswerTimeout, BadAnswer, ConnectFailed, ConnectionLost
from yottabench.emulator.http1_stream import StreamPool, Upstream

pytestmark = pytest.mark.anyio

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

PEM = Path(__file__).parent / "tls" / "receiver.test.pem"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HOST = [(b"Host", b"worker.test")]


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


class Peer:
    """A server whose every connection is handled by one scripted coroutine."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.gone = asyncio.Event()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            await self._handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


@contextlib.asynccontextmanager
async def served(
    handler: Handler, *, server_tls: ssl.SSLContext | None = None, **pool_settings: object
) -> AsyncIterator[tuple[Peer, StreamPool]]:
    peer = Peer(handler)
    server = await asyncio.start_server(peer.handle, "127.0.0.1", 0, ssl=server_tls)
    pool = StreamPool("127.0.0.1", server.sockets[0].getsockname()[1], **pool_settings)  # type: ignore[arg-type]
    try:
        yield peer, pool
    finally:
        pool.close()
        server.close()
        await peer.close()
        await server.wait_closed()


def answering(*answers: bytes) -> Handler:
    """Answers each request of a connection with the next of `answers`, in one write, then closes."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        await reader.read(1)

    return handler


async def get(pool: StreamPool, method: bytes = b"GET") -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """A whole exchange without a body."""
    upstream = await pool.lend(5)
    try:
        await upstream.send_head(method, b"/x", HOST, chunked=False)
        await upstream.send_end()
        head = await upstream.head()
        return head.status, head.headers, await body_of(upstream)
    finally:
        upstream.release()


async def body_of(upstream: Upstream) -> bytes:
    return b"".join([piece async for piece in upstream.pieces()])


async def test_a_request_is_sent_as_it_was_given() -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(3))
        writer.write(OK)
        await reader.read(1)

    async with served(handler) as (_, pool):
        upstream = await pool.lend(5)
        await upstream.send_head(b"POST", b"/a%20b?c=d", [*HOST, (b"Content-Length", b"3")], chunked=False)
        await upstream.send_body(b"ab")
        await upstream.send_body(b"")
        await upstream.send_body(b"c")
        await upstream.send_end()
        assert (await upstream.head()).status == 200
        assert await body_of(upstream) == b"ok"
        upstream.release()
    assert seen == [b"POST /a%20b?c=d HTTP/1.1\r\nHost: worker.test\r\nContent-Length: 3\r\n\r\nabc"]


async def test_a_body_of_unknown_length_goes_in_chunks_of_which_only_the_last_is_empty() -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n0\r\n\r\n"))
        writer.write(OK)
        await reader.read(1)

    async with served(handler) as (_, pool):
        upstream = await pool.lend(5)
        await upstream.send_head(b"POST", b"/", HOST, chunked=True)
        for piece in (b"a" * 16, b"", b"b"):
            await upstream.send_body(piece)
        await upstream.send_end()
        await upstream.head()
        assert await body_of(upstream) == b"ok"
        upstream.release()
    assert seen[0].endswith(b"Transfer-Encoding: chunked\r\n\r\n10\r\n" + b"a" * 16 + b"\r\n1\r\nb\r\n0\r\n\r\n")


async def test_a_piece_is_there_before_the_next_was_written() -> None:
    go_on = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await go_on.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")
        await reader.read(1)

    async with served(handler) as (_, pool):
        upstream = await pool.lend(5)
        await upstream.send_head(b"GET", b"/", HOST, chunked=False)
        await upstream.send_end()
        await upstream.head()
        pieces = upstream.pieces()
        assert await anext(pieces) == b"one"
        go_on.set()
        assert await anext(pieces) == b"two"
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)
        upstream.release()


async def test_an_answer_may_come_before_the_request_is_complete() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await reader.read()

    async with served(handler) as (peer, pool):
        upstream = await pool.lend(5)
        await upstream.send_head(b"POST", b"/", HOST, chunked=True)
        assert (await upstream.head()).status == 200
        assert await body_of(upstream) == b"ok"
        upstream.release()
        # What was left of the request would be taken for the next one.
        again = await pool.lend(5)
        again.release()
        assert peer.connections == 2


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        pytest.param(OK, 200, b"ok", id="content-length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Trailer: 1\r\n\r\n",
            200,
            b"ok",
            id="chunked, with a trailer",
        ),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", id="204"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", 304, b"", id="304 with a length"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK, 200, b"ok", id="1xx"),
        pytest.param(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", 503, b"", id="empty"),
    ],
)
async def test_the_connection_is_used_again_after_a_complete_answer(answer: bytes, status: int, body: bytes) -> None:
    async with served(answering(answer, OK)) as (peer, pool):
        found, headers, read = await get(pool)
        assert (found, read) == (status, body)
        assert all(name.lower() not in {b"link", b"x-trailer"} for name, _ in headers)
        assert await get(pool) == (200, [(b"Content-Length", b"2")], b"ok")
        assert peer.connections == 1


@pytest.mark.parametrize(
    ("answer", "method", "body"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"HEAD", b"", id="HEAD"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", b"GET", b"ok", id="close"),
        pytest.param(OK + b"more", b"GET", b"ok", id="bytes behind the end"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"GET", b"ok", id="HTTP/1.0"),
    ],
)
async def test_the_connection_is_not_used_again_after_these(answer: bytes, method: bytes, body: bytes) -> None:
    async with served(answering(answer)) as (peer, pool):
        assert (await get(pool, method))[2] == body
        assert (await get(pool, method))[2] == body
        assert peer.connections == 2


async def test_a_body_without_a_length_ends_with_the_connection() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nall of it")

    async with served(handler) as (_, pool):
        assert await get(pool) == (200, [], b"all of it")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(b"SSH-2.0-OpenSSH\r\n\r\n", "did not answer in HTTP/1.x", id="another protocol"),
        pytest.param(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "switched", id="101"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "transfer encoding", id="gzip"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"A: %b\r\n" % (b"a" * 70_000), "bytes of headers", id="huge head"),
    ],
)
async def test_what_is_no_answer_is_refused(answer: bytes, words: str) -> None:
    async with served(answering(answer)) as (_, pool):
        with pytest.raises(BadAnswer, match=words):
            await get(pool)


async def test_a_connection_that_ends_early_says_how_much_came() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")

    async with served(handler) as (_, pool):
        with pytest.raises(ConnectionLost, match="after 42 bytes") as lost:
            await get(pool)
    assert not lost.value.reused


async def test_a_kept_connection_that_dies_without_a_word_is_told_apart() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await reader.readuntil(b"\r\n\r\n")

    async with served(handler) as (_, pool):
        await get(pool)
        with pytest.raises(ConnectionLost) as lost:
            await get(pool)
    assert lost.value.reused


async def test_a_kept_connection_that_was_closed_meanwhile_is_not_lent() -> None:
    closed = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await writer.drain()
        writer.close()
        closed.set()

    async with served(handler) as (peer, pool):
        await get(pool)
        await closed.wait()
        assert (await get(pool))[0] == 200
        assert peer.connections == 2


async def test_a_fresh_connection_can_be_asked_for() -> None:
    async with served(answering(OK)) as (peer, pool):
        await get(pool)
        (await pool.lend(5, fresh=True)).release()
        await asyncio.sleep(0)
    assert peer.connections >= 1


@pytest.mark.parametrize("after", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"], ids=["head", "body"])
async def test_silence_has_a_limit_once_the_request_is_complete(after: bytes) -> None:
    async with served(answering(after)) as (_, pool):
        upstream = await pool.lend(0.05)
        await upstream.send_head(b"GET", b"/", HOST, chunked=False)
        await upstream.send_end()
        with pytest.raises(AnswerTimeout, match=r"sent nothing for 0\.05 s"):
            [await upstream.head(), [piece async for piece in upstream.pieces()]]
        upstream.release()


async def test_silence_has_no_limit_while_the_peer_waits_for_the_request() -> None:
    async def patient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\nab")
        writer.write(OK)
        await reader.read(1)

    async with served(patient) as (_, pool):
        upstream = await pool.lend(0.02)
        await upstream.send_head(b"POST", b"/", [*HOST, (b"Content-Length", b"2")], chunked=False)
        head = asyncio.create_task(upstream.head())
        for piece in (b"a", b"b"):
            done, _ = await asyncio.wait([head], timeout=0.1)
            assert not done
            await upstream.send_body(piece)
        await upstream.send_end()
        assert (await head).status == 200
        upstream.release()


async def test_release_in_the_middle_closes_the_connection() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await reader.readexactly(1)

    async with served(handler) as (peer, pool):
        upstream = await pool.lend(5)
        await upstream.send_head(b"GET", b"/", HOST, chunked=False)
        await upstream.send_end()
        await upstream.head()
        upstream.release()
        await asyncio.wait_for(peer.gone.wait(), 5)


async def test_a_peer_that_reads_nothing_holds_the_sender_back() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.Event().wait()

    async with served(handler) as (_, pool):
        upstream = await pool.lend(0.2)
        await upstream.send_head(b"POST", b"/", HOST, chunked=True)

        async def send_for_ever() -> None:
            while True:
                await upstream.send_body(b"x" * 65536)

        with pytest.raises(AnswerTimeout, match=r"read nothing of the request for 0\.2 s"):
            await send_for_ever()
        upstream.release()


async def test_nobody_listening_is_said_so() -> None:
    async with served(answering()) as (_, pool):
        port = pool.peer.rpartition(":")[2]
    pool = StreamPool("127.0.0.1", int(port))
    with pytest.raises(ConnectFailed, match=rf"Cannot connect to 127\.0\.0\.1:{port}"):
        await pool.lend(5)
    pool.close()
    with pytest.raises(ConnectFailed, match="were closed"):
        await pool.lend(5)


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        (b"", HOST),
        (b"/a b", HOST),
        (b"/a\r\nX: y", HOST),
        (b"/", [(b"X", b"a\r\nY: b")]),
        (b"/", [(b"X\n", b"a")]),
    ],
)
async def test_what_would_break_the_framing_is_never_sent(target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    async with served(answering(OK)) as (_, pool):
        upstream = await pool.lend(5)
        with pytest.raises(ValueError, match="must not"):
            await upstream.send_head(b"GET", target, headers, chunked=False)
        upstream.release()


async def test_idle_connections_are_given_up() -> None:
    async with served(answering(OK, OK), idle_timeout_s=0.05) as (peer, pool):
        await get(pool)
        for _ in range(100):
            await asyncio.sleep(0.01)
            if not pool._idle:
                break
        await get(pool)
        assert peer.connections == 2


async def test_tls_reaches_a_server_with_the_right_certificate() -> None:
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_tls.load_cert_chain(PEM)
    client_tls = ssl.create_default_context(cafile=PEM)
    client_tls.check_hostname = False  # the certificate is for a name, the test serves on an address
    async with served(answering(OK), server_tls=server_tls, tls=client_tls) as (_, pool):
        assert (await get(pool))[2] == b"ok"
    async with served(answering(OK), server_tls=server_tls, tls=ssl.create_default_context()) as (_, pool):
        with pytest.raises(ConnectFailed, match="Cannot connect"):
            await get(pool)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    cuts=st.lists(st.integers(min_value=1, max_value=30), max_size=8),
    chunked=st.booleans(),
)
def test_the_body_is_the_same_however_it_is_cut(pieces: list[bytes], cuts: list[int], chunked: bool) -> None:
    body = b"".join(pieces)
    if chunked:
        framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + framed
    else:
        wire = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        rest = wire
        for cut in cuts:
            writer.write(rest[:cut])
            rest = rest[cut:]
            await asyncio.sleep(0)
        writer.write(rest)
        await reader.read(1)

    async def exchange() -> None:
        async with served(handler) as (peer, pool):
            assert (await get(pool))[2] == body
            assert len(pool._idle) == 1
            assert peer.connections == 1

    asyncio.run(exchange())
