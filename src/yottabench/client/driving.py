"""What both ways of carrying out plans share."""

from contextvars import ContextVar
from typing import Any, Protocol

from yottabench.client.errors import YottaError
from yottabench.client.plans import Effect, Plan, log
from yottabench.client.transport import HttpAnswer

last_answer: ContextVar[list[HttpAnswer] | None] = ContextVar("yottabench_last_answer", default=None)
"""Where the answers of a call are kept while somebody wants to see them raw."""


class Ended(Protocol):
    """A future, of threads or of an event loop, that is done."""

    def result(self) -> Any:
        """What came of it."""
        ...


def moved_on(plan: Plan[Any], outcome: Any) -> Effect:
    """Give a plan the outcome of its last effect; what to do next. Raises StopIteration with its result."""
    if isinstance(outcome, YottaError):
        return plan.throw(outcome)
    return plan.send(outcome)


def outcome_of(future: Ended) -> Any:
    """The result of a plan that ran by itself, or the YottaError that it ended in."""
    try:
        return future.result()
    except YottaError as error:
        return error


def keep(answer: HttpAnswer | None) -> None:
    """Keep an answer for whoever wants to see it raw."""
    kept = last_answer.get()
    if kept is not None and answer is not None:
        kept.append(answer)


def noted(error: YottaError) -> YottaError:
    """The error, told to the log."""
    log.debug("%s", error)
    return error
