"""A service made of prepared answers, for tests of the client alone."""

import json
import random
from collections.abc import Callable
from typing import Any

import httpx

from tests.client.clients import Kind, make
from yottabench.client import Retries, Rules

KEY = "key-never-to-be-shown"
ID = "378888638324150969"
ENDPOINT: dict[str, Any] = {
    "id": ID,
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

Answer = httpx.Response | Exception


def success(data: Any) -> dict[str, Any]:
    """The envelope of a success."""
    return {"message": "success", "code": 10000, "data": data}


def given(data: Any) -> httpx.Response:
    """A success."""
    return httpx.Response(200, json=success(data))


def refusal(status: int, code: int, message: str = "no", headers: dict[str, str] | None = None) -> httpx.Response:
    """An error with its envelope."""
    return httpx.Response(status, json={"message": message, "code": code, "data": None}, headers=headers)


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.naps: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now_s += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)

    def read(self) -> float:
        return self.now_s

    def rules(self, *, seed: int = 1, **more: Any) -> Rules:
        """Rules that live in this time."""
        return Rules(
            now_s=self.read, sleep=self.sleep, sleep_async=self.sleep_async, chance=random.Random(seed), **more
        )


class Service:
    """Gives prepared answers in their order and then one to every further request, and keeps the requests."""

    def __init__(self, kind: Kind = "sync") -> None:
        self.kind: Kind = kind
        self.time = FakeTime()
        self.requests: list[httpx.Request] = []
        self.next: list[Answer | Callable[[httpx.Request], Answer]] = []
        self.answer: Answer | Callable[[httpx.Request], Answer] = given(None)

    def gives(self, data: Any) -> "Service":
        """Answer with a success."""
        self.answer = given(data)
        return self

    def fails(self, status: int, content: Any, headers: dict[str, str] | None = None) -> "Service":
        """Answer with this status; dicts become JSON."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.answer = httpx.Response(status, content=body, headers=headers)
        return self

    def first(self, *answers: Answer | Callable[[httpx.Request], Answer]) -> "Service":
        """Answer so before."""
        self.next.extend(answers)
        return self

    def handle(self, request: httpx.Request) -> httpx.Response:
        """The handler for httpx.MockTransport."""
        self.requests.append(request)
        answer = self.next.pop(0) if self.next else self.answer
        if not isinstance(answer, (httpx.Response, Exception)):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    @property
    def last(self) -> httpx.Request:
        """The request that came last."""
        return self.requests[-1]

    @property
    def sent(self) -> Any:
        """The JSON that came last."""
        return json.loads(self.last.content)

    @property
    def calls(self) -> list[str]:
        """Method and path of all requests."""
        return [f"{request.method} {request.url.raw_path.decode()}" for request in self.requests]

    def transport(self) -> Any:
        """An HTTP client of the right kind that comes out here."""
        transport = httpx.MockTransport(self.handle)
        return httpx.Client(transport=transport) if self.kind == "sync" else httpx.AsyncClient(transport=transport)

    def client(self, *, max_retries: int = 0, local_checks: bool = True, **rules: Any) -> Any:
        """A client of this service, in fake time, that does not try again unless told to."""
        retries = rules.pop("retries", Retries(max_retries=max_retries))
        return make(
            self.kind,
            api_key=KEY,
            base_url="http://emulator.test",
            http=self.transport(),
            local_checks=local_checks,
            rules=self.time.rules(retries=retries, **rules),
        )
