"""Rules for the document beyond its validity; those about errors, bounds and envelopes are in tests/spec."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.spec.reading import follow, operation, operations, parameters
from yottabench.conformance.envelope import statuses_of_codes
from yottabench.spec import spec

NAMES = [one["operationId"] for _, _, one in operations()]
SCHEMAS: dict[str, Any] = spec()["components"]["schemas"]
# In these objects the name of the field says it all.
SPEAK_FOR_THEMSELVES = {
    *("message", "data", "items", "logs", "log", "name", "image", "port", "protocol", "region", "success", "event"),
    *("gpuType", "gpuDisplayName", "gpuCount", "singleCardVramInGb", "singleCardVcpu", "singleCardRamInGb"),
    *("taskId", "endpointName", "endpoint_id", "endpoint_name", "worker_id", "total", "delivered", "failed"),
}
each_operation = pytest.mark.parametrize("name", NAMES)


def _described(node: dict[str, Any]) -> bool:
    text = node.get("description", "").strip()
    return len(text) > 3 and text[-1] in ".|"


@each_operation
def test_every_operation_has_a_name_a_short_summary_a_description_and_a_declared_tag(name: str) -> None:
    found = operation(name)
    assert re.fullmatch(r"[a-z]+[A-Za-z]+", name)
    assert 5 <= len(found["summary"]) <= 60
    assert not found["summary"].endswith(".")
    assert _described(found)
    assert set(found["tags"]) <= {tag["name"] for tag in spec()["tags"]}
    assert len(found["tags"]) == 1


@each_operation
def test_every_parameter_and_answer_of_an_operation_is_described(name: str) -> None:
    path, found = next((path, one) for path, _, one in operations() if one["operationId"] == name)
    for parameter in parameters(path, found):
        assert _described(parameter), parameter["name"]
    for status, answer in found["responses"].items():
        assert _described(follow(answer)), status


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_described_and_so_are_its_fields(name: str) -> None:
    assert _described(SCHEMAS[name])
    for field, node in SCHEMAS[name].get("properties", {}).items():
        plain = "$ref" not in node and "oneOf" not in node
        assert not plain or _described(node) or field in SPEAK_FOR_THEMSELVES, field


@each_operation
def test_every_request_and_every_answer_has_a_sample(name: str) -> None:
    found = operation(name)
    if "requestBody" in found:
        assert found["requestBody"]["content"]["application/json"]["examples"]
    for status, answer in found["responses"].items():
        assert follow(answer)["content"]["application/json"]["examples"], status


def _error_samples() -> Iterator[tuple[str, int, dict[str, Any]]]:
    for _, _, one in operations():
        for status, answer in one["responses"].items():
            if status != "200":
                for sample in follow(answer)["content"]["application/json"]["examples"].values():
                    yield one["operationId"], int(status), sample["value"]


def test_the_code_of_every_error_sample_goes_with_its_status() -> None:
    wrong = [
        (name, status, sample["code"])
        for name, status, sample in _error_samples()
        if status not in statuses_of_codes().get(sample["code"], set())
    ]
    assert wrong == []


def test_every_code_of_the_table_is_shown_in_a_sample() -> None:
    shown = {sample["code"] for _, _, sample in _error_samples()} | {10000}
    assert shown == set(statuses_of_codes())


def test_every_error_sample_says_what_and_what_next_in_sentences() -> None:
    for _, _, sample in _error_samples():
        assert re.fullmatch(r"[A-Za-z].{10,}\.", sample["message"])


def test_every_named_part_is_used() -> None:
    text = json.dumps(spec())
    unused = [
        f"{kind}/{name}"
        for kind, parts in spec()["components"].items()
        for name in parts
        if f'"#/components/{kind}/{name}"' not in text and kind != "securitySchemes"
    ]
    assert unused == []


def test_every_link_names_parameters_that_its_target_has_and_all_that_its_path_needs() -> None:
    for _, _, one in operations():
        for link in one["responses"]["200"].get("links", {}).values():
            path = next(path for path, _, target in operations() if target["operationId"] == link["operationId"])
            assert set(link["parameters"]) == set(re.findall(r"\{(\w+)\}", path))


def test_a_name_means_the_same_wherever_it_stands_in_a_path() -> None:
    for path, _, one in operations():
        named = {parameter["name"] for parameter in parameters(path, one) if parameter["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path)) <= {"id", "workerId", "taskId"}
