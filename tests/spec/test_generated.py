"""What the generated package promises its users, seen from outside: the template overrides at work."""

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yotta_serverless_api import AuthenticatedClient, errors, models
from yotta_serverless_api.api.endpoints import create_endpoint, list_endpoints
from yotta_serverless_api.api.tasks import get_task_by_id, list_tasks, submit_task
from yotta_serverless_api.api.workers import get_worker_logs, list_workers
from yotta_serverless_api.models.create_endpoint_request import CreateEndpointRequest
from yotta_serverless_api.models.endpoint import Endpoint
from yotta_serverless_api.models.endpoint_resource import EndpointResource
from yotta_serverless_api.models.endpoint_status import EndpointStatus
from yotta_serverless_api.models.environment_var import EnvironmentVar
from yotta_serverless_api.models.error_envelope import ErrorEnvelope
from yotta_serverless_api.models.service_mode import ServiceMode
from yotta_serverless_api.models.submit_task_request import SubmitTaskRequest
from yotta_serverless_api.models.submitted_task_envelope import SubmittedTaskEnvelope
from yotta_serverless_api.models.task import Task
from yotta_serverless_api.models.task_headers import TaskHeaders
from yotta_serverless_api.models.task_status import TaskStatus
from yotta_serverless_api.types import path_segment

from tests.spec.documented import EXAMPLES
from tests.strategies import submit_requests
from yottabench.spec import spec

BODY = SubmitTaskRequest(input_={"prompt": "x"}, worker_port=8000, process_uri="/run")
DOCUMENTED = dict(EXAMPLES)


def client_answering(handler: Callable[[httpx.Request], httpx.Response]) -> AuthenticatedClient:
    return AuthenticatedClient(
        base_url="http://emulator.test", token="key-1", httpx_args={"transport": httpx.MockTransport(handler)}
    )


def answering(status: int, content: bytes) -> AuthenticatedClient:
    return client_answering(lambda _request: httpx.Response(status, content=content))


def test_the_key_goes_raw_into_the_header_that_the_document_names() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=DOCUMENTED["SubmittedTaskEnvelope"])

    answer = submit_task.sync("1", client=client_answering(handler), body=BODY)
    assert isinstance(answer, SubmittedTaskEnvelope)
    assert seen[0].headers[spec()["components"]["securitySchemes"]["ApiKey"]["name"]] == "key-1"
    assert "authorization" not in seen[0].headers


def test_there_is_a_time_limit_by_default() -> None:
    client = AuthenticatedClient(base_url="http://emulator.test", token="key-1")
    with client.get_httpx_client() as http:
        limits = http.timeout
    assert all(limit is not None for limit in (limits.connect, limits.read, limits.write, limits.pool))


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 429, 500, 503])
def test_a_documented_error_gives_its_envelope_and_status(status: int) -> None:
    envelope = {"message": "no", "code": 10001, "data": None}
    answer = submit_task.sync_detailed("1", client=answering(status, json.dumps(envelope).encode()), body=BODY)
    assert isinstance(answer.parsed, ErrorEnvelope)
    assert (answer.status_code, answer.parsed.code) == (status, 10001)


@pytest.mark.parametrize("status", [201, 302, 402, 502, 520, 599])
def test_an_undocumented_status_raises_with_all_of_the_answer(status: int) -> None:
    def handler(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers={"Retry-After": "7"}, content=b"<html>secret</html>")

    with pytest.raises(errors.UnexpectedStatus) as caught:
        submit_task.sync_detailed("1", client=client_answering(handler), body=BODY)
    assert (caught.value.status_code, caught.value.content) == (status, b"<html>secret</html>")
    assert caught.value.headers["retry-after"] == "7"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"null",
        b"[]",
        b"5",
        b'"x"',
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"message": "no", "code": 24002, "data": null}',
        b'{"message": "success", "code": 10000, "data": null}',
        b'{"message": "success", "code": 10000, "data": {}}',
        b'{"message": "success", "code": 10000, "data": {"taskId": "x"}',
    ],
)
def test_an_unreadable_body_raises_with_status_and_body(content: bytes) -> None:
    with pytest.raises(errors.UnreadableAnswer) as caught:
        submit_task.sync("1", client=answering(200, content), body=BODY)
    assert (caught.value.status_code, caught.value.content) == (200, content)
    assert caught.value.__cause__ is not None


