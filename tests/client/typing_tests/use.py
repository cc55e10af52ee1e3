"""The public types as a user meets them: not run, but read by Pyright and mypy, both strict."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, assert_type

import httpx

from yottabench.client import (
    ApiError,
    AsyncClient,
    BatchItem,
    BatchProgress,
    BatchResult,
    Client,
    ConnectionFailed,
    RawResponse,
    Receiver,
    Retries,
    TaskFailed,
    TaskResult,
    WaitTimedOut,
    YottaError,
    is_terminal,
)
from yottabench.client.models import (
    Endpoint,
    LogEntry,
    LogPage,
    SubmittedTask,
    Task,
    TaskCount,
    TaskPage,
    TaskStatus,
    TaskSummary,
    Worker,
    WorkerStatusNotification,
)

GPU = {"region": "us-east-1", "gpuType": "NVIDIA_RTX_4090_24G", "gpuCount": 1}


def endpoints(client: Client) -> None:
    made = client.endpoints.create(
        name="a",
        image="b",
        resources=[GPU],
        workers=1,
        container_volume_in_gb=20,
        service_mode="QUEUE",
        environment_vars={"A": "1"},
        expose={"port": 8000, "protocol": "http"},
        timeout_s=5,
    )
    assert_type(made, Endpoint)
    assert_type(made.id, str)
    assert_type(client.endpoints.list(statuses=["RUNNING"]), list[Endpoint])
    assert_type(client.endpoints.get(made.id, deadline_s=10), Endpoint)
    client.endpoints.update(made.id, name="a", resources=[GPU], workers=2, container_volume_in_gb=20, webhook=None)
    client.endpoints.scale(made.id, 2)
    client.endpoints.stop(made.id)
    assert_type(client.workers.list(made.id), list[Worker])
    assert_type(client.workers.logs(made.id, "7"), LogPage)
    assert_type(client.workers.iterate_logs(made.id, "7", follow=True), Iterator[LogEntry])


def tasks(client: Client) -> None:
    made = client.tasks.submit("1", {"prompt": "x"}, worker_port=8000, process_uri="/", headers={"A": "b"})
    assert_type(made, SubmittedTask)
    assert_type(made.task_id, str)
    task = client.tasks.wait("1", made.task_id, check=True)
    assert_type(task, Task)
    if task.status == TaskStatus.SUCCESS and is_terminal(task):
        assert_type(task.task_id, str)
    assert_type(client.tasks.list("1", status="FAILED"), TaskPage)
    assert_type(client.tasks.count("1"), TaskCount)
    assert_type(client.tasks.iterate("1"), Iterator[TaskSummary])
    assert_type(client.tasks.wait_many("1", ["a"]), Iterator[Task])
    assert_type(client.tasks.wait_many("1", ["a"], outputs=False), Iterator[TaskSummary])
    assert_type(client.tasks.submit_and_wait("1", [1], worker_port=1, process_uri="/", timeout_s=60), Task)
    raw = client.tasks.with_raw_response.get("1", "a", timeout_s=1)
    assert_type(raw, RawResponse[Task])
    assert_type(raw.parsed, Task)


def batches(client: Client, journal: Path) -> None:
    def told(progress: BatchProgress) -> None:
        assert_type(progress.ended + progress.open, int)

    items = (BatchItem({"n": number}, task_id=f"t{number}") for number in range(10))
    results = client.tasks.submit_many(
        "1", items, worker_port=1, process_uri="/", journal=journal, on_progress=told, concurrency=8
    )
    for result in results:
        assert_type(result, BatchResult)
        if result.outcome == "REFUSED":
            assert_type(result.error, YottaError | None)


async def asynchronous(client: AsyncClient) -> None:
    assert_type(await client.endpoints.get("1"), Endpoint)
    made = await client.tasks.submit("1", 1, worker_port=1, process_uri="/")
    assert_type(made, SubmittedTask)
    assert_type(await client.tasks.wait("1", made.task_id), Task)
    assert_type(client.tasks.iterate("1"), AsyncIterator[TaskSummary])
    async for task in client.tasks.wait_many("1", [made.task_id]):
        assert_type(task, Task)
    async for line in client.workers.iterate_logs("1", "7"):
        assert_type(line, LogEntry)
    async for result in client.tasks.submit_many("1", [1], worker_port=1, process_uri="/"):
        assert_type(result, BatchResult)
    raw = await client.endpoints.with_raw_response.list()
    assert_type(raw, RawResponse[list[Endpoint]])


def webhooks() -> None:
    def on_task(result: TaskResult) -> None:
        assert_type(result.succeeded, bool)

    def on_worker(event: WorkerStatusNotification) -> None:
        assert_type(event.worker_id, str)

    with Receiver(on_task, on_worker, require_signature=True) as receiver:
        assert_type(receiver.url, str)
        with Client("k") as client:
            client.tasks.submit_and_wait("1", 1, worker_port=1, process_uri="/", receiver=receiver)


def configured() -> tuple[Client, AsyncClient]:
    blocking = Client("k", "http://x", 5.0, httpx.Client(), retries=Retries(max_retries=1), local_checks=False)
    return blocking, AsyncClient("k", "http://x", http=httpx.AsyncClient(), retries=3, deadline_s=9)


def errors(client: Client) -> Any:
    try:
        return client.tasks.get("1", "a").output
    except WaitTimedOut as error:
        assert_type(error.open_ids, tuple[str, ...])
        return error.task.status
    except TaskFailed as error:
        assert_type(error.task, Task)
        return error.task.error
    except (ApiError, ConnectionFailed) as error:
        assert_type(error.may_have_taken_effect, bool)
        assert_type(error.task_id, str | None)
        return error.operation
