"""A run from start to verdict, in each of Locust's roles: alone, master, worker."""

import logging
import math
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import gevent
from gevent.event import AsyncResult

from loadtest.engine import Done, Engine, Plan, RequestListener
from loadtest.meter import Tally
from loadtest.reading import Reading
from loadtest.wire import Wire
from yottabench.load.children import Child, ChildError, start_receiver
from yottabench.load.finish import collect, conclude, settle
from yottabench.load.prepare import Prepared, describe, machine, prepare
from yottabench.load.profile import Profile
from yottabench.load.rundir import RunDir
from yottabench.load.target import EndpointInUse, Target, TargetError, api_key_for, is_local

# Time for every process to have its plan before the first task is due.
LEAD_ALONE_S, LEAD_S = 0.5, 2.0
# What a master waits for a process beyond the profile's drain before it goes on without.
PATIENCE_S = 15.0
# Locust's own clock for --run-time starts a moment before ours.
RUN_TIME_SLACK_S = 1.0

logger = logging.getLogger("yottabench")


@attrs.frozen
class Choices:
    """What was asked for on the command line or in the web form.

    `run_dir` is empty for a new folder in `runs_dir`; `run_time_s` is when Locust will stop the test, if it will.
    """

    profile: Profile
    live: bool
    host: str
    endpoint_id: str
    seed: int
    client: str
    tasks_per_user: float
    run_dir: str
    runs_dir: str
    run_time_s: float | None


class Performer:
    """The part of a run that sends: in a worker, or in a process that runs alone."""

    def __init__(self, on_request: RequestListener) -> None:
        self._on_request = on_request
        self._engine: Engine | None = None
        self._reading: Reading | None = None
        self._done: AsyncResult[Done] | None = None
        self._users = 0
        self._per_user = 1.0

    def count_users(self, change: int) -> None:
        """Takes that users came or went."""
        self._users += change
        self._set_rate()

    def begin(self, plan: Plan, profile: Profile, tasks_per_user: float, on_finished: Callable[[], None]) -> None:
        """Starts this process's part; `on_finished` is called when its schedule is through. Raises ProfileError."""
        prepared = prepare(profile, plan.seed)
        key, timeout_s = api_key_for(plan.host), profile.limits.request_timeout_s
        webhook = (plan.webhook_url, plan.webhook_key) if plan.webhook_url else None
        wire = Wire(plan.host, key, plan.endpoint_id, kind=plan.client, timeout_s=timeout_s, webhook=webhook)
        schedule = None if plan.live else prepared.schedule
        self._engine = Engine(plan, profile, schedule, prepared.make_body, wire, self._on_request)
        self._done = None
        self._per_user = tasks_per_user
        self._set_rate()
        self._engine.start()
        if prepared.reads and not plan.live:
            self._reading = Reading(plan, prepared.reads, wire, self._engine, self._on_request)
            self._reading.start()
        gevent.spawn(_call_when_through, self._engine, on_finished)

    def stop(self) -> None:
        """Ends the sending; returns at once."""
        if self._engine is not None:
            self._engine.stop()

    def end(self) -> Done | None:
        """Stops sending, drains and closes, once; every caller gets the same answer. None when nothing ran."""
        if self._engine is None:
            return None
        if self._done is None:
            self._done = AsyncResult()
            if self._reading is not None:
                self._reading.stop()
                self._reading = None
            self._done.set(self._engine.drain())
        return self._done.get()

    def take_tally(self) -> Tally:
        """What was measured since the last call."""
        return self._engine.meter.take_unreported() if self._engine is not None else Tally()

    def _set_rate(self) -> None:
        if self._engine is not None:
            self._engine.set_rate(self._users * self._per_user)


