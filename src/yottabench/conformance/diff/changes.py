"""A difference between two documents, and when it breaks a client that was written for the old one."""

from collections.abc import Iterable
from typing import Any, Literal

import attrs

Kind = Literal["added", "removed", "renamed", "narrowed", "widened", "changed"]
Side = Literal["request", "answer", "api"]

_SHOWN_CHARS = 120


@attrs.frozen
class Change:
    """One difference. `old` and `new` are what stood there before and what stands there now, None for nothing."""

    kind: Kind
    what: str
    """The subject: operation, parameter, field, type, bound, enum value, ..."""
    where: str
    side: Side
    """Whether it concerns what clients send, what they are answered, or the operation as a whole."""
    breaking: bool
    old: Any = None
    new: Any = None
    named: str = ""
    """The same place seen from the nearest named schema, such as Task.status; empty outside of named schemas."""

    def sentence(self) -> str:
        """What happened, without the place."""
        if self.kind == "added":
            return f"{self.what} {shown(self.new)} added"
        if self.kind == "removed":
            return f"{self.what} {shown(self.old)} removed"
        return f"{self.what} {self.kind}: {shown(self.old)} -> {shown(self.new)}"


def breaks(kind: Kind, side: Side) -> bool:
    """Whether a change of what is allowed breaks old clients.

    They may send what is no longer taken, or be answered what they do not expect; whether a change that is neither
    narrower nor wider does so cannot be told, so it counts.
    """
    if kind in ("narrowed", "widened"):
        return (kind == "narrowed") == (side == "request")
    return kind == "changed"


def shown(value: Any) -> str:
    """A value for people."""
    if value is None:
        return "none"
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}… ({len(text)} characters)"


def grouped(changes: Iterable[Change]) -> list[tuple[Change, list[str]]]:
    """Each change once, with all places it is seen at (many operations use one schema); breaking ones first."""
    groups: dict[tuple[Any, ...], tuple[Change, list[str]]] = {}
    for change in changes:
        key = (change.named or change.where, change.kind, change.what, change.side, change.breaking)
        places = groups.setdefault((*key, shown(change.old), shown(change.new)), (change, []))[1]
        if change.where not in places:
            places.append(change.where)
    return sorted(groups.values(), key=lambda group: not group[0].breaking)


def report(changes: Iterable[Change]) -> str:
    """The changes as text for people."""
    lines: list[str] = []
    for change, places in grouped(changes):
        mark = "breaking" if change.breaking else "other   "
        lines.append(f"{mark}  {change.named or change.where}: {change.sentence()} ({change.side})")
        if change.named:
            more = f" and {len(places) - 3} more" if len(places) > 3 else ""
            lines.append(f"          in {', '.join(places[:3])}{more}")
    return "\n".join(lines)
