"""A client that another generator makes from the document, in another language, against the emulator."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import node as nodejs
from tests.conformance.live import KEY, Stage

pytestmark = pytest.mark.full

SOURCES = Path(__file__).parent / "typescript"
CHECKOUT = Path(__file__).parents[2]


def _run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def node() -> Path:
    """A Node.js that is new enough."""
    return nodejs.node()


@pytest.fixture(scope="module")
def modules(node: Path) -> Path:
    """node_modules with the pinned generator and compiler."""
    return nodejs.node_modules(SOURCES)


@pytest.fixture(scope="module")
def journey(modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journey, compiled strictly together with the client generated for it."""
    folder = tmp_path_factory.mktemp("typescript")
    for name in ("journey.ts", "tsconfig.json"):
        shutil.copy(SOURCES / name, folder)
    (folder / "node_modules").symlink_to(modules)
    document = CHECKOUT / "openapi" / "serverless.yaml"
    tools = modules / ".bin"
    _run(tools / "openapi-ts", "-i", document, "-o", "generated", "-c", "@hey-api/client-fetch", cwd=folder)
    _run(tools / "tsc", "-p", ".", cwd=folder)
    return folder / "built" / "journey.js"


def test_a_generated_typescript_client_creates_submits_waits_lists_reads_logs_and_deletes(
    node: Path, journey: Path, stage: Stage
) -> None:
    seen = json.loads(_run(node, journey, stage.api.url, KEY, cwd=journey.parent))
    assert seen["outputs"] == [{"prompt": "é 😀"}, {"prompt": "b"}, {"prompt": "c"}]
    assert seen["listed"] == seen["ids"][:0:-1]
    assert seen["pages"] == [1, 2, 3, 2]
    assert seen["processing"] == 0
    assert seen["logLines"] == 1
    assert (seen["refused"], seen["deleted"], seen["gone"]) == (10001, True, 14000)
    assert seen["id"] not in {endpoint["id"] for endpoint in stage.api.data("GET", "")}
