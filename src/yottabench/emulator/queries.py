"""What a path and a query may hold: ids, integers within bounds, and lists of statuses."""

import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import parse_qsl

from yottabench.emulator.codes import ApiError, Code
from yottabench.emulator.fields import invalid, shown

Query = Mapping[str, list[str]]

_PATH_ID = re.compile(r"[A-Za-z0-9_-]+")
_INTEGER = re.compile(r"-?[0-9]{1,20}")


@lru_cache(maxsize=1024)
def endpoint_id(segment: str) -> int:
    """The endpoint id of a path."""
    if not segment.isascii() or not segment.isdigit() or len(segment) > 19:
        raise invalid("id", f"must be 1 to 19 digits, but is {shown(segment)}", "List endpoints to find the id.")
    return int(segment)


def path_id(segment: str, name: str, longest: int) -> str:
    """A worker or task id of a path; hyphens pass, because the service itself may have made a canonical UUID."""
    if len(segment) > longest or not _PATH_ID.fullmatch(segment):
        rule = f"must be 1 to {longest} letters, digits, underscores and hyphens, but is {shown(segment)}"
        raise invalid(name, rule, "List them to find the id.")
    return segment


def read_query(raw: bytes) -> Query:
    """The query of a request; names may repeat."""
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
    except (UnicodeDecodeError, ValueError):
        raise ApiError(Code.INVALID, "The query is not valid percent-encoded UTF-8. Encode its values.") from None
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def single(query: Query, name: str) -> str | None:
    """The value of a parameter that may be sent once."""
    values = query.get(name, [])
    if len(values) > 1:
        raise invalid(name, "was sent more than once", "Send it once.")
    return values[0] if values else None


def query_integer(query: Query, name: str, low: int, high: int, default: int | None) -> int:
    """An integer parameter from `low` to `high`; required when there is no default."""
    text = single(query, name)
    hint = f"Send a whole number from {low} to {high}."
    if text is None:
        if default is None:
            raise invalid(name, "is missing", hint)
        return default
    if not _INTEGER.fullmatch(text):
        raise invalid(name, f"must be an integer, but is {shown(text)}", hint)
    value = int(text)
    if not low <= value <= high:
        raise invalid(name, f"must be between {low} and {high}, but is {value}", hint)
    return value


def query_statuses(query: Query, known: tuple[str, ...]) -> frozenset[str]:
    """`statusList`: separated by commas or repeated, in any case; empty when it was not sent."""
    found: set[str] = set()
    for value in query.get("statusList", []):
        for part in value.split(","):
            status = part.strip().upper()
            if status not in known:
                raise invalid("statusList", f"must not hold {shown(part)}", f"Choose from {', '.join(known)}.")
            found.add(status)
    return frozenset(found)
