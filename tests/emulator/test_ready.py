from typing import Any
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from yottabench.emulator import ready
from yottabench.emulator.ready import ReadyQueue
from yottabench.emulator.store.base import ReadyTask

WINDOW = 4
REFILL = 3
WINDOW_BYTES = 40


class Rows:
    """The queue in the store: what is committed and QUEUED."""

    def __init__(self) -> None:
        self.queued_seqs: set[int] = set()
        self.last_seq = 0
        self.reads = 0

    def commit(self) -> int:
        self.last_seq += 1
        self.queued_seqs.add(self.last_seq)
        return self.last_seq

    def queued(self, endpoint_id: int, after_seq: int, limit: int) -> list[ReadyTask]:
        self.reads += 1
        return [task(seq) for seq in sorted(self.queued_seqs) if seq > after_seq][:limit]


def payload(seq: int) -> bytes:
    return b"x" * (seq * 7 % 13)


def task(seq: int) -> ReadyTask:
    return ReadyTask(
        seq=seq,
        endpoint_id=1,
        task_id=f"t{seq}",
        fence=0,
        strikes=0,
        worker_port=1,
        process_uri="/",
        input=payload(seq),
        headers=None,
    )


@pytest.fixture(autouse=True)
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "READY_WINDOW_TASKS", WINDOW)
    monkeypatch.setattr(ready, "_REFILL_TASKS", REFILL)
    monkeypatch.setattr(ready, "READY_WINDOW_BYTES", WINDOW_BYTES)


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def queue(rows: Rows) -> ReadyQueue:
    return ReadyQueue(rows, 1)  # type: ignore[arg-type]


def add(queue: ReadyQueue, rows: Rows, count: int = 1) -> None:
    for _ in range(count):
        queue.add(task(rows.commit()))


def pop(queue: ReadyQueue, rows: Rows) -> int | None:
    popped = queue.pop()
    if popped is None:
        return None
    rows.queued_seqs.discard(popped.seq)
    return popped.seq


def drain(queue: ReadyQueue, rows: Rows) -> list[int]:
    found = []
    while (seq := pop(queue, rows)) is not None:
        found.append(seq)
    return found


def test_an_empty_queue_gives_nothing_and_does_not_ask_the_store_again_and_again(queue: ReadyQueue, rows: Rows) -> None:
    assert [queue.pop() for _ in range(5)] == [None] * 5
    assert rows.reads == 1


@pytest.mark.parametrize("count", [1, WINDOW, WINDOW + 1, 3 * WINDOW, REFILL, REFILL + 1, 2 * REFILL])
def test_tasks_come_out_in_the_order_of_their_submission_also_beyond_the_window(
    queue: ReadyQueue, rows: Rows, count: int
) -> None:
    assert queue.pop() is None
    add(queue, rows, count)
    assert drain(queue, rows) == list(range(1, count + 1))


@pytest.mark.parametrize("count", [1, REFILL, REFILL + 1, 5 * REFILL])
def test_what_an_earlier_server_left_comes_before_what_is_new(queue: ReadyQueue, rows: Rows, count: int) -> None:
    for _ in range(count):
        rows.commit()
    add(queue, rows, 2)
    assert drain(queue, rows) == list(range(1, count + 3))


def test_a_returned_task_keeps_its_place(queue: ReadyQueue, rows: Rows) -> None:
    add(queue, rows, 4)
    one, two = queue.pop(), queue.pop()
    assert one is not None
    assert two is not None
    queue.put_back(two)
    queue.put_back(one)
    assert drain(queue, rows) == [1, 2, 3, 4]


def test_the_window_holds_a_bounded_number_of_tasks_and_bytes(queue: ReadyQueue, rows: Rows) -> None:
    assert queue.pop() is None
    add(queue, rows, 100)
    assert len(queue._window) == WINDOW
    assert sum(len(each.input or b"") for each in queue._window) <= WINDOW_BYTES


