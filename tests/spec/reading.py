"""How the tests read the document: its schemas as validators, its operations, its references followed."""

import functools
from collections.abc import Iterator
from typing import Any

import jsonschema_rs

from yottabench.spec import spec

METHODS = ("get", "post", "put", "patch", "delete")


@functools.cache
def validator(name: str) -> jsonschema_rs.Draft202012Validator:
    """A validator for one of the document's named schemas."""
    return validator_of({"$ref": f"#/components/schemas/{name}"})


def validator_of(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """A validator for a schema that may refer to the document's named ones."""
    return jsonschema_rs.Draft202012Validator({**schema, "components": {"schemas": spec()["components"]["schemas"]}})


def follow(node: Any) -> Any:
    """The node itself, or what it refers to."""
    while isinstance(node, dict) and "$ref" in node:
        found: Any = spec()
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part.replace("~1", "/").replace("~0", "~")]
        node = found
    return node


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and operation of every documented operation."""
    for path, item in spec()["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def operation(name: str) -> dict[str, Any]:
    """The operation with this operationId."""
    return next(found for _, _, found in operations() if found["operationId"] == name)


def parameters(path: str, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Parameters of an operation, those of its path included."""
    shared = spec()["paths"][path].get("parameters", [])
    return [follow(parameter) for parameter in [*shared, *found.get("parameters", [])]]


def parameter_schema(operation_id: str, name: str) -> dict[str, Any]:
    """The schema of one parameter."""
    for path, _, found in operations():
        if found["operationId"] == operation_id:
            return next(one["schema"] for one in parameters(path, found) if one["name"] == name)
    raise KeyError(operation_id)


def walk(node: Any, path: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object inside a node, with the path to it."""
    if isinstance(node, dict):
        yield path, node
        for key, value in node.items():
            if key not in {"example", "examples"}:
                yield from walk(value, f"{path}/{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from walk(value, f"{path}/{index}")
