import re
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.spec.documented import EXAMPLES
from tests.spec.reading import follow, operation, operations, parameters, validator, validator_of, walk
from yottabench.spec import spec

OPERATIONS = {
    "createEndpoint": ("post", "/v2/serverless", {400, 401, 413, 500, 503}),
    "listEndpoints": ("get", "/v2/serverless", {400, 401, 500, 503}),
    "getEndpointById": ("get", "/v2/serverless/{id}", {400, 401, 404, 500, 503}),
    "updateEndpoint": ("patch", "/v2/serverless/{id}", {400, 401, 404, 409, 413, 500, 503}),
    "deleteEndpoint": ("delete", "/v2/serverless/{id}", {400, 401, 404, 409, 500, 503}),
    "stopEndpoint": ("post", "/v2/serverless/{id}/stop", {400, 401, 404, 409, 500, 503}),
    "startEndpoint": ("post", "/v2/serverless/{id}/start", {400, 401, 404, 409, 500, 503}),
    "scaleWorkers": ("put", "/v2/serverless/{id}/workers", {400, 401, 404, 409, 500, 503}),
    "listWorkers": ("get", "/v2/serverless/{id}/workers", {400, 401, 404, 500, 503}),
    "getWorkerLogs": ("get", "/v2/serverless/{id}/workers/{workerId}/logs", {400, 401, 404, 500, 503}),
    "submitTask": ("post", "/v2/serverless/{id}/tasks", {400, 401, 404, 409, 413, 429, 500, 503}),
    "listTasks": ("get", "/v2/serverless/{id}/tasks", {400, 401, 404, 429, 500, 503}),
    "getTaskCount": ("get", "/v2/serverless/{id}/tasks/count", {400, 401, 404, 429, 500, 503}),
    "getTaskById": ("get", "/v2/serverless/{id}/tasks/{taskId}", {400, 401, 404, 429, 500, 503}),
}
LINK_TARGETS = {
    "createEndpoint": {"getEndpointById", "submitTask", "deleteEndpoint"},
    "submitTask": {"getTaskById"},
}


