"""What a request of the gateway is for, and which of its headers pass, up and down."""

import re

import attrs

from yottabench.emulator.codes import ApiError, Code
from yottabench.emulator.gateway_tunnel import asked_protocol
from yottabench.emulator.wire import Scope

_BEARER = re.compile(rb"bearer +(\S+)\s*", re.IGNORECASE)
# They belong to one connection and end with it.
_HOP_BY_HOP = frozenset(
    [
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    ]
)
# Besides those: `expect` was answered here, and the others are ours to say.
_NOT_SENT_UP = _HOP_BY_HOP | {
    b"expect",
    b"host",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-prefix",
    b"x-forwarded-proto",
}
_NOT_SENT_DOWN = _HOP_BY_HOP | {b"date"}  # our server dates its answers itself


@attrs.frozen
class Target:
    """What a request is for."""

    endpoint_id: str
    path: bytes  # as the worker sees it
    host: bytes
    prefix: bytes  # what was taken off the path


@attrs.frozen
class Key:
    """An API key and the header that brought it, which the worker has no business with."""

    value: bytes = attrs.field(repr=False)
    header: bytes


@attrs.frozen
class Passed:
    """A request on its way to a worker."""

    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]] = attrs.field(repr=False)
    has_body: bool
    chunked: bool
    may_switch: bool  # it asks to speak another protocol from there on


def key_of(headers: list[tuple[bytes, bytes]]) -> Key:
    """The key that a request brings. Raises ApiError (401) when there is none."""
    sent = dict(reversed(headers))
    if key := sent.get(b"x-api-key", b"").strip():
        return Key(key, b"x-api-key")
    if bearer := _BEARER.fullmatch(sent.get(b"authorization", b"")):
        return Key(bearer[1], b"authorization")
    raise ApiError(
        Code.UNAUTHENTICATED,
        "No API key was sent. Send it in the X-Api-Key header, or as Authorization: Bearer <key>.",
    )


def _named_by_connection(headers: list[tuple[bytes, bytes]]) -> set[bytes]:
    return {
        token.strip().lower() for name, value in headers if name.lower() == b"connection" for token in value.split(b",")
    }


def request_of(scope: Scope, target: Target, key: Key) -> Passed:
    """The request as the worker is to get it."""
    sent: list[tuple[bytes, bytes]] = scope["headers"]
    names = {name for name, _ in sent}
    chunked = b"transfer-encoding" in names
    dropped = _NOT_SENT_UP | _named_by_connection(sent) | {key.header}
    if chunked:
        dropped |= {b"content-length"}
    client = scope.get("client")
    hops = [value for name, value in sent if name == b"x-forwarded-for"]
    if client is not None:
        hops.append(client[0].encode())
    headers = [
        (b"host", target.host),
        *((name, value) for name, value in sent if name not in dropped),
        (b"x-forwarded-host", target.host),
        (b"x-forwarded-proto", scope.get("scheme", "http").encode()),
    ]
    if hops:
        headers.append((b"x-forwarded-for", b", ".join(hops)))
    if target.prefix:
        headers.append((b"x-forwarded-prefix", target.prefix))
    has_body = chunked or (b"content-length" in names and dict(sent)[b"content-length"] != b"0")
    may_switch = False
    if scope["method"] == "GET" and not has_body and "yottabench.tunnel" in scope.get("extensions", {}):
        protocol = asked_protocol(sent)
        if protocol is not None:
            may_switch = True
            headers += [(b"connection", b"Upgrade"), (b"upgrade", protocol)]
    query: bytes = scope["query_string"]
    return Passed(
        method=scope["method"],
        target=target.path + (b"?" + query if query else b""),
        headers=headers,
        has_body=has_body,
        chunked=chunked,
        may_switch=may_switch,
    )


def passed_down(headers: list[tuple[bytes, bytes]], status: int) -> list[tuple[bytes, bytes]]:
    """The headers of an answer as the client is to get them."""
    dropped = _NOT_SENT_DOWN | _named_by_connection(headers)
    if status == 304 or any(name.lower() == b"transfer-encoding" for name, _ in headers):
        dropped |= {b"content-length"}  # of a body that does not follow, or that has another framing
    return [(name.lower(), value) for name, value in headers if name.lower() not in dropped]
