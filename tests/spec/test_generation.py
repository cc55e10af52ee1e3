"""`make verify` fails whenever generated/ is not what the document gives; proven in a copy of the repository."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = Path("generated", "yotta_serverless_api")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of all that generation reads and writes."""
    shutil.copytree(ROOT / "openapi", tmp_path / "openapi", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / PACKAGE, tmp_path / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run(copy: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(copy / "openapi" / "generate.py"), *arguments],
        cwd=environment.pop("cwd", copy),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def contents(copy: Path) -> dict[str, bytes]:
    package = copy / PACKAGE
    return {str(path.relative_to(package)): path.read_bytes() for path in package.rglob("*") if path.is_file()}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def edit_by_hand(copy: Path) -> None:
    edit(copy / PACKAGE / "models" / "task.py", "task_id: str", "task_id: bytes")


def edit_a_byte_that_does_not_count(copy: Path) -> None:
    with (copy / PACKAGE / "models" / "task.py").open("a") as file:
        file.write("\n")


def leave_a_stale_file(copy: Path) -> None:
    (copy / PACKAGE / "models" / "job.py").write_text("")


def leave_a_stale_file_at_the_top(copy: Path) -> None:
    (copy / PACKAGE / "notes.txt").write_text("")


def remove_a_file(copy: Path) -> None:
    (copy / PACKAGE / "models" / "worker.py").unlink()


def remove_the_marker_of_typed_packages(copy: Path) -> None:
    (copy / PACKAGE / "py.typed").unlink()


def change_a_template(copy: Path) -> None:
    edit(copy / "openapi" / "templates" / "client.py.jinja", "httpx.Timeout(30.0", "httpx.Timeout(31.0")


def override_another_template(copy: Path) -> None:
    (copy / "openapi" / "templates" / "api_init.py.jinja").write_text('""" Another text """\n')


def change_the_document(copy: Path) -> None:
    edit(copy / "openapi" / "serverless.yaml", "required: [processing]", "required: [processing, total]")


def change_a_setting(copy: Path) -> None:
    with (copy / "openapi" / "generator.yaml").open("a") as file:
        file.write("docstrings_on_attributes: true\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edit_by_hand, "differs  models/task.py"),
        (edit_a_byte_that_does_not_count, "differs  models/task.py"),
        (leave_a_stale_file, "stale    models/job.py"),
        (leave_a_stale_file_at_the_top, "stale    notes.txt"),
        (remove_a_file, "missing  models/worker.py"),
        (remove_the_marker_of_typed_packages, "missing  py.typed"),
        (change_a_template, "differs  client.py"),
        (override_another_template, "differs  api/__init__.py"),
        (change_the_document, "differs  models/task_count.py"),
        (change_a_setting, "differs  models/task.py"),
    ],
)
def test_verify_fails_and_says_what_differs(copy: Path, change: Callable[[Path], None], said: str) -> None:
    change(copy)
    before = contents(copy)
    verified = run(copy, "--check")
    assert verified.returncode == 1
    assert said in verified.stderr
    assert "make generate" in verified.stderr
    assert contents(copy) == before


def test_generate_repairs_what_verify_found(copy: Path) -> None:
    before = contents(copy)
    edit_by_hand(copy)
    leave_a_stale_file(copy)
    remove_the_marker_of_typed_packages(copy)
    assert run(copy).returncode == 0
    assert contents(copy) == before


def test_verify_passes_on_what_is_committed_and_changes_nothing(copy: Path) -> None:
    before = contents(copy)
    verified = run(copy, "--check")
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    assert contents(copy) == before


def test_generation_gives_the_same_bytes_wherever_and_however_it_runs(
    copy: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    # A ruff configuration above the output, and no ruff on PATH, must both be without effect.
    (elsewhere / "ruff.toml").write_text("line-length = 40\n")
    runs = [
        {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "Asia/Tokyo", "TMPDIR": str(elsewhere), "PATH": "/nonexistent"},
        {"PYTHONHASHSEED": "2", "LANG": "C.UTF-8", "COLUMNS": "40", "cwd": str(elsewhere), "NO_COLOR": "1"},
    ]
    results: list[dict[str, bytes]] = []
    for environment in runs:
        shutil.rmtree(copy / PACKAGE)
        done = run(copy, **environment)
        assert (done.returncode, done.stderr) == (0, "")
        results.append(contents(copy))
    committed = {name: text for name, text in contents(ROOT).items() if "__pycache__" not in name}
    assert results[0] == results[1] == committed


def test_a_document_that_the_generator_would_only_warn_about_fails(copy: Path) -> None:
    edit(
        copy / "openapi" / "serverless.yaml",
        "type: string\n          pattern: ^[A-Za-z0-9_-]{1,255}$",
        "type: nonsense",
    )
    before = contents(copy)
    for arguments in ([], ["--check"]):
        done = run(copy, *arguments)
        assert done.returncode == 1
        assert "openapi_python_client generate" in done.stderr
    assert contents(copy) == before
