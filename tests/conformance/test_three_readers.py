"""Document, client and emulator read each value alike, on both sides of every bound that the document has."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import attrs
import pytest

from tests.client.service import ID, Service
from tests.conformance.live import Stage
from yottabench.client import InvalidArgument, YottaError, constraints
from yottabench.conformance.document import Operation, Parameter, follow, operations
from yottabench.conformance.values import bodies, values
from yottabench.emulator import requests as server
from yottabench.emulator.codes import ApiError

BOUNDS = ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
# The other side of a bound is no valid value for another reason: these are narrower by their pattern or their values.
UNREACHABLE = {
    *(("statusList", bound) for bound in ("minLength", "maxLength")),
    *((name, "maxLength") for name in ("startTime", "endTime", "searchAfterTime")),
}


def accepts(read: Callable[[], object]) -> bool:
    try:
        read()
    except (InvalidArgument, ApiError):
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


def snake(named: Mapping[str, Any]) -> dict[str, Any]:
    return {re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", name): value for name, value in named.items()}


CALLS: dict[str, Callable[..., object]] = {
    "listEndpoints": lambda client, statusList: client.endpoints.list(statuses=statusList),
    "getEndpointById": lambda client, id: client.endpoints.get(id),
    "updateEndpoint": lambda client, id: client.endpoints.update(
        id, name="a", resources=base_of("createEndpoint")["resources"], workers=1, container_volume_in_gb=20
    ),
    "deleteEndpoint": lambda client, id: client.endpoints.delete(id),
    "stopEndpoint": lambda client, id: client.endpoints.stop(id),
    "startEndpoint": lambda client, id: client.endpoints.start(id),
    "scaleWorkers": lambda client, id=ID, count=0: client.endpoints.scale(id, count),
    "listWorkers": lambda client, id=ID, statusList=None: client.workers.list(id, statuses=statusList),
    "getWorkerLogs": lambda client, id=ID, workerId="7", **query: client.workers.logs(
        id,
        workerId,
        **{re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", name): one for name, one in query.items()},
    ),
    "submitTask": lambda client, id: client.tasks.submit(id, 1, worker_port=1, process_uri="/"),
    "listTasks": lambda client, id=ID, status=None, pageNumber=1, pageSize=10: client.tasks.list(
        id, status=status, page_number=pageNumber, page_size=pageSize
    ),
    "getTaskCount": lambda client, id: client.tasks.count(id),
    "getTaskById": lambda client, id=ID, taskId="t": client.tasks.get(id, taskId),
}
# Tokens come in pairs (N27).
WITH = {"searchAfterTime": {"searchAfterOffset": "1"}, "searchAfterOffset": {"searchAfterTime": "1"}}
LEFT_TO_THE_SERVICE = {"startTime", "endTime", "searchAfterTime"}  # the many forms of a time
PARAMETERS = [(operation, parameter) for operation in operations().values() for parameter in operation.parameters]


def client_sends(operation: Operation, parameter: Parameter, value: Any) -> bool:
    """Whether the client sends a call with this value, rather than to refuse it itself."""
    service = Service().fails(400, {"message": "no", "code": 10001, "data": None})
    with contextlib.suppress(YottaError), service.client() as client:
        CALLS[operation.name](client, **{parameter.name: value, **WITH.get(parameter.name, {})})
    return bool(service.requests)


def emulator_takes(stage: Stage, operation: Operation, parameter: Parameter, value: Any) -> bool:
    """Whether the emulator has nothing against this value; what it is asked of need not be there."""
    in_logs = operation.name == "getWorkerLogs"
    ids = {"id": stage.served if in_logs else stage.parked, "workerId": stage.worker_id, "taskId": "t"}
    body = base_of(operation.name) if operation.body is not None else None
    query = {"count": 0} if operation.name == "scaleWorkers" else {}
    if parameter.place == "path":
        ids[parameter.name] = quote(str(value), safe="")
    else:
        query |= {parameter.name: str(value), **WITH.get(parameter.name, {})}
    path = operation.path.removeprefix("/v2/serverless").format(**ids)
    if operation.name == "deleteEndpoint" and value == stage.parked:
        return True
    return stage.api.call(operation.method, path, json=body, params=query).code != 10001


@pytest.mark.parametrize(
    ("operation", "parameter"), PARAMETERS, ids=[f"{operation.name}-{one.name}" for operation, one in PARAMETERS]
)
def test_document_client_and_emulator_accept_the_same_parameters(
    stage: Stage, operation: Operation, parameter: Parameter
) -> None:
    kind = {"integer": int, "string": str}[follow(parameter.schema)["type"]]
    for value in values(parameter.schema):
        # In a path and a query everything is text; an empty part of a path is another path.
        if type(value.value) is not kind or (parameter.place == "path" and not value.value):
            continue
        verdicts = {"emulator": emulator_takes(stage, operation, parameter, value.value)}
        # An empty filter is none to the client: it is not sent.
        unfiltered = parameter.name == "statusList" and not value.value
        if parameter.name not in LEFT_TO_THE_SERVICE and not unfiltered:
            verdicts["client"] = client_sends(operation, parameter, value.value)
        # The service takes statuses in any case (N37); in the document, so in the client, they have one.
        if "another case" not in value.why:
            verdicts["document"] = value.allowed
        assert len(set(verdicts.values())) == 1, (value.why, value.value, verdicts)


# ---- that both sides of every bound are among the values


def schemas() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema of what can be sent, with a name."""
    for _, parameter in PARAMETERS:
        yield parameter.name, follow(parameter.schema)
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
    (name, bound, node)
    for name, node in schemas()
    for bound in BOUNDS
    if bound in node and "type" in node and "enum" not in node
]


@pytest.mark.parametrize(("name", "bound", "node"), BOUNDED, ids=[f"{name}-{bound}" for name, bound, _ in BOUNDED])
def test_both_sides_of_every_bound_are_among_the_values(name: str, bound: str, node: Mapping[str, Any]) -> None:
    found = list(values(node))
    at = [value.allowed for value in found if value.why == f"at its {bound}"]
    beyond = [value.allowed for value in found if value.why == f"beyond its {bound}"]
    assert True in at or (name, bound) in UNREACHABLE
    assert False in beyond or (node[bound] == 0 and bound.startswith("min"))
