"""The document, the client and the emulator read each value alike: values on both sides of each bound of the document."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import pytest

from yottabench.client import InvalidArgument, constraints
from yottabench.conformance.document import Operation, Parameter, follow, operations, validator
from yottabench.conformance.values import Value, bodies, values
from yottabench.emulator import requests as server
from yottabench.emulator.app import ENDPOINT_STATUSES, WORKER_STATUSES
from yottabench.emulator.codes import ApiError
from yottabench.emulator.log_query import InvalidLogQuery, parse_log_query

BOUNDS = ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
# The other side of a bound is no valid value for another reason: these are narrower by their pattern or their values.
UNREACHABLE = {
    *(("statusList", bound) for bound in ("minLength", "maxLength")),
    *((name, "maxLength") for name in ("startTime", "endTime", "searchAfterTime")),
}


def accepts(read: Callable[[], object]) -> bool:
    try:
        read()
    except (InvalidArgument, ApiError, InvalidLogQuery):
        return False
    return True


# ---- bodies


@attrs.frozen
class Readers:
    """Two readers of one request; `extra` are fields that the client's arguments know under another name."""

    client: Callable[[Any], object]
    emulator: Callable[[bytes], object]
    extra: frozenset[str] = frozenset()


def sample_of(operation: Operation) -> dict[str, Any]:
    return operation.raw["requestBody"]["content"]["application/json"]["examples"]["documented"]["value"]


OLD = server.read_create(json.dumps(sample_of(operations()["createEndpoint"])).encode())
READERS = {
    "createEndpoint": Readers(constraints.check_create, server.read_create, frozenset({"credentialId", "envVars"})),
    "updateEndpoint": Readers(
        constraints.check_update,
        lambda body: server.read_update(body, OLD),
        frozenset({"containerRegistryAuthId", "envVars"}),
    ),
    "submitTask": Readers(constraints.check_submit, server.read_submit),
}
# Two names of one field may differ in no document (N23); a base without them lets each name be tried by itself.
ALIASES = ("envVars", "environmentVars", "credentialId", "containerRegistryAuthId")


def base_of(name: str) -> dict[str, Any]:
    return {field: value for field, value in sample_of(operations()[name]).items() if field not in ALIASES}


CHANGED = [(name, value) for name in READERS for value in bodies(operations()[name], base_of(name))]


def test_every_operation_with_a_body_is_read_by_three() -> None:
    assert set(READERS) == {name for name, operation in operations().items() if operation.body is not None}


@pytest.mark.parametrize("name", READERS)
def test_document_client_and_emulator_accept_the_same_bodies(name: str) -> None:
    readers = READERS[name]
    tried = 0
    for value in bodies(operations()[name], base_of(name)):
        body = json.dumps(value.value).encode()
        verdicts = {"document": value.allowed, "emulator": accepts(lambda body=body: readers.emulator(body))}
        if not readers.extra & set(value.value):
            verdicts["client"] = accepts(lambda value=value: readers.client(value.value))
            tried += 1
        assert len(set(verdicts.values())) == 1, (value.why, verdicts)
    assert tried >= 150


# ---- parameters

Reader = Callable[[str, Any], object]


def client_reads(operation: Operation, parameter: Parameter) -> Reader | None:
    """How the client checks a parameter; None for what it leaves to the service."""
    match parameter.name:
        case "id":
            return lambda _, value: constraints.check_endpoint_id(value)
        case "workerId" | "taskId" as name:
            longest = follow(parameter.schema)["maxLength"]
            return lambda _, value: constraints.check_path_id(name, value, longest)
        case "statusList":
            of_workers = operation.name == "listWorkers"
            return lambda _, value: constraints.check_status_list(value, of_workers=of_workers)
        case "status":
            return lambda _, value: constraints.check_task_status(value)
        case "startTime" | "endTime" | "searchAfterTime":
            return None
    if operation.name == "getWorkerLogs":
        defaults = {"pageSize": "100", "direction": "Forward"}
        more = {"searchAfterTime": "1"} if parameter.name == "searchAfterOffset" else {}
        return lambda text, _: constraints.check_log_query({**defaults, **more, parameter.name: text})
    bounds = {"count": (0, 1000), "pageNumber": (1, server_int32()), "pageSize": (1, 100)}[parameter.name]
    return lambda _, value: constraints.check_query_integer(parameter.name, value, *bounds)


def server_int32() -> int:
    return constraints.INT32_MAX


