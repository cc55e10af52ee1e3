"""What the emulator says about itself under /_emulator/, apart from the documented API."""

import ipaddress
from typing import Any

from yottabench.emulator.codes import ApiError, Code
from yottabench.emulator.stats import Stats
from yottabench.emulator.store.writer import Writer
from yottabench.emulator.wire import Scope


class Control:
    """Answers live, ready and stats; to callers on this machine only."""

    def __init__(self, stats: Stats, writer: Writer) -> None:
        self._stats = stats
        self._writer = writer
        self.ready = False

    def __call__(self, scope: Scope) -> Any:
        """The `data` of the envelope; raises ApiError."""
        client = scope.get("client")
        if client is None or not ipaddress.ip_address(client[0]).is_loopback:
            raise ApiError(Code.NO_SUCH_PATH, "There is nothing here.")
        match scope["method"], scope["path"]:
            case "GET", "/_emulator/live":
                return True
            case "GET", "/_emulator/ready":
                if not self.ready:
                    raise ApiError(Code.SYSTEM_ERROR, "The server is starting. Try again.", http_status=503)
                return True
            case "GET", "/_emulator/stats":
                return {
                    **self._stats.counts,
                    "commits": self._writer.commits,
                    "commands": self._writer.commands,
                }
            case _:
                raise ApiError(
                    Code.NO_SUCH_PATH,
                    "There is no such path here. GET /_emulator/live, /_emulator/ready and /_emulator/stats are.",
                )
