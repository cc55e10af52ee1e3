"""What the package promises by its names: which there are, that both clients agree, and what importing costs."""

import inspect
import subprocess
import sys
from typing import Any

import pytest

import yottabench.client
from tests.client.service import KEY
from yottabench.client import AsyncClient, Client, errors

PUBLIC = {
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
}
RESOURCES = {
    "endpoints": {"create", "delete", "get", "list", "scale", "start", "stop", "update", "with_raw_response"},
    "workers": {"iterate_logs", "list", "logs", "with_raw_response"},
    "tasks": {
        "count",
        "get",
        "iterate",
        "list",
        "submit",
        "submit_and_wait",
        "submit_many",
        "wait",
        "wait_many",
        "with_raw_response",
    },
}


def test_the_public_names_are_these() -> None:
    assert set(yottabench.client.__all__) == PUBLIC == set(dir(yottabench.client))
    assert all(getattr(yottabench.client, name) is not None for name in PUBLIC)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = yottabench.client.Nothing  # pyright: ignore[reportAttributeAccessIssue] -- the point of the test


def test_every_error_is_public() -> None:
    tree = {name for name, one in vars(errors).items() if inspect.isclass(one) and issubclass(one, errors.YottaError)}
    assert tree <= PUBLIC


@pytest.mark.parametrize("resource", RESOURCES)
def test_both_clients_have_the_same_methods_with_the_same_arguments(resource: str) -> None:
    one, other = (getattr(made(KEY, "http://x.test"), resource) for made in (Client, AsyncClient))
    for each in (one, other):
        assert {name for name in dir(each) if not name.startswith("_")} == RESOURCES[resource]
    for name in RESOURCES[resource] - {"with_raw_response"}:
        assert arguments(getattr(one, name)) == arguments(getattr(other, name)), name
        assert inspect.getdoc(getattr(one, name)), name


def arguments(method: Any) -> list[tuple[str, Any, Any]]:
    found = inspect.signature(method).parameters.values()
    return [(one.name, one.kind, one.default) for one in found]


def test_both_clients_are_made_alike() -> None:
    assert arguments(Client) == arguments(AsyncClient)


def imported_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(found.stdout.split())


def test_importing_the_client_imports_nothing_that_it_may_not_need() -> None:
    base = imported_by("import attrs, httpx")
    more = imported_by("import attrs, httpx; from yottabench.client import Client") - base
    heavy = {"aiohttp", "opentelemetry", "http.server", "typer", "rich", "yaml", "msgspec", "locust", "uvloop"}
    assert not {name for name in more if name.partition(".")[0] in heavy or name in heavy}
    ours = {name.split(".")[2] for name in more if name.startswith("yottabench.client.")}
    assert ours.isdisjoint({"async_api", "batch_setup", "journal", "paging", "webhooks", "raw_resources", "http_async"})


def test_the_package_says_that_it_is_typed() -> None:
    from importlib.resources import files

    assert files("yottabench").joinpath("py.typed").is_file()
    assert files("yotta_serverless_api").joinpath("py.typed").is_file()
