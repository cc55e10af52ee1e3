"""Passes bytes between clients and a target as they come; what reads along can neither change nor stop them."""

import asyncio
import contextlib
import ipaddress
import re
import ssl
from collections.abc import Callable, Generator
from typing import Self
from urllib.parse import urlsplit

import attrs

from yottabench.conformance.proxy.reading import HEAD_MAX_BYTES, Connection, NotHttp, Passed

PIECE_BYTES = 64 * 1024
CONNECT_TIMEOUT_S = 10.0
_HOST = re.compile(rb"(?im)^(host[ \t]*:[ \t]*)([^\r\n]*)")


@attrs.frozen
class Target:
    """Where the bytes go."""

    host: str
    port: int
    tls: bool

    @classmethod
    def of(cls, url: str) -> Self:
        """The target of an http or https URL without a path. Raises ValueError."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError(f"The target must be http(s)://HOST[:PORT] and nothing more, but is {url!r}.")
        return cls(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80), parts.scheme == "https")

    @property
    def authority(self) -> str:
        """As it stands in a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def named(self) -> bool:
        """Whether it is known by a name, which requests must carry, rather than by an address."""
        if self.host == "localhost":
            return False
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return True
        return False


class Tunnel:
    """Listens and connects each client to the target. Belongs to one event loop.

    Not a byte is changed, with one exception: a target with a name is told it in Host, unless `keep_host`.
    """

    def __init__(
        self,
        target: Target,
        passed: Callable[[Passed], None],
        unreadable: Callable[[str], None],
        *,
        now_s: Callable[[], float],
        keep_host: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._target = target
        self._passed = passed
        self._unreadable = unreadable
        self._now_s = now_s
        self._host = None if keep_host or not target.named else target.authority.encode()
        self._tls = (tls or ssl.create_default_context()) if target.tls else None
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> str:
        """Listen; returns the URL to give to clients. Raises OSError."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=PIECE_BYTES)
        name, number = self._server.sockets[0].getsockname()[:2]
        return f"http://[{name}]:{number}" if ":" in name else f"http://{name}:{number}"

    async def close(self) -> None:
        """Stop listening and hang up everywhere."""
        if self._server is not None:
            self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._join(from_client, to_client)
        except asyncio.CancelledError:
            pass  # close() is waiting, and asyncio would report it
        finally:
            self._open.discard(task)
            await _hang_up(to_client)

    async def _join(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        target = self._target
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                name = target.host if self._tls else None
                from_server, to_server = await asyncio.open_connection(
                    target.host, target.port, ssl=self._tls, server_hostname=name, limit=PIECE_BYTES
                )
        except (OSError, TimeoutError) as error:
            to_client.write(_unreachable(target, error))
            return
        tap = _Tap(Connection(self._passed, self._now_s), self._unreadable)
        edit = _HostLine(self._host, tap).edited if self._host else tap.client_said
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pass(from_client, to_server, edit))
                both.create_task(_pass(from_server, to_client, tap.server_said, at_end=tap.server_ended))
        except* OSError:
            pass  # one side hung up, so there is nobody to pass anything to
        finally:
            await _hang_up(to_server)


class _Tap:
    """Lets a connection be read along, until it cannot be."""

    def __init__(self, connection: Connection, unreadable: Callable[[str], None]) -> None:
        self._connection: Connection | None = connection
        self._unreadable = unreadable

    def client_said(self, data: bytes) -> bytes:
        """Read along; returns the same bytes."""
        self._read(data, client=True)
        return data

    def server_said(self, data: bytes) -> bytes:
        """Read along; returns the same bytes."""
        self._read(data, client=False)
        return data

    def server_ended(self) -> None:
        """The server says no more."""
        with self._reading() as connection:
            if connection is not None:
                connection.server_closed()

    def one_request(self, data: bytes) -> tuple[int, bool]:
        """Read bytes of at most one request: how many were left, and whether it has ended."""
        with self._reading() as connection:
            if connection is not None:
                return connection.from_client(data)
        return 0, False

    def _read(self, data: bytes, *, client: bool) -> None:
        with self._reading() as connection:
            while data and connection is not None:
                left, ended = (connection.from_client if client else connection.from_server)(data)
                data = data[len(data) - left :] if ended else b""

    @contextlib.contextmanager
    def _reading(self) -> Generator[Connection | None]:
        try:
            yield self._connection
        except NotHttp as error:
            self._connection = None
            self._unreadable(str(error))


class _HostLine:
    """Writes the target's name into Host at the beginning of each request, and nothing else anywhere."""

    def __init__(self, host: bytes, tap: _Tap) -> None:
        self._host = host
        self._tap = tap
        self._held = b""
        self._in_body = False

    def edited(self, data: bytes) -> bytes:
        """The bytes to send now; those of an unfinished head are held back."""
        self._held += data
        out = bytearray()
        while self._held:
            size = len(self._held) if self._in_body else self._head_bytes()
            if size is None:
                break
            piece, rest = self._held[:size], self._held[size:]
            left, ended = self._tap.one_request(piece)
            taken = len(piece) - left if ended else len(piece)
            out += piece[:taken] if self._in_body else self._named(piece)
            self._held = piece[taken:] + rest if self._in_body else rest
            self._in_body = not ended
        return bytes(out)

    def _head_bytes(self) -> int | None:
        end = self._held.find(b"\r\n\r\n")
        if end >= 0:
            return end + 4
        return len(self._held) if len(self._held) > HEAD_MAX_BYTES else None

    def _named(self, head: bytes) -> bytes:
        return _HOST.sub(lambda found: found[1] + self._host, head, count=1)


async def _pass(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    seen: Callable[[bytes], bytes],
    at_end: Callable[[], None] = lambda: None,
) -> None:
    while data := await reader.read(PIECE_BYTES):
        writer.write(seen(data))
        await writer.drain()
    at_end()
    if writer.can_write_eof():
        writer.write_eof()
    else:
        writer.close()  # TLS cannot be closed by halves


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, ssl.SSLError):
        await writer.wait_closed()


def _unreachable(target: Target, error: BaseException) -> bytes:
    text = f"yottabench proxy: {target.authority} cannot be reached ({error or type(error).__name__}).\n".encode()
    lines = (
        "HTTP/1.1 502 Bad Gateway",
        "Content-Type: text/plain",
        f"Content-Length: {len(text)}",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + text
