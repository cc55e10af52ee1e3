"""Reads answers: opens the envelope of a success, and makes the right exception of everything else."""

import email.utils
import json
import math
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, Literal, Protocol, TypeVar, cast

import httpx
from yotta_serverless_api import errors as generated
from yotta_serverless_api.models import ErrorEnvelope

from yottabench.client import errors

SUCCESS = 10000
BODY_EXCERPT_CHARS = 500  # enough for an error page's title, little enough for a log line
SHORTEST_SECRET_CHARS = 4  # blanking out shorter texts would riddle messages and hide nothing

_BY_CODE: Mapping[int, type[errors.ApiError]] = {
    429: errors.RateLimited,
    10001: errors.InvalidRequest,
    10002: errors.ServerError,
    10004: errors.PermissionDenied,
    10007: errors.NotFound,
    12001: errors.WrongState,
    14000: errors.EndpointNotFound,
    24000: errors.EndpointUnavailable,
    24001: errors.EndpointNotFound,
    24002: errors.WrongState,
    24011: errors.TaskNotFound,
    40001: errors.InvalidRequest,
    40101: errors.AuthenticationError,
    40400: errors.NotFound,
    40402: errors.TaskNotFound,
    50001: errors.ServerError,
}
_BY_STATUS: Mapping[int, type[errors.ApiError]] = {
    400: errors.InvalidRequest,
    401: errors.AuthenticationError,
    403: errors.PermissionDenied,
    404: errors.NotFound,
    409: errors.WrongState,
    413: errors.InvalidRequest,
    422: errors.InvalidRequest,
    429: errors.RateLimited,
}

D_co = TypeVar("D_co", covariant=True)
P_co = TypeVar("P_co", covariant=True)


class Success(Protocol[D_co]):
    """Any of the generated envelopes of a success."""

    @property
    def code(self) -> Literal[10000]:
        """The code of success."""
        ...

    @property
    def data(self) -> D_co:
        """What was asked for."""
        ...


class Answer(Protocol[P_co]):
    """A generated `Response`."""

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        ...

    @property
    def content(self) -> bytes:
        """The body."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""
        ...

    @property
    def parsed(self) -> P_co:
        """The envelope."""
        ...


class Asked(Protocol):
    """What was asked, as far as an error has to tell of it."""

    @property
    def operation(self) -> str:
        """The operationId."""
        ...

    @property
    def task_id(self) -> str | None:
        """The task that it is about, if any."""
        ...

    @property
    def secrets(self) -> Iterable[str]:
        """The texts that must not come back in an error."""
        ...


def opened(asked: Asked, answer: Answer[Success[D_co] | ErrorEnvelope], api_key: str) -> D_co:
    """The data of a success. Raises the ApiError that an error envelope stands for."""
    envelope = answer.parsed
    if isinstance(envelope, ErrorEnvelope):
        raise api_error(asked, answer.status_code, answer.headers, answer.content, api_key)
    return envelope.data


@contextmanager
def translated(asked: Asked, api_key: str) -> Generator[None]:
    """Raise this client's exceptions for what the generated code and the HTTP client raise while one call is made."""
    try:
        yield
    except generated.UnexpectedAnswer as error:
        raise api_error(asked, error.status_code, error.headers, error.content, api_key) from error.__cause__
    except (httpx.TimeoutException, TimeoutError) as error:
        raise errors.TimedOut(
            f"{asked.operation}: no answer in time ({_what(error)}). Is the server overloaded, or timeout_s too short?",
            operation=asked.operation,
            may_have_taken_effect=not isinstance(error, (httpx.ConnectTimeout, httpx.PoolTimeout)),
            task_id=asked.task_id,
        ) from error
    except (httpx.HTTPError, OSError) as error:
        raise errors.ConnectionFailed(
            f"{asked.operation}: no answer ({_what(error)}). Is the base URL right, and the server running?",
            operation=asked.operation,
            may_have_taken_effect=not isinstance(
                error, (httpx.ConnectError, httpx.UnsupportedProtocol, httpx.ProxyError, ConnectionRefusedError)
            ),
            task_id=asked.task_id,
        ) from error


