"""docs/emulator.md says of everything documented what is ours, and which test pins it."""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import attrs
import pytest

from yottabench.emulator.control.surface import Control
from yottabench.emulator.settings import Settings
from yottabench.spec import spec

TESTS = Path(__file__).parents[1]
DOCS = TESTS.parent / "docs"
PAGE = (DOCS / "emulator.md").read_text(encoding="utf-8")
TABLES = PAGE.partition("## What is documented, what is ours")[2]
ROWS = [line for line in TABLES.splitlines() if line.startswith("| ") and not line.endswith("| pinned by |")]
PINS = sorted(set(re.findall(r"`([a-z_0-9/]+\.py)::(test_\w+)`", TABLES)))
NAMED = set(re.findall(r"`([^`]+)`", TABLES)) | set(re.findall(r"`(\w+)[:=][^`]*`", TABLES))
ALL_PAGES = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("emulator*.md"))


def _found(node: Any, key: str) -> set[str]:
    """The names under `properties`, or of parameters, anywhere in the document."""
    found: set[str] = set()
    if isinstance(node, dict):
        if key == "properties":
            found |= set(node.get("properties", {}))
        elif {"in", "name"} <= set(node):
            found.add(node["name"])
        for name, value in node.items():
            if name not in {"examples", "example"}:
                found |= _found(value, key)
    elif isinstance(node, list):
        for value in node:
            found |= _found(value, key)
    return found


@pytest.mark.parametrize(("file", "name"), PINS, ids=[name for _, name in PINS])
def test_a_named_test_exists(file: str, name: str) -> None:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in names


def test_every_row_names_a_test() -> None:
    assert len(ROWS) > 60
    assert [row for row in ROWS if "::test_" not in row.rsplit(" | ", 1)[-1]] == []


def test_every_operation_has_a_row() -> None:
    operations = {
        operation["operationId"]
        for path in spec()["paths"].values()
        for method, operation in path.items()
        if method != "parameters"
    }
    assert len(operations) == 14
    assert {name for name in operations if not any(row.startswith(f"| `{name}` |") for row in ROWS)} == set()


def test_every_field_and_parameter_of_the_document_is_named() -> None:
    document = spec()
    fields = _found(document["components"]["schemas"], "properties")
    parameters = _found(document, "parameters")
    assert len(fields) > 60
    assert {name for name in fields | parameters if name not in NAMED and name.lower() != "x-api-key"} == set()


def test_every_status_of_the_document_is_named() -> None:
    schemas = spec()["components"]["schemas"]
    names = [name for name in schemas if name.endswith("Status")]
    assert len(names) == 5
    statuses = {status for name in names for status in schemas[name]["enum"]}
    assert statuses - NAMED == set()


def test_every_setting_is_named() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    options = {
        "api_keys": "--keys-file",
        "control_key": "--control-key-file",
        "webhook_retry_s": "--webhook-retry",
        "drivers": "--driver",
    }
    for field in attrs.fields(Settings):
        option = options.get(field.name, "--" + field.name.replace("_", "-"))
        assert f"`{option}" in pages, field.name


def test_every_command_of_the_control_surface_is_shown() -> None:
    source = Path(inspect.getfile(Control)).read_text(encoding="utf-8")
    routes = re.findall(r'\("([A-Z]+)", "([a-z/*]+)"\): self\.', source)
    assert len(routes) > 20
    for _, path in routes:
        shown = re.escape(path).replace(r"\*", r"[^/\s\"]+")
        assert re.search(rf"/_emulator/{shown}", ALL_PAGES), path
