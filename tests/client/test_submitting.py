"""A task given to `submit` runs at most once per taskId, whatever fails on the way, and the caller learns its fate."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from tests.client.clients import KINDS, Kind
from tests.client.service import ID, TASK, Service, given, refusal
from yottabench.client import Retries, errors

NOT_THERE = refusal(404, 24011)


def submit(client: Any, value: Any = 5, **more: Any) -> Any:
    return client.tasks.submit(ID, value, worker_port=8000, process_uri="/run", **more)


def accepted(request: httpx.Request) -> httpx.Response:
    return given({"taskId": json.loads(request.content)["taskId"]})


def test_an_id_is_made_before_the_first_try_and_kept(service: Service) -> None:
    service.first(httpx.ConnectError("refused"), accepted)
    found = submit(service.client(max_retries=1))
    ids = [json.loads(request.content)["taskId"] for request in service.requests]
    assert ids == [found.task_id] * 2


@pytest.mark.parametrize(
    "failure", [httpx.ReadError("reset"), httpx.ReadTimeout("slow"), httpx.Response(502), httpx.Response(200)]
)
def test_after_an_unclear_failure_the_task_is_asked_for_and_not_sent_again(failure: Any, service: Service) -> None:
    service.first(failure, given(TASK))
    found = submit(service.client(max_retries=1))
    assert service.calls == [f"POST /v2/serverless/{ID}/tasks", f"GET /v2/serverless/{ID}/tasks/{found.task_id}"]


def test_a_task_that_is_not_there_is_sent_again(service: Service) -> None:
    service.first(httpx.ReadError("reset"), NOT_THERE, accepted)
    submit(service.client(max_retries=1))
    assert [call[:4] for call in service.calls] == ["POST", "GET ", "POST"]


def test_only_the_services_own_word_counts_for_not_there(service: Service) -> None:
    service.first(httpx.ReadError("reset"), httpx.Response(404, content=b"<html>"), accepted)
    with pytest.raises(errors.NotFound) as caught:
        submit(service.client(max_retries=1))
    assert caught.value.may_have_taken_effect
    assert [call[:4] for call in service.calls] == ["POST", "GET "]


def test_a_refusal_of_the_second_copy_is_no_failure_when_the_first_arrived_late(service: Service) -> None:
    service.first(httpx.ReadTimeout("slow"), NOT_THERE, refusal(400, 10001, "taskId exists"), given(TASK))
    submit(service.client(max_retries=1))
    assert [call[:4] for call in service.calls] == ["POST", "GET ", "POST", "GET "]


def test_a_refusal_says_that_nothing_was_taken(service: Service) -> None:
    service.first(httpx.ReadTimeout("slow"), NOT_THERE, refusal(400, 10001, "no such port"), NOT_THERE)
    with pytest.raises(errors.InvalidRequest) as caught:
        submit(service.client(max_retries=1))
    assert caught.value.may_have_taken_effect is False


def test_an_end_without_an_answer_says_which_task_may_be_in_the_queue(service: Service) -> None:
    service.answer = httpx.ReadError("reset")
    with pytest.raises(errors.ConnectionFailed, match="Task mine may be in the queue all the same") as caught:
        submit(service.client(max_retries=2), task_id="mine")
    assert (caught.value.task_id, caught.value.may_have_taken_effect) == ("mine", True)
    assert caught.value.operation == "submitTask"


@pytest.mark.parametrize("last", [refusal(401, 40101), refusal(429, 429), httpx.ConnectError("refused")])
def test_what_was_unclear_stays_unclear_when_something_else_ends_the_call(last: Any, service: Service) -> None:
    service.first(httpx.ReadError("reset"), last)
    service.answer = last
    with pytest.raises(errors.YottaError) as caught:
        submit(service.client(max_retries=1))
    assert isinstance(caught.value, (errors.ApiError, errors.ConnectionFailed))
    assert caught.value.may_have_taken_effect


def test_a_first_try_that_never_left_is_clear(service: Service) -> None:
    service.answer = httpx.ConnectError("refused")
    with pytest.raises(errors.ConnectionFailed) as caught:
        submit(service.client(max_retries=2))
    assert caught.value.may_have_taken_effect is False
    assert "may be in the queue" not in str(caught.value)
    assert [call[:4] for call in service.calls] == ["POST"] * 3


def test_an_endpoint_that_is_gone_leaves_nothing_open(service: Service) -> None:
    service.first(httpx.ReadError("reset"), refusal(404, 14000))
    with pytest.raises(errors.EndpointNotFound) as caught:
        submit(service.client(max_retries=1))
    assert caught.value.may_have_taken_effect is False


@pytest.mark.parametrize(("found", "sent_again"), [({"a": (1, 2)}, False), ({"a": [1, 2]}, False), ({"a": 1}, True)])
def test_a_task_of_the_callers_own_id_must_have_the_same_input(found: Any, sent_again: bool, service: Service) -> None:
    there = {**TASK, "input": {"a": [1, 2]}}
    service.first(httpx.ReadError("reset"), given(there), refusal(400, 10001, "another payload"), given(there))
    client = service.client(max_retries=1)
    if sent_again:
        with pytest.raises(errors.InvalidRequest, match="another payload"):
            submit(client, found, task_id="mine")
    else:
        assert submit(client, found, task_id="mine").task_id == "mine"


# ---- whatever happens

Fault = Callable[["Queue", httpx.Request], Any]


class Queue:
    """A service that takes every task it is sent, also twice, unless it knows repetitions."""

    def __init__(self, *, knows_repetitions: bool) -> None:
        self.knows_repetitions = knows_repetitions
        self.runs: Counter[str] = Counter()
        self.inputs: dict[str, Any] = {}
        self.late: list[httpx.Request] = []

    def take(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            task_id = request.url.path.rsplit("/", 1)[1]
            if task_id not in self.runs:
                return NOT_THERE
            return given({**TASK, "taskId": task_id, "input": self.inputs[task_id]})
        body = json.loads(request.content)
        if not self.knows_repetitions or body["taskId"] not in self.runs:
            self.runs[body["taskId"]] += 1
            self.inputs[body["taskId"]] = body["input"]
        return given({"taskId": body["taskId"]})


def _lost_before(queue: Queue, request: httpx.Request) -> Any:
    return httpx.ReadError("reset before it was read")


def _lost_after(queue: Queue, request: httpx.Request) -> Any:
    queue.take(request)
    return httpx.ReadError("reset after it was done")


def _late(queue: Queue, request: httpx.Request) -> Any:
    queue.late.append(request)
    return httpx.ReadTimeout("it arrives later")


def _answers_after(*answers: httpx.Response) -> list[Fault]:
    def done(answer: httpx.Response) -> Fault:
        return lambda queue, request: queue.take(request) and answer

    def undone(answer: httpx.Response) -> Fault:
        return lambda queue, request: answer

    return [make(answer) for answer in answers for make in (done, undone)]


FAULTS: list[Fault] = [
    lambda queue, request: queue.take(request),
    lambda queue, request: httpx.ConnectError("refused"),
    lambda queue, request: refusal(429, 429, headers={"Retry-After": "3"}),
    lambda queue, request: refusal(503, 10002, headers={"Retry-After": "3"}),
    lambda queue, request: refusal(401, 40101),
    _lost_before,
    _lost_after,
    *_answers_after(
        httpx.Response(502, content=b"<html>"),
        httpx.Response(200, content=b""),
        httpx.Response(520, content=b"unknown error"),
        httpx.Response(408),
        httpx.Response(409),
        httpx.Response(500, json={"message": "oops", "code": 10002, "data": None}),
        httpx.Response(200, content=b'{"message": "success", "code": 10000, "da'),
    ),
]


def outcome_of(queue: Queue, faults: list[Fault], kind: Kind, task_id: str | None) -> Any:
    service = Service(kind)
    script = iter(faults)

    def answer(request: httpx.Request) -> Any:
        for late in queue.late[:1]:
            queue.late.clear()
            queue.take(late)
        fault = next(script, FAULTS[0])
        return fault(queue, request)

    service.answer = answer
    try:
        return submit(service.client(retries=Retries(max_retries=4)), task_id=task_id)
    except errors.YottaError as error:
        return error


def assert_fate_is_told(queue: Queue, outcome: Any, task_id: str | None) -> None:
    assert all(runs == 1 for runs in queue.runs.values())
    assert len(queue.runs) <= 1
    if not isinstance(outcome, errors.YottaError):
        assert queue.runs == {outcome.task_id: 1}
        return
    assert isinstance(outcome, (errors.ApiError, errors.ConnectionFailed))
    assert outcome.task_id is not None
    assert task_id is None or outcome.task_id == task_id
    if not outcome.may_have_taken_effect:
        assert not queue.runs


@settings(max_examples=300)
@for_all(
    st.lists(st.sampled_from(FAULTS), max_size=12),
    st.sampled_from(KINDS),
    st.sampled_from([None, "mine"]),
    st.booleans(),
)
def test_a_task_runs_at_most_once_and_its_fate_is_told_whatever_fails(
    faults: list[Fault], kind: Kind, task_id: str | None, knows_repetitions: bool
) -> None:
    queue = Queue(knows_repetitions=knows_repetitions)
    assert_fate_is_told(queue, outcome_of(queue, faults, kind, task_id), task_id)


@settings(max_examples=200)
@for_all(
    st.lists(st.sampled_from([*FAULTS, _late]), max_size=12), st.sampled_from(KINDS), st.sampled_from([None, "mine"])
)
def test_requests_that_arrive_late_do_no_harm_to_a_service_that_knows_repetitions(
    faults: list[Fault], kind: Kind, task_id: str | None
) -> None:
    queue = Queue(knows_repetitions=True)
    outcome = outcome_of(queue, faults, kind, task_id)
    for late in queue.late:
        queue.take(late)
    assert_fate_is_told(queue, outcome, task_id)
