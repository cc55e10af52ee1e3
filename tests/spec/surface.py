"""The public surface of the generated client as text: what a user can name, and how it is called.

`python -m tests.spec.surface --accept` (`make surface`) records the present one and shows what changed.
"""

import ast
import difflib
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "generated" / "yotta_serverless_api"
RECORD = Path(__file__).with_name("surface.txt")


def surface() -> str:
    """Every public name, a line each, with signatures, fields and the values of enumerations."""
    lines: list[str] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE.parent).with_suffix("")
        module = ".".join(part for part in relative.parts if part != "__init__")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lines += [f"{module}{line}" for node in tree.body for line in _described(node)]
    return "\n".join(lines) + "\n"


def _described(node: ast.stmt, within: str = ".") -> Iterator[str]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() if _public(node.name):
            kind = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
            answer = f" -> {ast.unparse(node.returns)}" if node.returns else ""
            yield f"{within}{node.name}: {kind}({ast.unparse(node.args)}){answer}"
        case ast.ClassDef() if _public(node.name):
            yield f"{within}{node.name}: class({', '.join(map(ast.unparse, node.bases))})"
            for inner in node.body:
                yield from _described(inner, f"{within}{node.name}.")
        case ast.AnnAssign(target=ast.Name(id=name)) if _public(name):
            default = f" = {ast.unparse(node.value)}" if node.value else ""
            yield f"{within}{name}: {ast.unparse(node.annotation)}{default}"
        case ast.Assign(targets=[ast.Name(id=name)]) if _public(name) or name == "__all__":
            yield f"{within}{name} = {ast.unparse(node.value)}"


def _public(name: str) -> bool:
    return not name.startswith("_")


def changes() -> str:
    """What differs from the record, as a diff; empty when nothing does."""
    recorded = RECORD.read_text(encoding="utf-8") if RECORD.exists() else ""
    both = (recorded.splitlines(keepends=True), surface().splitlines(keepends=True))
    return "".join(difflib.unified_diff(*both, "recorded", "present", n=0))


if __name__ == "__main__":
    sys.stdout.write(changes() or "Nothing changed.\n")
    if "--accept" in sys.argv:
        RECORD.write_text(surface(), encoding="utf-8")
