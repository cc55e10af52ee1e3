"""What the control surface and retention ask of a store: what became of tasks and deliveries, and clearing up.

The commands go through `Store.apply` like those of store/base.py; the reads are the History interface, which a store
offers beside Store.
"""

from collections.abc import Sequence
from typing import Annotated, Protocol

import msgspec

from yottabench.emulator.store.base import (
    Command,
    DeliveryState,
    DueDelivery,
    EndpointRecord,
    Moved,
    TaskState,
    WorkerRecord,
)

# Snapshots come from outside, and no store holds a larger number.
Int64 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

# ---- What became of tasks and deliveries


class TaskAttempt(msgspec.Struct, kw_only=True):
    """One lease of a task. `ended_ms` and `outcome` None: a worker has it. `outcome`: SUCCEEDED, FAILED or returned."""

    fence: Int64
    worker_id: Int64
    worker_url: str
    leased_ms: Int64
    ended_ms: Int64 | None
    outcome: str | None
    reason: str | None


class TaskHistory(msgspec.Struct, kw_only=True):
    """Every lease of a task, oldest first."""

    seq: int
    state: TaskState
    strikes: int
    next_ms: int | None  # in RETRY_WAIT: when it is queued again
    attempts: list[TaskAttempt]


class DeliveryAttempt(msgspec.Struct, kw_only=True):
    """One send of a delivery. `note` None: it was acknowledged; else why not."""

    number: Int64
    started_ms: Int64
    ended_ms: Int64
    note: str | None


class Delivery(msgspec.Struct, kw_only=True):
    """One delivery: of a task's result (`task_id`) or of a worker's status (`worker_id`)."""

    id: int
    endpoint_id: int
    task_id: str | None
    worker_id: int | None
    url: str
    state: DeliveryState
    next_ms: int
    delivered_ms: int | None
    attempts: list[DeliveryAttempt]


class DeliveryQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which deliveries; newest first, with an id below `before`."""

    namespace: str | None = None
    endpoint_id: int | None = None
    task_id: str | None = None
    state: DeliveryState | None = None
    before: int | None = None
    limit: int


# ---- Snapshots


class SavedTask(msgspec.Struct, kw_only=True):
    """A task with all that is kept of it; input, headers and output are embedded as the JSON that they are."""

    seq: Int64
    endpoint_id: Int64
    task_id: str
    state: TaskState
    fence: Int64
    strikes: Int64
    worker_id: Int64 | None
    worker_url: str | None
    leased_ms: Int64 | None
    next_ms: Int64 | None
    webhook: str | None
    error: str | None
    created_ms: Int64
    updated_ms: Int64
    ended_ms: Int64 | None
    worker_port: Int64
    process_uri: str
    webhook_auth_key: str | None
    headers: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    input: msgspec.Raw
    output: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    attempts: list[TaskAttempt]

    def __repr__(self) -> str:
        return f"SavedTask(endpoint_id={self.endpoint_id}, task_id={self.task_id!r})"


class SavedDelivery(msgspec.Struct, kw_only=True):
    """A delivery with all that is kept of it."""

    task_seq: Int64 | None
    worker_id: Int64 | None
    url: str
    auth_key: str | None
    body: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    state: DeliveryState
    sends: Int64
    next_ms: Int64
    note: str | None
    delivered_ms: Int64 | None
    updated_ms: Int64
    attempts: list[DeliveryAttempt]

    def __repr__(self) -> str:
        return f"SavedDelivery(task_seq={self.task_seq}, worker_id={self.worker_id})"


class SavedEndpoint(msgspec.Struct, kw_only=True):
    """An endpoint; a deleted one is kept for the sake of its tasks and deliveries."""

    record: EndpointRecord
    deleted: bool


class Snapshot(msgspec.Struct, kw_only=True):
    """The state of one namespace, or of all."""

    snapshot: int = 1  # version of this form
    taken_ms: Int64
    endpoints: list[SavedEndpoint]
    workers: list[WorkerRecord]
    tasks: list[SavedTask]
    deliveries: list[SavedDelivery]

    def __repr__(self) -> str:
        return f"Snapshot(taken_ms={self.taken_ms}, {len(self.endpoints)} endpoints, {len(self.tasks)} tasks)"


# ---- Commands


class Purged(msgspec.Struct, frozen=True):
    """How many tasks went, and after which seq to go on; None: what follows is too young, or there is no more."""

    count: int
    next_seq: int | None


class PurgeTasks(Command[Purged], frozen=True, kw_only=True):
    """Look at `limit` tasks above `after_seq`; remove those that ended, were delivered or given up, before `before_ms`.

    An open task stays, and so does one whose delivery may still go out.
    """

    before_ms: int
    after_seq: int
    limit: int


class PurgeGone(Command[int], frozen=True, kw_only=True):
    """Remove up to `limit` workers gone since before `before_ms`, and deleted endpoints that nothing is left of."""

    before_ms: int
    limit: int


class ResendDelivery(Command[DueDelivery | Moved], frozen=True, kw_only=True):
    """Any state but INFLIGHT -> DUE now; STALE: it is being sent, or there is no such delivery."""

    id: int
    now_ms: int


class Cleared(msgspec.Struct, frozen=True):
    """The deliveries that were removed before they had ended."""

    open_deliveries: tuple[int, ...]


class ClearState(Command[Cleared], frozen=True, kw_only=True):
    """Remove everything of one namespace, or everything."""

    namespace: str | None


class PutSnapshot(Command[Cleared | str], frozen=True, kw_only=True):
    """ClearState, then what the snapshot holds; all of it under `namespace` if there is one.

    The snapshot must be consistent in itself (control/snapshots.py). What was under way in it is queued or due, its
    workers are gone. Answers with the reason, and changes nothing, when an id of the snapshot belongs to something
    outside of what is cleared.
    """

    snapshot: Snapshot
    namespace: str | None
    now_ms: int


class TooLarge(Exception):
    """The state has more tasks than a snapshot may hold; the argument is how many."""


class History(Protocol):
    """The reads beside those of Store; all but `snapshot` are called by the event loop's thread."""

    def task_history(self, endpoint_id: int, task_id: str) -> TaskHistory | None:
        """Every lease of one task."""
        ...

    def deliveries(self, query: DeliveryQuery) -> list[Delivery]:
        """Deliveries with their attempts."""
        ...

    def delivery(self, delivery_id: int) -> Delivery | None:
        """One delivery with its attempts."""
        ...

    def endpoint_ids(self, namespace: str | None) -> Sequence[int]:
        """Every endpoint of a namespace, or every one; deleted ones too."""
        ...

    def snapshot(self, namespace: str | None, now_ms: int, max_tasks: int) -> Snapshot:
        """The last committed state of a namespace, or all. Any thread may ask. Raises TooLarge."""
        ...
