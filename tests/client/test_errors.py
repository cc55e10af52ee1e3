"""Whatever is no success is an exception of the right kind, and shows no secret."""

import inspect
import json
import pickle
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client.clients import KINDS, Kind, make
from tests.client.service import ENDPOINT, ID, KEY, TASK, Service, success
from tests.strategies import json_values
from yottabench.client import errors
from yottabench.client.envelope import retry_after_s
from yottabench.client.models import Task

CODES = [
    (10001, errors.InvalidRequest),
    (10002, errors.ServerError),
    (10004, errors.PermissionDenied),
    (10007, errors.NotFound),
    (12001, errors.WrongState),
    (14000, errors.EndpointNotFound),
    (24000, errors.EndpointUnavailable),
    (24001, errors.EndpointNotFound),
    (24002, errors.WrongState),
    (24011, errors.TaskNotFound),
    (40001, errors.InvalidRequest),
    (40101, errors.AuthenticationError),
    (40400, errors.NotFound),
    (40402, errors.TaskNotFound),
    (429, errors.RateLimited),
    (50001, errors.ServerError),
]
STATUSES = [
    (400, errors.InvalidRequest),
    (401, errors.AuthenticationError),
    (402, errors.ApiError),
    (403, errors.PermissionDenied),
    (404, errors.NotFound),
    (409, errors.WrongState),
    (413, errors.InvalidRequest),
    (418, errors.ApiError),
    (422, errors.InvalidRequest),
    (429, errors.RateLimited),
    (500, errors.ServerError),
    (502, errors.ServerError),
    (503, errors.ServerError),
    (520, errors.ServerError),
    (599, errors.ServerError),
    (204, errors.UnreadableAnswer),
    (302, errors.UnreadableAnswer),
]


def failure(call: Callable[[], Any]) -> errors.ApiError:
    with pytest.raises(errors.ApiError) as caught:
        call()
    return caught.value


def get_task(service: Service) -> errors.ApiError:
    return failure(lambda: service.client().tasks.get(ID, "my_task_001"))


@pytest.mark.parametrize("http_status", [200, 400, 404, 409, 500, 520])
@pytest.mark.parametrize(("code", "kind"), CODES)
def test_the_code_decides_whatever_the_http_status_is(
    http_status: int, code: int, kind: type[errors.ApiError], service: Service
) -> None:
    error = get_task(service.fails(http_status, {"message": "what happened", "code": code, "data": None}))
    assert type(error) is kind
    assert (error.code, error.message, error.http_status) == (code, "what happened", http_status)
    assert error.operation == "getTaskById"
    assert str(error).startswith(f"getTaskById: what happened (code {code}, HTTP {http_status})")


@pytest.mark.parametrize("content", [b"", b"<html><h1>Bad Gateway</h1></html>", b"[]", b'"x"', b"{}", b"\xff"])
@pytest.mark.parametrize(("http_status", "kind"), STATUSES)
def test_the_http_status_decides_when_there_is_no_code(
    http_status: int, kind: type[errors.ApiError], content: bytes, service: Service
) -> None:
    error = get_task(service.fails(http_status, content))
    assert type(error) is kind
    assert (error.code, error.http_status) == (None, http_status)
    assert error.body == content.decode("utf-8", "replace")


def test_an_error_names_the_task_and_the_request(service: Service) -> None:
    error = get_task(service.fails(500, b"", {"X-Request-Id": "req-7"}))
    assert (error.task_id, error.request_id) == ("my_task_001", "req-7")
    assert "(HTTP 500, request req-7)" in str(error)


def test_an_unknown_code_falls_back_to_the_http_status_and_keeps_the_code(service: Service) -> None:
    assert type(get_task(service.fails(404, {"message": "m", "code": 99999, "data": None}))) is errors.NotFound
    error = get_task(service.fails(200, {"message": "m", "code": 99999, "data": None}))
    assert type(error) is errors.ApiError
    assert (error.code, error.message) == (99999, "m")


def test_a_worker_that_does_not_exist_has_its_own_error(service: Service) -> None:
    client = service.fails(404, {"message": "no", "code": 10007, "data": None}).client()
    assert type(failure(lambda: client.workers.logs(ID, "7"))) is errors.WorkerNotFound


def test_a_code_that_comes_as_text_counts(service: Service) -> None:
    assert type(get_task(service.fails(200, {"message": "m", "code": "24011", "data": None}))) is errors.TaskNotFound
    assert type(get_task(service.fails(200, {"message": "m", "code": True, "data": None}))) is errors.UnreadableAnswer


