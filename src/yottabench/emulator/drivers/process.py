"""Workers that are processes on this machine: their output, their end, and how they are stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Self, cast

from yottabench.emulator.drivers.base import LogLine, WorkerStartError

_LINE_MAX_BYTES = 16 * 1024  # a longer line is cut: a worker that never ends its line must not fill our memory
_LINES_PER_READ_MAX = 2_000  # more than any real worker writes in one pause; a flood of empty lines stops here
# Output is read at most so often. It saves a wake-up per line, and a worker that floods is held back by its full pipe.
_READ_PAUSE_S = 0.02
# Output of a process that has ended is waited for this long: a child of its own may hold the pipe open for ever.
_LAST_OUTPUT_S = 1.0


class LineSplitter:
    """Turns pieces of output into lines, holding at most one line of at most `_LINE_MAX_BYTES`."""

    def __init__(self) -> None:
        self._rest = b""
        self._cutting = False

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes; an overlong one comes at once, cut and marked so."""
        *ended, rest = data.split(b"\n")
        lines: list[str] = []
        for piece in ended[:_LINES_PER_READ_MAX]:
            whole, self._rest = self._rest + piece, b""
            if not self._cutting:
                lines.append(_text(whole))
            self._cutting = False
        if len(ended) > _LINES_PER_READ_MAX:
            lines.append(f"[{len(ended) - _LINES_PER_READ_MAX} lines dropped: more at once than can be kept]")
            self._cutting = False
        if not self._cutting:
            self._rest += rest
            if len(self._rest) > _LINE_MAX_BYTES:
                lines.append(_text(self._rest))
                self._rest, self._cutting = b"", True
        return lines

    def end(self) -> list[str]:
        """What was left without a line end."""
        rest, self._rest = self._rest, b""
        return [_text(rest)] if rest else []


def _text(line: bytes) -> str:
    if len(line) > _LINE_MAX_BYTES:
        return line[:_LINE_MAX_BYTES].decode(errors="replace") + " [cut]"
    return line.removesuffix(b"\r").decode(errors="replace")


class WorkerProcess(asyncio.SubprocessProtocol):
    """A worker's process; the part of `RunningWorker` that does not depend on what runs in it.

    Standard output and error are one stream of lines for `log`. Standard input stays open until the worker is gone,
    so that a worker can tell from its end that this process has died, even by kill -9.
    """

    def __init__(self, log: LogLine) -> None:
        self._loop = asyncio.get_running_loop()
        self._log = log
        self._lines = LineSplitter()
        self._transport: asyncio.SubprocessTransport | None = None
        self._stop_asked = False
        self.exited: asyncio.Future[str] = self._loop.create_future()
        self.last_line = ""

    async def spawn(self, argv: Sequence[str], env: Mapping[str, str]) -> Self:
        """Start the process in a session of its own, out of reach of the terminal's Ctrl-C."""
        try:
            await self._loop.subprocess_exec(
                lambda: self,
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=dict(env),
                start_new_session=True,
            )
        except OSError as error:
            raise WorkerStartError(f"The process {argv[0]} could not be started: {error}.") from error
        return self

    @property
    def pid(self) -> int | None:
        """The process id, also after its end."""
        return None if self._transport is None else self._transport.get_pid()

    def write_input(self, data: bytes) -> None:
        """Write to the process's standard input; lost when it is gone."""
        if self._transport is not None:
            pipe = cast("asyncio.WriteTransport | None", self._transport.get_pipe_transport(0))
            if pipe is not None:
                pipe.write(data)

    def heard(self, line: str) -> None:
        """Take one line of output."""
        self.last_line = line
        self._log(line)

    async def stop(self, grace_s: float) -> None:
        """See RunningWorker."""
        if not self.exited.done():
            self._stop_asked = True
            self._signal(signal.SIGTERM)
            await asyncio.wait([self.exited], timeout=grace_s)
            self.kill()
            await asyncio.wait([self.exited])

    def kill(self) -> None:
        """See RunningWorker."""
        if not self.exited.done():
            self._stop_asked = True
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        # Not by the transport: asyncio's polls the process first, which may take the exit code away from its watcher.
        if self._transport is not None and self._transport.get_returncode() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._transport.get_pid(), number)

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        for line in self._lines.feed(data):
            self.heard(line)
        pipe = self._output_pipe()
        if pipe is not None:
            pipe.pause_reading()
            self._loop.call_later(_READ_PAUSE_S, self._read_on)

    def process_exited(self) -> None:
        self._loop.call_later(_LAST_OUTPUT_S, self._settle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._settle()

    def _output_pipe(self) -> asyncio.ReadTransport | None:
        if self._transport is None:
            return None
        pipe = cast("asyncio.ReadTransport | None", self._transport.get_pipe_transport(1))
        return None if pipe is None or pipe.is_closing() else pipe

    def _read_on(self) -> None:
        pipe = self._output_pipe()
        if pipe is not None:
            pipe.resume_reading()

    def _settle(self) -> None:
        if self.exited.done() or self._transport is None:
            return
        for line in self._lines.end():
            self.heard(line)
        self.exited.set_result(self._reason(self._transport.get_returncode()))
        self._transport.close()

    def _reason(self, code: int | None) -> str:
        if code is None:
            how = "ended without an exit code"
        elif code >= 0:
            how = f"exited with code {code}"
        else:
            how = f"was ended by signal {signal.Signals(-code).name}"
        return f"{how}, as asked" if self._stop_asked else how
