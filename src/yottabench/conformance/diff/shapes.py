"""A schema with its references followed and its allOf merged, so that two of them can be compared part by part."""

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

import attrs

Node = Any
"""A schema as the document has it: an object, true or false."""

LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
# What says nothing about which requests and answers are allowed.
_SPOKEN = ("description", "summary", "title", "$comment")
_SHOWN = ("example", "examples", "externalDocs")
_NAMES = ("properties", "patternProperties")
_VALUES = ("enum", "const", "default")


class Unreadable(Exception):
    """The document cannot be compared; the text says why."""


class Document:
    """An OpenAPI document whose references can be followed. Raises Unreadable for what is none."""

    def __init__(self, raw: Any) -> None:
        if not isinstance(raw, dict) or "paths" not in raw:
            raise Unreadable("This is no OpenAPI document: it has no paths.")
        self.raw = cast("dict[str, Any]", raw)

    def follow(self, node: Any) -> Any:
        """The node itself, or what it refers to. Raises Unreadable for a reference that leads nowhere."""
        seen: set[str] = set()
        while isinstance(node, dict) and "$ref" in node:
            ref = str(cast("dict[str, Any]", node)["$ref"])
            if ref in seen:
                raise Unreadable(f"The reference {ref} leads back to itself.")
            seen.add(ref)
            node = self.target(ref)
        return cast("Any", node)

    def target(self, ref: str) -> Any:
        """What a reference leads to, which may be a reference again."""
        if not ref.startswith("#/"):
            raise Unreadable(f"The reference {ref} leads out of the document. Bundle it into one file first.")
        found: Any = self.raw
        for part in ref[2:].split("/"):
            name = part.replace("~1", "/").replace("~0", "~")
            try:
                found = cast("Any", found[int(name)] if isinstance(found, list) else found[name])
            except (KeyError, IndexError, ValueError, TypeError):
                raise Unreadable(f"The reference {ref} leads nowhere.") from None
        return found


@attrs.frozen
class Shape:
    """What a schema demands. None and empty mean: nothing."""

    types: frozenset[str] | None = None
    enum: frozenset[str] | None = None
    """Allowed values as JSON texts."""
    limits: Mapping[str, float] = attrs.field(factory=dict[str, float])
    rules: Mapping[str, frozenset[str]] = attrs.field(factory=dict[str, frozenset[str]])
    """By keyword, demands that can only be told apart: pattern, format, multipleOf, not, uniqueItems, ..."""
    properties: Mapping[str, Node] = attrs.field(factory=dict[str, Node])
    required: frozenset[str] = frozenset()
    inner: Mapping[str, Node] = attrs.field(factory=dict[str, Node])
    """By keyword, schemas of what is inside: items, additionalProperties, propertyNames, ..."""
    alternatives: tuple[tuple[Node, ...], ...] = ()
    conditions: tuple[Mapping[str, Node], ...] = ()
    default: str | None = None
    deprecated: bool = False


def text_of(value: Any) -> str:
    """A JSON value as text, the same for equal values."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def meaning(node: Any, parent: str = "") -> Any:
    """The node without what is only written for readers."""
    if isinstance(node, list):
        return [meaning(one, parent) for one in cast("list[Any]", node)]
    if not isinstance(node, dict):
        return node
    kept: dict[str, Any] = {}
    for key, value in cast("dict[str, Any]", node).items():
        if parent not in _NAMES:
            spoken = key in _SPOKEN and isinstance(value, str)
            if spoken or key in _SHOWN or key.startswith("x-"):
                continue
        kept[key] = value if key in _VALUES and parent not in _NAMES else meaning(value, key)
    return kept


def shape_of(document: Document, node: Node) -> Shape:
    """What a schema demands, whatever way it is written."""
    return functools.reduce(_both, (_own(document, part) for part in _parts(document, node, ())), Shape())


def _parts(document: Document, node: Node, seen: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The schema without references and allOf, and each that it refers to in that way."""
    if not isinstance(node, dict):
        if node is False:
            yield {"not": {}}
        return
    fields = cast("dict[str, Any]", node)
    own = {key: value for key, value in fields.items() if key not in ("$ref", "allOf")}
    if own:
        yield own
    if "$ref" in fields and fields["$ref"] not in seen:
        yield from _parts(document, document.target(fields["$ref"]), (*seen, fields["$ref"]))
    for member in fields.get("allOf", ()):
        yield from _parts(document, member, seen)


