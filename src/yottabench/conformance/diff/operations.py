"""Compares two documents operation by operation."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import attrs

from yottabench.conformance.diff.changes import Change, Kind, Side
from yottabench.conformance.diff.schemas import Place, Schemas, renamed
from yottabench.conformance.diff.shapes import Document, meaning, text_of

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
Direction = Literal["called", "calling"]
"""Whether clients call the operation, or are called by it as with webhooks: then what is sent is what they get."""


@attrs.frozen
class Operation:
    """An operation and what it inherits from its path."""

    path: str
    method: str
    raw: Mapping[str, Any]
    shared: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        """Its operationId, or how it is called."""
        return str(self.raw.get("operationId") or self.call)

    @property
    def call(self) -> str:
        """Method and path."""
        return f"{self.method.upper()} {self.path}"

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same operation for those who call it; how a part of the path is named does not matter."""
        return self.method, re.sub(r"\{[^}]*\}", "{}", self.path)


def compare(old: Any, new: Any) -> list[Change]:
    """Every difference between two OpenAPI documents. Raises Unreadable."""
    return _Comparison(Document(old), Document(new)).run()


class _Comparison:
    def __init__(self, old: Document, new: Document) -> None:
        self._old = old
        self._new = new
        self._changes: list[Change] = []
        self._schemas = Schemas(old, new, self._changes.append)

    def run(self) -> list[Change]:
        """Compare it all."""
        old, new = self._old.raw, self._new.raw
        self._operations(_operations(self._old, old.get("paths")), _operations(self._new, new.get("paths")), "called")
        hooks = (_operations(self._old, old.get("webhooks")), _operations(self._new, new.get("webhooks")))
        self._operations(*hooks, "calling")
        self._security_schemes()
        before, after = ({str(one.get("url")) for one in raw.get("servers", ())} for raw in (old, new))
        self._named("server", before, after, Place("servers", "api"), removal_breaks=False)
        return self._changes

    def _note(self, kind: Kind, what: str, where: str, old: Any, new: Any, breaking: bool, side: Side = "api") -> None:
        self._changes.append(Change(kind, what, where, side, breaking, old, new))

    def _named(self, what: str, old: set[str], new: set[str], place: Place, *, removal_breaks: bool = True) -> None:
        for name in sorted(old - new):
            self._note("removed", what, place.where, name, None, removal_breaks, place.side)
        for name in sorted(new - old):
            self._note("added", what, place.where, None, name, False, place.side)

    # ---- operations

    def _operations(self, old: list[Operation], new: list[Operation], direction: Direction) -> None:
        right = {operation.key: operation for operation in new}
        pairs = [(one, right.pop(one.key)) for one in old if one.key in right]
        matched = {one.key for one, _ in pairs}
        by_id = {one.raw["operationId"]: one for one in right.values() if "operationId" in one.raw}
        for operation in (one for one in old if one.key not in matched):
            moved = by_id.pop(operation.raw.get("operationId"), None)
            if moved is None:
                self._note("removed", "operation", operation.name, operation.call, None, True)
            else:
                del right[moved.key]
                self._note("renamed", "path", operation.name, operation.call, moved.call, True)
                pairs.append((operation, moved))
        for operation in right.values():
            self._note("added", "operation", operation.name, None, operation.call, False)
        for before, after in pairs:
            self._operation(before, after, direction)

    def _operation(self, old: Operation, new: Operation, direction: Direction) -> None:
        if old.raw.get("operationId") != new.raw.get("operationId"):
            self._note("renamed", "operation", old.call, old.raw.get("operationId"), new.raw.get("operationId"), True)
        if bool(old.raw.get("deprecated")) != bool(new.raw.get("deprecated")):
            kind: Kind = "added" if new.raw.get("deprecated") else "removed"
            before, after = (one.raw.get("deprecated") or None for one in (old, new))
            self._note(kind, "deprecation", old.name, before, after, False)
        sent: Side = "request" if direction == "called" else "answer"
        answered: Side = "answer" if direction == "called" else "request"
        self._parameters(old, new, sent)
        self._body(old, new, sent)
        self._answers(old, new, answered)
        self._security(old, new)
        self._callbacks(old, new)

    def _parameters(self, old: Operation, new: Operation, side: Side) -> None:
        left, right = _parameters(self._old, old), _parameters(self._new, new)
        gone = {key: _meant(left[key]) for key in left if key not in right}
        come = {key: _meant(right[key]) for key in right if key not in left}
        pairs = renamed(gone, come)
        for before, after in pairs:
            self._note("renamed", "parameter", old.name, before, after, True, side)
        for key in sorted(set(gone) - {before for before, _ in pairs}):
            self._note("removed", _called("parameter", left[key]), old.name, key, None, True, side)
        for key in sorted(set(come) - {after for _, after in pairs}):
            needed = bool(right[key].get("required")) and side == "request"
            self._note("added", _called("parameter", right[key]), old.name, None, key, needed, side)
        for key in sorted(set(left) & set(right)):
            self._parameter(left[key], right[key], Place(f"{old.name} {key}", side))

    def _parameter(self, old: Mapping[str, Any], new: Mapping[str, Any], place: Place) -> None:
        note = self._schemas.note
        if old["name"] != new["name"] and old["in"] == "path":
            note("renamed", "parameter", place, old["name"], new["name"], True)
        self._required(old, new, place)
        for name in ("style", "explode", "allowReserved", "allowEmptyValue"):
            if old.get(name) != new.get(name):
                note("changed", name, place, old.get(name), new.get(name))
        self._content(old.get("content", {}), new.get("content", {}), place)
        self._schemas.compare(old.get("schema", True), new.get("schema", True), place)

    def _required(self, old: Mapping[str, Any], new: Mapping[str, Any], place: Place) -> None:
        before, after = bool(old.get("required")), bool(new.get("required"))
        if before != after:
            kind: Kind = "narrowed" if after else "widened"
            was, now = ("required" if one else "optional" for one in (before, after))
            self._schemas.note(kind, "required", place, was, now)

    def _body(self, old: Operation, new: Operation, side: Side) -> None:
        before = self._old.follow(old.raw.get("requestBody"))
        after = self._new.follow(new.raw.get("requestBody"))
        place = Place(f"{old.name} body", side)
        if before is None or after is None:
            if before != after:
                needed = bool(after and after.get("required")) and side == "request"
                one = (None, "a body") if before is None else ("a body", None)
                self._schemas.note("added" if before is None else "removed", "body", place, *one, not after or needed)
            return
        self._required(before, after, place)
        self._content(before.get("content", {}), after.get("content", {}), place)

    def _content(self, old: Mapping[str, Any], new: Mapping[str, Any], place: Place) -> None:
        self._named("media type", set(old), set(new), place)
        for kind in sorted(set(old) & set(new)):
            self._schemas.compare(old[kind].get("schema", True), new[kind].get("schema", True), place)

    def _answers(self, old: Operation, new: Operation, side: Side) -> None:
        left = {str(status): answer for status, answer in old.raw.get("responses", {}).items()}
        right = {str(status): answer for status, answer in new.raw.get("responses", {}).items()}
        place = Place(f"{old.name} answer", side)
        for status in sorted(set(left) ^ set(right)):
            kind: Kind = "added" if status in right else "removed"
            # Clients have a way for errors that they do not know, and none for another kind of success.
            self._schemas.note(kind, "status", place, *(status if status in one else None for one in (left, right)),
                               breaking=status.startswith("2"))  # fmt: skip
        for status in sorted(set(left) & set(right)):
            before, after = self._old.follow(left[status]), self._new.follow(right[status])
            inside = Place(f"{old.name} answer {status}", side)
            self._headers(before.get("headers", {}), after.get("headers", {}), inside)
            self._content(before.get("content", {}), after.get("content", {}), inside)

    def _headers(self, old: Mapping[str, Any], new: Mapping[str, Any], place: Place) -> None:
        left = {name.lower(): self._old.follow(header) for name, header in old.items()}
        right = {name.lower(): self._new.follow(header) for name, header in new.items()}
        self._named("header", set(left), set(right), place)
        for name in sorted(set(left) & set(right)):
            inside = place.inside(f" header {name}")
            self._required(left[name], right[name], inside)
            self._schemas.compare(left[name].get("schema", True), right[name].get("schema", True), inside)

    # ---- security, callbacks

    def _security(self, old: Operation, new: Operation) -> None:
        ways = [
            _ways(operation.raw.get("security", document.raw.get("security", [])))
            for operation, document in ((old, self._old), (new, self._new))
        ]
        for way in sorted(ways[0] - ways[1], key=sorted):
            still_let_in = any(other <= way for other in ways[1])
            self._note("removed", "security", old.name, _named(way), None, not still_let_in, "request")
        for way in sorted(ways[1] - ways[0], key=sorted):
            self._note("added", "security", old.name, None, _named(way), False, "request")

    def _security_schemes(self) -> None:
        left, right = (
            document.raw.get("components", {}).get("securitySchemes", {}) for document in (self._old, self._new)
        )
        place = Place("security schemes", "request")
        self._named("security scheme", set(left), set(right), place)
        for name in sorted(set(left) & set(right)):
            before, after = (_meant(document.follow(one[name])) for document, one in
                             ((self._old, left), (self._new, right)))  # fmt: skip
            if before != after:
                self._note("changed", "security scheme", name, before, after, True, "request")

    def _callbacks(self, old: Operation, new: Operation) -> None:
        left, right = old.raw.get("callbacks", {}), new.raw.get("callbacks", {})
        place = Place(f"{old.name} callbacks", "api")
        self._named("callback", set(left), set(right), place)
        for name in sorted(set(left) & set(right)):
            before, after = self._old.follow(left[name]), self._new.follow(right[name])
            self._operations(_operations(self._old, before), _operations(self._new, after), "calling")


