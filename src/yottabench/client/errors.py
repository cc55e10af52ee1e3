"""What can go wrong in a call, as one tree of exceptions.

YottaError
 +- InvalidArgument             refused here: nothing was sent (also a ValueError)
 +- ConnectionFailed            no answer arrived
 |   +- TimedOut                no answer within the time limit (also a TimeoutError)
 +- WaitTimedOut                tasks were still open when the wait for them ended (also a TimeoutError)
 +- TaskFailed                  a task ended FAILED, and the caller asked for an exception then
 +- JournalError                the journal of a batch cannot be used
 +- WebhookRefused              what came to a receiver is not genuine, not new, or not readable
 +- ApiError                    an answer arrived and is no success: code, message, HTTP status, beginning of the body
     +- InvalidRequest          10001, 40001, HTTP 400, 413, 422
     +- AuthenticationError     40101, HTTP 401
     +- PermissionDenied        10004, HTTP 403
     +- NotFound                10007, 40400, HTTP 404
     |   +- EndpointNotFound    14000, 24001
     |   +- WorkerNotFound      10007 when a worker was asked for
     |   +- TaskNotFound        24011, 40402
     +- WrongState              12001, 24002, HTTP 409
     +- EndpointUnavailable     24000
     +- RateLimited             429, HTTP 429
     +- ServerError             10002, 50001, HTTP 5xx
     +- UnreadableAnswer        neither a success nor an error that can be read

The code decides first, because the service reports some errors in an HTTP 200; the HTTP status decides when there is
no code, or none known here. Secrets that were sent are blanked out of messages and bodies. The two kinds of error that
a request can end in, ConnectionFailed and ApiError, say in `may_have_taken_effect` whether the server may have done
what was asked all the same, and in `task_id` which task it was about, if any.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from yottabench.client.models import Task, TaskSummary


class YottaError(Exception):
    """Base of everything that this client raises on purpose."""


class InvalidArgument(YottaError, ValueError):
    """An argument cannot be sent. Nothing was sent."""


class ConnectionFailed(YottaError):
    """No answer arrived."""

    def __init__(
        self, message: str, *, operation: str, may_have_taken_effect: bool, task_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.operation = operation
        self.may_have_taken_effect = may_have_taken_effect
        """False only when the server certainly never had the request."""
        self.task_id = task_id
        """The task that was asked for or submitted, if any."""

    def __str__(self) -> str:
        return str(self.args[0]) + _next_step(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), **_details(self)), self.args, _notes(self)


class TimedOut(ConnectionFailed, TimeoutError):
    """No answer arrived within the time limit."""


class WaitTimedOut(YottaError, TimeoutError):
    """Tasks were still open when the time to wait for them was over."""

    def __init__(self, message: str, task: Task | TaskSummary, open_ids: tuple[str, ...] = ()) -> None:
        super().__init__(message, task, open_ids)
        self.task = task
        """One of them, as it was last seen."""
        self.open_ids: tuple[str, ...] = open_ids or (task.task_id,)
        """The ids of all of them."""

    def __str__(self) -> str:
        return str(self.args[0])


class TaskFailed(YottaError):
    """A task ended FAILED; `task` is that task, with the reason in its `error`."""

    def __init__(self, message: str, task: Task) -> None:
        super().__init__(message, task)
        self.task = task

    def __str__(self) -> str:
        return str(self.args[0])


class JournalError(YottaError):
    """The journal of a batch is in use, unreadable, or that of another batch. Nothing was sent."""


class WebhookRefused(YottaError):
    """A request to a receiver was refused; `http_status` is what it was answered."""

    def __init__(self, message: str, http_status: int) -> None:
        super().__init__(message, http_status)
        self.http_status = http_status

    def __str__(self) -> str:
        return str(self.args[0])


class ApiError(YottaError):
    """An answer arrived and is not a success."""

    hint: ClassVar[str] = ""

    def __init__(  # noqa: PLR0913 - all of them are for whoever reads the error
        self,
        message: str,
        *,
        operation: str,
        http_status: int,
        code: int | None = None,
        body: str = "",
        retry_after_s: float | None = None,
        may_have_taken_effect: bool = False,
        request_id: str | None = None,
        task_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        """The message of the envelope, or what can be said without one."""
        self.operation = operation
        """The operationId of what was asked, such as submitTask."""
        self.http_status = http_status
        self.code = code
        """The code of the envelope; None when the answer holds none."""
        self.body = body
        """The beginning of the body, for people to read."""
        self.retry_after_s = retry_after_s
        """Seconds to wait before trying again, when the server said so."""
        self.may_have_taken_effect = may_have_taken_effect
        """Whether the server may have done what was asked all the same."""
        self.request_id = request_id
        """The header X-Request-Id of the answer, for the service's support; None when there is none."""
        self.task_id = task_id
        """The task that was asked for or submitted, if any."""

    def __str__(self) -> str:
        where = f"HTTP {self.http_status}" if self.code is None else f"code {self.code}, HTTP {self.http_status}"
        if self.request_id is not None:
            where += f", request {self.request_id}"
        text = f"{self.operation}: {self.message} ({where})"
        return (f"{text} {self.hint}" if self.hint else text) + _next_step(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), **_details(self)), (self.message,), _notes(self)


class InvalidRequest(ApiError):
    """A parameter or field is wrong or missing; the message names it. Nothing was changed."""


class AuthenticationError(ApiError):
    """The key is missing, wrong or no longer valid."""

    hint = "Check the api_key argument or the environment variable YOTTA_API_KEY."


class PermissionDenied(ApiError):
    """The key is valid, but not for this."""


class NotFound(ApiError):
    """What was asked for does not exist."""


class EndpointNotFound(NotFound):
    """There is no such endpoint, or it was deleted."""


class WorkerNotFound(NotFound):
    """The endpoint has no such worker."""


class TaskNotFound(NotFound):
    """The endpoint has no such task."""


class WrongState(ApiError):
    """The endpoint's present state forbids this action."""


class EndpointUnavailable(ApiError):
    """The endpoint takes no tasks in its present state."""


class RateLimited(ApiError):
    """Too many requests. Nothing was done; try again after `retry_after_s`, if it is there."""


class ServerError(ApiError):
    """The server, or something before it, failed. Whether the request took effect is not known."""


class UnreadableAnswer(ApiError):
    """The answer is neither a success nor an error that can be read. Whether the request took effect is not known."""

    hint = "Is the base URL right?"


def _next_step(error: ConnectionFailed | ApiError) -> str:
    if error.operation != "submitTask" or not error.may_have_taken_effect or error.task_id is None:
        return ""
    return (
        f" Task {error.task_id} may be in the queue all the same: ask for it with tasks.get, or submit it again under "
        "the same task_id."
    )


def _details(error: Exception) -> dict[str, Any]:
    return {name: value for name, value in vars(error).items() if name != "message" and not name.startswith("__")}


def _notes(error: Exception) -> dict[str, Any] | None:
    notes: Any = getattr(error, "__notes__", None)
    return None if notes is None else {"__notes__": notes}
