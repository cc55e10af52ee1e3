"""Each example runs, and prints what it promises."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.emulator import emulator

EXAMPLES = Path(__file__).parents[2] / "examples"
PROMISED = {
    "first_task.py": [r"^answer: \S+"],
    "batch.py": [r"^outcomes: \{'SUCCESS': 500\}$"],
    "webhook_receiver.py": [
        *(rf"^webhook: task webhook_{number} says \{{'number': {number}\}}$" for number in range(3)),
        *(rf"^waited: task webhook_{number} is (SUCCESS|DELIVERED)$" for number in range(3)),
    ],
    "log_tail.py": [r"(?m)(?s:^\S+Z .*task=.*){5}"],
    "asynchronous.py": [r"^sum of squares: 40425$", r"^tasks: 50$"],
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with emulator() as made:
        yield made


def test_every_example_is_tried() -> None:
    assert set(PROMISED) == {file.name for file in EXAMPLES.glob("*.py")}


@pytest.mark.parametrize("name", PROMISED)
def test_an_example_does_what_it_promises(name: str, url: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "YOTTA_BASE_URL": url, "YOTTA_API_KEY": f"examples-{name}"},
    )
    assert done.returncode == 0, done.stderr
    for pattern in PROMISED[name]:
        assert re.search(pattern, done.stdout, re.MULTILINE), (pattern, done.stdout)