@pytest.mark.parametrize("data", [None, [], "x", {}, {"taskId": "x"}, {**TASK, "status": None}, {**TASK, "status": 5}])
def test_a_success_without_its_data_is_unreadable_and_never_none(data: Any, service: Service) -> None:
    error = get_task(service.fails(200, success(data)))
    assert type(error) is errors.UnreadableAnswer
    assert (error.code, error.http_status) == (10000, 200)


def test_a_success_code_under_a_failing_status_is_no_success(service: Service) -> None:
    assert type(get_task(service.fails(500, success(TASK)))) is errors.ServerError


@given(
    st.sampled_from([200, 204, 400, 404, 429, 500, 520]),
    st.one_of(st.binary(max_size=100), json_values()),
    st.sampled_from(KINDS),
)
def test_no_answer_is_ever_none_or_a_foreign_exception(http_status: int, content: Any, kind: Kind) -> None:
    service = Service(kind)
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    assert isinstance(get_task(service.fails(http_status, body)), errors.ApiError)


@given(json_values(), st.sampled_from(KINDS))
def test_no_data_is_ever_none_or_a_foreign_exception(data: Any, kind: Kind) -> None:
    service = Service(kind).fails(200, success(data))
    assert isinstance(failure(lambda: service.client().tasks.list(ID)), errors.UnreadableAnswer)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "Mon, 15 Jan 2024 08:10:30 GMT", "Date": "Mon, 15 Jan 2024 08:10:00 GMT"}, 30.0),
        ({"Retry-After": "Mon, 15 Jan 2024 08:10:00 GMT", "Date": "Mon, 15 Jan 2024 08:10:30 GMT"}, 0.0),
        ({"Retry-After": "Mon, 15 Jan 2024 08:10:30 GMT"}, 25.0),
        ({"Retry-After": "Mon, 15 Jan 2024 08:10:30 GMT", "Date": "a while ago"}, 25.0),
        ({"Retry-After": "Mon, 15 Jan 2024 08:10:30 GMT", "Date": "Mon, 15 Jan 2024 08:10:00 -0000"}, 30.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({}, None),
    ],
)
def test_the_time_to_wait_is_read_from_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, lambda: 1705306205.0) == seconds


@given(st.text(), st.text())
def test_no_retry_after_breaks_the_client(after: str, date: str) -> None:
    found = retry_after_s({"Retry-After": after, "Date": date})
    assert found is None or 0 <= found < float("inf")


def test_an_error_says_how_long_to_wait(service: Service) -> None:
    limited = {"message": "too many requests", "code": 429, "data": None}
    assert get_task(service.fails(429, limited, {"Retry-After": "2"})).retry_after_s == 2.0
    assert get_task(service.fails(503, b"", {"Retry-After": "3"})).retry_after_s == 3.0
    assert get_task(service.fails(429, limited)).retry_after_s is None


def carrying(error: Exception, kind: Kind) -> Any:
    service = Service(kind)
    service.answer = error
    return service.client()


@pytest.mark.parametrize(
    ("raised", "expected", "may_have_taken_effect"),
    [
        (httpx.ConnectError("refused"), errors.ConnectionFailed, False),
        (httpx.UnsupportedProtocol("ftp"), errors.ConnectionFailed, False),
        (httpx.ReadError("reset"), errors.ConnectionFailed, True),
        (httpx.WriteError("reset"), errors.ConnectionFailed, True),
        (httpx.RemoteProtocolError("closed"), errors.ConnectionFailed, True),
        (httpx.DecodingError("gzip"), errors.ConnectionFailed, True),
        (ConnectionRefusedError("refused"), errors.ConnectionFailed, False),
        (ConnectionResetError("reset"), errors.ConnectionFailed, True),
        (httpx.ConnectTimeout("slow"), errors.TimedOut, False),
        (httpx.PoolTimeout("busy"), errors.TimedOut, False),
        (httpx.ReadTimeout("slow"), errors.TimedOut, True),
        (httpx.WriteTimeout("slow"), errors.TimedOut, True),
        (TimeoutError(), errors.TimedOut, True),
    ],
)
def test_no_answer_is_an_error_that_says_whether_the_server_may_have_acted(
    raised: Exception, expected: type[errors.ConnectionFailed], may_have_taken_effect: bool, kind: Kind
) -> None:
    with pytest.raises(errors.ConnectionFailed) as caught:
        carrying(raised, kind).tasks.get(ID, "x")
    assert type(caught.value) is expected
    assert caught.value.task_id == "x"
    assert caught.value.may_have_taken_effect == may_have_taken_effect
    assert caught.value.operation == "getTaskById"
    assert caught.value.__cause__ is raised


