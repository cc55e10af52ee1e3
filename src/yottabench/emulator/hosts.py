"""Tells requests that were meant for this server from those that a web page made somebody's browser send."""

import ipaddress
import re
from collections.abc import Awaitable
from functools import lru_cache
from typing import Protocol

from yottabench.emulator.codes import ApiError, Code
from yottabench.emulator.wire import Receive, Scope, Send, send_error

_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:/@]*)(:[0-9]*)?")


class Application(Protocol):
    """An ASGI application."""

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """One connection event."""
        ...


class LocalNames:
    """The names under which a server on loopback is known: those of loopback, and `others` with what stands before."""

    def __init__(self, *others: str) -> None:
        self._names = tuple(name for name in map(_name, ("localhost", *others)) if name)
        self.has = lru_cache(maxsize=256)(self._has)

    def _has(self, authority: bytes) -> bool:
        """Whether `authority` (a name or address, perhaps with a port) is one of them."""
        name = _name(authority.decode("latin-1"))
        if any(name == known or name.endswith(f".{known}") for known in self._names):
            return True
        try:
            return ipaddress.ip_address(name.strip("[]")).is_loopback
        except ValueError:
            return False

    def has_origin(self, origin: bytes) -> bool:
        """Whether a page of this `Origin` is one of this server."""
        scheme, separator, authority = origin.partition(b"://")
        return bool(separator) and scheme in {b"http", b"https"} and self.has(authority)


def _name(authority: str) -> str:
    match = _AUTHORITY.fullmatch(authority.strip())
    return match[1].lower().rstrip(".") if match else ""


class HostCheck:
    """Stands before an application that listens on loopback only, and lets in what came under one of its names.

    A page on the internet can make its own name lead to 127.0.0.1 and then talk to what listens there (DNS rebinding),
    but the browser goes on to send that name as Host. A request without a Host comes from no browser.
    """

    def __init__(self, application: Application, names: LocalNames) -> None:
        self._application = application
        self._is_known = names.has

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """One connection event. What is let in is answered by the application's own coroutine, not by one around it."""
        if scope["type"] == "http":
            for name, value in scope["headers"]:
                if name == b"host" and not self._is_known(value):
                    return send_error(send, _WRONG_HOST)
        return self._application(scope, receive, send)


_WRONG_HOST = ApiError(
    Code.INVALID,
    "Nothing is served under this Host. Use localhost, 127.0.0.1, [::1] or a name that ends in .localhost.",
    http_status=421,
)
