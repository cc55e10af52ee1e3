"""Hands the tasks of one endpoint to its ready workers, and writes down what became of each."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Coroutine
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Protocol

import msgspec

from yottabench.clock import Clock
from yottabench.emulator import http1
from yottabench.emulator.limits import ERROR_TEXT_MAX_CHARS, OUTPUT_MAX_BYTES, STORE_RETRY_MS
from yottabench.emulator.ready import ReadyQueue
from yottabench.emulator.settings import Settings
from yottabench.emulator.stats import Stats
from yottabench.emulator.store import base
from yottabench.emulator.store.base import (
    DueDelivery,
    Moved,
    ReadyTask,
    Store,
    StoreError,
    TaskState,
)
from yottabench.emulator.store.writer import Writer

_log = logging.getLogger("yottabench.dispatch")

# A worker that is there but did not take or end the task is given a moment, and so is the task; four times as long
# with each time in a row. Without it, one worker that refuses at once would use up the attempts of the whole queue.
_RETRY_FIRST_MS = 100
_RETRY_MAX_MS = 30_000

# What a worker that is only busy answers; with --retry-busy the task is tried again.
BUSY_STATUSES = frozenset([429, 502, 503, 504])
BUSY_WAIT_MAX_MS = 3_600_000

# Not forwarded: they belong to the connection, or are ours to say. Names in lower case.
NOT_FORWARDED = frozenset(
    [
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-endpoint-id",
        "x-task-attempt",
        "x-task-id",
    ]
)


class Outbox(Protocol):
    """Takes deliveries that were just made durable."""

    def add(self, delivery: DueDelivery) -> None:
        """Send it when it is due."""
        ...


class ReadyWorker:
    """A worker as dispatch sees it: where it is, and how many tasks it has in hand."""

    def __init__(self, worker_id: int, caller: "WorkerCaller") -> None:
        self.id = worker_id
        self.caller = caller
        self.accepting = True
        self.leaving = False  # told to go
        self.gone = False
        self.in_hand = 0
        self.misses = 0  # tasks in a row that it did not end
        self.free = asyncio.Event()  # set while it has nothing in hand
        self.free.set()


class WorkerCaller(Protocol):
    """The way to one worker."""

    def url(self, port: int) -> str:
        """What `workerUrl` shows for a task sent to this port."""
        ...

    def post(self, port: int, target: str, headers: bytes, body: bytes) -> Awaitable[http1.Answer]:
        """Send a task; raises http1.Http1Error."""
        ...


class Returned(msgspec.Struct, frozen=True):
    """The attempt ended without an answer: back to the queue, and why; `ours`: it never came to the worker.

    `wait_ms`: how long the worker asked to be left alone.
    """

    reason: str
    ours: bool = False
    wait_ms: int = 0


class Ended(msgspec.Struct, frozen=True):
    """The worker answered: SUCCEEDED with `output` (JSON), or FAILED with `error`."""

    state: TaskState
    output: bytes | None
    error: str | None


class _Lease(msgspec.Struct):
    """A task in a worker's hands: until when, the call, and whether to wait for it no longer."""

    deadline_ms: int
    call: "asyncio.Future[http1.Answer]"
    is_over: bool = False


