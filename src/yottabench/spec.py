"""Finds and loads openapi/serverless.yaml, from the checkout or from the installed wheel."""

import functools
from pathlib import Path
from typing import Any, cast

_PACKAGE = Path(__file__).resolve().parent
# A wheel carries its own copy; an editable install reads the checkout's, so that no copy can go stale.
_PLACES = (
    _PACKAGE / "_shipped" / "openapi" / "serverless.yaml",
    _PACKAGE.parent.parent / "openapi" / "serverless.yaml",
)


class SpecUnavailable(Exception):
    """The document cannot be found or read; the text says what to do about it."""


@functools.cache
def spec_text() -> str:
    """The document as YAML, comments included. Raises SpecUnavailable."""
    for place in _PLACES:
        if place.is_file():
            return place.read_text(encoding="utf-8")
    tried = " and ".join(map(str, _PLACES))
    raise SpecUnavailable(f"openapi/serverless.yaml is missing (tried {tried}). Install yottabench again.")


@functools.cache
def spec() -> dict[str, Any]:
    """The document as plain Python values. It is shared: do not change it. Raises SpecUnavailable."""
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise SpecUnavailable(
            "Reading openapi/serverless.yaml needs PyYAML. Run: pip install 'yottabench[emulator]'"
        ) from error
    return cast("dict[str, Any]", yaml.safe_load(spec_text()))
