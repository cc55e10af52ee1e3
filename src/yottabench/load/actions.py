"""What a profile has done to its endpoint while tasks come: done on time, and written down in the run's folder."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from yottabench.client import YottaError
from yottabench.load.profile import Action, Profile, ProfileError
from yottabench.load.rundir import RunDir, read_lines, write_lines
from yottabench.load.target import Target, TargetError

FILE = "actions.jsonl"
LOOK_EVERY_S = 0.1


class ActionFailed(Exception):
    """An action that could not be done; the text says why."""


@attrs.frozen
class Done:
    """An action, when it was meant to be done and when it was (seconds of the run), and what was done or went wrong."""

    do: str
    due_s: float
    at_s: float | None
    what: str
    ok: bool


def check_actions(profile: Profile, *, emulator: bool) -> None:
    """Refuses what cannot be done here. Raises ProfileError."""
    if not emulator and any(action.do == "kill-worker" for action in profile.actions):
        raise ProfileError(
            f"The profile {profile.name} kills a worker, which only works on an emulator that the run starts itself. "
            "Leave --host out."
        )


class Actor(threading.Thread):
    """Does a profile's actions, each at its share of the run's time, once the run has begun.

    `emulator_pid` is the process whose children are the workers, if the run started one.
    """

    def __init__(self, profile: Profile, folder: RunDir, emulator_pid: int | None) -> None:
        super().__init__(name="actions", daemon=True)
        self._actions = sorted(profile.actions, key=lambda action: action.at)
        self._folder = folder
        self._emulator_pid = emulator_pid
        self._end = threading.Event()
        self._done: list[Done] = []

    def stop(self) -> None:
        """Ends the waiting; what was not done by now is written down as not done."""
        self._end.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        """See threading.Thread."""
        if not self._actions:
            return
        meta = self._begun()
        if meta is not None:
            for action in self._actions:
                due_s = action.at * float(meta["duration_s"])
                left_s = float(meta["start_epoch_s"]) + due_s - time.time()
                if self._end.wait(max(0.0, left_s)):
                    break
                self._do(action, due_s, meta)
                self._write()
        missed = self._actions[len(self._done) :]
        duration_s = float(meta["duration_s"]) if meta else 0.0
        self._done += [
            Done(action.do, action.at * duration_s, None, "the run ended before", False) for action in missed
        ]
        self._write()

    def _begun(self) -> dict[str, Any] | None:
        """The run's meta.json as soon as it says when the run begins; None when the run ended before."""
        while not self._end.wait(LOOK_EVERY_S):
            if self._folder.meta_file.exists():
                meta = self._folder.read_meta()
                if meta.get("start_epoch_s") and meta.get("duration_s"):
                    return meta
        return None

    def _do(self, action: Action, due_s: float, meta: dict[str, Any]) -> None:
        ok = True
        try:
            if action.do == "scale":
                what = _scale(meta["host"], meta["endpoint"]["endpoint_id"], action.workers or 0)
            else:
                what = _kill_worker(self._emulator_pid)
        except (ActionFailed, TargetError, YottaError) as error:
            ok, what = False, str(error)
        self._done.append(Done(action.do, due_s, time.time() - float(meta["start_epoch_s"]), what, ok))

    def _write(self) -> None:
        write_lines(self._folder.path / FILE, [attrs.asdict(done) for done in self._done])


def read_done(run: RunDir) -> list[Done]:
    """What was done during a run, in order."""
    return [Done(**line) for line in read_lines(run.path / FILE)]


def action_doubts(profile: Profile, done: Sequence[Done]) -> list[str]:
    """Why a run did not do what its profile says, one sentence each."""
    found = [f"the action {one.do} at {one.due_s:.1f} s was not done: {one.what}" for one in done if not one.ok]
    if len(done) < len(profile.actions):
        found.append(
            f"{len(profile.actions) - len(done)} of the profile's actions were not done: the run ended before, "
            "or it was not begun by `yottabench load run`, which does them"
        )
    return found


def _scale(host: str, endpoint_id: str, workers: int) -> str:
    with Target(host) as target:
        target.scale(endpoint_id, workers)
    return f"asked for {workers} workers"


def _kill_worker(emulator_pid: int | None) -> str:
    if emulator_pid is None:
        raise ActionFailed("the run started no emulator")
    workers = workers_of(emulator_pid)
    if not workers:
        raise ActionFailed("the emulator runs no worker")
    os.kill(workers[0], signal.SIGKILL)
    return f"killed worker process {workers[0]}, one of {len(workers)}"


def workers_of(pid: int, run: Callable[..., "subprocess.CompletedProcess[str]"] = subprocess.run) -> list[int]:
    """The processes that the emulator `pid` has started, in order of their ids; none that is a fork of it."""
    shown = run(["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=False)
    rows = [line.split(None, 2) for line in shown.stdout.splitlines()]
    command = {int(row[0]): row[2:] for row in rows}
    return sorted(int(row[0]) for row in rows if int(row[1]) == pid and row[2:] != command.get(pid))
