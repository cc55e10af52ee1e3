"""`yottabench load run`: starts the emulator and Locust, shows progress, and makes sure that a run ends judged."""

import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType

import attrs

from yottabench.load.actions import Actor, check_actions
from yottabench.load.baseline import check_baseline, note_baseline
from yottabench.load.children import Child, ChildError, start_emulator
from yottabench.load.detection import parse_api_qps
from yottabench.load.finish import collect, conclude
from yottabench.load.hopeless import Watchdog
from yottabench.load.outcome import note_abort
from yottabench.load.prepare import Prepared, prepare, prompts_beside
from yottabench.load.profile import Profile, change, find_profile, loadtest_dir
from yottabench.load.progress import Progress
from yottabench.load.rundir import RunDir
from yottabench.load.summary import Result, summary_text
from yottabench.load.target import EndpointInUse, Target, TargetError

LOOK_EVERY_S = 0.25
LINE_EVERY_S = 5.0
# Beyond the profile's drain: the time for the audit, the reports and Locust's own end.
CLOSING_S = 60.0


class CannotRun(Exception):
    """The run could not begin; the text says why and what next."""


@attrs.frozen
class Wishes:
    """What the command line asks for; None leaves it to the profile."""

    profile: str
    host: str | None
    endpoint_id: str | None
    trace: Path | None
    prompts: Path | None
    time_scale: float | None
    rate: float | None
    duration_s: float | None
    processes: int
    seed: int
    client: str
    out: Path
    as_json: bool
    compare: Path | None = None
    abort: bool = True
    api_qps: str | None = None
    detection: str | None = None


def run(wishes: Wishes) -> int:
    """Runs a load test from start to report; gives the exit code.

    Raises ProfileError, RunDirError, CannotCompare, CannotRun.
    """
    for package in ("locust", "hdrh", "httptools", "orjson"):
        if importlib.util.find_spec(package) is None:
            raise CannotRun(f"The package {package} is missing. Install it with: pip install 'yottabench[load]'")
    profile = wished_profile(wishes)
    # What can be wrong with the profile's files or the target is said before anything is started.
    prepared = prepare(profile, wishes.seed)
    check_actions(profile, emulator=wishes.host is None)
    if wishes.compare is not None:
        check_baseline(wishes.compare, profile)
    if wishes.host is not None:
        _check_target(wishes.host, wishes.endpoint_id)
    folder = RunDir.create(wishes.out, profile.name, datetime.now().astimezone())
    folder.write_profile(profile)
    if wishes.compare is not None:
        note_baseline(folder, wishes.compare)
    say = _Say(silent=wishes.as_json)
    with _interrupts() as interrupted, ExitStack() as children:
        host, emulator_pid = wishes.host, None
        try:
            if host is None:
                say.line("Starting the emulator")
                emulator, host = start_emulator(folder.path / "emulator.log", profile.emulator.options)
                children.enter_context(emulator)
                emulator_pid = emulator.pid
            locust = Child(
                "load generator", _locust_arguments(wishes, folder, host), folder.path / "locust.log", _env()
            )
        except (ChildError, OSError) as error:
            raise CannotRun(str(error)) from None
        children.enter_context(locust)
        say.line(f"Running {profile.name} against {host}")
        actor = Actor(profile, folder, emulator_pid)
        actor.start()
        # Before anything else ends: an action under way needs the emulator.
        children.callback(actor.stop)
        _follow(locust, folder, profile, say, interrupted, _watchdog(profile, prepared))
        locust.end(grace_s=5.0)
        actor.stop()
        result = folder.read_result() or _recover(folder, say)
        if result is None:
            _remove_half_made(folder, say)
            raise CannotRun(f"The load generator could not begin. {locust.last_words()}")
    return show(result, folder, as_json=wishes.as_json)


def _check_target(host: str, endpoint_id: str | None) -> None:
    try:
        with Target(host) as target:
            target.check()
            if endpoint_id is not None:
                target.use_endpoint(endpoint_id)
    except TargetError as error:
        raise CannotRun(str(error)) from None


