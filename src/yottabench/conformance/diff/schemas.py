"""Compares two schemas part by part, each difference once and at its place."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import attrs

from yottabench.conformance.diff.changes import Change, Kind, Side, breaks
from yottabench.conformance.diff.shapes import LOWER, Document, Node, Shape, meaning, shape_of, text_of

_FORMATS_WITHIN = {('"int32"', '"int64"')}


@attrs.frozen
class Place:
    """Where in the document, and on which side."""

    where: str
    side: Side
    named: str = ""

    def inside(self, step: str) -> "Place":
        """A place further in."""
        return attrs.evolve(self, where=self.where + step, named=self.named + step if self.named else "")

    def of(self, old: Node, new: Node) -> "Place":
        """The place as seen from the named schema that both sides refer to here."""
        names = {_name(old), _name(new)}
        name = names.pop() if len(names) == 1 else ""
        return attrs.evolve(self, named=name) if name else self


def _name(node: Node) -> str:
    if not isinstance(node, dict):
        return ""
    fields = cast("dict[str, Any]", node)
    if set(fields) <= {"oneOf", "anyOf", "description"} and len(fields) >= 1:
        members: list[Any] = fields.get("oneOf") or fields.get("anyOf") or []
        return next((name for name in map(_name, members) if name), "")
    return str(fields.get("$ref", "")).rpartition("/")[2]


class Schemas:
    """Compares the schemas of two documents; what differs is given to `found`."""

    def __init__(self, old: Document, new: Document, found: Callable[[Change], None]) -> None:
        self._old = old
        self._new = new
        self._found = found
        self._under_way: list[tuple[str, str]] = []
        self._alike: set[tuple[str, str]] = set()
        """Pairs without a difference: the envelope of errors alone is used some ninety times."""
        self._noted = 0

    def compare(self, old: Node, new: Node, place: Place) -> None:
        """Find what differs between two schemas; a schema that holds itself is looked into once."""
        pair = (_lead(old), _lead(new))
        leads = any(pair)
        if leads and (pair in self._under_way or pair in self._alike):
            return
        self._under_way.append(pair)
        noted = self._noted
        try:
            self._shapes(shape_of(self._old, old), shape_of(self._new, new), place.of(old, new))
        finally:
            self._under_way.pop()
        if leads and noted == self._noted:
            self._alike.add(pair)

    def note(self, kind: Kind, what: str, place: Place, old: Any, new: Any, breaking: bool | None = None) -> None:
        """Record a difference."""
        self._noted += 1
        breaking = breaks(kind, place.side) if breaking is None else breaking
        self._found(Change(kind, what, place.where, place.side, breaking, old, new, place.named))

    def _shapes(self, old: Shape, new: Shape, place: Place) -> None:
        self._types(old.types, new.types, place)
        self._enums(old.enum, new.enum, place)
        for name in sorted({*old.limits, *new.limits}):
            self._limit(name, old.limits.get(name), new.limits.get(name), place)
        for name in sorted({*old.rules, *new.rules}):
            self._rule(name, old.rules.get(name, frozenset()), new.rules.get(name, frozenset()), place)
        self._properties(old, new, place)
        for name in sorted({*old.inner, *new.inner}):
            self._inside(name, old.inner, new.inner, place)
        self._alternatives(old.alternatives, new.alternatives, place)
        self._conditions(old.conditions, new.conditions, place)
        if old.default != new.default:
            self.note("changed", "default", place, old.default, new.default, place.side == "request")
        if old.deprecated != new.deprecated:
            kind: Kind = "added" if new.deprecated else "removed"
            self.note(kind, "deprecation", place, old.deprecated or None, new.deprecated or None, False)

    def _types(self, old: frozenset[str] | None, new: frozenset[str] | None, place: Place) -> None:
        if old == new:
            return
        if old is not None and new is not None and ("null" in old) != ("null" in new):
            kind: Kind = "widened" if "null" in new else "narrowed"
            self.note(kind, "nullability", place, _listed(old), _listed(new))
            old, new = old - {"null"}, new - {"null"}
        if old != new:
            self.note(_way(_allowed(old), _allowed(new)), "type", place, _listed(old), _listed(new))

    def _enums(self, old: frozenset[str] | None, new: frozenset[str] | None, place: Place) -> None:
        if old is None or new is None:
            if old != new:
                self.note("narrowed" if old is None else "widened", "enum", place, _listed(old), _listed(new))
            return
        for value in sorted(old - new):
            self.note("removed", "enum value", place, value, None, breaks("narrowed", place.side))
        for value in sorted(new - old):
            self.note("added", "enum value", place, None, value, breaks("widened", place.side))

    def _limit(self, name: str, old: float | None, new: float | None, place: Place) -> None:
        if old == new:
            return
        if old is None or new is None:
            kind: Kind = "narrowed" if old is None else "widened"
        else:
            kind = "narrowed" if (new > old) == (name in LOWER) else "widened"
        self.note(kind, name, place, old, new)

    def _rule(self, name: str, old: frozenset[str], new: frozenset[str], place: Place) -> None:
        if old == new:
            return
        kind: Kind = "narrowed" if old < new else "widened" if new < old else "changed"
        if name == "format" and len(old) == len(new) == 1:
            pair = (*old, *new)
            kind = "widened" if pair in _FORMATS_WITHIN else "narrowed" if pair[::-1] in _FORMATS_WITHIN else kind
        self.note(kind, name, place, _listed(old), _listed(new))

    def _properties(self, old: Shape, new: Shape, place: Place) -> None:
        removed = set(old.properties) - set(new.properties)
        added = set(new.properties) - set(old.properties)
        pairs = renamed(
            {name: (self._meant(self._old, old.properties[name]), name in old.required) for name in removed},
            {name: (self._meant(self._new, new.properties[name]), name in new.required) for name in added},
        )
        for before, after in pairs:
            self.note("renamed", "field", place, before, after, True)
        for name in sorted(removed - {before for before, _ in pairs}):
            self.note("removed", "required field" if name in old.required else "field", place, name, None, True)
        for name in sorted(added - {after for _, after in pairs}):
            closed = place.side == "answer" and old.inner.get("additionalProperties") is False
            needed = place.side == "request" and name in new.required
            what = "required field" if name in new.required else "field"
            self.note("added", what, place, None, name, closed or needed)
        for name in sorted(set(old.properties) & set(new.properties)):
            inside = place.inside(f".{name}")
            self.compare(old.properties[name], new.properties[name], inside)
        # A field that came or went has said so itself.
        for name in sorted((old.required ^ new.required) - removed - added):
            kind: Kind = "narrowed" if name in new.required else "widened"
            now = ("optional", "required") if kind == "narrowed" else ("required", "optional")
            self.note(kind, "required", place.inside(f".{name}"), *now)

    def _meant(self, document: Document, node: Node) -> str:
        return text_of(meaning(document.follow(node)))

    def _inside(self, name: str, old: Mapping[str, Node], new: Mapping[str, Node], place: Place) -> None:
        step = "[]" if name == "items" else f"<{name}>"
        before, after = old.get(name, True), new.get(name, True)
        if isinstance(before, bool) or isinstance(after, bool):
            if before != after:
                narrower = before is True or after is False
                self.note("narrowed" if narrower else "widened", name, place, _plain(before), _plain(after))
            return
        self.compare(before, after, place.inside(step))

    def _alternatives(self, old: tuple[tuple[Node, ...], ...], new: tuple[tuple[Node, ...], ...], place: Place) -> None:
        for index in range(max(len(old), len(new))):
            if index >= len(old) or index >= len(new):
                kind: Kind = "narrowed" if index >= len(old) else "widened"
                before, after = (groups[index] if index < len(groups) else None for groups in (old, new))
                self.note(kind, "alternatives", place, _names(before), _names(after))
            else:
                self._group(old[index], new[index], place)

    def _group(self, old: tuple[Node, ...], new: tuple[Node, ...], place: Place) -> None:
        left = {_known_as(self._old, one): one for one in old}
        right = {_known_as(self._new, one): one for one in new}
        for label in sorted(set(left) & set(right)):
            self.compare(left[label], right[label], place.inside(f"<{label}>" if len(label) < 40 else "<alternative>"))
        gone, come = sorted(set(left) - set(right)), sorted(set(right) - set(left))
        if len(gone) == len(come) == 1:
            self.compare(left[gone[0]], right[come[0]], place.inside("<alternative>"))
            return
        for label in gone:
            self.note("removed", "alternative", place, label, None, breaks("narrowed", place.side))
        for label in come:
            self.note("added", "alternative", place, None, label, breaks("widened", place.side))

    def _conditions(
        self, old: tuple[Mapping[str, Node], ...], new: tuple[Mapping[str, Node], ...], place: Place
    ) -> None:
        left = {text_of(meaning(one["if"])): one for one in old}
        right = {text_of(meaning(one["if"])): one for one in new}
        for condition in sorted(set(left) & set(right)):
            for branch in ("then", "else"):
                self.compare(left[condition][branch], right[condition][branch], place.inside(f"<{branch}>"))
        for condition in sorted(set(left) - set(right)):
            self.note("removed", "condition", place, condition, None, True)
        for condition in sorted(set(right) - set(left)):
            self.note("added", "condition", place, None, condition, breaks("narrowed", place.side))


def _lead(node: Node) -> str:
    """What leads elsewhere, and so perhaps back to where it is."""
    leads = isinstance(node, dict) and any(name in node for name in ("$ref", "allOf", "oneOf", "anyOf"))
    return text_of(node) if leads else ""


def renamed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names that went and came with the same meaning, where no other that went or came has it too."""
    pairs: list[tuple[str, str]] = []
    for name, meant in sorted(old.items()):
        before = [one for one, other in old.items() if other == meant]
        after = [one for one, other in new.items() if other == meant]
        if len(before) == len(after) == 1:
            pairs.append((name, after[0]))
    return pairs


def _known_as(document: Document, node: Node) -> str:
    return _name(node) or text_of(meaning(document.follow(node)))


def _names(group: tuple[Node, ...] | None) -> str | None:
    return None if group is None else ", ".join(_name(one) or text_of(meaning(one)) for one in group)


def _way(old: frozenset[str] | None, new: frozenset[str] | None) -> Kind:
    if old is None or (new is not None and new < old):
        return "narrowed"
    return "widened" if new is None or old < new else "changed"


def _allowed(types: frozenset[str] | None) -> frozenset[str] | None:
    """Every integer is a number."""
    return types | {"integer"} if types and "number" in types else types


def _listed(values: Iterable[str] | None) -> str | None:
    return ", ".join(sorted(values)) or None if values is not None else None


def _plain(node: Node) -> str:
    return {True: "anything", False: "nothing"}[node] if isinstance(node, bool) else text_of(meaning(node))
