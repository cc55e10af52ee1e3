"""The whole of what the emulator holds: taken up at start, thrown away, saved, put back."""

import asyncio
from collections.abc import Container
from typing import Any

import msgspec

from yottabench.emulator.app import Api
from yottabench.emulator.codes import ApiError, Code
from yottabench.emulator.control.snapshots import read_snapshot
from yottabench.emulator.limits import SNAPSHOT_MAX_TASKS
from yottabench.emulator.services import Services, fail_open_tasks
from yottabench.emulator.store.base import EndpointStatus
from yottabench.emulator.store.upkeep import ClearState, History, PutSnapshot, TooLarge


class State:
    """Of one namespace, or of all when it is None."""

    def __init__(self, services: Services, api: Api, history: History) -> None:
        self._on = services
        self._api = api
        self._history = history
        self._one_at_a_time = asyncio.Lock()
        self._leftovers: set[asyncio.Task[None]] = set()

    def take_up(self, only: Container[int] | None = None) -> None:
        """Put to work what the store holds: all endpoints, or these."""
        for record in self._on.store.endpoints():
            if only is not None and record.id not in only:
                continue
            if record.should_run:
                record.status = EndpointStatus.RUNNING if record.spec.workers == 0 else EndpointStatus.INITIALIZING
            self._api.open(record)
        for next_ms, task in self._on.store.waiting():
            endpoint = self._api.endpoints.get(task.endpoint_id)  # none: it was deleted, and its tasks are failed below
            if endpoint is not None and (only is None or task.endpoint_id in only):
                endpoint.dispatcher.add_waiting(task, next_ms)
        for endpoint_id in self._on.store.deleted_with_open_tasks():
            failing = asyncio.get_running_loop().create_task(fail_open_tasks(endpoint_id, self._on))
            self._leftovers.add(failing)
            failing.add_done_callback(self._leftovers.discard)
        self._on.outbox.load()

    async def reset(self, namespace: str | None) -> int:
        """As new: no endpoint, worker, task, delivery, log or fault is left on return. How many endpoints there were.

        Time stays where it is: it never steps back.
        """
        async with self._one_at_a_time:
            workers = self._workers(namespace)
            ended = await self._end(namespace)
            cleared = await self._on.writer.commit(ClearState(namespace=namespace))
            self._on.outbox.forget(cleared.open_deliveries)
            self._on.faults.remove(self._on.faults.rules(namespace))
            self._api.forget_rates(ended, namespace)
            await asyncio.to_thread(self._on.logs.forget, workers)
            return len(ended)

    def _workers(self, namespace: str | None) -> list[str]:
        return [
            str(worker.id)
            for endpoint_id in self._history.endpoint_ids(namespace)
            for worker in self._on.store.workers(endpoint_id)
        ]

    async def _end(self, namespace: str | None) -> set[int]:
        ended: set[int] = set()
        # New ones may come in while the first are ending; after the last look nothing may be awaited.
        while gone := self._api.take_out(namespace):
            ended.update(endpoint.record.id for endpoint in gone)
            await asyncio.gather(*(endpoint.end() for endpoint in gone))
        self._api.note_clearing(namespace)
        return ended

    async def save(self, namespace: str | None) -> bytes:
        """A snapshot as JSON, of the last commit. Raises ApiError when there is too much for one."""
        return await asyncio.to_thread(self._saved, namespace, self._on.clock.now_ms())

    def _saved(self, namespace: str | None, now_ms: int) -> bytes:
        try:
            return msgspec.json.encode(self._history.snapshot(namespace, now_ms, SNAPSHOT_MAX_TASKS))
        except TooLarge as error:
            raise ApiError(
                Code.INVALID,
                f"There are {error} tasks; a snapshot holds at most {SNAPSHOT_MAX_TASKS}. Stop the server and copy"
                " its data folder instead.",
            ) from None

    async def load(self, namespace: str | None, text: bytes) -> dict[str, Any]:
        """Throw away what there is, and put a snapshot in its place. Raises ApiError: then all is as it was,
        but for workers, which were started anew."""
        snapshot = await asyncio.to_thread(read_snapshot, text)
        ids = {endpoint.record.id for endpoint in snapshot.endpoints}
        async with self._one_at_a_time:
            ids |= await self._end(namespace)
            outcome = await self._on.writer.commit(
                PutSnapshot(snapshot=snapshot, namespace=namespace, now_ms=self._on.clock.now_ms())
            )
            if not isinstance(outcome, str):
                self._on.outbox.forget(outcome.open_deliveries)
            self.take_up(ids)
        if isinstance(outcome, str):
            raise ApiError(Code.WRONG_STATE, f"{outcome} Put it into a server of its own, or reset that key first.")
        return {
            "endpoints": len(snapshot.endpoints),
            "tasks": len(snapshot.tasks),
            "deliveries": len(snapshot.deliveries),
        }

    async def close(self) -> None:
        """Leave the rest of what is failing to the next server."""
        for failing in self._leftovers:
            failing.cancel()
        await asyncio.gather(*self._leftovers, return_exceptions=True)
