"""Looks for the ends of tasks in flight: by GETs, by sweeps over the ended tasks, by webhooks, or several of them."""

import heapq
from collections.abc import Callable
from typing import Protocol

import attrs
import gevent
from gevent.event import Event
from gevent.queue import SimpleQueue

from loadtest.budget import Budget
from loadtest.wire import Look, Seen, Wire, WireError
from yottabench.load.detection import Detection, Intervals

PAGE_SIZE = 100  # the most that the API gives at once
TYPICAL_WEIGHT = 0.02  # of the newest task in the running mean of how long tasks take
ENDED = ("SUCCESS", "FAILED", "DELIVERED")  # the states that an end may show as
MOST_EARLY = 10_000  # webhooks of tasks whose submit has no answer yet


@attrs.define(eq=False)
class Flight:
    """A task whose end is not known yet; not `acknowledged` when the submit got no answer. Times are the run's."""

    seq: int
    task_id: str
    due_s: float
    sent_s: float
    acknowledged: bool
    since_s: float
    looks: int = 0
    scheduled: bool = False


class OnEnd(Protocol):
    """Told of each end once: when it was seen, and by what (get, list or webhook)."""

    def __call__(self, flight: Flight, seen: Seen, at_s: float, by: str) -> None:
        """The task in flight was seen to have ended."""
        ...


