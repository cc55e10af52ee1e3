"""`make mutation`: changes validators and state machines a little, and fails for a change that no test notices.

It works in a copy of the tree. What is known to survive is in mutation_survivors.md, each with the reason.
Arguments are given to mutmut: names of mutants such as "yottabench.load.gates*".
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPY = ROOT / ".cache" / "mutation"
EXPLAINED = Path(__file__).with_name("mutation_survivors.md")
PARTS = ("src", "tests", "openapi", "generated", "loadtest", "pyproject.toml", "Makefile", "CHANGELOG.md")
# A change that is never reached, makes the tests run for ever or breaks the interpreter is noticed too.
UNNOTICED = ("survived", "no tests", "suspicious")


def main(names: list[str]) -> int:
    """Run, and say what is not explained; the exit code is 1 when there is any."""
    _copy()
    subprocess.run([sys.executable, "-W", "ignore", "-m", "tests.mutation_names"], cwd=COPY, check=True)
    environment = {**os.environ, "HYPOTHESIS_PROFILE": "mutation"}
    mutmut = [sys.executable, "-m", "mutmut"]
    done = subprocess.run([*mutmut, "run", "--max-children", "2", *names], cwd=COPY, env=environment, check=False)
    results = subprocess.run([*mutmut, "results"], cwd=COPY, capture_output=True, text=True, check=True).stdout
    survivors = re.findall(rf"^\s*(\S+): (?:{'|'.join(UNNOTICED)})$", results, re.MULTILINE)
    explained = EXPLAINED.read_text(encoding="utf-8")
    unexplained = 0
    for name in survivors:
        changed = _change(mutmut, name)
        if changed not in explained:
            unexplained += 1
            sys.stdout.write(f"{name}\n{changed}\n\n")
    sys.stdout.write(f"{len(survivors)} changes go unnoticed, {unexplained} of them unexplained.\n")
    return done.returncode or int(unexplained > 0)


def _copy() -> None:
    """The tree as it is now; what mutmut remembers of the last run stays as long as src/ is the same.

    When a file has changed, mutmut looks which of its lines the tests reach in a copy that is full of changes already:
    it then leaves out many, and gives the names of changes to others.
    """
    parts = set(PARTS)
    if _sources(ROOT) == _sources(COPY):
        parts.remove("src")
    else:
        shutil.rmtree(COPY / "mutants", ignore_errors=True)
    for part in sorted(parts):
        source, copy = ROOT / part, COPY / part
        if source.is_dir():
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis"))
        else:
            COPY.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)


def _sources(tree: Path) -> dict[str, bytes]:
    return {str(path.relative_to(tree)): path.read_bytes() for path in tree.glob("src/**/*.py")}


def _change(mutmut: list[str], name: str) -> str:
    """The changed lines, as they stand in mutation_survivors.md."""
    shown = subprocess.run([*mutmut, "show", name], cwd=COPY, capture_output=True, text=True, check=True).stdout
    lines = [line for line in shown.splitlines() if re.match(r"[-+](?![-+])", line)]
    return "\n".join(f"{line[0]} {line[1:].strip()}" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
