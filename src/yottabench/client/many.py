"""Waits for many tasks at once: reads the list, a hundred tasks a request, instead of asking for each."""

from collections import deque
from collections.abc import Iterable

import attrs

from yottabench.client.errors import YottaError
from yottabench.client.models import Task, TaskSummary
from yottabench.client.news import Heard
from yottabench.client.operations import Operations
from yottabench.client.plans import Plan, Rules, at_once, is_transient, log, pause
from yottabench.client.requests import Id
from yottabench.client.waiting import WAKEABLE_POLL_S, Cadence, Patience, checked_times, is_terminal, timed_out

PAGE_SIZE = 100
ONE_BY_ONE = 3  # so few tasks are asked for by themselves; the answers hold the output, too
AT_ONCE = 16  # questions under way at a time


class Watch:
    """Watches many tasks of one endpoint, and tells which have ended.

    A sweep reads the list, newest first, until it has met all of them. Few tasks are asked for one by one, and so is
    a task whose end a receiver heard of.
    """

    def __init__(self, operations: Operations, endpoint_id: Id, patience: Patience, heard: Heard | None = None) -> None:
        self._operations = operations
        self._endpoint_id = endpoint_id
        self._patience = patience
        self._heard = heard
        self._sweep_pages = 1
        self._ended: list[Task | TaskSummary] = []
        self.open: dict[str, TaskSummary | Task | None] = {}
        """What is watched, as it was last seen; in the order in which it was added."""

    @property
    def done(self) -> bool:
        """Whether all that was watched has been told of."""
        return not self.open and not self._ended

    def add(self, task_id: str) -> None:
        """Watch one more task, which the service knows."""
        self.open.setdefault(task_id, None)
        if self._heard is not None:
            self._heard.also(task_id)

    def look(self) -> Plan[list[Task | TaskSummary]]:
        """One round of questions; gives the tasks that have ended, and watches them no more."""
        told = [] if self._heard is None else [task_id for task_id in self._heard.take() if task_id in self.open]
        if told:
            yield from self._one_by_one(told)
        elif len(self.open) <= max(ONE_BY_ONE, self._sweep_pages):
            yield from self._one_by_one(list(self.open))
            # The list is tried again some time: the tasks may have moved to its beginning.
            self._sweep_pages = self._sweep_pages * 3 // 4
        else:
            yield from self._sweep()
        # Kept until here: what was found before an error is told of in the next round.
        ended, self._ended = self._ended, []
        return ended

    def _one_by_one(self, task_ids: list[str]) -> Plan[None]:
        for start in range(0, len(task_ids), AT_ONCE):
            requests = [
                self._operations.get_task(self._endpoint_id, task_id) for task_id in task_ids[start : start + AT_ONCE]
            ]
            tasks = yield from at_once([self._patience.ask(request) for request in requests])
            for task in tasks:
                if not isinstance(task, YottaError):
                    self._note(task)
            for task in tasks:
                if isinstance(task, YottaError):
                    raise task

    def _sweep(self) -> Plan[None]:
        unmet = set(self.open)
        page_number = 0
        while unmet:
            page_number += 1
            page = yield from self._patience.ask(
                self._operations.list_tasks(self._endpoint_id, page_number=page_number, page_size=PAGE_SIZE)
            )
            for task in page.items:
                if task.task_id in unmet:
                    unmet.discard(task.task_id)
                    self._note(task)
            if not page.items or page_number * PAGE_SIZE >= page.total:
                break
        self._sweep_pages = page_number
        log.debug("A sweep of %d pages: %d tasks ended, %d open", page_number, len(self._ended), len(self.open))
        # Not in the whole list: it moved while the list was read, or the service does not know it, and then says so.
        yield from self._one_by_one([task_id for task_id in self.open if task_id in unmet])

    def _note(self, task: Task | TaskSummary) -> None:
        if not is_terminal(task):
            self.open[task.task_id] = task
        elif task.task_id in self.open:
            del self.open[task.task_id]
            self._ended.append(task)
            if self._heard is not None:
                self._heard.no_more(task.task_id)


