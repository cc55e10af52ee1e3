"""The client: one method for each operation of the API, grouped as the API groups them."""

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx
from yotta_serverless_api import AuthenticatedClient
from yotta_serverless_api.api.endpoints import (
    create_endpoint,
    delete_endpoint,
    get_endpoint_by_id,
    list_endpoints,
    start_endpoint,
    stop_endpoint,
    update_endpoint,
)
from yotta_serverless_api.api.tasks import get_task_by_id, get_task_count, list_tasks, submit_task
from yotta_serverless_api.api.workers import get_worker_logs, list_workers, scale_workers
from yotta_serverless_api.models import ErrorEnvelope

from yottabench.client import requests
from yottabench.client.envelope import Answer, Success, opened, translated
from yottabench.client.models import (
    Endpoint,
    LogDirection,
    LogPage,
    SubmittedTask,
    Task,
    TaskCount,
    TaskPage,
    TaskStatus,
    Worker,
)
from yottabench.client.requests import CreateSettings, Id, UpdateSettings, given, segment
from yottabench.client.transport import HttpClient, Transport, checked_api_key, checked_base_url, default_http
from yottabench.client.waiting import wait_for_end

DEFAULT_BASE_URL = "https://api.yottalabs.ai"
DEFAULT_TIMEOUT_S = 30.0
API_KEY_VARIABLE = "YOTTA_API_KEY"
BASE_URL_VARIABLE = "YOTTA_BASE_URL"

D = TypeVar("D")
Send = Callable[[AuthenticatedClient], Answer[Success[D] | ErrorEnvelope]]


class _Caller:
    """Makes one call at a time: sends it, opens the envelope, translates what goes wrong."""

    def __init__(self, transport: Transport, api_key: str) -> None:
        self._api_key = api_key
        # The transport brings address and key; the generated client only hands requests to it.
        self._generated = AuthenticatedClient(base_url="", token="")
        self._generated.set_httpx_client(transport)  # pyright: ignore[reportArgumentType] -- it has all that is used

    def __call__(self, operation: str, send: Send[D], secrets: Iterable[str] = ()) -> D:
        hidden = [self._api_key, *secrets]
        with translated(operation, hidden):
            answer = send(self._generated)
        return opened(operation, answer, hidden)


class Endpoints:
    """The endpoints of the account."""

    def __init__(self, call: _Caller) -> None:
        self._call = call

    def create(self, **settings: Unpack[CreateSettings]) -> Endpoint:
        """Create an endpoint and start its workers; it is INITIALIZING at first. See CreateSettings."""
        body = requests.create_body(settings)
        found = self._call(
            "createEndpoint",
            lambda api: create_endpoint.sync_detailed(client=api, body=body),
            requests.secrets_of(body),
        )
        return _with_text_id(found)

    def get(self, endpoint_id: Id) -> Endpoint:
        """One endpoint. Raises EndpointNotFound."""
        path = segment("endpoint_id", endpoint_id)
        found = self._call("getEndpointById", lambda api: get_endpoint_by_id.sync_detailed(path, client=api))
        return _with_text_id(found)

    def list(self, *, statuses: str | Iterable[str] | None = None) -> list[Endpoint]:
        """All endpoints, or those in one of the given states ("RUNNING,STOPPED" or a list)."""
        wanted = requests.status_list(statuses)
        found = self._call("listEndpoints", lambda api: list_endpoints.sync_detailed(client=api, status_list=wanted))
        return [_with_text_id(one) for one in found]

    def update(self, endpoint_id: Id, **settings: Unpack[UpdateSettings]) -> Endpoint:
        """Change an endpoint. See UpdateSettings. Raises EndpointNotFound, or WrongState where it must be stopped."""
        path, body = segment("endpoint_id", endpoint_id), requests.update_body(settings)
        found = self._call(
            "updateEndpoint",
            lambda api: update_endpoint.sync_detailed(path, client=api, body=body),
            requests.secrets_of(body),
        )
        return _with_text_id(found)

    def stop(self, endpoint_id: Id) -> None:
        """End the workers; the endpoint and its queue stay. Raises EndpointNotFound, WrongState."""
        path = segment("endpoint_id", endpoint_id)
        self._call("stopEndpoint", lambda api: stop_endpoint.sync_detailed(path, client=api))

    def start(self, endpoint_id: Id) -> None:
        """Start a stopped endpoint again. Raises EndpointNotFound, WrongState."""
        path = segment("endpoint_id", endpoint_id)
        self._call("startEndpoint", lambda api: start_endpoint.sync_detailed(path, client=api))

    def delete(self, endpoint_id: Id) -> None:
        """Delete an endpoint; its open tasks fail. Raises EndpointNotFound, WrongState."""
        path = segment("endpoint_id", endpoint_id)
        self._call("deleteEndpoint", lambda api: delete_endpoint.sync_detailed(path, client=api))

    def scale(self, endpoint_id: Id, workers: int) -> None:
        """Set the number of workers, 0 to 1000. Raises EndpointNotFound, InvalidRequest, WrongState."""
        path = segment("endpoint_id", endpoint_id)
        self._call("scaleWorkers", lambda api: scale_workers.sync_detailed(path, client=api, count=workers))


