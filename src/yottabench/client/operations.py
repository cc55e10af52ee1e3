"""The fourteen operations: from a caller's arguments to a checked Request. Nothing is sent here."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

import attrs
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

from yottabench.client import constraints, requests
from yottabench.client.errors import InvalidArgument
from yottabench.client.models import (
    Endpoint,
    LogDirection,
    LogPage,
    SubmitTaskRequest,
    SubmittedTask,
    Task,
    TaskCount,
    TaskPage,
    TaskStatus,
    Unset,
    Worker,
)
from yottabench.client.request import Request
from yottabench.client.requests import Id, given

ENDPOINT_ID = "endpoint_id"


@attrs.frozen
class Operations:
    """Makes requests. `check`: refuse here what the documented rules forbid, with InvalidArgument; else let the server
    judge, but for ids that would make another URL."""

    check: bool = True

    # ---- endpoints

    def create_endpoint(self, settings: Mapping[str, Any]) -> Request[Endpoint]:
        """See CreateSettings."""
        body = requests.create_body(settings, check=self.check)
        return Request(
            operation="createEndpoint",
            send_now=partial(create_endpoint.sync_detailed, body=body),
            send_async=partial(create_endpoint.asyncio_detailed, body=body),
            repeatable=False,
            secrets=requests.secrets_of(body),
            finish=_with_text_id,
        )

    def get_endpoint(self, endpoint_id: Id) -> Request[Endpoint]:
        """One endpoint."""
        path = self._endpoint(endpoint_id)
        return Request(
            operation="getEndpointById",
            send_now=partial(get_endpoint_by_id.sync_detailed, path),
            send_async=partial(get_endpoint_by_id.asyncio_detailed, path),
            finish=_with_text_id,
        )

    def list_endpoints(self, statuses: str | Iterable[str] | None) -> Request[list[Endpoint]]:
        """All endpoints, or those in some states."""
        wanted = self._statuses(statuses, of_workers=False)
        return Request(
            operation="listEndpoints",
            send_now=partial(list_endpoints.sync_detailed, status_list=wanted),
            send_async=partial(list_endpoints.asyncio_detailed, status_list=wanted),
            finish=_all_with_text_id,
        )

    def update_endpoint(self, endpoint_id: Id, settings: Mapping[str, Any]) -> Request[Endpoint]:
        """See UpdateSettings."""
        path, body = self._endpoint(endpoint_id), requests.update_body(settings, check=self.check)
        return Request(
            operation="updateEndpoint",
            send_now=partial(update_endpoint.sync_detailed, path, body=body),
            send_async=partial(update_endpoint.asyncio_detailed, path, body=body),
            secrets=requests.secrets_of(body),
            finish=_with_text_id,
        )

    def stop_endpoint(self, endpoint_id: Id) -> Request[Any]:
        """End the workers."""
        path = self._endpoint(endpoint_id)
        return Request(
            operation="stopEndpoint",
            send_now=partial(stop_endpoint.sync_detailed, path),
            send_async=partial(stop_endpoint.asyncio_detailed, path),
        )

    def start_endpoint(self, endpoint_id: Id) -> Request[Any]:
        """Start the workers again."""
        path = self._endpoint(endpoint_id)
        return Request(
            operation="startEndpoint",
            send_now=partial(start_endpoint.sync_detailed, path),
            send_async=partial(start_endpoint.asyncio_detailed, path),
        )

    def delete_endpoint(self, endpoint_id: Id) -> Request[Any]:
        """Delete an endpoint."""
        path = self._endpoint(endpoint_id)
        return Request(
            operation="deleteEndpoint",
            send_now=partial(delete_endpoint.sync_detailed, path),
            send_async=partial(delete_endpoint.asyncio_detailed, path),
        )

    def scale_workers(self, endpoint_id: Id, workers: int) -> Request[Any]:
        """Set the number of workers."""
        path = self._endpoint(endpoint_id)
        if self.check:
            constraints.check_query_integer("count", workers, 0, 1000)
        return Request(
            operation="scaleWorkers",
            send_now=partial(scale_workers.sync_detailed, path, count=workers),
            send_async=partial(scale_workers.asyncio_detailed, path, count=workers),
        )

    # ---- workers

    def list_workers(self, endpoint_id: Id, statuses: str | Iterable[str] | None) -> Request[list[Worker]]:
        """All workers, or those in some states."""
        path, wanted = self._endpoint(endpoint_id), self._statuses(statuses, of_workers=True)
        return Request(
            operation="listWorkers",
            send_now=partial(list_workers.sync_detailed, path, status_list=wanted),
            send_async=partial(list_workers.asyncio_detailed, path, status_list=wanted),
            finish=_all_with_both_ids,
        )

    def get_worker_logs(  # noqa: PLR0913 - the API's own parameters
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
    ) -> Request[LogPage]:
        """One page of a worker's log."""
        path = self._endpoint(endpoint_id)
        worker = segment("worker_id", worker_id)
        towards = LogDirection(direction)
        if self.check:
            constraints.check_path_id("workerId", worker, 64)
            sent = {"pageSize": page_size, "direction": towards.value, "keyword": keyword}
            tokens = {"searchAfterTime": search_after_time, "searchAfterOffset": search_after_offset}
            constraints.check_log_query(
                {name: str(value) for name, value in {**sent, **tokens}.items() if value is not None}
            )
        arguments: dict[str, Any] = {
            "page_size": page_size,
            "keyword": given(keyword),
            "start_time": requests.log_time(start_time),
            "end_time": requests.log_time(end_time),
            "search_after_time": given(search_after_time),
            "search_after_offset": requests.log_offset(search_after_offset),
            "direction": towards,
        }
        return Request(
            operation="getWorkerLogs",
            send_now=partial(get_worker_logs.sync_detailed, path, worker, **arguments),
            send_async=partial(get_worker_logs.asyncio_detailed, path, worker, **arguments),
        )

    # ---- tasks

    def submit_task(self, endpoint_id: Id, body: SubmitTaskRequest) -> Request[SubmittedTask]:
        """Put a task into the queue; the body is already checked."""
        path = self._endpoint(endpoint_id)
        return Request(
            operation="submitTask",
            send_now=partial(submit_task.sync_detailed, path, body=body),
            send_async=partial(submit_task.asyncio_detailed, path, body=body),
            task_id=body.task_id or None,
            secrets=requests.secrets_of(body),
        )

    def get_task(self, endpoint_id: Id, task_id: str) -> Request[Task]:
        """One task."""
        path, task = self._endpoint(endpoint_id), segment("task_id", task_id)
        if self.check:
            constraints.check_path_id("taskId", task, 255)
            constraints.check_no_shadowed_id(task)
        return Request(
            operation="getTaskById",
            send_now=partial(get_task_by_id.sync_detailed, path, task),
            send_async=partial(get_task_by_id.asyncio_detailed, path, task),
            task_id=task,
        )

    def list_tasks(
        self, endpoint_id: Id, *, status: TaskStatus | str | None = None, page_number: int = 1, page_size: int = 10
    ) -> Request[TaskPage]:
        """One page of the tasks."""
        path = self._endpoint(endpoint_id)
        wanted = None if status is None else TaskStatus(status)
        if self.check:
            if wanted is not None:
                constraints.check_task_status(wanted.value)
            constraints.check_query_integer("pageNumber", page_number, 1, constraints.INT32_MAX)
            constraints.check_query_integer("pageSize", page_size, 1, 100)
        arguments: dict[str, Any] = {"status": given(wanted), "page_number": page_number, "page_size": page_size}
        return Request(
            operation="listTasks",
            send_now=partial(list_tasks.sync_detailed, path, **arguments),
            send_async=partial(list_tasks.asyncio_detailed, path, **arguments),
        )

    def get_task_count(self, endpoint_id: Id) -> Request[TaskCount]:
        """How many tasks are open."""
        path = self._endpoint(endpoint_id)
        return Request(
            operation="getTaskCount",
            send_now=partial(get_task_count.sync_detailed, path),
            send_async=partial(get_task_count.asyncio_detailed, path),
        )

    # ---- parts of them

    def _endpoint(self, endpoint_id: Id) -> str:
        text = segment(ENDPOINT_ID, endpoint_id)
        if self.check:
            constraints.check_endpoint_id(text)
        return text

    def _statuses(self, statuses: str | Iterable[str] | None, *, of_workers: bool) -> str | Unset:
        wanted = requests.status_list(statuses)
        if self.check and not isinstance(wanted, Unset):
            constraints.check_status_list(wanted, of_workers=of_workers)
        return wanted


def segment(name: str, value: Id) -> str:
    """An id as part of a path. Raises InvalidArgument when it would make another URL."""
    text = str(value)
    if isinstance(value, bool) or not isinstance(value, (str, int)) or text in ("", ".", ".."):  # pyright: ignore[reportUnnecessaryIsInstance] -- callers may be untyped
        raise InvalidArgument(f"{name} must be an id, but is {value!r}. Ids come from the answers of the API.")
    return text


def _with_text_id(endpoint: Endpoint) -> Endpoint:
    # Some answers of the service hold the id as a number; it is text here, so that equal ids are equal.
    endpoint.id = str(endpoint.id)
    return endpoint


def _all_with_text_id(endpoints: list[Endpoint]) -> list[Endpoint]:
    return [_with_text_id(one) for one in endpoints]


def _with_both_ids(worker: Worker) -> Worker:
    # Some answers of the service know the id under one name, some under the other.
    found = worker.worker_id or worker.id
    if found:
        worker.worker_id = worker.id = str(found)
    return worker


def _all_with_both_ids(workers: list[Worker]) -> list[Worker]:
    return [_with_both_ids(one) for one in workers]
