"""The API that a run is aimed at: its endpoint before the run, and what it holds and executed after it."""

import ipaddress
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import attrs

from yottabench.client import (
    ApiError,
    Client,
    ConnectionFailed,
    EndpointNotFound,
    TaskNotFound,
    YottaError,
    is_terminal,
)
from yottabench.client.models import LogPage, Task, TaskSummary
from yottabench.load.attempts import NoRecord, recorded_attempts
from yottabench.load.audit import Execution, ServerTask
from yottabench.load.profile import Profile

LOCAL_HOST = "http://127.0.0.1:8080"
LOCAL_KEY = "yottabench-load"  # on loopback without configured keys any key is accepted
PAGE_SIZE = 100
LOG_PAGE_SIZE = 1000
POLL_S = 0.1
# Workers' output reaches the log a moment after the task has ended; this long it is waited for.
LOG_LAG_S = 3.0

_EXECUTION = re.compile(r"task=(\S+) attempt=([0-9]+) path=\S+ status=[0-9]+ start_ms=([0-9]+) end_ms=([0-9]+)")
_EVERY_STATUS = "INITIALIZING,RUNNING,STOPPING,STOPPED,TERMINATING,TERMINATED,FAILED"


class TargetError(Exception):
    """The run cannot be aimed at this; the text says why and what next."""


@attrs.frozen
class EndpointInUse:
    """The endpoint of a run, and whether the run made it (and so removes it)."""

    endpoint_id: str
    made_by_run: bool
    image: str
    workers: int


def is_local(host: str) -> bool:
    """Whether a base URL points at this machine."""
    name = urlsplit(host).hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def api_key_for(host: str) -> str:
    """The key from YOTTA_API_KEY, else one that a local emulator without keys accepts. Raises TargetError."""
    key = os.environ.get("YOTTA_API_KEY", "")
    if key:
        return key
    if is_local(host):
        return LOCAL_KEY
    raise TargetError(f"{host} needs an API key. Set the environment variable YOTTA_API_KEY.")


