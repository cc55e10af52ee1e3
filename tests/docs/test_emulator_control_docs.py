"""docs/emulator-control.md shows every path of the control surface, and what it shows works."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.servers import emulator
from yottabench.emulator.control.rules import FIELDS
from yottabench.emulator.control.seeds import read_seed
from yottabench.emulator.faults import KINDS
from yottabench.emulator.server import Emulator
from yottabench.emulator.settings import Settings
from yottabench.pytest_plugin import Faults, YottaEmulator

PAGE = (Path(__file__).parents[2] / "docs" / "emulator-control.md").read_text(encoding="utf-8")
SHELL = "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))


def test_the_commands_of_the_page_work_from_top_to_bottom(tmp_path: Path) -> None:
    with emulator(tmp_path / "data") as url:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", SHELL.replace("http://127.0.0.1:8080", url)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    codes = re.findall(r'"code":(\d+)', done.stdout)
    assert len(codes) > 20
    assert set(codes) == {"10000"}, done.stdout
    assert "yottabench_endpoints" in done.stdout


def test_the_page_shows_every_path(tmp_path: Path) -> None:
    shown: set[tuple[str, str]] = set()
    for command in SHELL.splitlines():
        for path in re.findall(r"\$YOTTA/_emulator/([^\s\"?)|]+)", command):
            forced = re.search(r"-X ([A-Z]+)", command)
            method = forced[1] if forced else "POST" if re.search(r" -d | --data-binary ", command) else "GET"
            shown.add((method, re.sub(r"\$[A-Z]+|\bt1\b|\bf1\b", "*", path)))

    async def served() -> set[tuple[str, str]]:
        made = Emulator(Settings(data=tmp_path))
        made.open()
        routes = made.control.routes
        await made.close()
        return set(routes)

    assert shown == asyncio.run(served())


def test_the_page_names_every_kind_and_field_of_a_fault() -> None:
    assert {name for name in (*KINDS, *FIELDS) if f"`{name}`" not in PAGE and f'"{name}"' not in PAGE} == set()


def test_the_page_names_all_that_the_fixture_has() -> None:
    has = {name for name in vars(YottaEmulator) if not name.startswith("_")} - {"end"}
    has |= {f"faults.{name}" for name in vars(Faults) if not name.startswith("_")}
    assert {name for name in has if f"`{name}(" not in PAGE} == set()


def test_the_seed_file_of_the_page_can_be_planted(tmp_path: Path) -> None:
    (seed,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "seed.toml"
    path.write_text(seed, encoding="utf-8")
    assert [endpoint["name"] for endpoint in read_seed(path)] == ["chat"]
    with emulator(tmp_path / "data", "--seed-file", str(path)):
        pass


def test_the_tests_of_the_page_pass(tmp_path: Path) -> None:
    (tests,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "test_page.py").write_text(tests, encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "yottabench.pytest_plugin",
            "-p",
            "no:cacheprovider",
            "test_page.py",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
