"""A batch gives each result once, takes the same memory whatever its length, and goes on after an interruption."""

import asyncio
import itertools
import json
import random
import threading
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from tests.client.clients import KINDS, Kind, run
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
    JournalError,
    Retries,
    batch_drivers,
)


class BusyQueue(MemoryQueue):
    """Each task ends after it has been looked at a few times."""

    def __init__(self, *, ends_after: int = 2, fails: float = 0.0, seed: int = 1) -> None:
        super().__init__()
        self.ends_after = ends_after
        self.fails = fails
        self.chance = random.Random(seed)
        self.most_open = 0
        self.under_way = 0
        self.most_under_way = 0

    def handle(self, request: httpx.Request) -> httpx.Response:
        with self._lock:
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            answer = self._answer(request)
            still_open = self.open
            self.most_open = max(self.most_open, len(still_open))
            if request.method == "GET":
                for task_id in still_open:
                    task = self.tasks[task_id]
                    task["seen"] = task.get("seen", 0) + 1
                    if task["seen"] >= self.ends_after:
                        self.end(task_id, "FAILED" if self.chance.random() < self.fails else "SUCCESS")
            self.under_way -= 1
        return answer


@pytest.fixture
def queue(service: Service) -> BusyQueue:
    made = BusyQueue()
    service.answer = made.handle
    return made


def batch(service: Service, items: Any, **more: Any) -> Iterator[Any]:
    # What a batch pauses between tries is real time, because closing it must end the pause.
    client = service.client(retries=Retries(first_s=0))
    return client.tasks.submit_many(ID, items, worker_port=8000, process_uri="/run", **more)


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


# ---- journals


def interrupted(service: Service, journal: Path, items: Any, after: int) -> list[Any]:
    results = batch(service, items, journal=journal, max_open=40, concurrency=4)
    found = [next(results) for _ in range(after)]
    results.close()
    return found


def test_a_batch_goes_on_where_it_was_interrupted(service: Service, queue: BusyQueue, tmp_path: Path) -> None:
    items = range(1, 201)
    before = interrupted(service, tmp_path / "journal", items, after=70)
    sent_before = set(queue.posts)
    seen: list[BatchProgress] = []
    after = list(batch(service, items, journal=tmp_path / "journal", on_progress=seen.append))
    given_twice = {result.index for result in before} & {result.index for result in after}
    assert len(given_twice) <= 1  # the last one: its reader may not have dealt with it
    assert {result.index for result in [*before, *after]} == set(range(200))
    assert Counter(queue.posts).most_common(1)[0][1] == 1
    assert len(sent_before) < 200
    assert seen[-1].skipped >= 69
    assert list(batch(service, items, journal=tmp_path / "journal")) == []


def test_a_finished_batch_sends_nothing_again(service: Service, queue: BusyQueue, tmp_path: Path) -> None:
    assert len(list(batch(service, [1, 2, 3], journal=tmp_path / "journal"))) == 3
    queue.posts.clear()
    assert list(batch(service, [1, 2, 3], journal=tmp_path / "journal")) == []
    assert queue.posts == []


@settings(max_examples=25)
@for_all(seed=st.integers(0, 2**32), kind=st.sampled_from(KINDS))
def test_no_task_runs_twice_however_often_and_wherever_a_batch_is_interrupted(
    seed: int, kind: Kind, tmp_path_factory: pytest.TempPathFactory
) -> None:
    chance, queue, journal = random.Random(seed), BusyQueue(seed=seed), tmp_path_factory.mktemp("j") / "journal"
    runs: Counter[str] = Counter()
    done: set[int] = set()

    def answer(request: httpx.Request) -> Any:
        if request.method == "POST":
            task_id = json.loads(request.content)["taskId"]
            fault = chance.random()
            if fault < 0.1:
                return httpx.ReadError("lost before")
            runs[task_id] += 1
            answered = queue.handle(request)
            return httpx.ReadError("lost after") if fault < 0.2 else answered
        return httpx.Response(502) if chance.random() < 0.1 else queue.handle(request)

    for _ in range(30):
        service = Service(kind)
        service.answer = answer
        stop_at = chance.choice([0, 1, 5, 20, 1000])
        results = batch(service, range(1, 61), journal=journal, max_open=15, concurrency=3)
        try:
            for count, result in enumerate(results):
                if count >= stop_at:
                    break
                done.add(result.index)
        except Exception as error:
            assert "502" in str(error) or "lost" in str(error)  # noqa: PT017 -- what the faults may end in
        finally:
            results.close()
        if len(done) == 60:
            break
    assert done == set(range(60))
    assert set(runs.values()) == {1}


def test_other_items_under_an_old_journal_are_noticed(service: Service, queue: BusyQueue, tmp_path: Path) -> None:
    interrupted(service, tmp_path / "journal", range(1, 101), after=5)
    results = list(batch(service, range(1001, 1101), journal=tmp_path / "journal"))
    refused = [result for result in results if result.outcome == "REFUSED"]
    assert refused
    assert "another payload" in str(refused[0].error)


def test_a_journal_that_was_torn_is_read_to_its_last_whole_line(
    service: Service, queue: BusyQueue, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    interrupted(service, journal, range(1, 51), after=20)
    with journal.open("ab") as file:
        file.write(b'{"ended":4')
    after = list(batch(service, range(1, 51), journal=journal))
    assert len(after) in (30, 31)
    assert all(json.loads(line) for line in journal.read_text().splitlines())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"hello\n", "is no journal of a batch"),
        (b"hello", "is no journal of a batch"),
        (b'{"journal":"yottabench batch","version":2,"batch":"x","endpoint":"1"}\n', "another version"),
        (
            b'{"journal":"yottabench batch","version":1,"batch":"x","endpoint":"1"}\n',
            "belongs to .* endpoint 1",
        ),
        (
            b'{"journal":"yottabench batch","version":1,"batch":"x","endpoint":"' + ID.encode() + b'"}\n\n[]\n',
            "Line 2 of the journal .* is damaged",
        ),
    ],
)
def test_what_is_no_journal_of_this_batch_is_refused_and_kept(
    content: bytes, said: str, service: Service, queue: BusyQueue, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    journal.write_bytes(content)
    with pytest.raises(JournalError, match=said):
        list(batch(service, [1], journal=journal))
    assert journal.read_bytes() == content
    assert queue.posts == []


def test_a_journal_is_one_batchs_at_a_time(service: Service, queue: BusyQueue, tmp_path: Path) -> None:
    results = batch(service, [1, 2, 3], journal=tmp_path / "journal")
    next(results)
    with pytest.raises(JournalError, match="in use by another batch"):
        list(batch(service, [1, 2, 3], journal=tmp_path / "journal"))
    results.close()


def test_a_journal_that_cannot_be_made_is_told(service: Service, queue: BusyQueue, tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be opened"):
        list(batch(service, [1], journal=tmp_path / "nowhere" / "journal"))


def test_tasks_are_in_the_journal_before_they_are_sent(service: Service, queue: BusyQueue, tmp_path: Path) -> None:
    journal = tmp_path / "journal"

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            index = int(json.loads(request.content)["taskId"].rpartition("_")[2])
            started = [json.loads(line).get("started", 0) for line in journal.read_text().splitlines()]
            assert index < max(started)
        return queue.handle(request)

    service.answer = answer
    assert len(list(batch(service, range(1, 1201), journal=journal, outputs=False))) == 1200


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
    results = list(batch(service, range(1, 31), concurrency=1))
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
