"""A batch with a journal goes on after an interruption, and no task runs twice."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from tests.client.batches import BusyQueue, batch
from tests.client.clients import KINDS, Kind
from tests.client.service import ID, Service
from yottabench.client import (
    BatchProgress,
    JournalError,
)


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
