import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.emulator.harness import Call, FakeClock, Peer, QuickStore, StepWriter, settle
from yottabench.emulator import dispatch, http1, limits
from yottabench.emulator.dispatch import Dispatcher, ReadyWorker, ended_by, forwarded_headers
from yottabench.emulator.settings import Settings
from yottabench.emulator.stats import Stats
from yottabench.emulator.store.base import (
    DueDelivery,
    FailOpenTasks,
    FinishTask,
    LeaseTask,
    Moved,
    ReadyTask,
    ReturnTask,
    StoreError,
    SubmitTask,
    Task,
    TaskState,
)

pytestmark = pytest.mark.anyio

HOOK = "http://127.0.0.1:9/hook"


class Caller(Peer):
    """The way to a worker that answers as the test says."""

    def url(self, port: int) -> str:
        return f"http://worker:{port}"

    async def post(self, port: int, target: str, headers: bytes, body: bytes) -> http1.Answer:
        return await self.take(target.encode(), headers, body)


class Floor:
    """A dispatcher on a real store, with workers in the test's hands."""

    def __init__(self, data: Path, clock: FakeClock | None = None, **chosen: Any) -> None:
        self.settings = Settings(data=data, **chosen)
        self.clock = clock or FakeClock()
        self.store = QuickStore(data)
        self.store.recover(self.clock.now_ms())
        self.writer = StepWriter(self.store, asyncio.get_running_loop(), self.clock)
        self.stats = Stats()
        self.outbox: list[DueDelivery] = []
        self.dispatcher = Dispatcher(
            1,
            self.settings,
            self.clock,
            self.store,
            self.writer,
            self._Outbox(self.outbox),
            self.stats,
        )
        self.workers: list[ReadyWorker] = []

    class _Outbox:
        def __init__(self, added: list[DueDelivery]) -> None:
            self.add = added.append

    def take_up_the_waiting(self) -> None:
        """What a server does at its start."""
        for next_ms, task in self.store.waiting():
            self.dispatcher.add_waiting(task, next_ms)

    def worker(self, **more: Any) -> Caller:
        caller = Caller(**more)
        self.workers.append(ReadyWorker(len(self.workers) + 1, caller))
        self.dispatcher.add_worker(self.workers[-1])
        return caller

    def dismiss(self, caller: Caller) -> None:
        """It is to take no other task."""
        worker = self.of(caller)
        worker.leaving = True
        self.dispatcher.remove_worker(worker)

    def bury(self, caller: Caller) -> None:
        """It is gone, and so are its connections."""
        worker = self.of(caller)
        worker.gone = True
        self.dispatcher.remove_worker(worker)
        caller.listens = False
        for call in caller.calls:
            call.lose()

    def of(self, caller: Caller) -> ReadyWorker:
        return next(worker for worker in self.workers if worker.caller is caller)

    async def submit(self, task_id: str, **changes: Any) -> ReadyTask:
        values: dict[str, Any] = {
            "endpoint_id": 1,
            "task_id": task_id,
            "input": b'"hi"',
            "worker_port": 8000,
            "process_uri": "/run",
            "webhook": None,
            "webhook_auth_key": None,
            "headers": None,
            "now_ms": self.clock.now_ms(),
            **changes,
        }
        submitted = await self.writer.commit(SubmitTask(**values))
        payload = values["input"]
        ready = ReadyTask(
            seq=submitted.seq,
            endpoint_id=1,
            task_id=task_id,
            fence=0,
            strikes=0,
            worker_port=values["worker_port"],
            process_uri=values["process_uri"],
            input=payload if len(payload) <= limits.READY_INPUT_MAX_BYTES else None,
            headers=values["headers"],
        )
        self.dispatcher.add_task(ready)
        await settle()
        return ready

    def task(self, task_id: str = "t") -> Task:
        found = self.store.task(1, task_id)
        assert found is not None
        return found

    def state(self, task_id: str = "t") -> TaskState:
        return self.task(task_id).state

    async def close(self) -> None:
        await self.dispatcher.close()
        self.store.close()


