"""What passes the gateway after client and worker have switched to another protocol, such as WebSocket."""

import asyncio
from collections.abc import Awaitable, Callable

from yottabench.emulator import http1
from yottabench.emulator.guard import Tunnel
from yottabench.emulator.http1_stream import Upstream

Headers = list[tuple[bytes, bytes]]
_OF_A_SWITCH = frozenset([b"connection", b"upgrade"])


def asked_protocol(headers: Headers) -> bytes | None:
    """The protocol that a request asks to switch to, if it is one that the gateway passes on: WebSocket."""
    wanted = [value.strip().lower() for name, value in headers if name == b"upgrade"]
    asked = any(
        b"upgrade" in [token.strip().lower() for token in value.split(b",")]
        for name, value in headers
        if name == b"connection"
    )
    return wanted[0] if asked and wanted == [b"websocket"] else None


def switch_head(headers: Headers) -> bytes:
    """The head of the answer that says so, with what the worker said besides."""
    said = [(name.lower(), value) for name, value in headers if name.lower() not in _OF_A_SWITCH]
    lines = [b"%b: %b\r\n" % line for line in (*said, (b"connection", b"Upgrade"), (b"upgrade", b"websocket"))]
    return b"".join((b"HTTP/1.1 101 Switching Protocols\r\n", *lines, b"\r\n"))


async def pass_both_ways(tunnel: Tunnel, upstream: Upstream, silence_s: float) -> None:
    """Copy until one side ends, or both are silent for `silence_s`; then both are closed, with what was on its way."""
    loop = asyncio.get_running_loop()
    heard_s = loop.time()

    async def pump(read: Callable[[], Awaitable[bytes]], write: Callable[[bytes], Awaitable[None]]) -> None:
        nonlocal heard_s
        while data := await read():
            heard_s = loop.time()
            await write(data)

    ways = [
        asyncio.create_task(pump(tunnel.read, upstream.write_raw)),
        asyncio.create_task(pump(upstream.read_raw, tunnel.write)),
    ]
    try:
        left_s = silence_s
        while left_s > 0:
            ended, _ = await asyncio.wait(ways, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            left_s = 0.0 if ended else heard_s + silence_s - loop.time()
    finally:
        for way in ways:
            way.cancel()
        for result in await asyncio.gather(*ways, return_exceptions=True):
            if isinstance(result, Exception) and not isinstance(result, http1.Http1Error | OSError):
                raise result
        tunnel.close()
        await upstream.end_raw()
