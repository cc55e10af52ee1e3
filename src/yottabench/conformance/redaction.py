"""Requests and answers made fit to be shown: keys, credentials and the caller's secrets are taken out."""

import json
from typing import Any, cast
from urllib.parse import urlsplit

from yottabench.conformance.exchange import Answer, Headers, Request, Undecodable

REDACTED = "[redacted]"
_SHOWN_CHARS = 2000
_KEY_CHARS_MIN = 4  # a shorter one may be part of any word
# What is kept of headers; all others may carry what is nobody else's business.
_KEPT_HEADERS = {
    *("accept", "content-type", "content-length", "date", "retry-after", "server", "transfer-encoding", "user-agent"),
    *("content-encoding", "location", "x-request-id", "allow"),
}
_SECRET_FIELDS = {"webhookAuthKey", "initializationCommand"}
_SECRET_MAPS = {"headers"}
_SECRET_LISTS = {"environmentVars", "envVars"}


def shown_request(request: Request) -> dict[str, Any]:
    """A request for a report."""
    return {
        "method": request.method,
        "target": request.target[:_SHOWN_CHARS],
        "headers": _headers(request.headers),
        "body": _body(request.body, otherwise=f"[{len(request.body)} bytes that are no JSON]"),
    }


def shown_answer(answer: Answer, request: Request) -> dict[str, Any]:
    """An answer for a report; a key of the request that it repeats is taken out too."""
    try:
        plain = answer.plain()
    except Undecodable:
        plain = b""
    for name, value in request.headers:
        if name.lower() not in _KEPT_HEADERS and len(value) >= _KEY_CHARS_MIN:
            plain = plain.replace(value.encode("utf-8", "surrogateescape"), REDACTED.encode())
    text = plain[:_SHOWN_CHARS].decode("utf-8", "replace")
    return {"status": answer.status, "headers": _headers(answer.headers), "body": _body(plain, otherwise=text)}


def without_secrets(value: Any, within: str = "") -> Any:
    """A JSON value with its secrets taken out, wherever they are."""
    if isinstance(value, list):
        return [without_secrets(one, within) for one in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    return {name: _field(name, one, within) for name, one in cast("dict[str, Any]", value).items()}


def _field(name: str, value: Any, within: str) -> Any:
    secret = name in _SECRET_FIELDS or within in _SECRET_MAPS or (within in _SECRET_LISTS and name == "value")
    if secret and value is not None:
        return REDACTED
    if name == "webhook" and isinstance(value, str):
        return _without_query(value)
    return without_secrets(value, name)


def _without_query(url: str) -> str:
    """People put tokens into the queries and paths of their webhooks; the host is enough to know it by."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return REDACTED
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{REDACTED}" if parts.netloc else url


def _headers(headers: Headers) -> dict[str, str]:
    return {name: value if name.lower() in _KEPT_HEADERS else REDACTED for name, value in headers}


def _body(body: bytes, *, otherwise: str) -> Any:
    """The body as JSON, as text where that is long; `otherwise` where it is none."""
    if not body:
        return None
    try:
        value = without_secrets(json.loads(body))
    except (ValueError, RecursionError):
        return otherwise
    text = json.dumps(value, ensure_ascii=False)
    return value if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}… ({len(text)} characters)"
