"""Looks for the ends of tasks in flight: by GETs with growing intervals, or by sweeps over the list of tasks."""

import heapq
from collections.abc import Callable

import attrs
import gevent
from gevent.event import Event
from gevent.queue import SimpleQueue

from loadtest.wire import Look, Seen, Wire, WireError
from yottabench.load.profile import Detection

PAGE_SIZE = 100  # the most that the API gives at once


@attrs.define(eq=False)
class Flight:
    """A task whose end is not known yet; not `acknowledged` when the submit got no answer. Times are the run's."""

    seq: int
    task_id: str
    due_s: float
    sent_s: float
    acknowledged: bool
    since_s: float
    interval_s: float = 0.0


class Watch:
    """Keeps the tasks in flight, looks for their ends, and hands each to `on_end` once, with the time it was seen.

    Errors of single looks are counted by `on_look` and tried again later; they never end the watch.
    """

    def __init__(
        self,
        wire: Wire,
        detection: Detection,
        now_s: Callable[[], float],
        on_end: Callable[[Flight, Seen, float], None],
        on_look: Callable[[str, float, int, str | None], None],
        give_up_s: float,
    ) -> None:
        self._wire = wire
        self._how = detection
        self._now_s = now_s
        self._on_end = on_end
        self._on_look = on_look
        self._give_up_s = give_up_s
        self._flights: dict[str, Flight] = {}
        self._heap: list[tuple[float, int, Flight]] = []
        self._wake = Event()
        self._ready: SimpleQueue[Flight] = SimpleQueue()
        self._greenlets: list[gevent.Greenlet[..., None]] = [gevent.spawn(self._dispatch)]
        self._greenlets += [gevent.spawn(self._poll) for _ in range(detection.pollers)]
        if detection.mode == "sweep":
            self._greenlets += [gevent.spawn(self._sweep_on)]

    @property
    def open(self) -> int:
        """How many tasks are in flight."""
        return len(self._flights)

    @property
    def acknowledged_open(self) -> int:
        """How many tasks in flight are known to be the server's."""
        return sum(1 for flight in self._flights.values() if flight.acknowledged)

    def add(self, flight: Flight) -> None:
        """From now on the task is looked for."""
        self._flights[flight.task_id] = flight
        # A sweep sees what was acknowledged; whether the others exist only their own GET can tell.
        if self._how.mode == "get" or not flight.acknowledged:
            flight.interval_s = self._how.first_ms / 1000
            self._look_at(flight, flight.since_s + flight.interval_s)

    def close(self) -> None:
        """Stops looking."""
        gevent.killall(self._greenlets)

    def _look_at(self, flight: Flight, when_s: float) -> None:
        sooner = not self._heap or when_s < self._heap[0][0]
        heapq.heappush(self._heap, (when_s, flight.seq, flight))
        if sooner:
            self._wake.set()

    def _dispatch(self) -> None:
        while True:
            left_s = self._heap[0][0] - self._now_s() if self._heap else None
            if left_s is None or left_s > 0:
                self._wake.wait(left_s)
                self._wake.clear()
                continue
            flight = heapq.heappop(self._heap)[2]
            if flight.task_id in self._flights:
                self._ready.put(flight)

    def _poll(self) -> None:
        while True:
            flight = self._ready.get()
            look = self._look("getTaskById", lambda flight=flight: self._wire.look(flight.task_id))
            if look is not None:
                self._take(look)
            if flight.task_id not in self._flights:
                continue
            now_s = self._now_s()
            if look is not None and not look.tasks and not flight.acknowledged:
                if now_s - flight.since_s > self._give_up_s:
                    del self._flights[flight.task_id]  # never came; the audit asks once more
                    continue
            elif look is not None and look.tasks:
                flight.acknowledged = True
            flight.interval_s = min(flight.interval_s * self._how.factor, self._how.longest_ms / 1000)
            self._look_at(flight, now_s + max(flight.interval_s, 0.001))

    def _sweep_on(self) -> None:
        every_s = self._how.sweep_every_ms / 1000
        next_s = self._now_s() + every_s
        while True:
            gevent.sleep(max(0.001, next_s - self._now_s()))
            # A sweep that takes longer than its interval is followed by the next, not by all that were missed.
            next_s = max(next_s + every_s, self._now_s())
            self._sweep()

    def _sweep(self) -> None:
        """Goes through the newest tasks until every acknowledged one in flight was met, or the pages are used up."""
        missing = {flight.task_id for flight in self._flights.values() if flight.acknowledged}
        for number in range(1, self._how.sweep_pages + 1):
            if not missing:
                return
            look = self._look("listTasks", lambda number=number: self._wire.page(number, PAGE_SIZE))
            if look is None or not look.tasks:
                return
            self._take(look)
            missing.difference_update(seen.task_id for seen in look.tasks)
        for task_id in missing:
            flight = self._flights.get(task_id)
            if flight is not None and not flight.interval_s:
                # Too old for the sweep: from now on it is asked for by itself.
                flight.interval_s = self._how.longest_ms / 1000
                self._look_at(flight, self._now_s())

    def _look(self, name: str, call: Callable[[], Look]) -> Look | None:
        start_s = self._now_s()
        try:
            look = call()
        except WireError as error:
            self._on_look(name, self._now_s() - start_s, 0, str(error))
            return None
        self._on_look(name, self._now_s() - start_s, look.length, None)
        return look

    def _take(self, look: Look) -> None:
        at_s = self._now_s()
        for seen in look.tasks:
            if seen.ended:
                flight = self._flights.pop(seen.task_id, None)
                if flight is not None:
                    self._on_end(flight, seen, at_s)
