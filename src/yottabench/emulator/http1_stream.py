"""The streaming side of `http1`: a request sent piece by piece while its answer is read piece by piece."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncGenerator, Sequence

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from yottabench.emulator.http1 import (
    HEADER_MAX_BYTES,
    IDLE_TIMEOUT_S,
    AnswerTimeout,
    BadAnswer,
    ConnectFailed,
    ConnectionLost,
    connected,
)

# Read at most so much at once; the transport stops reading when twice as much waits, so a slow client holds its worker.
_PIECE_MAX_BYTES = 64 * 1024

_LAST_BYTES_S = 2.0

Headers = Sequence[tuple[bytes, bytes]]


class Head(msgspec.Struct, frozen=True):
    """What an answer begins with; header names are spelt as the peer spelt them."""

    status: int
    headers: list[tuple[bytes, bytes]]


class _Answer:
    """What the parser has found of one answer."""

    def __init__(self, *, bodiless: bool, may_switch: bool = False) -> None:
        self._parser = HttpResponseParser(self)
        self._bodiless = bodiless
        self._may_switch = may_switch
        self._switching: list[tuple[bytes, bytes]] = []
        self.behind: bytes = b""  # what came behind the head of an answer that switched protocols
        self._headers: list[tuple[bytes, bytes]] = []
        self._framed = False
        self._until_close = False
        self.head: Head | None = None
        self.pieces: list[bytes] = []
        self.complete = False
        self.reusable = True
        self.raw_bytes = 0
        self.refused: str | None = None

    def feed(self, data: bytes) -> None:
        """Take what was read; `refused` says afterwards what is wrong with it."""
        self.raw_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            if self._may_switch:
                self.head = Head(101, self._switching)
                self.behind = data[upgrade.args[0] :]
                return
            self.refused = "switched protocols, which was not asked for"
        except HttpParserError as error:
            self.refused = f"did not answer in HTTP/1.x: {error}"
        if self.complete and self.refused:
            self.refused, self.reusable = None, False  # an answer, and something behind it that is none

    def end_of_stream(self) -> bool:
        """Whether the end of the connection is the end of the answer."""
        self.reusable = False
        self.complete = self.complete or self._until_close
        return self.complete

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self.complete:
            self.reusable = False  # bytes behind the end belong to no request

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head is not None:
            return  # a trailer
        self._headers.append((name, value))
        lowered = name.lower()
        self._framed |= lowered in {b"content-length", b"transfer-encoding"}
        if lowered == b"transfer-encoding" and value.strip().lower() != b"chunked":
            self.refused = "used a transfer encoding other than chunked"

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self.complete:
            return
        if 100 <= status < 200:
            self._switching, self._headers = self._headers, []
            return
        self.head = Head(status, self._headers)
        if self._bodiless:
            # llhttp cannot be told that none follows, and takes what comes next for the body.
            self.complete, self.reusable = True, False
        elif not self._framed and status not in {204, 304}:
            self._until_close = True

    def on_body(self, data: bytes) -> None:
        if not self.complete:
            self.pieces.append(data)

    def on_message_complete(self) -> None:
        if self.head is None or self.complete:
            return
        self.complete = True
        self.reusable &= self._parser.should_keep_alive()


class Upstream:
    """A connection lent for one request. `release` it whatever happens; what is unfinished by then is cut off.

    A peer that does not read for `silence_s`, or, when it has the whole request, sends nothing for so long, is given up
    with AnswerTimeout. Before that it may be waiting for the rest of the request, which is not its fault.
    """

    def __init__(self, pool: StreamPool, streams: _Streams, silence_s: float, *, reused: bool) -> None:
        self._pool = pool
        self._streams = streams
        self._silence_s = silence_s
        self._reused = reused
        self._chunked = False
        self._sent = False
        self._answer = _Answer(bodiless=False)
        self._peer = pool.peer

    async def send_head(
        self, method: bytes, target: bytes, headers: Headers, *, chunked: bool, may_switch: bool = False
    ) -> None:
        """Send what the request begins with; `headers` whole, Host included. `chunked`: frame the body in chunks.

        Without it the body is what a Content-Length among the headers says, or none. `may_switch`: the headers ask for
        another protocol, and a head with status 101 says that it is spoken from there on; see `read_raw`.
        Raises ValueError for what would break the framing.
        """
        if not target or any(byte in target for byte in b" \r\n"):
            raise ValueError("The request target must not be empty or hold a space or a line end.")
        lines = [b"%b: %b\r\n" % header for header in headers]
        if any(line.count(b"\n") != 1 or line.count(b"\r") != 1 for line in lines):
            raise ValueError("A header must not hold a line end.")
        if chunked:
            lines.append(b"Transfer-Encoding: chunked\r\n")
        self._chunked = chunked
        self._answer = _Answer(bodiless=method == b"HEAD", may_switch=may_switch)
        await self._write(b"".join((method, b" ", target, b" HTTP/1.1\r\n", *lines, b"\r\n")))

    async def send_body(self, data: bytes) -> None:
        """Send a piece of the body; returns when the peer is ready for the next."""
        if data:
            await self._write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def send_end(self) -> None:
        """Say that the request is complete."""
        if self._chunked:
            await self._write(b"0\r\n\r\n")
        self._sent = True

    async def _write(self, data: bytes) -> None:
        try:
            self._streams.writer.write(data)
            async with asyncio.timeout(self._silence_s):
                await self._streams.writer.drain()
        except TimeoutError:
            raise AnswerTimeout(f"{self._peer} read nothing of the request for {self._silence_s:g} s.") from None
        except OSError as error:
            raise self._lost(error) from error

    async def head(self) -> Head:
        """The head of the answer; interim answers are passed over. Raises the errors of http1."""
        while self._answer.head is None:
            await self._read()
            if self._answer.head is None and self._answer.raw_bytes > HEADER_MAX_BYTES:
                raise BadAnswer(f"{self._peer} sent more than {HEADER_MAX_BYTES} bytes of headers.")
        return self._answer.head

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The body as it comes. Raises the errors of http1."""
        while True:
            pieces, self._answer.pieces = self._answer.pieces, []
            for piece in pieces:
                yield piece
            if self._answer.complete:
                return
            await self._read()

    async def read_raw(self) -> bytes:
        """After a switch of protocols: what the peer sent next; nothing when it has ended."""
        behind, self._answer.behind = self._answer.behind, b""
        if behind:
            return behind
        try:
            return await self._streams.reader.read(_PIECE_MAX_BYTES)
        except OSError:
            return b""

    async def write_raw(self, data: bytes) -> None:
        """After a switch of protocols: send it. Raises the errors of http1."""
        await self._write(data)

    async def end_raw(self) -> None:
        """After a switch of protocols: close once what was written is sent, or when the peer does not read."""
        self._streams.writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LAST_BYTES_S):
                await self._streams.writer.wait_closed()

    async def _read(self) -> None:
        while True:
            had_all = self._sent
            try:
                async with asyncio.timeout(self._silence_s):
                    data = await self._streams.reader.read(_PIECE_MAX_BYTES)
            except TimeoutError:
                if had_all:
                    raise AnswerTimeout(f"{self._peer} sent nothing for {self._silence_s:g} s.") from None
            except OSError as error:
                raise self._lost(error) from error
            else:
                self._take(data)
                return

    def _take(self, data: bytes) -> None:
        if not data:
            if self._answer.end_of_stream():
                return
            raise self._lost(None)
        self._answer.feed(data)
        if self._answer.refused:
            raise BadAnswer(f"{self._peer} {self._answer.refused}.")

    def _lost(self, cause: OSError | None) -> ConnectionLost:
        read = self._answer.raw_bytes
        why = f" ({cause})" if cause else ""
        return ConnectionLost(
            f"{self._peer} closed the connection before its answer was complete, after {read} bytes of it{why}.",
            reused=self._reused and not read,
        )

    def release(self) -> None:
        """Keep the connection for the next request if this one is complete on both sides; else close it."""
        if self._answer.complete and self._answer.reusable and self._sent:
            self._pool.give_back(self._streams)
        else:
            self._streams.drop()


