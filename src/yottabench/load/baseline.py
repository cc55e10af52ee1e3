"""The earlier run that a run is compared with: noted in its folder, checked before, compared once it is judged."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from yottabench.load.compare import CannotCompare, Comparison, check_comparable, compare_journals
from yottabench.load.journal import Journal
from yottabench.load.profile import Profile, ProfileError
from yottabench.load.rundir import RunDir, RunDirError

FILE = "baseline.json"
EXIT_INVALID, EXIT_AUDIT = 5, 4


def check_baseline(path: Path, profile: Profile, seed: int | None = None) -> None:
    """Refuses a run that a run of `profile` cannot be compared with. Raises CannotCompare."""
    try:
        run = RunDir.open(path)
        result = run.read_result()
        before = run.read_profile()
    except (RunDirError, ProfileError, OSError, ValueError) as error:
        raise CannotCompare(f"The run to compare with cannot be read: {error}") from None
    if result is None or result["exit_code"] in (EXIT_INVALID, EXIT_AUDIT):
        word = "was never judged" if result is None else f"is {result['verdict']} ({'; '.join(result['reasons'])})"
        raise CannotCompare(f"{path} {word}, so it is no measure. Compare with a run whose figures count.")
    check_comparable(before, profile)


def note_baseline(run: RunDir, path: Path) -> None:
    """Keeps with the run what it is compared with; relative, so that both folders may move together."""
    relative = os.path.relpath(path.resolve(), run.path.resolve())
    run.write_text(run.path / FILE, json.dumps({"path": relative}) + "\n")


def compare_with_baseline(run: RunDir, journals: Sequence[Journal]) -> Comparison | None:
    """The comparison with the noted baseline, None when none is noted; one that is gone is said in the notes."""
    file = run.path / FILE
    if not file.exists():
        return None
    name = str(json.loads(file.read_bytes())["path"])
    try:
        check_baseline(run.path / name, run.read_profile())
        before, problems = RunDir(run.path / name).journals()
    except CannotCompare as error:
        return Comparison(name, (), (str(error),))
    if problems:
        return Comparison(name, (), tuple(problems))
    return compare_journals(before, journals, baseline=name)
