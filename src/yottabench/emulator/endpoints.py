"""Keeps every endpoint at what was asked for: a loop per endpoint compares desired and actual, and acts."""

import asyncio
import logging
import zlib
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from yottabench.emulator.codes import endpoint_not_found
from yottabench.emulator.dispatch import Dispatcher, WorkerCaller
from yottabench.emulator.drivers.base import WorkerSpec
from yottabench.emulator.faults import FaultyCaller
from yottabench.emulator.limits import STORE_RETRY_MS
from yottabench.emulator.prices import worker_usd_per_hour
from yottabench.emulator.services import Services, fail_open_tasks
from yottabench.emulator.store import base
from yottabench.emulator.store.base import (
    EndpointRecord,
    EndpointSpec,
    EndpointStatus,
    PutEndpoint,
    PutWorker,
    StoreError,
    WorkerRecord,
    WorkerStatus,
)
from yottabench.emulator.webhooks import worker_body
from yottabench.emulator.workers import Worker

_log = logging.getLogger("yottabench.endpoints")

# A worker that ends by itself is replaced after these waits, longer with each in a row; then the endpoint is FAILED.
RESTART_WAITS_MS = (0, 500, 1_000, 2_000, 4_000, 8_000)
STEADY_AFTER_MS = 60_000  # a worker that ran this long was no part of a crash loop
# What a change of these means for running workers: they are replaced.
_WORKER_FIELDS = ("environment", "initialization_command", "expose", "resources", "container_volume_in_gb")