@given(st.binary(max_size=200))
def test_no_body_makes_anything_but_an_envelope_or_an_unexpected_answer(content: bytes) -> None:
    try:
        answer = list_tasks.sync("1", client=answering(200, content))
    except errors.UnexpectedAnswer:
        return
    assert answer is not None


@pytest.mark.parametrize("status", ["PAUSED", "running", "", "with space", "é"])
def test_an_unknown_status_survives_and_goes_back_unchanged(status: str) -> None:
    endpoint = {**DOCUMENTED["EndpointEnvelope"]["data"], "status": status}
    read = Endpoint.from_dict(endpoint)
    assert isinstance(read.status, EndpointStatus)
    assert read.status == status
    assert (read.status.value, str(read.status), f"{read.status}") == (status, status, status)
    assert read.status not in list(EndpointStatus)
    assert read.to_dict() == endpoint
    assert {read.status: 1}[EndpointStatus(status)] == 1
    assert pickle.loads(pickle.dumps(read.status)) == copy.deepcopy(read.status) == status


def test_known_statuses_stay_the_members_they_are() -> None:
    assert TaskStatus("SUCCESS") is TaskStatus.SUCCESS
    TaskStatus("NEW")
    assert [one.value for one in TaskStatus] == ["DELIVERED", "FAILED", "PROCESSING", "SUCCESS"]
    with pytest.raises(ValueError, match="5 is not a valid TaskStatus"):
        TaskStatus(5)


def test_one_unknown_status_does_not_spoil_a_list() -> None:
    known = DOCUMENTED["EndpointEnvelope"]["data"]
    body = {"message": "success", "code": 10000, "data": [known, {**known, "status": "PAUSED"}, known]}
    answer = list_endpoints.sync(client=answering(200, json.dumps(body).encode()))
    assert not isinstance(answer, ErrorEnvelope)
    assert [type(one) for one in answer.data] == [Endpoint] * 3


def test_unknown_fields_survive_and_go_back() -> None:
    task = {**DOCUMENTED["TaskEnvelope"]["data"], "priority": 5, "nested": {"a": [1]}}
    read = Task.from_dict(task)
    assert read["priority"] == 5
    assert read.to_dict() == task


def test_a_broken_part_makes_the_answer_unreadable_instead_of_a_dict_under_the_name_of_a_model() -> None:
    broken = {**DOCUMENTED["TaskEnvelope"]["data"], "headers": "x"}
    with pytest.raises(TypeError, match="headers cannot be of type str"):
        Task.from_dict(broken)


@pytest.mark.parametrize("name", [name for name, _ in EXAMPLES])
def test_documented_examples_make_the_round_trip(name: str) -> None:
    assert getattr(models, name).from_dict(DOCUMENTED[name]).to_dict() == DOCUMENTED[name]


@given(submit_requests())
def test_every_valid_request_makes_the_round_trip(body: dict[str, Any]) -> None:
    assert SubmitTaskRequest.from_dict(body).to_dict() == body


def test_a_copied_or_pickled_model_writes_the_same_json() -> None:
    sent = SubmitTaskRequest(input_={"a": [1]}, worker_port=1, process_uri="/")
    for again in (copy.copy(sent), copy.deepcopy(sent), pickle.loads(pickle.dumps(sent))):
        assert again == sent
        assert json.dumps(again.to_dict()) == json.dumps(sent.to_dict())
    assert repr(sent.webhook) == "UNSET"


