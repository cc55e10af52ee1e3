"""Reads TOML tables into attrs classes with errors that say where, which rule and what next, and writes them back."""

import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar, cast

import attrs

T = TypeVar("T")

_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


class ProfileError(ValueError):
    """A profile that cannot be used; the text names the file, the key, the rule and the next step."""


def setting(
    default: Any = attrs.NOTHING, *, low: float | None = None, high: float | None = None, choices: tuple[str, ...] = ()
) -> Any:
    """An attrs field with its bounds (both inclusive) or its choices; without a default the key is required."""
    return attrs.field(default=default, metadata={"low": low, "high": high, "choices": choices})


def read_table(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """Builds `cls` from a parsed TOML table; `where` is how errors name the place.

    Raises ProfileError for unknown or missing keys, wrong types and values out of bounds.
    """
    known = {field.name: field for field in _fields(cls)}
    for key in table:
        if key not in known:
            raise ProfileError(
                f"{where}: unknown key {key!r}{_did_you_mean(key, known)}. Known here: {', '.join(known)}."
            )
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, field in known.items():
        if name in table:
            values[name] = _value(table[name], hints[name], field, f"{where}: {name}")
        elif field.default is attrs.NOTHING:
            raise ProfileError(f"{where}: {name} is missing. Add a line {name} = ...")
    return cls(**values)


def change(settings: T, where: str, **changes: Any) -> T:
    """The same settings with some fields replaced, checked by the same rules as a file."""
    hints = typing.get_type_hints(type(settings))
    checked: dict[str, Any] = {}
    for name, value in changes.items():
        field = next(field for field in _fields(type(settings)) if field.name == name)
        checked[name] = _value(value, hints[name], field, f"{where}: {name}")
    return attrs.evolve(cast("Any", settings), **checked)


def write_table(settings: object, path: tuple[str, ...] = ()) -> str:
    """The settings as TOML text that `read_table` reads back to an equal object; fields that are None are left out."""
    lines: list[str] = []
    tables: list[str] = []
    for field in _fields(type(settings)):
        value = getattr(settings, field.name)
        if _is_settings(value):
            tables.append(write_table(value, (*path, field.name)))
        elif value is not None:
            lines.append(f"{field.name} = {_toml(value)}")
    head = f"\n[{'.'.join(path)}]\n" if path else ""
    return head + "".join(line + "\n" for line in lines) + "".join(tables)


def _names(settings: object) -> list[str]:
    return [field.name for field in _fields(type(settings))]


def _is_settings(value: object) -> bool:
    return attrs.has(type(value))


def _fields(cls: type) -> tuple["attrs.Attribute[Any]", ...]:
    return attrs.fields(cls)


def _did_you_mean(key: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _value(value: Any, hint: Any, field: "attrs.Attribute[Any]", where: str) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if attrs.has(hint):
        if not isinstance(value, Mapping):
            raise ProfileError(f"{where} must be a table, not {value!r}. Write [{field.name}] above its keys.")
        return read_table(hint, cast("Mapping[str, Any]", value), where)
    origin = typing.get_origin(hint) or hint
    if origin is dict:
        return _dict(value, hint, where)
    if origin is tuple:
        return _tuple(value, hint, field, where)
    return _scalar(value, cast("type", origin), field, where)


def _dict(value: Any, hint: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ProfileError(f"{where} must be a table, not {value!r}.")
    table = cast("Mapping[str, Any]", value)
    if typing.get_args(hint)[1] is str:
        for key, item in table.items():
            if not isinstance(item, str):
                raise ProfileError(f"{where}.{key} must be a text, not {item!r}. Put it in quotes.")
    return dict(table)


def _tuple(value: Any, hint: Any, field: "attrs.Attribute[Any]", where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ProfileError(f"{where} must be a list, not {value!r}. Put it in square brackets.")
    item_hint = typing.get_args(hint)[0]
    items = cast("list[Any]", value)
    return tuple(_value(item, item_hint, field, f"{where}[{n}]") for n, item in enumerate(items))


def _scalar(value: Any, wanted: type, field: "attrs.Attribute[Any]", where: str) -> Any:
    if wanted is Any:
        return value
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise ProfileError(f"{where} must be {_NAMES[wanted]}, not {value!r}.")
    low, high, choices = (field.metadata.get(rule) for rule in ("low", "high", "choices"))
    if isinstance(value, float) and not math.isfinite(value):
        raise ProfileError(f"{where} must be a finite number, not {value!r}.")
    if low is not None and value < low:
        raise ProfileError(f"{where} must be at least {low:g}, not {value!r}.")
    if high is not None and value > high:
        raise ProfileError(f"{where} must be at most {high:g}, not {value!r}.")
    if choices and value not in choices:
        close = _did_you_mean(str(value), dict.fromkeys(choices))
        raise ProfileError(f"{where} must be one of {', '.join(choices)}, not {value!r}{close}.")
    return value


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _toml_text(value)
    if isinstance(value, Mapping):
        table = cast("Mapping[str, Any]", value)
        return "{" + ", ".join(f"{_toml_text(key)} = {_toml(item)}" for key, item in table.items()) + "}"
    if _is_settings(value):
        pairs = [(name, getattr(value, name)) for name in _names(value)]
        return "{" + ", ".join(f"{name} = {_toml(item)}" for name, item in pairs if item is not None) + "}"
    return "[" + ", ".join(_toml(item) for item in cast("list[Any]", value)) + "]"


def _toml_text(text: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return (
        '"' + "".join(escapes.get(c) or (f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else c) for c in text) + '"'
    )
