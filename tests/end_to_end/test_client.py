"""Both clients against a real emulator with real workers."""

import asyncio
import concurrent.futures
import json
import queue
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.clients import KINDS, Kind, end_loop, make
from tests.client.emulator import RESOURCE, emulator, make_endpoint
from yottabench.client import (
    AsyncClient,
    BatchItem,
    Client,
    EndpointNotFound,
    InvalidRequest,
    Receiver,
    Retries,
    TaskFailed,
    TaskNotFound,
    TaskResult,
    WaitTimedOut,
    WorkerNotFound,
)

KEY = "end-to-end"
TO_WORKER: dict[str, Any] = {"worker_port": 8000, "process_uri": "/run"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with emulator() as made:
        yield made
    end_loop()


@pytest.fixture(scope="module")
def endpoint(url: str) -> str:
    return make_endpoint(url, KEY, workers=2)


@pytest.fixture(scope="module")
def queue_only(url: str) -> str:
    """An endpoint without workers."""
    return make_endpoint(url, KEY, workers=0)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture
def client(url: str, kind: Kind) -> Iterator[Any]:
    with make(kind, KEY, url) as made:
        yield made


def test_a_task_runs_and_its_output_comes_back(client: Any, endpoint: str) -> None:
    task = client.tasks.submit_and_wait(endpoint, {"prompt": "Hello, world!"}, **TO_WORKER, timeout_s=60)
    assert (task.status, task.output) == ("SUCCESS", {"prompt": "Hello, world!"})
    assert client.tasks.get(endpoint, task.task_id).to_dict() == task.to_dict()


def test_the_life_of_an_endpoint(client: Any) -> None:
    made = client.endpoints.create(
        name="life",
        image="sim/echo",
        resources=[RESOURCE],
        workers=0,
        container_volume_in_gb=20,
        service_mode="QUEUE",
        environment_vars={"A": "1"},
    )
    assert made.id in [one.id for one in client.endpoints.list()]
    changed = client.endpoints.update(
        made.id, name="changed", resources=[RESOURCE], workers=1, container_volume_in_gb=30
    )
    assert (changed.name, changed.total_workers) == ("changed", 1)
    client.endpoints.scale(made.id, 0)
    client.endpoints.stop(made.id)
    client.endpoints.start(made.id)
    client.endpoints.delete(made.id)
    with pytest.raises(EndpointNotFound):
        client.endpoints.get(made.id)


def test_what_does_not_exist_is_told(client: Any, endpoint: str) -> None:
    with pytest.raises(TaskNotFound) as caught:
        client.tasks.get(endpoint, "nobody")
    assert caught.value.task_id == "nobody"
    with pytest.raises(WorkerNotFound):
        client.workers.logs(endpoint, "1")
    with pytest.raises(EndpointNotFound):
        client.endpoints.get("1")


def test_the_same_id_twice_is_one_task_and_another_payload_is_refused(client: Any, queue_only: str, kind: Kind) -> None:
    for _ in range(2):
        assert client.tasks.submit(queue_only, 1, **TO_WORKER, task_id=f"same_{kind}").task_id == f"same_{kind}"
    with pytest.raises(InvalidRequest, match="another payload"):
        client.tasks.submit(queue_only, 2, **TO_WORKER, task_id=f"same_{kind}")


def test_a_wait_for_what_does_not_end_is_over_in_time(client: Any, queue_only: str) -> None:
    made = client.tasks.submit(queue_only, 1, **TO_WORKER)
    with pytest.raises(WaitTimedOut, match="still PROCESSING") as caught:
        client.tasks.wait(queue_only, made.task_id, timeout_s=0.3)
    assert caught.value.task.task_id == made.task_id


def test_hundreds_are_waited_for_at_once(client: Any, endpoint: str) -> None:
    ids = [client.tasks.submit(endpoint, {"n": number}, **TO_WORKER).task_id for number in range(130)]
    found = {task.task_id: task.output["n"] for task in client.tasks.wait_many(endpoint, ids, timeout_s=120)}
    assert found == {task_id: number for number, task_id in enumerate(ids)}


def test_all_tasks_are_iterated_once_while_more_are_submitted(client: Any, url: str, kind: Kind) -> None:
    endpoint = make_endpoint(url, KEY, workers=0)
    first = {client.tasks.submit(endpoint, 1, **TO_WORKER).task_id for _ in range(250)}
    found: list[str] = []
    over = threading.Event()

    def submit_more() -> int:
        with Client(KEY, url) as other:
            count = 0
            while not over.is_set():
                other.tasks.submit(endpoint, 2, **TO_WORKER)
                count += 1
            return count

    with concurrent.futures.ThreadPoolExecutor() as pool:
        submitting = pool.submit(submit_more)
        try:
            while len(found) < 5 * len(first):
                reading = [task.task_id for task in client.tasks.iterate(endpoint)]
                assert len(reading) == len(set(reading))
                assert first <= set(reading)
                found += reading
        finally:
            over.set()
        assert submitting.result() > 0


def test_a_worker_that_fails_a_task_is_told(client: Any, url: str) -> None:
    endpoint = make_endpoint(url, KEY, image="sim/flaky")
    with pytest.raises(TaskFailed, match="500"):
        client.tasks.submit_and_wait(endpoint, {"simulate": {"status": 500}}, **TO_WORKER, check=True, timeout_s=60)


def test_logs_are_read_and_followed(client: Any, endpoint: str) -> None:
    ids = [client.tasks.submit(endpoint, number + 1, **TO_WORKER).task_id for number in range(20)]
    for _ in client.tasks.wait_many(endpoint, ids, timeout_s=60):
        pass
    workers = [worker.worker_id for worker in client.workers.list(endpoint)]
    wanted = set(ids)
    while wanted:  # a line may reach the log a moment after its task has ended
        for worker_id in workers:
            lines = client.workers.iterate_logs(endpoint, worker_id, keyword="task=", page_size=7)
            wanted -= {word[5:] for line in lines for word in line.log.split() if word.startswith("task=")}

    following = client.workers.iterate_logs(endpoint, workers[0], follow=True, poll_s=0.1)
    old = sum(1 for _ in client.workers.iterate_logs(endpoint, workers[0]))
    for _ in range(old):
        next(following)
    more = [client.tasks.submit(endpoint, 1, **TO_WORKER).task_id for _ in range(20)]
    line = next(following).log
    while not any(task_id in line for task_id in more):
        line = next(following).log
    following.close()


def test_a_webhook_ends_the_wait(client: Any, endpoint: str) -> None:
    seen: queue.SimpleQueue[TaskResult] = queue.SimpleQueue()
    with Receiver(on_task=seen.put, require_signature=True) as receiver:
        task = client.tasks.submit_and_wait(endpoint, {"x": 1}, **TO_WORKER, receiver=receiver, poll_s=30, timeout_s=60)
        result = client.tasks.wait(endpoint, task.task_id, receiver=receiver)
        one = seen.get(timeout=60)  # the wait's first look may have found the end before the webhook came
    assert (one.task_id, one.succeeded, one.output) == (task.task_id, True, {"x": 1})
    assert seen.empty()
    assert result.status in ("SUCCESS", "DELIVERED")


def test_a_batch_gives_every_result(client: Any, endpoint: str) -> None:
    items = [{"n": number} for number in range(300)]
    results = list(client.tasks.submit_many(endpoint, items, **TO_WORKER, max_open=100))
    assert {result.index: result.task.output["n"] for result in results} == {n: n for n in range(300)}


def test_a_batch_that_is_interrupted_goes_on_and_no_task_runs_twice(
    client: Any, endpoint: str, tmp_path: Path, kind: Kind
) -> None:
    items = [BatchItem({"n": number}, task_id=f"go_on_{kind}_{number}") for number in range(120)]

    def run() -> Iterator[Any]:
        return client.tasks.submit_many(endpoint, items, **TO_WORKER, max_open=30, journal=tmp_path / "journal")

    first = run()
    found = [next(first).index for _ in range(45)]
    first.close()
    found += [result.index for result in run()]
    assert set(found) == set(range(120))
    assert len(found) <= 121
    runs: Counter[str] = Counter()
    for worker in client.workers.list(endpoint):
        for line in client.workers.iterate_logs(endpoint, worker.worker_id, keyword=f"task=go_on_{kind}_"):
            runs[next(word for word in line.log.split() if word.startswith("task="))] += 1
    assert max(runs.values()) == 1


def test_a_batch_is_fed_by_webhooks(client: Any, endpoint: str) -> None:
    with Receiver() as receiver:
        results = list(client.tasks.submit_many(endpoint, range(1, 101), **TO_WORKER, receiver=receiver))
    assert sorted(result.task.output for result in results) == list(range(1, 101))


def test_one_async_client_keeps_many_calls_under_way(url: str, endpoint: str) -> None:
    async def run() -> list[Any]:
        async with AsyncClient(KEY, url) as client:

            async def one(number: int) -> Any:
                task = await client.tasks.submit_and_wait(endpoint, number, **TO_WORKER, timeout_s=60)
                return task.output

            return await asyncio.gather(*[one(number) for number in range(1, 101)])

    assert asyncio.run(run()) == list(range(1, 101))


@pytest.mark.parametrize("meaning", ["webhook", "worker", "sample"])
def test_waits_end_under_every_meaning_of_delivered(meaning: str) -> None:
    delivered = threading.Event()
    with emulator("--delivered-status", meaning) as url:
        endpoint = make_endpoint(url, KEY)
        for kind in KINDS:
            with make(kind, KEY, url) as client, Receiver(on_task=lambda result: delivered.set()) as receiver:
                submitted = client.tasks.submit(
                    endpoint, {"a": 1}, **TO_WORKER, webhook=receiver.url, webhook_auth_key=receiver.key
                )
                assert client.tasks.wait(endpoint, submitted.task_id, timeout_s=60).output == {"a": 1}
                assert delivered.wait(30)
                for outputs in (True, False):
                    (found,) = client.tasks.wait_many(endpoint, [submitted.task_id], outputs=outputs, timeout_s=60)
                    assert found.status in ("SUCCESS", "DELIVERED")
    end_loop()


def test_errors_in_an_http_200_are_the_same_errors() -> None:
    with emulator("--error-style", "envelope200") as url:
        for kind in KINDS:
            with make(kind, KEY, url) as client, pytest.raises(EndpointNotFound) as caught:
                client.endpoints.get("1")
            assert caught.value.http_status == 200
    end_loop()


def test_the_documented_rates_are_kept_by_waiting() -> None:
    with emulator("--limits", "documented") as url:
        endpoint = make_endpoint(url, KEY, workers=0)
        for kind in KINDS:
            with make(kind, KEY, url, retries=Retries(max_retries=20)) as client:
                results = client.tasks.submit_many(endpoint, range(1, 71), **TO_WORKER, wait=False)
                assert {result.outcome for result in results} == {"SUBMITTED"}
    end_loop()


def test_what_a_client_sends_is_what_a_worker_gets(client: Any, endpoint: str) -> None:
    strange = {"text": "é \u2603 \U0001f600 \u0000", "numbers": [0, -1, 1.5, 2**53 + 1, 1e-7], "deep": [[[[{}]]]]}
    task = client.tasks.submit_and_wait(endpoint, strange, **TO_WORKER, headers={"X-Own": "1"}, timeout_s=60)
    assert task.output == json.loads(json.dumps(strange))
    assert task.headers["X-Own"] == "1"