def test_the_document_is_valid_openapi_3_1() -> None:
    assert spec()["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(spec()).validate()


def test_exactly_the_documented_operations_exist() -> None:
    found = {one["operationId"]: (method, path) for path, method, one in operations()}
    assert found == {name: (method, path) for name, (method, path, _) in OPERATIONS.items()}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_documents_the_errors_that_can_happen(name: str) -> None:
    answers = operation(name)["responses"]
    assert {int(status) for status in answers} == OPERATIONS[name][2] | {200}
    for status, answer in answers.items():
        content = follow(answer)["content"]["application/json"]
        reference = content["schema"]["$ref"].rsplit("/", 1)[1]
        assert (reference == "ErrorEnvelope") == (status != "200")


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_answer_is_an_envelope_whose_data_has_a_type(name: str) -> None:
    schema = follow(operation(name)["responses"]["200"])["content"]["application/json"]["schema"]
    envelope = follow(schema)
    assert envelope["required"] == ["message", "code", "data"]
    assert follow(envelope["properties"]["code"])["const"] == 10000
    data = follow(envelope["properties"]["data"])
    assert data["type"] == (["boolean", "null"] if schema["$ref"].endswith("/ActionEnvelope") else data["type"])
    assert data["type"] in ("object", "array", ["boolean", "null"])


def test_answers_that_ask_to_wait_say_how_long() -> None:
    for _, _, one in operations():
        for status in {"429", "503"} & set(one["responses"]):
            header = follow(follow(one["responses"][status])["headers"]["Retry-After"])
            assert header["required"] is True


def test_every_operation_needs_the_key_in_x_api_key() -> None:
    scheme = spec()["components"]["securitySchemes"]["ApiKey"]
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", "X-Api-Key")
    assert all(one["security"] == [{"ApiKey": []}] for _, _, one in operations())


def test_every_integer_has_a_minimum_and_a_maximum() -> None:
    unbounded = [
        path
        for path, node in walk(spec())
        if "integer" in (node.get("type") if isinstance(node.get("type"), list) else [node.get("type")])
        and not ({"minimum", "maximum"} <= set(node))
    ]
    assert unbounded == []


def test_every_text_that_is_sent_has_a_length() -> None:
    schemas = spec()["components"]["schemas"]
    sent = {name: schemas[name] for name in schemas if name.endswith("Request") or name in {"WebhookUrl", "LogTime"}}
    sent["parameters"] = [one["schema"] for path, _, found in operations() for one in parameters(path, found)]
    unbounded = [
        path
        for path, node in walk(sent)
        if node.get("type") == "string" and "maxLength" not in node and "enum" not in node
    ]
    assert unbounded == []


def test_no_answer_is_closed_against_new_fields_or_needs_a_parsable_date() -> None:
    assert [path for path, node in walk(spec()) if node.get("additionalProperties") is False] == []
    assert [path for path, node in walk(spec()) if node.get("format") in {"date-time", "date", "uuid"}] == []


def test_a_choice_has_at_most_one_candidate_of_each_json_type() -> None:
    # The generated union picks the reader by JSON type (templates/property_templates/union_property.py.jinja).
    for path, node in walk(spec()["components"]["schemas"]):
        for choice in ("oneOf", "anyOf"):
            kinds = [follow(one)["type"] for one in node.get(choice, [])]
            assert len(kinds) == len(set(kinds)), path


def test_every_request_body_is_required() -> None:
    bodies = [one["requestBody"] for _, _, one in operations() if "requestBody" in one]
    assert len(bodies) == 3
    assert all(body["required"] is True for body in bodies)


def test_create_and_submit_link_to_what_follows_them() -> None:
    for name, targets in LINK_TARGETS.items():
        links = operation(name)["responses"]["200"]["links"]
        assert {link["operationId"] for link in links.values()} == targets


def test_the_result_callback_and_the_worker_webhook_are_there() -> None:
    callback = operation("submitTask")["callbacks"]["taskResult"]["{$request.body#/webhook}"]["post"]
    assert follow(callback["requestBody"]["content"]["application/json"]["schema"])["properties"]["task_id"]
    assert list(spec()["webhooks"]) == ["workerStatus"]


def _examples() -> list[tuple[str, dict[str, Any], Any]]:
    found: list[tuple[str, dict[str, Any], Any]] = []
    for path, node in walk(spec()):
        if "schema" in node:
            found += [
                (f"{path}/{name}", node["schema"], follow(example)["value"])
                for name, example in node.get("examples", {}).items()
            ]
            if "example" in node:
                found.append((f"{path}/example", node["schema"], node["example"]))
        elif isinstance(node.get("examples"), list):
            found += [(f"{path}/{index}", node, example) for index, example in enumerate(node["examples"])]
    return found


@pytest.mark.parametrize(
    ("schema", "example"), [(one[1], one[2]) for one in _examples()], ids=[one[0] for one in _examples()]
)
def test_every_example_is_valid_against_its_schema(schema: dict[str, Any], example: Any) -> None:
    validator_of(schema).validate(example)


@pytest.mark.parametrize(("schema", "example"), EXAMPLES)
def test_documented_examples_are_accepted(schema: str, example: Any) -> None:
    validator(schema).validate(example)


@pytest.mark.parametrize(("schema", "example"), EXAMPLES)
def test_documented_examples_are_shown_in_the_document(schema: str, example: Any) -> None:
    shown = [value for _, used, value in _examples() if used.get("$ref", "").endswith(f"/{schema}")]
    assert example in shown


def test_the_readings_that_descriptions_point_at_exist_in_the_notes() -> None:
    notes = (Path(__file__).parents[2] / "openapi" / "NOTES.md").read_text()
    headings = set(re.findall(r"^## (N\d+)\.", notes, re.MULTILINE))
    texts = " ".join(str(node.get("description", "")) for _, node in walk(spec()))
    assert set(re.findall(r"\bN\d+\b", texts)) <= headings
