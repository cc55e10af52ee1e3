"""A batch gives each result once, and takes the same memory whatever its length."""

import asyncio
import itertools
import json
import threading
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.client.batches import BusyQueue, batch
from tests.client.clients import KINDS, Kind, make, run
from tests.client.queue import MemoryQueue
from tests.client.service import ID, Service, refusal
from yottabench.client import (
    AsyncClient,
    AuthenticationError,
    BatchItem,
    BatchProgress,
    EndpointNotFound,
    InvalidArgument,
    InvalidRequest,
    batch_drivers,
)


def test_every_item_has_its_result_once(service: Service, queue: BusyQueue) -> None:
    queue.fails = 0.2
    results = list(batch(service, range(1, 301)))
    assert sorted(result.index for result in results) == list(range(300))
    for result in results:
        assert result.outcome == result.task.status
        assert result.task.input_ == result.index + 1
        assert result.task.output == (None if result.outcome == "FAILED" else result.index + 1)
    assert Counter(queue.posts).most_common(1)[0][1] == 1


def test_results_come_as_tasks_end_and_not_at_the_end(service: Service, queue: BusyQueue) -> None:
    pulled: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1, 10_001):
            pulled.append(number)
            yield number

    results = batch(service, items(), max_open=50, concurrency=8)
    next(results)
    assert len(pulled) <= 50
    results.close()
    assert len(queue.posts) <= 50


def test_no_more_tasks_are_open_and_no_more_requests_under_way_than_allowed(service: Service, queue: BusyQueue) -> None:
    queue.ends_after = 5
    assert len(list(batch(service, range(1, 200), max_open=17, concurrency=4))) == 199
    assert queue.most_open <= 17
    assert queue.most_under_way <= 4


def test_a_batch_that_does_not_wait_gives_what_was_taken(service: Service, queue: BusyQueue) -> None:
    results = list(batch(service, [1, 2, 3], wait=False))
    assert {(result.index, result.outcome, result.task) for result in results} == {
        (index, "SUBMITTED", None) for index in range(3)
    }
    assert queue.lists == 0


def test_a_batch_without_outputs_asks_for_none(service: Service, queue: BusyQueue) -> None:
    results = list(batch(service, range(1, 101), outputs=False))
    assert len(results) == 100
    assert not any(hasattr(result.task, "output") for result in results)


def test_items_may_differ_in_more_than_their_input(service: Service, queue: BusyQueue) -> None:
    item = BatchItem({"a": 1}, task_id="mine", headers={"X-Own": "1"}, worker_port=9, process_uri="/own")
    (result,) = batch(service, [item], headers={"X-All": "1"})
    assert (result.task_id, result.outcome) == ("mine", "SUCCESS")
    posted = next(json.loads(request.content) for request in service.requests if request.method == "POST")
    assert posted == {
        "taskId": "mine",
        "input": {"a": 1},
        "workerPort": 9,
        "processUri": "/own",
        "headers": {"X-Own": "1"},
    }
    assert "X-Own" not in repr(item)


def test_what_is_refused_is_a_result_and_no_end(service: Service, queue: BusyQueue) -> None:
    items = [1, "refuse me", "", BatchItem(1, task_id="twice"), BatchItem(1, task_id="twice"), 2]
    results = {result.index: result for result in batch(service, items)}
    assert {index: result.outcome for index, result in results.items()} == {
        0: "SUCCESS",
        1: "REFUSED",
        2: "REFUSED",
        3: "SUCCESS",
        4: "REFUSED",
        5: "SUCCESS",
    }
    assert isinstance(results[1].error, InvalidRequest)
    assert isinstance(results[2].error, InvalidArgument)
    assert "two items of the batch" in str(results[4].error)


def test_progress_is_told_until_all_is_done(service: Service, queue: BusyQueue) -> None:
    seen: list[BatchProgress] = []
    queue.fails = 0.5
    results = list(batch(service, [*range(1, 50), ""], on_progress=seen.append))
    last = seen[-1]
    assert (last.submitted, last.open, last.refused, last.ended) == (49, 0, 1, 50)
    assert last.failed == sum(result.outcome == "FAILED" for result in results)
    assert all(one.ended <= two.ended for one, two in itertools.pairwise(seen))


