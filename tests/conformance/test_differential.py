"""Three readings of one store, list, count and get, held against each other while many submit at once."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest

from tests.conformance.conftest import FULL
from tests.conformance.live import SUCCESS, Api, Stage, until

SUBMITTERS = 6
TASKS_EACH = 150 if FULL else 40
READ_SIZES = (1, 7, 100)


@attrs.define
class Ledger:
    """What submitters know: which ids were sent, and which of them were acknowledged."""

    sent: int = 0
    acknowledged: list[str] = attrs.field(factory=list)
    lock: threading.Lock = attrs.field(factory=threading.Lock)

    def submit(self, api: Api, queue: str, task_id: str) -> None:
        with self.lock:
            self.sent += 1
        api.submit(queue, taskId=task_id)
        with self.lock:
            self.acknowledged.append(task_id)

    def now(self) -> tuple[int, list[str]]:
        with self.lock:
            return self.sent, list(self.acknowledged)


def _submit_all(api: Api, queue: str, ledger: Ledger, number: int) -> None:
    for index in range(TASKS_EACH):
        ledger.submit(api, queue, f"by_{number}_{index}")


def _read_while_submitting(stage: Stage, queue: str, read) -> Ledger:
    """Call `read(ledger)` again and again until all submitters are done, and once more."""
    ledger = Ledger()
    with ThreadPoolExecutor(SUBMITTERS) as pool:
        work = [pool.submit(_submit_all, stage.api, queue, ledger, number) for number in range(SUBMITTERS)]
        while not all(one.done() for one in work):
            read(ledger)
        for one in work:
            one.result()
    read(ledger)
    return ledger


def test_the_count_and_the_total_lie_between_what_is_acknowledged_and_what_is_sent(stage: Stage) -> None:
    api = stage.api
    queue = api.create()
    seen: list[int] = []

    def read(ledger: Ledger) -> None:
        _, before = ledger.now()
        counted = api.processing(queue)
        total = api.data("GET", f"/{queue}/tasks", params={"status": "PROCESSING"})["total"]
        after, _ = ledger.now()
        assert len(before) <= counted <= total <= after
        seen.extend((counted, total))

    _read_while_submitting(stage, queue, read)
    assert seen == sorted(seen)
    assert seen[-1] == SUBMITTERS * TASKS_EACH


def test_no_page_misses_a_task_that_was_acknowledged_before_the_reading_began(stage: Stage) -> None:
    api = stage.api
    queue = api.create(workers=2)

    def read(ledger: Ledger) -> None:
        _, before = ledger.now()
        # New tasks push older ones on to the next page: while they come in, one may be shown twice, but each is.
        shown = [task["taskId"] for task in api.tasks(queue, size=7)]
        assert set(before) <= set(shown)
        if before:
            assert api.task(queue, before[-1])["taskId"] == before[-1]

    ledger = _read_while_submitting(stage, queue, read)
    until(lambda: api.processing(queue), lambda count: count == 0)
    _, acknowledged = ledger.now()
    for size in READ_SIZES:
        assert Counter(task["taskId"] for task in api.tasks(queue, size=size)) == Counter(acknowledged)


def test_list_get_and_count_agree_once_all_is_quiet(stage: Stage) -> None:
    api = stage.api
    queue = api.create(workers=2)
    _read_while_submitting(stage, queue, lambda _ledger: api.processing(queue))
    until(lambda: api.processing(queue), lambda count: count == 0)
    listed = list(api.tasks(queue))
    assert Counter(task["status"] for task in listed) == {"SUCCESS": SUBMITTERS * TASKS_EACH}
    with ThreadPoolExecutor(SUBMITTERS) as pool:
        got = list(pool.map(lambda task: api.task(queue, task["taskId"]), listed))
    for summary, whole in zip(listed, got, strict=True):
        assert {name: whole[name] for name in summary} == summary
    # Newest first, and in each submitter's own order.
    for number in range(SUBMITTERS):
        mine = [task["taskId"] for task in listed if task["taskId"].startswith(f"by_{number}_")]
        assert mine == [f"by_{number}_{index}" for index in reversed(range(TASKS_EACH))]


@pytest.mark.parametrize("round_number", range(5))
def test_of_many_that_submit_one_id_at_once_all_or_one_succeed_and_there_is_one_task(
    stage: Stage, round_number: int
) -> None:
    api = stage.api
    queue = api.create()
    body = {"workerPort": 80, "processUri": "/", "taskId": "same"}
    gate = threading.Barrier(SUBMITTERS)

    def submit(payload: object) -> int:
        gate.wait()
        return api.call("POST", f"/{queue}/tasks", json={**body, "input": payload}).code

    with ThreadPoolExecutor(SUBMITTERS) as pool:
        alike = list(pool.map(submit, ["x"] * SUBMITTERS))
        assert alike == [SUCCESS] * SUBMITTERS
        body["taskId"] = "different"
        unlike = Counter(pool.map(submit, range(SUBMITTERS)))
    assert unlike == {SUCCESS: 1, 10001: SUBMITTERS - 1}
    assert api.processing(queue) == 2
    assert sorted(task["taskId"] for task in api.tasks(queue)) == ["different", "same"]