class Dispatcher:
    """One endpoint's queue meets its workers: oldest task first, longest idle worker first."""

    def __init__(
        self,
        endpoint_id: int,
        settings: Settings,
        clock: Clock,
        store: Store,
        writer: Writer,
        outbox: Outbox,
        stats: Stats,
    ) -> None:
        self._endpoint_id = endpoint_id
        self._settings = settings
        self._clock = clock
        self._store = store
        self._writer = writer
        self._outbox = outbox
        self._stats = stats
        self._ready = ReadyQueue(store, endpoint_id)
        self._idle: deque[ReadyWorker] = deque()
        self._leases: dict[int, _Lease] = {}  # by the seq of the task
        self._under_way: set[asyncio.Task[None]] = set()
        self._moving = 0  # tasks on their way to a worker, or with its answer to the disk
        self._read_later = False  # the queue could not be read; one timer is enough, however many tasks come in
        self._closed = False

    # ---- what comes in

    def add_task(self, task: ReadyTask) -> None:
        """A task that was just made durable."""
        self._ready.add(task)
        self._pump()

    def add_waiting(self, task: ReadyTask, next_ms: int) -> None:
        """A task in RETRY_WAIT: queue it again at `next_ms`."""
        self._clock.call_at(next_ms, lambda: self._spawn(self._requeue(task)))

    def add_worker(self, worker: ReadyWorker) -> None:
        """A worker that became ready."""
        self._idle.extend([worker] * self._settings.concurrency)
        self._pump()

    def remove_worker(self, worker: ReadyWorker) -> None:
        """Give it no other task; what it has in hand goes on."""
        worker.accepting = False
        self._idle = deque(other for other in self._idle if other is not worker)

    # ---- when time is advanced

    @property
    def busy(self) -> int:
        """How many tasks are being moved right now; those in the hands of workers are not."""
        return len(self._under_way) + self._moving

    def next_ms(self) -> int | None:
        """When the first lease ends; None when there is none."""
        return min((lease.deadline_ms for lease in self._leases.values()), default=None)

    def end_leases(self, now_ms: int) -> None:
        """End the leases whose time is over. Without `advance` the call to the worker ends by its own timeout."""
        for seq, lease in list(self._leases.items()):
            if lease.deadline_ms <= now_ms:
                del self._leases[seq]
                lease.is_over = True
                self._moving += 1
                lease.call.cancel()

    async def close(self) -> None:
        """End what is under way; leased tasks stay leased in the store, whose recovery queues them again."""
        self._closed = True
        under_way: list[asyncio.Future[Any]] = [*self._under_way, *(lease.call for lease in self._leases.values())]
        for each in under_way:
            each.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    # ---- one task

    def _pump(self) -> None:
        while self._idle and not self._read_later and not self._closed:
            try:
                task = self._ready.pop()
            except StoreError as error:
                _log.error("The queue of endpoint %d cannot be read now. %s", self._endpoint_id, error)
                self._read_later = True
                self._clock.call_at(self._clock.now_ms() + STORE_RETRY_MS, self._read_again)
                return
            if task is None:
                return
            worker = self._idle.popleft()
            worker.in_hand += 1
            worker.free.clear()
            self._moving += 1
            asyncio.get_running_loop().call_soon(self._lease, task, worker)

    def _read_again(self) -> None:
        self._read_later = False
        self._pump()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._closed:
            work.close()
            return
        under_way = asyncio.get_running_loop().create_task(work)
        self._under_way.add(under_way)
        under_way.add_done_callback(self._under_way.discard)

    def _release(self, worker: ReadyWorker, rest_ms: int = 0) -> None:
        worker.in_hand -= 1
        if worker.in_hand == 0:
            worker.free.set()
        if rest_ms:
            self._clock.call_at(self._clock.now_ms() + rest_ms, lambda: self._take_up(worker))
        else:
            self._take_up(worker)

    def _take_up(self, worker: ReadyWorker) -> None:
        if worker.accepting:
            self._idle.append(worker)
            self._pump()

    # What every task goes through has no asyncio.Task to wait in: that would be a tenth of all that a task takes.

    def _lease(self, task: ReadyTask, worker: ReadyWorker) -> None:
        if self._closed or not worker.accepting:  # it went a moment ago: the task must not lose an attempt to it
            self._moving -= 1
            self._ready.put_back(task)
            self._release(worker)
            self._pump()
            return
        now_ms = self._clock.now_ms()
        deadline_ms = now_ms + int(self._settings.worker_timeout_s * 1000)
        lease = base.LeaseTask(
            seq=task.seq,
            fence=task.fence,
            worker_id=worker.id,
            worker_url=worker.caller.url(task.worker_port),
            deadline_ms=deadline_ms,
            now_ms=now_ms,
        )
        self._writer.commit_then(lease, partial(self._leased, task, worker, deadline_ms))

    def _leased(self, task: ReadyTask, worker: ReadyWorker, deadline_ms: int, leased: Moved | StoreError) -> None:
        self._moving -= 1
        if self._closed:  # it stays leased in the store, as those under way do
            return
        if isinstance(leased, StoreError):
            # Still queued in the store: it keeps its place, and the store is given a moment.
            self._ready.put_back(task)
            self._clock.call_at(self._clock.now_ms() + STORE_RETRY_MS, lambda: self._release(worker))
        elif leased is Moved.STALE:
            self._stats.add("stale_leases")
            self._release(worker)
        else:
            task.fence += 1
            self._call(task, worker, deadline_ms)

    def _call(self, task: ReadyTask, worker: ReadyWorker, deadline_ms: int) -> None:
        try:
            payload = task.input if task.input is not None else self._store.task_input(task.seq)
            headers = forwarded_headers(task, self._endpoint_id)
            call = asyncio.ensure_future(worker.caller.post(task.worker_port, task.process_uri, headers, payload))
        except Exception as error:
            self._end_attempt(task, worker, self._without_answer(task, worker, error))
            return
        lease = self._leases[task.seq] = _Lease(deadline_ms, call)
        call.add_done_callback(partial(self._called, task, worker, lease))

    def _called(
        self, task: ReadyTask, worker: ReadyWorker, lease: _Lease, call: "asyncio.Future[http1.Answer]"
    ) -> None:
        if lease.is_over:
            self._moving -= 1
        else:
            del self._leases[task.seq]
        if self._closed:
            return
        if call.cancelled():
            end = Returned(f"Worker {worker.id} gave no complete answer before its lease ended.")
        elif (error := call.exception()) is not None:
            end = self._without_answer(task, worker, error)
        else:
            end = self._by_answer(call.result())
        self._end_attempt(task, worker, end)

    def _by_answer(self, answer: http1.Answer) -> Ended | Returned:
        if self._settings.retry_busy and answer.status in BUSY_STATUSES:
            return Returned(f"HTTP {answer.status}", wait_ms=asked_wait_ms(answer, self._clock.now_ms()))
        return ended_by(answer)

    def _without_answer(self, task: ReadyTask, worker: ReadyWorker, error: BaseException) -> Ended | Returned:
        match error:
            case http1.AnswerTooLarge():
                return _failed(f"Worker {worker.id} answered with more than {OUTPUT_MAX_BYTES} bytes.")
            case http1.BadAnswer():
                return _failed(f"Worker {worker.id} sent an answer that is not HTTP: {error}")
            case http1.OutOfResources() | StoreError() | MemoryError():
                reason = str(error) or "The server has no memory for it."
                _log.error("A task cannot be sent now. %s", reason)
                return Returned(reason, ours=True, wait_ms=STORE_RETRY_MS)
            case http1.Http1Error():
                return Returned(str(error))
            case _:
                # A fault of ours ends this task; it must not take the worker away from all others.
                about = f"Task {task.task_id} of endpoint {self._endpoint_id} could not be sent"
                _log.error(about, exc_info=error)
                return _failed(f"The server could not send this task ({type(error).__name__}). Its log says more.")

    def _end_attempt(self, task: ReadyTask, worker: ReadyWorker, end: Ended | Returned) -> None:
        missed = isinstance(end, Returned) and not end.ours
        worker.misses = worker.misses + 1 if missed else 0
        # What was our fault will be again at once, with this task or another.
        self._release(worker, STORE_RETRY_MS if isinstance(end, Returned) and end.ours else _wait_ms(worker.misses))
        if isinstance(end, Ended):
            self._finish(task, end)
        else:
            self._spawn(self._return(task, worker, end))

    def _finish(self, task: ReadyTask, end: Ended) -> None:
        finish = base.FinishTask(
            seq=task.seq,
            fence=task.fence,
            state=end.state,
            output=end.output,
            error=end.error,
            now_ms=self._clock.now_ms(),
        )
        self._moving += 1
        self._writer.commit_then(finish, partial(self._finished, finish))

    def _finished(self, finish: base.FinishTask, finished: base.Finished | StoreError) -> None:
        self._moving -= 1
        if isinstance(finished, StoreError):
            self._spawn(self._insist(finish))
        elif not self._closed:
            self._ended(finished)

    async def _insist(self, finish: base.FinishTask) -> None:
        self._ended(await self._writer.insist(finish, refused=True))

    def _ended(self, finished: base.Finished) -> None:
        if finished.moved is Moved.STALE:
            self._stats.add("late_answers")
        elif finished.delivery is not None:
            self._outbox.add(finished.delivery)

    async def _return(self, task: ReadyTask, worker: ReadyWorker, end: Returned) -> None:
        strike = not (worker.leaving or end.ours)  # a worker that was told to go is not the task's fault
        strikes = task.strikes + strike
        if strike and strikes >= self._settings.max_attempts:
            self._finish(
                task,
                _failed(
                    f"No worker ended this task in {strikes} attempts. The last one: {end.reason}"
                    " Check that the worker listens on workerPort and survives this input."
                ),
            )
            return
        now_ms = self._clock.now_ms()
        # A worker that is gone leaves the task to the others at once; one that is there and fails may need a moment.
        next_ms = now_ms + max(end.wait_ms, _wait_ms(max(1, strikes)))
        if worker.leaving or worker.gone:
            next_ms = None
        moved = await self._writer.insist(
            base.ReturnTask(
                seq=task.seq, fence=task.fence, strike=strike, next_ms=next_ms, now_ms=now_ms, reason=end.reason
            )
        )
        if moved is Moved.STALE:
            return
        self._stats.add("returned_tasks")
        task.strikes = strikes
        if next_ms is None:
            self._ready.put_back(task)
            self._pump()
        else:
            self.add_waiting(task, next_ms)

    async def _requeue(self, task: ReadyTask) -> None:
        moved = await self._writer.insist(base.RequeueTask(seq=task.seq, fence=task.fence, now_ms=self._clock.now_ms()))
        if moved is Moved.DONE:
            self._ready.put_back(task)
            self._pump()


