"""The documented operations, and what each says about its requests and answers, ready to be checked."""

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

import attrs
import jsonschema_rs

from yottabench.spec import spec

BASE_PATH = "/v2/serverless"
_METHODS = ("get", "post", "put", "patch", "delete")
_HIDDEN_VALUE = "the value"  # what was sent may be secret, so messages do not show it


@attrs.frozen
class Parameter:
    """A parameter of an operation."""

    name: str
    place: str
    required: bool
    schema: Mapping[str, Any]
    """With the example that stands beside it in the document."""


@attrs.frozen(eq=False)
class Operation:
    """A documented operation."""

    name: str
    method: str
    path: str
    raw: Mapping[str, Any]
    parameters: tuple[Parameter, ...]

    def parameter(self, name: str) -> Parameter:
        """The parameter of this name."""
        return next(one for one in self.parameters if one.name == name)

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches the paths of its requests; the groups are the path parameters."""
        return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]*)", re.escape(self.path)))

    @functools.cached_property
    def body(self) -> Mapping[str, Any] | None:
        """The schema of its request body; None when it has none."""
        if "requestBody" not in self.raw:
            return None
        return follow(self.raw["requestBody"])["content"]["application/json"]["schema"]

    @property
    def statuses(self) -> set[int]:
        """The HTTP statuses that it is documented to answer."""
        return {int(status) for status in self.raw["responses"]}

    def answer(self, status: int) -> Mapping[str, Any]:
        """What is said about answers of this status, which must be documented."""
        return follow(self.raw["responses"][str(status)])


def follow(node: Any) -> Any:
    """The node itself, or what it refers to."""
    while isinstance(node, dict) and "$ref" in node:
        found: Any = spec()
        for part in str(cast("Any", node)["$ref"])[2:].split("/"):
            found = found[part.replace("~1", "/").replace("~0", "~")]
        node = found
    return cast("Any", node)


@functools.cache
def operations() -> Mapping[str, Operation]:
    """Every documented operation by its operationId."""
    found: dict[str, Operation] = {}
    for path, item in spec()["paths"].items():
        for method in _METHODS:
            if method in item:
                listed = (*item.get("parameters", ()), *item[method].get("parameters", ()))
                parameters = tuple(_parameter(follow(one)) for one in listed)
                name = item[method]["operationId"]
                found[name] = Operation(name, method.upper(), path, item[method], parameters)
    return found


def _parameter(node: Mapping[str, Any]) -> Parameter:
    schema = node["schema"]
    if "example" in node:
        schema = {**follow(schema), "examples": [node["example"]]}
    return Parameter(node["name"], node["in"], bool(node.get("required")), schema)


def operation_of(method: str, path: str) -> tuple[Operation, dict[str, str]] | None:
    """The operation that a request means, and its path parameters; None when the document has none."""
    # /tasks/count is no task: a path without parameters at its end goes first.
    for operation in sorted(operations().values(), key=lambda one: one.path.endswith("{taskId}")):
        match = operation.pattern.fullmatch(path) if operation.method == method else None
        if match is not None:
            return operation, match.groupdict()
    return None


def validator(schema: Mapping[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """A validator of a schema that may refer to the document's named ones; its messages show no values."""
    return _validator(json.dumps(schema))


@functools.lru_cache(maxsize=1024)
def _validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    whole = {**json.loads(schema), "components": {"schemas": spec()["components"]["schemas"]}}
    return jsonschema_rs.Draft202012Validator(whole, mask=_HIDDEN_VALUE)


def faults(schema: Mapping[str, Any], value: Any, where: str) -> Iterator[str]:
    """What is wrong with a value, a sentence each; nothing for one as documented."""
    for error in validator(schema).iter_errors(value):
        at = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path)
        yield f"{where}{at}: {error.message}"
