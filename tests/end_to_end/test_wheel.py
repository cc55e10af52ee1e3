"""The wheel, as somebody gets it who never saw the checkout."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that holds the wheel and what it needs, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    # Installed from here, and compiled as it is used: both save time.
    install = [*_pip(folder / "bin"), "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    for wanted in (["--require-hashes", "--requirement", str(ROOT / "requirements" / "run.txt")], ["--no-deps", wheel]):
        subprocess.run([*install, *wanted], check=True, capture_output=True)
    return folder / "bin"


def _pip(elsewhere: Path) -> list[str]:
    return [sys.executable, "-m", "pip", "--python", str(elsewhere / "python")]


def _run(elsewhere: Path, cwd: Path, *command: str) -> str:
    environment = {"PATH": f"{elsewhere}:{os.environ['PATH']}", "HOME": str(cwd)}
    done = subprocess.run(
        [str(elsewhere / command[0]), *command[1:]],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_carries_the_spec_the_generated_client_and_the_locust_files(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "yottabench/py.typed",
        "yottabench/_shipped/openapi/serverless.yaml",
        "yottabench/_shipped/loadtest/locustfile.py",
        "yottabench/_shipped/loadtest/profiles/smoke.toml",
        "yotta_serverless_api/py.typed",
        "yotta_serverless_api/api/tasks/submit_task.py",
    } <= names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"yottabench", "yotta_serverless_api"}


def test_an_installed_wheel_knows_its_version_and_its_spec(elsewhere: Path, tmp_path: Path) -> None:
    assert _run(elsewhere, tmp_path, "yottabench", "--version").startswith("yottabench ")
    says = "from yottabench.spec import spec; print(spec()['info']['title'])"
    assert _run(elsewhere, tmp_path, "python", "-c", says) == "Yotta Serverless\n"
    subprocess.run([*_pip(elsewhere), "check"], check=True, capture_output=True)


def test_an_installed_wheel_runs_a_load_test_against_its_own_emulator(elsewhere: Path, tmp_path: Path) -> None:
    # A folder of the user's with the same name must not get in the way of ours.
    (tmp_path / "loadtest").mkdir()
    (tmp_path / "loadtest" / "__init__.py").write_text("raise SystemExit('not this one')", encoding="utf-8")
    _run(
        elsewhere,
        tmp_path,
        "yottabench",
        "load",
        "run",
        "smoke",
        "--rate=20",
        "--duration=3",
        "--out=here",
    )
    (result,) = tmp_path.glob("here/**/result.json")
    found = json.loads(result.read_text(encoding="utf-8"))
    assert found["verdict"] == "PASS"
    assert found["audit"]["lost"]["count"] == 0
