"""kill -9 of real processes that write, at any moment; `TORTURE=full` kills many more."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.simulation.watch import Watch
from tests.torture.killed import NOW_MS
from yottabench.emulator.retention import DAY_MS
from yottabench.emulator.store.base import TaskState
from yottabench.emulator.store.sqlite import SqliteStore

KILLS = 100 if os.environ.get("TORTURE") == "full" else 5


def killed(folder: Path, number: int, chance: random.Random) -> list[str]:
    """What a process said that was killed a moment after it said something."""
    command = [sys.executable, "-m", "tests.torture.killed", str(folder), str(number * 100_000)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(chance.randint(1, 40))]
    for _ in range(chance.choice([0, 50, 5_000])):  # somewhere in what comes next
        pass
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    lines += process.stdout.readlines()
    process.stdout.close()
    return [line.strip() for line in lines if line.endswith("\n")]


def test_what_a_killed_process_had_answered_is_there(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property("kills", KILLS)
    chance = random.Random(5)
    submitted: set[str] = set()
    finished: set[str] = set()
    for number in range(KILLS):
        for line in killed(tmp_path, number, chance):
            word, *names = line.split()
            (submitted if word == "submitted" else finished).update(names)
        store = SqliteStore(tmp_path)
        store.recover(NOW_MS)
        Watch([], DAY_MS, 4).look(store._reader, NOW_MS, recovered=True)
        rows = dict(store._reader.execute("SELECT task_id, state FROM task").fetchall())
        store.close()
        assert submitted <= rows.keys()
        assert all(rows[name] == TaskState.SUCCEEDED for name in finished)
    assert len(submitted) > KILLS
