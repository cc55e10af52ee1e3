"""The seed file: endpoints and tasks that are made at start, by the same requests that a client would send."""

import json
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from yottabench.emulator.codes import ApiError
from yottabench.emulator.wire import Handler, Request, namespace_of

_HINT = "See docs/emulator-control.md for an example."


class SeedError(Exception):
    """The seed file cannot be used; the message says which part, why, and what to do."""


def read_seed(path: Path) -> list[dict[str, Any]]:
    """The endpoints of a seed file, each with its `apiKey` and its `tasks`. Raises SeedError."""
    try:
        text = path.read_text(encoding="utf-8")
        whole: object = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise SeedError(f"--seed-file {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        form = "TOML" if path.suffix == ".toml" else "JSON"
        raise SeedError(f"--seed-file {path} is not valid {form}: {error}. {_HINT}") from None
    values = _object(whole, path, "the file")
    for name in values:
        if name not in {"apiKey", "endpoints"}:
            raise SeedError(f"--seed-file {path}: there is no {name} in a seed file. {_HINT}")
    defaults: dict[str, Any] = {"apiKey": values.get("apiKey"), "tasks": []}
    endpoints = [
        {**defaults, **_object(each, path, f"endpoints[{index}]")}
        for index, each in enumerate(_array(values.get("endpoints", []), path, "endpoints"))
    ]
    for index, endpoint in enumerate(endpoints):
        key = endpoint["apiKey"]
        if not isinstance(key, str) or not key.isascii() or not key.isprintable() or not key.strip():
            raise SeedError(f"--seed-file {path}: endpoints[{index}] has no apiKey, whose it is to be. {_HINT}")
        tasks = _array(endpoint["tasks"], path, f"endpoints[{index}].tasks")
        endpoint["tasks"] = [_object(task, path, f"endpoints[{index}].tasks") for task in tasks]
    return endpoints


def _object(value: object, path: Path, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SeedError(f"--seed-file {path}: {where} must be an object. {_HINT}")
    return cast("dict[str, Any]", value)


def _array(value: object, path: Path, where: str) -> list[object]:
    if not isinstance(value, list):
        raise SeedError(f"--seed-file {path}: {where} must be an array. {_HINT}")
    return cast("list[object]", value)


async def plant(path: Path, api: Handler, keys: Collection[str]) -> None:
    """Make what the file says, except endpoints whose key has one of that name: a restart makes nothing twice.

    Raises SeedError.
    """
    for index, endpoint in enumerate(read_seed(path)):
        where = f"--seed-file {path}: endpoints[{index}]"
        key = endpoint.pop("apiKey").strip()
        if keys and key not in keys:
            raise SeedError(f"{where} has an apiKey that is not in the keys file. Add it there, or use another.")
        tasks = endpoint.pop("tasks")
        namespace = namespace_of(key.encode("latin-1"))
        listed = await _ask(api, "GET", "", namespace, None, where)
        if any(each["name"] == endpoint.get("name") for each in listed):
            continue
        made = await _ask(api, "POST", "", namespace, endpoint, where)
        for number, task in enumerate(tasks):
            await _ask(api, "POST", f"/{made['id']}/tasks", namespace, task, f"{where}.tasks[{number}]")


async def _ask(api: Handler, method: str, path: str, namespace: str, body: Mapping[str, Any] | None, where: str) -> Any:
    sent = b"" if body is None else msgspec.json.encode(body)
    try:
        return await api.handle(Request(method, f"/v2/serverless{path}", b"", namespace, sent))
    except ApiError as error:
        raise SeedError(f"{where}: {error.message}") from None
