"""A typed client of the Serverless API, over the code that is generated from openapi/serverless.yaml."""

from yottabench.client.api import Client
from yottabench.client.errors import (
    ApiError,
    AuthenticationError,
    ConnectionFailed,
    EndpointNotFound,
    EndpointUnavailable,
    InvalidArgument,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RateLimited,
    ServerError,
    TaskNotFound,
    TimedOut,
    UnreadableAnswer,
    WaitTimedOut,
    WorkerNotFound,
    WrongState,
    YottaError,
)
from yottabench.client.waiting import is_terminal

__all__ = [
    "ApiError",
    "AuthenticationError",
    "Client",
    "ConnectionFailed",
    "EndpointNotFound",
    "EndpointUnavailable",
    "InvalidArgument",
    "InvalidRequest",
    "NotFound",
    "PermissionDenied",
    "RateLimited",
    "ServerError",
    "TaskNotFound",
    "TimedOut",
    "UnreadableAnswer",
    "WaitTimedOut",
    "WorkerNotFound",
    "WrongState",
    "YottaError",
    "is_terminal",
]