class Conductor:
    """The part of a run that exists once: it opens the run's folder and endpoint, and closes the books."""

    def __init__(self) -> None:
        self.total = Tally()
        self.result: dict[str, Any] | None = None
        self.run: RunDir | None = None
        self._target: Target | None = None
        self._endpoint: EndpointInUse | None = None
        self._prepared: Prepared | None = None
        self._choices: Choices | None = None
        self._receiver: Child | None = None
        self._opened_s = self._started_s = 0.0
        self._processes = 1
        self._cancelled = False

    def cancel(self) -> None:
        """A run that is still being opened is not wanted any more: `open` raises TargetError then."""
        self._cancelled = True

    @property
    def running(self) -> bool:
        """Whether a run was opened and not closed yet."""
        return self._choices is not None

    @property
    def drain_timeout_s(self) -> float:
        """How long the run's profile lets the last tasks take."""
        return self._choices.profile.limits.drain_timeout_s if self._choices is not None else 0.0

    def open(self, choices: Choices, processes: int) -> list[Plan]:
        """Makes everything that a run needs; gives the plan of each process.

        Raises TargetError, ProfileError, RunDirError; nothing is left behind then.
        """
        self._opened_s = time.monotonic()
        self._cancelled = False
        profile = choices.profile
        prepared = prepare(profile, choices.seed)
        started = datetime.now(UTC)
        prefix = f"r{started:%y%m%d%H%M%S}{secrets.token_hex(2)}"
        target = Target(choices.host)
        with ExitStack() as undo:
            undo.callback(target.close)
            target.check()
            run = self._folder(choices, undo)
            endpoint = self._endpoint_for(target, choices, run, undo)
            webhook_url, webhook_key = self._listen(profile, run, undo)
            undo.pop_all()
        self._target, self._endpoint, self._prepared, self._choices = target, endpoint, prepared, choices
        self.total, self.result, self._processes = Tally(), None, processes
        self.run = run
        start_epoch_s = time.time() + (LEAD_ALONE_S if processes == 1 else LEAD_S)
        self._started_s = time.monotonic() + start_epoch_s - time.time()
        self.run.write_profile(profile)
        self.run.forget_endpoint_note()
        self.run.update_meta(**self._meta(choices, prepared, endpoint, processes, prefix, start_epoch_s, started))
        return [
            Plan(
                run_dir=str(self.run.path),
                prefix=prefix,
                host=choices.host,
                endpoint_id=endpoint.endpoint_id,
                seed=choices.seed,
                process=process,
                of=processes,
                start_epoch_s=start_epoch_s,
                live=choices.live,
                client=choices.client,
                webhook_url=webhook_url,
                webhook_key=webhook_key,
            )
            for process in range(processes)
        ]

    def _folder(self, choices: Choices, undo: ExitStack) -> RunDir:
        if choices.run_dir:
            return RunDir(Path(choices.run_dir))
        run = RunDir.create(Path(choices.runs_dir), choices.profile.name, datetime.now().astimezone())
        undo.callback(_remove_if_empty, run.path)
        return run

    def _endpoint_for(self, target: Target, choices: Choices, run: RunDir, undo: ExitStack) -> EndpointInUse:
        if choices.endpoint_id:
            return target.use_endpoint(choices.endpoint_id)
        name = f"load-{secrets.token_hex(4)}"
        run.note_endpoint(choices.host, name)
        undo.callback(run.forget_endpoint_note)
        endpoint = target.make_endpoint(choices.profile, name, lambda: self._cancelled)
        undo.callback(target.remove_endpoint, endpoint.endpoint_id)
        return endpoint

    def _listen(self, profile: Profile, run: RunDir, undo: ExitStack) -> tuple[str, str]:
        """Starts the webhook receiver if the profile wants one; gives the address for the service, and the key."""
        how = profile.detection
        if how.mode != "webhook":
            self._receiver = None
            return "", ""
        key = secrets.token_urlsafe(24)
        try:
            receiver, url = start_receiver(run.receipts_file, key, how.receiver_host, how.receiver_port)
        except ChildError as error:
            raise TargetError(str(error)) from None
        undo.callback(receiver.end, 1.0)
        self._receiver = receiver
        return how.receiver_url or url, key

    def _stop_listening(self) -> None:
        """Ends the receiver once no more webhooks come; notes it when the receiver had ended before."""
        assert self.run is not None
        if self._receiver is None:
            return
        self.run.update_meta(receiver_died=self._receiver.exit_code is not None)
        settle(self.run.receipts_file)
        self._receiver.end(grace_s=5.0)
        self._receiver = None

    def close(self, parts: list[Done]) -> dict[str, Any]:
        """Asks the server what it holds, removes what the run made, judges, and writes the reports."""
        assert self.run is not None
        assert self._target is not None
        assert self._endpoint is not None
        self.run.update_meta(**self._end_meta(parts))
        try:
            self._stop_listening()
            collect(self.run, self._target, self._endpoint)
        finally:
            if self._endpoint.made_by_run:
                problem = self._target.remove_endpoint(self._endpoint.endpoint_id)
                self.run.update_meta(endpoint_removed=problem is None)
                if problem:
                    logger.error("%s", problem)
            self._target.close()
            self._choices = None
        self.result = conclude(self.run)
        return self.result

    def _meta(
        self,
        choices: Choices,
        prepared: Prepared,
        endpoint: EndpointInUse,
        processes: int,
        prefix: str,
        start_epoch_s: float,
        started: datetime,
    ) -> dict[str, Any]:
        profile = choices.profile
        live = f"Poisson, {choices.tasks_per_user:g} tasks/s for each user" if choices.live else None
        return {
            "name": profile.name,
            "prefix": prefix,
            "started": started.isoformat(timespec="seconds"),
            "start_epoch_s": start_epoch_s,
            "host": choices.host,
            "local": is_local(choices.host),
            "endpoint": attrs.asdict(endpoint),
            "seed": choices.seed,
            "processes": processes,
            "client": choices.client,
            "webhooks": self._receiver is not None,
            "arrivals": live or describe(profile, prepared),
            "prompts": prepared.prompts_name,
            "duration_s": None if choices.live else prepared.schedule.duration_s,
            "planned": None if choices.live else prepared.schedule.planned(),
            "machine": machine(),
        }

    def _end_meta(self, parts: list[Done]) -> dict[str, Any]:
        assert self._choices is not None
        assert self._prepared is not None
        stopped = [part.stopped_s for part in parts if part.stopped_s is not None]
        if self._choices.live:
            ended_s = max(stopped, default=time.monotonic() - self._started_s)
            return {"planned": sum(part.released for part in parts), "stopped_s": ended_s, "interrupted": False}
        if not stopped:
            return {"interrupted": False}
        # Each process stopped at its own moment; one that says nothing is held to the last of them.
        until_s = dict.fromkeys(range(self._processes), max(stopped))
        until_s |= {part.process: math.inf if part.stopped_s is None else part.stopped_s for part in parts}
        planned = sum(arrival.due_s < until_s[arrival.seq % self._processes] for arrival in self._prepared.schedule)
        run_time_s = self._choices.run_time_s
        asked_for = run_time_s is not None and time.monotonic() - self._opened_s >= run_time_s - RUN_TIME_SLACK_S
        return {"planned": planned, "stopped_s": max(stopped), "interrupted": not asked_for}


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _call_when_through(engine: Engine, then: Callable[[], None]) -> None:
    engine.finished.wait()
    if not engine.stopped:
        then()
