"""A service made of prepared answers, for tests of the client alone."""

import json
from typing import Any

import httpx

from yottabench.client import Client

KEY = "key-never-to-be-shown"
ENDPOINT: dict[str, Any] = {
    "id": "378888638324150969",
    "name": "llama-inference",
    "image": "vllm/vllm-openai:latest",
    "status": "RUNNING",
    "totalWorkers": 2,
    "runningWorkers": 2,
    "cost": 1.5,
    "serviceMode": "QUEUE",
    "webhook": None,
}
SUMMARY: dict[str, Any] = {
    "taskId": "my_task_001",
    "endpointId": 378888638324150969,
    "endpointName": "llama-inference",
    "status": "SUCCESS",
    "workerUrl": None,
    "deliveryStatus": "INIT",
    "deliveryAttempts": 0,
    "createdAt": 1705306200000,
    "updatedAt": 1705306260000,
}
TASK: dict[str, Any] = {**SUMMARY, "input": {"prompt": "x"}, "output": {"response": "y"}}


def success(data: Any) -> dict[str, Any]:
    """The envelope of a success."""
    return {"message": "success", "code": 10000, "data": data}


class Service:
    """Gives one answer to every request, and keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.answer = httpx.Response(200, json=success(None))

    def gives(self, data: Any) -> "Service":
        """Answer with a success."""
        self.answer = httpx.Response(200, json=success(data))
        return self

    def fails(self, status: int, content: Any, headers: dict[str, str] | None = None) -> "Service":
        """Answer with this status; dicts become JSON."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.answer = httpx.Response(status, content=body, headers=headers)
        return self

    def handle(self, request: httpx.Request) -> httpx.Response:
        """The handler for httpx.MockTransport."""
        self.requests.append(request)
        return self.answer

    @property
    def last(self) -> httpx.Request:
        """The request that came last."""
        return self.requests[-1]

    @property
    def sent(self) -> Any:
        """The JSON that came last."""
        return json.loads(self.last.content)

    def client(self) -> Client:
        """A client of this service."""
        return Client(
            api_key=KEY, base_url="http://emulator.test", http=httpx.Client(transport=httpx.MockTransport(self.handle))
        )
