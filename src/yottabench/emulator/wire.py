"""ASGI in, envelope out: bodies with a cap, keys, errors; knows nothing of endpoints and tasks."""

import asyncio
import hashlib
import hmac
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from yottabench.emulator.codes import ApiError, Code
from yottabench.emulator.faults import BrokenAnswer, Rule
from yottabench.emulator.limits import BODY_MAX_BYTES, HEADER_MAX_COUNT
from yottabench.emulator.settings import Settings
from yottabench.emulator.store.base import StoreBroken, StoreError

_log = logging.getLogger("yottabench.http")

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Document(msgspec.Struct, frozen=True):
    """An answer outside of the envelope, for readers who expect another form."""

    content_type: bytes
    body: bytes


class Inside(Protocol):
    """Answers what is no part of the documented API: paths under /_emulator/."""

    async def __call__(self, scope: Scope, receive: Receive) -> Any:
        """The `data` of the envelope, or a Document; raises ApiError."""
        ...


_JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")
_SUCCESS = b'{"message":"success","code":10000,"data":'
_encode = msgspec.json.Encoder().encode


class Request(msgspec.Struct, frozen=True):
    """One request whose key was accepted. `path` is raw (percent-encoded); `namespace` tells one key from another."""

    method: str
    path: str
    query: bytes
    namespace: str
    body: bytes

    def __repr__(self) -> str:
        return f"Request({self.method} {self.path})"


class Handler(Protocol):
    """Answers a request with the `data` of the envelope, or raises ApiError."""

    def handle(self, request: Request) -> Awaitable[Any]:
        """Returns anything that msgspec encodes."""
        ...


class Wire:
    """The ASGI application."""

    def __init__(self, settings: Settings, api: Handler, control: Inside) -> None:
        self._keys = tuple(key.encode("latin-1") for key in settings.api_keys)
        self._envelope200 = settings.error_style == "envelope200"
        self._api = api
        self._control = control
        self.answers: Counter[int] = Counter()  # by HTTP status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection event, as ASGI has it."""
        if scope["type"] != "http":
            return
        try:
            data = await self._answer(scope, receive)
            if isinstance(data, Document):
                await _send_body(send, 200, [(b"content-type", data.content_type)], data.body)
                return
            body = success(data)
        except BrokenAnswer as broken:
            await break_off(broken.rule, scope, receive, send)
        except Exception as error:
            refusal = as_api_error(error, scope["method"], scope["path"])
            status, body = self.refused(refusal)
            await _send_json(send, status, body, refusal)
        else:
            self.answers[200] += 1
            await _send_body(send, 200, [_JSON], body)

    def refused(self, error: ApiError) -> tuple[int, bytes]:
        """The status and body that tell of `error`; they are counted as answered."""
        # Transport errors keep their status: no business answer of the live service was seen to hide those.
        hidden = self._envelope200 and error.http_status in {400, 404, 409}
        status = 200 if hidden else error.http_status
        self.answers[status] += 1
        return status, _encode({"message": error.message, "code": int(error.code), "data": None})

    async def _answer(self, scope: Scope, receive: Receive) -> Any:
        path = scope["raw_path"].decode("latin-1")
        method: str = scope["method"]
        key, length = _read_headers(scope["headers"])
        if path.startswith("/_emulator/"):
            return await self._control(scope, receive)
        namespace = self.namespace(key)
        body = await read_body(receive, length) if method not in {"GET", "DELETE"} else b""
        return await self._api.handle(Request(method, path, scope["query_string"], namespace, body))

    def namespace(self, key: bytes) -> str:
        """Whose the key is; raises ApiError (401) when it is let in nowhere."""
        if not key:
            raise ApiError(Code.UNAUTHENTICATED, "No API key was sent. Send it in the X-Api-Key header.")
        if not self._keys:
            return namespace_of(key)
        # All of them are compared, so that the time tells nothing of which one came close.
        matches = [hmac.compare_digest(key, known) for known in self._keys]
        if not any(matches):
            raise ApiError(Code.UNAUTHENTICATED, "This API key is not known here. Send one that is.")
        return namespace_of(key)


