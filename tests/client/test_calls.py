"""Each method sends the documented request and gives the data of the envelope."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client.clients import KINDS, Kind
from tests.client.service import ENDPOINT, ID, KEY, SUMMARY, TASK, Service
from tests.spec.reading import operations, validator
from tests.strategies import create_requests, submit_requests, update_requests
from yottabench.client import InvalidArgument
from yottabench.client.models import (
    Endpoint,
    EndpointResource,
    EndpointStatus,
    EnvironmentVar,
    Expose,
    LogPage,
    SubmittedTask,
    Task,
    TaskPage,
    Worker,
)

RESOURCE = {"region": "us-east-1", "gpuType": "NVIDIA_RTX_4090_24G", "gpuCount": 1}
PAGE = {"items": [SUMMARY], "page": 2, "size": 5, "total": 6, "pages": 2}
LOGS = {"logs": [], "hasMore": False, "nextSearchAfterTime": None, "nextSearchAfterOffset": None}
Call = Callable[[Any], Any]


def create(client: Any, **more: Any) -> Endpoint:
    return client.endpoints.create(
        name="a",
        image="b",
        resources=[RESOURCE],
        workers=1,
        container_volume_in_gb=20,
        service_mode="QUEUE",
        **more,
    )


def update(client: Any, **more: Any) -> Endpoint:
    return client.endpoints.update(ID, name="a", resources=[RESOURCE], workers=1, container_volume_in_gb=20, **more)


CALLS: list[tuple[str, str, str, Any, type | None, Call]] = [
    ("createEndpoint", "POST", "/v2/serverless", ENDPOINT, Endpoint, create),
    ("listEndpoints", "GET", "/v2/serverless", [ENDPOINT], list, lambda c: c.endpoints.list()),
    ("getEndpointById", "GET", f"/v2/serverless/{ID}", ENDPOINT, Endpoint, lambda c: c.endpoints.get(ID)),
    ("updateEndpoint", "PATCH", f"/v2/serverless/{ID}", ENDPOINT, Endpoint, update),
    ("deleteEndpoint", "DELETE", f"/v2/serverless/{ID}", True, None, lambda c: c.endpoints.delete(ID)),
    ("stopEndpoint", "POST", f"/v2/serverless/{ID}/stop", True, None, lambda c: c.endpoints.stop(ID)),
    ("startEndpoint", "POST", f"/v2/serverless/{ID}/start", None, None, lambda c: c.endpoints.start(ID)),
    ("scaleWorkers", "PUT", f"/v2/serverless/{ID}/workers?count=4", True, None, lambda c: c.endpoints.scale(ID, 4)),
    ("listWorkers", "GET", f"/v2/serverless/{ID}/workers", [{"status": "RUNNING"}], list, lambda c: c.workers.list(ID)),
    (
        "getWorkerLogs",
        "GET",
        f"/v2/serverless/{ID}/workers/7/logs?pageSize=100&direction=Forward",
        LOGS,
        LogPage,
        lambda c: c.workers.logs(ID, 7),
    ),
    (
        "submitTask",
        "POST",
        f"/v2/serverless/{ID}/tasks",
        {"taskId": "x"},
        SubmittedTask,
        lambda c: c.tasks.submit(ID, {"prompt": "x"}, worker_port=8000, process_uri="/run"),
    ),
    (
        "listTasks",
        "GET",
        f"/v2/serverless/{ID}/tasks?status=FAILED&pageNumber=2&pageSize=5",
        PAGE,
        TaskPage,
        lambda c: c.tasks.list(ID, status="FAILED", page_number=2, page_size=5),
    ),
    (
        "getTaskById",
        "GET",
        f"/v2/serverless/{ID}/tasks/my_task_001",
        TASK,
        Task,
        lambda c: c.tasks.get(ID, "my_task_001"),
    ),
]
each_call = pytest.mark.parametrize("case", CALLS, ids=[one[0] for one in CALLS])


@each_call
def test_a_call_sends_the_documented_request_and_gives_the_data(case: Any, service: Service) -> None:
    _, method, url, data, kind, call = case
    found = call(service.gives(data).client())
    assert (service.last.method, service.last.url.raw_path.decode()) == (method, url)
    assert service.last.headers["x-api-key"] == KEY
    assert service.last.headers["user-agent"].startswith("yottabench/")
    assert found is None if kind is None else isinstance(found, kind)


def test_every_operation_of_the_document_has_a_method() -> None:
    assert {one[0] for one in CALLS} | {"getTaskCount"} == {one["operationId"] for _, _, one in operations()}


def test_the_count_is_given_with_what_the_server_adds_later(service: Service) -> None:
    found = service.gives({"processing": 10, "total": 12, "queued": 3}).client().tasks.count(ID)
    assert service.last.url.path == f"/v2/serverless/{ID}/tasks/count"
    assert (found.processing, found.total, found["queued"]) == (10, 12, 3)


def test_the_documented_submit_is_written_as_documented(service: Service) -> None:
    service.gives({"taskId": "my_task_001"}).client().tasks.submit(
        ID,
        {"prompt": "Hello, world!"},
        worker_port=8000,
        process_uri="/v1/chat/completions",
        task_id="my_task_001",
        webhook="https://webhook.example.com/callback",
        webhook_auth_key="my-secret-key",
        headers={"Authorization": "Bearer token123"},
    )
    assert service.sent == {
        "taskId": "my_task_001",
        "input": {"prompt": "Hello, world!"},
        "workerPort": 8000,
        "processUri": "/v1/chat/completions",
        "webhook": "https://webhook.example.com/callback",
        "webhookAuthKey": "my-secret-key",
        "headers": {"Authorization": "Bearer token123"},
    }


@given(submit_requests(), st.sampled_from(KINDS))
def test_every_valid_task_can_be_submitted(body: dict[str, Any], kind: Kind) -> None:
    service = Service(kind).gives({"taskId": "x"})
    service.client().tasks.submit(
        ID,
        body["input"],
        worker_port=body["workerPort"],
        process_uri=body["processUri"],
        task_id=body.get("taskId"),
        webhook=body.get("webhook"),
        webhook_auth_key=body.get("webhookAuthKey"),
        headers=body.get("headers"),
    )
    sent = service.sent
    if "taskId" not in body:
        assert re.fullmatch(r"[0-9a-f]{32}", sent.pop("taskId"))
    assert sent == body


SNAKE = {
    "name": "name",
    "image": "image",
    "imageRegistry": "image_registry",
    "resources": "resources",
    "workers": "workers",
    "containerVolumeInGb": "container_volume_in_gb",
    "serviceMode": "service_mode",
    "containerRegistryAuthId": "container_registry_auth_id",
    "credentialId": "credential_id",
    "environmentVars": "environment_vars",
    "expose": "expose",
    "webhook": "webhook",
    "initializationCommand": "initialization_command",
    "minSingleCardVramInGb": "min_single_card_vram_in_gb",
    "minSingleCardVcpu": "min_single_card_vcpu",
    "minSingleCardRamInGb": "min_single_card_ram_in_gb",
}


def in_snake_case(body: dict[str, Any]) -> dict[str, Any]:
    return {SNAKE[name]: value for name, value in body.items() if name != "envVars"}


@given(create_requests(), st.sampled_from(KINDS))
def test_every_valid_endpoint_can_be_created(body: dict[str, Any], kind: Kind) -> None:
    body.pop("envVars", None)
    body.pop("credentialId", None)
    service = Service(kind).gives(ENDPOINT)
    service.client().endpoints.create(**in_snake_case(body))
    assert service.sent == body


@given(update_requests(), st.sampled_from(KINDS))
def test_every_valid_change_can_be_sent(body: dict[str, Any], kind: Kind) -> None:
    body.pop("envVars", None)
    body.pop("containerRegistryAuthId", None)
    service = Service(kind).gives(ENDPOINT)
    service.client().endpoints.update(ID, **in_snake_case(body))
    assert service.sent == body


def test_models_are_taken_as_well_as_dicts(service: Service) -> None:
    settings = {
        "resources": [EndpointResource(**{"region": "us-east-1", "gpu_type": "L4", "gpu_count": 2})],
        "expose": Expose(port=8000, protocol="http"),
        "environment_vars": [EnvironmentVar(key="A", value="1"), {"key": "B", "value": "2"}],
    }
    service.gives(ENDPOINT).client().endpoints.update(ID, name="a", workers=1, container_volume_in_gb=20, **settings)
    assert service.sent["resources"] == [{"region": "us-east-1", "gpuType": "L4", "gpuCount": 2}]
    assert service.sent["expose"] == {"port": 8000, "protocol": "http"}
    assert service.sent["environmentVars"] == [{"key": "A", "value": "1"}, {"key": "B", "value": "2"}]


def test_variables_may_be_a_dict_and_none_takes_a_setting_away(service: Service) -> None:
    update(service.gives(ENDPOINT).client(), environment_vars={"MODEL": "x"}, webhook=None, expose=None)
    assert service.sent["environmentVars"] == [{"key": "MODEL", "value": "x"}]
    assert (service.sent["webhook"], service.sent["expose"]) == (None, None)
    validator("UpdateEndpointRequest").validate(service.sent)


def test_none_counts_as_left_out_when_creating(service: Service) -> None:
    create(service.gives(ENDPOINT).client(), webhook=None, expose=None)
    assert set(service.sent) == {"name", "image", "resources", "workers", "containerVolumeInGb", "serviceMode"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"gpu": 1}, "There is no setting 'gpu'"),
        ({"resources": [{"region": "x"}]}, r"resources\[0\].gpuType is missing"),
        ({"resources": {"region": "x"}}, "resources must be an array, but is an object"),
        ({"resources": ["x"]}, r"resources\[0\] must be an object, but is a text"),
        ({"expose": 8000}, "expose must be an object, but is a number"),
        ({"environment_vars": "A=1"}, "environmentVars must be an array, but is a text"),
    ],
)
def test_settings_that_cannot_be_sent_are_refused_by_name(more: dict[str, Any], said: str, service: Service) -> None:
    settings = {"name": "a", "resources": [RESOURCE], "workers": 1, "container_volume_in_gb": 20, **more}
    with pytest.raises(InvalidArgument, match=said):
        service.client().endpoints.update(ID, **settings)
    assert service.requests == []


def test_a_missing_setting_is_named(service: Service) -> None:
    with pytest.raises(InvalidArgument, match="containerVolumeInGb is missing"):
        service.client().endpoints.update(ID, name="a", resources=[RESOURCE], workers=1)  # pyright: ignore[reportCallIssue] -- the point of the test


@pytest.mark.parametrize("value", ["", ".", "..", None, True, 1.5, b"x", ["x"]])
def test_what_is_no_id_is_refused_before_anything_is_sent(value: Any, service: Service) -> None:
    client = service.client()
    calls: list[Callable[[], Any]] = [
        lambda: client.endpoints.get(value),
        lambda: client.endpoints.delete(value),
        lambda: client.workers.logs(ID, value),
        lambda: client.tasks.get(ID, value),
        lambda: client.tasks.submit(value, 1, worker_port=1, process_uri="/"),
    ]
    for call in calls:
        with pytest.raises(InvalidArgument, match="must be an id"):
            call()
    assert service.requests == []


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(lambda text: text not in {".", ".."}))
def test_an_id_never_changes_which_resource_is_asked_for(value: str) -> None:
    service = Service().gives(TASK)
    service.client(local_checks=False).tasks.get(value, value)
    assert service.last.url.host == "emulator.test"
    assert service.last.url.raw_path.decode().count("/") == len(["", "v2", "serverless", "id", "tasks", "task"]) - 1
    assert service.last.url.path == f"/v2/serverless/{value}/tasks/{value}"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {"a": {1, 2}}, "\ud800"])
def test_an_input_that_is_no_json_is_refused(value: Any, service: Service) -> None:
    with pytest.raises(InvalidArgument, match="cannot be written as JSON"):
        service.client().tasks.submit(ID, value, worker_port=1, process_uri="/")
    assert service.requests == []


def test_status_lists_are_sent_as_one_value(service: Service) -> None:
    client = service.gives([]).client()
    client.endpoints.list(statuses=[EndpointStatus.RUNNING, "STOPPED"])
    assert service.last.url.params["statusList"] == "RUNNING,STOPPED"
    client.workers.list(ID, statuses="RUNNING")
    assert service.last.url.params["statusList"] == "RUNNING"
    client.workers.list(ID, statuses=[])
    assert "statusList" not in service.last.url.params


def test_times_of_a_log_query_may_be_text_milliseconds_or_datetimes(service: Service) -> None:
    client = service.gives(LOGS).client()
    moment = datetime(2024, 1, 15, 10, 30, 15, 123000, tzinfo=UTC)
    for given_time, sent in [
        ("2024-01-15", "2024-01-15"),
        (1705306215123, "1705306215123"),
        (moment, "2024-01-15T10:30:15.123Z"),
        (moment.replace(tzinfo=None), "2024-01-15T10:30:15.123Z"),
        (moment.astimezone(timezone(timedelta(hours=2))), "2024-01-15T10:30:15.123Z"),
    ]:
        client.workers.logs(ID, "7", start_time=given_time, end_time=given_time)
        assert (service.last.url.params["startTime"], service.last.url.params["endTime"]) == (sent, sent)


def test_the_tokens_of_a_log_page_lead_to_the_next(service: Service) -> None:
    page = service.gives({**LOGS, "nextSearchAfterTime": "1705306215123", "nextSearchAfterOffset": "12400"})
    client = page.client()
    first = client.workers.logs(ID, "7", keyword="é &", direction="Backward")
    assert service.last.url.params["keyword"] == "é &"
    client.workers.logs(
        ID, "7", search_after_time=first.next_search_after_time, search_after_offset=first.next_search_after_offset
    )
    assert service.last.url.params["searchAfterTime"] == "1705306215123"
    assert service.last.url.params["searchAfterOffset"] == "12400"
    with pytest.raises(InvalidArgument, match="searchAfterOffset must be an integer"):
        client.workers.logs(ID, "7", search_after_time="1", search_after_offset="x")
    with pytest.raises(InvalidArgument, match="search_after_offset must be a number"):
        service.client(local_checks=False).workers.logs(ID, "7", search_after_offset="x")


def test_an_id_that_comes_as_a_number_is_text_in_the_model(service: Service) -> None:
    found = service.gives({**ENDPOINT, "id": 378888638324150969}).client().endpoints.get(378888638324150969)
    assert found.id == "378888638324150969"


def test_unknown_statuses_and_fields_survive(service: Service) -> None:
    endpoint = {**ENDPOINT, "status": "PAUSED", "serviceMode": "BATCH", "queue": {"depth": 3}}
    found = service.gives([endpoint, ENDPOINT]).client().endpoints.list()
    assert (found[0].status, found[0].service_mode, found[0]["queue"]) == ("PAUSED", "BATCH", {"depth": 3})
    assert found[0].to_dict() == endpoint
    assert found[1].status is EndpointStatus.RUNNING


@pytest.mark.parametrize(
    "shape",
    [
        {"workerId": "1", "status": "running", "createdAt": 1705306215123},
        {"id": "1", "region": "us-east-1", "gpuType": "NVIDIA_L4_24G", "gpuCount": 1, "status": "INITIALIZE"},
        {"id": "1", "gpuDisplayName": "L4", "singleCardVramInGb": 24, "uptime": 5, "cost": 0.1, "status": "RUNNING"},
    ],
)
def test_every_published_shape_of_a_worker_is_read(shape: dict[str, Any], service: Service) -> None:
    worker = service.gives([shape]).client().workers.list(ID)[0]
    assert isinstance(worker, Worker)
    assert (worker.worker_id, worker.id) == ("1", "1")
    assert worker.to_dict() == {**shape, "id": "1", "workerId": "1"}


@pytest.mark.parametrize("data", [True, None, False, ENDPOINT])
def test_actions_succeed_whatever_form_the_success_has(data: Any, service: Service) -> None:
    service.gives(data).client().endpoints.stop(ID)
    assert len(service.requests) == 1
