"""What the emulator asks of a store: records, commands that move them, and the interface itself.

Every change is a command. A store applies a batch of them in one transaction and answers each with its outcome; when
`apply` returns, the batch is durable. A command that moves a task or a delivery names the state it expects (for a
task also the fence, which counts its leases); when the record has moved on, the outcome is `Moved.STALE` and nothing
has changed. Times are milliseconds since 1970 UTC.
"""

from collections.abc import Sequence
from enum import Enum, IntEnum
from typing import Any, Generic, Protocol, TypeVar

import msgspec


class TaskState(IntEnum):
    """States of a task; the first three are open and show as PROCESSING."""

    QUEUED = 0
    LEASED = 1
    RETRY_WAIT = 2
    SUCCEEDED = 3
    FAILED = 4
    DELIVERED = 5  # succeeded, and its receiver has acknowledged the result


OPEN_STATES = frozenset({TaskState.QUEUED, TaskState.LEASED, TaskState.RETRY_WAIT})


class DeliveryState(IntEnum):
    """States of a delivery (one webhook to be sent)."""

    DUE = 0
    INFLIGHT = 1
    ACKED = 2
    EXHAUSTED = 3


class EndpointStatus(IntEnum):
    """What an endpoint shows; the numbers are the vendor's own."""

    INITIALIZING = 0
    RUNNING = 1
    STOPPING = 2
    STOPPED = 3
    FAILED = 4


class WorkerStatus(IntEnum):
    """What a worker shows. STOPPING: it ends the task in its hands and gets no other."""

    INITIALIZING = 0
    RUNNING = 1
    STOPPING = 2
    TERMINATED = 3


class Resource(msgspec.Struct, frozen=True, rename="camel"):
    """One line of `resources`: which GPUs, where."""

    region: str
    gpu_type: str
    gpu_count: int


class Variable(msgspec.Struct, frozen=True):
    """One environment variable of the workers."""

    key: str
    value: str

    def __repr__(self) -> str:
        return f"Variable(key={self.key!r})"


class Expose(msgspec.Struct, frozen=True):
    """The port that shows that a worker is ready."""

    port: int
    protocol: str


class EndpointSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asked for: the fields of the create request."""

    name: str
    image: str
    service_mode: str
    resources: tuple[Resource, ...]
    workers: int
    container_volume_in_gb: int
    image_registry: str | None = None
    registry_auth_id: int | None = None
    environment: tuple[Variable, ...] = ()
    expose: Expose | None = None
    webhook: str | None = None
    initialization_command: str | None = None
    min_single_card_vram_in_gb: int | None = None
    min_single_card_vcpu: int | None = None
    min_single_card_ram_in_gb: int | None = None

    def __repr__(self) -> str:
        return f"EndpointSpec(name={self.name!r}, image={self.image!r}, service_mode={self.service_mode!r})"


class EndpointRecord(msgspec.Struct, kw_only=True):
    """An endpoint: what was asked for, whether it should run, and what it shows."""

    id: int
    namespace: str
    spec: EndpointSpec
    should_run: bool
    status: EndpointStatus
    created_ms: int
    updated_ms: int
    spent_usd: float = 0.0  # by workers that are gone; running ones are added when shown


class WorkerRecord(msgspec.Struct, kw_only=True):
    """A worker, also after its end (its logs stay readable)."""

    id: int
    endpoint_id: int
    status: WorkerStatus
    created_ms: int
    updated_ms: int
    reason: str | None = None  # why it is gone


class TaskSummary(msgspec.Struct, kw_only=True):
    """A task without its payload, as lists show it."""

    seq: int
    endpoint_id: int
    task_id: str
    state: TaskState
    worker_url: str | None
    webhook: str | None
    delivery_state: DeliveryState | None  # None: there is nothing to deliver (yet)
    delivery_attempts: int
    error: str | None
    created_ms: int
    updated_ms: int
    delivered_ms: int | None


class Task(TaskSummary, kw_only=True):
    """A task with everything that the API shows of it. `input`, `output` and `headers` are JSON."""

    input: bytes
    headers: bytes | None
    output: bytes | None

    def __repr__(self) -> str:
        return f"Task(endpoint_id={self.endpoint_id}, task_id={self.task_id!r}, state={self.state.name})"


class ReadyTask(msgspec.Struct, kw_only=True, gc=False):
    """What dispatch needs to know of a queued task. `input` None: too large to hold, read it with `task_input`."""

    seq: int
    endpoint_id: int
    task_id: str
    fence: int
    strikes: int
    worker_port: int
    process_uri: str
    input: bytes | None
    headers: bytes | None

    def __repr__(self) -> str:
        return f"ReadyTask(seq={self.seq}, task_id={self.task_id!r}, fence={self.fence}, strikes={self.strikes})"


class DueDelivery(msgspec.Struct, kw_only=True):
    """A delivery to be sent at `next_ms`. Task deliveries have `task_seq`, worker deliveries their `body`."""

    id: int
    url: str
    auth_key: str | None = msgspec.field(default=None)
    task_seq: int | None
    body: bytes | None
    attempts: int
    next_ms: int
    once: bool = False  # acknowledged before and sent again on request: no retries

    def __repr__(self) -> str:
        return f"DueDelivery(id={self.id}, attempts={self.attempts}, next_ms={self.next_ms})"


class FinishedTask(msgspec.Struct, kw_only=True):
    """What a task webhook tells."""

    seq: int
    endpoint_id: int
    task_id: str
    state: TaskState
    output: bytes | None
    error: str | None


# ---- Outcomes


class Moved(Enum):
    """Whether a guarded move took place."""

    DONE = "done"
    STALE = "stale"


class Submitted(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """`seq` of the task that has this taskId now; `known`: it was there before; `same`: with the same payload."""

    seq: int
    known: bool
    same: bool


class Finished(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Whether the task moved, and the delivery that this put into the outbox."""

    moved: Moved
    delivery: DueDelivery | None


