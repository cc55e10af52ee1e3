"""Endpoints and workers: one method for each operation to be awaited, and what is built on them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, TypeVar, Unpack

from yottabench.client.async_driver import AsyncDriver
from yottabench.client.models import LogDirection
from yottabench.client.plans import Plan, call
from yottabench.client.requests import CreateSettings, Id, UpdateSettings, call_options
from yottabench.client.setup import Setup
from yottabench.client.waiting import DEFAULT_POLL_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from datetime import datetime

    from yottabench.client.models import (
        Endpoint,
        LogEntry,
        LogPage,
        Worker,
    )
    from yottabench.client.paging import LogReader
    from yottabench.client.raw_resources import AsyncRawEndpoints, AsyncRawWorkers
    from yottabench.client.request import CallOptions, Request

D = TypeVar("D")
R = TypeVar("R")


class Resource:
    """What the resources of a client share."""

    def __init__(self, setup: Setup, driver: AsyncDriver) -> None:
        self._setup = setup
        self._driver = driver

    async def _call(self, request: Request[D], options: CallOptions, endpoint_id: Id | None = None) -> D:
        with self._setup.telemetry.span(request.operation, endpoint_id, request.task_id):
            return await self._driver.run(call(self._setup.rules, request, options))

    async def _run(self, name: str, plan: Plan[R], endpoint_id: Id, task_id: str | None) -> R:
        with self._setup.telemetry.span(name, endpoint_id, task_id):
            return await self._driver.run(plan)


class AsyncEndpoints(Resource):
    """The endpoints of the account."""

    @cached_property
    def with_raw_response(self) -> AsyncRawEndpoints:
        """The same methods, giving the HTTP answer beside the data."""
        from yottabench.client.raw_resources import AsyncRawEndpoints

        return AsyncRawEndpoints(self)

    async def create(self, **settings: Unpack[CreateSettings]) -> Endpoint:
        """Create an endpoint and start its workers; it is INITIALIZING at first. See CreateSettings.

        Not repeated after a failure that may hide a success, as a second endpoint would cost money.
        """
        return await self._call(self._setup.operations.create_endpoint(settings), call_options(settings))

    async def get(self, endpoint_id: Id, **options: Unpack[CallOptions]) -> Endpoint:
        """One endpoint. Raises EndpointNotFound."""
        return await self._call(self._setup.operations.get_endpoint(endpoint_id), options, endpoint_id)

    async def list(
        self, *, statuses: str | Iterable[str] | None = None, **options: Unpack[CallOptions]
    ) -> list[Endpoint]:
        """All endpoints, or those in one of the given states ("RUNNING,STOPPED" or a list)."""
        return await self._call(self._setup.operations.list_endpoints(statuses), options)

    async def update(self, endpoint_id: Id, **settings: Unpack[UpdateSettings]) -> Endpoint:
        """Change an endpoint. See UpdateSettings. Raises EndpointNotFound, or WrongState where it must be stopped."""
        request = self._setup.operations.update_endpoint(endpoint_id, settings)
        return await self._call(request, call_options(settings), endpoint_id)

    async def stop(self, endpoint_id: Id, **options: Unpack[CallOptions]) -> None:
        """End the workers; the endpoint and its queue stay. Raises EndpointNotFound, WrongState."""
        await self._call(self._setup.operations.stop_endpoint(endpoint_id), options, endpoint_id)

    async def start(self, endpoint_id: Id, **options: Unpack[CallOptions]) -> None:
        """Start a stopped endpoint again. Raises EndpointNotFound, WrongState."""
        await self._call(self._setup.operations.start_endpoint(endpoint_id), options, endpoint_id)

    async def delete(self, endpoint_id: Id, **options: Unpack[CallOptions]) -> None:
        """Delete an endpoint; its open tasks fail. Raises EndpointNotFound, WrongState."""
        await self._call(self._setup.operations.delete_endpoint(endpoint_id), options, endpoint_id)

    async def scale(self, endpoint_id: Id, workers: int, **options: Unpack[CallOptions]) -> None:
        """Set the number of workers, 0 to 1000. Raises EndpointNotFound, InvalidRequest, WrongState."""
        await self._call(self._setup.operations.scale_workers(endpoint_id, workers), options, endpoint_id)


class AsyncWorkers(Resource):
    """The workers of an endpoint."""

    @cached_property
    def with_raw_response(self) -> AsyncRawWorkers:
        """The same methods, giving the HTTP answer beside the data."""
        from yottabench.client.raw_resources import AsyncRawWorkers

        return AsyncRawWorkers(self)

    async def list(
        self, endpoint_id: Id, *, statuses: str | Iterable[str] | None = None, **options: Unpack[CallOptions]
    ) -> list[Worker]:
        """All workers, or those in one of the given states; `worker_id` is set in all. Raises EndpointNotFound."""
        return await self._call(self._setup.operations.list_workers(endpoint_id, statuses), options, endpoint_id)

    async def logs(  # noqa: PLR0913 - the API's own parameters
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
        **options: Unpack[CallOptions],
    ) -> LogPage:
        """One page of a worker's log. Raises EndpointNotFound, WorkerNotFound, InvalidRequest.

        To read on, send next_search_after_time and next_search_after_offset of the last page as search_after_time and
        search_after_offset; `iterate_logs` does. Integer times are epoch milliseconds.
        """
        request = self._setup.operations.get_worker_logs(
            endpoint_id,
            worker_id,
            page_size=page_size,
            keyword=keyword,
            start_time=start_time,
            end_time=end_time,
            search_after_time=search_after_time,
            search_after_offset=search_after_offset,
            direction=direction,
        )
        return await self._call(request, options, endpoint_id)

    def iterate_logs(  # noqa: PLR0913 - the API's own parameters
        self,
        endpoint_id: Id,
        worker_id: Id,
        *,
        follow: bool = False,
        page_size: int = 1000,
        keyword: str | None = None,
        start_time: str | int | datetime | None = None,
        end_time: str | int | datetime | None = None,
        direction: LogDirection | str = LogDirection.FORWARD,
        poll_s: float = DEFAULT_POLL_S,
    ) -> AsyncIterator[LogEntry]:
        """All lines of a worker's log, each once, from the oldest on ("Backward": from the newest).

        `follow` goes on for ever, and looks for new lines every `poll_s` seconds, more often while there are some.
        """
        from yottabench.client.paging import LogReader

        reader = LogReader(
            self._setup.rules,
            self._setup.operations,
            endpoint_id,
            worker_id,
            {
                "page_size": page_size,
                "keyword": keyword,
                "start_time": start_time,
                "end_time": end_time,
                "direction": direction,
            },
            follow=follow,
            poll_s=poll_s,
        )
        return self._lines(reader)

    async def _lines(self, reader: LogReader) -> AsyncIterator[LogEntry]:
        while not reader.done:
            for line in await self._driver.run(reader.next_lines()):
                yield line