def _operations(document: Document, paths: Mapping[str, Any] | None) -> list[Operation]:
    found: list[Operation] = []
    for path, item in (paths or {}).items():
        node = document.follow(item)
        shared = tuple(node.get("parameters", ()))
        found += [Operation(path, method, node[method], shared) for method in METHODS if method in node]
    return found


def _parameters(document: Document, operation: Operation) -> dict[str, Mapping[str, Any]]:
    """By place and name; those in the path by position, because their names are never sent."""
    places = re.findall(r"\{([^}]*)\}", operation.path)
    found: dict[str, Mapping[str, Any]] = {}
    listed: Iterable[Any] = (*operation.shared, *operation.raw.get("parameters", ()))
    for one in map(document.follow, listed):
        name = str(one["name"])
        if one["in"] == "path" and name in places:
            found[f"path parameter {places.index(name) + 1}"] = one
        else:
            found[f"{one['in']} parameter {name.lower() if one['in'] == 'header' else name}"] = one
    return found


def _called(what: str, node: Mapping[str, Any]) -> str:
    return f"required {what}" if node.get("required") else what


def _meant(node: Any) -> str:
    plain = meaning(node)
    return text_of({key: value for key, value in plain.items() if key != "name"} if "schema" in plain else plain)


def _ways(security: list[dict[str, list[str]]]) -> set[frozenset[str]]:
    """The ways in, each as what it needs; an empty list is one way: with nothing."""
    return {
        frozenset(f"{name} {sorted(scopes) or ''}".strip() for name, scopes in way.items()) for way in security or [{}]
    }


def _named(way: frozenset[str]) -> str:
    return " and ".join(sorted(way)) or "nothing"
