"""Reads typed values out of a request, and says what is wrong with those that break their rule."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar, cast

import msgspec

from yottabench.emulator.codes import ApiError, Code
from yottabench.emulator.limits import JSON_MAX_DEPTH

T = TypeVar("T")

_SHOWN_CHARS = 60
_BRACKETS_OUTSIDE_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


def invalid(field: str, rule: str, next_step: str) -> ApiError:
    """A parameter error that names the field, the rule it breaks and what to do about it."""
    return ApiError(Code.INVALID, f"{field} {rule}. {next_step}")


def shown(value: object) -> str:
    """A short, printable form of a value that was sent, for messages about fields that hold no secret."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}… ({len(text)} characters)"


def check_json(body: bytes) -> None:
    """Refuse a body that is not UTF-8 JSON of a sane depth, before anything else looks at it."""
    if not body:
        raise ApiError(Code.INVALID, "The request has no body. Send a JSON object.")
    try:
        if not body.isascii():
            body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ApiError(Code.INVALID, f"The body is not UTF-8 (byte {error.start}). Encode it as UTF-8.") from None
    # Counting is quick and almost always enough; only a body with many brackets is looked at closely.
    if body.count(b"[") + body.count(b"{") > JSON_MAX_DEPTH:
        _check_depth(body)


def _check_depth(body: bytes) -> None:
    depth = 0
    for match in _BRACKETS_OUTSIDE_TEXT.finditer(body):
        token = match[0]
        if token in b"[{":
            depth += 1
            if depth > JSON_MAX_DEPTH:
                raise ApiError(
                    Code.INVALID, f"The body is nested more than {JSON_MAX_DEPTH} levels deep. Send flatter JSON."
                )
        elif token in b"]}":
            depth -= 1


def decode(body: bytes, decoder: "msgspec.json.Decoder[T]") -> T:
    """Decode a checked body; raises a parameter error that says where it stops being JSON or what it should be."""
    check_json(body)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise ApiError(Code.INVALID, f"The body does not fit: {error}. Send a JSON object.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(Code.INVALID, f"The body is not valid JSON: {error}. Send a JSON object.") from None


class Fields:
    """The fields of one JSON object. `where` stands before field names in messages ("resources[0].")."""

    def __init__(self, values: Mapping[str, Any], where: str = "") -> None:
        self._values = values
        self._where = where

    @classmethod
    def of(cls, value: object, name: str, where: str = "") -> "Fields":
        """Fields of a value that must be an object."""
        if not isinstance(value, dict):
            raise invalid(
                name, f"must be an object, but is {_kind(value)}", "See the API documentation for its fields."
            )
        return cls(cast("dict[str, Any]", value), where)

    def only(self, known: Collection[str]) -> None:
        """Refuse fields that are not known."""
        for name in self._values:
            if name not in known:
                raise invalid(
                    self._where + shown(name), "is no field of this request", "Correct its name or leave it out."
                )

    def has(self, name: str) -> bool:
        """Whether the field was sent, be it as null."""
        return name in self._values

    def is_null(self, name: str) -> bool:
        """Whether the field was sent as null."""
        return self.has(name) and self._values[name] is None

    def _required(self, name: str, hint: str) -> Any:
        if name not in self._values:
            raise invalid(self._where + name, "is missing", hint)
        return self._values[name]

    def integer(self, name: str, low: int, high: int, hint: str) -> int:
        """A required integer from `low` to `high`. 8000.0 is one, as in JSON Schema; true is none."""
        value = self._required(name, hint)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise invalid(self._where + name, f"must be an integer, but is {_kind(value)}", hint)
        if not low <= value <= high:
            raise invalid(self._where + name, f"must be between {low} and {high}, but is {shown(value)}", hint)
        return value

    def text(
        self, name: str, longest: int, hint: str, *, pattern: re.Pattern[str] | None = None, secret: bool = False
    ) -> str:
        """A required text of at most `longest` characters that `pattern` matches whole. Secrets are not shown."""
        value = self._required(name, hint)
        label = self._where + name
        if not isinstance(value, str):
            raise invalid(label, f"must be a text, but is {_kind(value)}", hint)
        if len(value) > longest:
            raise invalid(label, f"must have at most {longest} characters, but has {len(value)}", hint)
        if pattern is not None and pattern.fullmatch(value) is None:
            raise invalid(
                label, "has characters that are not allowed" if secret else f"must not be {shown(value)}", hint
            )
        return value

    def items(self, name: str, fewest: int, most: int, hint: str) -> list[Any]:
        """A required array."""
        value = self._required(name, hint)
        label = self._where + name
        if not isinstance(value, list):
            raise invalid(label, f"must be an array, but is {_kind(value)}", hint)
        found = cast("list[Any]", value)
        if not fewest <= len(found) <= most:
            raise invalid(label, f"must have {fewest} to {most} entries, but has {len(found)}", hint)
        return found

    def value(self, name: str, hint: str) -> Any:
        """A required value of any kind."""
        return self._required(name, hint)

    def sent(self, name: str) -> Any:
        """The value of a field that is there."""
        return self._values[name]

    def optional(self, name: str, read: Callable[[], T]) -> T | None:
        """None when the field was not sent, else what `read` makes of it."""
        return read() if name in self._values else None


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a text"
    return "an array" if isinstance(value, list) else "an object"
