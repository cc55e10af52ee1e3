"""Where workers of this machine listen: each on a loopback address of its own, so that ports can be kept literally."""

from __future__ import annotations

import errno
import random
import socket
from typing import Self

# A datagram socket on this port of an address marks it as taken. It keeps other servers of this machine away, ends
# with this process however that ends, and is in no worker's way: they listen on stream sockets.
_MARK_PORT = 29_127
_TRIES = 64


class OwnAddress:
    """An address 127.x.y.z that no other worker on this machine has. `release` it when the worker is gone."""

    def __init__(self, host: str, mark: socket.socket) -> None:
        self.host = host
        self._mark = mark

    @classmethod
    def reserve(cls, chance: random.Random) -> Self | None:
        """A free address, or None where this system has none besides 127.0.0.1 (macOS, unless they were set up)."""
        for _ in range(_TRIES):
            # 127.0.x.y is left to others: resolvers and such live there.
            host = f"127.{chance.randint(1, 254)}.{chance.randint(0, 255)}.{chance.randint(1, 254)}"
            mark = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                mark.bind((host, _MARK_PORT))
            except OSError as error:
                mark.close()
                if error.errno != errno.EADDRINUSE:
                    return None
            else:
                return cls(host, mark)
        return None

    def release(self) -> None:
        """Give it back. Idempotent."""
        self._mark.close()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on; another may take it before it is used, as ever with these."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
