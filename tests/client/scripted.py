"""A server on a real socket that does to each request what its script says, well-behaved or not."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

NO_LINGER = struct.pack("ii", 1, 0)  # closing a socket then resets its connection

Action = Callable[["Connection"], bool]
"""Deals with one request; whether the connection may be used again."""


class Connection:
    """One connection to a client, with the request that was just read from it."""

    def __init__(self, server: "ScriptedServer", stream: socket.socket) -> None:
        self.server = server
        self.stream = stream
        self.request = b""

    @property
    def line(self) -> tuple[str, str]:
        """Method and path."""
        method, path, _ = self.request.split(b"\r\n", 1)[0].decode().split(" ")
        return method, path

    @property
    def body(self) -> Any:
        """The body as JSON."""
        return json.loads(self.request.partition(b"\r\n\r\n")[2])


def answers(status: int, content: Any, headers: dict[str, str] | None = None) -> Action:
    """A whole answer; dicts become JSON."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()

    def act(connection: Connection) -> bool:
        head = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        connection.stream.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body)
        return True

    return act


def resets() -> Action:
    """The request is read, and then the connection reset."""

    def act(connection: Connection) -> bool:
        connection.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        return False

    return act


def resets_next() -> Action:
    """The request is read and the connection reset; the next connection is reset before anything is read from it."""

    def act(connection: Connection) -> bool:
        connection.server.unread_resets += 1
        return resets()(connection)

    return act


def closes(beginning: bytes = b"") -> Action:
    """The request is read, the beginning of an answer sent, and the connection closed."""

    def act(connection: Connection) -> bool:
        connection.stream.sendall(beginning)
        return False

    return act


def hangs() -> Action:
    """No answer until the end of the test."""

    def act(connection: Connection) -> bool:
        connection.server.over.wait(30)
        return False

    return act


def trickles(beginning: bytes, *, every_s: float) -> Action:
    """An answer whose end never comes, byte by byte."""

    def act(connection: Connection) -> bool:
        connection.stream.sendall(beginning)
        while not connection.server.over.wait(every_s):
            connection.stream.sendall(b"x")
        return False

    return act


def delays(seconds: float, action: Action) -> Action:
    """The same, later."""

    def act(connection: Connection) -> bool:
        connection.server.over.wait(seconds)
        return action(connection)

    return act


class ScriptedServer:
    """Takes requests on 127.0.0.1, as a context manager; one action for each, in the order in which they come."""

    def __init__(self, script: Sequence[Action], *, otherwise: Action | None = None) -> None:
        self.script = list(script)
        self.otherwise = otherwise or answers(500, b"the script is over")
        self.requests: list[bytes] = []
        self.connections = 0
        self.unread_resets = 0
        """So many of the next connections are reset before anything is read from them."""
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads: list[threading.Thread] = []
        self._streams: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for stream in self._streams:
                _shut(stream)
        for thread in self._threads:
            thread.join()

    def _start(self, run: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=run, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                if self.unread_resets > 0:
                    self.unread_resets -= 1
                    _reset(stream)
                    continue
                self._streams.append(stream)
            self._start(self._serve, stream)

    def _serve(self, stream: socket.socket) -> None:
        connection = Connection(self, stream)
        try:
            while self._read(connection):
                with self._lock:
                    self.requests.append(connection.request)
                    action = self.script.pop(0) if self.script else self.otherwise
                if not action(connection):
                    break
        except OSError:
            pass
        finally:
            with self._lock:
                self._streams.remove(stream)
                stream.close()

    def _read(self, connection: Connection) -> bool:
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.stream.recv(65536)
            if not more:
                return False
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        while len(body) < length:
            body += connection.stream.recv(65536)
        connection.request = head + b"\r\n\r\n" + body
        return True


def _reset(stream: socket.socket) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    stream.close()


def _shut(stream: socket.socket) -> None:
    try:
        stream.shutdown(socket.SHUT_RDWR)
    except OSError:
        time.sleep(0)
