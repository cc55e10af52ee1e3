"""One simulated run: the real server among clients, workers, receivers, crashes and time, all of one seed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import heapq
import logging
import random
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

from tests.emulator.harness import START_MS, FakeClock, FakeDriver, Network, changed
from tests.scratch import scratch
from tests.simulation.clients import Clients
from tests.simulation.loop import SimLoop
from tests.simulation.parts import SimBench
from tests.simulation.peers import Receivers, Workers
from tests.simulation.plan import RETRY_S, Plan, plan_of
from tests.simulation.watch import TERMINAL, Broken, Watch, need
from yottabench.emulator import ready, webhooks
from yottabench.emulator.retention import DAY_MS
from yottabench.emulator.store import base
from yottabench.emulator.store.base import DeliveryState, StoreError
from yottabench.emulator.store.sqlite_connection import Connection, connect

_DRAIN_MAX_MS = 3 * DAY_MS
_DRAIN_MAX_STEPS = 200_000
_KINDS = (base.FinishTask, base.ReturnTask, base.RequeueTask, base.EndDelivery, base.PutWorker, base.FailOpenTasks)


class Failed(AssertionError):
    """A run broke a promise; the message says which, and the command that runs it again."""

    def __init__(self, plan: Plan, why: str, tail: list[str]) -> None:
        self.seed = plan.seed
        self.why = why
        always = f" --always {shlex.quote(','.join(sorted(plan.always)))}" if plan.always else ""
        self.again = f"Again: python -m tests.simulation {self.seed} --trace{always}"
        lines = "\n  ".join(tail)
        super().__init__(f"Seed {self.seed}: {why}\n  {lines}\n{self.again}")


@attrs.define
class Run:
    """What a run that kept every promise did; `trace` is the hash of all that happened, in its order."""

    seed: int
    steps: int
    trace: str
    counts: dict[str, int]


class World:
    """See the module. Use `run`."""

    def __init__(self, plan: Plan, folder: Path, tell: Callable[[str], None] | None = None) -> None:
        self.plan = plan
        self.chance = random.Random(f"run {plan.seed}")
        self.network = Network()
        self.clock = FakeClock(START_MS)
        self.counts: dict[str, int] = {}
        self.steps = 0
        self.draining = False
        self.boots = 0
        self.booted_ms = START_MS
        self._folder = folder
        self._tell = tell
        self._hash = hashlib.sha256()
        self._tail: list[str] = []
        self._graves: list[Any] = []
        self.watch = Watch([int(each * 1000) for each in RETRY_S], int(plan.settings["retention_days"] * DAY_MS), 4)
        self.workers = Workers(self)
        self.receivers = Receivers(self)
        self.clients = Clients(self)
        self._sql: Connection
        self.boot()

    # ---- the record

    def note(self, event: str, *about: Any) -> None:
        """One line of the trace."""
        line = " ".join([f"{self.steps}", f"+{(self.clock.ms - START_MS) / 1000:.3f}", event, *map(str, about)])
        self._hash.update(line.encode() + b"\n")
        self._tail = [*self._tail[-30:], line]
        self.counts[event] = self.counts.get(event, 0) + 1
        if self._tell is not None:
            self._tell(line)

    # ---- the server

    def boot(self) -> None:
        """A server on the folder, at the time that it is."""
        self.clock = FakeClock(self.clock.ms)
        self.loop = SimLoop(self.clock)
        self.loop.enter()
        self.boots += 1
        self.booted_ms = self.clock.ms
        self.driver = FakeDriver(self.network)
        self.workers.adopt(self.driver)
        self.bench = SimBench(self._folder, self.clock, self.network, self.driver, **self.plan.settings)
        self.writer = self.bench.writer
        self.writer.committed = self._committed
        self.bench.emulator.retention.start()
        self._sql = connect(self._folder / "yottabench.sqlite")
        self.note("boot")
        self._look(recovered=True)

    def _look(self, *, recovered: bool = False) -> None:
        self.watch.look(self._sql, self.clock.ms, recovered=recovered)

    def crash(self) -> None:
        """As kill -9, then a new server."""
        self.note("crash")
        self.clients.lose_touch()
        self.bench.kill()
        self.loop.bury()
        self._next_server()

    def restart(self) -> None:
        """A clean end, then a new server."""
        self.note("restart")
        self.bench.emulator.control.ready = False
        ending = self.loop.create_task(self.bench.close())
        for _ in range(10_000):
            if ending.done():
                break
            if self.loop.ready:
                self.loop.step()
            elif self.writer.waiting or self.writer.unheard:
                self.writer.commit_now() if self.writer.waiting else self.writer.answer_now()
            else:
                self.pass_time(1)
            self._look_around()
        need(ending.done() and ending.exception() is None, "A server that is told to end ends.", ending)
        self.clients.lose_touch()
        self._unexpected()
        self.writer.drop()
        self.loop.bury()
        self._next_server()

    def _next_server(self) -> None:
        self._sql.close()
        self._graves.append((self.loop, self.bench))
        self.clock.ms += self.chance.choice([1, 1, 1000, 90_000])
        if self.plan.has("clock set back") and self.chance.random() < 0.3:
            self.clock.ms -= self.chance.choice([2_000, 7_200_000])
        self.boot()

    def _committed(self, commands: list[Any], outcomes: Any) -> None:
        refused = isinstance(outcomes, StoreError)
        what = commands if refused else zip(commands, outcomes, strict=True)
        self.note("refused" if refused else "commit", *what)
        if not refused:
            self.workers.check_leases(commands, outcomes)
        self._look()

    def _unexpected(self) -> None:
        need(not self.loop.errors, "No error goes unhandled.", self.loop.errors)

    # ---- time

    def pass_time(self, milliseconds: int) -> None:
        self.clock.ms += milliseconds
        self.note("time", milliseconds)

    def fire(self) -> None:
        """Run the timer that is due first."""
        self.clock.next_due_ms()  # lets go of those that were called off
        booked = heapq.heappop(self.clock._booked)
        if booked.run is not None:
            self.loop.call_soon(booked.run)

    @property
    def timer_is_due(self) -> bool:
        due_ms = self.clock.next_due_ms()
        return due_ms is not None and due_ms <= self.clock.ms

    @property
    def at_rest(self) -> bool:
        """Nothing happens before time passes or somebody outside acts."""
        return not (self.loop.ready or self.writer.waiting or self.writer.unheard or self.timer_is_due)

    def _sleep(self) -> None:
        due_ms = self.clock.next_due_ms()
        to_due = max(1, due_ms - self.clock.ms) if due_ms is not None else 1000
        if self.plan.has("clock jumps") and self.chance.random() < 0.03:
            wait_ms = self.chance.choice([3_600_000, 7_200_000])
            wait_ms = min(wait_ms, to_due) if self.plan.prompt else wait_ms
        elif self.plan.prompt:
            wait_ms = self.chance.choice([to_due, to_due, max(1, to_due // 2)])
        else:
            wait_ms = self.chance.choice([1, to_due, to_due + 1, to_due + 700, 2 * to_due])
        self.pass_time(wait_ms)

    # ---- what happens next

    def _inside(self) -> Iterator[tuple[float, Callable[[], None]]]:
        if self.loop.ready:
            yield 12, self._turn
        if self.writer.waiting:
            yield 6, self.writer.commit_now
        if self.writer.unheard:
            yield 6, self.writer.answer_now
        if self.timer_is_due:
            yield 6, self.fire

    def _turn(self) -> None:
        for _ in range(min(len(self.loop.ready), self.chance.randint(1, 8))):
            self.loop.step()

    def _outside(self) -> Iterator[tuple[float, Callable[[], None]]]:
        yield from self.clients.may()
        yield from self.workers.may()
        yield from self.receivers.may()
        if self.plan.has("crashes"):
            yield 0.5, self.crash
        if self.plan.has("clean restarts") and self.chance.random() < 0.3:
            yield 1, self.restart
        if self.plan.has("refused commits"):
            yield 1, self._refuse
        if self.plan.has("refused reads"):
            yield 1, self._refuse_reads
        if self.plan.has("ends leases"):
            yield 1, self._end_leases
        if self.at_rest or (self.plan.has("late timers") and self.chance.random() < 0.3):
            yield 8, self._sleep

    def _refuse(self) -> None:
        if self.chance.random() < 0.4:
            self.writer.refuse = self.chance.choice([1, 3])
        else:
            self.writer.refuse_those[self.chance.choice(_KINDS)] = 1

    def _refuse_reads(self) -> None:
        self.bench.store.refuse_reads = 1

    def _end_leases(self) -> None:
        """As advancing the clock does."""
        self.note("end leases")
        self.bench.emulator.control._on.leases.run_due(self.clock.ms)

    def step(self) -> None:
        """One thing happens; what it did is held against the promises."""
        self.steps += 1
        options = [*self._inside(), *self._outside()]
        act = self.chance.choices([each for _, each in options], [weight for weight, _ in options])[0]
        act()
        self._look_around()

    def _look_around(self) -> None:
        self.workers.look()
        self.receivers.look()
        self.clients.look()
        self._unexpected()

    # ---- the end

    def drain(self) -> None:
        """The faults are over: everything that was acknowledged ends, and all who wait are told."""
        self.draining = True
        self.note("drain")
        self.writer.refuse = self.bench.store.refuse_reads = 0
        self.writer.refuse_those.clear()
        until_ms = self.clock.ms + _DRAIN_MAX_MS
        self.clients.heal()
        for _ in range(_DRAIN_MAX_STEPS):
            self.steps += 1
            inside = next((act for _, act in self._inside()), None)
            if inside is not None:
                inside()
            elif not (self.workers.serve() or self.receivers.serve()):
                if self._is_over():
                    break
                due_ms = self.clock.next_due_ms()
                need(due_ms is not None and due_ms <= until_ms, "Everything acknowledged ends.", *self._open())
                assert due_ms is not None
                self.pass_time(max(0, due_ms - self.clock.ms))
                self.clients.heal()
            self._look_around()
        need(self._is_over(), "Everything acknowledged ends.", *self._open())
        self.clients.check_all()
        self.workers.check_all()
        self.receivers.check_all()

    def _open(self) -> list[Any]:
        tasks = [row for row in self.watch.tasks.values() if row.state not in TERMINAL]
        over = {DeliveryState.ACKED, DeliveryState.EXHAUSTED}
        return [*tasks, *(each for each in self.watch.deliveries.values() if each.state not in over)]

    def _is_over(self) -> bool:
        return not self._open() and not self.clients.pending

    def close(self) -> Run:
        """The record of the run."""
        self._sql.close()
        self.bench.kill()
        self.loop.bury()
        return Run(self.plan.seed, self.steps, self._hash.hexdigest(), dict(sorted(self.counts.items())))

    def abandon(self, error: BaseException) -> Failed:
        """The run ends here."""
        with contextlib.suppress(Exception):
            self._sql.close()
            self.bench.kill()
            self.loop.bury()
        return Failed(self.plan, f"{type(error).__name__}: {error}", self._tail)


def _windows(plan: Plan) -> contextlib.AbstractContextManager[Any]:
    stack = contextlib.ExitStack()
    if plan.has("small windows"):
        stack.enter_context(changed(ready, READY_WINDOW_TASKS=4, _REFILL_TASKS=2))
        stack.enter_context(changed(webhooks, DELIVERY_WINDOW=8, DELIVERIES_PER_DESTINATION=2))
    return stack


def run(seed: int, tell: Callable[[str], None] | None = None, always: frozenset[str] = frozenset()) -> Run:
    """Simulate one seed; Failed when a promise is broken. `tell` gets each line of the trace.

    `always`: features that the plan has whatever the seed says.
    """
    plan = plan_of(seed, always)
    before = asyncio._get_running_loop()
    logging.disable(logging.CRITICAL)
    with scratch() as folder, _windows(plan):
        world = World(plan, folder / "data", tell)
        try:
            while world.steps < plan.steps:
                world.step()
            world.drain()
            return world.close()
        except (Broken, AssertionError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise world.abandon(error) from error
        finally:
            asyncio._set_running_loop(before)
            logging.disable(logging.NOTSET)
