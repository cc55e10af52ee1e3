"""Heads that were read before: what comes again, byte for byte, need not be read by the parser again."""

import re
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")

# Clients send the same head again and again, but for the target of a GET and the length of a body. So do servers, for
# as long as the Date is the same.
_HEADS = 1024
_HEAD_MAX_BYTES = 2048
# Nothing that a parser would refuse, or find more in than is there.
_PLAIN_TARGET = re.compile(rb"/[\w/-]*")


class _Recent(Generic[T]):
    """What was noted of a bounded number of heads; the oldest goes first."""

    def __init__(self) -> None:
        self._noted: dict[bytes, T] = {}
        self.get = self._noted.get

    def note(self, head: bytes, what: T) -> None:
        if len(head) <= _HEAD_MAX_BYTES:
            self._noted[head] = what
            if len(self._noted) > _HEADS:
                del self._noted[next(iter(self._noted))]


class KnownRequest(msgspec.Struct, frozen=True, gc=False):
    """A whole request whose head, but for its target, was read before."""

    method: bytes
    target: bytes
    owner: str
    body: bytes


class KnownHeads:
    """Heads, but for their targets, of requests that were answered directly, and whose requests they are."""

    def __init__(self) -> None:
        self._known: _Recent[tuple[str, int]] = _Recent()  # the owner, and how many bytes the body has

    def find(self, data: bytes) -> KnownRequest | None:
        """The request that `data` is, from its first byte to its last; None when that must be found out."""
        method, target, rest, body = _parts(data)
        known = self._known.get(method + rest)
        if known is None or len(body) != known[1] or not _PLAIN_TARGET.fullmatch(target):
            return None
        return KnownRequest(method, target, known[0], body)

    def note(self, data: bytes, owner: str, body_bytes: int) -> bool:
        """The parser read one request of `owner`, with so long a body, from `data`: True when it was all of `data`."""
        method, _, rest, body = _parts(data)
        if len(body) != body_bytes:
            return False
        self._known.note(method + rest, (owner, body_bytes))
        return True


def _parts(data: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Method, target, the rest of the head, body."""
    after_method = data.find(b" ")
    after_target = data.find(b" ", after_method + 1)
    head = data.find(b"\r\n\r\n", after_target) + 4
    return data[:after_method], data[after_method + 1 : after_target], data[after_target:head], data[head:]


class KnownAnswer(msgspec.Struct, frozen=True, gc=False):
    """A whole answer whose head was read before."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class KnownAnswers:
    """Heads of answers with a Content-Length, after which the connection stays open."""

    def __init__(self) -> None:
        self._known: _Recent[tuple[int, list[tuple[bytes, bytes]], int]] = _Recent()

    def find(self, data: bytes) -> KnownAnswer | None:
        """The answer that `data` is, from its first byte to its last; None when that must be found out."""
        head = data.find(b"\r\n\r\n") + 4
        known = self._known.get(data[:head])
        if known is None or len(data) - head != known[2]:
            return None
        return KnownAnswer(known[0], known[1], data[head:])

    def note(self, data: bytes, status: int, headers: list[tuple[bytes, bytes]], body_bytes: int) -> bool:
        """The parser read one answer, with so long a body, from `data`: True when it was all of `data`."""
        head = data.find(b"\r\n\r\n") + 4
        if len(data) - head != body_bytes:
            return False
        self._known.note(data[:head], (status, headers, body_bytes))
        return True