def test_secrets_are_in_no_repr() -> None:
    headers = TaskHeaders.from_dict({"Authorization": "Bearer SECRET"})
    submit = SubmitTaskRequest(
        input_=1, worker_port=1, process_uri="/", webhook_auth_key="SECRET", headers=headers, webhook="http://seen/"
    )
    submit["unknown"] = "SECRET"
    create = CreateEndpointRequest(
        name="a",
        image="a",
        resources=[EndpointResource(region="r", gpu_type="g", gpu_count=1)],
        workers=1,
        container_volume_in_gb=20,
        service_mode=ServiceMode.QUEUE,
        environment_vars=[EnvironmentVar(key="HF_TOKEN", value="SECRET")],
    )
    client = AuthenticatedClient(
        base_url="http://seen", token="SECRET", headers={"x": "SECRET"}, cookies={"x": "SECRET"}
    )
    client.get_httpx_client().close()
    for value in (submit, create, client, headers):
        assert "SECRET" not in repr(value)
    assert "http://seen/" in repr(submit)
    assert "HF_TOKEN" in repr(create)
    assert submit.to_dict()["webhookAuthKey"] == "SECRET"


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_what_no_encoding_can_make_a_segment_is_refused_before_anything_is_sent(value: str) -> None:
    def handler(_request: httpx.Request) -> httpx.Response:
        raise AssertionError("something was sent")

    for call in (
        lambda: get_task_by_id.sync("1", value, client=client_answering(handler)),
        lambda: get_worker_logs.sync(value, "1", client=client_answering(handler)),
        lambda: list_workers.sync(value, client=client_answering(handler)),
    ):
        with pytest.raises(ValueError, match="cannot be part of a URL path"):
            call()


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(lambda text: text not in {".", ".."}))
def test_whatever_stands_in_a_path_stays_one_segment_of_it(value: str) -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=DOCUMENTED["TaskEnvelope"])

    get_task_by_id.sync("1", value, client=client_answering(handler))
    path = seen[0].url.raw_path.decode()
    assert path == f"/v2/serverless/1/tasks/{path_segment(value)}"
    assert seen[0].url.path == f"/v2/serverless/1/tasks/{value}"
    assert set(path_segment(value)).isdisjoint("/?#\\ \n")


class LightClient:
    """The least that generated code may be given in the place of httpx.Client."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.requests: list[dict[str, Any]] = []

    def request(
        self,
        *,
        method: str,
        url: str,
        json: Any = None,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> "LightAnswer":
        self.requests.append({"method": method, "url": url, "json": json, "params": params, "headers": headers})
        return LightAnswer(self.content)


class LightAnswer:
    """The least that generated code may be given in the place of httpx.Response."""

    status_code = 200

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.headers: dict[str, str] = {}

    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def text(self) -> str:
        return self.content.decode()


def test_a_light_client_is_enough_for_every_kind_of_request() -> None:
    light = LightClient(json.dumps(DOCUMENTED["SubmittedTaskEnvelope"]).encode())
    client = AuthenticatedClient(base_url="http://emulator.test", token="key-1")
    client.set_httpx_client(light)  # pyright: ignore[reportArgumentType] -- the point of the test
    assert isinstance(submit_task.sync("1", client=client, body=BODY), SubmittedTaskEnvelope)
    light.content = json.dumps(DOCUMENTED["TaskPageEnvelope"]).encode()
    list_tasks.sync("1", client=client, status=TaskStatus.FAILED, page_size=5)
    assert light.requests == [
        {
            "method": "post",
            "url": "/v2/serverless/1/tasks",
            "json": BODY.to_dict(),
            "params": None,
            "headers": {"Content-Type": "application/json"},
        },
        {
            "method": "get",
            "url": "/v2/serverless/1/tasks",
            "json": None,
            "params": {"status": "FAILED", "pageNumber": 1, "pageSize": 5},
            "headers": None,
        },
    ]


@pytest.mark.anyio
async def test_the_async_functions_promise_the_same() -> None:
    async def handler(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(520, content=b"")

    client = AuthenticatedClient(base_url="http://emulator.test", token="key-1")
    async with httpx.AsyncClient(transport=httpx.MockTransport(handler), base_url="http://emulator.test") as http:
        client.set_async_httpx_client(http)
        with pytest.raises(errors.UnexpectedStatus):
            await create_endpoint.asyncio(
                client=client, body=CreateEndpointRequest.from_dict(DOCUMENTED["CreateEndpointRequest"])
            )