class _Streams:
    """One connection and what is needed to know whether it still is one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sock: socket.socket) -> None:
        self.reader = reader
        self.writer = writer
        self.idle_since_s = 0.0
        self._sock = sock

    def is_quiet(self) -> bool:
        """Whether the connection is open and silent, asked of the system: the loop may not have looked yet."""
        if self.reader.at_eof() or self.writer.is_closing():
            return False
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def drop(self) -> None:
        """Close at once."""
        self.writer.transport.abort()


class StreamPool:
    """Keep-alive connections to one peer, each lent to one request at a time. Belongs to one event loop."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
        max_idle: int = 64,
    ) -> None:
        self.peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._host = host
        self._port = port
        self._tls = tls
        self._idle_timeout_s = idle_timeout_s
        self._max_idle = max_idle
        self._idle: list[_Streams] = []  # the longest idle first
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    async def lend(self, silence_s: float, *, connect_timeout_s: float = 5.0, fresh: bool = False) -> Upstream:
        """A connection for one request; `fresh`: not one that was used before. Raises ConnectFailed."""
        if self._closed:
            raise ConnectFailed(f"The connections to {self.peer} were closed.")
        while self._idle and not fresh:
            streams = self._idle.pop()
            if streams.is_quiet():
                return Upstream(self, streams, silence_s, reused=True)
            streams.drop()
        try:
            async with asyncio.timeout(connect_timeout_s):
                streams = await connected(self._host, self._port, self._wrap)
                return Upstream(self, streams, silence_s, reused=False)
        except TimeoutError:
            raise ConnectFailed(f"{self.peer} did not accept a connection within {connect_timeout_s:g} s.") from None
        except (OSError, UnicodeError) as error:
            raise ConnectFailed(f"Cannot connect to {self.peer}: {error}.") from error

    async def _wrap(self, sock: socket.socket) -> _Streams:
        reader, writer = await asyncio.open_connection(
            sock=sock,
            limit=_PIECE_MAX_BYTES,
            ssl=self._tls,
            server_hostname=self._host if self._tls else None,
        )
        return _Streams(reader, writer, sock)

    def give_back(self, streams: _Streams) -> None:
        """Take a connection back whose request is complete."""
        if self._closed or len(self._idle) >= self._max_idle:
            streams.drop()
            return
        loop = asyncio.get_running_loop()
        streams.idle_since_s = loop.time()
        self._idle.append(streams)
        if self._sweep is None:
            self._sweep = loop.call_later(self._idle_timeout_s, self._drop_idle)

    def close(self) -> None:
        """Close what is idle and refuse new requests; requests under way end by themselves. Idempotent."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        while self._idle:
            self._idle.pop().drop()

    def _drop_idle(self) -> None:
        self._sweep = None
        loop = asyncio.get_running_loop()
        too_old_s = loop.time() - self._idle_timeout_s
        while self._idle and self._idle[0].idle_since_s <= too_old_s:
            self._idle.pop(0).drop()
        if self._idle:
            self._sweep = loop.call_at(self._idle[0].idle_since_s + self._idle_timeout_s, self._drop_idle)
