"""A typed client of the Serverless API, over the code that is generated from openapi/serverless.yaml."""

from typing import TYPE_CHECKING, Any

from yottabench.client.errors import (
    ApiError,
    AuthenticationError,
    ConnectionFailed,
    EndpointNotFound,
    EndpointUnavailable,
    InvalidArgument,
    InvalidRequest,
    JournalError,
    NotFound,
    PermissionDenied,
    RateLimited,
    ServerError,
    TaskFailed,
    TaskNotFound,
    TimedOut,
    UnreadableAnswer,
    WaitTimedOut,
    WebhookRefused,
    WorkerNotFound,
    WrongState,
    YottaError,
)

if TYPE_CHECKING:
    from yottabench.client.api import Client
    from yottabench.client.async_api import AsyncClient
    from yottabench.client.batch import BatchItem, BatchProgress, BatchResult
    from yottabench.client.plans import Retries, Rules
    from yottabench.client.raw import RawResponse
    from yottabench.client.waiting import is_terminal
    from yottabench.client.webhooks import Receiver, TaskResult

__all__ = [
    "ApiError",
    "AsyncClient",
    "AuthenticationError",
    "BatchItem",
    "BatchProgress",
    "BatchResult",
    "Client",
    "ConnectionFailed",
    "EndpointNotFound",
    "EndpointUnavailable",
    "InvalidArgument",
    "InvalidRequest",
    "JournalError",
    "NotFound",
    "PermissionDenied",
    "RateLimited",
    "RawResponse",
    "Receiver",
    "Retries",
    "Rules",
    "ServerError",
    "TaskFailed",
    "TaskNotFound",
    "TaskResult",
    "TimedOut",
    "UnreadableAnswer",
    "WaitTimedOut",
    "WebhookRefused",
    "WorkerNotFound",
    "WrongState",
    "YottaError",
    "is_terminal",
]

# What is asked for first is imported then: a program that only submits does not wait for receivers and batches.
_HOMES = {
    "AsyncClient": "async_api",
    "BatchItem": "batch",
    "BatchProgress": "batch",
    "BatchResult": "batch",
    "Client": "api",
    "RawResponse": "raw",
    "Receiver": "webhooks",
    "Retries": "plans",
    "Rules": "plans",
    "TaskResult": "webhooks",
    "is_terminal": "waiting",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    found = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
