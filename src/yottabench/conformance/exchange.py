"""One request and its answer, and where they deviate from the document."""

import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

from yottabench.conformance import envelope
from yottabench.conformance.document import BASE_PATH, Operation, faults, follow, operation_of

Headers = Sequence[tuple[str, str]]
BODY_MAX_BYTES = 16_000_000  # of what is looked at; the API takes 10 MB
_WHOLE = re.compile(r"-?[0-9]{1,30}")


@attrs.frozen
class Request:
    """A request as it was sent; `target` is its path with its query."""

    method: str
    target: str
    headers: Headers
    body: bytes

    @property
    def path(self) -> str:
        """The path, without the query."""
        return self.target.partition("?")[0]


@attrs.frozen
class Answer:
    """An answer as it came."""

    status: int
    headers: Headers
    body: bytes

    def code(self) -> int | None:
        """The code of its envelope; None when it has none."""
        try:
            code: Any = json.loads(self.plain())["code"]
        except (ValueError, KeyError, TypeError, RecursionError, Undecodable):
            return None
        return code if type(code) is int else None

    def plain(self) -> bytes:
        """The body without its content coding. Raises Undecodable."""
        return _decoded(self.body, header(self.headers, "content-encoding") or "identity")


@attrs.frozen
class Deviation:
    """Something that is not as documented, and who deviates."""

    by: Literal["client", "service"]
    operation: str
    text: str


class Undecodable(Exception):
    """A body is in a coding that is not read here."""


def header(headers: Headers, name: str) -> str | None:
    """The value of a header; None when it is not there."""
    return next((value for found, value in headers if found.lower() == name), None)


def check(request: Request, answer: Answer) -> Iterator[Deviation]:
    """Where a request and its answer deviate from the document; nothing when they are of some other API."""
    found = operation_of(request.method, request.path)
    if found is None:
        ours = request.path == BASE_PATH or request.path.startswith(f"{BASE_PATH}/")
        if ours:
            yield Deviation("client", "none", f"the document has no {request.method} {request.path}")
        return
    operation, ids = found
    wrong = list(request_faults(operation, ids, request))
    yield from (Deviation("client", operation.name, text) for text in wrong)
    yield from (Deviation("service", operation.name, text) for text in answer_faults(operation, answer))
    if wrong and answer.code() == envelope.SUCCESS:
        yield Deviation("service", operation.name, f"accepted a request that the document refuses: {wrong[0]}")


# ---- requests


def request_faults(operation: Operation, ids: Mapping[str, str], request: Request) -> Iterator[str]:
    """What is wrong with a request of this operation."""
    query = parse_qsl(urlsplit(request.target).query, keep_blank_values=True)
    if header(request.headers, "x-api-key") is None:
        yield "the header X-Api-Key is missing"
    known = {one.name for one in operation.parameters if one.place == "query"}
    yield from (f"undocumented parameter {name}" for name in sorted({name for name, _ in query} - known))
    for parameter in operation.parameters:
        values = [value for name, value in query if name == parameter.name]
        if parameter.place == "path":
            values = [unquote(ids[parameter.name])]
        elif parameter.name == "statusList":
            values = [",".join(values).upper()] if values else []  # repeated, and in any case (N37)
        if len(values) > 1:
            yield f"{parameter.place} parameter {parameter.name} is repeated"
        elif values:
            where = f"{parameter.place} parameter {parameter.name}"
            yield from faults(parameter.schema, _read(parameter.schema, values[0]), where)
        elif parameter.required:
            yield f"{parameter.place} parameter {parameter.name} is missing"
    if operation.body is not None:
        yield from _body_faults(operation.body, request)


def _read(schema: Mapping[str, Any], text: str) -> Any:
    integer = follow(schema).get("type") == "integer" and _WHOLE.fullmatch(text)
    return int(text) if integer else text


def _body_faults(schema: Mapping[str, Any], request: Request) -> Iterator[str]:
    try:
        body = strict_json(_decoded(request.body, header(request.headers, "content-encoding") or "identity"))
    except Undecodable:
        return
    except (ValueError, RecursionError):
        yield "the body is no JSON"
        return
    yield from faults(schema, body, "body")


# ---- answers


def answer_faults(operation: Operation, answer: Answer) -> Iterator[str]:
    """What is wrong with an answer of this operation. Errors may hide in an HTTP 200 (N14)."""
    try:
        plain = answer.plain()
    except Undecodable:
        return
    content_type = header(answer.headers, "content-type") or ""
    hidden = answer.status == 200 and answer.code() not in (None, envelope.SUCCESS)
    wrong = list(envelope.deviations(answer.status, content_type, plain, envelope200=hidden))
    yield from wrong
    meant = envelope.status_of(answer.status, plain)
    if meant in envelope.OF_HTTP:
        return
    if meant not in operation.statuses:
        yield f"HTTP {meant} is not documented here"
        return
    if not hidden:
        yield from _header_faults(operation, answer)
    if not wrong:
        schema = operation.answer(meant)["content"]["application/json"]["schema"]
        yield from faults(schema, json.loads(plain), "answer")


def _header_faults(operation: Operation, answer: Answer) -> Iterator[str]:
    for name, node in operation.answer(answer.status).get("headers", {}).items():
        value = header(answer.headers, name.lower())
        documented = follow(node)
        if value is not None:
            yield from faults(documented["schema"], _read(documented["schema"], value), f"header {name}")
        elif documented.get("required"):
            yield f"the header {name} is missing"


# ---- bodies


def strict_json(body: bytes) -> Any:
    """JSON as its standard has it: no NaN, no infinities. Raises ValueError."""
    return json.loads(body, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _decoded(body: bytes, coding: str) -> bytes:
    if coding.lower() == "identity":
        return body
    if coding.lower() not in ("gzip", "x-gzip", "deflate"):
        raise Undecodable(coding)
    reader = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # tells gzip and zlib apart itself
    try:
        plain = reader.decompress(body, BODY_MAX_BYTES)
    except zlib.error as error:
        raise Undecodable(str(error)) from None
    if reader.unconsumed_tail:
        raise Undecodable("too large")
    return plain