def api_error(
    asked: Asked, http_status: int, headers: Mapping[str, str], content: bytes, api_key: str
) -> errors.ApiError:
    """The exception for an answer that is not a readable success."""
    secrets = [api_key, *asked.secrets]
    code, message = _read_envelope(content)
    kind = _kind(asked.operation, http_status, code)
    if kind is errors.UnreadableAnswer:
        message = "the answer does not have the documented form"
    elif message is None:
        message = "the answer holds no envelope that says why"
    wait_s = retry_after_s(headers)
    return kind(
        _blanked(message, secrets),
        operation=asked.operation,
        http_status=http_status,
        code=code,
        body=_blanked(content[: 64 * BODY_EXCERPT_CHARS].decode("utf-8", "replace"), secrets)[:BODY_EXCERPT_CHARS],
        retry_after_s=wait_s,
        may_have_taken_effect=_is_unclear(kind, http_status, code, wait_s),
        request_id=_request_id(headers),
        task_id=asked.task_id,
    )


def _is_unclear(kind: type[errors.ApiError], http_status: int, code: int | None, wait_s: float | None) -> bool:
    if http_status == 503 and wait_s is not None:
        return False  # a refusal: come back later
    if http_status == 408 or is_in_progress(http_status, code, wait_s):
        return True
    return issubclass(kind, (errors.ServerError, errors.UnreadableAnswer))


def is_in_progress(http_status: int, code: int | None, wait_s: float | None) -> bool:
    """Whether a conflict is with the same request, still under way: no documented code says that a state forbids it."""
    return http_status == 409 and (code not in _BY_CODE or wait_s is not None)


def retry_after_s(headers: Mapping[str, str], now_s: Callable[[], float] = time.time) -> float | None:
    """What a Retry-After header asks for, in seconds; None when it says nothing usable.

    A date counts from the answer's own Date, which no wrong clock of this machine can spoil; without one, from now.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    text = lowered.get("retry-after", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        return _seconds_until(text, lowered.get("date"), now_s)
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _seconds_until(text: str, date: str | None, now_s: Callable[[], float]) -> float | None:
    try:
        until_s = email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    try:
        from_s = email.utils.parsedate_to_datetime(date or "").timestamp()
    except (TypeError, ValueError, OverflowError):
        from_s = now_s()
    return max(0.0, until_s - from_s)


def _request_id(headers: Mapping[str, str]) -> str | None:
    for name, value in headers.items():
        if name.lower() == "x-request-id":
            return value[:128] if value.isprintable() else None
    return None


def _kind(operation: str, http_status: int, code: int | None) -> type[errors.ApiError]:
    if code == 10007 and operation == "getWorkerLogs":
        return errors.WorkerNotFound
    if code is not None and code in _BY_CODE:
        return _BY_CODE[code]
    if http_status >= 500:
        return errors.ServerError
    if http_status >= 400:
        return _BY_STATUS.get(http_status, errors.ApiError)
    return errors.UnreadableAnswer if code in (None, SUCCESS) else errors.ApiError


def _read_envelope(content: bytes) -> tuple[int | None, str | None]:
    """Code and message of an envelope, as far as there are any."""
    try:
        found: Any = json.loads(content)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(found, dict):
        return None, None
    envelope = cast("dict[str, Any]", found)
    message: Any = envelope.get("message")
    return _code(envelope.get("code")), message if isinstance(message, str) and message else None


def _code(value: Any) -> int | None:
    """The code, be it a number or, as from a careless server, a text of digits."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _blanked(text: str, secrets: Iterable[str]) -> str:
    # The longest first: a secret may be part of another.
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET_CHARS:
            text = text.replace(secret, "***")
    return text


def _what(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
