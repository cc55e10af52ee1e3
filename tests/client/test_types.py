"""The public types hold for users who check strictly, and refuse what is wrong."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "typing_tests"
ROOT = Path(__file__).parents[2]


def pyright(file: Path, project: Path) -> str:
    settings = project / "pyrightconfig.json"
    settings.write_text(
        f'{{"typeCheckingMode": "strict", "pythonVersion": "3.11", "extraPaths": ["{ROOT}/src", "{ROOT}/generated"],'
        f' "include": ["{file}"]}}'
    )
    command = [sys.executable, "-m", "basedpyright", "--project", str(settings), "--pythonpath", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout


def mypy(file: Path, project: Path) -> str:
    # As from an installed package: our own code is read for its types, and not judged.
    cache = f"--cache-dir={project.parent / 'mypy'}"
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", cache, str(file)]
    environment = {"MYPYPATH": f"{ROOT}/src:{ROOT}/generated", "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=project)
    return done.stdout + done.stderr


@pytest.mark.parametrize(("checker", "fine"), [(pyright, "0 errors, 0 warnings"), (mypy, "Success: no issues found")])
def test_correct_use_is_free_of_complaints(checker: object, fine: str, tmp_path: Path) -> None:
    assert callable(checker)
    report = checker(HERE / "use.py", tmp_path)
    assert fine in report, report


WRONG = {
    "client.tasks.submit('1', 1, worker_port='8000', process_uri='/')": "worker_port|str",
    "client.tasks.submit('1', 1, process_uri='/')": "worker_port",
    "client.endpoints.get()": "endpoint_id",
    "client.endpoints.create(name='a')": "image|container_volume_in_gb|Missing",
    "client.endpoints.get('1', timeout=3)": "timeout",
    "client.tasks.wait('1', 'a').outputs": "outputs",
    "client.tasks.submit_many('1', 5, worker_port=1, process_uri='/')": "items|Iterable",
    "for task in client.tasks.wait_many('1', ['a'], outputs=False): print(task.output)": "output",
}


@pytest.mark.parametrize("checker", [pyright, mypy])
def test_wrong_use_is_found(checker: object, tmp_path: Path) -> None:
    assert callable(checker)
    file = tmp_path / "wrong.py"
    lines = ["from yottabench.client import Client", "client = Client('k')", *WRONG]
    file.write_text("\n".join(lines) + "\n")
    report = checker(file, tmp_path)
    for number, (statement, said) in enumerate(WRONG.items(), 3):
        found = [line for line in report.splitlines() if re.search(rf"wrong\.py:{number}(:\d+)?\b.*error", line)]
        assert any(re.search(said, line) for line in found), (statement, report)