@pytest.fixture
async def floor(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Floor]:
    made = Floor(tmp_path)
    yield made
    await made.close()


# ---- the plain way


async def test_a_task_goes_to_a_worker_and_its_answer_becomes_the_output(floor: Floor) -> None:
    worker = floor.worker()
    await floor.submit("t", input=b'{ "a": [1.50] }', process_uri="/v1/x")
    (call,) = worker.calls
    assert (call.target, call.body) == ("/v1/x", b'{ "a": [1.50] }')
    assert (call.headers["x-task-id"], call.headers["x-task-attempt"], call.headers["x-endpoint-id"]) == ("t", "1", "1")
    assert (floor.state(), floor.task().worker_url) == (TaskState.LEASED, "http://worker:8000")
    call.ok(b'{"b":2}')
    await settle()
    assert (floor.state(), floor.task().output, floor.task().error) == (TaskState.SUCCEEDED, b'{"b":2}', None)


async def test_nothing_is_sent_before_the_lease_is_durable(floor: Floor) -> None:
    worker = floor.worker()
    ready = await floor.submit("t")
    worker.calls[0].refuse()
    await settle()
    floor.writer.held = True
    floor.dispatcher.add_waiting(ready, floor.clock.ms)
    await floor.clock.advance(1)
    assert len(worker.all_calls) == 1
    floor.writer.let_go()
    await settle()
    assert floor.state() is TaskState.LEASED
    assert len(worker.all_calls) == 2


async def test_a_worker_has_one_task_at_a_time_and_the_oldest_task_goes_first(floor: Floor) -> None:
    worker = floor.worker()
    for number in range(4):
        await floor.submit(f"t{number}")
    for number in range(4):
        (call,) = worker.calls
        assert call.task_id == f"t{number}"
        call.ok()
        await settle()


async def test_concurrency_is_how_many_tasks_a_worker_has_at_a_time(tmp_path: Path) -> None:
    floor = Floor(tmp_path, concurrency=3)
    worker = floor.worker()
    for number in range(5):
        await floor.submit(f"t{number}")
    assert [call.task_id for call in worker.calls] == ["t0", "t1", "t2"]
    worker.calls[1].ok()
    await settle()
    assert [call.task_id for call in worker.calls] == ["t0", "t2", "t3"]
    await floor.close()


async def test_the_worker_that_is_idle_longest_is_next(floor: Floor) -> None:
    one, two = floor.worker(), floor.worker()
    order = []
    for number in range(6):
        await floor.submit(f"t{number}")
        call = (one.calls + two.calls)[0]
        order.append(call.peer)
        call.ok()
        await settle()
    assert order == [one, two] * 3


async def test_a_task_waits_for_a_worker_to_become_ready(floor: Floor) -> None:
    await floor.submit("t")
    assert floor.state() is TaskState.QUEUED
    worker = floor.worker()
    await settle()
    assert [call.task_id for call in worker.calls] == ["t"]


async def test_a_large_input_is_read_back_and_sent_whole(floor: Floor) -> None:
    payload = b'"' + b"x" * limits.READY_INPUT_MAX_BYTES + b'"'
    worker = floor.worker()
    await floor.submit("t", input=payload)
    assert worker.calls[0].body == payload


# ---- what a worker's answer means


