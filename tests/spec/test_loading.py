"""The document is found in a checkout and in a wheel, and says what is missing when it cannot be read."""

import subprocess
import sys
from pathlib import Path

import pytest

from yottabench import spec as module
from yottabench.spec import SpecUnavailable, spec, spec_text

CHECKOUT = Path(__file__).parents[2] / "openapi" / "serverless.yaml"


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nothing is remembered from before, nor afterwards."""
    monkeypatch.setattr(module, "spec_text", module.spec_text.__wrapped__)
    return monkeypatch


def test_the_document_of_the_checkout_is_read_and_remembered() -> None:
    assert spec_text() == CHECKOUT.read_text(encoding="utf-8")
    assert spec()["openapi"] == "3.1.0"
    assert spec() is spec()


def test_the_copy_in_a_wheel_comes_first(fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shipped = tmp_path / "serverless.yaml"
    shipped.write_text("openapi: 3.1.0 # é\n", encoding="utf-8")
    fresh.setattr(module, "_PLACES", (shipped, CHECKOUT))
    assert module.spec_text() == "openapi: 3.1.0 # é\n"


def test_a_missing_document_is_an_error_that_names_the_places(fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fresh.setattr(module, "_PLACES", (tmp_path / "a.yaml", tmp_path / "b.yaml"))
    with pytest.raises(SpecUnavailable, match=r"a\.yaml and .*b\.yaml"):
        module.spec_text()


def test_a_missing_yaml_reader_is_an_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(SpecUnavailable, match=r"pip install 'yottabench\[emulator\]'"):
        module.spec.__wrapped__()


def test_importing_the_client_reads_neither_document_nor_yaml() -> None:
    code = "import sys, yottabench.client, yottabench.spec; sys.exit('yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
