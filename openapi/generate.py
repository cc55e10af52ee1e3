"""Rebuilds generated/yotta_serverless_api from serverless.yaml, or checks that it is exactly what that gives."""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "generated" / "yotta_serverless_api"


class GenerationError(Exception):
    """A step of the generation failed; the text says which, and shows what it printed."""


def run_step(arguments: list[str], cwd: Path) -> None:
    """Run a module of this environment; raise GenerationError with its output when it fails."""
    # Whoever calls may sit anywhere and have any locale: the tools get one fixed view of both. Without -P a folder with
    # a types.py, as the generated one is, would shadow the standard library.
    fixed = {"PYTHONUTF8": "1", "LC_ALL": "C.UTF-8", "COLUMNS": "120", "PYTHONDONTWRITEBYTECODE": "1"}
    step = subprocess.run(  # noqa: S603 - fixed arguments, and the interpreter that runs this file
        [sys.executable, "-P", "-m", *arguments],
        cwd=cwd,
        env={**os.environ, **fixed},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if step.returncode != 0:
        raise GenerationError(f"`python -m {' '.join(arguments)}` failed:\n{step.stdout}{step.stderr}")


def generate(target: Path) -> None:
    """Write the package into `target`, which must not exist."""
    generator = ["openapi_python_client", "generate", "--meta", "none", "--fail-on-warning"]
    run_step(
        [
            *generator,
            *("--path", str(HERE / "serverless.yaml")),
            *("--config", str(HERE / "generator.yaml")),
            *("--custom-template-path", str(HERE / "templates")),
            *("--output-path", str(target)),
        ],
        cwd=target.parent,
    )
    # Not in the current folder's settings: a ruff configuration further up must not change the output.
    run_step(["ruff", "check", "--isolated", "--no-cache", "--quiet", "--fix-only", "--select=F401,I", "."], cwd=target)
    run_step(["ruff", "format", "--isolated", "--no-cache", "--quiet", "--line-length=120", "."], cwd=target)
    (target / "py.typed").touch()


def files_in(package: Path) -> set[Path]:
    """Every file of the package, relative to it, but for what Python caches."""
    if not package.is_dir():
        return set()
    return {
        path.relative_to(package) for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }


def differences(package: Path, expected: Path) -> list[str]:
    """One line for each file of `package` that is not as in `expected`."""
    have, want = files_in(package), files_in(expected)
    lines = [f"missing  {path}" for path in want - have] + [f"stale    {path}" for path in have - want]
    lines += [
        f"differs  {path}" for path in have & want if not filecmp.cmp(package / path, expected / path, shallow=False)
    ]
    return sorted(lines)


def check(expected: Path) -> int:
    """Say what differs from `expected`, and what to do next; 0 when nothing does, else 1."""
    found = differences(PACKAGE, expected)
    if not found:
        return 0
    sys.stderr.write(f"{PACKAGE.relative_to(HERE.parent)} is not what openapi/serverless.yaml gives:\n")
    sys.stderr.writelines(f"  {line}\n" for line in found)
    sys.stderr.write("Never edit generated files. Run `make generate`, and commit what it changes.\n")
    return 1


def replace(expected: Path) -> int:
    """Put `expected` in the place of the package; stale files go with the old one."""
    shutil.rmtree(PACKAGE, ignore_errors=True)
    PACKAGE.parent.mkdir(exist_ok=True)
    shutil.move(expected, PACKAGE)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when something would change")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        expected = Path(folder).resolve() / PACKAGE.name
        try:
            generate(expected)
        except GenerationError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        return check(expected) if options.check else replace(expected)


if __name__ == "__main__":
    sys.exit(main())
