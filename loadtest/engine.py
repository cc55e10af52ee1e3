"""One process's part of a run: paces the arrivals, submits, looks for ends, and writes all of it to the journal."""

import gc
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import attrs
import gevent
from gevent.event import Event
from gevent.queue import SimpleQueue

from loadtest.hearing import Hearing
from loadtest.meter import Meter, whole_second_after
from loadtest.pacer import Waiter, make_waiter
from loadtest.watch import Flight, Watch
from loadtest.wire import Seen, Submitted, Wire
from yottabench.load.bodies import Body, marked
from yottabench.load.breaches import BREACHES, Submit, breach_of
from yottabench.load.journal import JournalWriter, task_id
from yottabench.load.profile import Profile
from yottabench.load.rundir import RunDir
from yottabench.load.schedule import Arrival, LiveSchedule, Schedule

LONGEST_WAIT_S = 0.05  # how soon the pacer notices a stop or another rate
BEHIND_S = 0.0005  # from here on the pacer is behind
BURST = 16  # tasks it releases then before others may run
LIVE_STRIDE = 4096  # more processes than ever run together: keeps live sequence numbers apart

logger = logging.getLogger(__name__)


class RequestListener(Protocol):
    """Told of each request, as Locust's `request` event is."""

    def __call__(self, *, method: str, name: str, seconds: float, length: int, error: str | None) -> None:
        """One request took `seconds` and brought `length` bytes; `error` says what was wrong, if anything."""
        ...


@attrs.frozen
class Plan:
    """What a process is told when a run starts; plain data, so that a master can send it."""

    run_dir: str
    prefix: str
    host: str
    endpoint_id: str
    seed: int
    process: int
    of: int
    start_epoch_s: float
    live: bool
    client: str
    webhook_url: str = ""
    webhook_key: str = attrs.field(default="", repr=False)


@attrs.frozen
class Done:
    """How a process's part ended: tasks released to be sent, tasks still open, when sending stopped early, and why."""

    process: int
    released: int
    open: int
    stopped_s: float | None
    error: str | None