class Target:
    """One deployment of the API, over the synchronous client. Close it after use, or use it in a `with` block."""

    def __init__(self, host: str, timeout_s: float = 30.0) -> None:
        self.host = host
        try:
            self._client = Client(api_key=api_key_for(host), base_url=host, timeout_s=timeout_s)
        except YottaError as error:
            raise TargetError(str(error)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def check(self) -> None:
        """Asks for the list of endpoints. Raises TargetError when nothing useful answers."""
        try:
            self._client.endpoints.list(max_retries=0)
        except ConnectionFailed as error:
            hint = (
                "Start the emulator with `yottabench serve`, or give --host."
                if is_local(self.host)
                else "Check --host."
            )
            raise TargetError(f"Nothing answers at {self.host} ({error}). {hint}") from None
        except YottaError as error:
            raise TargetError(f"{self.host} does not answer as the Serverless API: {error}") from None

    def use_endpoint(self, endpoint_id: str) -> EndpointInUse:
        """Checks that a given endpoint takes tasks. Raises TargetError."""
        try:
            endpoint = self._client.endpoints.get(endpoint_id)
        except EndpointNotFound:
            raise TargetError(
                f"There is no endpoint {endpoint_id} at {self.host} for this key. "
                "Leave the id out, and one is made for the run."
            ) from None
        except YottaError as error:
            raise TargetError(f"Endpoint {endpoint_id} cannot be read: {error}") from None
        if str(endpoint.service_mode) != "QUEUE":
            raise TargetError(
                f"Endpoint {endpoint_id} is in {endpoint.service_mode} mode; only QUEUE endpoints take tasks. "
                "Create one with serviceMode=QUEUE."
            )
        return EndpointInUse(endpoint_id, False, endpoint.image, endpoint.total_workers)

    def make_endpoint(self, profile: Profile, name: str, stopped: Callable[[], bool] = lambda: False) -> EndpointInUse:
        """Makes the profile's QUEUE endpoint and waits until it runs, or until `stopped` says that nobody wants it.

        Raises TargetError and leaves nothing then.
        """
        wanted = profile.endpoint
        if wanted.image.startswith("sim/") and not is_local(self.host):
            raise TargetError(
                f"The image {wanted.image} exists only in the emulator, not at {self.host}. "
                "Give --endpoint-id with an endpoint of your own, or a profile with your image."
            )
        env = dict(wanted.env)
        if wanted.scale_env:
            env[wanted.scale_env] = repr(1 / profile.arrivals.time_scale)
        try:
            made = self._client.endpoints.create(
                name=name,
                image=wanted.image,
                resources=[{"region": wanted.region, "gpuType": wanted.gpu_type, "gpuCount": wanted.gpu_count}],
                workers=wanted.workers,
                container_volume_in_gb=wanted.container_volume_gb,
                service_mode="QUEUE",
                environment_vars=env,
                expose={"port": profile.task.worker_port, "protocol": "http"},
            )
        except YottaError as error:
            raise TargetError(f"The endpoint for the run could not be made: {error}") from None
        try:
            if wanted.wait:
                self._wait_until_running(made.id, wanted.workers, wanted.ready_timeout_s, stopped)
        except BaseException:
            self.remove_endpoint(made.id)
            raise
        return EndpointInUse(made.id, True, wanted.image, wanted.workers)

    def scale(self, endpoint_id: str, workers: int) -> None:
        """Asks for another number of workers. Raises YottaError."""
        self._client.endpoints.scale(endpoint_id, workers)

    def remove_endpoint(self, endpoint_id: str) -> str | None:
        """Deletes an endpoint; says what went wrong, if anything, since a run's result matters more."""
        try:
            self._client.endpoints.delete(endpoint_id)
        except EndpointNotFound:
            return None
        except YottaError as error:
            return f"Endpoint {endpoint_id} could not be removed: {error}. Delete it by hand."
        return None

    def remove_endpoint_named(self, name: str) -> list[str]:
        """Deletes what a run that was killed may have left half made; says what went wrong, if anything."""
        try:
            left = [endpoint.id for endpoint in self._client.endpoints.list() if endpoint.name == name]
        except YottaError as error:
            return [f"Whether an endpoint named {name} was left at {self.host} is unknown: {error}. Look there."]
        return [problem for endpoint_id in left if (problem := self.remove_endpoint(endpoint_id)) is not None]

    def pages(self, endpoint_id: str) -> Iterator[tuple[list[ServerTask], int]]:
        """Every task of the endpoint, newest first, by pages, and how many the server says there are in all.

        Raises YottaError when the list cannot be read to its end.
        """
        number = 1
        while True:
            page = self._client.tasks.list(endpoint_id, page_number=number, page_size=PAGE_SIZE)
            yield [_server_task(item) for item in page.items], page.total
            if number * PAGE_SIZE >= page.total:
                return
            number += 1

    def task(self, endpoint_id: str, task_id: str) -> ServerTask | None:
        """One task, None when the server does not know it. Raises YottaError."""
        try:
            return _server_task(self._client.tasks.get(endpoint_id, task_id))
        except TaskNotFound:
            return None

    def count(self, endpoint_id: str) -> int:
        """How many tasks are open, as the server counts them. Raises YottaError."""
        return self._client.tasks.count(endpoint_id).processing

    def executions(self, endpoint_id: str, expected: int) -> Iterator[Execution]:
        """What the workers' logs tell of executions; waits a moment while they are fewer than `expected`.

        Raises YottaError when the logs cannot be read.
        """
        found = 0
        readers = [_LogReader(self._client, endpoint_id, worker_id) for worker_id in self._worker_ids(endpoint_id)]
        until_s = time.monotonic() + LOG_LAG_S
        while True:
            for reader in readers:
                for execution in reader.read_on():
                    found += 1
                    yield execution
            if found >= expected or time.monotonic() >= until_s:
                return
            time.sleep(POLL_S)

    def attempts(self, endpoint_id: str, task_ids: Iterable[str]) -> Iterator[Execution]:
        """What an emulator on this machine has recorded of its attempts at these tasks. Raises NoRecord."""
        if not is_local(self.host):
            raise NoRecord("only an emulator on this machine is asked for one")
        return recorded_attempts(self.host, api_key_for(self.host), endpoint_id, task_ids)

    def _worker_ids(self, endpoint_id: str) -> list[str]:
        try:
            workers = self._client.workers.list(endpoint_id, statuses=_EVERY_STATUS)
        except ApiError:
            # Ended workers are shown only to those who ask for them, and not every server knows all these states.
            workers = self._client.workers.list(endpoint_id)
        ids: list[str] = []
        for worker in workers:
            known: Any = worker.to_dict()
            ids.append(str(known.get("id") or known.get("workerId")))
        return ids

    def _wait_until_running(
        self, endpoint_id: str, workers: int, timeout_s: float, stopped: Callable[[], bool]
    ) -> None:
        until_s = time.monotonic() + timeout_s
        while time.monotonic() < until_s:
            if stopped():
                raise TargetError("Stopped before it began: the endpoint for the run is removed again.")
            try:
                endpoint = self._client.endpoints.get(endpoint_id)
            except YottaError as error:
                raise TargetError(f"The run's endpoint {endpoint_id} cannot be read: {error}") from None
            status = str(endpoint.status)
            if status == "RUNNING" and endpoint.running_workers >= workers:
                return
            if status in ("FAILED", "STOPPED"):
                raise TargetError(f"The run's endpoint {endpoint_id} is {status}. Look at its workers' logs for why.")
            time.sleep(POLL_S)
        raise TargetError(
            f"The run's endpoint {endpoint_id} was not RUNNING with {workers} workers after {timeout_s:g} s. "
            "Raise endpoint.ready_timeout_s in the profile, or look at its workers' logs."
        )


class _LogReader:
    """Reads one worker's execution lines, each once, going on where the last reading ended."""

    def __init__(self, client: Client, endpoint_id: str, worker_id: str) -> None:
        self._client = client
        self._endpoint_id = endpoint_id
        self._worker_id = worker_id
        self._after: tuple[str, str] | None = None

    def read_on(self) -> Iterator[Execution]:
        while True:
            page = self._page()
            for entry in page.logs:
                match = _EXECUTION.search(entry.log)
                if match:
                    yield Execution(match[1], int(match[2]), int(match[3]), int(match[4]))
            if page.next_search_after_time and page.next_search_after_offset:
                self._after = page.next_search_after_time, page.next_search_after_offset
            if not page.has_more:
                return

    def _page(self) -> LogPage:
        after_time, after_offset = self._after or (None, None)
        return self._client.workers.logs(
            self._endpoint_id,
            self._worker_id,
            page_size=LOG_PAGE_SIZE,
            keyword="task=",
            search_after_time=after_time,
            search_after_offset=after_offset,
        )


def _server_task(task: Task | TaskSummary) -> ServerTask:
    delivered_ms = task.delivered_at if isinstance(task.delivered_at, int) else 0
    return ServerTask(task.task_id, str(task.status), is_terminal(task), task.created_at, task.updated_at, delivered_ms)
