"""The HTTP server and the life of a simulated worker's process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from typing import cast

from httptools import HttpParserError, HttpRequestParser

from .images import Simulator
from .model import CLOSE, EXIT, HANG, Request, SettingError, Settings, json_bytes

_HEAD_MAX_BYTES = 64 * 1024
_BODY_MAX_BYTES = 64 * 1024 * 1024  # more than the emulator forwards; only a runaway caller meets it
_REASONS = {200: b"OK", 400: b"Bad Request", 404: b"Not Found", 500: b"Internal Server Error"}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def say(line: str) -> None:
    """Write one line of output at once: a line that waits in a buffer would die with the process."""
    data = line.replace("\r", "\\r").replace("\n", "\\n").encode(errors="replace") + b"\n"
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:
        os._exit(1)  # nobody reads any more: the server is gone


class Worker:
    """What the connections of one process share."""

    def __init__(self, simulator: Simulator, loop: asyncio.AbstractEventLoop) -> None:
        self.simulator = simulator
        self.loop = loop
        self.connections: set[Connection] = set()
        self.stopping = False
        self.stopped: asyncio.Future[None] = loop.create_future()

    def stop(self) -> None:
        """Take no more requests and end when those in hand are answered."""
        self.stopping = True
        for connection in list(self.connections):
            connection.close_if_idle()
        self.end_if_done()

    def end_if_done(self) -> None:
        """Let the process end once it was told to stop and nothing is left to answer."""
        if self.stopping and not self.connections and not self.stopped.done():
            self.stopped.set_result(None)


class Connection(asyncio.Protocol):
    """One connection of a caller: answers its requests one after the other."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._parser = HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: list[Request] = []
        self._execution: Execution | None = None
        self._unfinished_bytes = 0
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._task = self._attempt = "-"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._worker.connections.add(self)

    def data_received(self, data: bytes) -> None:
        self._unfinished_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            if self._execution is None:
                self.refuse(400, "This is not a request in HTTP/1.x.")
            else:
                self.close()
        else:
            if self._unfinished_bytes - self._body_bytes > _HEAD_MAX_BYTES:
                self.refuse(431, f"The headers are larger than {_HEAD_MAX_BYTES} bytes.")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._worker.connections.discard(self)
        if self._execution is not None:
            self._execution.abandon()
            self._execution = None
        self._worker.end_if_done()

    # What the parser calls.

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        size = len(name)
        if size == 9 and name.lower() == b"x-task-id":
            self._task = value.decode("latin-1")
        elif size == 14 and name.lower() == b"x-task-attempt":
            self._attempt = value.decode("latin-1")
        elif size == 6 and name.lower() == b"expect" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self._body.append(data)
        self._body_bytes += len(data)
        if self._body_bytes > _BODY_MAX_BYTES:
            self.refuse(413, f"The body is larger than {_BODY_MAX_BYTES} bytes.")

    def on_message_complete(self) -> None:
        path = self._url.partition(b"?")[0].decode("latin-1")
        request = Request(
            self._parser.get_method(),
            path,
            b"".join(self._body),
            self._task,
            self._attempt,
            keep_alive=self._parser.should_keep_alive(),
        )
        self._reset()
        self._unfinished_bytes = 0
        self._waiting.append(request)
        if self._execution is None:
            self._next()
        elif self._transport is not None:
            self._transport.pause_reading()

    # How requests are answered.

    def _next(self) -> None:
        if self._transport is None or not self._waiting:
            return
        request = self._waiting.pop(0)
        execution = self._execution = Execution(self, self._worker, request)
        execution.start()

    def done(self, *, keep: bool) -> None:
        """The execution under way is answered; go on with the connection or close it."""
        self._execution = None
        if self._transport is None:
            return
        if not keep or self._worker.stopping:
            self._transport.close()
        elif self._waiting:
            self._worker.loop.call_soon(self._next)
        elif not self._transport.is_reading():
            self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Send `data`, unless the caller has gone."""
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """Close without another word."""
        if self._transport is not None:
            self._transport.close()

    def close_if_idle(self) -> None:
        """Close unless a request is being executed."""
        if self._execution is None:
            self.close()

    def refuse(self, status: int, message: str) -> None:
        """Answer what cannot be read as a request, and close."""
        body = json_bytes({"error": message})
        head = b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        self.write(head % (status, _REASONS.get(status, b"Error"), len(body)) + body)
        self.close()


class Execution:
    """One request from its plan to its answer and its line in the log."""

    __slots__ = ("_connection", "_keep", "_plan", "_request", "_start_ms", "_started_s", "_timer", "_worker")

    def __init__(self, connection: Connection, worker: Worker, request: Request) -> None:
        self._connection = connection
        self._worker = worker
        self._request = request
        self._keep = request.keep_alive
        self._timer: asyncio.TimerHandle | None = None
        self._start_ms = _now_ms()
        self._started_s = 0.0
        self._plan = worker.simulator.plan(request)

    def start(self) -> None:
        """Begin; without a service time the answer is sent before this returns."""
        plan = self._plan
        if plan.say:
            say(plan.say)
        if plan.ending == HANG:
            return
        if plan.stream is not None and plan.ending not in {CLOSE, EXIT}:
            self._started_s = self._worker.loop.time()
            self._connection.write(self._head(b"Transfer-Encoding: chunked\r\nTrailer: X-Worker-End-Ms\r\n"))
            self._stream()
        elif plan.delay_s:
            self._timer = self._worker.loop.call_later(plan.delay_s, self._end)
        else:
            self._end()

    def abandon(self) -> None:
        """The caller has gone: stop, and say that nothing was answered."""
        if self._timer is not None:
            self._timer.cancel()
        self._record(0, _now_ms())

    def _end(self) -> None:
        plan = self._plan
        end_ms = _now_ms()
        if plan.ending == EXIT:
            self._record(0, end_ms)
            os._exit(plan.exit_code)
        if plan.ending == CLOSE:
            self._connection.close()
            return
        body = b"" if plan.status in {204, 304} else plan.body
        self._record(plan.status, end_ms)
        head = self._head(b"X-Worker-End-Ms: %d\r\nContent-Length: %d\r\n" % (end_ms, len(body)))
        self._connection.write(head + (b"" if self._request.method == b"HEAD" else body))
        self._connection.done(keep=self._keep)

    def _head(self, more: bytes) -> bytes:
        plan = self._plan
        return b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nX-Worker-Start-Ms: %d\r\n%b%b\r\n" % (
            plan.status,
            _REASONS.get(plan.status, b"Status"),
            plan.content_type,
            self._start_ms,
            more,
            b"" if self._keep and not self._worker.stopping else b"Connection: close\r\n",
        )

    def _stream(self) -> None:
        plan = self._plan
        assert plan.stream is not None
        passed_s = self._worker.loop.time() - self._started_s
        for share, data in plan.stream:
            due_s = share * plan.delay_s
            if due_s > passed_s:
                self._timer = self._worker.loop.call_later(due_s - passed_s, self._stream_on, data)
                return
            self._connection.write(b"%x\r\n%b\r\n" % (len(data), data))
        end_ms = _now_ms()
        self._record(plan.status, end_ms)
        self._connection.write(b"0\r\nX-Worker-End-Ms: %d\r\n\r\n" % end_ms)
        self._connection.done(keep=self._keep)

    def _stream_on(self, data: bytes) -> None:
        self._connection.write(b"%x\r\n%b\r\n" % (len(data), data))
        self._stream()

    def _record(self, status: int, end_ms: int) -> None:
        if self._plan.counted:
            request = self._request
            say(
                f"task={request.task} attempt={request.attempt} path={request.path} "
                f"status={status} start_ms={self._start_ms} end_ms={end_ms}"
            )


async def _serve(image: str, simulator: Simulator) -> None:
    loop = asyncio.get_running_loop()
    worker = Worker(simulator, loop)
    server = await loop.create_server(lambda: Connection(worker), "127.0.0.1", 0, backlog=1024)

    def stop() -> None:
        server.close()
        worker.stop()

    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_reader(0, _exit_with_the_server)
    port = server.sockets[0].getsockname()[1]
    say(f"listening on http://127.0.0.1:{port} image={image} pid={os.getpid()}")
    await worker.stopped


def _exit_with_the_server() -> None:
    # The server holds the other end of standard input and never writes: it is readable when the server is gone.
    if not os.read(0, 4096):
        os._exit(1)


def main() -> None:
    """Run one worker; its configuration is the first line of standard input, a JSON object."""
    config = cast("dict[str, object]", json.loads(sys.stdin.buffer.readline()))
    settings = Settings(cast("dict[str, str]", config["env"]))
    image = cast("str", config["image"])
    try:
        simulator = Simulator(image, settings, cast("int", config["seed"]))
        start_s = settings.number("SIM_START_MS", 0) / 1000
        exit_code = int(settings.number("SIM_START_EXIT", -1, maximum=255))
    except SettingError as error:
        say(str(error))
        sys.exit(2)
    time.sleep(start_s)
    if exit_code >= 0:
        say(f"exiting with code {exit_code} instead of listening, as SIM_START_EXIT asks for")
        sys.exit(exit_code)
    asyncio.run(_serve(image, simulator))
