"""The tasks of one endpoint that wait for a worker: a bounded window in memory over the queue in the store."""

import heapq
from collections import deque

from yottabench.emulator.limits import READY_WINDOW_BYTES, READY_WINDOW_TASKS
from yottabench.emulator.store.base import ReadyTask, Store

_REFILL_TASKS = 1_000


class ReadyQueue:
    """First in, first out by seq; a task that comes back keeps its place.

    `_tail_seq` is the newest seq that was ever in the window: everything queued above it is still only in the store,
    and everything below is in the window, in `_returned`, or in somebody's hands.
    """

    def __init__(self, store: Store, endpoint_id: int) -> None:
        self._store = store
        self._endpoint_id = endpoint_id
        self._window: deque[ReadyTask] = deque()
        self._window_bytes = 0
        self._returned: list[tuple[int, ReadyTask]] = []
        self._tail_seq = 0
        self._spilled = True  # a store that was opened may hold a queue

    def add(self, task: ReadyTask) -> None:
        """A task that was just made durable; in the order of their seqs, since a late one is taken for one seen."""
        if task.seq <= self._tail_seq:
            return  # a refill has seen it already: it reads what is committed, this is called a moment later
        if self._spilled or len(self._window) >= READY_WINDOW_TASKS:
            self._spilled = True
            return
        self._append(task)

    def put_back(self, task: ReadyTask) -> None:
        """A task that a worker did not end, or that has waited long enough since."""
        if task.seq > self._tail_seq:  # its attempt was an earlier server's, and no refill has come to its place yet
            if self._spilled:
                return
            self._tail_seq = task.seq
        heapq.heappush(self._returned, (task.seq, task))

    def pop(self) -> ReadyTask | None:
        """The oldest task, or None when nothing waits."""
        if not self._window and self._spilled:
            self._refill()
        if self._returned and (not self._window or self._returned[0][0] < self._window[0].seq):
            return heapq.heappop(self._returned)[1]
        if not self._window:
            return None
        task = self._window.popleft()
        self._window_bytes -= len(task.input or b"")
        return task

    def _refill(self) -> None:
        tasks = self._store.queued(self._endpoint_id, self._tail_seq, _REFILL_TASKS)
        self._spilled = len(tasks) == _REFILL_TASKS
        for task in tasks:
            self._append(task)

    def _append(self, task: ReadyTask) -> None:
        self._tail_seq = task.seq
        if task.input is not None:
            if self._window_bytes + len(task.input) > READY_WINDOW_BYTES:
                task.input = None
            else:
                self._window_bytes += len(task.input)
        self._window.append(task)