@pytest.mark.parametrize(
    ("body", "output"),
    [
        (b'{"a":1}', b'{"a":1}'),
        (b" [1]\n", b" [1]\n"),
        (b"", b"null"),
        (b" \n", b"null"),
        (b"plain", b'{"raw":"plain"}'),
        (b"\xff", '{"raw":"�"}'.encode()),
        (b'{"a":01}', b'{"raw":"{\\"a\\":01}"}'),
        (b"NaN", b'{"raw":"NaN"}'),
        (b"\xef\xbb\xbf{}", '{"raw":"\ufeff{}"}'.encode()),
        (b'"\\ud800"', b'{"raw":"\\"\\\\ud800\\""}'),
        (b"[" * 5000 + b"]" * 5000, None),
    ],
    ids=lambda value: repr(value)[:20].replace("\\", "/"),
)
def test_a_2xx_answer_is_a_success_with_its_json_or_its_text(body: bytes, output: bytes | None) -> None:
    for status in (200, 201, 204, 299):
        end = ended_by(http1.Answer(status, [], body))
        assert (end.state, end.error) == (TaskState.SUCCEEDED, None)
        if output is not None:
            assert end.output == output
        else:
            assert end.output.startswith(b'{"raw":"[[')  # type: ignore[union-attr]


@pytest.mark.parametrize("status", [300, 302, 400, 404, 429, 500, 503, 599, 600, 999])
def test_any_other_status_is_a_failure_that_says_status_and_the_beginning_of_the_body(status: int) -> None:
    end = ended_by(http1.Answer(status, [], b"out of memory\n"))
    assert (end.state, end.output, end.error) == (TaskState.FAILED, None, f"HTTP {status}: out of memory")
    assert ended_by(http1.Answer(status, [], b"")).error == f"HTTP {status} without a body."
    long = ended_by(http1.Answer(status, [], "é".encode() * 100_000)).error
    assert long is not None
    assert len(long) == limits.ERROR_TEXT_MAX_CHARS


async def test_a_worker_answer_of_4xx_or_5xx_fails_the_task_without_a_second_attempt(floor: Floor) -> None:
    worker = floor.worker()
    for status in (400, 422, 500, 503):
        await floor.submit(f"s{status}", webhook=HOOK)
        worker.calls[0].reply(status, b'{"detail":"no"}')
        await settle()
        task = floor.task(f"s{status}")
        assert (task.state, task.error, task.output) == (TaskState.FAILED, f'HTTP {status}: {{"detail":"no"}}', None)
    assert len(worker.all_calls) == 4
    assert [each.task_seq for each in floor.outbox] == [1, 2, 3, 4]


@pytest.mark.parametrize(("how", "says"), [("garbage", "not HTTP"), ("flood", "more than")])
async def test_an_answer_that_cannot_be_read_fails_the_task_at_once(floor: Floor, how: str, says: str) -> None:
    worker = floor.worker()
    await floor.submit("t")
    getattr(worker.calls[0], how)()
    await settle()
    assert floor.state() is TaskState.FAILED
    assert says in str(floor.task().error)
    assert floor.of(worker).in_hand == 0


# ---- headers


def ready_task(headers: bytes | None) -> ReadyTask:
    return ReadyTask(
        seq=1,
        endpoint_id=5,
        task_id="t",
        fence=2,
        strikes=0,
        worker_port=1,
        process_uri="/",
        input=b"1",
        headers=headers,
    )


def test_a_tasks_headers_are_forwarded_as_given() -> None:
    block = forwarded_headers(ready_task(b'{"Authorization":"Bearer x","X-Empty":"","x-tab":"a\\tb"}'), 5)
    assert block.endswith(b"Authorization: Bearer x\r\nX-Empty: \r\nx-tab: a\tb\r\n")
    assert block.startswith(
        b"Content-Type: application/json\r\nX-Task-Id: t\r\nX-Task-Attempt: 2\r\nX-Endpoint-Id: 5\r\n"
    )


@pytest.mark.parametrize(
    "name",
    ["Host", "host", "Content-Length", "CONTENT-TYPE", "Connection", "Keep-Alive", "Transfer-Encoding", "TE", "Trailer",
     "Upgrade", "Proxy-Connection", "Proxy-Authorization", "Expect", "X-Task-Id", "x-task-attempt", "X-Endpoint-Id"],
)  # fmt: skip
def test_headers_of_the_connection_and_ours_are_not_forwarded(name: str) -> None:
    block = forwarded_headers(ready_task(f'{{"{name}":"evil","X-Other":"1"}}'.encode()), 5)
    assert b"evil" not in block
    assert block.endswith(b"X-Other: 1\r\n")