class Endpoint:
    """One endpoint at work."""

    def __init__(self, record: EndpointRecord, services: Services) -> None:
        self.record = record
        self.deleted = False
        self._on = services
        self._workers: dict[int, Worker] = {}
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()  # the record is written whole: each change must be made of the one before
        self._crashes = 0
        self._newest_at_crash = 0  # the youngest worker when the last crash was counted
        self._not_before_ms = 0
        self._forget: Callable[[], None] | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self.dispatcher = Dispatcher(
            record.id,
            services.settings,
            services.clock,
            services.store,
            services.writer,
            services.outbox,
            services.stats,
        )

    def start(self) -> None:
        """Begin to reconcile."""
        self._spawn(self._reconcile_forever())
        self._changed.set()

    async def close(self) -> None:
        """The server ends: leave the workers to their drivers and the record as it is."""
        for task in tuple(self._under_way):
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self.dispatcher.close()

    async def end(self) -> None:
        """Forgotten: no draining, nothing more is written down, and its workers are gone on return."""
        self.deleted = True
        self.record.should_run = False
        await self.close()
        await asyncio.gather(*(worker.destroy() for worker in self.live_workers))

    # ---- what it shows

    @property
    def running_workers(self) -> int:
        """Workers that take tasks."""
        return sum(worker.record.status is WorkerStatus.RUNNING for worker in self._workers.values())

    @property
    def domain(self) -> str | None:
        """Under which host name the gateway leads to it; None when it does not."""
        if self.record.spec.service_mode != "ALB":
            return None
        settings = self._on.settings
        return f"{self.record.id}.{settings.gateway_domain or f'localhost:{settings.port}'}"

    @property
    def live_workers(self) -> list[Worker]:
        """Workers that are not gone, oldest first."""
        return list(self._workers.values())

    @property
    def spent_usd(self) -> float:
        """What its workers have cost so far."""
        now_ms = self._on.clock.now_ms()
        return self.record.spent_usd + sum(self._usd(worker, now_ms) for worker in self._workers.values())

    def _usd(self, worker: Worker, now_ms: int) -> float:
        if worker.ready_ms is None:
            return 0.0
        return worker_usd_per_hour(self.record.spec) * (now_ms - worker.ready_ms) / 3_600_000

    @property
    def takes_tasks(self) -> bool:
        """Whether a submit is accepted in this state."""
        return self.record.should_run and self.record.status is not EndpointStatus.FAILED

    # ---- what is asked of it

    async def change(
        self, edit: Callable[[EndpointSpec], EndpointSpec] | None = None, *, should_run: bool | None = None
    ) -> None:
        """Ask for another spec, or for running or not; durable on return, the rest follows.

        Changes that meet are made one after the other, each of what the one before has left. Raises ApiError when the
        endpoint was deleted meanwhile, and what `edit` raises.
        """
        async with self._writing:
            if self.deleted:
                raise endpoint_not_found(str(self.record.id))
            before = self.record.spec
            spec = before if edit is None else edit(before)
            written = self._changed_to(spec, should_run)
            await self._on.writer.commit(PutEndpoint(written))
            # Made anew: its workers may have cost something while it was written, or ended in a row.
            self.record = self._changed_to(spec, should_run)
            if self.record.status is not EndpointStatus.FAILED:
                self.record.status = written.status
        if should_run:
            self._crashes = 0
        if any(getattr(spec, field) != getattr(before, field) for field in _WORKER_FIELDS):
            for worker in self.live_workers:
                worker.outdated = True
        self._changed.set()

    def _changed_to(self, spec: EndpointSpec, should_run: bool | None) -> EndpointRecord:
        record = msgspec.structs.replace(self.record, spec=spec, updated_ms=self._on.clock.now_ms())
        if should_run is not None:
            record.should_run = should_run
        if should_run and record.status is EndpointStatus.FAILED:
            record.status = EndpointStatus.INITIALIZING
        record.status = self._status_of(record)
        return record

    async def delete(self, forget: Callable[[], None]) -> None:
        """Gone for every caller on return; workers end and open tasks fail behind it, and then `forget` is called.

        Raises ApiError when it was deleted meanwhile.
        """
        async with self._writing:
            if self.deleted:
                raise endpoint_not_found(str(self.record.id))
            await self._on.writer.commit(base.DropEndpoint(self.record.id))
            self.deleted = True
            self.record.should_run = False
        self._forget = forget
        self._spawn(fail_open_tasks(self.record.id, self._on))
        self._changed.set()

    # ---- reconciling

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("Something broke down at endpoint %d.", self.record.id, exc_info=error)
            self._changed.set()
        if self._forget is not None and not self._under_way:
            self._forget()

    async def _reconcile_forever(self) -> None:
        while not (self.deleted and not self._workers):
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._reconcile()
            except Exception as error:
                if not isinstance(error, StoreError):
                    _log.exception("Endpoint %d could not be brought to what was asked for.", self.record.id)
                self._on.clock.call_at(self._on.clock.now_ms() + STORE_RETRY_MS, self._changed.set)
        await self.dispatcher.close()

    async def _reconcile(self) -> None:
        staying = [worker for worker in self.live_workers if not worker.leaving]
        wanted = self.record.spec.workers if self._may_run else 0
        outdated = [worker for worker in staying if worker.outdated]
        if outdated and wanted:
            missing = self._roll(staying, outdated, wanted)
        else:
            for worker in _first_to_go(staying)[: max(0, len(staying) - wanted)]:
                self._dismiss(worker)
            missing = wanted - len(staying)
        now_ms = self._on.clock.now_ms()
        if missing > 0 and now_ms < self._not_before_ms:
            self._on.clock.call_at(self._not_before_ms, self._changed.set)
        else:
            for _ in range(missing):
                self._hire(now_ms)
        await self._show()

    def _roll(self, staying: list[Worker], outdated: list[Worker], wanted: int) -> int:
        """Replace outdated workers one by one: a new one must be ready before an old one that serves goes.

        Returns how many workers to start now.
        """
        ready = [worker for worker in staying if worker.record.status is WorkerStatus.RUNNING]
        serving = [worker for worker in outdated if worker in ready]
        useless = [worker for worker in outdated if worker not in ready]
        surplus = max(0, len(ready) - wanted)
        surge = 1
        fresh = [worker for worker in staying if not worker.outdated]
        if any(worker.place.waits for worker in fresh):
            # Without a place no new one becomes ready: an old one makes room, unless a place is on its way already.
            surge = 0
            if not any(worker.leaving or (worker in fresh and worker not in ready) for worker in self._with_place):
                surplus = max(1, surplus)
        for worker in useless + _first_to_go(serving)[:surplus]:
            self._dismiss(worker)
        current = len(staying) - len(outdated)
        left = current + max(0, len(serving) - surplus)
        return min(wanted - current, wanted + surge - left)

    @property
    def _with_place(self) -> list[Worker]:
        return [worker for worker in self.live_workers if worker.place.had]

    @property
    def _may_run(self) -> bool:
        return self.record.should_run and self.record.status is not EndpointStatus.FAILED

    def _status_of(self, record: EndpointRecord) -> EndpointStatus:
        if not record.should_run:
            return EndpointStatus.STOPPING if self._workers else EndpointStatus.STOPPED
        if record.status is EndpointStatus.FAILED:
            return EndpointStatus.FAILED
        if record.spec.workers == 0 or self.running_workers:
            return EndpointStatus.RUNNING
        return EndpointStatus.INITIALIZING

    async def _show(self) -> None:
        async with self._writing:
            status = self._status_of(self.record)
            if status is self.record.status or self.deleted:
                return
            after = msgspec.structs.replace(self.record, status=status, updated_ms=self._on.clock.now_ms())
            await self._on.writer.commit(PutEndpoint(after))
            self.record.updated_ms = after.updated_ms
            if self.record.status is not EndpointStatus.FAILED:  # its workers ended in a row while it was written
                self.record.status = status

    # ---- workers

    def _hire(self, now_ms: int) -> None:
        spec = self.record.spec
        record = WorkerRecord(
            id=self._on.ids.number(),
            endpoint_id=self.record.id,
            status=WorkerStatus.INITIALIZING,
            created_ms=now_ms,
            updated_ms=now_ms,
        )
        driver = next(driver for driver in self._on.drivers if driver.takes(spec.image))
        dispatcher = self.dispatcher if spec.service_mode == "QUEUE" else None
        place = self._on.places.ask(self.record.id)
        if place.waits:
            self._on.logs.append(str(record.id), f"waits for a place: {self._on.places.why}")
        worker = self._workers[record.id] = Worker(
            record, driver, dispatcher, self._save_worker, self._past_faults, place
        )
        self._spawn(self._live(worker))

    def _past_faults(self, worker_id: int, caller: WorkerCaller) -> WorkerCaller:
        return FaultyCaller(
            caller,
            self._on.faults,
            worker_id=worker_id,
            endpoint_id=self.record.id,
            namespace=self.record.namespace,
            timeout_s=self._on.settings.worker_timeout_s,
        )

    async def _live(self, worker: Worker) -> None:
        spec = self.record.spec
        settings = self._on.settings
        worker_id = str(worker.record.id)
        await self._run_to_its_end(
            worker,
            WorkerSpec(
                worker_id=worker_id,
                endpoint_id=str(self.record.id),
                image=spec.image,
                port=spec.expose.port if spec.expose else None,
                protocol=spec.expose.protocol if spec.expose else None,
                env={variable.key: variable.value for variable in spec.environment},
                command=spec.initialization_command,
                seed=zlib.crc32(f"{settings.seed}/{worker_id}".encode()),
                registry=spec.image_registry,
                gpus=spec.resources[0].gpu_count,
                replacing=any(other.outdated for other in self.live_workers),
            ),
        )
        now_ms = self._on.clock.now_ms()
        del self._workers[worker.record.id]
        self.record.spent_usd += self._usd(worker, now_ms)
        if not worker.leaving:
            self._note_crash(worker, now_ms)
        self._changed.set()

    async def _run_to_its_end(self, worker: Worker, spec: WorkerSpec) -> None:
        """See Worker.run. A worker that cannot even be looked after is ended, and counts as one that crashed."""
        settings, now_ms = self._on.settings, self._on.clock.now_ms
        try:
            await worker.run(
                spec,
                lambda line: self._on.logs.append(spec.worker_id, line),
                now_ms,
                settings.worker_timeout_s,
                settings.concurrency,
            )
        except Exception as error:
            _log.exception("Worker %d of endpoint %d broke down.", worker.record.id, self.record.id)
            await worker.destroy()
            was, worker.record.status = worker.record.status, WorkerStatus.TERMINATED
            worker.record.updated_ms = now_ms()
            worker.record.reason = f"could not be looked after ({type(error).__name__})"
            await self._save_worker(worker.record, was)

    def _note_crash(self, worker: Worker, now_ms: int) -> None:
        ran_ms = now_ms - (worker.ready_ms or now_ms)
        if ran_ms >= STEADY_AFTER_MS:
            self._crashes = 1
        elif worker.record.id > self._newest_at_crash:  # else it had started beside one that is counted already
            self._crashes += 1
        self._newest_at_crash = max(worker.record.id, self._newest_at_crash, *self._workers)
        self._on.stats.add("worker_crashes")
        _log.warning("Worker %d of endpoint %d ended: %s", worker.record.id, self.record.id, worker.record.reason)
        if self._crashes > len(RESTART_WAITS_MS) and not self.running_workers:
            self.record.status = EndpointStatus.FAILED
            self._spawn(self._save_failed())
            return
        wait_ms = RESTART_WAITS_MS[min(self._crashes, len(RESTART_WAITS_MS)) - 1]
        self._not_before_ms = now_ms + wait_ms

    async def _save_failed(self) -> None:
        _log.error(
            "Endpoint %d is FAILED: %d of its workers ended in a row. Read their logs, then stop and start it.",
            self.record.id,
            self._crashes,
        )
        async with self._writing:
            await self._on.writer.insist(PutEndpoint(msgspec.structs.replace(self.record)))

    def _dismiss(self, worker: Worker) -> None:
        if worker.leaving:
            return
        worker.leaving = True
        self._spawn(worker.leave(self._on.settings.drain_s, self._on.clock.now_ms()))

    async def _save_worker(self, worker: WorkerRecord, previous: WorkerStatus | None) -> None:
        webhook = self.record.spec.webhook
        body = None if webhook is None else worker_body(self.record, worker, previous)
        delivery = await self._on.writer.insist(PutWorker(msgspec.structs.replace(worker), webhook, body))
        if delivery is not None:
            self._on.outbox.add(delivery)
        self._changed.set()


def _first_to_go(workers: list[Worker]) -> list[Worker]:
    """Not ready before ready, idle before busy, young before old."""
    return sorted(
        workers,
        key=lambda worker: (worker.record.status is WorkerStatus.RUNNING, worker.in_hand, -worker.record.id),
    )
