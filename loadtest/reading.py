"""The reads of a mixed load: made in an open loop of their own beside the submits, and counted from their due times."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import gevent
from gevent.pool import Pool

from loadtest.engine import LONGEST_WAIT_S, Engine, Plan, RequestListener
from loadtest.pacer import make_waiter
from loadtest.wire import Look, Wire, WireError
from yottabench.load.journal import task_id
from yottabench.load.reads import ReadTally, reads_file, write_tally
from yottabench.load.rundir import RunDir
from yottabench.load.schedule import Arrival, Schedule

PAGE_SIZE = 20  # a page as people look at it
LISTED = "SUCCESS"
NAMES = {"get": "getTaskById", "list": "listTasks", "count": "getTaskCount"}
MOST_AT_ONCE = 1000


class Reading:
    """Makes this process's share of the reads from `start` until their schedules are through or `stop` is called."""

    def __init__(
        self, plan: Plan, schedules: Mapping[str, Schedule], wire: Wire, engine: Engine, on_request: RequestListener
    ) -> None:
        self._plan = plan
        self._schedules = schedules
        self._wire = wire
        self._engine = engine
        self._on_request = on_request
        self._path = reads_file(RunDir(Path(plan.run_dir)), plan.process)
        self._tallies = {name: ReadTally() for name in schedules}
        self._zero_s = time.monotonic() - engine.now_s()
        self._at_work = Pool(MOST_AT_ONCE)
        self._greenlets: list[gevent.Greenlet[..., None]] = []

    def start(self) -> None:
        """Begins at the run's start; returns at once."""
        self._greenlets = [gevent.spawn(self._pace, name) for name in self._schedules]
        self._greenlets += [gevent.spawn(self._write_on)]

    def stop(self) -> None:
        """Makes no more reads, waits for those under way, and writes down the rest."""
        gevent.killall(self._greenlets)
        self._at_work.join()
        self._write()

    def _pace(self, name: str) -> None:
        waiter = make_waiter()
        try:
            for arrival in self._schedules[name].stripe(self._plan.process, self._plan.of):
                while (now_s := self._engine.now_s()) < arrival.due_s:
                    waiter.until(self._zero_s + min(arrival.due_s, now_s + LONGEST_WAIT_S))
                if self._engine.stopped:
                    return
                self._at_work.spawn(self._read, name, arrival)
        finally:
            waiter.close()

    def _read(self, name: str, arrival: Arrival) -> None:
        sent_s = self._engine.now_s()
        length, problem, throttled = 0, None, False
        try:
            length = self._call(name, arrival)().length
        except WireError as error:
            problem, throttled = str(error), 429 in (error.http, error.code)
        at_s = self._engine.now_s()
        tally = self._tallies[name]
        tally.made += 1
        tally.throttled += throttled
        tally.errors += problem is not None and not throttled
        if problem is None:
            tally.latencies.record_s(at_s - arrival.due_s)
        self._on_request(method="GET", name=NAMES[name], seconds=at_s - sent_s, length=length, error=problem)

    def _call(self, name: str, arrival: Arrival) -> Callable[[], Look]:
        if name == "get":
            # Of the tasks that this process has sent; one that was refused or is not there yet is an answer too.
            seq = arrival.draw % max(1, self._engine.released) * self._plan.of + self._plan.process
            return lambda: self._wire.look(task_id(self._plan.prefix, seq))
        if name == "list":
            return lambda: self._wire.page(LISTED, 1, PAGE_SIZE)
        return self._wire.count

    def _write_on(self) -> None:
        while True:
            gevent.sleep(1.0)
            self._write()

    def _write(self) -> None:
        for name, tally in self._tallies.items():
            if tally.made:
                self._tallies[name] = ReadTally()
                write_tally(self._path, self._engine.now_s(), name, tally)
