"""A light HTTP/1.1 client with the few methods that generated code calls: httptools parses, plain sockets carry.

Under Locust the sockets are gevent's, so each waiting request holds one greenlet. Errors are httpx's own, so that
callers cannot tell the two clients apart. Not here, since the API needs none of it: redirects, cookies, proxies,
HTTP/2, HEAD. Not retried, ever: whether a lost answer may be asked for again is the caller's to decide.
"""

import contextlib
import functools
import json as json_module
import re
import socket
import ssl
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httptools
import httpx
import orjson

from loadtest.receiving import GeventReceiving, PlainReceiving, Receiving

MAX_HEAD_BYTES = 262_144  # an answer whose headers go on beyond this is no API's answer
MAX_IDLE = 10_000  # as many open connections as a process may keep for later

_VISIBLE_PATH = re.compile(r"/[!-~]*")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t -~]*")
_LONG_NUMBER = re.compile(rb"[0-9]{20}")


class LightHeaders(Mapping[str, str]):
    """Answer headers, parsed only when somebody looks."""

    __slots__ = ("_parsed", "_raw")

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        self._raw = raw
        self._parsed: httpx.Headers | None = None

    def _headers(self) -> httpx.Headers:
        if self._parsed is None:
            # httptools leaves the optional space behind a value in place; it is no part of it.
            self._parsed = httpx.Headers([(name, value.strip(b" \t")) for name, value in self._raw])
        return self._parsed

    def __getitem__(self, name: str) -> str:
        return self._headers()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers())

    def __len__(self) -> int:
        return len(self._headers())

    def multi_items(self) -> list[tuple[str, str]]:
        """Every header as it came, repeated ones too."""
        return self._headers().multi_items()


class LightResponse:
    """A whole answer, as much of httpx.Response as generated code reads."""

    __slots__ = ("content", "headers", "status_code")

    def __init__(self, status_code: int, headers: LightHeaders, content: bytes) -> None:
        self.status_code = status_code
        self.headers = headers
        self.content = content

    def json(self) -> Any:
        """The body as JSON, read as the standard library reads it. Raises ValueError when it is none."""
        # orjson turns integers beyond 64 bits into floats and refuses what the standard library takes.
        if not _LONG_NUMBER.search(self.content):
            try:
                return orjson.loads(self.content)
            except orjson.JSONDecodeError:
                pass
        return json_module.loads(self.content)

    @property
    def text(self) -> str:
        """The body as text; bytes that are no UTF-8 are replaced."""
        return self.content.decode("utf-8", "replace")