class Workers:
    """The workers of an endpoint."""

    def __init__(self, call: _Caller) -> None:
        self._call = call

    def list(self, endpoint_id: Id, *, statuses: str | Iterable[str] | None = None) -> list[Worker]:
        """All workers, or those in one of the given states; `worker_id` is set in all. Raises EndpointNotFound."""
        path, wanted = segment("endpoint_id", endpoint_id), requests.status_list(statuses)
        found = self._call("listWorkers", lambda api: list_workers.sync_detailed(path, client=api, status_list=wanted))
        return [_with_both_ids(one) for one in found]

    def logs(  # noqa: PLR0913 - the API's own parameters
        self,
        endpoint_id: Id,
        worker_id: Id,
        *,
        page_size: int = 100,
        keyword: str | None = None,
        start_time: str | int | datetime | None = None,
        end_time: str | int | datetime | None = None,
        search_after_time: str | None = None,
        search_after_offset: str | int | None = None,
        direction: LogDirection | str = LogDirection.FORWARD,
    ) -> LogPage:
        """One page of a worker's log. Raises EndpointNotFound, WorkerNotFound, InvalidRequest.

        To read on, send next_search_after_time and next_search_after_offset of the last page as search_after_time and
        search_after_offset. Integer times are epoch milliseconds.
        """
        path, worker = segment("endpoint_id", endpoint_id), segment("worker_id", worker_id)
        offset = requests.log_offset(search_after_offset)
        return self._call(
            "getWorkerLogs",
            lambda api: get_worker_logs.sync_detailed(
                path,
                worker,
                client=api,
                page_size=page_size,
                keyword=given(keyword),
                start_time=requests.log_time(start_time),
                end_time=requests.log_time(end_time),
                search_after_time=given(search_after_time),
                search_after_offset=offset,
                direction=LogDirection(direction),
            ),
        )