@pytest.mark.parametrize("mode", ["ALB", "CUSTOM"])
def test_an_endpoint_that_takes_no_tasks_is_told_before_anything_is_sent(
    mode: str, service: Service, queue: BusyQueue
) -> None:
    queue.service_mode = mode
    with pytest.raises(InvalidArgument, match="only QUEUE endpoints take tasks"):
        list(batch(service, [1]))
    assert queue.posts == []


def test_what_stops_all_is_raised(service: Service, queue: BusyQueue) -> None:
    service.first(refusal(404, 14000))
    with pytest.raises(EndpointNotFound):
        list(batch(service, [1]))

    def answer(request: httpx.Request) -> httpx.Response:
        return refusal(401, 40101) if len(queue.posts) > 20 else queue.handle(request)

    service.answer = answer
    with pytest.raises(AuthenticationError):
        list(batch(service, range(1, 1000)))
    assert len(queue.posts) < 60


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"max_open": 0}, {"poll_s": 0}, {"patience_s": float("nan")}])
def test_settings_that_allow_nothing_are_refused_at_once(wrong: dict[str, float], service: Service) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        batch(service, [1], **wrong)


class ForgetfulQueue(MemoryQueue):
    """Every task has ended when it is looked at, and is forgotten once its output was fetched."""

    def _answer(self, request: httpx.Request) -> httpx.Response:
        answer = super()._answer(request)
        self.posts.clear()
        if request.method == "POST":
            self.end(json.loads(request.content)["taskId"])
        elif not request.url.path.endswith(("/tasks", ID)):
            del self.tasks[request.url.path.rsplit("/", 1)[1]]
        return answer


def test_a_batch_of_any_length_takes_the_same_memory(kind: Kind) -> None:
    def peak(count: int) -> int:
        service, queue = Service(kind), ForgetfulQueue()

        def answer(request: httpx.Request) -> httpx.Response:
            service.requests.clear()
            service.time.naps.clear()
            return queue.handle(request)

        service.answer = answer
        tracemalloc.start()
        try:
            assert sum(1 for _ in batch(service, range(1, count + 1), max_open=20, concurrency=2)) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(50)
    assert peak(600) < peak(100) + 150_000  # 500 tasks that were kept would take 1,000,000


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_whose_hands_are_full_waits_and_does_not_spin(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    service, queue = Service(kind), BusyQueue()
    looks, asked = 0, batch_drivers.Batch.take_result

    def counted(self: Any) -> Any:
        nonlocal looks
        looks += 1
        return asked(self)

    def slow(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            threading.Event().wait(0.02)  # longer than the first pause between looks
        return queue.handle(request)

    monkeypatch.setattr(batch_drivers.Batch, "take_result", counted)
    service.answer = slow
    # In real time: in that of other tests, nothing is ever due while requests are under way.
    client = make(kind, "k", "http://emulator.test", http=service.transport())
    results = list(client.tasks.submit_many(ID, range(1, 31), worker_port=8000, process_uri="/run", concurrency=1))
    assert len(results) == 30
    assert looks < 300


def test_items_may_come_asynchronously() -> None:
    service, queue = Service("async"), BusyQueue()
    service.answer = queue.handle
    client: AsyncClient = service.client()._inner  # pyright: ignore[reportPrivateUsage] -- as its user has it

    async def items() -> Any:
        for number in range(1, 31):
            await asyncio.sleep(0)
            yield number

    async def outcomes() -> list[str]:
        results = client.tasks.submit_many(ID, items(), worker_port=8000, process_uri="/run")
        return [result.outcome async for result in results]

    assert run(outcomes()) == ["SUCCESS"] * 30


def test_nothing_of_a_closed_batch_goes_on(kind: Kind) -> None:
    service, queue, hold = Service(kind), BusyQueue(), threading.Event()
    service.answer = queue.handle
    results = batch(service, range(1, 10_000), max_open=30, concurrency=4)
    next(results)
    results.close()
    hold.set()
    sent = len(service.requests)
    run(asyncio.sleep(0))
    assert len(service.requests) == sent
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("yottabench")]
