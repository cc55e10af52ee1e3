"""Lists and logs are read to their end: nothing twice, nothing missed, whatever happens meanwhile."""

import random
from typing import Any

import httpx
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from tests.client.clients import KINDS, Kind
from tests.client.queue import MemoryQueue
from tests.client.service import ID, Service, given
from yottabench.client import InvalidArgument, paging


def changing(kind: Kind, queue: MemoryQueue, change: Any) -> Service:
    """The queue, changed before each page but the first."""
    service = Service(kind)

    def answer(request: httpx.Request) -> httpx.Response:
        if len(service.requests) > 1:
            change()
        return queue.handle(request)

    service.answer = answer
    return service


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 199, 200, 1050])
def test_a_list_is_read_to_its_end(count: int, service: Service) -> None:
    queue = MemoryQueue()
    for number in range(count):
        queue.add(f"t{number}")
    service.answer = queue.handle
    found = [task.task_id for task in service.client().tasks.iterate(ID)]
    assert found == [f"t{number}" for number in reversed(range(count))]
    assert queue.lists <= count // 75 + 2


def test_only_one_status_is_read_when_asked(service: Service) -> None:
    queue = MemoryQueue()
    for number in range(300):
        queue.add(f"t{number}", status="FAILED" if number % 3 else "SUCCESS")
    service.answer = queue.handle
    assert len(list(service.client().tasks.iterate(ID, status="SUCCESS"))) == 100


@pytest.mark.parametrize("arriving", [1, 7, 100, 250])
def test_no_task_comes_twice_or_is_missed_while_others_arrive(arriving: int, kind: Kind) -> None:
    queue = MemoryQueue()
    for number in range(500):
        queue.add(f"t{number}")

    def arrive() -> None:
        if len(queue.tasks) < 5000:
            for number in range(arriving):
                queue.add(f"new{len(queue.tasks)}_{number}")

    found = [task.task_id for task in changing(kind, queue, arrive).client().tasks.iterate(ID)]
    assert found == [f"t{number}" for number in reversed(range(500))]


def test_more_arrivals_than_are_remembered_bring_nothing_back(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "REMEMBERED", 150)
    test_no_task_comes_twice_or_is_missed_while_others_arrive(250, kind)


@settings(max_examples=100)
@for_all(
    seed=st.integers(0, 2**32),
    size=st.sampled_from([8, 20, 100]),
    count=st.integers(0, 400),
    leaving=st.floats(0, 0.3),
    kind=st.sampled_from(KINDS),
)
def test_what_stays_in_a_filtered_list_is_given_once_while_others_come_and_go(
    seed: int, size: int, count: int, leaving: float, kind: Kind
) -> None:
    chance, queue = random.Random(seed), MemoryQueue()
    queue.page_max = size
    for number in range(count):
        queue.add(f"t{number}")
    stay = set(queue.tasks)

    def change() -> None:
        for task_id in queue.open:
            if chance.random() < leaving:
                queue.end(task_id)
                stay.discard(task_id)
        if len(queue.tasks) < 700:
            for _ in range(chance.choice([0, 0, 3, 30])):
                queue.add(f"new{len(queue.tasks)}")

    service = changing(kind, queue, change)
    found = [task.task_id for task in service.client().tasks.iterate(ID, status="PROCESSING")]
    assert len(found) == len(set(found))
    assert stay <= set(found)


@settings(max_examples=100)
@for_all(seed=st.integers(0, 2**32), count=st.integers(0, 300), kind=st.sampled_from(KINDS))
def test_what_stays_is_given_once_while_others_enter_the_list_in_its_middle(seed: int, count: int, kind: Kind) -> None:
    chance, queue = random.Random(seed), MemoryQueue()
    for number in range(count):
        queue.add(f"t{number}", status=chance.choice(["SUCCESS", "PROCESSING"]))
    stay = {task_id for task_id, task in queue.tasks.items() if task["status"] == "SUCCESS"}

    def change() -> None:
        for task_id, task in list(queue.tasks.items()):
            if chance.random() < 0.1:
                if task["status"] == "PROCESSING":
                    queue.end(task_id)
                elif task["status"] == "SUCCESS":
                    queue.end(task_id, "DELIVERED")
                    stay.discard(task_id)

    found = [task.task_id for task in changing(kind, queue, change).client().tasks.iterate(ID, status="SUCCESS")]
    assert len(found) == len(set(found))
    assert stay <= set(found)