def success(data: Any) -> bytes:
    """The envelope of an answer that is no error."""
    return b"".join((_SUCCESS, _encode(data), b"}"))


def as_api_error(error: Exception, method: str, path: str) -> ApiError:
    """What a client is told of `error`; what nobody foresaw is logged."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, StoreBroken):
        return ApiError(
            Code.SYSTEM_ERROR,
            "The server's disk failed, and the server ends. The request may or may not have taken effect: ask"
            " again, with the same taskId, once the server is back.",
        )
    if isinstance(error, StoreError):
        return ApiError(
            Code.SYSTEM_ERROR,
            "The server could not store this, and did not. Try again; if it goes on, look at the server's log.",
        )
    _log.error("%s %s failed", method, path, exc_info=error)
    return ApiError(Code.SYSTEM_ERROR, "System error. The request may or may not have taken effect.")


async def send_error(send: Send, error: ApiError) -> None:
    """Answer with the envelope and the status of `error`, whatever the error style is."""
    body = _encode({"message": error.message, "code": int(error.code), "data": None})
    await _send_json(send, error.http_status, body, error)


async def _send_json(send: Send, status: int, body: bytes, error: ApiError | None) -> None:
    headers: list[tuple[bytes, bytes]] = [_JSON]
    if error is not None and error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    if error is not None and error.allow is not None:
        headers.append((b"allow", error.allow.encode()))
    await _send_body(send, status, headers, body)


async def _send_body(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@lru_cache(maxsize=1024)
def namespace_of(key: bytes) -> str:
    """What stands for a key in the store, which must not hold the key itself."""
    return hashlib.sha256(key).hexdigest()[:32]


def _read_headers(headers: list[tuple[bytes, bytes]]) -> tuple[bytes, int | None]:
    if len(headers) > HEADER_MAX_COUNT:
        raise ApiError(
            Code.INVALID, f"The request has more than {HEADER_MAX_COUNT} headers. Send fewer.", http_status=431
        )
    key = b""
    length = None
    for name, value in headers:
        if name == b"x-api-key":
            key = value.strip()
        elif name == b"content-length":
            length = int(value)
    return key, length


async def break_off(rule: Rule, scope: Scope, receive: Receive, send: Send) -> None:
    """Give the client what a fault of the kind reset, drop or garbage leaves of an answer."""
    if rule.kind == "garbage":
        await _send_body(send, 200, [(b"content-type", b"application/json")], rule.garbage())
        return
    if rule.kind == "drop":
        leaving = [asyncio.ensure_future(_left(receive)), asyncio.ensure_future(rule.lifted.wait())]
        await asyncio.wait(leaving, return_when=asyncio.FIRST_COMPLETED)
        for each in leaving:
            each.cancel()
    scope["extensions"]["yottabench.connection"]["reset"]()
    await _left(receive)  # else the server finds that there was no answer, and tries to give one


async def _left(receive: Receive) -> bool:
    while (await receive())["type"] != "http.disconnect":
        pass
    return True


async def read_body(receive: Receive, length: int | None, max_bytes: int = BODY_MAX_BYTES) -> bytes:
    """The whole body of a request whose Content-Length is `length`; raises ApiError (413) when it is too large."""
    if length is not None and length > max_bytes:
        raise _too_large(length, max_bytes)
    message = await receive()
    if not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        return body
    parts = [message.get("body", b"")]
    size = len(parts[0])
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ApiError(Code.INVALID, "The connection ended before the body was complete.")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > max_bytes:
            raise _too_large(size, max_bytes)
    return b"".join(parts)


def _too_large(size: int, max_bytes: int) -> ApiError:
    return ApiError(
        Code.INVALID,
        f"The body has {size} bytes or more; at most {max_bytes} are taken. Send large data by reference.",
        http_status=413,
    )