def report_again(path: Path, *, as_json: bool, compare: Path | None = None) -> int:
    """Judges an old run from its files and writes its report anew, compared with another run where one is given.

    Raises RunDirError, ProfileError, CannotCompare.
    """
    folder = RunDir.open(path)
    if compare is not None:
        check_baseline(compare, folder.read_profile())
        note_baseline(folder, compare)
    return show(conclude(folder), folder, as_json=as_json)


def show(result: Result, folder: RunDir, *, as_json: bool) -> int:
    """Prints the result; gives the exit code."""
    print(json.dumps(result) if as_json else "\n" + summary_text(result, folder))  # noqa: T201  it is the output
    return int(result["exit_code"])


def wished_profile(wishes: Wishes) -> Profile:
    """The profile with the command line's changes. Raises ProfileError."""
    profile = find_profile(wishes.profile)
    arrivals, task = profile.arrivals, profile.task
    where = "the command line"
    if wishes.trace is not None:
        arrivals = change(arrivals, where, kind="trace", trace=str(wishes.trace.resolve()))
        arrivals = attrs.evolve(arrivals, synthetic=None)
        beside = prompts_beside(wishes.trace)
        if beside is not None and task.prompts is None:
            task = change(task, where, prompts=str(beside.resolve()))
    if wishes.prompts is not None:
        task = change(task, where, prompts=str(wishes.prompts.resolve()), body="chat")
    if wishes.time_scale is not None:
        arrivals = change(arrivals, where, time_scale=wishes.time_scale)
    if wishes.rate is not None:
        if arrivals.kind == "trace":
            raise CannotRun(
                "--rate goes with constant, Poisson and Gamma arrivals; a trace has its own. Use --time-scale."
            )
        arrivals = change(arrivals, where, rate=wishes.rate).at_rate(wishes.rate)
    if wishes.duration_s is not None:
        arrivals = change(arrivals, where, duration_s=wishes.duration_s).lasting(wishes.duration_s)
    looking = profile.detection
    if wishes.api_qps is not None:
        looking = change(looking, where, api_qps=parse_api_qps(wishes.api_qps))
    if wishes.detection is not None:
        looking = change(looking, where, mode=wishes.detection)
    return attrs.evolve(profile, arrivals=arrivals, task=task, detection=looking, abort=profile.abort and wishes.abort)