class ManyWait:
    """Waits for many tasks; each step is a plan that gives some of them, ended."""

    def __init__(
        self,
        rules: Rules,
        operations: Operations,
        endpoint_id: Id,
        task_ids: Iterable[str],
        *,
        timeout_s: float,
        poll_s: float,
        heard: Heard | None,
    ) -> None:
        checked_times(timeout_s, poll_s)
        self._rules = rules
        self._operations = operations
        self._endpoint_id = endpoint_id
        self._timeout_s = timeout_s
        self._bell = None if heard is None else heard.bell
        self._cadence = Cadence(rules, poll_s if heard is None else max(poll_s, WAKEABLE_POLL_S))
        self._patience = Patience(rules, rules.now_s() + timeout_s)
        self._watch = Watch(operations, endpoint_id, self._patience, heard)
        for task_id in task_ids:
            operations.get_task(endpoint_id, task_id)  # an id that cannot be asked for is refused before the wait
            self._watch.add(task_id)
        self._to_fetch: deque[str] = deque()
        self._pause_s = 0.0

    @property
    def done(self) -> bool:
        """Whether all have been given."""
        return self._watch.done and not self._to_fetch

    def summaries(self) -> Plan[list[TaskSummary]]:
        """The next portion, maybe empty, as the list shows them. Raises WaitTimedOut, TaskNotFound."""
        found = yield from self._look()
        return [summary_of(task) for task in found]

    def tasks(self) -> Plan[list[Task]]:
        """The next portion, maybe empty, as whole tasks. Raises WaitTimedOut, TaskNotFound."""
        if self._to_fetch:
            return (yield from self._fetched())
        found = yield from self._look()
        self._to_fetch.extend(task.task_id for task in found if not isinstance(task, Task))
        return [task for task in found if isinstance(task, Task)]

    def _fetched(self) -> Plan[list[Task]]:
        task_ids = [self._to_fetch.popleft() for _ in range(min(AT_ONCE, len(self._to_fetch)))]
        requests = [self._operations.get_task(self._endpoint_id, task_id) for task_id in task_ids]
        found = yield from at_once([self._patience.ask(request) for request in requests])
        failed = [task_id for task_id, task in zip(task_ids, found, strict=True) if isinstance(task, YottaError)]
        self._to_fetch.extendleft(reversed(failed))
        tasks = [task for task in found if not isinstance(task, YottaError)]
        if not tasks:
            raise next(task for task in found if isinstance(task, YottaError))
        return tasks

    def _look(self) -> Plan[list[Task | TaskSummary]]:
        yield from pause(self._pause_s, self._bell)
        started_s = self._rules.now_s()
        try:
            ended = yield from self._watch.look()
        except YottaError as error:
            if is_transient(error):
                self._give_up(error)
            raise
        if not ended and self._patience.left_s <= 0:
            self._give_up(None)
        # No more than half of the time goes into questions, however long the list is.
        took_s = self._rules.now_s() - started_s
        self._pause_s = min(max(self._cadence.pause_s(), took_s), self._patience.left_s)
        return ended

    def _give_up(self, error: YottaError | None) -> None:
        still_open = self._watch.open
        seen = next((task for task in still_open.values() if task is not None), None)
        if seen is not None:
            raise timed_out(self._timeout_s, seen, tuple(still_open)) from error


_OF_A_SUMMARY = [field.name for field in attrs.fields(TaskSummary) if field.init]


def summary_of(task: Task | TaskSummary) -> TaskSummary:
    """A task as lists show it."""
    if isinstance(task, TaskSummary):
        return task
    summary = TaskSummary(**{name: getattr(task, name) for name in _OF_A_SUMMARY})
    summary.additional_properties = task.additional_properties
    return summary