# ---- attempts


FAULTS = ["refuse", "lose", "time_out"]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_task_without_an_answer_is_tried_four_times_with_longer_waits_and_then_fails(
    floor: Floor, fault: str
) -> None:
    worker = floor.worker(then=lambda call: getattr(call, fault)())
    start_ms = floor.clock.ms
    at_ms: list[int] = []
    worker.then = lambda call: (at_ms.append(floor.clock.ms - start_ms), getattr(call, fault)())[-1]
    await floor.submit("t", webhook=HOOK)
    assert floor.state() is TaskState.RETRY_WAIT
    await floor.clock.advance(60)
    assert at_ms == [0, 100, 500, 2100]
    task = floor.task()
    assert task.state is TaskState.FAILED
    assert task.error is not None
    assert task.error.startswith("No worker ended this task in 4 attempts. The last one: ")
    assert "says the test" in task.error
    assert "workerPort" in task.error
    assert [call.attempt for call in worker.all_calls] == [1, 2, 3, 4]
    assert len(floor.outbox) == 1
    await floor.clock.advance(3600)
    assert len(worker.all_calls) == 4


async def test_a_task_that_is_answered_on_a_later_attempt_succeeds(floor: Floor) -> None:
    worker = floor.worker(then=lambda call: call.lose() if call.attempt < 4 else call.ok())
    await floor.submit("t")
    await floor.clock.advance(10)
    assert floor.state() is TaskState.SUCCEEDED
    assert len(worker.all_calls) == 4


async def test_max_attempts_is_how_often_and_waits_have_a_longest(tmp_path: Path) -> None:
    for attempts in (1, 2, 100):
        floor = Floor(tmp_path / str(attempts), max_attempts=attempts)
        worker = floor.worker(then=lambda call: call.refuse())
        await floor.submit("t")
        await floor.clock.advance(attempts * dispatch._RETRY_MAX_MS / 1000)
        assert (len(worker.all_calls), floor.state()) == (attempts, TaskState.FAILED)
        await floor.close()


async def test_a_task_keeps_its_place_when_its_worker_dies(floor: Floor) -> None:
    worker = floor.worker()
    for number in range(3):
        await floor.submit(f"t{number}")
    floor.bury(worker)
    await settle()
    other = floor.worker()
    await settle()
    assert other.calls[0].task_id == "t0"
    assert other.calls[0].attempt == 2


async def test_a_worker_that_refuses_at_once_does_not_use_up_the_attempts_of_the_whole_queue(floor: Floor) -> None:
    good, broken = floor.worker(), floor.worker(listens=False)
    for number in range(40):
        await floor.submit(f"t{number:02}")
    for _ in range(400):
        if good.calls:
            good.calls[0].ok()
        await floor.clock.advance(0.1)
    states = Counter(floor.state(f"t{number:02}") for number in range(40))
    assert states == {TaskState.SUCCEEDED: 40}
    assert len(broken.all_calls) < 10


async def test_a_worker_that_answers_again_is_used_as_before(floor: Floor) -> None:
    worker = floor.worker(listens=False)
    await floor.submit("t")
    await floor.clock.advance(0.5)
    worker.listens = True
    worker.then = Call.ok
    await floor.clock.advance(2)
    assert floor.of(worker).misses == 0
    for number in range(5):
        await floor.submit(f"n{number}")
        assert floor.state(f"n{number}") is TaskState.SUCCEEDED


async def test_a_fault_of_ours_fails_the_task_and_keeps_the_worker(floor: Floor) -> None:
    worker = floor.worker()

    def break_down(call: Call) -> None:
        raise ValueError("Each header line must end with CRLF.")

    worker.then = break_down
    await floor.submit("t")
    assert floor.state() is TaskState.FAILED
    assert "ValueError" in str(floor.task().error)
    worker.then = Call.ok
    await floor.submit("next")
    assert floor.state("next") is TaskState.SUCCEEDED