class LightClient:
    """Requests to one server over kept-alive connections, one request at a time on each.

    Any number of greenlets or threads may call `request` at once; each takes an idle connection or opens its own.
    `timeout_s` bounds the sending of a request, and then the wait for the whole answer; `connect_timeout_s` the opening
    of a connection.
    """

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float = 30.0,
        connect_timeout_s: float = 10.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise ValueError(f"{base_url!r} is no base URL. Write http://HOST:PORT or https://HOST.")
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = (tls or httpx.create_ssl_context()) if parts.scheme == "https" else None
        self._closed = False
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._prefix = parts.path.rstrip("/")
        self._idle: deque[_Connection] = deque(maxlen=MAX_IDLE)
        fixed = {"Host": parts.netloc, "Accept": "*/*", "Accept-Encoding": "identity", **(headers or {})}
        self._head = " HTTP/1.1\r\n" + _header_block(fixed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the idle connections; those in use close when their exchange ends."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def request(
        self,
        method: str,
        url: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> LightResponse:
        """Sends one request and waits for the whole answer.

        Raises httpx.ConnectError, ConnectTimeout, ReadTimeout, WriteTimeout, ReadError, RemoteProtocolError,
        DecodingError, and ValueError for a request that must not be sent.
        """
        message = self._encode(method, url, json, params, headers)
        request = (method, url)
        connection = self._take()
        try:
            response = connection.exchange(message)
        except BaseException as error:
            connection.close()
            if isinstance(error, OSError):
                raise _as_httpx(error, connection.sending, request) from error
            raise
        if connection.reusable and not self._closed:
            self._idle.append(connection)
        else:
            connection.close()
        return response

    def _encode(
        self, method: str, url: str, json: Any, params: Mapping[str, Any] | None, headers: Mapping[str, str] | None
    ) -> bytes:
        verb = _VERBS.get(method)
        if verb is None:
            raise ValueError(f"The light client sends {', '.join(_VERBS)}, not {method!r}. Use httpx for it.")
        if not _VISIBLE_PATH.fullmatch(url):
            raise httpx.InvalidURL(f"{url!r} is no path of visible ASCII characters.")
        if params:
            url = f"{url}?{httpx.QueryParams(params)}"
        extra = _known_header_block(tuple(headers.items())) if headers else ""
        if json is None:
            length = "Content-Length: 0\r\n" if verb not in ("GET ", "DELETE ") else ""
            return f"{verb}{self._prefix}{url}{self._head}{extra}{length}\r\n".encode("ascii")
        body = encode_json(json)
        if not headers or "Content-Type" not in headers:
            extra += "Content-Type: application/json\r\n"
        return f"{verb}{self._prefix}{url}{self._head}{extra}Content-Length: {len(body)}\r\n\r\n".encode("ascii") + body

    def _take(self) -> "_Connection":
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if connection.alive():
                return connection
            connection.close()
        return self._connect()

    def _connect(self) -> "_Connection":
        try:
            sock = socket.create_connection((self._host, self._port), self._connect_timeout_s)
        except TimeoutError as error:
            raise httpx.ConnectTimeout(
                f"no connection to {self._host}:{self._port} in {self._connect_timeout_s:g} s"
            ) from error
        except OSError as error:
            raise httpx.ConnectError(f"no connection to {self._host}:{self._port}: {error}") from error
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_hostname=self._host)
        except TimeoutError as error:
            sock.close()
            raise httpx.ConnectTimeout(
                f"no TLS with {self._host}:{self._port} in {self._connect_timeout_s:g} s"
            ) from error
        except OSError as error:
            sock.close()
            raise httpx.ConnectError(f"no TLS with {self._host}:{self._port}: {error}") from error
        return _Connection(sock, self._timeout_s)


