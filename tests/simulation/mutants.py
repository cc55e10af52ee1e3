"""Bugs to be planted in the server under simulation, each of which the simulation must find."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import msgspec

from tests.emulator.harness import changed
from tests.simulation.parts import SimStore, SimWriter
from yottabench.emulator import webhooks
from yottabench.emulator.control.state import State
from yottabench.emulator.dispatch import Dispatcher
from yottabench.emulator.ready import ReadyQueue
from yottabench.emulator.store import base
from yottabench.emulator.store.base import DeliveryState, TaskState
from yottabench.emulator.store.sqlite_counts import CountChanges
from yottabench.emulator.store.upkeep import PurgeTasks
from yottabench.emulator.workers import Worker

Plant = Callable[[], contextlib.AbstractContextManager[Any]]
MUTANTS: dict[str, tuple[Plant, frozenset[str]]] = {}


def mutant(*always: str) -> Callable[[Plant], Plant]:
    """Enter a bug into the list, under the name of the function that plants it; `always`: what it takes to show."""

    def enter(plant: Plant) -> Plant:
        MUTANTS[plant.__name__] = (plant, frozenset(always))
        return plant

    return enter


@contextlib.contextmanager
def _applying(change: Callable[[SimStore, Sequence[Any]], Sequence[Any]]) -> Iterator[None]:
    """Every batch is changed before the store gets it."""
    real = SimStore.apply
    with mock.patch.object(SimStore, "apply", lambda store, batch: real(store, change(store, batch))):
        yield


def _one_by_one(change: Callable[[SimStore, Any], Any]) -> contextlib.AbstractContextManager[None]:
    return _applying(lambda store, batch: [change(store, command) for command in batch])


def _run(store: SimStore, sql: str, *values: Any) -> list[Any]:
    return store._writer.execute(sql, values).fetchall()


# ---- the store


@mutant("deletes")
def the_fence_is_not_checked_when_a_task_ends() -> Any:
    def as_if_newest(store: SimStore, command: Any) -> Any:
        if isinstance(command, base.FinishTask):
            ((fence, state),) = _run(store, "SELECT fence, state FROM task WHERE seq = ?", command.seq) or [(0, 0)]
            if state != TaskState.LEASED:
                _run(store, "UPDATE task SET state = 1 WHERE seq = ?", command.seq)
            return msgspec.structs.replace(command, fence=fence)
        return command

    return _one_by_one(as_if_newest)


@mutant()
def the_outbox_row_comes_a_transaction_later() -> Any:
    late: list[Any] = []
    columns = "id, task_seq, worker_id, url, auth_key, body, state, attempts, next_ms, updated_ms"
    real = SimStore.apply

    def apply(store: SimStore, batch: Sequence[Any]) -> list[Any]:
        for row in late:
            _run(store, f"INSERT INTO delivery ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", *row)
        late.clear()
        outcomes = real(store, batch)
        for outcome in outcomes:
            if isinstance(outcome, base.Finished) and outcome.delivery is not None:
                late.extend(_run(store, f"DELETE FROM delivery WHERE id = ? RETURNING {columns}", outcome.delivery.id))
        return outcomes

    return mock.patch.object(SimStore, "apply", apply)


@mutant("scales")
def a_lease_does_not_look_whether_another_has_the_task() -> Any:
    @contextlib.contextmanager
    def both() -> Iterator[None]:
        real = ReadyQueue.add

        def twice(queue: ReadyQueue, task: Any) -> None:
            real(queue, task)
            queue.put_back(msgspec.structs.replace(task))

        def take(store: SimStore, command: Any) -> Any:
            if isinstance(command, base.LeaseTask):
                _run(store, "UPDATE task SET state = 0 WHERE seq = ? AND state = 1", command.seq)
                ((fence,),) = _run(store, "SELECT fence FROM task WHERE seq = ?", command.seq)
                return msgspec.structs.replace(command, fence=fence)
            return command

        with mock.patch.object(ReadyQueue, "add", twice), _one_by_one(take):
            yield

    return both()


@mutant("crashes")
def leased_tasks_are_forgotten_after_a_crash() -> Any:
    return mock.patch.object(SimStore, "recover", return_value=None)


@mutant("crashes")
def a_crash_of_the_server_counts_as_a_strike() -> Any:
    real = SimStore.recover

    def recover(store: SimStore, now_ms: int) -> None:
        _run(store, "UPDATE task SET strikes = strikes + 1 WHERE state = 1")
        real(store, now_ms)

    return mock.patch.object(SimStore, "recover", recover)


@mutant("crashes")
def a_delivery_under_way_is_forgotten_after_a_crash() -> Any:
    real = SimStore.recover

    def recover(store: SimStore, now_ms: int) -> None:
        _run(store, "UPDATE delivery SET state = 3 WHERE state = 1")
        real(store, now_ms)

    return mock.patch.object(SimStore, "recover", recover)


@mutant("worker deaths", "lying workers")
def the_counters_are_not_kept_when_a_task_returns() -> Any:
    real = CountChanges.move

    def move(changes: CountChanges, tasks: Any, source: Any, target: Any) -> None:
        if target != TaskState.RETRY_WAIT:
            real(changes, tasks, source, target)

    return mock.patch.object(CountChanges, "move", move)


@mutant("deletes")
def deleting_an_endpoint_fails_what_has_succeeded_too() -> Any:
    def fail(store: SimStore, command: Any) -> Any:
        if isinstance(command, base.FailOpenTasks):
            _run(
                store,
                "UPDATE task SET state = 4, error = 'The endpoint was deleted' WHERE endpoint_id = ? AND state = 3",
                command.endpoint_id,
            )
        return command

    return _one_by_one(fail)


@mutant("retention", "clock jumps")
def retention_takes_what_is_not_old() -> Any:
    def younger(store: SimStore, command: Any) -> Any:
        return (
            msgspec.structs.replace(command, before_ms=command.before_ms + 1_200_000)
            if isinstance(command, PurgeTasks)
            else command
        )

    return _one_by_one(younger)


# ---- the writer


@mutant()
def a_submit_is_answered_before_its_commit() -> Any:
    real = SimWriter.commit_then

    def commit_then(writer: SimWriter, command: Any, then: Any) -> None:
        if isinstance(command, base.SubmitTask):
            real(writer, command, lambda _: None)
            then(base.Submitted(1, known=False, same=True))
        else:
            real(writer, command, then)

    return mock.patch.object(SimWriter, "commit_then", commit_then)


@mutant("refused commits")
def a_failed_commit_is_answered_as_done() -> Any:
    real = SimWriter._resolve

    def resolve(writer: SimWriter, batch: Any, outcomes: Any) -> None:
        if isinstance(outcomes, base.StoreError) and all(isinstance(each, base.SubmitTask) for each, _ in batch):
            outcomes = [base.Submitted(1, known=True, same=True) for _ in batch]
        real(writer, batch, outcomes)

    return mock.patch.object(SimWriter, "_resolve", resolve)


# ---- the dispatcher


@mutant("crashes", "lying workers")
def tasks_that_wait_are_not_taken_up_after_a_restart() -> Any:
    real = State.take_up

    def take_up(state: State, only: Any = None) -> None:
        with mock.patch.object(SimStore, "waiting", return_value=[]):
            real(state, only)

    return mock.patch.object(State, "take_up", take_up)


@mutant("lying workers")
def a_returned_task_is_not_put_back() -> Any:
    return mock.patch.object(ReadyQueue, "put_back", return_value=None)


@mutant("small windows")
def the_window_loses_what_did_not_fit() -> Any:
    real = ReadyQueue._refill

    def refill(queue: ReadyQueue) -> None:
        real(queue)
        queue._spilled = False

    return mock.patch.object(ReadyQueue, "_refill", refill)


@mutant("scales", "stops")
def a_worker_that_goes_keeps_getting_tasks() -> Any:
    return mock.patch.object(Worker, "_withdraw", return_value=None)


@mutant()
def the_worker_is_called_before_the_lease_is_durable() -> Any:
    def lease(dispatcher: Dispatcher, task: Any, worker: Any) -> None:
        now_ms = dispatcher._clock.now_ms()
        deadline_ms = now_ms + int(dispatcher._settings.worker_timeout_s * 1000)
        dispatcher._writer.commit_then(
            base.LeaseTask(
                seq=task.seq,
                fence=task.fence,
                worker_id=worker.id,
                worker_url="",
                deadline_ms=deadline_ms,
                now_ms=now_ms,
            ),
            lambda _: None,
        )
        dispatcher._leased(task, worker, deadline_ms, base.Moved.DONE)

    return mock.patch.object(Dispatcher, "_lease", lease)


@mutant("refused commits", "lying workers")
def a_return_is_not_tried_again_when_the_disk_is_full() -> Any:
    real = SimWriter.insist

    async def insist(writer: SimWriter, command: Any, *, refused: bool = False) -> Any:
        if not isinstance(command, base.ReturnTask):
            return await real(writer, command, refused=refused)
        try:
            return await writer.commit(command)
        except base.StoreError:
            return base.Moved.STALE

    return mock.patch.object(SimWriter, "insist", insist)


# ---- the outbox


@mutant("receivers fail")
def the_ladder_is_one_rung_too_far() -> Any:
    real = webhooks.EndDelivery

    def end(**fields: Any) -> Any:
        late_ms = 240_000 if fields["state"] is DeliveryState.DUE else 0
        return real(**{**fields, "next_ms": fields["next_ms"] + late_ms})

    return changed(webhooks, EndDelivery=end)


def _woken(later_ms: int) -> Any:
    real = webhooks.Outbox._wake_at
    return mock.patch.object(
        webhooks.Outbox, "_wake_at", lambda outbox, whose, due_ms: real(outbox, whose, due_ms + later_ms)
    )


@mutant("receivers fail")
def a_retry_goes_out_a_second_late() -> Any:
    return _woken(1000)


@mutant("receivers fail")
def a_retry_goes_out_when_any_is_due() -> Any:
    real = SimStore.due_deliveries

    def due(store: SimStore, limit: int, *more: Any) -> list[Any]:
        return [msgspec.structs.replace(each, next_ms=0) for each in real(store, limit, *more)]

    return mock.patch.object(SimStore, "due_deliveries", due)


@mutant("crashes", "receivers fail")
def the_outbox_forgets_what_did_not_fit() -> Any:
    real = SimStore.due_deliveries
    return mock.patch.object(SimStore, "due_deliveries", lambda store, *more: real(store, *more)[:3])


@mutant()
def a_webhook_goes_out_without_a_claim() -> Any:
    def unclaimed(store: SimStore, batch: Sequence[Any]) -> Sequence[Any]:
        return [base.ClaimDelivery(id=-1) if isinstance(each, base.ClaimDelivery) else each for each in batch]

    @contextlib.contextmanager
    def both() -> Iterator[None]:
        real = SimWriter._resolve

        def resolve(writer: SimWriter, batch: Any, outcomes: Any) -> None:
            if not isinstance(outcomes, base.StoreError):
                outcomes = [
                    base.Moved.DONE if isinstance(command, base.ClaimDelivery) else outcome
                    for (command, _), outcome in zip(batch, outcomes, strict=True)
                ]
            real(writer, batch, outcomes)

        with mock.patch.object(SimWriter, "_resolve", resolve), _applying(unclaimed):
            yield

    return both()
