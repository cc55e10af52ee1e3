"""The protocol of a connection that asks for an answer without ASGI before it asks the application."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from yottabench.emulator.guard import OF_THE_CONNECTION, GuardedProtocol
from yottabench.emulator.known_heads import KnownHeads
from yottabench.emulator.limits import BODY_DEADLINE_S

_BODY_MAX_BYTES = 64 * 1024  # of a request that is answered directly: it is held here, in the pieces that come in


class Direct(Protocol):
    """Answers some GETs and POSTs without ASGI."""

    def admits(self, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]) -> str | None:
        """Whose request it is, when by its head it may be one of them; None leaves it to the application."""
        ...

    def read(self, target: bytes, owner: str) -> bytes | None:
        """The answer to a GET, which is JSON and a success; None leaves it to the application."""
        ...

    def begin(self, target: bytes, owner: str, body: bytes, answer: Callable[[int, bytes], None]) -> bool:
        """Take up a POST, now whole, or leave it to the application (False).

        `answer` is called once, in a later turn of the loop, with the status and a body that is JSON.
        """
        ...


class _DirectCycle:
    """What uvicorn looks at of a request that is being answered, for those that are answered without ASGI."""

    __slots__ = ("awaited", "disconnected", "keep_alive", "message_event", "response_complete")

    def __init__(self) -> None:
        self.message_event = asyncio.Event()  # nobody waits for it

    def begin(self) -> None:
        self.awaited: asyncio.Future[None] | None = None  # by the server, when it ends
        self.disconnected = False
        self.keep_alive = True
        self.response_complete = False


class _CommonLines:
    """The header lines that all direct answers have, made anew only with the Date."""

    def __init__(self) -> None:
        self._of: object = None
        self._lines = b""

    def __call__(self, defaults: list[tuple[bytes, bytes]]) -> bytes:
        if defaults is not self._of:
            self._of = defaults
            self._lines = b"".join(b"%b: %b\r\n" % line for line in defaults) + b"content-type: application/json\r\n"
        return self._lines


_common_lines = _CommonLines()


class DirectProtocol(GuardedProtocol):
    """As it is, but for requests that `direct` takes: whole and plain ones, with nothing before them under way.

    `heads` spares the parser what it has read before; one for all connections.
    """

    _method = b""
    _owner: str | None = None  # of a request that `direct` may take
    _body = b""
    _direct_cycle: _DirectCycle | None = None
    _is_between = True  # the next byte is the first of a request
    _is_begun = False  # a request is

    def __init__(self, *, direct: Direct, heads: KnownHeads, **options: Any) -> None:
        super().__init__(**options)
        self._direct = direct
        self._heads = heads
        self._ended: list[tuple[str | None, int]] = []  # requests in this piece: the owner, the length of the body

    def data_received(self, data: bytes) -> None:
        if self._is_between and self._is_free() and not self.transport.is_closing() and self._takes_known(data):
            return
        begins = not self._is_begun
        self._ended.clear()
        super().data_received(data)
        self._is_between = begins and len(self._ended) == 1 and self._notes(data)

    def _takes_known(self, data: bytes) -> bool:
        known = self._heads.find(data)
        if known is None:
            return False
        self.deadline_s = self.idle_until_s = None
        return self._begin_direct(known.method, known.target, known.owner, known.body)

    def _notes(self, data: bytes) -> bool:
        ((owner, body_bytes),) = self._ended
        return owner is not None and self._heads.note(data, owner, body_bytes)

    def on_message_begin(self) -> None:
        self._is_begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        owner = self._owner = self._owner_if_direct()
        if owner is None:
            super().on_headers_complete()
        else:
            self.deadline_s = self.loop.time() + BODY_DEADLINE_S

    def _is_free(self) -> bool:
        cycle = self.cycle
        return (cycle is None or cycle.response_complete) and not self.flow.write_paused  # pyright: ignore[reportUnnecessaryComparison] -- it is None before the first request

    def _owner_if_direct(self) -> str | None:
        parser, length = self.parser, self._content_length
        assert parser is not None
        if not self._is_free():
            return None
        method = self._method = parser.get_method()
        if not (
            (method == b"POST" and length is not None and int(length) <= _BODY_MAX_BYTES)
            or (method == b"GET" and length is None)
        ):
            return None
        if not parser.should_keep_alive() or not (self._is_plain or self._is_as_plain()):
            return None
        return self._direct.admits(method, self.url, self.headers)

    def _is_as_plain(self) -> bool:
        """Whether what was said about the connection is what goes without saying, as some clients do say it."""
        said = [(name, value.lower()) for name, value in self.headers if name in OF_THE_CONNECTION]
        assert self.parser is not None
        return said == [(b"connection", b"keep-alive")] and self.parser.get_http_version() == "1.1"

    def on_body(self, body: bytes) -> None:
        if self._owner is None:
            super().on_body(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        owner, body = self._owner, self._body
        self._owner, self._body = None, b""
        self._is_begun = False
        self._ended.append((owner, len(body)))
        if owner is not None:
            self.deadline_s = None
            if self._begin_direct(self._method, self.url, owner, body):
                return
            self._begin_cycle()
            self.cycle.body += body
        super().on_message_complete()

    def _begin_direct(self, method: bytes, target: bytes, owner: str, body: bytes) -> bool:
        if method == b"GET":
            read = self._direct.read(target, owner)
            if read is not None:
                self._write_direct(200, read, keep_alive=True)
            return read is not None
        if not self._direct.begin(target, owner, body, self._answer_direct):
            return False
        cycle = self._direct_cycle = self._direct_cycle or _DirectCycle()
        cycle.begin()
        self.cycle = cycle  # pyright: ignore[reportAttributeAccessIssue] -- it has what is looked at
        return True

    def shutdown(self) -> None:
        super().shutdown()
        cycle = self._direct_cycle
        if cycle is not None and not cycle.response_complete:
            cycle.awaited = self.loop.create_future()
            self.tasks.add(cycle.awaited)  # pyright: ignore[reportArgumentType] -- it is only waited for, or cancelled
            cycle.awaited.add_done_callback(self._is_awaited_no_more)

    def _is_awaited_no_more(self, awaited: "asyncio.Future[None]") -> None:
        self.tasks.discard(awaited)  # pyright: ignore[reportArgumentType] -- as above
        if awaited.cancelled():
            self.transport.abort()

    def _answer_direct(self, status: int, body: bytes) -> None:
        cycle = self._direct_cycle
        assert cycle is not None
        if cycle.awaited is not None and not cycle.awaited.done():
            cycle.awaited.set_result(None)
        if cycle.disconnected or self.transport.is_closing():
            return
        cycle.response_complete = True
        self._write_direct(status, body, keep_alive=cycle.keep_alive)

    def _write_direct(self, status: int, body: bytes, *, keep_alive: bool) -> None:
        common = _common_lines(self.server_state.default_headers)
        connection = b"" if keep_alive else b"connection: close\r\n"
        self.transport.write(
            b"%b%bcontent-length: %d\r\n%b\r\n%b" % (STATUS_LINE[status], common, len(body), connection, body)
        )
        if not keep_alive:
            self.transport.close()
        self.on_response_complete()
