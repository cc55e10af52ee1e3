"""Fails when what serverless.yaml demands has changed and CHANGELOG.md does not say so: it must name the digest."""

import sys
from pathlib import Path

import yaml

from yottabench.conformance.diff.sources import digest

HERE = Path(__file__).parent


def unsaid(document: Path, changelog: Path) -> str | None:
    """What is missing in the changelog, or None."""
    name = digest(yaml.safe_load(document.read_text(encoding="utf-8")))
    if f"`{name}`" in changelog.read_text(encoding="utf-8"):
        return None
    return (
        f"{document.name} demands something else than {changelog.name} knows of. Under [Unreleased], say what changed "
        f"on a line that names its new digest: - `serverless.yaml` is now `{name}`: ..."
    )


def main() -> None:
    """Exit with what is missing."""
    document, changelog = map(Path, sys.argv[1:]) if sys.argv[1:] else (None, None)
    sys.exit(unsaid(document or HERE / "serverless.yaml", changelog or HERE.parent / "CHANGELOG.md"))


if __name__ == "__main__":
    main()