@pytest.mark.parametrize("shortage", [http1.OutOfResources("Cannot connect: too many open files."), MemoryError()])
async def test_what_we_are_short_of_makes_a_task_wait_and_counts_no_attempt(floor: Floor, shortage: Exception) -> None:
    worker = floor.worker()

    def fall_short(call: Call) -> None:
        raise shortage

    worker.then = fall_short
    for name in ("t", "u"):
        await floor.submit(name)
    await floor.clock.advance(60)
    assert {each.strikes for _, each in floor.store.waiting()} == {0}
    # One try each half second, for whichever task: a queue of thousands must not be leased in circles.
    assert 100 <= len(worker.all_calls) <= 130
    worker.then = Call.ok
    await floor.clock.advance(2)
    assert (floor.state("t"), floor.state("u")) == (TaskState.SUCCEEDED, TaskState.SUCCEEDED)


# ---- draining


async def test_a_leaving_worker_ends_what_it_has_and_gets_nothing_more(floor: Floor) -> None:
    worker = floor.worker()
    await floor.submit("t0")
    await floor.submit("t1")
    floor.dismiss(worker)
    assert not floor.of(worker).free.is_set()
    worker.calls[0].ok()
    await settle()
    assert floor.of(worker).free.is_set()
    assert (floor.state("t0"), floor.state("t1")) == (TaskState.SUCCEEDED, TaskState.QUEUED)
    assert worker.calls == []


async def test_a_task_taken_from_a_leaving_worker_goes_back_at_once_and_costs_no_attempt(floor: Floor) -> None:
    for _ in range(6):
        worker = floor.worker()
        if not floor.store.task(1, "t"):
            await floor.submit("t")
        await settle()
        assert [call.task_id for call in worker.calls] == ["t"]
        floor.dismiss(worker)
        worker.calls[0].lose()
        await settle()
    assert floor.state() is TaskState.QUEUED
    (ready,) = floor.store.queued(1, 0, 9)
    assert (ready.fence, ready.strikes) == (6, 0)


# ---- late answers


async def test_a_late_answer_changes_nothing_and_is_counted(floor: Floor) -> None:
    worker = floor.worker()
    await floor.submit("t", webhook=HOOK)
    late = worker.calls[0]
    # Meanwhile the task was failed by a delete.
    await floor.writer.commit(FailOpenTasks(endpoint_id=1, error="deleted", limit=9, now_ms=floor.clock.ms))
    before = floor.task()
    late.ok(b'"too late"')
    await settle()
    assert floor.task() == before
    assert floor.stats.counts["late_answers"] == 1
    assert floor.outbox == []


async def test_an_answer_with_an_old_fence_changes_nothing(floor: Floor) -> None:
    worker = floor.worker()
    ready = await floor.submit("t")
    old = worker.calls[0]
    # As another server would that took the store over: returned, and leased anew.
    await floor.writer.commit(ReturnTask(seq=ready.seq, fence=1, strike=False, next_ms=None, now_ms=1))
    again = LeaseTask(seq=ready.seq, fence=1, worker_id=2, worker_url="http://2", deadline_ms=9, now_ms=2)
    assert await floor.writer.commit(again) is Moved.DONE
    before = floor.task()
    old.ok()
    await settle()
    assert floor.task() == before
    assert floor.stats.counts["late_answers"] == 1


async def test_a_task_that_failed_while_queued_is_not_handed_out(floor: Floor) -> None:
    worker = floor.worker()
    for number in range(3):
        await floor.submit(f"t{number}")
    # Oldest first: the one in the worker's hands and the next.
    await floor.writer.commit(FailOpenTasks(endpoint_id=1, error="deleted", limit=2, now_ms=1))
    worker.calls[0].ok()
    await settle()
    assert [call.task_id for call in worker.calls] == ["t2"]
    assert floor.stats.counts["stale_leases"] == 1