class _Connection:
    """One socket with its parser; the parser calls the on_ methods."""

    __slots__ = (
        "_answered",
        "_body",
        "_done",
        "_headers",
        "_parser",
        "_past_head",
        "_raw",
        "_receiving",
        "_status",
        "_timeout_s",
        "reusable",
        "sending",
        "sock",
    )

    def __init__(self, sock: socket.socket, timeout_s: float) -> None:
        self.sock = sock
        self._timeout_s = timeout_s
        # A socket of gevent's wraps a plain one that never waits: what need not wait costs a third there.
        self._raw: Any = None if isinstance(sock, ssl.SSLSocket) else getattr(sock, "_sock", None)
        self._receiving: Receiving = (
            PlainReceiving(sock, timeout_s) if self._raw is None else GeventReceiving(sock, timeout_s)
        )
        self.sending = False
        self.reusable = False
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._past_head = False
        self._done = False
        self._answered = False
        self._status = 0

    def close(self) -> None:
        self._receiving.close()
        self.sock.close()

    def alive(self) -> bool:
        """Whether an idle connection is still open and silent: the server may have closed it long ago."""
        tls = isinstance(self.sock, ssl.SSLSocket)
        try:
            if self._raw is not None:
                self._raw.recv(1, socket.MSG_PEEK)
            else:
                self.sock.settimeout(0)
                self.sock.recv(1, 0 if tls else socket.MSG_PEEK)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False

    def exchange(self, message: bytes) -> LightResponse:
        parser = self._parser
        self._headers, self._body = [], []
        self._past_head = self._done = self.reusable = self._answered = False
        self.sending = True
        try:
            self._send(message)
        except TimeoutError:
            raise
        except OSError:
            # A server that refuses early stops reading and closes; its answer may still be there to read.
            pass
        self.sending = False
        received = 0
        self._receiving.begin()
        while not self._done:
            data = self._receiving.more()
            if not data:
                self._end_of_stream()
                break
            self._answered = True
            received += len(data)
            if not self._past_head and received > MAX_HEAD_BYTES:
                raise httpx.RemoteProtocolError(f"more than {MAX_HEAD_BYTES} bytes of headers")
            try:
                parser.feed_data(data)
            except httptools.HttpParserError as error:
                # What follows a complete answer is not ours to judge; the connection is just not used again.
                if not self._done:
                    raise httpx.RemoteProtocolError(f"not HTTP: {error}") from error
                self.reusable = False
        self._receiving.end()
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        headers = LightHeaders(self._headers)
        for name, value in self._headers:
            if len(name) == 16 and name.lower() == b"content-encoding":
                body = _decode(body, value)
        return LightResponse(self._status, headers, body)

    def _send(self, message: bytes) -> None:
        sent = 0
        if self._raw is not None:
            with contextlib.suppress(BlockingIOError):
                sent = self._raw.send(message)
        if sent < len(message):
            self.sock.settimeout(self._timeout_s)
            self.sock.sendall(memoryview(message)[sent:])

    def _end_of_stream(self) -> None:
        names = {name.lower() for name, _ in self._headers}
        if not self._answered:
            raise httpx.RemoteProtocolError("the server closed the connection without an answer")
        if not self._past_head or b"content-length" in names or b"transfer-encoding" in names:
            raise httpx.RemoteProtocolError("the server closed the connection in the middle of its answer")
        self._done = True  # a body without a length ends with the connection
        self._status = self._parser.get_status_code()

    def on_message_begin(self) -> None:
        if self._done:
            self.reusable = False  # a second answer to one request: whose is it?

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._past_head:  # what comes after a chunked body is a trailer, which nobody here reads
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if not self._done:
            self._past_head = True

    def on_body(self, body: bytes) -> None:
        if not self._done:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._done:
            return
        if self._parser.get_status_code() < 200:
            self._headers, self._body, self._past_head = [], [], False  # an interim answer; the real one follows
            return
        self._done = True
        self._status = self._parser.get_status_code()
        self.reusable = self._parser.should_keep_alive()


def encode_json(value: Any) -> bytes:
    """The value as compact UTF-8 JSON. Raises ValueError or TypeError for what is no JSON, NaN among it."""
    try:
        data = orjson.dumps(value)
    except TypeError:
        data = b"null"
    if b"null" not in data:
        return data
    # orjson writes NaN as null and refuses integers beyond 64 bits; the standard library decides in both cases.
    return json_module.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


_VERBS = {verb.lower(): f"{verb} " for verb in ("GET", "POST", "PUT", "PATCH", "DELETE")}


@functools.lru_cache(maxsize=256)
def _known_header_block(items: tuple[tuple[str, str], ...]) -> str:
    # The same few headers come with every request.
    return _header_block(dict(items))


def _header_block(headers: Mapping[str, str]) -> str:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"The header {name!r} cannot be sent: names are tokens, values printable ASCII.")
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()])


def _as_httpx(error: OSError, sending: bool, request: tuple[str, str]) -> httpx.TransportError:
    what = f"{request[0].upper()} {request[1]}"
    if isinstance(error, TimeoutError):
        kind = httpx.WriteTimeout if sending else httpx.ReadTimeout
        return kind(f"{what}: no whole answer in time")
    return httpx.ReadError(f"{what}: {error}")


def _decode(body: bytes, encoding: bytes) -> bytes:
    """Undoes a content coding that was sent although none was asked for."""
    kind = encoding.strip().lower()
    if kind in (b"", b"identity"):
        return body
    if kind not in (b"gzip", b"x-gzip", b"deflate"):
        raise httpx.DecodingError(f"the answer is encoded as {kind!r}, which was not asked for")
    try:
        return zlib.decompress(body, wbits=47 if kind != b"deflate" else zlib.MAX_WBITS)
    except zlib.error as error:
        raise httpx.DecodingError(f"the answer's {kind.decode()} encoding is broken: {error}") from error
