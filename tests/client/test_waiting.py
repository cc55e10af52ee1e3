"""A wait ends when the task has ended, under each meaning that DELIVERED has been given (NOTES.md, N1)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client.service import SUMMARY, TASK, Service
from yottabench.client import EndpointUnavailable, WaitTimedOut, is_terminal
from yottabench.client.models import Task, TaskSummary
from yottabench.client.waiting import wait_for_end

OPEN: dict[str, Any] = {"output": None, "deliveryStatus": "INIT", "deliveredAt": None, "deliveryAttempts": 0}
DONE: dict[str, Any] = {"output": {"x": 1}, "deliveryStatus": "INIT", "deliveredAt": None}
ACKNOWLEDGED: dict[str, Any] = {"deliveryStatus": "SUCCESS", "deliveredAt": 1705306260000, "deliveryAttempts": 1}

# Each meaning, as the states that a task with a webhook goes through: (fields, has it ended?)
LIVES: dict[str, list[tuple[dict[str, Any], bool]]] = {
    "webhook": [
        ({**OPEN, "status": "PROCESSING"}, False),
        ({**DONE, "status": "SUCCESS"}, True),
        ({**DONE, "status": "SUCCESS", "deliveryStatus": "FAILED"}, True),
        ({**DONE, **ACKNOWLEDGED, "status": "DELIVERED"}, True),
        ({**ACKNOWLEDGED, "output": None, "status": "DELIVERED"}, True),
    ],
    "worker": [
        ({**OPEN, "status": "PROCESSING"}, False),
        ({**OPEN, "status": "DELIVERED"}, False),
        ({**OPEN, "status": "DELIVERED", "deliveredAt": 1705306230000}, False),
        ({**DONE, "status": "SUCCESS"}, True),
        ({**DONE, **ACKNOWLEDGED, "status": "SUCCESS"}, True),
    ],
    "sample": [
        ({**OPEN, "status": "PROCESSING"}, False),
        ({**DONE, "status": "SUCCESS"}, True),
        ({**DONE, **ACKNOWLEDGED, "status": "SUCCESS"}, True),
    ],
    "failed": [
        ({**OPEN, "status": "FAILED", "error": "HTTP 500"}, True),
        ({**OPEN, **ACKNOWLEDGED, "status": "FAILED", "error": "HTTP 500"}, True),
    ],
    "unknown": [({**OPEN, "status": "PAUSED"}, False), ({**DONE, "status": "success"}, False)],
}
STATES = [(meaning, fields, ended) for meaning, life in LIVES.items() for fields, ended in life]


@pytest.mark.parametrize(("meaning", "fields", "ended"), STATES)
def test_a_task_has_ended_under_every_meaning_of_delivered(meaning: str, fields: dict[str, Any], ended: bool) -> None:
    assert is_terminal(Task.from_dict({**TASK, **fields})) is ended


@pytest.mark.parametrize(("meaning", "fields", "ended"), STATES)
def test_a_summary_tells_as_much_as_the_whole_task(meaning: str, fields: dict[str, Any], ended: bool) -> None:
    summary = {**SUMMARY, **{name: value for name, value in fields.items() if name != "output"}}
    assert is_terminal(TaskSummary.from_dict(summary)) is ended


def test_an_output_of_any_kind_ends_a_delivered_task() -> None:
    for output in (0, False, "", [], {}):
        assert is_terminal(Task.from_dict({**TASK, **OPEN, "status": "DELIVERED", "output": output}))
    absent = {name: value for name, value in {**TASK, **OPEN, "status": "DELIVERED"}.items() if name != "output"}
    assert not is_terminal(Task.from_dict(absent))


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.naps: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now_s += seconds

    def read(self) -> float:
        return self.now_s


def task(status: str) -> Task:
    return Task.from_dict({**TASK, **OPEN, "status": status})


@pytest.mark.parametrize("status", ["SUCCESS", "FAILED"])
def test_a_wait_gives_the_ended_task_and_polls_at_growing_distances(status: str) -> None:
    time = FakeTime()
    answers = iter([*([task("PROCESSING")] * 20), task(status)])
    found = wait_for_end(lambda: next(answers), timeout_s=600, poll_s=2, sleep=time.sleep, now_s=time.read)
    assert found.status == status
    assert time.naps == sorted(time.naps)
    assert (time.naps[0], time.naps[-1]) == (0.05, 2)


def test_a_wait_that_is_over_says_what_it_saw_last() -> None:
    time = FakeTime()
    with pytest.raises(WaitTimedOut, match="my_task_001 is still PROCESSING after 5 s") as caught:
        wait_for_end(lambda: task("PROCESSING"), timeout_s=5, poll_s=2, sleep=time.sleep, now_s=time.read)
    assert caught.value.task.status == "PROCESSING"
    assert time.now_s == pytest.approx(1005)


def test_a_wait_of_no_time_asks_once() -> None:
    time = FakeTime()
    assert wait_for_end(lambda: task("SUCCESS"), timeout_s=0, poll_s=2, sleep=time.sleep, now_s=time.read)
    with pytest.raises(WaitTimedOut):
        wait_for_end(lambda: task("PROCESSING"), timeout_s=0, poll_s=2, sleep=time.sleep, now_s=time.read)
    assert time.naps == []


@given(st.floats(0, 1000), st.floats(0.001, 100), st.integers(0, 50))
def test_no_wait_outlasts_its_time(timeout_s: float, poll_s: float, rounds: int) -> None:
    time = FakeTime()
    answers = iter([*([task("PROCESSING")] * rounds), task("SUCCESS")])
    try:
        wait_for_end(lambda: next(answers), timeout_s=timeout_s, poll_s=poll_s, sleep=time.sleep, now_s=time.read)
    except WaitTimedOut:
        assert time.now_s - 1000 >= timeout_s - 1e-6
    assert time.now_s - 1000 <= timeout_s + 1e-6
    assert all(nap <= poll_s for nap in time.naps)


def test_the_client_waits_and_lets_errors_through(service: Service) -> None:
    client = service.gives(TASK).client()
    assert client.tasks.wait("1", "my_task_001").status == "SUCCESS"
    client = service.fails(409, {"message": "no", "code": 24000, "data": None}).client()
    with pytest.raises(EndpointUnavailable):
        client.tasks.wait("1", "my_task_001")
