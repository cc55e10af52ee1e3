"""The edges of a task's attempts: deadlines, rests and waits to the millisecond, and what is said of each end."""

from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.emulator.harness import START_MS, Call, changed, settle
from tests.emulator.test_dispatch import Caller, Floor, ready_task
from yottabench.emulator import http1, limits, ready
from yottabench.emulator.dispatch import ended_by
from yottabench.emulator.ready import ReadyQueue
from yottabench.emulator.store.base import (
    Command,
    FailOpenTasks,
    LeaseTask,
    ReadyTask,
    RequeueTask,
    ReturnTask,
    StoreError,
    TaskState,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def floor(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Floor]:
    made = Floor(tmp_path)
    yield made
    await made.close()


def done(floor: Floor, kind: type[Command[Any]]) -> list[Any]:
    """What of this kind was committed."""
    return [command for command, _ in floor.writer.done if isinstance(command, kind)]


async def delete(floor: Floor, limit: int) -> None:
    await floor.writer.commit(FailOpenTasks(endpoint_id=1, error="deleted", limit=limit, now_ms=floor.clock.ms))


# ---- leases


async def test_a_lease_ends_at_its_deadline_and_not_a_millisecond_before(tmp_path: Path) -> None:
    floor = Floor(tmp_path, worker_timeout_s=1.5)
    start_ms = floor.clock.ms
    assert floor.dispatcher.next_ms() is None
    worker, _ = floor.worker(), floor.worker()
    await floor.submit("t")
    await floor.clock.advance(1)
    await floor.submit("u")
    assert [each.deadline_ms - start_ms for each in done(floor, LeaseTask)] == [1_500, 2_500]
    assert floor.dispatcher.next_ms() == start_ms + 1_500

    floor.dispatcher.end_leases(start_ms + 1_499)
    await settle()
    assert [floor.state(each) for each in "tu"] == [TaskState.LEASED] * 2

    floor.dispatcher.end_leases(start_ms + 1_500)
    await settle()
    assert [floor.state(each) for each in "tu"] == [TaskState.RETRY_WAIT, TaskState.LEASED]
    assert worker.calls == []
    assert floor.dispatcher.next_ms() == start_ms + 2_500
    (returned,) = done(floor, ReturnTask)
    assert returned.reason == "Worker 1 gave no complete answer before its lease ended."
    await floor.close()


async def test_a_task_on_its_way_is_busy_and_one_in_the_hands_of_a_worker_is_not(floor: Floor) -> None:
    worker = floor.worker()
    assert floor.dispatcher.busy == 0
    await floor.submit("t")
    assert floor.dispatcher.busy == 0
    floor.writer.held = True
    worker.calls[0].ok()
    await settle()
    assert floor.dispatcher.busy == 1
    floor.writer.let_go()
    await settle()
    assert floor.dispatcher.busy == 0


async def test_an_end_of_the_leases_leaves_a_task_on_its_way_busy(floor: Floor) -> None:
    floor.worker()
    await floor.submit("t")
    floor.dispatcher.end_leases(floor.clock.ms + 3_600_000)
    assert (floor.dispatcher.busy, floor.dispatcher.next_ms()) == (1, None)


async def test_a_lease_that_ends_in_the_moment_of_the_answer_has_ended(floor: Floor) -> None:
    worker = floor.worker()
    await floor.submit("t")
    worker.calls[0].ok()
    floor.dispatcher.end_leases(floor.clock.ms + 3_600_000)
    await settle()
    assert floor.state("t") is TaskState.RETRY_WAIT


async def test_a_server_that_ends_in_the_moment_of_the_leases_end_leaves_the_task_leased(tmp_path: Path) -> None:
    floor = Floor(tmp_path)
    floor.worker()
    await floor.submit("t")
    floor.dispatcher.end_leases(floor.clock.ms + 3_600_000)
    await floor.dispatcher.close()
    assert floor.state("t") is TaskState.LEASED
    assert done(floor, ReturnTask) == []
    await floor.close()


async def test_the_worker_is_asked_on_the_port_of_the_task(floor: Floor) -> None:
    ports: list[int] = []

    class PortCaller(Caller):
        async def post(self, port: int, target: str, headers: bytes, body: bytes) -> http1.Answer:
            ports.append(port)
            return await super().post(port, target, headers, body)

    caller = floor.worker()
    floor.of(caller).caller = PortCaller()
    await floor.submit("t", worker_port=8123)
    assert ports == [8123]
    assert floor.task().worker_url == "http://worker:8123"


async def test_a_small_input_is_sent_from_memory_and_a_large_one_is_read_when_its_turn_comes(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    real = floor.store.task_input
    monkeypatch.setattr(floor.store, "task_input", lambda seq: (read.append(seq), real(seq))[1])
    floor.worker(then=Call.ok)
    await floor.submit("small")
    assert read == []
    large = await floor.submit("large", input=b'"' + b"x" * limits.READY_INPUT_MAX_BYTES + b'"')
    assert read == [large.seq]


# ---- workers that go


async def test_a_worker_that_goes_takes_no_other_idle_worker_with_it(floor: Floor) -> None:
    going, staying = floor.worker(), floor.worker()
    floor.dismiss(going)
    await floor.submit("t")
    assert (len(going.calls), len(staying.calls)) == (0, 1)


async def test_a_worker_is_free_when_the_last_of_its_tasks_has_ended(tmp_path: Path) -> None:
    floor = Floor(tmp_path, concurrency=2)
    caller = floor.worker()
    worker = floor.of(caller)
    await floor.submit("t")
    await floor.submit("u")
    assert worker.in_hand == 2
    for call, left in zip(caller.calls, (1, 0), strict=True):
        assert not worker.free.is_set()
        call.ok()
        await settle()
        assert worker.in_hand == left
    assert worker.free.is_set()
    await floor.close()


async def test_a_task_on_its_way_to_a_worker_that_goes_at_that_moment_goes_to_another_as_its_first_attempt(
    floor: Floor,
) -> None:
    await floor.submit("t")
    going = floor.worker()  # has the task, but was not asked yet
    staying = floor.worker()
    floor.dismiss(going)
    await settle()
    assert [(call.task_id, call.attempt) for call in staying.calls] == [("t", 1)]
    assert (len(going.all_calls), len(done(floor, LeaseTask))) == (0, 1)
    assert (floor.of(going).in_hand, floor.of(going).free.is_set()) == (0, True)


# ---- a store that fails


async def test_a_queue_that_cannot_be_read_is_read_again_after_a_moment_and_not_before(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []

    def broken(*_: Any) -> list[ReadyTask]:
        reads.append(floor.clock.ms)
        assert len(reads) < 9, "it is read again and again while time stands still"
        raise StoreError("disk I/O error")

    monkeypatch.setattr(floor.store, "queued", broken)
    start_ms = floor.clock.ms
    floor.worker()
    for number in range(20):
        await floor.submit(f"t{number}")  # each of which would have it read at once, and again and again
    await floor.clock.advance(2.4 * limits.STORE_RETRY_MS / 1000)
    assert reads == [start_ms + times * limits.STORE_RETRY_MS for times in range(3)]


async def test_a_lease_that_is_not_kept_is_tried_again_after_a_moment_and_not_before(floor: Floor) -> None:
    worker = floor.worker()
    floor.writer.refuse_those[LeaseTask] = 1
    await floor.submit("t")
    await floor.clock.advance((limits.STORE_RETRY_MS - 1) / 1000)
    assert worker.all_calls == []
    await floor.clock.advance(0.001)
    assert [call.task_id for call in worker.calls] == ["t"]


# ---- rests and waits


async def test_a_worker_that_ends_nothing_rests_longer_each_time_whichever_task_it_was(floor: Floor) -> None:
    start_ms = floor.clock.ms
    at_ms: list[int] = []

    def refuse(call: Call) -> None:
        at_ms.append(floor.clock.ms - start_ms)
        call.refuse()

    floor.worker(then=refuse)
    for number in range(9):
        await floor.submit(f"t{number}")
    await floor.clock.advance(70)
    assert at_ms == [0, 100, 500, 2_100, 8_500, 34_100, 64_100]


async def test_a_dead_worker_leaves_its_task_to_another_at_once_at_the_cost_of_an_attempt(floor: Floor) -> None:
    worker, other = floor.worker(), floor.worker()
    await floor.submit("t")
    floor.bury(worker)
    await settle()
    assert [(call.task_id, call.attempt) for call in other.calls] == [("t", 2)]
    (returned,) = done(floor, ReturnTask)
    assert (returned.strike, returned.next_ms) == (True, None)
    assert returned.reason == "The connection was reset, says the test."
    assert floor.stats.counts["returned_tasks"] == 1


@pytest.mark.parametrize("asked", [b"7", formatdate(START_MS / 1000 + 7, usegmt=True).encode()])
async def test_a_busy_worker_has_its_task_back_when_it_asked_for_it(tmp_path: Path, asked: bytes) -> None:
    floor = Floor(tmp_path, retry_busy=True)
    worker = floor.worker()
    await floor.submit("t")
    worker.calls[0].answer.set_result(http1.Answer(503, [(b"Server", b"x"), (b"Retry-After", asked)], b""))
    await floor.clock.advance(6.999)
    assert (floor.state(), len(worker.all_calls)) == (TaskState.RETRY_WAIT, 1)
    await floor.clock.advance(0.001)
    assert len(worker.calls) == 1
    await floor.close()


@pytest.mark.parametrize(
    "asked",
    [
        b"Mon, 01 Jan 99999999999 00:00:00 GMT",
        b"Mon, 01 Jan 2024 00:00:00 +99999999999999",
        b"Mon, 99999999999999999999 Jan 2024 00:00:00 GMT",
    ],
)
async def test_a_date_with_numbers_beyond_all_dates_is_no_date_and_costs_neither_task_nor_worker(
    tmp_path: Path, asked: bytes
) -> None:
    floor = Floor(tmp_path, retry_busy=True)
    worker = floor.worker()
    await floor.submit("t")
    worker.calls[0].answer.set_result(http1.Answer(503, [(b"Retry-After", asked)], b""))
    await floor.clock.advance(0.1)
    assert [(call.task_id, call.attempt) for call in worker.calls] == [("t", 2)]
    await floor.close()


@pytest.mark.parametrize(
    ("shortage", "reason"),
    [
        (http1.OutOfResources("Cannot connect: too many open files."), "Cannot connect: too many open files."),
        (MemoryError(), "The server has no memory for it."),
    ],
)
async def test_what_we_are_short_of_is_the_reason_of_the_return_and_no_miss_of_the_worker(
    floor: Floor, shortage: Exception, reason: str
) -> None:
    def fall_short(_: Call) -> None:
        raise shortage

    worker = floor.worker(then=fall_short)
    await floor.submit("t")
    (returned,) = done(floor, ReturnTask)
    assert (returned.reason, returned.strike) == (reason, False)
    assert returned.next_ms == floor.clock.ms + limits.STORE_RETRY_MS
    assert floor.of(worker).misses == 0
    await floor.clock.advance((limits.STORE_RETRY_MS - 1) / 1000)
    assert len(worker.all_calls) == 1


# ---- what moved on meanwhile


async def test_a_task_that_was_deleted_in_the_hands_of_a_worker_that_loses_it_is_not_tried_again(floor: Floor) -> None:
    worker, other = floor.worker(), floor.worker()
    await floor.submit("t")
    await delete(floor, 1)
    worker.calls[0].lose()
    await floor.clock.advance(60)
    assert other.all_calls == []
    assert floor.stats.counts["returned_tasks"] == 0


# ---- the end


async def test_nothing_is_under_way_after_close_and_nothing_begins(floor: Floor) -> None:
    worker = floor.worker()
    floor.worker(listens=False)
    await floor.submit("in hand")
    await floor.submit("waits")
    assert floor.state("waits") is TaskState.RETRY_WAIT
    await floor.dispatcher.close()
    assert (floor.dispatcher.busy, floor.dispatcher.next_ms()) == (0, None)
    floor.worker()
    await floor.submit("late")
    await floor.clock.advance(60)
    assert (floor.state("late"), floor.state("waits")) == (TaskState.QUEUED, TaskState.RETRY_WAIT)
    assert len(worker.all_calls) == 1
    assert done(floor, RequeueTask) == []


# ---- what is said of an answer


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("flood", f"Worker 1 answered with more than {limits.OUTPUT_MAX_BYTES} bytes."),
        ("garbage", "Worker 1 sent an answer that is not HTTP: It did not answer in HTTP/1.x, says the test."),
    ],
)
async def test_an_answer_that_cannot_be_read_is_the_error_of_its_task(floor: Floor, how: str, error: str) -> None:
    worker = floor.worker()
    await floor.submit("t")
    getattr(worker.calls[0], how)()
    await settle()
    assert floor.task().error == error


def test_an_error_text_may_be_no_utf_8() -> None:
    assert ended_by(http1.Answer(500, [], b"\xff!")).error == "HTTP 500: \ufffd!"


def test_an_output_may_hold_a_number_that_nothing_here_can() -> None:
    assert ended_by(http1.Answer(200, [], b"[1e999]")).output == b"[1e999]"


def test_an_error_text_is_cut_after_its_characters_and_not_after_its_bytes() -> None:
    error = ended_by(http1.Answer(500, [], "😀".encode() * 2 * limits.ERROR_TEXT_MAX_CHARS)).error
    assert error == f"HTTP 500: {'😀' * limits.ERROR_TEXT_MAX_CHARS}"[: limits.ERROR_TEXT_MAX_CHARS]


# ---- the window over the queue


def sized(seq: int, input_bytes: int) -> ReadyTask:
    return replace(ready_task(None), seq=seq, input=b"x" * input_bytes)


class Shelf:
    """The queue in the store."""

    def __init__(self, *queued: ReadyTask) -> None:
        self.tasks = list(queued)
        self.asked: list[tuple[int, int]] = []

    def queued(self, endpoint_id: int, after_seq: int, limit: int) -> list[ReadyTask]:
        self.asked.append((endpoint_id, after_seq))
        return [each for each in self.tasks if each.seq > after_seq][:limit]


def window(*queued: ReadyTask) -> tuple[ReadyQueue, Shelf]:
    shelf = Shelf(*queued)
    return ReadyQueue(shelf, 5), shelf


def drained(queue: ReadyQueue) -> list[tuple[int, int | None]]:
    """Each task that is left, with the size of its input if that is held."""
    found = []
    while (popped := queue.pop()) is not None:
        found.append((popped.seq, None if popped.input is None else len(popped.input)))
    return found


def test_inputs_are_held_up_to_the_last_byte_of_the_room_and_taken_tasks_make_room() -> None:
    queue, _ = window()
    assert queue.pop() is None
    with changed(ready, READY_WINDOW_BYTES=40):
        for seq in (1, 2):
            queue.add(sized(seq, 15))
        queue.add(sized(3, 11))  # one byte too many
        queue.add(sized(4, 10))
        queue.add(sized(5, 1))
        assert queue.pop() is not None
        queue.add(sized(6, 16))
        queue.add(sized(7, 15))
    assert drained(queue) == [(2, 15), (3, None), (4, 10), (5, None), (6, None), (7, 15)]


def test_a_task_that_comes_back_as_the_last_of_a_full_window_is_not_lost() -> None:
    with changed(ready, _REFILL_TASKS=2):
        queue, shelf = window(*(sized(seq, 1) for seq in (1, 2, 3)))
        queue.pop()
        last = queue.pop()
        assert last is not None
        queue.put_back(last)
        assert [seq for seq, _ in drained(queue)] == [2, 3]
        assert shelf.asked == [(5, 0), (5, 2)]


def test_a_task_of_an_earlier_server_that_comes_back_after_the_last_refill_is_given_once() -> None:
    queue, shelf = window()
    assert queue.pop() is None
    shelf.tasks.append(sized(3, 1))
    queue.put_back(sized(3, 1))
    queue.add(sized(4, 1))
    assert [seq for seq, _ in drained(queue)] == [3, 4]


def test_a_task_of_an_earlier_server_that_comes_back_before_the_first_refill_is_given_once() -> None:
    queue, _ = window(sized(3, 1))
    queue.put_back(sized(3, 1))
    assert [seq for seq, _ in drained(queue)] == [3]
