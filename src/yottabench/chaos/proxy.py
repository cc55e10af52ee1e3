"""The proxy: two lanes a connection, each of which passes bytes on unless a fault has something else in mind."""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from yottabench.chaos.rules import ENDING, FINAL, Fault, Live, Rule, Rules, Towards

PIECE_BYTES = 64 * 1024  # read at a time
HELD_PIECES = 256  # that latency holds back before reading stops
SLOW_STEPS_PER_S = 20  # of a slow lane
LINGER_S = 1.0  # that both sides of a cut connection have to hang up too
BACKLOG = 1024

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_Late = tuple[float, bytes, list[Fault]]  # when a piece is due, the piece, what applied when it came


@attrs.frozen
class Time:
    """How time passes: seconds of a clock that never steps back, and a way to wait on it."""

    now_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@attrs.define
class Counts:
    """What passed so far."""

    connections: int = 0
    unreachable: int = 0
    bytes_to_target: int = 0
    bytes_to_client: int = 0


class ChaosProxy:
    """Listens, connects each client to the target, and lets the rules break it. Belongs to one event loop."""

    def __init__(self, host: str, port: int, rules: Rules, *, passing: Time | None = None) -> None:
        self.target = (host, port)
        self._time = passing or Time()
        self._server: asyncio.Server | None = None
        self._open: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.rules = rules
        self.counts = Counts()

    @property
    def open_connections(self) -> int:
        """How many there are now."""
        return len(self._open)

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; gives the address, for port 0 with the port that was free. Raises OSError."""
        self._server = await asyncio.start_server(self._accept, host, port, backlog=BACKLOG)
        name = self._server.sockets[0].getsockname()
        return name[0], name[1]

    def add(self, rule: Rule) -> Live:
        """Put a rule to work, on connections that are open too: from their next bytes on."""
        live = self.rules.add(rule)
        for connection in self._open:
            connection.get(self.rules.draw(live, connection.number))
        return live

    def remove(self, rule_id: str) -> bool:
        """Take a rule away, from open connections too; what was cut stays cut. False when there is none such."""
        for connection in self._open:
            connection.lose(rule_id)
        return self.rules.remove(rule_id)

    def stats(self) -> dict[str, Any]:
        """Counts, and what each rule did."""
        return {
            **attrs.asdict(self.counts),
            "open": len(self._open),
            "rules": [
                {"id": live.id, "rule": str(live.rule), "given": live.given, "struck": live.struck}
                for live in self.rules.live.values()
            ],
        }

    async def close(self) -> None:
        """Accept nothing more, and break off what is open."""
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._open):
            connection.reset()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counts.connections += 1
        connection = _Connection(self.counts, (reader, writer), self._time)
        for live in self.rules.live.values():
            connection.get(self.rules.draw(live, connection.number))
        task = asyncio.get_running_loop().create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: "_Connection") -> None:
        self._open.add(connection)
        try:
            await connection.run(*self.target)
        finally:
            connection.close()
            self._open.discard(connection)


class _Connection:
    """One client and its way to the target."""

    def __init__(self, counts: Counts, client: Stream, passing: Time) -> None:
        self.number = counts.connections
        self._counts = counts
        self._client = client
        self._readers = [client[0]]
        self._writers = [client[1]]
        self._lanes = {
            "target": _Lane(self, "target", passing, client[0]),
            "client": _Lane(self, "client", passing, None),
        }

    def get(self, faults: dict[Towards, Fault]) -> None:
        for direction, fault in faults.items():
            lane = self._lanes[direction]
            fault.at += lane.passed
            lane.faults.append(fault)

    def lose(self, rule_id: str) -> None:
        for lane in self._lanes.values():
            lane.faults = [fault for fault in lane.faults if fault.live.id != rule_id]

    async def run(self, host: str, port: int) -> None:
        lanes = self._lanes.values()
        at_birth = [each for lane in lanes for each in lane.faults if each.at == 0 and each.rule.kind in ENDING]
        if at_birth:  # before the target hears of it
            await self._end_by(at_birth[0])
            return
        try:
            reader, writer = await asyncio.open_connection(host, port)
        except OSError:
            self._counts.unreachable += 1
            self.reset()
            return
        self._writers.append(writer)
        self._readers.append(reader)
        to_target, to_client = self._lanes["target"], self._lanes["client"]
        to_client.reader = reader
        passing = [
            asyncio.ensure_future(to_target.run(writer)),
            asyncio.ensure_future(to_client.run(self._client[1])),
        ]
        struck: Fault | None = None
        try:
            await asyncio.gather(*passing)
        except OSError:  # a reset, or whatever else a network has to say
            self.reset()
        except Ended as ended:
            struck = ended.fault
        finally:
            for each in passing:
                each.cancel()
            await asyncio.gather(*passing, return_exceptions=True)
        if struck is not None:
            await self._end_by(struck)

    async def _end_by(self, fault: Fault) -> None:
        fault.strike()
        if fault.rule.kind == "cut":
            await self._hang_up()
        else:
            self.reset()

    async def _hang_up(self) -> None:
        # A socket that is closed with something unread is a reset; so what still comes is read, for a while.
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(LINGER_S):
                for writer in self._writers:
                    if writer.can_write_eof() and not writer.is_closing():
                        writer.write_eof()
                await asyncio.gather(*map(swallow, self._readers))

    def count(self, direction: str, size: int) -> None:
        if direction == "target":
            self._counts.bytes_to_target += size
        else:
            self._counts.bytes_to_client += size

    def end_if_dead(self) -> None:
        """Once nothing can pass in either direction, and one side has left, nobody needs it. Raises ConnectionError."""
        if all(lane.is_dead for lane in self._lanes.values()):
            raise ConnectionAbortedError

    def close(self) -> None:
        """An orderly end: what was written still arrives."""
        for writer in self._writers:
            writer.close()

    def reset(self) -> None:
        """Both sides see a reset, unless they were closed before."""
        for writer in self._writers:
            if writer.is_closing():
                continue
            connection = writer.get_extra_info("socket")
            if connection is not None:
                with contextlib.suppress(OSError):  # it is gone
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Ended(Exception):
    """A fault is to end the whole connection."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault.rule))
        self.fault = fault


