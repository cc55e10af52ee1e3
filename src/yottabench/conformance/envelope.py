"""What holds for every answer of the API, whatever was asked: the envelope, and the status that goes with its code."""

import functools
import json
import re
from collections.abc import Iterator
from typing import Any, cast

from yottabench.spec import spec

SUCCESS = 10000
_ROW = re.compile(r"^\| (\d+) \| .* \| ([\d, ]+) \|$", re.MULTILINE)
# Said by the HTTP layer before an operation is looked for; the table is about operations.
OF_HTTP = {405, 408, 431}
# Kept from the client by the live service, which was seen to answer 200 with these codes (N14).
_HIDDEN = {400, 404, 409}
_SECRETS = {"webhookAuthKey"}
_OF_THE_CALLER = {"input", "output", "headers"}


@functools.cache
def statuses_of_codes() -> dict[int, set[int]]:
    """The table in the description of the document: code, and the HTTP statuses it may come with."""
    rows = _ROW.findall(spec()["info"]["description"])
    return {int(code): {int(status) for status in statuses.split(",")} for code, statuses in rows}


def deviations(status: int, content_type: str, body: bytes, *, envelope200: bool = False) -> Iterator[str]:
    """What is wrong with an answer; nothing for one as documented.

    With `envelope200`, errors of requests must come in an HTTP 200, as the live service was seen to answer.
    """
    if content_type.split(";")[0].strip().lower() != "application/json":
        yield f"content type {content_type!r}"
    try:
        read: Any = json.loads(body)
    except (ValueError, RecursionError):
        yield "not JSON"
        return
    if not isinstance(read, dict) or not {"message", "code", "data"} <= set(cast("dict[str, Any]", read)):
        yield "no envelope of message, code and data"
        return
    envelope = cast("dict[str, Any]", read)
    code = envelope["code"]
    if not isinstance(envelope["message"], str) or type(code) is not int:
        yield "message is no text, or code no integer"
    elif status not in OF_HTTP:
        yield from _status_deviations(status, code, envelope200)
    yield from (f"shows {name}" for name in sorted(_SECRETS & set(_names(envelope["data"]))))


def _status_deviations(status: int, code: int, envelope200: bool) -> Iterator[str]:
    expected = statuses_of_codes().get(code)
    if expected is None:
        yield f"undocumented code {code}"
        return
    if envelope200 and code != SUCCESS:
        expected = (expected - _HIDDEN) | ({200} if expected & _HIDDEN else set[int]())
    if status not in expected:
        yield f"code {code} came with HTTP {status}, not {sorted(expected)}"


def status_of(status: int, body: bytes) -> int:
    """The HTTP status that an answer would have had, had the service not hidden its error in a 200."""
    if status != 200:
        return status
    try:
        code = json.loads(body)["code"]
        return status if code == SUCCESS else min(statuses_of_codes()[code])
    except (ValueError, KeyError, TypeError, RecursionError):
        return status


def _names(data: Any) -> Iterator[str]:
    """Field names of the service's own making: what is inside input, output and headers is the caller's."""
    if isinstance(data, dict):
        for name, value in cast("dict[str, Any]", data).items():
            yield name
            if name not in _OF_THE_CALLER:
                yield from _names(value)
    elif isinstance(data, list):
        for value in cast("list[Any]", data):
            yield from _names(value)
