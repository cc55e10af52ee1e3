"""A queue that lives in memory and answers as the API does, for tests of what takes many requests."""

import itertools
import json
import threading
from typing import Any

import httpx

from tests.client.service import ENDPOINT, ID, SUMMARY, given, refusal


class MemoryQueue:
    """Tasks of one endpoint, newest last in `order`. A test moves them on; each GET and POST is counted."""

    def __init__(self) -> None:
        self.tasks: dict[str, dict[str, Any]] = {}
        self.posts: list[str] = []
        self.gets = 0
        self.lists = 0
        self.clock_ms = itertools.count(1705306200000)
        self.service_mode = "QUEUE"
        self.page_max = 100
        self._lock = threading.Lock()

    def add(self, task_id: str, value: Any = 1, status: str = "PROCESSING", **more: Any) -> None:
        """A new task."""
        now_ms = next(self.clock_ms)
        self.tasks[task_id] = {
            **SUMMARY,
            "taskId": task_id,
            "status": status,
            "createdAt": now_ms,
            "updatedAt": now_ms,
            "input": value,
            "output": None,
            **more,
        }

    def end(self, task_id: str, status: str = "SUCCESS", **more: Any) -> None:
        """A task ends, and its output is its input."""
        task = self.tasks[task_id]
        task.update(status=status, output=task["input"] if status != "FAILED" else None, **more)

    @property
    def open(self) -> list[str]:
        """The ids of open tasks, oldest first."""
        return [task_id for task_id, task in self.tasks.items() if task["status"] == "PROCESSING"]

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer a request; they may come from several threads."""
        with self._lock:
            return self._answer(request)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if request.method == "POST":
            return self._submit(json.loads(request.content))
        if path.endswith("/tasks"):
            return self._list(request.url.params)
        if path.endswith(ID):
            return given({**ENDPOINT, "serviceMode": self.service_mode})
        self.gets += 1
        task = self.tasks.get(path.rsplit("/", 1)[1])
        return given(task) if task else refusal(404, 24011, "no such task")

    def _submit(self, body: dict[str, Any]) -> httpx.Response:
        task_id = body["taskId"]
        self.posts.append(task_id)
        known = self.tasks.get(task_id)
        if known is not None and known["input"] != body["input"]:
            return refusal(400, 10001, "taskId belongs to a task with another payload")
        if body["input"] == "refuse me":
            return refusal(400, 10001, "refused as it wished")
        if known is None:
            self.add(task_id, body["input"])
        return given({"taskId": task_id})

    def _list(self, params: Any) -> httpx.Response:
        self.lists += 1
        number, size = int(params["pageNumber"]), min(int(params["pageSize"]), self.page_max)
        wanted = params.get("status")
        found = [task for task in reversed(self.tasks.values()) if wanted in (None, task["status"])]
        shown = found[(number - 1) * size : number * size]
        items = [{name: value for name, value in task.items() if name not in ("input", "output")} for task in shown]
        return given(
            {"items": items, "page": number, "size": size, "total": len(found), "pages": -(-len(found) // size)}
        )
