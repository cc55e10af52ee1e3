"""The template overrides differ from the pinned upstream templates only where meant.

`template_changes/` holds what is meant, as unified diffs against the installed generator's own templates. After a
change that is meant, write them anew: `.venv/bin/python -m tests.spec.test_templates`.
"""

import difflib
import importlib.metadata
from pathlib import Path

import openapi_python_client
import pytest

OURS = Path(__file__).parents[2] / "openapi" / "templates"
UPSTREAM = Path(openapi_python_client.__file__).parent / "templates"
MEANT = Path(__file__).parent / "template_changes"
OVERRIDES = sorted(str(path.relative_to(OURS)) for path in OURS.rglob("*.jinja"))


def change(name: str) -> str:
    """How our template differs from upstream's, as a unified diff."""
    upstream = (UPSTREAM / name).read_text().splitlines(keepends=True)
    ours = (OURS / name).read_text().splitlines(keepends=True)
    lines = difflib.unified_diff(upstream, ours, f"upstream/{name}", f"ours/{name}", n=1)
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def stored(name: str) -> Path:
    """Where the meant difference is kept."""
    return MEANT / f"{name.replace('/', '.')}.diff"


def test_the_generator_is_the_one_the_templates_were_made_for() -> None:
    assert importlib.metadata.version("openapi-python-client") == "0.29.1"


@pytest.mark.parametrize("name", OVERRIDES)
def test_a_template_differs_from_upstream_only_where_meant(name: str) -> None:
    assert change(name) == stored(name).read_text(), "See the docstring of this file for how to accept a change."


def test_no_difference_is_kept_for_a_template_that_is_gone() -> None:
    assert sorted(path.name for path in MEANT.iterdir()) == sorted(stored(name).name for name in OVERRIDES)


@pytest.mark.parametrize("name", OVERRIDES)
def test_a_template_says_why_it_exists_and_what_differs(name: str) -> None:
    head = (OURS / name).read_text().split("#}")[0]
    assert head.startswith("{#\nWhy: ")
    assert "\nDiffers from upstream: " in head


def write() -> None:
    """Store the present differences as the meant ones."""
    MEANT.mkdir(exist_ok=True)
    for path in MEANT.iterdir():
        path.unlink()
    for name in OVERRIDES:
        stored(name).write_text(change(name))


if __name__ == "__main__":
    write()