class Tasks:
    """The queue of a QUEUE endpoint."""

    def __init__(self, call: _Caller) -> None:
        self._call = call

    def submit(
        self,
        endpoint_id: Id,
        input: Any,
        *,
        worker_port: int,
        process_uri: str,
        task_id: str | None = None,
        webhook: str | None = None,
        webhook_auth_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> SubmittedTask:
        """Put a task into the queue; a worker gets `input` as JSON by POST to process_uri on worker_port.

        With a task_id of your own, sending the same task again is harmless. Raises EndpointNotFound,
        EndpointUnavailable, InvalidRequest, RateLimited.
        """
        path = segment("endpoint_id", endpoint_id)
        body = requests.submit_body(
            input,
            worker_port=worker_port,
            process_uri=process_uri,
            task_id=task_id,
            webhook=webhook,
            webhook_auth_key=webhook_auth_key,
            headers=headers,
        )
        return self._call(
            "submitTask",
            lambda api: submit_task.sync_detailed(path, client=api, body=body),
            requests.secrets_of(body),
        )

    def get(self, endpoint_id: Id, task_id: str) -> Task:
        """One task with its input and output. Raises TaskNotFound, EndpointNotFound."""
        path, task = segment("endpoint_id", endpoint_id), segment("task_id", task_id)
        return self._call("getTaskById", lambda api: get_task_by_id.sync_detailed(path, task, client=api))

    def list(
        self,
        endpoint_id: Id,
        *,
        status: TaskStatus | str | None = None,
        page_number: int = 1,
        page_size: int = 10,
    ) -> TaskPage:
        """One page of the tasks, newest first. Page sizes are 1 to 100. Raises EndpointNotFound, InvalidRequest."""
        path = segment("endpoint_id", endpoint_id)
        wanted = None if status is None else TaskStatus(status)
        return self._call(
            "listTasks",
            lambda api: list_tasks.sync_detailed(
                path, client=api, status=given(wanted), page_number=page_number, page_size=page_size
            ),
        )

    def count(self, endpoint_id: Id) -> TaskCount:
        """How many tasks wait or are being executed (`processing`). Raises EndpointNotFound."""
        path = segment("endpoint_id", endpoint_id)
        return self._call("getTaskCount", lambda api: get_task_count.sync_detailed(path, client=api))

    def wait(self, endpoint_id: Id, task_id: str, *, timeout_s: float = 300.0, poll_s: float = 2.0) -> Task:
        """Ask for the task until it has ended, and give it, be it SUCCESS, DELIVERED or FAILED: look at `status`.

        Raises WaitTimedOut when it is still open after `timeout_s`, and at once whatever `get` raises.
        """
        return wait_for_end(lambda: self.get(endpoint_id, task_id), timeout_s=timeout_s, poll_s=poll_s)


class Client:
    """The Serverless API.

    `api_key` defaults to the environment variable YOTTA_API_KEY, `base_url` to YOTTA_BASE_URL, then to the live
    service. `timeout_s` is the longest silence of the server that a call bears, for connecting and for each part of the
    answer. `http` carries the requests instead of an own httpx.Client; address, key and time limit still come from
    here, and closing it stays with whoever made it. Calls raise YottaError, see `yottabench.client.errors`.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        http: HttpClient | None = None,
    ) -> None:
        key = checked_api_key(api_key or os.environ.get(API_KEY_VARIABLE, ""))
        self._base_url = checked_base_url(base_url or os.environ.get(BASE_URL_VARIABLE, "") or DEFAULT_BASE_URL)
        self._own_http: httpx.Client | None = None
        if http is None:
            http = self._own_http = default_http(self._base_url)
        call = _Caller(Transport(http, base_url=self._base_url, api_key=key, timeout_s=timeout_s), key)
        self.endpoints = Endpoints(call)
        self.workers = Workers(call)
        self.tasks = Tasks(call)

    def __repr__(self) -> str:
        return f"Client(base_url={self._base_url!r})"

    def close(self) -> None:
        """Close the connections, unless they belong to an HTTP client that was given."""
        if self._own_http is not None:
            self._own_http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _with_text_id(endpoint: Endpoint) -> Endpoint:
    # Some answers of the service hold the id as a number; it is text here, so that equal ids are equal.
    endpoint.id = str(endpoint.id)
    return endpoint


def _with_both_ids(worker: Worker) -> Worker:
    # Some answers of the service know the id under one name, some under the other.
    found = worker.worker_id or worker.id
    if found:
        worker.worker_id = worker.id = str(found)
    return worker
