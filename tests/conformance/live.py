"""What the checks of a running service work with: calls that look into the envelope, and endpoints that are there."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import httpx

SUCCESS = 10000
KEY, OTHER_KEY = "conformance-key", "key-of-another-account"
RESOURCES = [{"region": "us-east-1", "gpuType": "NVIDIA_RTX_4090_24G", "gpuCount": 1}]
PATIENCE_S = 30.0
_LOOK_AGAIN_S = 0.02


@attrs.frozen
class Answer:
    """One answer: the HTTP side, and what its envelope says."""

    status: int
    headers: Mapping[str, str]
    text: str
    code: int
    data: Any
    message: str


class Api:
    """Calls of the documented API with one key; safe to share between threads."""

    def __init__(self, url: str, key: str | None) -> None:
        self.url = url
        self.key = key
        headers = {} if key is None else {"X-Api-Key": key}
        # Nothing of the environment, such as a proxy, has a say in where these go.
        self._http = httpx.Client(base_url=url, headers=headers, timeout=PATIENCE_S, trust_env=False)

    def call(self, method: str, path: str, *, json: Any = None, params: Mapping[str, Any] | None = None) -> Answer:
        """Send a request; `path` is what follows /v2/serverless."""
        return self._read(self._http.request(method, f"/v2/serverless{path}", json=json, params=params))

    def send(self, path: str, body: bytes) -> Answer:
        """POST a body whose every byte is the caller's."""
        content_type = {"Content-Type": "application/json"}
        return self._read(self._http.post(f"/v2/serverless{path}", content=body, headers=content_type))

    def data(self, method: str, path: str, *, json: Any = None, params: Mapping[str, Any] | None = None) -> Any:
        """The `data` of an answer that must be a success."""
        answer = self.call(method, path, json=json, params=params)
        assert answer.code == SUCCESS, f"{method} {path}: {answer.code} {answer.message}"
        return answer.data

    def close(self) -> None:
        """Drop the connections."""
        self._http.close()

    @staticmethod
    def _read(response: httpx.Response) -> Answer:
        envelope = response.json()
        return Answer(
            status=response.status_code,
            headers=response.headers,
            text=response.text,
            code=envelope["code"],
            data=envelope["data"],
            message=envelope["message"],
        )

    # ---- what tests say often

    def create(self, *, workers: int = 0, image: str = "sim/echo", mode: str = "QUEUE", **more: Any) -> str:
        """A new endpoint's id."""
        body = {
            "name": "conformance",
            "image": image,
            "resources": RESOURCES,
            "workers": workers,
            "containerVolumeInGb": 20,
            "serviceMode": mode,
            **more,
        }
        return self.data("POST", "", json=body)["id"]

    def submit(self, endpoint_id: str, **fields: Any) -> str:
        """A new task's id."""
        body = {"input": {"prompt": "hello"}, "workerPort": 8000, "processUri": "/run", **fields}
        return self.data("POST", f"/{endpoint_id}/tasks", json=body)["taskId"]

    def task(self, endpoint_id: str, task_id: str) -> dict[str, Any]:
        """A task, whole."""
        return self.data("GET", f"/{endpoint_id}/tasks/{task_id}")

    def ended(self, endpoint_id: str, task_id: str) -> dict[str, Any]:
        """A task once it has ended."""
        return until(lambda: self.task(endpoint_id, task_id), lambda task: task["status"] != "PROCESSING")

    def tasks(self, endpoint_id: str, *, size: int = 100, status: str | None = None) -> Iterator[dict[str, Any]]:
        """All tasks as the pages show them."""
        for number in itertools.count(1):
            params = {"pageNumber": number, "pageSize": size} | ({"status": status} if status else {})
            page = self.data("GET", f"/{endpoint_id}/tasks", params=params)
            yield from page["items"]
            if number >= page["pages"]:
                return

    def processing(self, endpoint_id: str) -> int:
        """How many tasks the count operation says are open."""
        return self.data("GET", f"/{endpoint_id}/tasks/count")["processing"]


def until(look: Callable[[], Any], done: Callable[[Any], bool], patience_s: float = PATIENCE_S) -> Any:
    """What `look` finds once it is `done`. There is no event to wait for: the API itself is one that is polled."""
    last = time.monotonic() + patience_s
    while True:
        found = look()
        if done(found):
            return found
        assert time.monotonic() < last, f"Not within {patience_s:g} s; last seen: {found!r}"
        time.sleep(_LOOK_AGAIN_S)


@attrs.frozen
class Stage:
    """Endpoints made for the checks, each for requests that would be in the way of the others."""

    api: Api
    other: Api
    """The same service under another account's key."""
    served: str
    """QUEUE, one sim/echo worker; has one ended task."""
    collecting: str
    """QUEUE without workers: its tasks stay PROCESSING, so their webhooks are never sent."""
    parked: str
    """STOPPED: however many workers it is told to have, none is started."""
    toggled: str
    """Without workers: may be started and stopped."""
    worker_id: str
    task_id: str

    @property
    def ids(self) -> set[str]:
        """Its endpoints."""
        return {self.served, self.collecting, self.parked, self.toggled}

    @classmethod
    def set_up(cls, api: Api, other: Api) -> "Stage":
        """Make the endpoints, and wait until they are what they are said to be."""
        served = api.create(workers=1)
        parked = api.create()
        api.data("POST", f"/{parked}/stop")
        workers = until(lambda: api.data("GET", f"/{served}/workers"), lambda found: len(found) == 1)
        until(lambda: api.data("GET", f"/{served}"), lambda endpoint: endpoint["status"] == "RUNNING")
        until(lambda: api.data("GET", f"/{parked}"), lambda endpoint: endpoint["status"] == "STOPPED")
        task_id = api.submit(served, taskId="known_task", headers={"X-Known": "yes"})
        api.ended(served, task_id)
        return cls(
            api=api,
            other=other,
            served=served,
            collecting=api.create(),
            parked=parked,
            toggled=api.create(),
            worker_id=workers[0]["id"],
            task_id=task_id,
        )
