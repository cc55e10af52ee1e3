"""Takes what a connection brings, for so long: plainly, or under gevent without a new timer for each wait."""

import contextlib
import socket
import time
from typing import Any, Protocol

RECEIVE_BYTES = 65_536
_READABLE = 1


class Receiving(Protocol):
    """Brings the bytes of one answer after another; each has the same time from its `begin` on."""

    def begin(self) -> None:
        """An answer is expected."""
        ...

    def more(self) -> bytes:
        """Waits for bytes; none at the end of the stream. Raises TimeoutError once the time is over, and OSError."""
        ...

    def end(self) -> None:
        """The answer is there."""
        ...

    def close(self) -> None:
        """Gives back what it holds; the socket is the owner's."""
        ...


class PlainReceiving:
    """Of any socket, one with TLS as well."""

    def __init__(self, sock: socket.socket, timeout_s: float) -> None:
        self._sock = sock
        self._timeout_s = timeout_s
        self._deadline = 0.0

    def begin(self) -> None:
        """See Receiving."""
        self._deadline = time.monotonic() + self._timeout_s

    def more(self) -> bytes:
        """See Receiving."""
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._sock.settimeout(left_s)
        return self._sock.recv(RECEIVE_BYTES)

    def end(self) -> None:
        """See Receiving."""

    def close(self) -> None:
        """See Receiving."""


class GeventReceiving:
    """Of one of gevent's sockets, by its loop and the plain socket inside of it.

    gevent's own recv first tries in vain, as an answer is never there yet, and makes a timer object for each wait;
    together they cost half of what receiving takes.
    """

    def __init__(self, sock: Any, timeout_s: float) -> None:
        self._raw: Any = sock._sock
        self._hub: Any = sock.hub
        self._expired = False
        self._readable: Any = self._hub.loop.io(sock.fileno(), _READABLE)
        self._timer: Any = self._hub.loop.timer(timeout_s, repeat=timeout_s)

    def begin(self) -> None:
        """See Receiving."""
        self._timer.again(self._expire)

    def more(self) -> bytes:
        """See Receiving."""
        while True:
            self._hub.wait(self._readable)
            if self._expired:
                raise TimeoutError
            try:
                received: bytes = self._raw.recv(RECEIVE_BYTES)
            except BlockingIOError:
                continue  # woken for nothing
            return received

    def end(self) -> None:
        """See Receiving."""
        self._timer.stop()

    def close(self) -> None:
        """See Receiving."""
        self._timer.close()
        self._readable.close()

    def _expire(self) -> None:
        # The end of the stream wakes whoever waits for it.
        self._expired = True
        with contextlib.suppress(OSError):  # the other end was quicker
            self._raw.shutdown(socket.SHUT_RDWR)