async def test_a_task_that_failed_while_waiting_is_not_queued_again(floor: Floor) -> None:
    worker = floor.worker(then=lambda call: call.refuse())
    await floor.submit("t")
    await floor.writer.commit(FailOpenTasks(endpoint_id=1, error="deleted", limit=1, now_ms=1))
    await floor.clock.advance(60)
    assert floor.state() is TaskState.FAILED
    assert len(worker.all_calls) == 1


# ---- a store that fails


async def test_a_lease_that_is_not_kept_is_not_sent_and_tried_again(floor: Floor) -> None:
    worker = floor.worker()
    floor.writer.refuse_those[LeaseTask] = 2
    await floor.submit("t")
    assert worker.all_calls == []
    assert floor.state() is TaskState.QUEUED
    await floor.clock.advance(2 * limits.STORE_RETRY_MS / 1000)
    assert [(call.task_id, call.attempt) for call in worker.all_calls] == [("t", 1)]


async def test_an_answer_is_written_down_as_soon_as_the_store_works_again(floor: Floor) -> None:
    worker = floor.worker()
    await floor.submit("t", webhook=HOOK)
    floor.writer.refuse = 3
    worker.calls[0].ok(b'"precious"')
    await settle()
    assert floor.state() is TaskState.LEASED
    await floor.clock.advance(3 * limits.STORE_RETRY_MS / 1000)
    assert (floor.state(), floor.task().output) == (TaskState.SUCCEEDED, b'"precious"')
    assert len(floor.outbox) == 1
    assert len(worker.all_calls) == 1


async def test_a_return_is_written_down_as_soon_as_the_store_works_again(floor: Floor) -> None:
    worker = floor.worker()
    await floor.submit("t")
    floor.writer.refuse = 1
    worker.calls[0].lose()
    await settle()
    assert floor.state() is TaskState.LEASED
    await floor.clock.advance(limits.STORE_RETRY_MS / 1000)
    assert floor.state() is not TaskState.FAILED
    await floor.clock.advance(1)
    assert [call.attempt for call in worker.all_calls] == [1, 2]


