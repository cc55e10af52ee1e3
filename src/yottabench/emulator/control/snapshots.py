"""Snapshots as files and bodies: written, read, and checked before a store is asked to take one."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from yottabench.emulator import requests, webhook_urls
from yottabench.emulator.codes import ApiError, Code
from yottabench.emulator.fields import invalid, shown
from yottabench.emulator.limits import INT64_MAX, SNAPSHOT_MAX_BYTES
from yottabench.emulator.store.base import OPEN_STATES, TaskState
from yottabench.emulator.store.upkeep import SavedTask, Snapshot

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class SnapshotFolder:
    """Snapshots kept by name in one folder; a name never leads out of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, text: bytes) -> Path:
        """Keep it, whole or not at all, readable for this user only: snapshots hold keys."""
        path = self._path(name)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(text)
        unfinished.replace(path)
        return path

    def read(self, name: str) -> bytes:
        """What was kept; raises ApiError when there is none of this name."""
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            kept = ", ".join(sorted(path.stem for path in self._folder.glob("*.json"))) or "none"
            raise ApiError(Code.NO_RECORD, f"There is no snapshot {name}. There is: {kept}.") from None

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            rule = f"must be a name of up to 100 letters, digits and . _ -, but is {shown(name)}"
            raise invalid("file", rule, "It is kept in the folder `snapshots` of the data folder.")
        return self._folder / f"{name}.json"


def read_snapshot(text: bytes) -> Snapshot:
    """Raises ApiError when it is none, or not consistent in itself."""
    if len(text) > SNAPSHOT_MAX_BYTES:
        raise invalid("The snapshot", f"has more than {SNAPSHOT_MAX_BYTES} bytes", "Copy the data folder instead.")
    try:
        snapshot = msgspec.json.decode(text, type=Snapshot)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid("The snapshot", f"cannot be read: {error}", "Send what GET /_emulator/snapshot gave.") from None
    fault = next(_faults(snapshot), None)
    if fault is not None:
        raise invalid("The snapshot", f"cannot be put back: {fault}", "Send what GET /_emulator/snapshot gave.")
    return snapshot


def _faults(snapshot: Snapshot) -> Iterator[str]:
    if snapshot.snapshot != 1:
        yield f"it is of version {snapshot.snapshot}; this yottabench knows version 1"
    endpoints = {endpoint.record.id for endpoint in snapshot.endpoints}
    workers = {worker.id for worker in snapshot.workers}
    times = [ms for worker in snapshot.workers for ms in (worker.created_ms, worker.updated_ms)]
    if not all(0 < number <= INT64_MAX for number in (*endpoints, *workers, *times)):
        yield "an id or a time is no positive 64-bit number"
    if len(endpoints) < len(snapshot.endpoints) or len(workers) < len(snapshot.workers):
        yield "an endpoint or a worker is there twice"
    if not endpoints.issuperset(each.endpoint_id for each in (*snapshot.workers, *snapshot.tasks)):
        yield "a worker or a task belongs to an endpoint that is not there"
    for endpoint in snapshot.endpoints:
        if endpoint.record.spec.webhook is not None and not webhook_urls.is_webhook(endpoint.record.spec.webhook):
            yield f"endpoint {endpoint.record.id} has a webhook that could not have been sent"
    yield from _faults_of_tasks(snapshot)
    yield from _faults_of_deliveries(snapshot, workers)


def _faults_of_tasks(snapshot: Snapshot) -> Iterator[str]:
    ids = {(task.endpoint_id, task.task_id) for task in snapshot.tasks}
    if not len(snapshot.tasks) == len(ids) == len({task.seq for task in snapshot.tasks}):
        yield "a task is there twice"
    for task in snapshot.tasks:
        if (task.state in OPEN_STATES) == (task.ended_ms is not None):
            yield f"task {task.task_id} must have a time of its end if it has ended, and else none"
        refusal = _refusal(task)
        if refusal is not None:
            yield f"task {shown(task.task_id)} could not have been submitted: {refusal}"
        if task.state is TaskState.RETRY_WAIT and task.next_ms is None:
            yield f"task {task.task_id} waits for another attempt and has no time for it"
        fences = [attempt.fence for attempt in task.attempts]
        if fences != sorted(set(fences)):
            yield f"the attempts of task {task.task_id} are not in order"
        if any(attempt.outcome == "returned" and attempt.ended_ms is None for attempt in task.attempts):
            yield f"an attempt of task {task.task_id} was given up and has no end"


def _refusal(task: SavedTask) -> str | None:
    """Why it could not have been submitted as it is; what a worker or a receiver is sent must not depend on the way."""
    body = {
        "taskId": task.task_id,
        "input": task.input,
        "workerPort": task.worker_port,
        "processUri": task.process_uri,
        "webhook": task.webhook,
        "webhookAuthKey": task.webhook_auth_key,
        "headers": task.headers,
    }
    sent = {name: value for name, value in body.items() if value is not None and value is not msgspec.UNSET}
    try:
        requests.read_submit(msgspec.json.encode(sent), strict=False)
    except ApiError as error:
        return error.message
    return None


def _faults_of_deliveries(snapshot: Snapshot, workers: set[int]) -> Iterator[str]:
    seqs = {task.seq for task in snapshot.tasks}
    of_tasks = [delivery.task_seq for delivery in snapshot.deliveries if delivery.task_seq is not None]
    if not seqs.issuperset(of_tasks) or len(set(of_tasks)) < len(of_tasks):
        yield "a delivery belongs to no task, or two to one"
    for place, delivery in enumerate(snapshot.deliveries):
        if not webhook_urls.is_webhook(delivery.url):
            yield f"deliveries[{place}].url is no URL of a webhook"
        if delivery.auth_key is not None and not webhook_urls.is_auth_key(delivery.auth_key):
            yield "the key of a delivery could not have been sent"
        if delivery.task_seq is None and (delivery.worker_id not in workers or delivery.body is msgspec.UNSET):
            yield "a delivery belongs neither to a task nor to a worker"
        numbers = [attempt.number for attempt in delivery.attempts]
        if numbers != sorted(set(numbers)):
            yield "the attempts of a delivery are not in order"
