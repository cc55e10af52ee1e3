"""When a worker counts as ready: what is looked at, for how long, and what is said when it never is."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Literal

import attrs

from yottabench.emulator import http1
from yottabench.emulator.drivers.base import WorkerSpec, WorkerStartError

Check = Literal["auto", "tcp", "http", "log", "none"]

DEFAULT_TIMEOUT_S = 600.0  # a model of some tens of GB is loaded by then; the vendor speaks of 3 to 8 minutes
_FIRST_PAUSE_S = 0.02
_PAUSE_MAX_S = 0.5
_PROBE_TIMEOUT_S = 2.0
_PROBE_ANSWER_MAX_BYTES = 1024 * 1024
# Answers below this show that a server is there: `/` may well be 404 or 401. A path that was named must be 2xx or 3xx.
_ANY_ANSWER_BELOW = 500
_GOOD_ANSWER_BELOW = 400


@attrs.frozen
class Readiness:
    """What shows that a worker is ready.

    `auto`: what the endpoint's `expose` asks for: any answer below 500 on an http port, a connection on another one,
    and without `expose` nothing. `port` overrides the port that is looked at.
    """

    check: Check = "auto"
    path: str = "/"
    line: re.Pattern[str] | None = None
    port: int | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S

    def settled(self, spec: WorkerSpec, default_port: int | None) -> Settled:
        """What is looked at for this worker. Raises WorkerStartError when there is no port to look at."""
        port = self.port or spec.port or default_port
        check, below = self.check, _GOOD_ANSWER_BELOW
        if check == "auto":
            protocol = (spec.protocol or "tcp").lower()
            check = "none" if port is None else "http" if protocol in {"http", "https"} else "tcp"
            below = _ANY_ANSWER_BELOW
        if check in {"tcp", "http"} and port is None:
            raise WorkerStartError(
                f"No port says whether a worker of image {spec.image} is ready. Create the endpoint with expose, or"
                " give the image a port in the images file."
            )
        return Settled(check, self.path, port, below, self.timeout_s)


@attrs.frozen
class Settled:
    """A readiness check of one worker, nothing left open."""

    check: Check
    path: str
    port: int | None
    below: int
    timeout_s: float

    @property
    def what(self) -> str:
        """The check in words, to stand behind "the worker did not"."""
        match self.check:
            case "http":
                return f"answer GET {self.path} on port {self.port}"
            case "tcp":
                return f"accept a connection on port {self.port}"
            case _:
                return "write the line that shows it is ready"

    async def missing(self, address: tuple[str, int], tls: ssl.SSLContext | None = None) -> str | None:
        """Look once, with a timeout of its own: None when it is ready, else what was found instead."""
        pool = http1.Http1Pool(*address, tls=tls, max_idle=0)
        try:
            if self.check == "http":
                answer = await pool.request(
                    b"GET",
                    self.path.encode(),
                    b"User-Agent: yottabench\r\n",
                    b"",
                    timeout_s=_PROBE_TIMEOUT_S,
                    connect_timeout_s=_PROBE_TIMEOUT_S,
                    max_body_bytes=_PROBE_ANSWER_MAX_BYTES,
                )
                return None if answer.status < self.below else f"it answered with status {answer.status}"
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                await http1.connected(*address, _close)
        except http1.AnswerTooLarge:
            return None
        except http1.Http1Error as error:
            return str(error).rstrip(".")
        except (TimeoutError, OSError) as error:
            return str(error) or "no connection in time"
        finally:
            pool.close()
        return None


async def _close(sock: socket.socket) -> None:
    sock.close()


async def wait_until_ready(
    missing: Callable[[], Awaitable[str | None]], exited: asyncio.Future[str], timeout_s: float, what: str
) -> None:
    """Ask `missing` until it is None. Raises WorkerStartError when the worker is gone first, or time is over."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + timeout_s
    pause_s = _FIRST_PAUSE_S
    while True:
        found = await missing()
        if exited.done():
            raise WorkerStartError(f"The worker {exited.result()} before it was ready.")
        if found is None:
            return
        left_s = until_s - loop.time()
        if left_s <= 0:
            raise WorkerStartError(f"The worker did not {what} within {timeout_s:g} s; the last time: {found}.")
        await asyncio.wait([exited], timeout=min(pause_s, left_s))
        pause_s = min(2 * pause_s, _PAUSE_MAX_S)