def test_a_timeout_can_be_caught_as_the_builtin_one(kind: Kind) -> None:
    with pytest.raises(TimeoutError):
        carrying(httpx.ReadTimeout("slow"), kind).tasks.get(ID, "x")


def submit_with_secrets(client: Any) -> None:
    client.tasks.submit(
        ID,
        {"prompt": "x"},
        worker_port=8000,
        process_uri="/run",
        webhook_auth_key="HOOK-SECRET",
        headers={"Authorization": "Bearer HEADER-SECRET"},
    )


@pytest.mark.parametrize("http_status", [200, 400, 401, 500, 520])
def test_secrets_that_a_server_repeats_are_blanked_out(http_status: int, service: Service) -> None:
    echo = f"no: {KEY} HOOK-SECRET Bearer HEADER-SECRET"
    for content in ({"message": echo, "code": 10001, "data": echo}, echo.encode()):
        client = service.fails(http_status, content).client()
        error = failure(lambda client=client: submit_with_secrets(client))
        for text in (str(error), repr(error), error.message, error.body, repr(error.__cause__), repr(vars(error))):
            assert not re.search(f"{KEY}|HOOK-SECRET|HEADER-SECRET", text)
        assert "***" in error.body


def test_values_of_environment_variables_are_blanked_out_too(service: Service) -> None:
    client = service.fails(400, {"message": "bad value TOKEN-VALUE", "code": 10001, "data": None}).client()
    settings: dict[str, Any] = {
        "name": "a",
        "resources": [{"region": "a", "gpuType": "b", "gpuCount": 1}],
        "workers": 1,
        "container_volume_in_gb": 20,
        "environment_vars": {"HF_TOKEN": "TOKEN-VALUE"},
    }
    assert failure(lambda: client.endpoints.update(ID, **settings)).message == "bad value ***"
    settings.update(image="b", service_mode="QUEUE")
    assert failure(lambda: client.endpoints.create(**settings)).message == "bad value ***"


def test_a_body_is_kept_short_and_no_secret_is_cut_in_half_at_its_end(service: Service) -> None:
    for start in range(480, 501):
        error = get_task(service.fails(500, b"x" * start + KEY.encode() + b"y" * 10_000))
        assert len(error.body) == 500
        assert "key-" not in error.body


def test_neither_client_nor_its_parts_show_the_key(service: Service) -> None:
    client = service.client()
    assert repr(client).endswith("Client(base_url='http://emulator.test')")
    for part in (client.endpoints, client.tasks, client.workers):
        parts = vars(part if service.kind == "sync" else part._inner)
        assert KEY not in f"{part!r} {parts!r}"


def test_every_error_survives_pickling(service: Service) -> None:
    found: list[errors.YottaError] = [
        get_task(service.fails(429, {"message": "m", "code": 429, "data": None}, {"Retry-After": "2"})),
        get_task(service.fails(502, b"<html>")),
        errors.TimedOut("late", operation="getTaskById", may_have_taken_effect=True),
        errors.WaitTimedOut("open", Task.from_dict(TASK), ("a", "b")),
        errors.TaskFailed("failed", Task.from_dict(TASK)),
        errors.WebhookRefused("no", 401),
        errors.InvalidArgument("no"),
    ]
    for error in found:
        error.add_note("seen on a Monday")
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    drawn = re.findall(r"^[ |]*(?:\+- )?([A-Z]\w+)", inspect.getdoc(errors) or "", re.MULTILINE)
    classes = [
        name for name, one in vars(errors).items() if inspect.isclass(one) and issubclass(one, errors.YottaError)
    ]
    assert [name for name in drawn if name in classes] == classes
    for name in classes:
        parent = next(line for line in (errors.__doc__ or "").splitlines() if re.search(rf"\b{name}\b", line))
        depth = parent.index(name) // 4
        assert len([base for base in vars(errors)[name].__mro__ if issubclass(base, errors.YottaError)]) == depth + 1


def test_an_unreachable_server_is_named_and_nothing_hangs(kind: Kind) -> None:
    # Port 1 of this machine: nothing listens there.
    with (
        make(kind, KEY, "http://127.0.0.1:1", timeout_s=5, retries=0) as client,
        pytest.raises(errors.ConnectionFailed) as caught,
    ):
        client.endpoints.get(ENDPOINT["id"])
    assert "Is the base URL right" in str(caught.value)
    assert caught.value.may_have_taken_effect is False
