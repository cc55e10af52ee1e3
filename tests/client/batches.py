"""A queue that works off its tasks, and batches for it."""

import random
from collections.abc import Iterator
from typing import Any

import httpx

from tests.client.queue import MemoryQueue
from tests.client.service import ID, Service
from yottabench.client import Retries


class BusyQueue(MemoryQueue):
    """Each task ends after it has been looked at a few times."""

    def __init__(self, *, ends_after: int = 2, fails: float = 0.0, seed: int = 1) -> None:
        super().__init__()
        self.ends_after = ends_after
        self.fails = fails
        self.chance = random.Random(seed)
        self.most_open = 0
        self.under_way = 0
        self.most_under_way = 0

    def handle(self, request: httpx.Request) -> httpx.Response:
        with self._lock:
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            answer = self._answer(request)
            still_open = self.open
            self.most_open = max(self.most_open, len(still_open))
            if request.method == "GET":
                for task_id in still_open:
                    task = self.tasks[task_id]
                    task["seen"] = task.get("seen", 0) + 1
                    if task["seen"] >= self.ends_after:
                        self.end(task_id, "FAILED" if self.chance.random() < self.fails else "SUCCESS")
            self.under_way -= 1
        return answer


def batch(service: Service, items: Any, **more: Any) -> Iterator[Any]:
    # What a batch pauses between tries is real time, because closing it must end the pause.
    client = service.client(retries=Retries(first_s=0))
    return client.tasks.submit_many(ID, items, worker_port=8000, process_uri="/run", **more)
