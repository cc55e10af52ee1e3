"""Knows when a task has ended, and waits for that."""

import time
from collections.abc import Callable

from yottabench.client.errors import WaitTimedOut
from yottabench.client.models import DeliveryStatus, Task, TaskStatus, TaskSummary, Unset

FIRST_POLL_S = 0.05
POLL_GROWTH = 1.5


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


def wait_for_end(
    fetch: Callable[[], Task],
    *,
    timeout_s: float,
    poll_s: float,
    sleep: Callable[[float], None] = time.sleep,
    now_s: Callable[[], float] = time.monotonic,
) -> Task:
    """Call `fetch` until its task has ended, and give that task, be it SUCCESS, DELIVERED or FAILED.

    Looks again after 0.05 s, then at growing distances of at most `poll_s`, and a last time when `timeout_s` is over.
    Raises WaitTimedOut then, and whatever `fetch` raises at once.
    """
    deadline_s = now_s() + timeout_s
    pause_s = min(FIRST_POLL_S, poll_s)
    while True:
        task = fetch()
        if is_terminal(task):
            return task
        left_s = deadline_s - now_s()
        if left_s <= 0:
            raise WaitTimedOut(
                f"Task {task.task_id} is still {task.status} after {timeout_s:g} s. "
                "It goes on by itself: wait again, or look at the endpoint's workers.",
                task,
            )
        sleep(min(pause_s, left_s))
        pause_s = min(pause_s * POLL_GROWTH, poll_s)
