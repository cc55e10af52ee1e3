"""The strategies of tests/strategies.py against the document: all that is valid is accepted, all else refused."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import strategies
from tests.spec.reading import operations, parameter_schema, parameters, validator, validator_of, walk
from tests.strategies import Field
from yottabench.spec import spec

REQUESTS = {
    "CreateEndpointRequest": strategies.CREATE_FIELDS,
    "UpdateEndpointRequest": strategies.UPDATE_FIELDS,
    "SubmitTaskRequest": strategies.SUBMIT_FIELDS,
    "EndpointResource": {
        "region": strategies.PLACE,
        "gpuType": strategies.PLACE,
        "gpuCount": strategies.GPU_COUNT,
    },
    "EnvironmentVar": {"key": strategies.VARIABLE_KEY, "value": strategies.VARIABLE_VALUE},
    "Expose": {"port": strategies.PORT, "protocol": strategies.PROTOCOL},
}
PARAMETERS = {
    ("listTasks", "pageNumber"): strategies.PAGE_NUMBER,
    ("listTasks", "pageSize"): strategies.PAGE_SIZE,
    ("listTasks", "status"): strategies.TASK_STATUS,
    ("scaleWorkers", "count"): strategies.CREATE_WORKERS,
    ("getWorkerLogs", "pageSize"): strategies.LOG_PAGE_SIZE,
    ("getWorkerLogs", "searchAfterOffset"): strategies.SEARCH_OFFSET,
    ("getWorkerLogs", "startTime"): strategies.LOG_TIME,
    ("getWorkerLogs", "endTime"): strategies.LOG_TIME,
    ("getWorkerLogs", "searchAfterTime"): strategies.LOG_TIME,
}


def _fields() -> Iterator[tuple[str, dict[str, Any], Field, bool]]:
    schemas = spec()["components"]["schemas"]
    for request, fields in REQUESTS.items():
        for name, field in fields.items():
            clearable = request == "UpdateEndpointRequest" and name in strategies.CLEARABLE
            yield f"{request}.{name}", schemas[request]["properties"][name], field, clearable
    for (operation, name), field in PARAMETERS.items():
        yield f"{operation}.{name}", parameter_schema(operation, name), field, False


FIELDS = list(_fields())
each_field = pytest.mark.parametrize(
    ("schema", "field", "clearable"), [one[1:] for one in FIELDS], ids=[one[0] for one in FIELDS]
)


def test_every_field_that_can_be_sent_has_a_strategy() -> None:
    for request, fields in REQUESTS.items():
        assert set(fields) == set(spec()["components"]["schemas"][request]["properties"])


@each_field
def test_both_sides_of_every_bound(schema: dict[str, Any], field: Field, clearable: bool) -> None:
    check = validator_of(schema)
    assert [value for value in field.good if not check.is_valid(value)] == []
    accepted = [value for value in field.bad if check.is_valid(value)]
    assert accepted == ([None] if clearable else [])


@each_field
@settings(max_examples=25)  # the edges are all tried above
@given(data=st.data())
def test_valid_values_are_accepted(schema: dict[str, Any], field: Field, clearable: bool, data: st.DataObject) -> None:
    validator_of(schema).validate(data.draw(field.valid()))


@each_field
@settings(max_examples=25)  # the edges are all tried above
@given(data=st.data())
def test_invalid_values_are_refused(schema: dict[str, Any], field: Field, clearable: bool, data: st.DataObject) -> None:
    value = data.draw(field.invalid())
    assert validator_of(schema).is_valid(value) == (clearable and value is None)


@given(strategies.create_requests())
def test_valid_create_requests_are_accepted(body: dict[str, Any]) -> None:
    validator("CreateEndpointRequest").validate(body)


@given(strategies.invalid_create_requests())
def test_invalid_create_requests_are_refused(body: dict[str, Any]) -> None:
    assert not validator("CreateEndpointRequest").is_valid(body)


@given(strategies.update_requests())
def test_valid_update_requests_are_accepted(body: dict[str, Any]) -> None:
    validator("UpdateEndpointRequest").validate(body)


@given(strategies.invalid_update_requests())
def test_invalid_update_requests_are_refused(body: dict[str, Any]) -> None:
    assert not validator("UpdateEndpointRequest").is_valid(body)


@given(strategies.submit_requests())
def test_valid_submit_requests_are_accepted(body: dict[str, Any]) -> None:
    validator("SubmitTaskRequest").validate(body)


@given(strategies.invalid_submit_requests())
def test_invalid_submit_requests_are_refused(body: dict[str, Any]) -> None:
    assert not validator("SubmitTaskRequest").is_valid(body)


def test_an_alb_endpoint_needs_an_exposed_port() -> None:
    body: dict[str, Any] = {
        "name": "a",
        "image": "a",
        "resources": [strategies.RESOURCE.good[0]],
        "workers": 1,
        "containerVolumeInGb": 20,
        "serviceMode": "ALB",
    }
    check = validator("CreateEndpointRequest")
    assert not check.is_valid(body)
    assert check.is_valid({**body, "expose": {"port": 80, "protocol": "http"}})
    assert check.is_valid({**body, "serviceMode": "CUSTOM"})


@pytest.mark.parametrize(
    ("operation", "statuses"),
    [
        ("listEndpoints", ["INITIALIZING", "RUNNING", "STOPPING", "STOPPED", "FAILED", "TERMINATED"]),
        ("listWorkers", ["INITIALIZE", "INITIALIZING", "RUNNING", "STOPPING", "TERMINATING", "TERMINATED", "FAILED"]),
    ],
)
@given(data=st.data())
def test_status_lists_are_comma_separated_statuses(operation: str, statuses: list[str], data: st.DataObject) -> None:
    check = validator_of(parameter_schema(operation, "statusList"))
    check.validate(data.draw(strategies.status_lists(statuses)))
    assert not any(
        check.is_valid(text) for text in ("", ",", "RUNNING,", "RUNNING,,FAILED", "NONE", "RUNNING\n", "A B")
    )


@pytest.mark.parametrize("name", ["id", "workerId", "taskId"])
def test_ids_in_paths_are_single_safe_segments(name: str) -> None:
    operation = {"id": "getEndpointById", "workerId": "getWorkerLogs", "taskId": "getTaskById"}[name]
    check = validator_of(parameter_schema(operation, name))
    longest = {"id": 19, "workerId": 64, "taskId": 255}[name]
    assert check.is_valid("378888638324150969")
    assert check.is_valid("1" * longest)
    for text in ("", "1" * (longest + 1), ".", "..", "a/b", "1\n", "1 2", "%2e", "é"):
        assert not check.is_valid(text)


def test_a_hyphenated_id_can_be_asked_for_but_not_submitted() -> None:
    uuid = "9b2f6c1e-0000-4000-8000-000000000000"
    assert validator_of(parameter_schema("getTaskById", "taskId")).is_valid(uuid)
    assert not validator("SubmitTaskRequest").is_valid({"taskId": uuid, "input": 1, "workerPort": 1, "processUri": "/"})


PATTERNS = sorted(
    {node["pattern"] for _, node in walk(spec()["components"]["schemas"]) if isinstance(node.get("pattern"), str)}
    | {
        one["schema"]["pattern"]
        for path, _, found in operations()
        for one in parameters(path, found)
        if "pattern" in one["schema"]
    }
)
LETS_LINE_FEEDS_IN = [r"^[^=\u0000]{1,255}$", r"^[^\u0000]*$", "^[^/]"]


@pytest.mark.parametrize("pattern", [one for one in PATTERNS if one not in LETS_LINE_FEEDS_IN])
@given(data=st.data())
def test_a_final_line_feed_is_refused_by_json_schema_and_by_a_full_match_in_python(
    pattern: str, data: st.DataObject
) -> None:
    text = data.draw(st.from_regex(pattern, fullmatch=True)).removesuffix("\n")
    check = validator_of({"type": "string", "pattern": pattern})
    assert check.is_valid(text) == (re.fullmatch(pattern, text) is not None)
    assert not check.is_valid(text + "\n")
    assert re.fullmatch(pattern, text + "\n") is None


def test_a_whole_number_may_be_written_with_a_fraction_of_zero() -> None:
    check = validator_of(spec()["components"]["schemas"]["SubmitTaskRequest"]["properties"]["workerPort"])
    assert check.is_valid(8000.0)
    assert not any(check.is_valid(value) for value in (8000.5, 65536.0, "8000", True))


@given(strategies.submit_requests(), strategies.json_values())
def test_unknown_fields_of_a_request_are_let_through(body: dict[str, Any], value: Any) -> None:
    validator("SubmitTaskRequest").validate({**body, "priority": value})
