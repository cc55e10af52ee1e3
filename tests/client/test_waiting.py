"""A wait ends when the task has ended, under each meaning that DELIVERED has been given (NOTES.md, N1)."""

from typing import Any

import httpx
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from tests.client.clients import KINDS, Kind
from tests.client.service import ID, SUMMARY, TASK, Service, given, refusal
from yottabench.client import (
    ConnectionFailed,
    EndpointUnavailable,
    InvalidArgument,
    ServerError,
    TaskFailed,
    WaitTimedOut,
    is_terminal,
)
from yottabench.client.models import Task, TaskSummary

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


def task(status: str, **more: Any) -> httpx.Response:
    return given({**TASK, **OPEN, "status": status, **more})


@pytest.mark.parametrize("status", ["SUCCESS", "FAILED"])
def test_a_wait_gives_the_ended_task_and_polls_at_growing_distances(status: str, service: Service) -> None:
    service.first(*[task("PROCESSING")] * 20, task(status))
    found = service.client().tasks.wait(ID, "my_task_001", timeout_s=600, poll_s=2)
    assert found.status == status
    naps = service.time.naps
    assert len(naps) == 20
    full = [min(2, 0.05 * 1.5**index) for index in range(20)]
    assert all(0.8 * most <= nap <= most for nap, most in zip(naps, full, strict=True))
    assert len(set(naps)) == 20  # never two waiters in step


def test_a_wait_that_is_over_says_what_it_saw_last(service: Service) -> None:
    service.answer = task("PROCESSING")
    with pytest.raises(WaitTimedOut, match="my_task_001 is still PROCESSING after 5 s") as caught:
        service.client().tasks.wait(ID, "my_task_001", timeout_s=5)
    assert caught.value.task.status == "PROCESSING"
    assert caught.value.open_ids == ("my_task_001",)
    assert service.time.now_s == pytest.approx(1005)


def test_a_wait_of_no_time_asks_once(service: Service) -> None:
    service.first(task("SUCCESS"), task("PROCESSING"))
    client = service.client()
    assert client.tasks.wait(ID, "my_task_001", timeout_s=0).status == "SUCCESS"
    with pytest.raises(WaitTimedOut):
        client.tasks.wait(ID, "my_task_001", timeout_s=0)
    assert service.time.naps == []


@pytest.mark.parametrize(("timeout_s", "poll_s"), [(-1, 1), (float("nan"), 1), (1, 0), (1, -1)])
def test_times_that_make_no_wait_are_refused(timeout_s: float, poll_s: float, service: Service) -> None:
    client = service.client()
    with pytest.raises(InvalidArgument, match="seconds, but is"):
        client.tasks.wait(ID, "x", timeout_s=timeout_s, poll_s=poll_s)
    with pytest.raises(InvalidArgument, match="seconds, but is"):
        list(client.tasks.wait_many(ID, ["x"], timeout_s=timeout_s, poll_s=poll_s))
    assert service.requests == []


@for_all(st.floats(0, 1000), st.floats(0.001, 100), st.integers(0, 50), st.sampled_from(KINDS))
def test_no_wait_outlasts_its_time(timeout_s: float, poll_s: float, rounds: int, kind: Kind) -> None:
    service = Service(kind).first(*[task("PROCESSING")] * rounds)
    service.answer = task("SUCCESS")
    try:
        service.client().tasks.wait(ID, "my_task_001", timeout_s=timeout_s, poll_s=poll_s)
    except WaitTimedOut:
        assert service.time.now_s - 1000 >= timeout_s - 1e-6
    assert service.time.now_s - 1000 <= timeout_s + 1e-6
    assert all(nap <= poll_s for nap in service.time.naps)


def test_what_will_not_pass_ends_a_wait_at_once(service: Service) -> None:
    service.answer = refusal(409, 24000)
    with pytest.raises(EndpointUnavailable):
        service.client().tasks.wait(ID, "my_task_001")


def test_a_wait_outlives_failures_of_a_service_that_has_answered_well(service: Service) -> None:
    faults = [httpx.Response(502), httpx.ReadError("reset"), httpx.ConnectError("refused"), httpx.Response(200)]
    service.first(task("PROCESSING"), *faults * 5, task("SUCCESS"))
    assert service.client().tasks.wait(ID, "my_task_001", timeout_s=3000).status == "SUCCESS"


def test_a_wait_on_a_service_that_never_answers_ends_like_any_other_call(service: Service) -> None:
    service.answer = httpx.ConnectError("refused")
    with pytest.raises(ConnectionFailed):
        service.client(max_retries=3).tasks.wait(ID, "my_task_001", timeout_s=3000)
    assert len(service.requests) == 4


def test_a_wait_that_ends_among_failures_says_what_it_saw_last(service: Service) -> None:
    service.first(task("PROCESSING"))
    service.answer = httpx.Response(502)
    with pytest.raises(WaitTimedOut, match="still PROCESSING") as caught:
        service.client().tasks.wait(ID, "my_task_001", timeout_s=20)
    assert isinstance(caught.value.__cause__, ServerError)
    assert service.time.now_s == pytest.approx(1020)


def test_a_service_that_is_busy_is_asked_when_it_said(service: Service) -> None:
    service.first(task("PROCESSING"), refusal(429, 429, headers={"Retry-After": "9"}), task("SUCCESS"))
    service.client().tasks.wait(ID, "my_task_001")
    assert 9 <= service.time.naps[1] <= 9.5


def test_a_failed_task_is_raised_when_asked_to_check(service: Service) -> None:
    service.answer = task("FAILED", error="HTTP 500: out of memory")
    client = service.client()
    assert client.tasks.wait(ID, "my_task_001").status == "FAILED"
    with pytest.raises(TaskFailed, match="my_task_001 failed: HTTP 500: out of memory") as caught:
        client.tasks.wait(ID, "my_task_001", check=True)
    assert caught.value.task.error == "HTTP 500: out of memory"


def test_submit_and_wait_gives_the_ended_task(service: Service) -> None:
    service.first(
        given({"taskId": "mine"}), task("PROCESSING", taskId="mine"), task("SUCCESS", taskId="mine", output=[1])
    )
    found = service.client().tasks.submit_and_wait(ID, 5, worker_port=8000, process_uri="/run", task_id="mine")
    assert (found.task_id, found.output) == ("mine", [1])
    assert [call[:4] for call in service.calls] == ["POST", "GET ", "GET "]


def test_submit_and_wait_has_one_time_for_both(service: Service) -> None:
    def slow(request: httpx.Request) -> httpx.Response:
        service.time.now_s += 7
        return given({"taskId": "mine"})

    service.first(slow)
    service.answer = task("PROCESSING", taskId="mine")
    with pytest.raises(WaitTimedOut):
        service.client().tasks.submit_and_wait(
            ID, 5, worker_port=8000, process_uri="/run", task_id="mine", timeout_s=10
        )
    assert service.time.now_s == pytest.approx(1010)
