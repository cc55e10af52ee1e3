"""uvicorn's HTTP protocol with what it lacks towards strangers: deadlines, header caps, errors in the envelope."""

import asyncio
import socket
import struct
from collections.abc import Collection
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from yottabench.emulator.codes import Code
from yottabench.emulator.limits import BODY_DEADLINE_S, HEADER_DEADLINE_S, HEADER_MAX_BYTES, HEADER_MAX_COUNT

_SWEEP_S = 0.5


class GuardedProtocol(HttpToolsProtocol):
    """One connection. `deadline_s` is the loop time at which what is under way must have arrived; None: nothing is."""

    deadline_s: float | None = None
    _header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] -- as uvicorn's own
        super().connection_made(transport)
        self.deadline_s = self.loop.time() + HEADER_DEADLINE_S

    def data_received(self, data: bytes) -> None:
        # After a refusal the rest of what was sent is of no interest, but may still come in.
        if not self.transport.is_closing():
            super().data_received(data)

    def on_message_begin(self) -> None:
        self.deadline_s = self.loop.time() + HEADER_DEADLINE_S
        self._header_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        if len(self.headers) >= HEADER_MAX_COUNT:
            raise _TooManyHeaders
        super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > HEADER_MAX_BYTES:
            raise _TooManyHeaders

    def on_headers_complete(self) -> None:
        self.deadline_s = self.loop.time() + BODY_DEADLINE_S
        self.scope["extensions"] = {
            "yottabench.body_deadline": {"lift": self._lift_deadline},
            "yottabench.connection": {"reset": self._reset},
        }
        super().on_headers_complete()

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

    def on_message_complete(self) -> None:
        self.deadline_s = None
        super().on_message_complete()

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
    """Close, for ever, connections whose request did not arrive in time. One look serves all: none costs a timer."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(_SWEEP_S)
        now_s = loop.time()
        for connection in tuple(connections):
            if connection.deadline_s is not None and now_s > connection.deadline_s:
                connection.refuse(408, "The request did not arrive in time. Send it in one go.")
