import json
import runpy
import subprocess
from pathlib import Path

import pytest

from yottabench.conformance.diff.sources import digest
from yottabench.spec import spec, spec_text

ROOT = Path(__file__).parents[2]


CHECK = runpy.run_path(str(ROOT / "openapi" / "changelog.py"))["unsaid"]


@pytest.mark.parametrize(
    ("old", "new", "fails"),
    [
        ("maximum: 65535", "maximum: 65534", True),
        ("operationId: getTaskCount", "operationId: countTasks", True),
        ("summary: Submit a task", "summary: Submit one task", False),
        ("# ---- envelopes", "# ---- all envelopes", False),
    ],
)
def test_a_changed_demand_needs_a_line_in_the_changelog_and_changed_words_do_not(
    tmp_path: Path, old: str, new: str, fails: bool
) -> None:
    assert old in spec_text()
    document, changelog = tmp_path / "serverless.yaml", tmp_path / "CHANGELOG.md"
    changelog.write_text(f"- The document is now `{digest(spec())}`.\n")
    document.write_text(spec_text())
    assert CHECK(document, changelog) is None
    document.write_text(spec_text().replace(old, new))
    said = CHECK(document, changelog)
    assert (said is not None) == fails
    assert ("Under [Unreleased], say what changed" in str(said)) == fails


def test_make_check_asks_for_the_changelog() -> None:
    rules = subprocess.run(["make", "--dry-run", "check"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "openapi/changelog.py" in rules.stdout


def test_the_digest_is_that_of_equal_documents_however_they_are_ordered() -> None:
    assert digest(json.loads(json.dumps(spec(), sort_keys=True))) == digest(spec())