def emulator_reads(operation: Operation, parameter: Parameter) -> Reader:
    match parameter.name:
        case "id":
            return lambda text, _: server.endpoint_id(text)
        case "workerId" | "taskId" as name:
            longest = {"workerId": 64, "taskId": 255}[name]
            return lambda text, _: server.path_id(text, name, longest)
        case "statusList":
            known = WORKER_STATUSES if operation.name == "listWorkers" else ENDPOINT_STATUSES
            return lambda text, _: server.query_statuses({"statusList": [text]}, known)
    if operation.name == "getWorkerLogs":
        both = {"searchAfterOffset": "searchAfterTime", "searchAfterTime": "searchAfterOffset"}
        more = {both[parameter.name]: "1"} if parameter.name in both else {}
        return lambda text, _: parse_log_query({**more, parameter.name: text})
    bounds = {"count": (0, 1000), "pageNumber": (1, server_int32()), "pageSize": (1, 100)}.get(parameter.name)
    if bounds is None:
        return lambda text, _: status_filter(text)
    return lambda text, _: server.query_integer({parameter.name: [text]}, parameter.name, *bounds, None)


def status_filter(text: str) -> None:
    from yottabench.emulator.app import TASK_STATUSES

    if text.upper() not in TASK_STATUSES:
        raise InvalidArgument(text)


def sent(value: Value) -> Iterator[tuple[str, Any]]:
    """The value as a query has it; what is no text and no whole number cannot be told from a text there."""
    if isinstance(value.value, str) or (type(value.value) is int):
        yield str(value.value), value.value


PARAMETERS = [(operation, parameter) for operation in operations().values() for parameter in operation.parameters]


@pytest.mark.parametrize(
    ("operation", "parameter"), PARAMETERS, ids=[f"{operation.name}-{one.name}" for operation, one in PARAMETERS]
)
def test_document_client_and_emulator_accept_the_same_parameters(operation: Operation, parameter: Parameter) -> None:
    client, emulator = client_reads(operation, parameter), emulator_reads(operation, parameter)
    for value in values(parameter.schema):
        for text, plain in sent(value):
            integer = follow(parameter.schema)["type"] == "integer"
            if integer and isinstance(plain, str):
                continue
            verdicts = {"document": value.allowed, "emulator": accepts(lambda text=text: emulator(text, text))}
            if client is not None:
                verdicts["client"] = accepts(lambda text=text, plain=plain: client(text, plain))
            # The service takes statuses in any case (N37); the document, so its clients, write them large.
            if "status" in parameter.name and plain != plain.upper():
                verdicts.pop("document")
            assert len(set(verdicts.values())) == 1, (value.why, plain, verdicts)


# ---- that both sides of every bound are among the values


def schemas() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema of what can be sent, with a name."""
    for operation, parameter in PARAMETERS:
        yield parameter.name, follow(parameter.schema) | {"of": operation.name}
    for operation in operations().values():
        if operation.body is not None:
            yield from fields(operation.name, follow(operation.body))


def fields(where: str, node: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield where, node
    for name, child in node.get("properties", {}).items():
        yield from fields(f"{where}.{name}", follow(child))
    for keyword in ("items", "additionalProperties", "propertyNames"):
        if isinstance(node.get(keyword), Mapping):
            yield from fields(f"{where}<{keyword}>", follow(node[keyword]))
    for child in node.get("oneOf", ()):
        yield from fields(where, follow(child))


BOUNDED = [
    (name, bound, node) for name, node in schemas() for bound in BOUNDS if bound in node and kind(node) == "plain"
] if (kind := lambda node: "plain" if "type" in node and "enum" not in node else "other") else []


@pytest.mark.parametrize(("name", "bound", "node"), BOUNDED, ids=[f"{name}-{bound}" for name, bound, _ in BOUNDED])
def test_both_sides_of_every_bound_are_among_the_values(name: str, bound: str, node: Mapping[str, Any]) -> None:
    examples = {} if "examples" in node or "pattern" not in node else {"examples": node.get("examples", [])}
    found = list(values({**node, **examples} if examples.get("examples") else node))
    at = [value.allowed for value in found if value.why == f"at its {bound}"]
    beyond = [value.allowed for value in found if value.why == f"beyond its {bound}"]
    assert True in at or (name, bound) in UNREACHABLE
    assert beyond == [] or False in beyond
    assert beyond or node[bound] == 0
    assert validator(node)
