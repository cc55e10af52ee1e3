"""Puts what a checkout has at its top level (spec, Locust files) inside the package of a built wheel."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ShipTopLevelFiles(BuildHookInterface[Any]):
    """Adds the files to real wheels only: an editable install reads them from the checkout, so no copy can go stale."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds; `version` is "standard" or "editable"."""
        if version == "standard":
            build_data["force_include"].update(
                {
                    "openapi/serverless.yaml": "yottabench/_shipped/openapi/serverless.yaml",
                    "loadtest": "yottabench/_shipped/loadtest",
                }
            )