async def test_an_input_that_cannot_be_read_now_costs_no_attempt(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = floor.worker()
    real = floor.store.task_input
    broken = 10

    def flaky(seq: int) -> bytes:
        nonlocal broken
        broken -= 1
        if broken >= 0:
            raise StoreError("disk I/O error")
        return real(seq)

    monkeypatch.setattr(floor.store, "task_input", flaky)
    await floor.submit("t", input=b'"' + b"x" * limits.READY_INPUT_MAX_BYTES + b'"')
    await floor.clock.advance(60)
    assert len(worker.calls) == 1
    worker.calls[0].ok()
    await settle()
    assert floor.state() is TaskState.SUCCEEDED


async def test_a_queue_that_cannot_be_read_now_is_read_later(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> list[ReadyTask]:
        raise StoreError("disk I/O error")

    monkeypatch.setattr(floor.store, "queued", broken)
    worker = floor.worker()
    await floor.submit("t0")
    await floor.submit("t1")
    assert worker.calls == []
    monkeypatch.undo()
    await floor.clock.advance(limits.STORE_RETRY_MS / 1000)
    assert [call.task_id for call in worker.calls] == ["t0"]


# ---- restart


async def test_what_was_leased_when_the_server_died_is_sent_again_first_and_as_a_new_attempt(tmp_path: Path) -> None:
    one = Floor(tmp_path)
    worker = one.worker()
    await one.submit("t0")
    await one.submit("t1")
    assert len(worker.calls) == 1
    await one.close()
    two = Floor(tmp_path, one.clock)
    two.take_up_the_waiting()
    other = two.worker()
    await settle()
    (call,) = other.calls
    assert (call.task_id, call.attempt) == ("t0", 2)
    call.ok()
    await settle()
    other.calls[0].ok()
    await settle()
    assert (two.state("t0"), two.state("t1")) == (TaskState.SUCCEEDED, TaskState.SUCCEEDED)
    await two.close()


async def test_crashes_of_the_server_use_no_attempt(tmp_path: Path) -> None:
    clock = FakeClock()
    for crash in range(10):
        floor = Floor(tmp_path, clock)
        floor.worker()
        if not crash:
            await floor.submit("t")
        await settle()
        assert floor.state() is TaskState.LEASED
        await floor.close()
    floor = Floor(tmp_path, clock)
    (ready,) = floor.store.queued(1, 0, 9)
    assert (ready.fence, ready.strikes) == (10, 0)
    await floor.close()


async def test_a_wait_for_the_next_attempt_goes_on_after_a_restart(tmp_path: Path) -> None:
    one = Floor(tmp_path)
    one.worker(then=lambda call: call.refuse())
    await one.submit("t")
    assert one.state() is TaskState.RETRY_WAIT
    await one.close()
    two = Floor(tmp_path, FakeClock(one.clock.ms + 50))
    two.take_up_the_waiting()
    worker = two.worker()
    await two.clock.advance(0.049)
    assert worker.calls == []
    await two.clock.advance(0.001)
    assert [(call.task_id, call.attempt) for call in worker.calls] == [("t", 2)]
    await two.close()


# ---- any order of events


class Machine(RuleBasedStateMachine):
    """Tasks, workers, faults, deletes, crashes of the server and time, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.floor = self.run(self.open(FakeClock()))
        self.submitted = 0
        self.attempts: dict[str, int] = {}
        self.ended: dict[str, tuple[TaskState, bytes | None, str | None]] = {}
        self.callers: list[Caller] = []
        self.old_calls: list[Call] = []

    async def open(self, clock: FakeClock) -> Floor:
        floor = Floor(Path(self.folder.name), clock)
        floor.take_up_the_waiting()
        return floor

    def run(self, work: Any) -> Any:
        async def whole() -> Any:
            done = await work
            await settle()
            return done

        return self.loop.run_until_complete(whole())

    @property
    def calls(self) -> list[Call]:
        return [call for caller in self.callers for call in caller.calls]

    @rule(webhook=st.sampled_from([None, HOOK]))
    def submit(self, webhook: str | None) -> None:
        self.submitted += 1
        refused = self.floor.writer.refuse > 0
        with pytest.raises(StoreError) if refused else nullcontext():
            self.run(self.floor.submit(f"t{self.submitted}", webhook=webhook))

    @rule()
    def add_a_worker(self) -> None:
        async def add() -> None:
            self.callers.append(self.floor.worker())

        self.run(add())

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), how=st.sampled_from(["ok", "ok", "refuse", "lose", "time_out", "garbage", "fail"]))
    def answer(self, data: st.DataObject, how: str) -> None:
        call = data.draw(st.sampled_from(self.calls))

        async def answer() -> None:
            call.reply(500, b"no") if how == "fail" else getattr(call, how)()

        self.run(answer())

    @precondition(lambda self: self.callers)
    @rule(data=st.data(), way=st.sampled_from(["die", "leave", "taken away"]))
    def a_worker_goes(self, data: st.DataObject, way: str) -> None:
        caller = data.draw(st.sampled_from(self.callers))

        async def go() -> None:
            if way == "die":
                self.floor.bury(caller)
            else:
                self.floor.dismiss(caller)
            if way == "taken away":
                for call in caller.calls:
                    call.lose()

        self.run(go())

    @rule(seconds=st.sampled_from([0.05, 0.5, 5]))
    def time_passes(self, seconds: float) -> None:
        self.run(self.floor.clock.advance(seconds))

    @rule(times=st.integers(1, 2))
    def the_store_fails(self, times: int) -> None:
        self.floor.writer.refuse = times

    @rule(limit=st.integers(1, 2))
    def fail_some(self, limit: int) -> None:
        self.floor.writer.refuse = 0
        self.run(self.commit(FailOpenTasks(endpoint_id=1, error="deleted", limit=limit, now_ms=self.floor.clock.ms)))

    async def commit(self, command: Any) -> Any:
        return await self.floor.writer.commit(command)

    @rule()
    def the_server_crashes(self) -> None:
        async def crash() -> None:
            self.floor.writer.drop()
            self.floor.writer.held = True
            await self.floor.close()

        self.run(crash())
        self.callers = []
        self.floor = self.run(self.open(self.floor.clock))

    @invariant()
    def a_task_is_in_the_hands_of_one_worker_at_most(self) -> None:
        assert max(Counter(call.task_id for call in self.calls).values(), default=0) <= 1
        leased = {t.task_id for t in self.floor.store.tasks(1, [TaskState.LEASED], 0, 999)}
        assert {call.task_id for call in self.calls if self.state(call.task_id) is not TaskState.FAILED} <= leased

    def state(self, task_id: str) -> TaskState:
        return self.floor.state(task_id)

    @invariant()
    def a_worker_has_one_task_at_most(self) -> None:
        assert all(len(caller.calls) <= 1 for caller in self.callers)

    @invariant()
    def the_fence_strictly_rises(self) -> None:
        for caller in self.callers:
            for call in caller.all_calls:
                if call not in self.old_calls:
                    self.old_calls.append(call)
        seen: dict[str, list[int]] = {}
        for call in self.old_calls:
            seen.setdefault(call.task_id, []).append(call.attempt)
        for attempts in seen.values():
            assert len(set(attempts)) == len(attempts)

    @invariant()
    def a_terminal_state_is_final(self) -> None:
        for task_id, end in self.ended.items():
            task = self.floor.task(task_id)
            assert (task.state, task.output, task.error) == end
        for state in (TaskState.SUCCEEDED, TaskState.FAILED):
            for summary in self.floor.store.tasks(1, [state], 0, 999):
                task = self.floor.task(summary.task_id)
                self.ended[task.task_id] = (task.state, task.output, task.error)

    @invariant()
    def no_idle_worker_and_waiting_task_at_once(self) -> None:
        if self.floor.writer.refuse or self.floor.clock.next_due_ms() is not None:
            return  # somebody rests, or waits for the store
        idle = [w for w in self.floor.workers if w.accepting and not w.in_hand]
        queued = self.floor.store.counts(1).get(TaskState.QUEUED, 0)
        assert not (idle and queued)

    def teardown(self) -> None:
        """With good workers and time, every task ends."""

        async def finish() -> None:
            self.floor.writer.refuse = 0
            for caller in self.callers:
                caller.then = Call.ok
                for call in caller.calls:
                    call.ok()
            self.floor.worker(then=Call.ok)
            await self.floor.clock.advance(600)
            counts = self.floor.store.counts(1)
            assert sum(counts.values()) == self.floor.store.counts(1).get(TaskState.SUCCEEDED, 0) + counts.get(
                TaskState.FAILED, 0
            )
            await self.floor.close()

        self.run(finish())
        self.loop.close()
        self.folder.cleanup()


TestATaskIsNeverHandedToTwoWorkersAndEveryTaskEnds = Machine.TestCase
TestATaskIsNeverHandedToTwoWorkersAndEveryTaskEnds.settings = hypothesis_settings(
    max_examples=30, stateful_step_count=35
)
TestATaskIsNeverHandedToTwoWorkersAndEveryTaskEnds.pytestmark = []


async def test_finishing_is_guarded_by_the_fence_of_the_lease(floor: Floor) -> None:
    worker = floor.worker()
    await floor.submit("t")
    worker.calls[0].ok()
    await settle()
    finishes = [command for command, _ in floor.writer.done if isinstance(command, FinishTask)]
    leases = [command for command, _ in floor.writer.done if isinstance(command, LeaseTask)]
    assert [(command.fence) for command in leases] == [0]
    assert [(command.fence) for command in finishes] == [1]
