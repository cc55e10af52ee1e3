"""Knows when a task has ended, and waits for that."""

import math

from yottabench.client.errors import InvalidArgument, TaskFailed, WaitTimedOut, YottaError
from yottabench.client.models import DeliveryStatus, Task, TaskStatus, TaskSummary, Unset
from yottabench.client.news import TaskNews, listening
from yottabench.client.operations import Operations
from yottabench.client.plans import D, Plan, Rules, asked_to_wait_s, is_transient, log, pause, tried
from yottabench.client.request import Request
from yottabench.client.requests import Id

DEFAULT_WAIT_S = 300.0
DEFAULT_POLL_S = 2.0
FIRST_POLL_S = 0.05
POLL_GROWTH = 1.5
WAKEABLE_POLL_S = 15.0  # between polls while a receiver listens: only for webhooks that got lost
LAST_TRY_S = 5.0  # what the service has for an answer when the wait is over already


def is_terminal(task: Task | TaskSummary) -> bool:
    """Whether the task's status is final, but for SUCCESS becoming DELIVERED.

    Right under all three meanings of DELIVERED (openapi/NOTES.md, N1): result acknowledged by the webhook; handed to a
    worker, and then still open; never shown. A status that is not known here counts as open.
    """
    if task.status in (TaskStatus.SUCCESS, TaskStatus.FAILED):
        return True
    if task.status != TaskStatus.DELIVERED:
        return False
    # An acknowledged webhook or an output can only come after the worker. deliveredAt would not do: where DELIVERED
    # means "handed to a worker", it may be the time of just that.
    if task.delivery_status == DeliveryStatus.SUCCESS:
        return True
    return isinstance(task, Task) and task.output is not None and not isinstance(task.output, Unset)


class Cadence:
    """The pauses between polls: they grow, so that short tasks are seen soon and long ones cost little.

    Each is drawn from the upper fifth below its length, so that many waiters do not poll in step.
    """

    def __init__(self, rules: Rules, poll_s: float) -> None:
        self._rules = rules
        self._most_s = poll_s
        self._next_s = min(FIRST_POLL_S, poll_s)

    def pause_s(self) -> float:
        """Seconds until the next poll."""
        pause_s = self._next_s * self._rules.chance.uniform(0.8, 1.0)
        self._next_s = min(self._next_s * POLL_GROWTH, self._most_s)
        return pause_s


class Patience:
    """Asks while something is waited for, and bears failures that may pass.

    Until the first good answer as often as other calls do, so that a wrong address is told soon; then until `end_s`,
    or until nothing has gone well for `bear_s`.
    """

    def __init__(self, rules: Rules, end_s: float, bear_s: float = math.inf) -> None:
        self._rules = rules
        self._end_s = end_s
        self._bear_s = bear_s
        self._good_s = -math.inf
        self._failures = 0

    @property
    def left_s(self) -> float:
        """Seconds until the end; 0 when it is over."""
        return max(0.0, self._end_s - self._rules.now_s())

    def ask(self, request: Request[D]) -> Plan[D]:
        """Send a request until there is an answer. Raises the last error at the end, any that will not pass at once."""
        while True:
            try:
                data = yield from tried(request, min(self._rules.timeout_s, max(self.left_s, LAST_TRY_S)))
            except YottaError as error:
                pause_s = self._pause_s(error)
            else:
                self._good_s, self._failures = self._rules.now_s(), 0
                return data
            yield from pause(pause_s)

    def _pause_s(self, error: YottaError) -> float:
        retries = self._rules.retries
        if math.isinf(self._good_s):
            given_up = self._failures >= retries.max_retries
        else:
            given_up = self._rules.now_s() - self._good_s > self._bear_s
        if not is_transient(error) or given_up or self.left_s <= 0:
            raise error
        self._failures += 1
        log.info("While waiting: %s", error)
        return min(retries.pause_s(self._failures, asked_to_wait_s(error), self._rules.chance), self.left_s)


def checked_times(timeout_s: float, poll_s: float) -> None:
    """Raises InvalidArgument for times that make no wait."""
    if not timeout_s >= 0:
        raise InvalidArgument(f"timeout_s must be 0 or more seconds, but is {timeout_s!r}.")
    if not poll_s > 0:
        raise InvalidArgument(f"poll_s must be more than 0 seconds, but is {poll_s!r}.")


def wait(
    rules: Rules,
    operations: Operations,
    endpoint_id: Id,
    task_id: str,
    *,
    timeout_s: float,
    poll_s: float,
    check: bool = False,
    receiver: TaskNews | None = None,
) -> Plan[Task]:
    """Ask for a task until it has ended, and give it, be it SUCCESS, DELIVERED or FAILED.

    Asks after 0.05 s, then at growing distances of at most `poll_s`, and a last time when `timeout_s` is over; at
    once when the receiver hears of the task. Raises WaitTimedOut; with `check`, TaskFailed.
    """
    checked_times(timeout_s, poll_s)
    request = operations.get_task(endpoint_id, task_id)
    cadence = Cadence(rules, poll_s if receiver is None else max(poll_s, WAKEABLE_POLL_S))
    patience = Patience(rules, rules.now_s() + timeout_s)
    seen: Task | None = None
    with listening(receiver, endpoint_id, [task_id]) as heard:
        while True:
            try:
                seen = yield from patience.ask(request)
            except YottaError as error:
                if seen is not None and is_transient(error):
                    raise timed_out(timeout_s, seen) from error
                raise
            if is_terminal(seen):
                return checked(seen) if check else seen
            if patience.left_s <= 0:
                raise timed_out(timeout_s, seen)
            yield from pause(min(cadence.pause_s(), patience.left_s), heard and heard.bell)


def checked(task: Task) -> Task:
    """The task. Raises TaskFailed when it failed."""
    if task.status == TaskStatus.FAILED:
        raise TaskFailed(f"Task {task.task_id} failed: {task.error or 'no reason is given'}", task)
    return task


def timed_out(timeout_s: float, task: Task | TaskSummary, open_ids: tuple[str, ...] = ()) -> WaitTimedOut:
    """The error at the end of a wait; `task` is one that is still open, as it was last seen."""
    if len(open_ids) > 1:
        shown = ", ".join(open_ids[:5]) + (", ..." if len(open_ids) > 5 else "")
        return WaitTimedOut(
            f"{len(open_ids)} tasks are still open after {timeout_s:g} s: {shown}; {task.task_id} was last seen "
            f"{task.status}. They go on by themselves: wait again, or look at the endpoint's workers.",
            task,
            open_ids,
        )
    return WaitTimedOut(
        f"Task {task.task_id} is still {task.status} after {timeout_s:g} s. "
        "It goes on by itself: wait again, or look at the endpoint's workers.",
        task,
    )
