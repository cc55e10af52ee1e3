"""The API of stub_api without its cheats, in a process of its own and quick: for runs that measure the generator.

`python -m tests.load.quick_api` prints one JSON line with its address. Tasks end as they come.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Generator
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import httptools
import orjson

ENDPOINT_ID, WORKER_ID = "380000000000000001", "380000000000000002"
ENDPOINT = {
    "id": ENDPOINT_ID,
    "name": "quick",
    "image": "sim/echo",
    "status": "RUNNING",
    "totalWorkers": 1000,
    "runningWorkers": 1000,
    "cost": 0,
    "serviceMode": "QUEUE",
    "webhook": None,
}


class Tasks:
    """Every task's id and time, in the order in which they came."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.at_ms: list[int] = []
        self.place: dict[str, int] = {}

    def add(self, task_id: str) -> None:
        self.place[task_id] = len(self.ids)
        self.ids.append(task_id)
        self.at_ms.append(int(time.time() * 1000))

    def one(self, place: int) -> dict[str, Any]:
        at_ms = self.at_ms[place]
        about = {"taskId": self.ids[place], "endpointId": int(ENDPOINT_ID), "endpointName": "quick"}
        delivery = {"deliveryStatus": "INIT", "deliveryAttempts": 0, "workerUrl": None}
        return about | delivery | {"status": "SUCCESS", "createdAt": at_ms, "updatedAt": at_ms}

    def page(self, query: dict[str, str]) -> dict[str, Any]:
        number, size = int(query.get("pageNumber", 1)), int(query.get("pageSize", 10))
        total = len(self.ids) if query.get("status", "SUCCESS") == "SUCCESS" else 0
        first = total - (number - 1) * size
        items = [self.one(place) for place in range(first - 1, max(-1, first - size - 1), -1)]
        return {"items": items, "page": number, "size": size, "total": total, "pages": -(-total // size)}

    def logs(self, query: dict[str, str]) -> dict[str, Any]:
        after = int(query.get("searchAfterOffset", 0))
        end = min(len(self.ids), after + 1000)
        lines = [
            {"timestamp": "2027-01-15T08:00:00.000Z", "offset": place, "log": self._log(place)}
            for place in range(after, end)
        ]
        more = end < len(self.ids)
        return {"logs": lines, "hasMore": more, "nextSearchAfterTime": "1", "nextSearchAfterOffset": str(end)}

    def _log(self, place: int) -> str:
        at_ms = self.at_ms[place]
        return f"task={self.ids[place]} attempt=1 path=/run status=200 start_ms={at_ms} end_ms={at_ms}"


class Connection(asyncio.Protocol):
    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._parser = httptools.HttpRequestParser(self)
        self._url, self._body = b"", b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        data = self._answer(self._parser.get_method())
        content = orjson.dumps({"message": "success", "code": 10000, "data": data})
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(content)
        self._transport.write(head + content)

    def _answer(self, method: bytes) -> Any:
        url = urlsplit(self._url.decode())
        path, query = url.path.removeprefix("/v2/serverless"), dict(parse_qsl(url.query))
        if method == b"POST" and path.endswith("/tasks"):
            task_id = orjson.loads(self._body)["taskId"]
            self._tasks.add(task_id)
            return {"taskId": task_id}
        if method == b"DELETE":
            return True
        match path.split("/")[2:]:
            case ["tasks"]:
                return self._tasks.page(query)
            case ["tasks", "count"]:
                return {"processing": 0}
            case ["tasks", task_id]:
                return self._tasks.one(self._tasks.place[task_id]) | {"input": {"a": 1}, "output": None}
            case ["workers"]:
                return [{"id": WORKER_ID, "workerId": WORKER_ID, "status": "RUNNING", "createdAt": 1}]
            case ["workers", _, "logs"]:
                return self._tasks.logs(query)
            case _:
                return ENDPOINT if path or method == b"POST" else []


async def main() -> None:
    tasks = Tasks()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(tasks), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sys.stdout.write(json.dumps({"url": f"http://127.0.0.1:{port}"}) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


@contextlib.contextmanager
def quick_api() -> Generator["tuple[str, subprocess.Popen[str]]"]:
    """The server's address and its process, until the `with` block ends."""
    process = subprocess.Popen([sys.executable, "-m", "tests.load.quick_api"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"], process
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    asyncio.run(main())