class _Say:
    """Tells the terminal where the run is: one line that changes on a terminal, a line now and then elsewhere."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._terminal = sys.stdout.isatty()
        self._width = 0
        self._last_s = -LINE_EVERY_S

    def line(self, text: str) -> None:
        if not self._silent:
            print(self._over(text), flush=True)  # noqa: T201  it is the output
            self._width = 0

    def progress(self, text: str) -> None:
        if self._silent:
            return
        if self._terminal:
            sys.stdout.write(self._over(text))
            sys.stdout.flush()
            self._width = len(text)
        elif time.monotonic() - self._last_s >= LINE_EVERY_S:
            self._last_s = time.monotonic()
            print(text, flush=True)  # noqa: T201  it is the output

    def _over(self, text: str) -> str:
        return f"\r{text:<{self._width}}" if self._width else text


class _Interrupts:
    """How often Ctrl-C or SIGTERM came."""

    count = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.count += 1


@contextmanager
def _interrupts() -> Generator[_Interrupts]:
    """Counts interrupts instead of dying of them, so that a stopped run is still drained, audited and reported."""
    counter = _Interrupts()
    before = {number: signal.signal(number, counter) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield counter
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _follow(
    locust: Child, folder: RunDir, profile: Profile, say: _Say, interrupted: _Interrupts, watchdog: Watchdog
) -> None:
    """Shows progress until Locust has ended; the first interrupt ends the sending, the second everything."""
    progress = Progress(folder, watchdog.take)
    asked, give_up_s = 0, float("inf")
    while locust.exit_code is None:
        time.sleep(LOOK_EVERY_S)
        if interrupted.count > asked:
            asked = interrupted.count
            if asked > 1:
                say.line("Stopping at once")
                return
            say.line("Stopping: no more tasks are sent; waiting for the last ones (once more to stop at once)")
            locust.ask_to_end()
            give_up_s = time.monotonic() + profile.limits.drain_timeout_s + CLOSING_S
        if time.monotonic() > give_up_s:
            return
        if progress.read_on():
            duration_s = folder.read_meta().get("duration_s")
            say.progress(progress.line(duration_s))
            why = watchdog.hopeless() if profile.abort and give_up_s == float("inf") else None
            # Once all is sent there is nothing left to spare.
            if why and duration_s and progress.at_s < duration_s:
                note_abort(folder, why)
                say.line(f"Ending early: {why}")
                locust.ask_to_end()
                give_up_s = time.monotonic() + profile.limits.drain_timeout_s + CLOSING_S
    if progress.read_on():
        say.line(progress.line(folder.read_meta().get("duration_s")))


def _watchdog(profile: Profile, prepared: Prepared) -> Watchdog:
    # With submits that are to be refused, refusals say nothing before the end.
    gates = [gate for gate in profile.parsed_gates() if not (profile.task.bad and gate.metric == "error_rate")]
    arrivals, schedule = profile.arrivals, prepared.schedule
    steady = not arrivals.stages and arrivals.kind != "trace" and not profile.actions and profile.endpoint.wait
    return Watchdog(gates, schedule.planned(), schedule.duration_s, steady=steady)


def _recover(folder: RunDir, say: _Say) -> Result | None:
    """Closes the books of a run whose Locust died: asks the server, removes the endpoint, judges."""
    if not folder.meta_file.exists():
        return None
    say.line("The load generator died; closing its books")
    meta = folder.read_meta()
    endpoint = EndpointInUse(**meta["endpoint"])
    # The receiver ends with the generator that started it.
    folder.update_meta(interrupted=True, stopped_s=_last_sent_s(folder), receiver_died=bool(meta.get("webhooks")))
    try:
        with Target(meta["host"]) as target:
            collect(folder, target, endpoint)
            if endpoint.made_by_run:
                folder.update_meta(endpoint_removed=target.remove_endpoint(endpoint.endpoint_id) is None)
    except TargetError as error:
        say.line(str(error))
    return conclude(folder)


def _remove_half_made(folder: RunDir, say: _Say) -> None:
    """Removes the endpoint that a generator was making when it was killed."""
    noted = folder.noted_endpoint()
    if noted is None:
        return
    host, name = noted
    try:
        with Target(host) as target:
            for problem in target.remove_endpoint_named(name):
                say.line(problem)
    except TargetError as error:
        say.line(str(error))
    folder.forget_endpoint_note()


def _last_sent_s(folder: RunDir) -> float:
    journals, _ = folder.journals()
    return max((journal.sent_s[-1] for journal in journals if len(journal)), default=0.0)


def _locust_arguments(wishes: Wishes, folder: RunDir, host: str) -> list[str]:
    arguments = [sys.executable, "-m", "locust", "--locustfile", str(loadtest_dir() / "locustfile.py")]
    arguments += ["--headless", "--only-summary", "--users", str(wishes.processes), "--spawn-rate", "100"]
    arguments += ["--host", host, "--seed", str(wishes.seed), "--task-client", wishes.client]
    arguments += ["--load-profile-file", str(folder.profile_file), "--load-run-dir", str(folder.path)]
    if wishes.endpoint_id:
        arguments += ["--endpoint-id", wishes.endpoint_id]
    if wishes.processes > 1:
        arguments += ["--processes", str(wishes.processes)]
    return arguments


def _env() -> dict[str, str]:
    """Our environment without Locust's variables: the run is what the command line says."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}
