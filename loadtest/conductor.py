"""A run from start to verdict, in each of Locust's roles: alone, master, worker."""

import logging
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import gevent
from gevent.event import AsyncResult
from gevent.lock import BoundedSemaphore

from loadtest.engine import Done, Engine, Plan, RequestListener
from loadtest.meter import Tally
from loadtest.wire import Wire
from yottabench.load.finish import finish
from yottabench.load.prepare import Prepared, describe, prepare
from yottabench.load.profile import Profile, parse_profile
from yottabench.load.rundir import RunDir
from yottabench.load.target import Target, TargetError, api_key_for

START, STOP, FINISHED, DONE = "yottabench-start", "yottabench-stop", "yottabench-finished", "yottabench-done"
# Time for every process to have its plan before the first task is due.
LEAD_ALONE_S, LEAD_S = 0.5, 2.0
# What a master waits for a process beyond the profile's drain before it goes on without.
PATIENCE_S = 15.0

logger = logging.getLogger("yottabench")


@attrs.frozen
class Choices:
    """What was asked for on the command line or in the web form."""

    profile: Profile
    live: bool
    host: str
    endpoint_id: str
    seed: int
    client: str
    tasks_per_user: float
    run_dir: str
    runs_dir: str


class Performer:
    """The part of a run that sends: in a worker, or in a process that runs alone."""

    def __init__(self, on_request: RequestListener) -> None:
        self._on_request = on_request
        self._engine: Engine | None = None
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
        wire = Wire(
            plan.host,
            api_key_for(plan.host),
            plan.endpoint_id,
            kind=plan.client,
            timeout_s=profile.limits.request_timeout_s,
        )
        schedule = None if plan.live else prepared.schedule
        self._engine = Engine(plan, profile, schedule, prepared.make_body, wire, self._on_request)
        self._done = None
        self._per_user = tasks_per_user
        self._set_rate()
        self._engine.start()
        self._engine.finished.rawlink(lambda _: gevent.spawn(on_finished))

    def end(self) -> Done | None:
        """Stops sending, drains and closes, once; every caller gets the same answer. None when nothing runs."""
        if self._engine is None:
            return None
        if self._done is None:
            self._done = AsyncResult()
            self._done.set(self._engine.drain())
        return self._done.get()

    def forget(self) -> None:
        """Lets go of a run that has ended."""
        self._engine = None

    def take_tally(self) -> Tally | None:
        """What was measured since the last call, None when nothing runs."""
        return self._engine.meter.take_unreported() if self._engine is not None else None

    def _set_rate(self) -> None:
        if self._engine is not None:
            self._engine.set_rate(self._users * self._per_user)