class Engine:
    """Sends the stripe of a schedule that falls to this process, from `start` until it is through or `stop` is called.

    Times are seconds from the start of the run, which is the same moment in every process.
    """

    def __init__(
        self,
        plan: Plan,
        profile: Profile,
        schedule: Schedule | None,
        make_body: Callable[[Arrival], Body],
        wire: Wire,
        on_request: RequestListener,
    ) -> None:
        self.plan = plan
        self.finished = Event()
        self._profile = profile
        self._make_body = make_body
        self._wire = wire
        self._on_request = on_request
        self._zero_s = time.monotonic() + plan.start_epoch_s - time.time()
        self._live = LiveSchedule(plan.seed, plan.process, LIVE_STRIDE) if plan.live else None
        self._stripe = schedule.stripe(plan.process, plan.of) if schedule is not None else iter(())
        run = RunDir(Path(plan.run_dir))
        run.path.mkdir(parents=True, exist_ok=True)
        self._journal = JournalWriter(run.journal_file(plan.process), self._header())
        self.meter = Meter(run.metrics_file(plan.process))
        give_up_s = profile.limits.request_timeout_s
        share = 1 / plan.of
        self._watch = Watch(wire, profile.detection, self.now_s, self._ended, self._looked, give_up_s, share)
        self._hearing: Hearing | None = None
        if plan.webhook_url:
            self._hearing = Hearing(run.receipts_file, plan.prefix, self._mine, plan.start_epoch_s, self._watch.hear)
        self._due: SimpleQueue[Arrival] = SimpleQueue()
        self._idle = self._busy = self._senders = self._released = 0
        self._stopped_s: float | None = None
        self._error: str | None = None
        self._sender_greenlets: list[gevent.Greenlet[..., None]] = []
        self._greenlets: list[gevent.Greenlet[..., None]] = []

    def start(self) -> None:
        """Begins to send at the run's start; returns at once."""
        # Long-lived objects need no more scans: a full collection would stop the pacer for milliseconds.
        gc.collect()
        gc.freeze()
        self._greenlets = [gevent.spawn(self._pace), gevent.spawn(self._tick_on)]

    @property
    def stopped(self) -> bool:
        """Whether the sending was ended before the schedule was through."""
        return self._stopped_s is not None

    @property
    def released(self) -> int:
        """How many tasks were handed out to be sent by now."""
        return self._released

    def now_s(self) -> float:
        """Seconds since the start of the run."""
        return time.monotonic() - self._zero_s

    def set_rate(self, rate: float) -> None:
        """Changes the rate of a live run, in tasks per second."""
        if self._live is not None:
            self._live.set_rate(self.now_s(), rate)

    def stop(self) -> None:
        """Ends the sending: what is due by now is still sent, nothing after."""
        if self._stopped_s is None and not self.finished.is_set():
            self._stopped_s = max(0.0, self.now_s())

    def drain(self) -> Done:
        """Waits until everything due was sent and every task has ended, or the profile's drain is over; closes all."""
        self.stop()
        until_s = self.now_s() + self._profile.limits.drain_timeout_s
        while self.now_s() < until_s and self._error is None:
            if self.finished.is_set() and not self._due.qsize() and not self._busy and not self._watch.open:
                break
            gevent.sleep(0.02)
        self._watch.close()
        if self._hearing is not None:
            self._hearing.close()
        gevent.killall(self._greenlets + self._sender_greenlets)
        self.meter.tick(self.now_s(), self._watch.open)
        self.meter.close()
        done = Done(self.plan.process, self._released, self._watch.open, self._stopped_s, self._error)
        try:
            self._journal.close(released=done.released, open=done.open, stopped_s=done.stopped_s, error=done.error)
        except OSError as error:
            logger.error("The journal could not be closed: %s", error)
        self._wire.close()
        return done

    def _mine(self, seq: int) -> bool:
        return seq % (LIVE_STRIDE if self.plan.live else self.plan.of) == self.plan.process

    def _header(self) -> dict[str, Any]:
        stride = LIVE_STRIDE if self.plan.live else self.plan.of
        return {"prefix": self.plan.prefix, "process": self.plan.process, "of": stride} | {
            "start_epoch_s": self.plan.start_epoch_s,
            "seed": self.plan.seed,
        }

    def _arrivals(self) -> Iterator[Arrival]:
        """The arrivals, each when its time has come; ends when the schedule does or the run is stopped."""
        waiter = make_waiter()
        try:
            if self._live is not None:
                while self._wait_until(waiter, self._live.due_s):
                    yield self._live.take()
                return
            for arrival in self._stripe:
                due_s = arrival.due_s
                if not self._wait_until(waiter, lambda due_s=due_s: due_s):
                    return
                yield arrival
        finally:
            waiter.close()

    def _wait_until(self, waiter: Waiter, due_s: Callable[[], float]) -> bool:
        """Waits in short stretches, since a stop or another rate may come meanwhile; False when the run was stopped."""
        while True:
            when_s = due_s()
            if self._stopped_s is not None and when_s >= self._stopped_s:
                return False
            now_s = self.now_s()
            if when_s <= now_s:
                return True
            waiter.until(self._zero_s + min(when_s, now_s + LONGEST_WAIT_S))

    def _pace(self) -> None:
        unbroken = 0
        for arrival in self._arrivals():
            self._released += 1
            if self._due.qsize() >= self._idle and self._senders < self._profile.limits.senders:
                self._senders += 1
                self._sender_greenlets += [gevent.spawn(self._send_on)]
            self._due.put(arrival)
            # A pacer that is behind never waits, so it must let the senders run of its own accord.
            unbroken = unbroken + 1 if self.now_s() - arrival.due_s > BEHIND_S else 0
            if unbroken >= BURST:
                unbroken = 0
                gevent.sleep(0)
        self.finished.set()

    def _tick_on(self) -> None:
        while True:
            next_s = max(0.0, whole_second_after(self.now_s()))
            gevent.sleep(next_s - self.now_s())
            self.meter.tick(self.now_s(), self._watch.open)

    def _send_on(self) -> None:
        while True:
            self._idle += 1
            arrival = self._due.get()
            self._idle -= 1
            self._busy += 1
            try:
                self._send(arrival)
            except OSError as error:
                # Only the journal raises it here; without a journal the run proves nothing.
                self._error = str(error)
                logger.error("The run ends: the journal cannot be written: %s", error)
                self.stop()
            finally:
                self._busy -= 1

    def _send(self, arrival: Arrival) -> None:
        task = self._profile.task
        identifier = task_id(self.plan.prefix, arrival.seq)
        body = self._make_body(arrival)
        if task.mark:
            body = marked(body, identifier)
        sent_s = self.now_s()
        self._journal.intent(arrival.seq, identifier, arrival.due_s, sent_s)
        self.meter.late(sent_s - arrival.due_s)
        counts = self.meter.now.counts
        counts["due"] += 1
        submit = Submit(identifier, body, task.worker_port, task.process_uri)
        rule = breach_of(arrival.seq, task.bad)
        if rule is not None:
            submit = BREACHES[rule](submit)
        answer = self._wire.submit(submit.task_id, submit.input, submit.worker_port, submit.process_uri)
        at_s = self.now_s()
        self._answered(arrival, identifier, sent_s, at_s, answer)
        error = None if answer.ok or (rule is not None and answer.refused) else answer.why
        self._on_request(method="POST", name="submitTask", seconds=at_s - sent_s, length=answer.length, error=error)

    def _answered(self, arrival: Arrival, identifier: str, sent_s: float, at_s: float, answer: Submitted) -> None:
        counts = self.meter.now.counts
        counts["sent"] += 1
        if answer.ok:
            self._journal.accepted(arrival.seq, at_s)
            counts["accepted"] += 1
            self.meter.now.latencies["submit"].record_s(at_s - arrival.due_s)
        elif answer.refused:
            self._journal.refused(arrival.seq, at_s, answer.http, answer.code)
            counts["throttled" if answer.throttled else "refused"] += 1
            return
        else:
            self._journal.unknown(arrival.seq, at_s, answer.why)
            counts["unknown"] += 1
        self._watch.add(Flight(arrival.seq, identifier, arrival.due_s, sent_s, answer.ok, at_s))

    def _ended(self, flight: Flight, seen: Seen, at_s: float, by: str) -> None:
        own = None if seen.mark is None else seen.mark == flight.task_id
        self._journal.ended(flight.seq, at_s, seen.status, seen.created_ms, seen.updated_ms, by=by, own_result=own)
        tally = self.meter.now
        tally.counts["ended"] += 1
        tally.counts["failed"] += seen.status == "FAILED"
        tally.latencies["e2e"].record_s(at_s - flight.due_s)

    def _looked(self, name: str, seconds: float, length: int, error: str | None) -> None:
        self.meter.now.counts["looks"] += 1
        self.meter.now.counts["lists"] += name == "listTasks"
        self._on_request(method="GET", name=name, seconds=seconds, length=length, error=error)
