"""Values on both sides of every bound of a schema, made from the schema itself and judged by JSON Schema."""

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

import attrs

from yottabench.conformance.document import Operation, follow, validator

_FILL = ("a", "1", "A", "/", "_", "0")
_STARTS = ("/", "http://")
_ODD_TEXTS = ("\n", " ", "\x00", "é", "\U0001f600", "/", "..", "%", "?")
_ANYTHING: tuple[Any, ...] = ("", "x", "\U0001f600", 0, False, [0], {"": None})
_OTHER_KINDS: tuple[Any, ...] = (None, True, 1.5, "1", [], {})


@attrs.frozen
class Value:
    """A value, what it is there for, and whether the document allows it."""

    value: Any
    why: str
    allowed: bool


def sample(schema: Any, name: str = "") -> Any:
    """A valid value of a schema: an example of the document where there is one."""
    node = follow(schema)
    for member in node.get("oneOf", ()):
        return sample(member, name)
    examples = node.get("examples") or ([node["example"]] if "example" in node else [])
    for candidate in (*examples, node.get("default"), *node.get("enum", ())):
        if candidate is not None:
            return candidate
    match kind_of(node):
        case "integer":
            return node.get("minimum", 0)
        case "object":
            return {name: sample(node["properties"][name], name) for name in node.get("required", ())}
        case "array":
            return [sample(node["items"])] * max(1, node.get("minItems", 0))
        case "string":
            found = next((one for one in ("text", "a", "1") if validator(node).is_valid(one)), None)
            if found is None:
                raise ValueError(f"{name or 'A text'} with the pattern {node['pattern']} needs an example.")
            return found
        case _:
            return {"prompt": "Hello, world!"}


def kind_of(node: Mapping[str, Any]) -> str:
    """The type of a schema, without null."""
    kinds = node.get("type", "any")
    return kinds if isinstance(kinds, str) else next(kind for kind in kinds if kind != "null")


def values(schema: Any) -> Iterator[Value]:
    """Values at and beyond each bound, of other kinds, and odd ones; each once."""
    seen: set[str] = set()
    check = validator(cast("Mapping[str, Any]", schema))
    for value, why in _candidates(follow(schema)):
        text = json.dumps(value)
        if text not in seen:
            seen.add(text)
            yield Value(value, why, check.is_valid(value))


def bodies(operation: Operation, base: Mapping[str, Any]) -> Iterator[Value]:
    """Bodies of an operation: the valid `base` with one thing changed in each."""
    assert operation.body is not None
    check = validator(operation.body)
    for body, why in _changed(follow(operation.body), base, ""):
        yield Value(body, why, check.is_valid(body))


def _candidates(node: Mapping[str, Any]) -> Iterator[tuple[Any, str]]:
    for member in node.get("oneOf", ()):
        yield from _candidates(follow(member))
    match kind_of(node):
        case "integer":
            yield from _integers(node)
        case "string":
            yield from _texts(node)
        case "array":
            yield from _arrays(node)
        case "object":
            yield from _objects(node)
        case _:
            yield from ((value, f"{json.dumps(value)}") for value in _ANYTHING)
    yield from ((value, f"of another kind: {json.dumps(value)}") for value in _OTHER_KINDS)


def _integers(node: Mapping[str, Any]) -> Iterator[tuple[Any, str]]:
    low, high = node["minimum"], node["maximum"]
    for name, edge, step in (("minimum", low, 1), ("maximum", high, -1)):
        yield edge, f"at its {name}"
        yield edge + step, f"inside its {name}"
        yield edge - step, f"beyond its {name}"
    yield float(low), "a whole number with a fraction of zero"


def _texts(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    good = sample(node)
    for value in node.get("enum", ()):
        yield value, "a documented value"
        yield value.swapcase(), "a documented value in another case"
    yield good, "an ordinary value"
    shortest, longest = node.get("minLength", 0), node.get("maxLength", 255)
    for name, length in (("minLength", shortest), ("maxLength", longest)):
        for wanted, where in ((length, "at"), (length + (-1 if name == "minLength" else 1), "beyond")):
            if wanted >= 0:
                yield _of_length(node, good, wanted), f"{where} its {name}"
    for odd in _ODD_TEXTS:
        yield f"{good[:-1]}{odd}", f"ends with {odd!r}"
        yield f"{odd}{good[1:]}", f"begins with {odd!r}"


def _of_length(node: Mapping[str, Any], good: str, length: int) -> str:
    """A text of this length that is like a valid one; valid, if only its length decides."""
    unbounded = {name: rule for name, rule in node.items() if name not in ("minLength", "maxLength")}
    made = [good[:length] + fill * (length - len(good)) for fill in (*good[-1:], *_FILL)]
    made += [(start + "a" * length)[:length] for start in _STARTS] + [fill * length for fill in _FILL]
    for check in (validator(node), validator(unbounded)):
        for text in made:
            if check.is_valid(text):
                return text
    return made[0]


def _arrays(node: Mapping[str, Any]) -> Iterator[tuple[list[Any], str]]:
    one = sample(node["items"])
    fewest, most = node.get("minItems", 0), node.get("maxItems", 10)
    for name, count in (("minItems", fewest), ("maxItems", most)):
        yield [one] * count, f"at its {name}"
        beyond = count + (-1 if name == "minItems" else 1)
        if beyond >= 0:
            yield [one] * beyond, f"beyond its {name}"
    yield from (([value], f"an item {why}") for value, why in _candidates(follow(node["items"])))
    yield from (([body], f"item.{why}") for body, why in _changed(follow(node["items"]), one, ""))


def _objects(node: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    yield from _changed(node, sample(node), "")
    if "maxProperties" in node:
        for count, where in ((node["maxProperties"], "at"), (node["maxProperties"] + 1, "beyond")):
            yield {f"X-{number}": "a" for number in range(count)}, f"{where} its maxProperties"
    if "propertyNames" in node:
        names = {"type": "string", "examples": ["X-Name"], **node["propertyNames"]}
        yield from (({name: "a"}, f"a name {why}") for name, why in _texts(names))
    if isinstance(node.get("additionalProperties"), dict):
        texts = {"examples": ["text"], **node["additionalProperties"]}
        yield from (({"X-Name": value}, f"a field {why}") for value, why in _candidates(texts))


def _changed(node: Mapping[str, Any], base: Any, where: str) -> Iterator[tuple[Any, str]]:
    """An object with one field left out, added, or given another value."""
    if not isinstance(base, dict):
        return
    fields = cast("dict[str, Any]", base)
    for name in node.get("required", ()):
        yield {key: value for key, value in fields.items() if key != name}, f"{where}{name} left out"
    for name, schema in node.get("properties", {}).items():
        for value, why in _candidates(follow(schema)):
            yield {**copy.deepcopy(fields), name: value}, f"{where}{name} {why}"
