"""Tasks, awaited: the methods of tasks.py with the same names, arguments and rules."""

from __future__ import annotations

from contextlib import aclosing
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from yottabench.client.async_resources import Resource
from yottabench.client.news import TaskNews, listening
from yottabench.client.prepared import Receiver, Submission, submitted, submitted_and_awaited
from yottabench.client.requests import Id
from yottabench.client.waiting import DEFAULT_POLL_S, DEFAULT_WAIT_S, wait

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping

    from yottabench.client.batch import BatchResult, OnProgress
    from yottabench.client.batch_setup import BatchRun
    from yottabench.client.models import (
        SubmittedTask,
        Task,
        TaskCount,
        TaskPage,
        TaskStatus,
        TaskSummary,
    )
    from yottabench.client.paging import TaskPager
    from yottabench.client.raw_resources import AsyncRawTasks
    from yottabench.client.request import CallOptions


class AsyncTasks(Resource):
    """The queue of a QUEUE endpoint."""

    @cached_property
    def with_raw_response(self) -> AsyncRawTasks:
        """The same methods, giving the HTTP answer beside the data."""
        from yottabench.client.raw_resources import AsyncRawTasks

        return AsyncRawTasks(self)

    async def submit(
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
        **options: Unpack[CallOptions],
    ) -> SubmittedTask:
        """Put a task into the queue; a worker gets `input` as JSON by POST to process_uri on worker_port.

        The task has its id before it is sent for the first time: yours, or one that is made. After a failure that may
        hide a success the service is asked for that id, and the task sent again only if it is not there: no retry
        makes it run twice. Raises EndpointNotFound, EndpointUnavailable, InvalidRequest, RateLimited; an error whose
        `may_have_taken_effect` is true leaves open whether the task `task_id` is in the queue.
        """
        wanted = Submission(
            endpoint_id=endpoint_id,
            input=input,
            worker_port=worker_port,
            process_uri=process_uri,
            task_id=task_id,
            webhook=webhook,
            webhook_auth_key=webhook_auth_key,
            headers=headers,
        )
        with self._setup.telemetry.span("submitTask", endpoint_id, task_id):
            return await self._driver.run(submitted(self._setup, wanted, wanted.body(self._setup), options))

    async def submit_and_wait(  # noqa: PLR0913 - the API's own fields, and how to wait
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
        timeout_s: float = DEFAULT_WAIT_S,
        poll_s: float = DEFAULT_POLL_S,
        check: bool = False,
        receiver: Receiver | None = None,
    ) -> Task:
        """Submit a task and wait until it has ended: `submit` and `wait` in one, in `timeout_s` seconds together.

        With a receiver the result is sent there (unless `webhook` says otherwise), and the wait ends when it comes.
        """
        wanted = Submission(
            endpoint_id=endpoint_id,
            input=input,
            worker_port=worker_port,
            process_uri=process_uri,
            task_id=task_id,
            webhook=webhook,
            webhook_auth_key=webhook_auth_key,
            headers=headers,
            receiver=receiver,
        )
        with self._setup.telemetry.span("submitTask and wait", endpoint_id, task_id):
            body = wanted.body(self._setup)
            return await self._driver.run(
                submitted_and_awaited(self._setup, wanted, body, timeout_s=timeout_s, poll_s=poll_s, check=check)
            )

    def submit_many(  # noqa: PLR0913 - the API's own fields, and how to go about it
        self,
        endpoint_id: Id,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        worker_port: int,
        process_uri: str,
        webhook: str | None = None,
        webhook_auth_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        concurrency: int = 32,
        max_open: int = 1000,
        wait: bool = True,
        outputs: bool = True,
        poll_s: float = DEFAULT_POLL_S,
        patience_s: float = 300.0,
        journal: str | os.PathLike[str] | None = None,
        on_progress: OnProgress | None = None,
        receiver: Receiver | None = None,
    ) -> AsyncIterator[BatchResult]:
        """Submit a task for each item (an input, or a BatchItem), and give the results as the tasks end.

        At most `concurrency` requests are under way and `max_open` tasks open at a time; items are pulled only as
        there is room, and nothing is sent while the reader does not ask for the next result, so a batch of any length
        takes the same memory. With a `journal` (a file) the batch can go on after an interruption: call it again with
        the same items, and what was given already is left out, what was sent is found, and no task runs twice.
        `on_progress` is called while the reader waits. `wait` False: results come when the service has the tasks;
        `outputs` False: without outputs, which saves a request per task.

        Errors of one task are in its BatchResult. What stops all (EndpointNotFound, AuthenticationError, a service
        that does not answer for `patience_s` seconds) is raised. Close the iterator (contextlib.aclosing) to stop
        early.
        """
        from yottabench.client.batch_setup import BatchRun

        run = BatchRun(
            self._setup,
            endpoint_id,
            journal=journal,
            receiver=receiver,
            worker_port=worker_port,
            process_uri=process_uri,
            webhook=webhook,
            webhook_auth_key=webhook_auth_key,
            headers=headers,
            concurrency=concurrency,
            max_open=max_open,
            wait=wait,
            outputs=outputs,
            poll_s=poll_s,
            patience_s=patience_s,
        )
        return self._batch(run, items, on_progress)

    async def _batch(
        self, run: BatchRun, items: Iterable[Any] | AsyncIterable[Any], on_progress: OnProgress | None
    ) -> AsyncIterator[BatchResult]:
        from yottabench.client.batch_drivers import run_batch_async

        with run as batch:
            async with aclosing(run_batch_async(self._driver, batch, items, run.concurrency, on_progress)) as results:
                async for result in results:
                    yield result

    async def get(self, endpoint_id: Id, task_id: str, **options: Unpack[CallOptions]) -> Task:
        """One task with its input and output. Raises TaskNotFound, EndpointNotFound."""
        return await self._call(self._setup.operations.get_task(endpoint_id, task_id), options, endpoint_id)

    async def list(
        self,
        endpoint_id: Id,
        *,
        status: TaskStatus | str | None = None,
        page_number: int = 1,
        page_size: int = 10,
        **options: Unpack[CallOptions],
    ) -> TaskPage:
        """One page of the tasks, newest first. Page sizes are 1 to 100. Raises EndpointNotFound, InvalidRequest."""
        request = self._setup.operations.list_tasks(
            endpoint_id, status=status, page_number=page_number, page_size=page_size
        )
        return await self._call(request, options, endpoint_id)

    def iterate(self, endpoint_id: Id, *, status: TaskStatus | str | None = None) -> AsyncIterator[TaskSummary]:
        """All tasks, newest first, each once: none is missed or repeated while new ones arrive or others change."""
        from yottabench.client.paging import TaskPager

        pager = TaskPager(self._setup.rules, self._setup.operations, endpoint_id, status=status)
        return self._pages(pager)

    async def _pages(self, pager: TaskPager) -> AsyncIterator[TaskSummary]:
        while not pager.done:
            for task in await self._driver.run(pager.next_tasks()):
                yield task

    async def count(self, endpoint_id: Id, **options: Unpack[CallOptions]) -> TaskCount:
        """How many tasks wait or are being executed (`processing`). Raises EndpointNotFound."""
        return await self._call(self._setup.operations.get_task_count(endpoint_id), options, endpoint_id)

    async def wait(
        self,
        endpoint_id: Id,
        task_id: str,
        *,
        timeout_s: float = DEFAULT_WAIT_S,
        poll_s: float = DEFAULT_POLL_S,
        check: bool = False,
        receiver: TaskNews | None = None,
    ) -> Task:
        """Ask for the task until it has ended, and give it, be it SUCCESS, DELIVERED or FAILED: look at `status`.

        Asks after 0.05 s, then at growing distances of at most `poll_s`; when a receiver runs that the task's result
        is sent to, at once when it comes. Failures of the service that may pass are borne as long as the wait lasts.
        Raises WaitTimedOut when the task is still open after `timeout_s`; with `check`, TaskFailed when it FAILED.
        """
        plan = wait(
            self._setup.rules,
            self._setup.operations,
            endpoint_id,
            task_id,
            timeout_s=timeout_s,
            poll_s=poll_s,
            check=check,
            receiver=receiver,
        )
        return await self._run("wait", plan, endpoint_id, task_id)

    @overload
    def wait_many(
        self,
        endpoint_id: Id,
        task_ids: Iterable[str],
        *,
        outputs: Literal[True] = True,
        timeout_s: float = ...,
        poll_s: float = ...,
        receiver: TaskNews | None = ...,
    ) -> AsyncIterator[Task]: ...
    @overload
    def wait_many(
        self,
        endpoint_id: Id,
        task_ids: Iterable[str],
        *,
        outputs: Literal[False],
        timeout_s: float = ...,
        poll_s: float = ...,
        receiver: TaskNews | None = ...,
    ) -> AsyncIterator[TaskSummary]: ...
    def wait_many(
        self,
        endpoint_id: Id,
        task_ids: Iterable[str],
        *,
        outputs: bool = True,
        timeout_s: float = DEFAULT_WAIT_S,
        poll_s: float = DEFAULT_POLL_S,
        receiver: TaskNews | None = None,
    ) -> AsyncIterator[Task] | AsyncIterator[TaskSummary]:
        """Give each of the tasks once, when it has ended, in the order of their ends.

        One reading of the list serves a hundred tasks. `outputs` False: as the list shows them, which saves a request
        per task. Raises WaitTimedOut, with all that are still open, after `timeout_s`; TaskNotFound for an id that the
        service does not know.
        """
        return self._wait_many(endpoint_id, list(task_ids), outputs, timeout_s, poll_s, receiver)

    async def _wait_many(
        self,
        endpoint_id: Id,
        task_ids: list[str],
        outputs: bool,
        timeout_s: float,
        poll_s: float,
        receiver: TaskNews | None,
    ) -> AsyncIterator[Any]:
        from yottabench.client.many import ManyWait

        with listening(receiver, endpoint_id) as heard:
            waiting = ManyWait(
                self._setup.rules,
                self._setup.operations,
                endpoint_id,
                task_ids,
                timeout_s=timeout_s,
                poll_s=poll_s,
                heard=heard,
            )
            while not waiting.done:
                for task in await self._driver.run(waiting.tasks() if outputs else waiting.summaries()):
                    yield task