class Watch:
    """Keeps the tasks in flight, looks for their ends, and hands each to `on_end` once, with the time it was seen.

    Errors of single looks are counted by `on_look` and tried again later; they never end the watch. `share` is this
    process's part of the request budget.
    """

    def __init__(
        self,
        wire: Wire,
        detection: Detection,
        now_s: Callable[[], float],
        on_end: OnEnd,
        on_look: Callable[[str, float, int, str | None], None],
        give_up_s: float,
        share: float = 1.0,
    ) -> None:
        self._wire = wire
        self._how = detection
        self._intervals = Intervals(detection)
        self._budget = Budget(detection.api_qps * share, now_s)
        self._now_s = now_s
        self._on_end = on_end
        self._on_look = on_look
        self._give_up_s = give_up_s
        self._flights: dict[str, Flight] = {}
        self._early: dict[str, tuple[Seen, float]] = {}
        self._heap: list[tuple[float, int, Flight]] = []
        self._wake = Event()
        self._ready: SimpleQueue[Flight] = SimpleQueue()
        self._newest_ended = -1
        self._typical_s = 0.0
        self._greenlets: list[gevent.Greenlet[..., None]] = [gevent.spawn(self._dispatch)]
        self._greenlets += [gevent.spawn(self._poll) for _ in range(detection.pollers)]
        if detection.sweeps:
            self._greenlets += [gevent.spawn(self._sweep_on)]

    @property
    def open(self) -> int:
        """How many tasks are in flight."""
        return len(self._flights)

    def add(self, flight: Flight) -> None:
        """From now on the task is looked for."""
        self._flights[flight.task_id] = flight
        early = self._early.pop(flight.task_id, None)
        if early is not None:
            self.hear(*early, first=True)
        # A sweep sees what was acknowledged; whether the others exist only their own GET can tell.
        elif not self._others_do or not flight.acknowledged:
            self._look_at(flight, flight.since_s + self._intervals.next_s(0.0, 0))

    def hear(self, seen: Seen, at_s: float, first: bool) -> None:
        """A webhook, the `first` of its task or another send, told at `at_s` that a task of this process has ended."""
        flight = self._flights.pop(seen.task_id, None)
        if flight is not None:
            self._end(flight, seen, at_s, "webhook")
        elif first and len(self._early) < MOST_EARLY:
            # A quick worker's webhook may overtake the answer to the submit.
            self._early[seen.task_id] = (seen, at_s)

    @property
    def _others_do(self) -> bool:
        """Whether sweeps or webhooks alone are good enough: sweeps are when tasks take longer than one interval."""
        slow = self._typical_s > self._how.sweep_every_s
        return not self._how.gets_tasks or (self._how.mode == "hybrid" and slow)

    def close(self) -> None:
        """Stops looking."""
        gevent.killall(self._greenlets)

    def _look_at(self, flight: Flight, when_s: float) -> None:
        flight.scheduled = True
        sooner = not self._heap or when_s < self._heap[0][0]
        heapq.heappush(self._heap, (when_s, flight.seq, flight))
        if sooner:
            self._wake.set()

    def _dispatch(self) -> None:
        """Hands out the looks that are due, no faster than allowed."""
        while True:
            left_s = self._heap[0][0] - self._now_s() if self._heap else None
            if left_s is None or left_s > 0:
                self._wake.wait(left_s)
                self._wake.clear()
                continue
            if self._heap[0][2].task_id not in self._flights:
                heapq.heappop(self._heap)
                continue
            self._budget.take()
            flight = heapq.heappop(self._heap)[2]
            if flight.task_id in self._flights:
                self._ready.put(flight)
            else:
                self._budget.give_back()

    def _poll(self) -> None:
        while True:
            flight = self._ready.get()
            flight.scheduled = False
            look = self._look("getTaskById", lambda flight=flight: self._wire.look(flight.task_id))
            flight.looks += 1
            if look is not None:
                self._take(look, "get")
            if flight.task_id in self._flights:
                self._not_yet(flight, look)

    def _not_yet(self, flight: Flight, look: Look | None) -> None:
        """The task was not seen to have ended: when is it looked at again, if at all?"""
        now_s = self._now_s()
        open_s = now_s - flight.since_s
        if look is not None and look.tasks:
            flight.acknowledged = True
        elif look is not None and not flight.acknowledged and open_s > self._give_up_s:
            del self._flights[flight.task_id]  # it never came; the audit asks once more
            return
        overtaken = flight.seq < self._newest_ended
        left_to_others = self._others_do or flight.looks >= self._how.gets
        if self._how.sweeps and flight.acknowledged and left_to_others and not overtaken:
            return
        self._look_at(flight, now_s + self._intervals.next_s(open_s, flight.looks))

    def _sweep_on(self) -> None:
        every_s = self._how.sweep_every_s
        next_s = self._now_s() + every_s
        while True:
            gevent.sleep(max(0.001, next_s - self._now_s()))
            # A sweep that takes longer than its interval is followed by the next, not by all that were missed.
            next_s = max(next_s + every_s, self._now_s())
            if self._flights:
                overtaken = self._newest_ended
                for status in ENDED:
                    self._sweep(status)
                self._ask_for_overtaken(overtaken)

    def _sweep(self, status: str) -> None:
        """Reads the ended tasks, newest first, until a page brings no news."""
        for number in range(1, self._how.sweep_pages + 1):
            self._budget.take()
            look = self._look("listTasks", lambda number=number: self._wire.page(status, number, PAGE_SIZE))
            if look is None or not self._take(look, "list") or number * PAGE_SIZE >= look.total:
                return

    def _ask_for_overtaken(self, newest_ended: int) -> None:
        """Asks for each task that younger ones overtook: its end is too deep in the list for a sweep to meet.

        In a queue that is first in, first out these are hardly more than there are workers.
        """
        overtaken: list[Flight] = []
        for flight in self._flights.values():
            if flight.seq >= newest_ended:
                break  # flights are in the order of their acknowledgement, nearly that of their numbers
            if not flight.scheduled:
                overtaken.append(flight)
        for flight in overtaken:
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

    def _take(self, look: Look, by: str) -> int:
        """Ends the flights that are seen to have ended; says how many those are."""
        at_s = self._now_s()
        ended = 0
        for seen in look.tasks:
            flight = self._flights.pop(seen.task_id, None) if seen.ended else None
            if flight is not None:
                ended += 1
                self._end(flight, seen, at_s, by)
        return ended

    def _end(self, flight: Flight, seen: Seen, at_s: float, by: str) -> None:
        self._newest_ended = max(self._newest_ended, flight.seq)
        if seen.created_ms:
            took_s = max(0, seen.updated_ms - seen.created_ms) / 1000
            self._typical_s += (took_s - self._typical_s) * TYPICAL_WEIGHT
            self._intervals.took(took_s)
        self._on_end(flight, seen, at_s, by)
