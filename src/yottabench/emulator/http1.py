"""An outbound HTTP/1.1 client for asyncio on llhttp: one keep-alive pool per peer, one write per request."""

from __future__ import annotations

import asyncio
import errno
import re
import select
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from yottabench.emulator.known_heads import KnownAnswers

_T = TypeVar("_T")

# Everything of an answer that is not body: headers, interim answers, chunk framing, trailers. Real ones need 8 KB.
HEADER_MAX_BYTES = 64 * 1024
# What one chunk may add to that: its length, its line ends, a short extension.
_CHUNK_FRAMING_BYTES = 64
# Node and uvicorn close an idle connection after 5 s; giving it up first avoids the race of sending into a closing one.
IDLE_TIMEOUT_S = 4.0
_OUT_OF_RESOURCES = frozenset([errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
_BREAKS_LINE = re.compile(rb"[ \r\n]")
_known_answers = KnownAnswers()


class Http1Error(Exception):
    """A request that got no usable answer; the message names the peer and never a header or a body."""


class ConnectFailed(Http1Error):
    """No connection, so the peer certainly never had the request."""


class OutOfResources(ConnectFailed):
    """No connection because this process or machine has no room for one: it says nothing about the peer."""


class ConnectionLost(Http1Error):
    """The connection ended before the answer was complete: the peer may have had the request.

    `reused` is True when a kept-alive connection died before the first byte of an answer. Then the peer most likely
    closed it for being idle and never read the request; whether to send again is the caller's decision.
    """

    def __init__(self, message: str, *, reused: bool) -> None:
        super().__init__(message)
        self.reused = reused


class AnswerTimeout(Http1Error):
    """No complete answer in time: the peer may have had the request."""


class BadAnswer(Http1Error):
    """What came back is not an HTTP/1.x answer this client accepts: the peer had the request."""


class AnswerTooLarge(Http1Error):
    """The body is larger than the caller allows: the peer had the request."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A complete answer; header names are spelt as the peer spelt them, and a chunked body is put together."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        """The value of the first header called `name` (any case), or None."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)


class _Waiter(asyncio.Future[Answer]):
    """Who waits for the answer to one request.

    Who gives up closes the connection: an answer that still comes must never be taken for that of the next request.
    """

    def __init__(self, connection: _Connection, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._connection = connection

    def cancel(self, msg: object = None) -> bool:
        is_cancelled = super().cancel(msg)
        if is_cancelled:
            self._connection.drop()
        return is_cancelled


class _Connection(asyncio.Protocol):
    """One connection: carries one request at a time and fails whoever waits when it ends.

    `ended` is called with it after each whole answer; `reusable` then says whether another request may follow.
    """

    __slots__ = (
        "_body",
        "_body_bytes",
        "_chunks",
        "_complete",
        "_content_length",
        "_deadline_s",
        "_ended",
        "_head",
        "_headers",
        "_is_between",
        "_max_body_bytes",
        "_parser",
        "_peer",
        "_poll",
        "_raw_bytes",
        "_served",
        "_timeout_s",
        "_timer",
        "_transfer_encoding",
        "_transport",
        "_until_close",
        "_waiter",
        "idle_since_s",
        "loop",
        "reusable",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        peer: str,
        sock: socket.socket,
        ended: Callable[[_Connection], None] = lambda _: None,
    ) -> None:
        self.loop = loop
        self._peer = peer
        self._ended = ended
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._transport: asyncio.Transport | None = None
        self._parser = HttpResponseParser(self)
        self._waiter: _Waiter | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timeout_s = self._deadline_s = 0.0
        self._served = 0
        self._is_between = True  # the parser has seen whole answers, and no byte after them
        self.reusable = True
        self.idle_since_s = 0.0
        self._begin(0, head=False)

    def _begin(self, max_body_bytes: int, *, head: bool) -> None:
        self._max_body_bytes = max_body_bytes
        self._head = head
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._raw_bytes = 0
        self._chunks = 0
        self._content_length: bytes | None = None
        self._transfer_encoding: bytes | None = None
        self._until_close = False
        self._complete = False

    def exchange(self, wire: bytes, *, timeout_s: float, max_body_bytes: int, head: bool) -> asyncio.Future[Answer]:
        """Send one request; gives its answer, or one of this module's errors. Raises ConnectFailed when it cannot."""
        if self._transport is None or not self.reusable:
            raise ConnectFailed(f"{self._peer} closed the connection before the request was sent.")
        self._begin(max_body_bytes, head=head)
        waiter = self._waiter = _Waiter(self, self.loop)
        self._end_in(timeout_s)
        self._transport.write(wire)
        return waiter

    def _end_in(self, timeout_s: float) -> None:
        # A timer for each request takes 3 % of all that a task takes. This one stays, and looks what there is to end.
        self._timeout_s = timeout_s
        self._deadline_s = self.loop.time() + timeout_s
        if self._timer is not None and self._timer.when() > self._deadline_s:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self.loop.call_at(self._deadline_s, self._time_out)

    def _time_out(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self.loop.time() < self._deadline_s:
            self._timer = self.loop.call_at(self._deadline_s, self._time_out)
        else:
            self._fail(AnswerTimeout(f"{self._peer} gave no complete answer within {self._timeout_s:g} s."))

    def _drop_if_unread(self) -> None:
        # An answer before the request was read to its end: what is left of it would be taken for the next one.
        if self._transport is None or self._transport.get_write_buffer_size():
            self.reusable = False

    def is_quiet(self) -> bool:
        """Whether the connection is open and silent, asked of the system: the loop may not have looked yet."""
        if self._transport is None or not self.reusable:
            return False
        return not self._poll.poll(0)

    def drop(self) -> None:
        """Close at once; whoever waits for an answer learns of it through `connection_lost`."""
        self.reusable = False
        self._stop_timer()
        if self._transport is not None:
            self._transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._complete or self._waiter is None:
            self.drop()
            return
        if not (self._is_between and self._takes_known(data)):
            self._parse(data)
        if self._complete:
            self._end()

    def _takes_known(self, data: bytes) -> bool:
        known = None if self._head else _known_answers.find(data)
        if known is None or len(known.body) > self._max_body_bytes:
            return False
        self._answer(known.status, known.headers, known.body)
        return True

    def _parse(self, data: bytes) -> None:
        begins = not self._raw_bytes
        self._raw_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._fail(BadAnswer(f"{self._peer} switched protocols, which was not asked for."))
        except HttpParserError as error:
            self._fail(BadAnswer(f"{self._peer} did not answer in HTTP/1.x: {error}."))
        else:
            framing_bytes = self._raw_bytes - self._body_bytes - self._chunks * _CHUNK_FRAMING_BYTES
            if framing_bytes > HEADER_MAX_BYTES:
                self._fail(BadAnswer(f"{self._peer} sent more than {HEADER_MAX_BYTES} bytes of headers."))
            self._is_between = begins and self._notes(data)

    def _notes(self, data: bytes) -> bool:
        """Whether `data` was one answer and nothing else; then its head is known from now on."""
        if not (self._complete and self.reusable) or self._content_length is None:
            return False
        return _known_answers.note(data, self._parser.get_status_code(), self._headers, self._body_bytes)

    def eof_received(self) -> None:
        self.reusable = False
        if self._until_close and not self._complete:
            self._finish()
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        self._stop_timer()
        self._transport = None
        cause = f" ({exc})" if exc else ""
        self._fail(
            ConnectionLost(
                f"{self._peer} closed the connection before its answer was complete, "
                f"after {self._raw_bytes} bytes of it{cause}.",
                reused=self._served > 0 and not self._raw_bytes,
            )
        )

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._complete:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))
        size = len(name)
        if size == 14 and name.lower() == b"content-length":
            self._content_length = value
        elif size == 17 and name.lower() == b"transfer-encoding":
            self._transfer_encoding = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._complete or 100 <= status < 200:
            return
        if status < 100 or not self._parser.get_http_version().startswith("1."):
            self._fail(BadAnswer(f"{self._peer} answered with a status or a version that HTTP/1.x does not have."))
        elif self._head:
            self.reusable = False
            self._finish()
        elif status in {204, 304}:
            return
        elif self._transfer_encoding is not None:
            if self._transfer_encoding.strip().lower() != b"chunked":
                self._fail(BadAnswer(f"{self._peer} used a transfer encoding other than chunked."))
        elif self._content_length is None:
            self._until_close = True
        elif int(self._content_length) > self._max_body_bytes:
            self._fail_too_large()

    def on_chunk_header(self) -> None:
        self._chunks += 1

    def on_body(self, data: bytes) -> None:
        self._body.append(data)
        self._body_bytes += len(data)
        if self._body_bytes > self._max_body_bytes:
            self._fail_too_large()

    def on_message_complete(self) -> None:
        if self._complete:
            return
        if self._parser.get_status_code() < 200:
            self._headers = []
            self._content_length = self._transfer_encoding = None
            return
        if not self._parser.should_keep_alive():
            self.reusable = False
        self._finish()

    # How an exchange ends.

    def _finish(self) -> None:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._answer(self._parser.get_status_code(), self._headers, body)

    def _answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self._complete = True
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(Answer(status, headers, body))

    def _end(self) -> None:
        if self._waiter is None:  # it failed
            return
        self._waiter = None
        self._served += 1
        self._drop_if_unread()
        self._ended(self)

    def _fail(self, error: Http1Error) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            self._complete = True
            waiter.set_exception(error)
            waiter.exception()  # seen, so that asyncio does not report it as forgotten when nobody waits any more
        self.drop()

    def _fail_too_large(self) -> None:
        self._fail(AnswerTooLarge(f"{self._peer} answered with more than {self._max_body_bytes} bytes."))


def authority_of(name: str, port: int, default_port: int) -> bytes:
    """The value of the Host header; raises UnicodeError for a name that cannot be in one."""
    host = f"[{name}]".encode("ascii") if ":" in name else name.encode("ascii" if name.isascii() else "idna")
    return host if port == default_port else b"%b:%d" % (host, port)


async def connected(host: str, port: int, use: Callable[[socket.socket], Awaitable[_T]]) -> _T:
    """What `use` makes of a socket connected to the first address of `host` that accepts; OSError when none does."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    last_error: OSError | None = None
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            return await use(sock)
        except OSError as error:
            sock.close()
            last_error = error
        except BaseException:
            sock.close()
            raise
    raise last_error or OSError("the name has no address")


class Http1Pool:
    """Keep-alive connections to one peer; as many as there are requests at a time, of which some are kept afterwards.

    Belongs to one event loop. It follows no redirect, uses no proxy, keeps no cookie and never sends a request twice.
    `server_name` (default: `host`) is the name in the Host header and, with `tls`, the one the certificate must be
    for, so that `host` may be an address that was resolved and checked before.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
        max_idle: int = 64,
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._server_name = server_name or host
        self._idle_timeout_s = idle_timeout_s
        self._max_idle = max_idle
        self._idle: list[_Connection] = []  # the longest idle first
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False
        self._peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        authority = authority_of(self._server_name, port, 443 if tls else 80)
        self._after_target = b" HTTP/1.1\r\nHost: " + authority + b"\r\n"

    def request(
        self,
        method: bytes,
        target: bytes,
        headers: bytes,
        body: bytes,
        *,
        timeout_s: float,
        connect_timeout_s: float = 5.0,
        max_body_bytes: int,
    ) -> Awaitable[Answer]:
        """Send one request; gives the complete answer, whatever its status is.

        `headers` is the encoded block, each line with its CRLF, without Host, Content-Length and Connection.
        `timeout_s` counts from the moment the request is written; connecting has its own. Raises the errors of this
        module, and ValueError for a target or headers that would break the framing. Cancelling closes the connection.
        """
        # Not `in`: for bytes that makes an exception each time, and throws it away.
        if not target or _BREAKS_LINE.search(target):
            raise ValueError("The request target must not be empty or hold a space or a line end.")
        if headers and (headers[-2:] != b"\r\n" or headers.find(b"\r\n\r\n") >= 0):
            raise ValueError("Each header line must end with CRLF, and none may be empty.")
        length = b"" if not body and method in {b"GET", b"HEAD"} else b"Content-Length: %d\r\n" % len(body)
        wire = b"".join((method, b" ", target, self._after_target, headers, length, b"\r\n", body))
        is_head = method == b"HEAD"
        connection = self._take()
        if connection is None:
            return self._request_anew(wire, connect_timeout_s, timeout_s, max_body_bytes, head=is_head)
        # Without a coroutine: by far the most requests to a worker go over a connection that is there.
        return connection.exchange(wire, timeout_s=timeout_s, max_body_bytes=max_body_bytes, head=is_head)

    async def _request_anew(
        self, wire: bytes, connect_timeout_s: float, timeout_s: float, max_body_bytes: int, *, head: bool
    ) -> Answer:
        connection = await self._connect(connect_timeout_s)
        return await connection.exchange(wire, timeout_s=timeout_s, max_body_bytes=max_body_bytes, head=head)

    def close(self) -> None:
        """Close what is idle and refuse new requests; requests under way end by themselves. Idempotent."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        while self._idle:
            self._idle.pop().drop()

    def _take(self) -> _Connection | None:
        if self._closed:
            raise ConnectFailed(f"The connections to {self._peer} were closed.")
        while self._idle:
            connection = self._idle.pop()
            if connection.is_quiet():
                return connection
            connection.drop()
        return None

    def _give_back(self, connection: _Connection) -> None:
        if not connection.reusable or self._closed or len(self._idle) >= self._max_idle:
            connection.drop()
            return
        connection.idle_since_s = connection.loop.time()
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = connection.loop.call_later(self._idle_timeout_s, self._drop_idle)

    def _drop_idle(self) -> None:
        self._sweep = None
        loop = asyncio.get_running_loop()
        too_old_s = loop.time() - self._idle_timeout_s
        while self._idle and (self._idle[0].idle_since_s <= too_old_s or not self._idle[0].reusable):
            self._idle.pop(0).drop()
        if self._idle:
            self._sweep = loop.call_at(self._idle[0].idle_since_s + self._idle_timeout_s, self._drop_idle)

    async def _connect(self, timeout_s: float) -> _Connection:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._open()
        except TimeoutError:
            raise ConnectFailed(f"{self._peer} did not accept a connection within {timeout_s:g} s.") from None
        except (OSError, UnicodeError) as error:
            kind = OutOfResources if isinstance(error, OSError) and error.errno in _OUT_OF_RESOURCES else ConnectFailed
            raise kind(f"Cannot connect to {self._peer}: {error}.") from error

    async def _open(self) -> _Connection:
        loop = asyncio.get_running_loop()
        return await connected(self._host, self._port, lambda sock: self._wrap(loop, sock))

    async def _wrap(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> _Connection:
        _, connection = await loop.create_connection(
            lambda: _Connection(loop, self._peer, sock, self._give_back),
            sock=sock,
            ssl=self._tls,
            server_hostname=self._server_name if self._tls else None,
        )
        return connection