def forwarded_headers(task: ReadyTask, endpoint_id: int) -> bytes:
    """The header block of the request to the worker: ours, then the task's own but for those of NOT_FORWARDED."""
    block = (
        f"Content-Type: application/json\r\nX-Task-Id: {task.task_id}\r\nX-Task-Attempt: {task.fence}\r\n"
        f"X-Endpoint-Id: {endpoint_id}\r\n"
    )
    if task.headers is not None:
        given = msgspec.json.decode(task.headers, type=dict[str, str])
        block += "".join(f"{name}: {value}\r\n" for name, value in given.items() if name.lower() not in NOT_FORWARDED)
    return block.encode("latin-1")


def _wait_ms(times: int) -> int:
    return min(_RETRY_MAX_MS, _RETRY_FIRST_MS << 2 * min(times - 1, 10)) if times else 0


def asked_wait_ms(answer: http1.Answer, now_ms: int) -> int:
    """What Retry-After asks for, in seconds or as a date; 0 without a readable one, an hour at most."""
    text = next((value for name, value in answer.headers if name.lower() == b"retry-after"), b"").decode("latin-1")
    try:
        wait_ms = int(text) * 1000 if text.isdigit() else int(parsedate_to_datetime(text).timestamp() * 1000) - now_ms
    except (TypeError, ValueError, OverflowError):
        return 0
    return min(max(0, wait_ms), BUSY_WAIT_MAX_MS)


def _failed(error: str) -> Ended:
    return Ended(TaskState.FAILED, None, error)


def ended_by(answer: http1.Answer) -> Ended:
    """What a worker's answer means for its task: 2xx is a success and its body the output, all else a failure."""
    if 200 <= answer.status < 300:
        return Ended(TaskState.SUCCEEDED, _as_json(answer.body), None)
    text = answer.body[: 4 * ERROR_TEXT_MAX_CHARS].decode("utf-8", "replace").strip()
    detail = f": {text}" if text else " without a body."
    return _failed(f"HTTP {answer.status}{detail}"[:ERROR_TEXT_MAX_CHARS])


def _as_json(body: bytes) -> bytes:
    if not body.strip():
        return b"null"
    try:
        body.decode("utf-8")
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.json.encode({"raw": body.decode("utf-8", "replace")})
    return body
