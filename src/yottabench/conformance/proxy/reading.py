"""Reads HTTP messages from copies of the bytes that pass, and says where in the bytes they end."""

from collections import deque
from collections.abc import Callable

import attrs
import h11

from yottabench.conformance.exchange import BODY_MAX_BYTES, Answer, Request

HEAD_MAX_BYTES = 256 * 1024
_ENCODING = "latin-1"  # of header bytes: every byte is a letter, and none is lost


class NotHttp(Exception):
    """What passes is no HTTP/1.1, or has become another protocol; nothing more of this connection can be read."""


@attrs.frozen
class Passed:
    """A request and its answer as they passed; `at_s` is when the request's first line was seen."""

    at_s: float
    request: Request
    answer: Answer
    whole: bool
    """False when a body was larger than what is kept of it."""


@attrs.define
class _Message:
    head: h11.Request | h11.Response
    at_s: float
    body: bytearray = attrs.field(factory=bytearray)
    whole: bool = True

    def add(self, data: bytes) -> None:
        self.whole &= len(self.body) + len(data) <= BODY_MAX_BYTES
        if self.whole:
            self.body += data


class Connection:
    """One connection between client and server, followed in both directions; `passed` gets each exchange."""

    def __init__(self, passed: Callable[[Passed], None], now_s: Callable[[], float]) -> None:
        self._passed = passed
        self._now_s = now_s
        self._methods: deque[bytes] = deque()
        self._asked: deque[_Message] = deque()
        self._request: _Message | None = None
        self._answer: _Message | None = None
        self._from_client = _server_side()
        self._from_server: h11.Connection | None = None

    def from_client(self, data: bytes) -> tuple[int, bool]:
        """Read bytes of at most one request: how many were left, and whether it has ended. Raises NotHttp."""
        reader = self._from_client
        while True:
            event = _next(reader, data)
            data = b""
            match event:
                case h11.Request():
                    self._request = _Message(event, self._now_s())
                    self._methods.append(event.method)
                case h11.Data() if self._request is not None:
                    self._request.add(bytes(event.data))
                case h11.EndOfMessage() if self._request is not None:
                    self._asked.append(self._request)
                    self._request = None
                    self._from_client = _server_side()
                    return len(reader.trailing_data[0]), True
                case _:
                    return 0, False

    def from_server(self, data: bytes) -> tuple[int, bool]:
        """Read bytes of at most one answer: how many were left, and whether it has ended. Raises NotHttp."""
        reader = self._from_server = self._from_server or _client_side(self._methods)
        while True:
            event = _next(reader, data)
            data = b""
            match event:
                case h11.InformationalResponse(status_code=101):
                    raise NotHttp("the connection was switched to another protocol")
                case h11.InformationalResponse():
                    continue
                case h11.Response():
                    self._answer = _Message(event, self._now_s())
                case h11.Data() if self._answer is not None:
                    self._answer.add(bytes(event.data))
                case h11.EndOfMessage() if self._answer is not None:
                    self._end()
                    self._from_server = None
                    return len(reader.trailing_data[0]), True
                case _:
                    return 0, False

    def server_closed(self) -> None:
        """The server will say no more; an answer without a length ends with that. Raises NotHttp."""
        if self._from_server is not None:
            self._from_server.receive_data(b"")  # so h11 is told of an end
            self.from_server(b"")

    def _end(self) -> None:
        answer, self._answer = self._answer, None
        # An answer may come before the request has ended, as a refusal of a large body does.
        asked = self._asked.popleft() if self._asked else self._request
        assert answer is not None
        if asked is None or not isinstance(asked.head, h11.Request) or not isinstance(answer.head, h11.Response):
            return
        request = Request(
            asked.head.method.decode(_ENCODING),
            asked.head.target.decode(_ENCODING),
            _headers(asked.head),
            bytes(asked.body),
        )
        told = Answer(answer.head.status_code, _headers(answer.head), bytes(answer.body))
        self._passed(Passed(asked.at_s, request, told, asked.whole and answer.whole))


def _next(reader: h11.Connection, data: bytes) -> object:
    try:
        if data:
            reader.receive_data(data)
        return reader.next_event()
    except h11.RemoteProtocolError as error:
        raise NotHttp(str(error)) from None


def _server_side() -> h11.Connection:
    return h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX_BYTES)


def _client_side(methods: deque[bytes]) -> h11.Connection:
    """A reader of the next answer, whose form depends on the method that was asked with."""
    method = methods.popleft() if methods else b"GET"
    if method == b"CONNECT":
        raise NotHttp("the connection was made a tunnel")
    reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_MAX_BYTES)
    reader.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"-")]))
    reader.send(h11.EndOfMessage())
    return reader


def _headers(head: h11.Request | h11.Response) -> list[tuple[str, str]]:
    return [(name.decode(_ENCODING), value.decode(_ENCODING)) for name, value in head.headers.raw_items()]