# ---- logs


class Log:
    """A worker's log that can be paged by token, or, at its end, without."""

    def __init__(self, *, token_at_end: bool = True) -> None:
        self.lines: list[tuple[int, str]] = []
        self.token_at_end = token_at_end

    def write(self, count: int, at_ms: int = 1705306200000) -> None:
        """More lines, three to the millisecond."""
        for _ in range(count):
            number = len(self.lines)
            self.lines.append((at_ms + number // 3, f"line {number}"))

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer getWorkerLogs."""
        params = request.url.params
        size, backward = int(params["pageSize"]), params["direction"] == "Backward"
        entries = [(at_ms, number, line) for number, (at_ms, line) in enumerate(self.lines)]
        if "startTime" in params:
            entries = [entry for entry in entries if _iso(entry[0]) >= params["startTime"]]
        if backward:
            entries.reverse()
        if "searchAfterOffset" in params:
            after = int(params["searchAfterOffset"])
            entries = [entry for entry in entries if (entry[1] < after if backward else entry[1] > after)]
        page, more = entries[:size], len(entries) > size
        token = page[-1] if page and (more or (self.token_at_end and not backward)) else None
        return given(
            {
                "logs": [{"timestamp": _iso(at_ms), "log": line, "offset": number} for at_ms, number, line in page],
                "hasMore": more,
                "nextSearchAfterTime": None if token is None else str(token[0]),
                "nextSearchAfterOffset": None if token is None else str(token[1]),
            }
        )


def _iso(at_ms: int) -> str:
    return f"2024-01-15T08:{at_ms // 60000 % 60:02d}:{at_ms // 1000 % 60:02d}.{at_ms % 1000:03d}Z"


@pytest.mark.parametrize("token_at_end", [True, False])
@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 95])
def test_a_log_is_read_to_its_end(count: int, token_at_end: bool, service: Service) -> None:
    log = Log(token_at_end=token_at_end)
    log.write(count)
    service.answer = log.handle
    lines = [line.log for line in service.client().workers.iterate_logs(ID, "7", page_size=10)]
    assert lines == [f"line {number}" for number in range(count)]
    assert service.time.naps == []


def test_a_log_is_read_backward(service: Service) -> None:
    log = Log()
    log.write(95)
    service.answer = log.handle
    lines = [line.log for line in service.client().workers.iterate_logs(ID, "7", page_size=10, direction="Backward")]
    assert lines == [f"line {number}" for number in reversed(range(95))]


@pytest.mark.parametrize("token_at_end", [True, False])
def test_a_log_is_followed_line_by_line(token_at_end: bool, service: Service) -> None:
    log = Log(token_at_end=token_at_end)
    log.write(25)
    service.answer = log.handle
    sleep, counts = service.time.sleep, iter([0, 0, 1, 1, 0, 3, 40, 0, 2])

    def slept(seconds: float) -> None:
        sleep(seconds)
        log.write(next(counts))

    service.time.sleep = slept
    lines = service.client().workers.iterate_logs(ID, "7", page_size=10, follow=True, poll_s=1)
    found = [next(lines).log for _ in range(25 + 47)]
    assert found == [f"line {number}" for number in range(25 + 47)]
    lines.close()


def test_a_follower_asks_less_often_while_nothing_happens(service: Service) -> None:
    log = Log()
    log.write(1)
    service.answer = log.handle
    sleep = service.time.sleep

    def slept(seconds: float) -> None:
        sleep(seconds)
        if len(service.time.naps) == 30:
            log.write(1)

    service.time.sleep = slept
    lines = service.client().workers.iterate_logs(ID, "7", follow=True, poll_s=3)
    assert [next(lines).log, next(lines).log] == ["line 0", "line 1"]
    lines.close()
    assert service.time.naps[0] <= 0.05
    assert 2.4 <= service.time.naps[-1] <= 3


def test_a_page_that_leads_nowhere_ends_the_reading(service: Service) -> None:
    service.gives({"logs": [], "hasMore": True, "nextSearchAfterTime": "1", "nextSearchAfterOffset": "2"})
    assert list(service.client().workers.iterate_logs(ID, "7")) == []
    assert len(service.requests) == 2


def test_a_log_is_not_followed_backward(service: Service) -> None:
    with pytest.raises(InvalidArgument, match="followed only forward"):
        service.client().workers.iterate_logs(ID, "7", follow=True, direction="Backward")