class FailedTasks(msgspec.Struct, frozen=True):
    """How many tasks failed, what is to be delivered of it, and whether open ones are left."""

    count: int
    deliveries: tuple[DueDelivery, ...]
    more: bool


# ---- Commands: each names in brackets what it is answered with

OutcomeT = TypeVar("OutcomeT")


class Command(msgspec.Struct, Generic[OutcomeT], frozen=True, tag=True, array_like=True):
    """A change of the store."""


class PutEndpoint(Command[Moved], frozen=True):
    """Insert the endpoint, or replace it whole."""

    endpoint: EndpointRecord


class DropEndpoint(Command[Moved], frozen=True):
    """Delete the endpoint; its tasks and workers stay until retention."""

    endpoint_id: int


class PutWorker(Command[DueDelivery | None], frozen=True):
    """Insert the worker or replace its status, with a delivery that tells of it."""

    worker: WorkerRecord
    webhook: str | None = None
    body: bytes | None = None


class SubmitTask(Command[Submitted], frozen=True, kw_only=True, gc=False):
    """Queue a task."""

    endpoint_id: int
    task_id: str
    input: bytes
    worker_port: int
    process_uri: str
    webhook: str | None
    webhook_auth_key: str | None
    headers: bytes | None
    now_ms: int

    def __repr__(self) -> str:
        return f"SubmitTask(endpoint_id={self.endpoint_id}, task_id={self.task_id!r})"


class LeaseTask(Command[Moved], frozen=True, kw_only=True):
    """QUEUED -> LEASED, fence + 1."""

    seq: int
    fence: int
    worker_id: int
    worker_url: str
    deadline_ms: int
    now_ms: int


class FinishTask(Command[Finished], frozen=True, kw_only=True):
    """LEASED -> SUCCEEDED or FAILED, with the outbox row of its webhook."""

    seq: int
    fence: int
    state: TaskState
    output: bytes | None
    error: str | None
    now_ms: int


class ReturnTask(Command[Moved], frozen=True, kw_only=True):
    """LEASED -> QUEUED, or RETRY_WAIT until `next_ms`. A `strike` counts towards the last attempt."""

    seq: int
    fence: int
    strike: bool
    next_ms: int | None
    now_ms: int
    reason: str | None = None