def test_an_input_that_finds_no_room_is_left_to_be_read_later_and_room_comes_back(
    queue: ReadyQueue, rows: Rows
) -> None:
    assert queue.pop() is None
    seen = []
    for _ in range(60):
        add(queue, rows, 2)
        popped = queue.pop()
        assert popped is not None
        rows.queued_seqs.discard(popped.seq)
        assert popped.input in (None, payload(popped.seq))
        seen.append(popped.input)
    assert None not in drain_inputs(queue, rows)[-3:] or seen.count(None) < len(seen)


def drain_inputs(queue: ReadyQueue, rows: Rows) -> list[bytes | None]:
    found = []
    while (popped := queue.pop()) is not None:
        rows.queued_seqs.discard(popped.seq)
        found.append(popped.input)
    return found


def test_bytes_are_given_back_so_that_inputs_are_held_again(queue: ReadyQueue, rows: Rows) -> None:
    assert queue.pop() is None
    for _ in range(30):
        add(queue, rows)
        (held,) = drain_inputs(queue, rows)
        assert held is not None
    assert queue._window_bytes == 0


class Machine(RuleBasedStateMachine):
    """Commits, their news (which come later, in order), pops, and what comes back, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = mock.patch.multiple(
            ready, READY_WINDOW_TASKS=WINDOW, _REFILL_TASKS=REFILL, READY_WINDOW_BYTES=WINDOW_BYTES
        )
        self.patches.start()
        self.rows = Rows()
        self.queue = ReadyQueue(self.rows, 1)  # type: ignore[arg-type]
        self.news: list[ReadyTask] = []  # committed, but the queue was not told yet
        self.told: set[int] = set()  # the queue must give these
        self.hands: dict[int, ReadyTask] = {}
        self.waiting: list[int] = []  # in RETRY_WAIT since an earlier server
        self.given: list[int] = []

    @initialize(left=st.lists(st.sampled_from(["queued", "waiting", "ended"]), max_size=12))
    def start_with_what_an_earlier_server_left(self, left: list[str]) -> None:
        for state in left:
            seq = self.rows.commit()
            if state == "queued":
                self.told.add(seq)
            else:
                self.rows.queued_seqs.discard(seq)
            if state == "waiting":
                self.waiting.append(seq)

    @rule()
    def commit(self) -> None:
        self.news.append(task(self.rows.commit()))

    @precondition(lambda self: self.news)
    @rule()
    def tell(self) -> None:
        news = self.news.pop(0)
        if news.seq in self.rows.queued_seqs:
            self.told.add(news.seq)
        self.queue.add(news)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def a_wait_is_over(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(seq)
        self.rows.queued_seqs.add(seq)
        self.told.add(seq)
        self.queue.put_back(task(seq))

    @rule()
    def pop(self) -> None:
        popped = self.queue.pop()
        if popped is None:
            assert not self.told
            return
        assert popped.seq in self.rows.queued_seqs, "handed out twice"
        assert popped.seq == min(self.told, default=popped.seq), "not the oldest"
        self.told.discard(popped.seq)
        self.rows.queued_seqs.discard(popped.seq)
        self.hands[popped.seq] = popped

    @precondition(lambda self: self.hands)
    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.hands)))
        self.rows.queued_seqs.add(seq)
        self.told.add(seq)
        self.queue.put_back(self.hands.pop(seq))

    @precondition(lambda self: self.hands)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        del self.hands[data.draw(st.sampled_from(sorted(self.hands)))]

    @invariant()
    def the_window_is_bounded(self) -> None:
        window: Any = self.queue._window
        assert len(window) <= max(WINDOW, REFILL)
        assert sum(len(each.input or b"") for each in window) <= WINDOW_BYTES

    def teardown(self) -> None:
        while self.news:
            self.tell()
        while self.told:
            self.pop()
        assert self.queue.pop() is None
        self.patches.stop()


TestTasksAreNeverLostAndNeverHandedOutTwice = Machine.TestCase
TestTasksAreNeverLostAndNeverHandedOutTwice.settings = settings(max_examples=150, stateful_step_count=40)
