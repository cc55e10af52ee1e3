"""Who may use the control surface."""

import hmac
import ipaddress

from yottabench.emulator.codes import ApiError, Code
from yottabench.emulator.hosts import LocalNames
from yottabench.emulator.wire import Scope


class Access:
    """With a key: whoever sends it. Without: callers on this machine, unless a web page sent them."""

    def __init__(self, key: str | None, names: LocalNames) -> None:
        self._key = None if key is None else key.encode("latin-1")
        self._names = names

    def check(self, scope: Scope) -> None:
        """Raises ApiError when this caller may not."""
        sent = {name: value for name, value in scope["headers"] if name in {b"x-control-key", b"origin"}}
        if self._key is not None:
            if not hmac.compare_digest(sent.get(b"x-control-key", b"").strip(), self._key):
                raise ApiError(
                    Code.UNAUTHENTICATED,
                    "The control surface has its own key. Send what is in the file of --control-key-file as"
                    " X-Control-Key.",
                )
            return
        client = scope.get("client")
        if client is None or not ipaddress.ip_address(client[0]).is_loopback:
            raise ApiError(Code.NO_SUCH_PATH, "There is nothing here.")
        if b"origin" in sent and not self._names.has_origin(sent[b"origin"]):
            raise ApiError(
                Code.NO_SUCH_PATH,
                "Pages of other servers may not use the control surface. Set a key with --control-key-file.",
                http_status=403,
            )
