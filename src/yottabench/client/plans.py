"""The rules of a call, without any input or output: a plan says what to do next, a client does it and reports back.

A plan is a generator. It yields an Effect, is sent the outcome (of a Try the data, or thrown the YottaError), and
returns its result. Both clients carry out the same plans, so neither has rules of its own.
"""

import logging
import random
import ssl
import time
import uuid
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, Generic, TypeAlias, TypeVar, cast

import attrs

from yottabench.client.bell import Bell
from yottabench.client.envelope import is_in_progress
from yottabench.client.errors import (
    ApiError,
    ConnectionFailed,
    RateLimited,
    ServerError,
    TimedOut,
    UnreadableAnswer,
    YottaError,
)
from yottabench.client.request import CallOptions, Request

log = logging.getLogger("yottabench.client")

D = TypeVar("D")
R = TypeVar("R")

DEFAULT_TIMEOUT_S = 30.0
DEFAULT_DEADLINE_S = 120.0


@attrs.frozen
class Try(Generic[D]):
    """Send this request once."""

    request: Request[D]
    timeout_s: float


@attrs.frozen
class Pause:
    """Do nothing for so long, or until the bell rings."""

    seconds: float
    bell: Bell | None = None


@attrs.frozen
class AtOnce:
    """Carry out these plans side by side."""

    plans: "Sequence[Plan[Any]]"


Effect: TypeAlias = Try[Any] | Pause | AtOnce
Plan: TypeAlias = Generator[Effect, Any, R]


def _new_task_id() -> str:
    # 32 hex digits: the hyphens of a UUID as usually written would break the documented character set.
    return uuid.uuid4().hex


async def _sleep_async(seconds: float) -> None:
    # Imported here: who only blocks does without it, and it takes as long to import as all else together.
    import asyncio

    await asyncio.sleep(seconds)


@attrs.frozen(kw_only=True)
class Retries:
    """When and how often a call is tried again.

    Tried again are connections that failed, HTTP 408, 429 and 5xx, conflicts with a request that is still under way,
    and answers that cannot be read; but what must not happen twice (createEndpoint) only where it certainly did not
    happen. The pause before the n-th repetition is drawn evenly from 0 to `first_s` * 2**(n-1), at most `most_s`
    ("full jitter"); a Retry-After of the server, up to `most_retry_after_s`, comes on top of it.
    """

    max_retries: int = attrs.field(default=4, validator=attrs.validators.ge(0))
    first_s: float = attrs.field(default=0.5, validator=attrs.validators.ge(0))
    most_s: float = attrs.field(default=20.0, validator=attrs.validators.ge(0))
    most_retry_after_s: float = attrs.field(default=60.0, validator=attrs.validators.ge(0))

    def pause_s(self, repetition: int, retry_after_s: float | None, chance: random.Random) -> float:
        """Seconds to wait before this repetition, counted from 1."""
        pause_s = chance.uniform(0, min(self.most_s, self.first_s * 2 ** min(repetition - 1, 60)))
        return pause_s + min(retry_after_s or 0.0, self.most_retry_after_s)


@attrs.frozen(kw_only=True)
class Rules:
    """What a client was made with, and where its plans take time, ids and chance from."""

    timeout_s: float = DEFAULT_TIMEOUT_S
    deadline_s: float = DEFAULT_DEADLINE_S
    retries: Retries = attrs.field(factory=Retries)
    now_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    sleep_async: Callable[[float], Awaitable[None]] = _sleep_async
    chance: random.Random = attrs.field(factory=random.Random)
    new_task_id: Callable[[], str] = _new_task_id


def tried(request: Request[D], timeout_s: float) -> Plan[D]:
    """One try; raises the YottaError that it ended in."""
    data = cast("D", (yield Try(request, timeout_s)))
    return request.finish(data)


def pause(seconds: float, bell: Bell | None = None) -> Plan[None]:
    """A pause; a bell that rings ends it early."""
    if seconds > 0:
        yield Pause(seconds, bell)


def at_once(plans: "Sequence[Plan[R]]") -> "Plan[list[R | YottaError]]":
    """Several plans side by side: the result of each, or the YottaError that it ended in."""
    if len(plans) == 1:
        try:
            return [(yield from plans[0])]
        except YottaError as error:
            return [error]
    return cast("list[R | YottaError]", (yield AtOnce(plans)))


class Attempts:
    """The tries of one call: how long the next may take, and how long to wait for it."""

    def __init__(self, rules: Rules, options: CallOptions) -> None:
        self._rules = rules
        self._timeout_s = options.get("timeout_s", rules.timeout_s)
        self._end_s = rules.now_s() + options.get("deadline_s", rules.deadline_s)
        self._max_retries = options.get("max_retries", rules.retries.max_retries)
        self._done = 0

    def timeout_s(self, request: Request[Any]) -> float:
        """How long the next try may take. Raises TimedOut when there is no time left for any."""
        left_s = self._end_s - self._rules.now_s()
        if left_s <= 0:
            raise TimedOut(
                f"{request.operation}: the deadline was over before there was an answer.",
                operation=request.operation,
                may_have_taken_effect=False,
                task_id=request.task_id,
            )
        return min(self._timeout_s, left_s)

    def pause_s(self, error: YottaError, *, repeatable: bool = True) -> float:
        """How long to wait before the next try. Raises `error` when there must be none, or is no time for one."""
        if not is_transient(error) or (may_have_acted(error) and not repeatable) or self._done >= self._max_retries:
            raise error
        self._done += 1
        pause_s = self._rules.retries.pause_s(self._done, asked_to_wait_s(error), self._rules.chance)
        if self._rules.now_s() + pause_s >= self._end_s:
            raise error
        log.info("Trying again in %.2f s (%d of %d): %s", pause_s, self._done, self._max_retries, error)
        return pause_s


def call(rules: Rules, request: Request[D], options: CallOptions) -> Plan[D]:
    """One call with its repetitions."""
    attempts = Attempts(rules, options)
    while True:
        try:
            return (yield from tried(request, attempts.timeout_s(request)))
        except YottaError as error:
            pause_s = attempts.pause_s(error, repeatable=request.repeatable)
        yield from pause(pause_s)


def may_have_acted(error: YottaError) -> bool:
    """Whether the server may have done what was asked, though it did not say so."""
    return isinstance(error, (ApiError, ConnectionFailed)) and error.may_have_taken_effect


def asked_to_wait_s(error: YottaError) -> float | None:
    """What the server asked for with Retry-After."""
    return error.retry_after_s if isinstance(error, ApiError) else None


def is_transient(error: YottaError) -> bool:
    """Whether the same request may fare better a little later."""
    if isinstance(error, ConnectionFailed):
        return not _is_refused_certificate(error)
    if not isinstance(error, ApiError):
        return False
    if isinstance(error, UnreadableAnswer):
        return not 300 <= error.http_status < 400  # a redirect stays one
    return (
        isinstance(error, (RateLimited, ServerError))
        or error.http_status == 408
        or error.retry_after_s is not None
        or is_in_progress(error.http_status, error.code, error.retry_after_s)
    )


def _is_refused_certificate(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
