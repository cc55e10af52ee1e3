"""A tiny Serverless API in memory whose tasks end at once, and which cheats where a test tells it to."""

import contextlib
import json
import queue
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import attrs
import httpx

ENDPOINT_ID = "380000000000000001"
WORKER_ID = "380000000000000002"
Plan = Callable[[int], bool]


def never(_: int) -> bool:
    return False


@attrs.define
class Cheats:
    """What happens to the n-th submit, counted from 0; `stall_s` is how long a stalled one takes."""

    forget: Plan = never
    execute_twice: Plan = never
    throttle: Plan = never
    refuse: Plan = never
    answer_500_but_keep: Plan = never
    answer_500_and_forget: Plan = never
    stall: Plan = never
    never_end: Plan = never
    drop_webhook: Plan = never
    double_webhook: Plan = never
    swap_result: Plan = never
    never_ready: bool = False
    miscount: int = 0
    stall_s: float = 1.0
    ghosts: tuple[str, ...] = ()
    error_style: str = "status"


class StubApi:
    """Serves on a free port of loopback until the `with` block ends."""

    def __init__(self, cheats: Cheats | None = None) -> None:
        self.cheats = cheats or Cheats()
        self.tasks: dict[str, dict[str, Any]] = {}
        self.log: list[str] = []
        self.submits = 0
        self.made = 0
        self.deleted = 0
        self.name = "stub"
        self.requests = 0
        self.lock = threading.Lock()
        self._hooks: queue.SimpleQueue[tuple[str, str, dict[str, Any]] | None] = queue.SimpleQueue()
        self._sender = threading.Thread(target=self._send_webhooks, daemon=True)
        api = self

        class Handler(_Handler):
            stub = api

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda request, client_address: None  # clients that vanish are part of the tests
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._sender.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._hooks.put(None)
        self._server.shutdown()
        self._server.server_close()

    def submit(self, body: dict[str, Any]) -> tuple[int, int, Any]:
        cheats = self.cheats
        with self.lock:
            number = self.submits
            self.submits += 1
        if cheats.throttle(number):
            return 429, 429, None
        if cheats.refuse(number):
            return 400, 10001, None
        if not cheats.forget(number) and not cheats.answer_500_and_forget(number):
            self.keep(
                body["taskId"],
                ended=not cheats.never_end(number),
                twice=cheats.execute_twice(number),
                output=body["input"] | ({"yottabench_task": "another"} if cheats.swap_result(number) else {}),
            )
            if body.get("webhook"):
                self._deliver(number, body)
        if cheats.stall(number):
            time.sleep(cheats.stall_s)
        if cheats.answer_500_but_keep(number) or cheats.answer_500_and_forget(number):
            return 500, 10002, None
        return 200, 10000, {"taskId": body["taskId"]}

    def _deliver(self, number: int, body: dict[str, Any]) -> None:
        task = self.tasks[body["taskId"]]
        task |= {"status": "DELIVERED", "deliveryStatus": "SUCCESS", "deliveredAt": task["updatedAt"]}
        told = {
            "task_id": number,
            "user_task_id": body["taskId"],
            "endpoint_id": ENDPOINT_ID,
            "status": "Success",
            "success": True,
            "timestamp": time.strftime("%Y-%m-%d %H:%M:%S.000", time.gmtime()),
            "retry_count": 1,
            "result": task["output"],
        }
        if not self.cheats.drop_webhook(number):
            self._hooks.put((body["webhook"], body["webhookAuthKey"], told))
        if self.cheats.double_webhook(number):
            self._hooks.put((body["webhook"], body["webhookAuthKey"], told))

    def _send_webhooks(self) -> None:
        with httpx.Client() as http:
            while (hook := self._hooks.get()) is not None:
                url, key, told = hook
                with contextlib.suppress(httpx.HTTPError):  # a receiver that has gone is part of the tests
                    http.post(url, json=told, headers={"X-API-Key": key})

    def keep(self, task_id: str, *, ended: bool = True, twice: bool = False, output: Any = None) -> None:
        now_ms = int(time.time() * 1000)
        task = {
            "taskId": task_id,
            "endpointId": int(ENDPOINT_ID),
            "endpointName": "stub",
            "status": "SUCCESS" if ended else "PROCESSING",
            "workerUrl": None,
            "deliveryStatus": "INIT",
            "deliveryAttempts": 0,
            "createdAt": now_ms,
            "updatedAt": now_ms,
            "output": output,
        }
        line = f"task={task_id} attempt=1 path=/run status=200 start_ms={now_ms} end_ms={now_ms}"
        with self.lock:
            self.tasks[task_id] = task
            if ended:
                self.log.extend([line] * (2 if twice else 1))

    def page(self, query: dict[str, str]) -> dict[str, Any]:
        number, size = int(query.get("pageNumber", 1)), int(query.get("pageSize", 10))
        with self.lock:
            found = [
                task for task in reversed(self.tasks.values()) if query.get("status", task["status"]) == task["status"]
            ]
        items = [
            {key: value for key, value in task.items() if key != "output"}
            for task in found[(number - 1) * size : number * size]
        ]
        return {"items": items, "page": number, "size": size, "total": len(found), "pages": -(-len(found) // size)}


class _Server(ThreadingHTTPServer):
    request_queue_size = 512  # with the usual 5 a burst of clients waits for its connections by the second


class _Handler(BaseHTTPRequestHandler):
    stub: StubApi
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        path, _, raw = self.path.partition("?")
        query = dict(pair.split("=", 1) for pair in raw.split("&") if pair)
        stub = self.stub
        if path == "/v2/serverless":
            self._answer(200, 10000, [_endpoint(stub)] if stub.made > stub.deleted else [])
        elif path.endswith("/tasks/count"):
            processing = sum(task["status"] == "PROCESSING" for task in stub.tasks.values())
            self._answer(200, 10000, {"processing": processing + stub.cheats.miscount})
        elif path.endswith("/tasks"):
            self._answer(200, 10000, stub.page(query))
        elif match := re.fullmatch(r".*/tasks/(\w+)", path):
            task = stub.tasks.get(match[1])
            self._answer(200, 10000, task | {"input": {"a": 1}}) if task else self._answer(404, 24011, None)
        elif path.endswith("/workers"):
            self._answer(200, 10000, [{"id": WORKER_ID, "workerId": WORKER_ID, "status": "RUNNING", "createdAt": 1}])
        elif path.endswith("/logs"):
            after = int(query.get("searchAfterOffset", 0))
            lines = stub.log[after : after + 1000]
            logs = [
                {"timestamp": "2027-01-15T08:00:00.000Z", "log": line, "offset": after + n}
                for n, line in enumerate(lines)
            ]
            end = str(after + len(lines))
            more = after + len(lines) < len(stub.log)
            self._answer(
                200, 10000, {"logs": logs, "hasMore": more, "nextSearchAfterTime": "1", "nextSearchAfterOffset": end}
            )
        else:
            self._answer(200, 10000, _endpoint(self.stub))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/tasks"):
            self._answer(*self.stub.submit(body))
        else:
            self.stub.made += 1
            self.stub.name = body["name"]
            for ghost in self.stub.cheats.ghosts:
                self.stub.keep(ghost)
            self._answer(200, 10000, _endpoint(self.stub))

    def do_DELETE(self) -> None:
        self.stub.deleted += 1
        self._answer(200, 10000, True)

    def _answer(self, http: int, code: int, data: Any) -> None:
        message = "success" if code == 10000 else "as the test wished"
        content = json.dumps({"message": message, "code": code, "data": data}).encode()
        self.send_response(200 if self.stub.cheats.error_style == "envelope200" else http)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _endpoint(stub: StubApi) -> dict[str, Any]:
    return {
        "id": ENDPOINT_ID,
        "name": stub.name,
        "image": "sim/echo",
        "status": "INITIALIZING" if stub.cheats.never_ready else "RUNNING",
        "totalWorkers": 2,
        "runningWorkers": 2,
        "cost": 0,
        "serviceMode": "QUEUE",
        "webhook": None,
    }
