"""Both clients in one form, so that each claim is tested on both: AsyncClient with calls that block."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

from yottabench.client import AsyncClient, Client

Kind = Literal["sync", "async"]
KINDS: tuple[Kind, ...] = ("sync", "async")

_runner: asyncio.Runner | None = None


def run(coroutine: Any) -> Any:
    """Run on the one event loop of these tests."""
    global _runner
    if _runner is None:
        _runner = asyncio.Runner()
    return _runner.run(coroutine, context=contextvars.copy_context())


def end_loop() -> None:
    """At the end of the session."""
    global _runner
    if _runner is not None:
        _runner.close()
        _runner = None


class Blocking:
    """An object whose coroutine methods block, and whose asynchronous iterators are plain ones."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name in {"endpoints", "workers", "tasks", "with_raw_response"}:
            return Blocking(found)
        return self._blocking(found) if callable(found) else found

    def _blocking(self, method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            found = method(*args, **kwargs)
            if inspect.isawaitable(found):
                return run(_awaited(found))
            return _iterated(found) if isinstance(found, AsyncIterator) else found

        return call

    def __repr__(self) -> str:
        return repr(self._inner)

    def __enter__(self) -> Blocking:
        run(self._inner.__aenter__())
        return self

    def __exit__(self, *error: object) -> None:
        run(self._inner.__aexit__(*error))


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def _iterated(source: Any) -> Iterator[Any]:
    try:
        while True:
            try:
                item = run(_awaited(anext(source)))
            except StopAsyncIteration:
                return
            yield item
    finally:
        run(source.aclose())


def make(kind: Kind, *args: Any, **kwargs: Any) -> Any:
    """A client of this kind, to be used as a Client."""
    return Client(*args, **kwargs) if kind == "sync" else Blocking(AsyncClient(*args, **kwargs))