_RULES = ("pattern", "format", "multipleOf", "not", "uniqueItems", "dependentRequired", "readOnly", "writeOnly")
_INNER = ("items", "additionalProperties", "propertyNames", "contains", "unevaluatedProperties")


def _own(document: Document, part: dict[str, Any]) -> Shape:
    limits = {name: part[name] for name in (*LOWER, *UPPER) if isinstance(part.get(name), (int, float))}
    for name, plain in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if limits.get(name) is True:  # as OpenAPI 3.0 wrote it
            limits[name] = limits.pop(plain, 0)
        elif limits.get(name) is False:
            del limits[name]
    enum = [part["const"]] if "const" in part else part.get("enum")
    inner = {name: part[name] for name in _INNER if part.get(name, True) is not True}
    inner |= {f"prefixItems[{index}]": one for index, one in enumerate(part.get("prefixItems", ()))}
    inner |= {f"patternProperties[{name}]": one for name, one in part.get("patternProperties", {}).items()}
    shape = Shape(
        types=_types(part),
        enum=None if enum is None else frozenset(map(text_of, enum)),
        limits=limits,
        rules={
            name: frozenset({text_of(meaning(part[name]))}) for name in _RULES if part.get(name, False) is not False
        },
        properties=part.get("properties", {}),
        required=frozenset(part.get("required", ())),
        inner=inner,
        conditions=({name: part.get(name, True) for name in ("if", "then", "else")},) if "if" in part else (),
        default=text_of(part["default"]) if "default" in part else None,
        deprecated=bool(part.get("deprecated")),
    )
    for keyword in ("oneOf", "anyOf"):
        if keyword in part:
            shape = _both(shape, _either(document, part[keyword]))
    return shape


def _types(part: dict[str, Any]) -> frozenset[str] | None:
    named = part.get("type")
    if named is None:
        return None
    types = frozenset([named] if isinstance(named, str) else named)
    return types | {"null"} if part.get("nullable") else types


def _either(document: Document, members: list[Node]) -> Shape:
    """Alternatives; one beside null is that one, made nullable."""
    others = [one for one in members if meaning(document.follow(one)) != {"type": "null"}]
    if len(others) == 1:
        only = shape_of(document, others[0])
        if len(members) == 1 or only.types is None:
            return only
        return attrs.evolve(only, types=only.types | {"null"})
    return Shape(alternatives=(tuple(members),))


def _both(one: Shape, other: Shape) -> Shape:
    """What two schemas demand together."""
    limits = {**one.limits, **other.limits}
    for name in set(one.limits) & set(other.limits):
        limits[name] = (max if name in LOWER else min)(one.limits[name], other.limits[name])
    rules = dict(one.rules)
    for name, texts in other.rules.items():
        rules[name] = rules.get(name, frozenset()) | texts
    enum = one.enum if other.enum is None else other.enum if one.enum is None else one.enum & other.enum
    return Shape(
        types=_shared(one.types, other.types),
        enum=enum,
        limits=limits,
        rules=rules,
        properties=_together(one.properties, other.properties),
        required=one.required | other.required,
        inner=_together(one.inner, other.inner),
        alternatives=one.alternatives + other.alternatives,
        conditions=one.conditions + other.conditions,
        default=one.default if other.default is None else other.default,
        deprecated=one.deprecated or other.deprecated,
    )


def _shared(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    if one is None or other is None:
        return one if other is None else other
    both = one & other
    return both | {"integer"} if "number" in one ^ other and "integer" in one ^ other else both


def _together(one: Mapping[str, Node], other: Mapping[str, Node]) -> dict[str, Node]:
    merged = {**one, **other}
    for name in set(one) & set(other):
        merged[name] = {"allOf": [one[name], other[name]]}
    return merged
