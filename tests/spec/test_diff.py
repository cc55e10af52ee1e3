"""`yottabench spec diff`: every kind of change, planted in our own document, in both directions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.spec.planted import PLANTED, Planted, at, call, fresh, schema
from yottabench.cli.app import build
from yottabench.conformance.diff import Change, compare
from yottabench.conformance.diff.changes import grouped, report
from yottabench.conformance.diff.shapes import Unreadable
from yottabench.conformance.diff.sources import digest, load
from yottabench.spec import spec

MIRRORED = {"added": "removed", "removed": "added", "narrowed": "widened", "widened": "narrowed"}


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


@settings(max_examples=12)
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
