"""Changes to our own document, a row each: what is found, and whether it breaks clients when made and when undone."""

import json
from collections.abc import Callable
from typing import Any

import attrs

from yottabench.spec import spec

Plant = Callable[[dict[str, Any]], object]
_TEXT = json.dumps(spec())


def fresh() -> dict[str, Any]:
    """The document, to be changed; much quicker than a deep copy."""
    return json.loads(_TEXT)


def schema(document: dict[str, Any], name: str) -> dict[str, Any]:
    return document["components"]["schemas"][name]


def at(document: dict[str, Any], name: str, *steps: str) -> dict[str, Any]:
    found = schema(document, name)
    for step in steps:
        found = found["properties"][step]
    return found


def call(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(
        one
        for item in document["paths"].values()
        for one in item.values()
        if isinstance(one, dict) and one.get("operationId") == name
    )


def parameter(document: dict[str, Any], operation: str, name: str) -> dict[str, Any]:
    return next(one for one in call(document, operation)["parameters"] if one.get("name") == name)


def moved(mapping: dict[str, Any], old: str, new: str) -> None:
    mapping[new] = mapping.pop(old)


@attrs.frozen
class Planted:
    """A change, what is found, and whether it breaks clients when made and when taken back."""

    plant: Plant
    kind: str
    what: str
    side: str
    breaks: bool
    breaks_back: bool
    place: str = ""


REGION = {"name": "region", "in": "query", "schema": {"type": "string"}}
# fmt: off -- a row each
PLANTED = {
    "operation removed": Planted(
        lambda d: d["paths"].pop("/v2/serverless/{id}/start"), "removed", "operation", "api", True, False
    ),
    "operation renamed": Planted(
        lambda d: call(d, "startEndpoint").update(operationId="bootEndpoint"), "renamed", "operation", "api", True, True
    ),
    "path renamed": Planted(
        lambda d: moved(d["paths"], "/v2/serverless/{id}/start", "/v2/serverless/{id}/boot"),
        "renamed",
        "path",
        "api",
        True,
        True,
        "startEndpoint",
    ),
    "operation deprecated": Planted(
        lambda d: call(d, "startEndpoint").update(deprecated=True), "added", "deprecation", "api", False, False
    ),
    "parameter removed": Planted(
        lambda d: call(d, "listTasks")["parameters"].pop(0), "removed", "parameter", "request", True, False
    ),
    "required parameter added": Planted(
        lambda d: call(d, "listTasks")["parameters"].append({**REGION, "required": True}),
        "added",
        "required parameter",
        "request",
        True,
        True,
    ),
    "parameter renamed": Planted(
        lambda d: parameter(d, "listTasks", "pageSize").update(name="size"),
        "renamed",
        "parameter",
        "request",
        True,
        True,
    ),
    "path parameter renamed": Planted(
        lambda d: (
            moved(d["paths"], "/v2/serverless/{id}/tasks/{taskId}", "/v2/serverless/{id}/tasks/{task}"),
            d["components"]["parameters"]["TaskId"].update(name="task"),
        ),
        "renamed",
        "parameter",
        "request",
        True,
        True,
        "getTaskById path parameter 2",
    ),
    "parameter required": Planted(
        lambda d: parameter(d, "listTasks", "pageSize").update(required=True),
        "narrowed",
        "required",
        "request",
        True,
        False,
    ),
    "parameter style": Planted(
        lambda d: parameter(d, "listEndpoints", "statusList").update(style="pipeDelimited"),
        "changed",
        "style",
        "request",
        True,
        True,
    ),
    "parameter bound": Planted(
        lambda d: parameter(d, "listTasks", "pageSize")["schema"].update(maximum=50),
        "narrowed",
        "maximum",
        "request",
        True,
        False,
        "listTasks query parameter pageSize",
    ),
    "parameter default": Planted(
        lambda d: parameter(d, "listTasks", "pageSize")["schema"].update(default=20),
        "changed",
        "default",
        "request",
        True,
        True,
    ),
    "body optional": Planted(
        lambda d: call(d, "submitTask")["requestBody"].update(required=False),
        "widened",
        "required",
        "request",
        False,
        True,
    ),
    "body removed": Planted(
        lambda d: call(d, "submitTask").pop("requestBody"), "removed", "body", "request", True, True
    ),
    "media type added": Planted(
        lambda d: call(d, "submitTask")["requestBody"]["content"].update({"application/cbor": {}}),
        "added",
        "media type",
        "request",
        False,
        True,
    ),
    "field removed from a request": Planted(
        lambda d: schema(d, "SubmitTaskRequest")["properties"].pop("headers"),
        "removed",
        "field",
        "request",
        True,
        False,
    ),
    "field renamed in a request": Planted(
        lambda d: moved(schema(d, "SubmitTaskRequest")["properties"], "webhookAuthKey", "webhookKey"),
        "renamed",
        "field",
        "request",
        True,
        True,
        "SubmitTaskRequest",
    ),
    "field renamed in an answer": Planted(
        lambda d: moved(schema(d, "Endpoint")["properties"], "perHourPrice", "hourly"),
        "renamed",
        "field",
        "answer",
        True,
        True,
        "Endpoint",
    ),
    "required field added to a request": Planted(
        lambda d: (
            schema(d, "SubmitTaskRequest")["required"].append("priority"),
            schema(d, "SubmitTaskRequest")["properties"].update(priority={"type": "integer"}),
        ),
        "added",
        "required field",
        "request",
        True,
        True,
    ),
    "field added to an answer": Planted(
        lambda d: schema(d, "Task")["properties"].update(priority={"type": "integer"}),
        "added",
        "field",
        "answer",
        False,
        True,
    ),
    "field required in a request": Planted(
        lambda d: schema(d, "SubmitTaskRequest")["required"].append("taskId"),
        "narrowed",
        "required",
        "request",
        True,
        False,
        "SubmitTaskRequest.taskId",
    ),
    "field optional in an answer": Planted(
        lambda d: schema(d, "Task")["required"].remove("workerUrl"), "widened", "required", "answer", True, False
    ),
    "enum value added to an answer": Planted(
        lambda d: schema(d, "DeliveryStatus")["enum"].append("QUEUED"),
        "added",
        "enum value",
        "answer",
        True,
        False,
        "DeliveryStatus",
    ),
    "enum value added to a request": Planted(
        lambda d: schema(d, "LogDirection")["enum"].append("Both"), "added", "enum value", "request", False, True
    ),
    "enum opened": Planted(lambda d: schema(d, "LogDirection").pop("enum"), "widened", "enum", "request", False, True),
    "constant changed": Planted(
        lambda d: schema(d, "Success").update(const=0, minimum=10000), "added", "enum value", "answer", True, True
    ),
    **{
        f"{name} {'raised' if by > 0 else 'lowered'}": Planted(
            lambda d, steps=steps, name=name, by=by: at(d, *steps).update({name: at(d, *steps)[name] + by}),
            "widened" if wider else "narrowed",
            name,
            "request",
            not wider,
            wider,
        )
        for steps, name, by, wider in (
            (("SubmitTaskRequest", "workerPort"), "minimum", 1, False),
            (("SubmitTaskRequest", "workerPort"), "maximum", 1, True),
            (("SubmitTaskRequest", "taskId"), "minLength", 1, False),
            (("SubmitTaskRequest", "taskId"), "maxLength", -1, False),
            (("CreateEndpointRequest", "resources"), "minItems", -1, True),
            (("CreateEndpointRequest", "resources"), "maxItems", -1, False),
        )
    },
    "bound of both sides": Planted(
        lambda d: schema(d, "TaskHeaders").update(maxProperties=65), "widened", "maxProperties", "answer", True, True
    ),
    "bound taken from an answer": Planted(
        lambda d: at(d, "Task", "deliveryAttempts").pop("maximum"), "widened", "maximum", "answer", True, False
    ),
    "pattern changed": Planted(
        lambda d: at(d, "SubmitTaskRequest", "taskId").update(pattern="^[a-z]+$"),
        "changed",
        "pattern",
        "request",
        True,
        True,
    ),
    "pattern taken away": Planted(
        lambda d: at(d, "SubmitTaskRequest", "taskId").pop("pattern"), "widened", "pattern", "request", False, True
    ),
    "type changed": Planted(
        lambda d: at(d, "Task", "endpointId").update(type="string"), "changed", "type", "answer", True, True
    ),
    "type widened": Planted(
        lambda d: at(d, "TaskCount", "processing").update(type="number"), "widened", "type", "answer", True, False
    ),
    "type of an item": Planted(
        lambda d: schema(d, "TaskPage")["properties"]["items"].update(items={"type": "object"}),
        "removed",
        "required field",
        "answer",
        True,
        False,
        "TaskPage.items[]",
    ),
    "format widened": Planted(
        lambda d: at(d, "TaskPage", "size").update(format="int64"), "widened", "format", "answer", True, False
    ),
    "null let in": Planted(
        lambda d: at(d, "Endpoint", "name").update(type=["string", "null"]),
        "widened",
        "nullability",
        "answer",
        True,
        False,
        "Endpoint.name",
    ),
    "null let in by oneOf": Planted(
        lambda d: schema(d, "Endpoint")["properties"].update(
            status={"oneOf": [{"$ref": "#/components/schemas/EndpointStatus"}, {"type": "null"}]}
        ),
        "widened",
        "nullability",
        "answer",
        True,
        False,
        "EndpointStatus",
    ),
    "condition removed": Planted(
        lambda d: schema(d, "CreateEndpointRequest").pop("if"), "removed", "condition", "request", True, True
    ),
    "condition asks for more": Planted(
        lambda d: schema(d, "CreateEndpointRequest")["then"]["required"].append("webhook"),
        "narrowed",
        "required",
        "request",
        True,
        False,
    ),
    "exception taken back": Planted(
        lambda d: at(d, "SubmitTaskRequest", "taskId").pop("not"), "widened", "not", "request", False, True
    ),
    "additional fields refused": Planted(
        lambda d: schema(d, "SubmitTaskRequest").update(additionalProperties=False),
        "narrowed",
        "additionalProperties",
        "request",
        True,
        False,
    ),
    "values of a map": Planted(
        lambda d: schema(d, "TaskHeaders")["additionalProperties"].update(maxLength=10),
        "narrowed",
        "maxLength",
        "request",
        True,
        True,
        "TaskHeaders<additionalProperties>",
    ),
    "alternatives": Planted(
        lambda d: at(d, "SubmitTaskRequest", "input").update(anyOf=[{"type": "object"}, {"type": "array"}]),
        "narrowed",
        "alternatives",
        "request",
        True,
        False,
    ),
    "status added": Planted(
        lambda d: call(d, "getTaskById")["responses"].update({"403": {"description": ""}}),
        "added",
        "status",
        "answer",
        False,
        False,
    ),
    "success removed": Planted(
        lambda d: moved(call(d, "getTaskById")["responses"], "200", "202"), "removed", "status", "answer", True, True
    ),
    "header removed": Planted(
        lambda d: d["components"]["responses"]["Busy"].pop("headers"), "removed", "header", "answer", True, False
    ),
    "security opened": Planted(
        lambda d: call(d, "getTaskById").update(security=[]), "added", "security", "request", False, True
    ),
    "key moved": Planted(
        lambda d: d["components"]["securitySchemes"]["ApiKey"].update({"in": "query"}),
        "changed",
        "security scheme",
        "request",
        True,
        True,
    ),
    "server removed": Planted(lambda d: d["servers"].pop(), "removed", "server", "api", False, False),
    "webhook says less": Planted(
        lambda d: schema(d, "WorkerStatusNotification")["properties"].pop("timestamp"),
        "removed",
        "required field",
        "answer",
        True,
        False,
    ),
    "callback says more": Planted(
        lambda d: schema(d, "NotificationStatus")["enum"].append("Lost"), "added", "enum value", "answer", True, False
    ),
}
# fmt: on
