"""A server that answers with given bytes, whatever it is asked: what a client meets on a bad day, on purpose."""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import attrs

CLOSE, RESET, HOLD = "close", "reset", "hold"


@attrs.frozen
class Turn:
    """What is sent after one request, in pieces, and what happens to the connection then ("" keeps it open).

    Nothing is sent before the server has got `after` requests in all.
    """

    pieces: Sequence[bytes] = ()
    then: str = ""
    after: int = 0


class ScriptedServer:
    """Plays one turn per request; the requests it got are in `requests`, as (connection number, bytes).

    With `tls` it speaks TLS; `handshakes_failed` counts the clients that would not.
    """

    def __init__(self, turns: Sequence[Turn], tls: ssl.SSLContext | None = None) -> None:
        self._turns = list(turns)
        self._tls = tls
        self.handshakes_failed = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.requests: list[tuple[int, bytes]] = []
        self.connections = 0
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            connection.settimeout(10)
            try:
                connection = self._tls.wrap_socket(connection, server_side=True)
            except OSError:
                self.handshakes_failed += 1
                return
        connection.settimeout(0.05)
        with connection, contextlib.suppress(OSError):
            while (request := self._read(connection)) is not None:
                with self._lock:
                    self.requests.append((number, request))
                    turn = self._turns.pop(0) if self._turns else Turn(then=CLOSE)
                while len(self.requests) < turn.after and not self._stop.wait(0.002):
                    pass
                for piece in turn.pieces:
                    connection.sendall(piece)
                    self._stop.wait(0.002)
                if turn.then == HOLD:
                    self._stop.wait(10)
                if turn.then == RESET:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if turn.then:
                    return

    def _read(self, connection: socket.socket) -> bytes | None:
        data = b""
        while not self._stop.is_set():
            head, end, body = data.partition(b"\r\n\r\n")
            if end:
                length = 0
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                if len(body) >= length:
                    return data
            try:
                more = connection.recv(65536)
            except TimeoutError:
                continue
            if not more:
                return None
            data += more
        return None
