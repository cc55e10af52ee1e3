"""Submits many tasks and gives their results as they end: what to do next, without doing it.

Whoever drives it pulls items, starts the jobs it is given side by side, and reports how they ended: batch_drivers.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Literal

import attrs

from yottabench.client import requests
from yottabench.client.errors import InvalidArgument, InvalidRequest, TaskNotFound, YottaError
from yottabench.client.journal import Journal
from yottabench.client.many import Watch, summary_of
from yottabench.client.models import Endpoint, SubmittedTask, Task, TaskStatus, TaskSummary
from yottabench.client.news import Heard
from yottabench.client.operations import Operations
from yottabench.client.plans import Plan, Rules, call
from yottabench.client.requests import Id
from yottabench.client.submitting import submit
from yottabench.client.waiting import DEFAULT_POLL_S, FIRST_POLL_S, POLL_GROWTH, Patience

DEFAULT_CONCURRENCY = 32
DEFAULT_MAX_OPEN = 1000  # the number of open tasks that version 1 of the API documents as its limit
DEFAULT_PATIENCE_S = 300.0
HEARING_S = 0.05  # how often a batch looks what its receiver heard

Outcome = Literal["SUCCESS", "FAILED", "REFUSED", "SUBMITTED"]


@attrs.frozen
class BatchItem:
    """A task of a batch that differs from the others in more than its input."""

    input: Any
    task_id: str | None = None
    headers: Mapping[str, str] | None = attrs.field(default=None, repr=False)
    worker_port: int | None = None
    process_uri: str | None = None


@attrs.frozen
class BatchResult:
    """What became of one task of a batch."""

    index: int
    """Its place among the items, from 0."""
    task_id: str
    outcome: Outcome
    """SUCCESS or FAILED: how it ended; REFUSED: the service or a local check did not take it, see `error`; SUBMITTED:
    it is in the queue, and its end was not waited for."""
    task: Task | TaskSummary | None = None
    """The task as it ended; a summary, without output, when the batch was told not to fetch outputs."""
    error: YottaError | None = None


@attrs.frozen
class BatchProgress:
    """How far a batch is. Numbers of tasks; those of earlier runs with the same journal are in `skipped`."""

    submitted: int
    succeeded: int
    failed: int
    refused: int
    skipped: int

    @property
    def ended(self) -> int:
        """Tasks of this run that are done with."""
        return self.succeeded + self.failed + self.refused

    @property
    def open(self) -> int:
        """Tasks that are in the queue or at a worker."""
        return self.submitted - self.succeeded - self.failed


OnProgress = Callable[[BatchProgress], None]


@attrs.frozen(kw_only=True)
class BatchSettings:
    """How a batch is submitted. See Tasks.submit_many."""

    worker_port: int
    process_uri: str
    webhook: str | None = None
    webhook_auth_key: str | None = attrs.field(default=None, repr=False)
    headers: Mapping[str, str] | None = attrs.field(default=None, repr=False)
    trace_headers: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)
    concurrency: int = DEFAULT_CONCURRENCY
    max_open: int = DEFAULT_MAX_OPEN
    wait: bool = True
    outputs: bool = True
    poll_s: float = DEFAULT_POLL_S
    patience_s: float = DEFAULT_PATIENCE_S

    def __attrs_post_init__(self) -> None:
        for name, value in (("concurrency", self.concurrency), ("max_open", self.max_open)):
            if value < 1:
                raise InvalidArgument(f"{name} must be 1 or more, but is {value!r}.")
        for name, value in (("poll_s", self.poll_s), ("patience_s", self.patience_s)):
            if not value > 0:
                raise InvalidArgument(f"{name} must be more than 0 seconds, but is {value!r}.")


@attrs.frozen(eq=False)
class Job:
    """Something to carry out beside others; then one of the two is called."""

    plan: Plan[Any]
    finish: Callable[[Any], None]
    fail: Callable[[YottaError], None]
    """Raises the error when the batch cannot go on."""


class Batch:
    """The state of one batch. Not for several threads: one drives it, whoever carries out its jobs."""

    def __init__(
        self,
        rules: Rules,
        operations: Operations,
        endpoint_id: Id,
        settings: BatchSettings,
        journal: Journal,
        heard: Heard | None,
    ) -> None:
        self._rules = rules
        self._operations = operations
        self._endpoint_id = endpoint_id
        self._settings = settings
        self._journal = journal
        self._heard = heard
        self._watch = Watch(operations, endpoint_id, Patience(rules, math.inf, settings.patience_s), heard)
        self._numbers: dict[str, int] = {}
        self._accepted: list[str] = []
        self._to_fetch: deque[str] = deque()
        self._waiting: deque[tuple[int, BatchItem]] = deque()
        self._results: deque[BatchResult] = deque()
        self._next_number = 0
        self._no_more_items = False
        self._looking = False
        self._look_pause_s = FIRST_POLL_S
        self._next_look_s = -math.inf
        self.progress = BatchProgress(0, 0, 0, 0, 0)

    def check(self) -> Plan[Endpoint]:
        """Make sure that the endpoint takes tasks, before many are sent. Raises InvalidArgument, EndpointNotFound."""
        endpoint = yield from call(self._rules, self._operations.get_endpoint(self._endpoint_id), {})
        if str(endpoint.service_mode) in ("ALB", "CUSTOM"):
            raise InvalidArgument(
                f"Endpoint {endpoint.id} is in {endpoint.service_mode} mode; only QUEUE endpoints take tasks. "
                "Create one with serviceMode=QUEUE."
            )
        return endpoint

    @property
    def done(self) -> bool:
        """Whether every item's result has been given."""
        return self._no_more_items and not self._numbers and not self._results and not self._waiting

    @property
    def wants_item(self) -> bool:
        """Whether the next item should be pulled now."""
        room = len(self._numbers) + len(self._waiting) < self._settings.max_open
        # Items that are refused here make results without ever making room scarce.
        read = len(self._results) <= self._settings.concurrency
        return room and read and not self._waiting and not self._no_more_items

    def offer(self, item: Any) -> None:
        """The next item."""
        number, self._next_number = self._next_number, self._next_number + 1
        if number in self._journal.ended:
            self._count(skipped=1)
            return
        self._waiting.append((number, item if isinstance(item, BatchItem) else BatchItem(item)))

    def no_more_items(self) -> None:
        """The items are used up."""
        self._no_more_items = True

    def next_job(self) -> Job | None:
        """Something to start now, if there is anything."""
        if self._to_fetch:
            return self._fetch_job(self._to_fetch.popleft())
        if self._look_is_due():
            return self._look_job()
        while self._waiting:
            job = self._submit_job(*self._waiting.popleft())
            if job is not None:
                return job
        return None

    def pause_s(self) -> float | None:
        """How long at most to wait for a job to end; None: until one does."""
        if self._looking or not (self._watch.open or self._accepted):
            return None
        left_s = max(0.0, self._next_look_s - self._rules.now_s())
        return left_s if self._heard is None else min(left_s, HEARING_S)

    def take_result(self) -> BatchResult | None:
        """The next result, if there is one."""
        return self._results.popleft() if self._results else None

    def given(self, result: BatchResult) -> None:
        """The reader has dealt with this result, and wants the next."""
        self._journal.end(result.index, result.outcome)

    # ---- jobs

    def _submit_job(self, number: int, item: BatchItem) -> Job | None:
        settings = self._settings
        task_id = self._journal.task_id(number) if item.task_id is None else item.task_id
        try:
            body = requests.submit_body(
                item.input,
                worker_port=settings.worker_port if item.worker_port is None else item.worker_port,
                process_uri=settings.process_uri if item.process_uri is None else item.process_uri,
                task_id=task_id,
                webhook=settings.webhook,
                webhook_auth_key=settings.webhook_auth_key,
                headers=self._headers(item),
                check=self._operations.check,
            )
            if task_id in self._numbers:
                raise InvalidArgument(f"taskId {task_id} stands for two items of the batch. Give each its own.")
        except InvalidArgument as error:
            self._refuse(number, task_id, error)
            return None
        may_be_there = self._journal.start(number)
        self._numbers[task_id] = number
        if self._heard is not None:
            self._heard.also(task_id)  # the news may come before the answer
        plan = submit(
            self._rules,
            self._operations,
            self._endpoint_id,
            body,
            {"deadline_s": settings.patience_s, "max_retries": 1_000_000},
            # An id of the journal may stand for another input, when the items are not those of the earlier run.
            own_id=item.task_id is None and not may_be_there,
            look_first=may_be_there,
        )

        def fail(error: YottaError) -> None:
            if not isinstance(error, (InvalidArgument, InvalidRequest)):
                raise error
            del self._numbers[task_id]
            self._refuse(number, task_id, error)

        return Job(plan, self._submitted, fail)

    def _headers(self, item: BatchItem) -> Mapping[str, str] | None:
        headers = self._settings.headers if item.headers is None else item.headers
        # Under an id of the caller's own the same task may be submitted again, and must then be the same in all.
        if item.task_id is None and self._settings.trace_headers:
            return {**self._settings.trace_headers, **(headers or {})}
        return headers

    def _submitted(self, task: SubmittedTask) -> None:
        self._count(submitted=1)
        if not self._settings.wait:
            number = self._numbers.pop(task.task_id)
            self._results.append(BatchResult(number, task.task_id, "SUBMITTED"))
            return
        # A running look reads what is watched: what is new joins before the next one.
        self._accepted.append(task.task_id)

    def _look_is_due(self) -> bool:
        if self._looking or not (self._watch.open or self._accepted):
            return False
        heard = self._heard is not None and self._heard.any
        return heard or self._rules.now_s() >= self._next_look_s

    def _look_job(self) -> Job:
        for task_id in self._accepted:
            self._watch.add(task_id)
        self._accepted.clear()
        self._looking = True
        started_s = self._rules.now_s()
        return Job(self._watch.look(), lambda ended: self._looked(ended, started_s), self._look_failed)

    def _looked(self, ended: list[Task | TaskSummary], started_s: float) -> None:
        self._looking = False
        now_s = self._rules.now_s()
        slower = self._look_pause_s / POLL_GROWTH if ended else self._look_pause_s * POLL_GROWTH
        self._look_pause_s = min(max(slower, FIRST_POLL_S), self._settings.poll_s)
        # No more than half of the time goes into questions, however long the list is.
        self._next_look_s = now_s + max(self._look_pause_s, now_s - started_s)
        for task in ended:
            if self._settings.outputs and not isinstance(task, Task):
                self._to_fetch.append(task.task_id)
            else:
                self._ended(task)

    def _look_failed(self, error: YottaError) -> None:
        self._looking = False
        if not isinstance(error, TaskNotFound) or error.task_id not in self._watch.open:
            raise error
        del self._watch.open[error.task_id]
        self._count(submitted=-1)
        self._refuse(self._numbers.pop(error.task_id), error.task_id, error)

    def _fetch_job(self, task_id: str) -> Job:
        patience = Patience(self._rules, math.inf, self._settings.patience_s)

        def fail(error: YottaError) -> None:
            raise error

        return Job(patience.ask(self._operations.get_task(self._endpoint_id, task_id)), self._ended, fail)

    # ---- results

    def _ended(self, task: Task | TaskSummary) -> None:
        number = self._numbers.pop(task.task_id)
        failed = task.status == TaskStatus.FAILED
        self._count(failed=int(failed), succeeded=int(not failed))
        shown = task if self._settings.outputs else summary_of(task)
        self._results.append(BatchResult(number, task.task_id, "FAILED" if failed else "SUCCESS", shown))

    def _refuse(self, number: int, task_id: str, error: YottaError) -> None:
        if self._heard is not None:
            self._heard.no_more(task_id)
        self._count(refused=1)
        self._results.append(BatchResult(number, task_id, "REFUSED", error=error))

    def _count(self, **more: int) -> None:
        now = attrs.asdict(self.progress)
        self.progress = BatchProgress(**{name: value + more.get(name, 0) for name, value in now.items()})
