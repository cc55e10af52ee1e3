"""Many tasks are waited for by reading the list, and each is given once."""

import random
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from tests.client.clients import KINDS, Kind
from tests.client.queue import MemoryQueue
from tests.client.service import ID, Service, refusal
from yottabench.client import AuthenticationError, TaskNotFound, WaitTimedOut


@pytest.fixture
def queue(service: Service) -> MemoryQueue:
    made = MemoryQueue()
    service.answer = made.handle
    return made


def as_time_goes_by(service: Service, move: Callable[[], None]) -> None:
    """Call `move` whenever the client pauses."""
    sleep = service.time.sleep

    def slept(seconds: float) -> None:
        sleep(seconds)
        move()

    service.time.sleep = slept


def test_thousands_are_waited_for_with_one_request_per_hundred(service: Service, queue: MemoryQueue) -> None:
    ids = [f"t{number}" for number in range(2000)]
    for task_id in ids:
        queue.add(task_id)

    def all_end() -> None:
        for task_id in ids:
            queue.end(task_id)

    as_time_goes_by(service, all_end)
    found = list(service.client().tasks.wait_many(ID, ids, outputs=False))
    assert {task.task_id for task in found} == set(ids)
    assert (queue.lists, queue.gets) == (40, 0)


def test_outputs_are_fetched_for_what_has_ended(service: Service, queue: MemoryQueue) -> None:
    for number in range(50):
        queue.add(f"t{number}", value={"n": number})
        queue.end(f"t{number}")
    found = list(service.client().tasks.wait_many(ID, [f"t{number}" for number in range(50)]))
    assert {task.task_id: task.output for task in found} == {f"t{number}": {"n": number} for number in range(50)}
    assert (queue.lists, queue.gets) == (1, 50)


def test_few_are_asked_for_by_themselves(service: Service, queue: MemoryQueue) -> None:
    for number in range(500):
        queue.add(f"t{number}")
    for task_id in ("t0", "t1", "t2"):
        queue.end(task_id, "FAILED")
    found = list(service.client().tasks.wait_many(ID, ["t0", "t1", "t2"]))
    assert [task.status for task in found] == ["FAILED"] * 3
    assert (queue.lists, queue.gets) == (0, 3)


def test_a_few_deep_in_a_long_list_are_not_worth_reading_it_each_time(service: Service, queue: MemoryQueue) -> None:
    for number in range(3000):
        queue.add(f"t{number}")
    with pytest.raises(WaitTimedOut):
        list(service.client().tasks.wait_many(ID, [f"t{number}" for number in range(10)], timeout_s=60))
    looks = len(service.time.naps)
    assert queue.lists < 30 * looks / 3
    assert queue.gets > 100


def test_all_that_are_still_open_are_named_at_the_end(service: Service, queue: MemoryQueue) -> None:
    for number in range(20):
        queue.add(f"t{number}")
    queue.end("t3")
    waiting = service.client().tasks.wait_many(ID, [f"t{number}" for number in range(20)], timeout_s=30)
    assert next(waiting).task_id == "t3"
    with pytest.raises(WaitTimedOut, match=r"19 tasks are still open after 30 s: t0, t1, t2, t4, t5, \.\.\.") as caught:
        next(waiting)
    assert set(caught.value.open_ids) == {f"t{number}" for number in range(20)} - {"t3"}
    assert caught.value.task.status == "PROCESSING"
    assert service.time.now_s == pytest.approx(1030)


def test_an_unknown_id_is_told(service: Service, queue: MemoryQueue) -> None:
    for number in range(10):
        queue.add(f"t{number}")
    with pytest.raises(TaskNotFound) as caught:
        list(service.client().tasks.wait_many(ID, ["nobody", *[f"t{number}" for number in range(10)]]))
    assert caught.value.task_id == "nobody"


def test_nothing_to_wait_for_asks_nothing(service: Service, queue: MemoryQueue) -> None:
    assert list(service.client().tasks.wait_many(ID, [])) == []
    assert service.requests == []


@pytest.mark.parametrize("outputs", [True, False])
def test_each_is_given_once_under_every_meaning_of_delivered(
    outputs: bool, service: Service, queue: MemoryQueue
) -> None:
    queue.add("webhook", status="DELIVERED", deliveryStatus="SUCCESS")
    queue.add("worker", status="DELIVERED")
    queue.add("sample", status="SUCCESS", deliveryStatus="SUCCESS")
    queue.add("failed", status="FAILED")
    as_time_goes_by(service, lambda: queue.end("worker"))
    found = [
        task.task_id
        for task in service.client().tasks.wait_many(
            ID, ["webhook", "worker", "sample", "failed", "failed"], outputs=outputs
        )
    ]
    assert sorted(found) == ["failed", "sample", "webhook", "worker"]
    assert found[-1] == "worker"


@pytest.mark.parametrize("outputs", [True, False])
@for_all(seed=st.integers(0, 2**32), count=st.integers(1, 60), kind=st.sampled_from(KINDS))
def test_nothing_is_lost_among_failures(outputs: bool, seed: int, count: int, kind: Kind) -> None:
    chance, service, queue = random.Random(seed), Service(kind), MemoryQueue()
    ids = [f"t{number}" for number in range(count)]
    for task_id in ids:
        queue.add(task_id)

    def some_end() -> None:
        for task_id in list(queue.open):
            if chance.random() < 0.3:
                queue.end(task_id, chance.choice(["SUCCESS", "FAILED"]))
        if chance.random() < 0.3:
            queue.add(f"other{next(queue.clock_ms)}")

    def answer(request: httpx.Request) -> Any:
        if request.method == "GET" and len(service.requests) > 1 and chance.random() < 0.3:
            faults = [httpx.ReadError("reset"), httpx.Response(502), httpx.Response(200), refusal(429, 429)]
            return chance.choice(faults)
        return queue.handle(request)

    as_time_goes_by(service, some_end)
    service.answer = answer
    found = service.client().tasks.wait_many(ID, ids, outputs=outputs, timeout_s=1e6)
    assert sorted(task.task_id for task in found) == sorted(ids)


def test_what_will_not_pass_ends_the_wait(service: Service, queue: MemoryQueue) -> None:
    queue.add("a")
    service.first(refusal(401, 40101))
    with pytest.raises(AuthenticationError):
        list(service.client().tasks.wait_many(ID, ["a"]))
