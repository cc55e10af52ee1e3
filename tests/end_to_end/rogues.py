"""Peers that misbehave on purpose, as workers and as receivers, and a fault proxy before those that do not."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import attrs

from yottabench.chaos.proxy import ChaosProxy
from yottabench.chaos.rules import Rules, read_rule

OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"ok":true}'
MEGABYTE = b"x" * 1_000_000
CHUNK = b"f4240\r\n" + MEGABYTE + b"\r\n"

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _heard(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    await reader.readexactly(length)


def says(*pieces: bytes, end: str = "wait") -> Behaviour:
    """Hears a request, answers so, and then waits for another, closes, or resets."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await _heard(reader)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if end == "reset":
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            if end != "wait":
                return

    return behave


async def _closes_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    pass


async def _hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(65536):
        pass


async def _drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _heard(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


BEHAVIOURS: dict[str, Behaviour] = {
    "good": says(OK),
    "hangs": _hangs,
    "drips": _drips,
    "closes-at-once": _closes_at_once,
    "closes-unanswered": says(end="close"),
    "resets": says(end="reset"),
    "resets-in-the-middle": says(OK[:-5], end="reset"),
    "short": says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", end="close"),
    "long": says(b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"x"'),
    "two-lengths": says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}}"),
    "huge": says(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n", *[MEGABYTE] * 100),
    "endless": says(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"f4240\r\n" + MEGABYTE + b"\r\n"] * 100
    ),
    "many-headers": says(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 200_000 + b"Content-Length: 2\r\n\r\n{}"),
    "no-http": says(b"\x16\x03\x01 what would you like?\r\n\r\n"),
}


@attrs.define
class Rogues:
    """Everybody's port, by behaviour; and fault proxies before the good one, by name."""

    ports: dict[str, int]

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"


@contextlib.contextmanager
def rogues(**chaos: str) -> Iterator[Rogues]:
    """All of them on a thread of their own; `chaos` adds proxies before the good one, each with a rule."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="rogues")
    thread.start()
    proxies: list[ChaosProxy] = []
    servers: list[asyncio.Server] = []

    def on_loop(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(20)

    async def start() -> dict[str, int]:
        ports = {}
        for name, behaviour in BEHAVIOURS.items():
            server = await asyncio.start_server(_served(behaviour), "127.0.0.1", 0)
            servers.append(server)
            ports[name] = server.sockets[0].getsockname()[1]
        for name, rule in chaos.items():
            proxy = ChaosProxy("127.0.0.1", ports["good"], Rules(seed=1))
            proxy.add(read_rule(rule))
            _, ports[name] = await proxy.start("127.0.0.1", 0)
            proxies.append(proxy)
        return ports

    async def stop() -> None:
        for proxy in proxies:
            await proxy.close()
        for server in servers:
            server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    try:
        yield Rogues(on_loop(start()))
    finally:
        on_loop(stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _served(behaviour: Behaviour) -> Behaviour:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await behaviour(reader, writer)
        writer.close()

    return serve
