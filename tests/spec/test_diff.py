"""`yottabench spec diff`: every kind of change, planted in our own document, in both directions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from yottabench.cli.app import build
from yottabench.conformance.diff import Change, compare
from yottabench.conformance.diff.changes import grouped, report
from yottabench.conformance.diff.shapes import Unreadable
from yottabench.conformance.diff.sources import digest, load
from yottabench.spec import spec

Plant = Callable[[dict[str, Any]], object]
MIRRORED = {"added": "removed", "removed": "added", "narrowed": "widened", "widened": "narrowed"}


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


def with_planted(planted: Planted) -> dict[str, Any]:
    document = fresh()
    planted.plant(document)
    return document


def mirrored(change: Change) -> tuple[str, str, str, Any, Any]:
    return MIRRORED.get(change.kind, change.kind), change.what, change.side, change.new, change.old


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_a_planted_change_is_found_and_judged_in_both_directions(planted: Planted) -> None:
    changed = with_planted(planted)
    forward, back = compare(spec(), changed), compare(changed, spec())
    found = [one for one in forward if (one.kind, one.what, one.side) == (planted.kind, planted.what, planted.side)]
    assert found, report(forward)
    assert any(planted.place in (one.named, one.where) for one in found) or not planted.place
    assert any(change.breaking for change in forward) == planted.breaks, report(forward)
    assert any(change.breaking for change in back) == planted.breaks_back, report(back)


@settings(max_examples=20)
@given(st.lists(st.sampled_from(sorted(PLANTED)), unique=True, max_size=4))
def test_exchanging_the_documents_turns_added_into_removed_and_narrowed_into_widened(names: list[str]) -> None:
    document = fresh()
    for name in names:
        try:
            PLANTED[name].plant(document)
        except (KeyError, StopIteration):  # one took away what the next would change
            return
    forward, back = compare(spec(), document), compare(document, spec())
    assert sorted(map(str, map(mirrored, forward))) == sorted(
        str((change.kind, change.what, change.side, change.old, change.new)) for change in back
    )
    assert bool(forward) == bool(names)


def test_a_document_does_not_differ_from_itself_however_it_is_written() -> None:
    other = fresh()
    other["info"]["description"] = "Other words."
    schema(other, "Task")["description"] = "Other words."
    other["components"]["schemas"]["Shared"] = other["components"]["schemas"]["Expose"]
    other["components"]["schemas"]["Expose"] = {"allOf": [{"$ref": "#/components/schemas/Shared"}]}
    nullable = at(other, "UpdateEndpointRequest", "credentialId")
    at(other, "UpdateEndpointRequest")["properties"]["credentialId"] = {
        "anyOf": [{**nullable, "type": "integer"}, {"type": "null"}]
    }
    assert compare(spec(), other) == []
    assert compare(spec(), spec()) == []


def test_a_change_of_a_shared_schema_is_told_once_with_its_places() -> None:
    changed = with_planted(PLANTED["enum value added to an answer"])
    ((change, places),) = grouped(compare(spec(), changed))
    assert change.named == "DeliveryStatus"
    assert len(places) == 2
    text = report(compare(spec(), changed))
    assert text.splitlines() == [
        'breaking  DeliveryStatus: enum value "QUEUED" added (answer)',
        "          in listTasks answer 200.data.items[].deliveryStatus, getTaskById answer 200.data.deliveryStatus",
    ]


def tiny(node: dict[str, Any], **more: Any) -> dict[str, Any]:
    content = {"application/json": {"schema": node}}
    return {
        "openapi": "3.1.0",
        "paths": {"/": {"post": {"requestBody": {"content": content}, "responses": {}}}},
        "components": {"schemas": more},
    }


@pytest.mark.parametrize(
    ("old", "new", "kind", "what"),
    [
        ({"oneOf": [{"type": "string"}, {"type": "array"}]}, {"oneOf": [{"type": "string"}, {"type": "object"}]},
         "changed", "type"),
        ({"anyOf": [{"type": "string"}, {"type": "array"}, {"type": "object"}]},
         {"anyOf": [{"type": "string"}]}, "narrowed", "type"),
        ({"oneOf": [{"type": "string"}, {"type": "array"}]},
         {"oneOf": [{"type": "string"}, {"type": "array"}, {"type": "integer"}, {"type": "boolean"}]},
         "added", "alternative"),
        ({"allOf": [{"maximum": 9}, {"maximum": 5}]}, {"maximum": 6}, "widened", "maximum"),
        ({"allOf": [{"type": ["string", "null"]}, {"type": "string"}]}, {"type": ["string", "null"]},
         "widened", "nullability"),
        ({"minimum": 5, "exclusiveMinimum": True}, {"exclusiveMinimum": 4}, "widened", "exclusiveMinimum"),
        ({"type": "string", "nullable": True}, {"type": "string"}, "narrowed", "nullability"),
        ({"prefixItems": [{"type": "string"}]}, {"prefixItems": [{"type": "integer"}]}, "changed", "type"),
        ({"patternProperties": {"a": {"type": "string"}}}, {}, "widened", "patternProperties[a]"),
        ({"if": {"type": "string"}, "then": {"minLength": 1}}, {"if": {"type": "string"}, "then": {"minLength": 2}},
         "narrowed", "minLength"),
        ({"const": 1}, {"enum": [1, 2]}, "added", "enum value"),
        ({"not": {}}, False, "", ""),
        ({"readOnly": True}, {}, "widened", "readOnly"),
    ],
)  # fmt: skip
def test_the_ways_to_write_a_demand_are_understood(
    old: dict[str, Any], new: dict[str, Any], kind: str, what: str
) -> None:
    found = {(one.kind, one.what) for one in compare(tiny(old), tiny(new))}
    assert (kind, what) in found if kind else not found


def test_a_schema_that_holds_itself_is_compared_once() -> None:
    tree = {"type": "object", "properties": {"children": {"items": {"$ref": "#/components/schemas/Tree"}}}}
    ref = {"$ref": "#/components/schemas/Tree"}
    bounded = {**tree, "maxProperties": 4}
    assert compare(tiny(ref, Tree=tree), tiny(ref, Tree=tree)) == []
    assert [one.what for one in compare(tiny(ref, Tree=tree), tiny(ref, Tree=bounded))] == ["maxProperties"]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "no OpenAPI document"),
        ({"openapi": "3.1.0"}, "it has no paths"),
        (tiny({"$ref": "other.yaml#/x"}), "leads out of the document"),
        (tiny({"$ref": "#/components/schemas/Nothing"}), "leads nowhere"),
        (
            {"paths": {"/": {"$ref": "#/x"}}, "x": {"$ref": "#/x"}},
            "leads back to itself",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_reason(document: Any, said: str) -> None:
    with pytest.raises(Unreadable, match=said):
        compare(document, document)


# ---- the command


def run(*words: str) -> Any:
    return CliRunner().invoke(build(), ["spec", *words])


@pytest.fixture
def changed(tmp_path: Path) -> str:
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(with_planted(PLANTED["parameter bound"])))
    return str(path)


def test_the_command_says_what_breaks_and_fails_for_it(changed: str) -> None:
    result = run("diff", "ours", changed)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "breaking  listTasks query parameter pageSize: maximum narrowed: 100 -> 50 (request)",
        "1 breaking changes, 0 others",
    ]
    assert run("diff", changed, "ours").exit_code == 0
    assert run("diff", "ours", "ours").stdout == "0 breaking changes, 0 others\n"


def test_the_command_prints_json_for_programs(changed: str) -> None:
    (change,) = json.loads(run("diff", "ours", changed, "--json").stdout)
    assert (change["kind"], change["what"], change["old"], change["new"]) == ("narrowed", "maximum", 100, 50)
    assert change["breaking"] is True
    assert change["where"] == ["listTasks query parameter pageSize"]


@pytest.mark.parametrize(
    ("text", "said"), [(None, "cannot be read"), ("a: [", "neither YAML nor JSON"), ("[]", "no OpenAPI document")]
)
def test_the_command_says_which_document_it_cannot_read(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "other.yaml"
    if text is not None:
        path.write_text(text)
    result = run("diff", "ours", str(path))
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_document_can_come_from_a_url(httpserver_of: Callable[[bytes], str]) -> None:
    url = httpserver_of(json.dumps(spec()).encode())
    assert load(url) == spec()
    with pytest.raises(Unreadable, match="404"):
        load(url + "/missing")
    with pytest.raises(Unreadable, match="cannot be fetched"):
        load("http://127.0.0.1:9/")


def test_the_digest_changes_with_what_is_demanded_and_not_with_words(changed: str) -> None:
    before = digest(spec())
    assert run("digest").stdout.strip() == before
    assert run("digest", changed).stdout.strip() != before
    reworded = fresh()
    reworded["info"]["description"] = schema(reworded, "Task")["description"] = "Other words."
    call(reworded, "submitTask")["requestBody"]["content"]["application/json"].pop("examples")
    assert digest(reworded) == before
