"""uvicorn's HTTP protocol with what it lacks towards strangers: deadlines, header caps, errors in the envelope."""

import asyncio
import socket
import struct
from collections.abc import Collection
from typing import Any

import msgspec
from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from yottabench.emulator.codes import Code
from yottabench.emulator.limits import BODY_DEADLINE_S, HEADER_DEADLINE_S, HEADER_MAX_BYTES, HEADER_MAX_COUNT

_SWEEP_S = 0.5
_PIECE_MAX_BYTES = 64 * 1024
# Headers about how the request is sent, or what is to become of the connection.
OF_THE_CONNECTION = frozenset([b"connection", b"expect", b"transfer-encoding", b"upgrade"])


class Tunnel:
    """A connection whose client and its peer speak a protocol of their own from here on."""

    def __init__(self, reader: asyncio.StreamReader, protocol: "GuardedProtocol") -> None:
        self._reader = reader
        self._protocol = protocol

    async def read(self) -> bytes:
        """What the client sent next; nothing when it is gone."""
        return await self._reader.read(_PIECE_MAX_BYTES)

    async def write(self, data: bytes) -> None:
        """Send it; returns when the client is ready for more."""
        if not self._protocol.transport.is_closing():
            self._protocol.transport.write(data)
            await self._protocol.flow.drain()

    def close(self) -> None:
        """End the connection once what was written is sent."""
        self._protocol.transport.close()

    def abort(self) -> None:
        """End the connection now."""
        self._protocol.transport.abort()


class GuardedProtocol(HttpToolsProtocol):
    """One connection. `deadline_s` is the loop time at which what is under way must have arrived; None: nothing is.

    `idle_until_s` is when it is closed if no request comes; None: one is under way.
    """

    deadline_s: float | None = None
    idle_until_s: float | None = None
    _header_bytes = 0
    _content_length: bytes | None = None
    _is_plain = True  # its head says nothing of OF_THE_CONNECTION
    _behind_upgrade: asyncio.StreamReader | None = None  # what follows a request that asked for another protocol
    _tunnel: Tunnel | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] -- as uvicorn's own
        super().connection_made(transport)
        self.deadline_s = self.loop.time() + HEADER_DEADLINE_S

    def data_received(self, data: bytes) -> None:
        # After a refusal the rest of what was sent is of no interest, but may still come in.
        if self.transport.is_closing():
            return
        if self._behind_upgrade is not None:
            self._behind_upgrade.feed_data(data)
            return
        self.idle_until_s = None
        assert self.parser is not None
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._behind_upgrade = asyncio.StreamReader(_PIECE_MAX_BYTES, self.loop)
            self._behind_upgrade.set_transport(self.transport)
            self._behind_upgrade.feed_data(data[upgrade.args[0] :])
        except HttpParserError:
            self.send_400_response("")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._behind_upgrade is not None:
            self._behind_upgrade.feed_eof()
        # These refer back to the connection, which would stay in memory until somebody looks for garbage.
        self.scope = {}  # pyright: ignore[reportAttributeAccessIssue] -- no request comes after this
        self.cycle = None  # pyright: ignore[reportAttributeAccessIssue] -- as before the first request
        self.pipeline.clear()

    def shutdown(self) -> None:
        if self._tunnel is not None:
            self._tunnel.close()
        super().shutdown()

    def on_message_begin(self) -> None:
        self.deadline_s = self.loop.time() + HEADER_DEADLINE_S
        self._header_bytes = 0
        self._content_length = None
        self._is_plain = True
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_url(self, url: bytes) -> None:
        self._header_bytes += len(url)
        if self._header_bytes > HEADER_MAX_BYTES:
            raise _TooManyHeaders
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self.headers
        self._header_bytes += len(name) + len(value) + 4
        if self._header_bytes > HEADER_MAX_BYTES or len(headers) >= HEADER_MAX_COUNT:
            raise _TooManyHeaders
        name = name.lower()
        if name == b"content-length":
            self._content_length = value
        elif name in OF_THE_CONNECTION:
            self._is_plain = False
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
        headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.deadline_s = self.loop.time() + BODY_DEADLINE_S
        self._begin_cycle()

    def _begin_cycle(self) -> None:
        """Give the request to the application, now that its head is there."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()  # makes a scope, and forgets what has come in
        self.url, self.headers, self.expect_100_continue = url, headers, expects
        self.scope["headers"] = headers
        extensions: dict[str, Any] = {
            "yottabench.body_deadline": {"lift": self._lift_deadline},
            "yottabench.connection": {"reset": self._reset},
        }
        assert self.parser is not None
        asks_for_another = self.parser.should_upgrade()
        if asks_for_another:
            extensions["yottabench.tunnel"] = {"open": self._open_tunnel}
        self.scope["extensions"] = extensions
        super().on_headers_complete()
        if asks_for_another:
            self.cycle.keep_alive = False  # what follows is not read as HTTP, whatever the answer is

    def on_message_complete(self) -> None:
        self.deadline_s = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            # uvicorn sets a timer for each request; `sweep` looks at all connections now and then.
            self.idle_until_s = self.loop.time() + self.timeout_keep_alive

    def _open_tunnel(self, head: bytes) -> Tunnel:
        """Answer with `head` instead of what ASGI would send; the caller ends the connection."""
        assert self._behind_upgrade is not None
        self.transport.write(head)
        self._tunnel = Tunnel(self._behind_upgrade, self)
        return self._tunnel

    def _lift_deadline(self) -> None:
        self.deadline_s = None

    def _reset(self) -> None:
        if self.transport.is_closing():
            return
        # Without lingering the peer gets a reset rather than an orderly end.
        connection = self.transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        if self._header_bytes > HEADER_MAX_BYTES or len(self.headers or ()) >= HEADER_MAX_COUNT:
            self.refuse(
                431,
                f"More than {HEADER_MAX_COUNT} headers, or {HEADER_MAX_BYTES} bytes of them. Send fewer.",
            )
        else:
            self.refuse(400, "This is no valid HTTP/1.1 request. Look at its header lines and lengths.")

    def refuse(self, status: int, message: str) -> None:
        """Answer with a parameter error, unless an answer is under way, and close the connection."""
        if self.cycle is None or self.cycle.response_complete:  # pyright: ignore[reportUnnecessaryComparison] -- it is None before the first request
            body = msgspec.json.encode({"message": message, "code": int(Code.INVALID), "data": None})
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(b"".join((STATUS_LINE[status], head, body)))
        self.transport.close()


class _TooManyHeaders(Exception):
    pass


async def sweep(connections: Collection[Any]) -> None:
    """Look at all connections now and then, for ever: one look serves all, none costs a timer."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(_SWEEP_S)
        close_late(connections, loop.time())


def close_late(connections: Collection[Any], now_s: float) -> None:
    """Close connections whose request did not arrive in time, or that were idle for too long."""
    for connection in tuple(connections):
        if connection.deadline_s is not None and now_s > connection.deadline_s:
            connection.refuse(408, "The request did not arrive in time. Send it in one go.")
        elif connection.idle_until_s is not None and now_s > connection.idle_until_s:
            connection.transport.close()
