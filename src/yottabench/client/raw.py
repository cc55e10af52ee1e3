"""Gives, beside the data of a call, the HTTP answer that it came in."""

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, ParamSpec, TypeVar

import attrs

from yottabench.client.driving import last_answer
from yottabench.client.transport import HttpAnswer

P = ParamSpec("P")
T = TypeVar("T")


@attrs.frozen
class RawResponse(Generic[T]):
    """The last answer of a call, and what the call gives."""

    parsed: T
    """What the call gives without `with_raw_response`."""
    http_status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    """In any case of letters, as HTTP has it."""
    content: bytes = attrs.field(repr=False)


def raw(method: Callable[P, T]) -> Callable[P, RawResponse[T]]:
    """The method, giving a RawResponse."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> RawResponse[T]:
        answers: list[HttpAnswer] = []
        mark = last_answer.set(answers)
        try:
            found = method(*args, **kwargs)
        finally:
            last_answer.reset(mark)
        return _raw_response(found, answers)

    return call


def raw_async(method: Callable[P, Awaitable[T]]) -> "Callable[P, Awaitable[RawResponse[T]]]":
    """The coroutine method, giving a RawResponse."""

    @functools.wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> RawResponse[T]:
        answers: list[HttpAnswer] = []
        mark = last_answer.set(answers)
        try:
            found = await method(*args, **kwargs)
        finally:
            last_answer.reset(mark)
        return _raw_response(found, answers)

    return call


def _raw_response(found: T, answers: list[HttpAnswer]) -> RawResponse[T]:
    answer = answers[-1]
    return RawResponse(found, answer.status_code, answer.headers, answer.content)