class RequeueTask(Command[Moved], frozen=True, kw_only=True):
    """RETRY_WAIT -> QUEUED."""

    seq: int
    fence: int
    now_ms: int


class FailOpenTasks(Command[FailedTasks], frozen=True, kw_only=True):
    """Fail up to `limit` open tasks of an endpoint, oldest first."""

    endpoint_id: int
    error: str
    limit: int
    now_ms: int


class ClaimDelivery(Command[Moved], frozen=True, kw_only=True):
    """DUE -> INFLIGHT."""

    id: int


class EndDelivery(Command[Moved], frozen=True, kw_only=True):
    """INFLIGHT -> ACKED, DUE (again at `next_ms`) or EXHAUSTED, attempts + 1."""

    id: int
    state: DeliveryState
    next_ms: int
    note: str | None  # why it was not acknowledged
    now_ms: int
    started_ms: int | None = None  # when the send began, if not just now


class StoreError(Exception):
    """The store could not do it; nothing of the batch is kept. The message is for the operator's log."""


class StoreBroken(StoreError):
    """A flush to the disk failed: what the disk holds is uncertain, and stays so until the store is opened anew."""


class StoreInUse(StoreError):
    """Another server holds this store."""


class Store(Protocol):
    """A durable store. `apply` is called by one thread at a time; reads are called by the event loop's thread."""

    def recover(self, now_ms: int) -> None:
        """Called once before anything else: what was under way when the last server ended is queued or due again."""
        ...

    def apply(self, batch: Sequence[Command[Any]]) -> list[Any]:
        """Do all commands in order, in one transaction; durable on return. Raises StoreError: then nothing was done."""
        ...

    def close(self) -> None:
        """Let go of the store; harmless when called twice."""
        ...

    def endpoints(self) -> list[EndpointRecord]:
        """Every endpoint that is not deleted, oldest first."""
        ...

    def deleted_with_open_tasks(self) -> list[int]:
        """Deleted endpoints whose open tasks the last server had no time to fail."""
        ...

    def workers(self, endpoint_id: int) -> list[WorkerRecord]:
        """Every worker that the endpoint ever had and that retention kept, oldest first."""
        ...

    def worker(self, worker_id: int) -> WorkerRecord | None:
        """One worker."""
        ...

    def task(self, endpoint_id: int, task_id: str) -> Task | None:
        """One task, whole."""
        ...

    def tasks(self, endpoint_id: int, states: Sequence[TaskState], offset: int, limit: int) -> list[TaskSummary]:
        """Tasks in these states, newest first, after skipping `offset` of them."""
        ...

    def task_page(
        self, endpoint_id: int, states: Sequence[TaskState], offset: int, limit: int
    ) -> tuple[int, list[TaskSummary]]:
        """How many tasks are in these states, and `tasks`: both as of one moment, whatever is committed meanwhile."""
        ...

    def counts(self, endpoint_id: int) -> dict[TaskState, int]:
        """How many tasks are in each state, from counters that every move keeps; empty states may be missing."""
        ...

    def queued(self, endpoint_id: int, after_seq: int, limit: int) -> list[ReadyTask]:
        """Queued tasks with a seq above `after_seq`, oldest first."""
        ...

    def task_input(self, seq: int) -> bytes:
        """The input of a task, as it was sent."""
        ...

    def waiting(self) -> list[tuple[int, ReadyTask]]:
        """Tasks in RETRY_WAIT, each with the time at which it is to be queued again."""
        ...

    def due_deliveries(self, limit: int, destination: str | None = None) -> list[DueDelivery]:
        """Deliveries in DUE, soonest first: those to one destination (see receivers.destination_of), or all."""
        ...

    def delivery_destinations(self) -> list[str]:
        """Every destination that has deliveries in DUE."""
        ...

    def pending_deliveries(self) -> int:
        """How many deliveries are in DUE."""
        ...

    def finished_task(self, seq: int) -> FinishedTask | None:
        """What the webhook of a task tells."""
        ...