async def swallow(reader: asyncio.StreamReader) -> None:
    """Read until the end, for nothing."""
    while await reader.read(PIECE_BYTES):
        pass


class _Lane:
    """One direction of one connection."""

    def __init__(
        self, connection: _Connection, direction: Towards, passing: Time, reader: asyncio.StreamReader | None
    ) -> None:
        self._connection = connection
        self._direction = direction
        self._time = passing
        self.reader = reader
        self.faults: list[Fault] = []
        self.passed = 0
        self._late: asyncio.Queue[_Late] | None = None
        self._last_due_s = 0.0
        self._delivering: asyncio.Task[None] | None = None

    async def run(self, writer: asyncio.StreamWriter) -> None:
        """Pass on until the sender ends, and then its end. Raises Ended, or ConnectionError."""
        assert self.reader is not None
        try:
            while data := await self.reader.read(PIECE_BYTES):
                if not await self._pass(data, writer):
                    await swallow(self.reader)
                    self._connection.end_if_dead()
                    return
            if self._final() is None:
                await self._delivered()
                if writer.can_write_eof() and not writer.is_closing():
                    writer.write_eof()
        finally:
            if self._delivering is not None:
                self._delivering.cancel()

    @property
    def is_dead(self) -> bool:
        """Whether nothing more will pass, though nobody is told."""
        final = self._final()
        return final is not None and final.rule.kind == "half-open"

    def _final(self) -> Fault | None:
        return next((each for each in self.faults if each.rule.kind in FINAL and each.at <= self.passed), None)

    async def _pass(self, data: bytes, writer: asyncio.StreamWriter) -> bool:
        while True:
            final = self._final()
            if final is not None:
                if final.rule.kind == "half-open":
                    final.strike()
                    return False
                await self._delivered()
                raise Ended(final)
            if not data:
                return True
            borders = [
                border
                for fault in self.faults
                for border in (fault.at, fault.at + fault.rule.size)
                if border > self.passed
            ]
            size = min([len(data), *(border - self.passed for border in borders)])
            piece, data = data[:size], data[size:]
            active = [fault for fault in self.faults if fault.at <= self.passed]
            self.passed += size
            self._connection.count(self._direction, size)
            await self._deliver(piece, active, writer)

    async def _deliver(self, piece: bytes, active: list[Fault], writer: asyncio.StreamWriter) -> None:
        delay_ms = 0.0
        for fault in active:
            rule = fault.rule
            if rule.kind == "garbage" and self.passed <= fault.at + rule.size:
                fault.strike()
                piece = fault.chance.randbytes(len(piece))
            elif rule.kind == "latency":
                fault.strike()
                delay_ms += max(0.0, rule.ms + fault.chance.uniform(-rule.jitter_ms, rule.jitter_ms))
        if delay_ms == 0 and self._late is None:
            await self._write(piece, active, writer)
            return
        if self._late is None:
            self._late = asyncio.Queue(HELD_PIECES)
            self._delivering = asyncio.ensure_future(self._deliver_late(self._late, writer))
        # Never before what was sent earlier: a stream keeps its order.
        self._last_due_s = max(self._last_due_s, self._time.now_s() + delay_ms / 1000)
        await self._late.put((self._last_due_s, piece, active))

    async def _deliver_late(self, late: "asyncio.Queue[_Late]", writer: asyncio.StreamWriter) -> None:
        while True:
            due_s, piece, active = await late.get()
            try:
                wait_s = due_s - self._time.now_s()
                if wait_s > 0:
                    await self._time.sleep(wait_s)
                await self._write(piece, active, writer)
            except OSError:  # a reset, or whatever else a network has to say
                self._connection.reset()
            finally:
                late.task_done()

    async def _delivered(self) -> None:
        if self._late is not None:
            await self._late.join()

    async def _write(self, piece: bytes, active: list[Fault], writer: asyncio.StreamWriter) -> None:
        slow = [fault for fault in active if fault.rule.kind == "slow"]
        if writer.is_closing():
            return
        if not slow:
            writer.write(piece)
            await writer.drain()
            return
        for fault in slow:
            fault.strike()
        rate = min(fault.rule.bytes_per_s for fault in slow)
        step = max(1, rate // SLOW_STEPS_PER_S)
        for at in range(0, len(piece), step):
            part = piece[at : at + step]
            writer.write(part)
            await writer.drain()
            await self._time.sleep(len(part) / rate)
