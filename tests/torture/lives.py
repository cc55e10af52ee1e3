"""The life of a store on a recorded disk, all kinds of commands in it, and what every end of it must leave."""

from __future__ import annotations

import hashlib
import itertools
import marshal
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import attrs
import msgspec

from tests.emulator.harness import QuickStore, changed
from tests.simulation.parts import NoCheckpointer
from tests.simulation.watch import Watch
from tests.torture.disk import Disk, Platter, lay_out, on_disk
from yottabench.emulator.retention import DAY_MS
from yottabench.emulator.store import base, sqlite, upkeep
from yottabench.emulator.store.base import DeliveryState, TaskState
from yottabench.emulator.store.sqlite import SqliteStore

START_MS = 1_800_000_000_000
HOOK = "http://127.0.0.1:9000/hook"
_RETRY_MS = [60_000, 300_000, 900_000]
_numbers = itertools.count()


def dump(execute: Callable[[str], Any]) -> str:
    """A hash of everything in a store."""
    tables = [name for (name,) in execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    found = hashlib.sha256()
    for name in tables:
        found.update(marshal.dumps((name, list(execute(f"SELECT * FROM {name} ORDER BY 1, 2"))), 2))
    return found.hexdigest()


class _Recorded(SqliteStore):
    """A store whose checkpoints come when the life says so, also in the middle of a transaction."""

    synchronous = "FULL"

    def __init__(self, data: Path) -> None:
        with changed(sqlite, Checkpointer=NoCheckpointer):
            super().__init__(data)

    def _connect(self) -> Any:
        connection = super()._connect()
        if self.synchronous != "FULL":
            connection.execute(f"PRAGMA synchronous = {self.synchronous}")
        return connection


@attrs.define
class Life:
    """What happened: every operation of the disk, and what the store held after each of its answers."""

    disk: Disk
    states: list[str]
    seqs: list[int]  # the highest seq that was given by then
    moves: int


def record(seed: int, folder: Path, *, batches: int, synchronous: str = "FULL", largest_input: int = 30_000) -> Life:
    """Live on a disk of one's own."""
    disk = Disk(f"recorded{next(_numbers)}")
    chance = random.Random(f"life {seed}")
    with on_disk(disk):
        store = type("_OnDisk", (_Recorded,), {"synchronous": synchronous})(folder / "data")
        beside = apsw.Connection(str(folder / "data" / "yottabench.sqlite"), vfs=disk.name)
        beside.execute(f"PRAGMA synchronous = {synchronous}")
        life = Life(disk, [], [], 0)

        def answered() -> None:
            life.states.append(dump(store._writer.execute))
            life.seqs.append(store._next_seq - 1)
            disk.mark(len(life.states))

        answered()
        store.recover(START_MS)
        answered()
        script = _Script(chance, store, largest_input)
        for _ in range(batches):
            batch = script.batch()
            life.moves += len(batch)
            if chance.random() < 0.15:
                _checkpoint_within(store, beside, chance)
            store.apply(batch)
            answered()
            if chance.random() < 0.1:
                (beside if chance.random() < 0.5 else store._writer).execute(
                    f"PRAGMA wal_checkpoint({chance.choice(['PASSIVE', 'TRUNCATE'])})"
                )
        beside.close()
        store.close()
    disk.unregister()
    return life


def _checkpoint_within(store: SqliteStore, beside: apsw.Connection, chance: random.Random) -> None:
    """The next transaction meets a checkpoint half-way, as it does when that runs on its own thread."""
    real = store._writer
    countdown = chance.randint(1, 6)

    class Between:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def execute(self, sql: str, values: Any = ()) -> Any:
            nonlocal countdown
            countdown -= 1
            if countdown == 0:
                beside.execute("PRAGMA wal_checkpoint(PASSIVE)")
                store._writer = real
            return real.execute(sql, values)

    store._writer = Between()  # type: ignore[assignment]


class _Script:
    """Makes batches that mean something in the state that the store is in."""

    def __init__(self, chance: random.Random, store: SqliteStore, largest_input: int) -> None:
        self._largest_input = largest_input
        self._chance = chance
        self._store = store
        self._now_ms = START_MS
        self._names = itertools.count()
        self._snapshot: upkeep.Snapshot | None = None

    def _sql(self, sql: str) -> list[tuple[Any, ...]]:
        return list(self._store._writer.execute(sql))

    def batch(self) -> list[Any]:
        self._now_ms += self._chance.choice([1, 50, 61_000])
        commands: list[Any] = []
        for _ in range(self._chance.choice([1, 1, 2, 4])):
            commands += self._some()
        return commands

    def _some(self) -> list[Any]:
        kinds = [self._submits] * 4 + [self._leases] * 4 + [self._ends] * 5 + [self._deliveries] * 3
        kinds += [self._endpoint, self._worker, self._upkeep]
        return self._chance.choice(kinds)()

    def _submits(self) -> list[Any]:
        size = min(self._largest_input, self._chance.choice([10, 10, 10, 3000, 30_000]))
        return [
            base.SubmitTask(
                endpoint_id=self._chance.choice([1, 2]),
                task_id=f"t{next(self._names)}",
                input=msgspec.json.encode("x" * size),
                worker_port=8000,
                process_uri="/run",
                webhook=self._chance.choice([None, HOOK]),
                webhook_auth_key="key",
                headers=None,
                now_ms=self._now_ms,
            )
            for _ in range(self._chance.choice([1, 3, 20]))
        ]

    def _leases(self) -> list[Any]:
        rows = self._sql("SELECT seq, fence FROM task WHERE state = 0 ORDER BY seq LIMIT 5")
        return [
            base.LeaseTask(
                seq=seq, fence=fence, worker_id=7, worker_url="http://w", deadline_ms=self._now_ms, now_ms=self._now_ms
            )
            for seq, fence in rows
        ]

    def _ends(self) -> list[Any]:
        commands: list[Any] = []
        for seq, fence in self._sql("SELECT seq, fence FROM task WHERE state = 1 ORDER BY seq LIMIT 5"):
            good = {"state": TaskState.SUCCEEDED, "output": b'{"ok":true}' * 40, "error": None}
            bad = {"state": TaskState.FAILED, "output": None, "error": "HTTP 500"}
            if self._chance.random() < 0.3:
                next_ms = self._chance.choice([None, self._now_ms + 100])
                commands.append(
                    base.ReturnTask(seq=seq, fence=fence, strike=False, next_ms=next_ms, now_ms=self._now_ms)
                )
            else:
                how = self._chance.choice([good, good, bad])
                commands.append(base.FinishTask(seq=seq, fence=fence, now_ms=self._now_ms, **how))
        waiting = self._sql("SELECT seq, fence FROM task WHERE state = 2 ORDER BY seq LIMIT 3")
        return commands + [base.RequeueTask(seq=seq, fence=fence, now_ms=self._now_ms) for seq, fence in waiting]

    def _deliveries(self) -> list[Any]:
        due = self._sql("SELECT id FROM delivery WHERE state = 0 ORDER BY id LIMIT 4")
        commands: list[Any] = [base.ClaimDelivery(id=number) for (number,) in due]
        for number, attempts in self._sql("SELECT id, attempts FROM delivery WHERE state = 1 ORDER BY id LIMIT 4"):
            state, next_ms, note = DeliveryState.ACKED, self._now_ms, None
            if self._chance.random() < 0.4:
                state, note = DeliveryState.EXHAUSTED, "HTTP 500"
                if attempts < len(_RETRY_MS):
                    state, next_ms = DeliveryState.DUE, self._now_ms + _RETRY_MS[attempts]
            commands.append(base.EndDelivery(id=number, state=state, next_ms=next_ms, note=note, now_ms=self._now_ms))
        return commands

    def _endpoint(self) -> list[Any]:
        number = self._chance.choice([1, 2])
        spec = base.EndpointSpec(
            name="llama",
            image="sim/echo",
            service_mode="QUEUE",
            resources=(base.Resource("r", "g", 1),),
            workers=self._chance.randint(0, 3),
            container_volume_in_gb=20,
        )
        record = base.EndpointRecord(
            id=number,
            namespace=f"n{number}",
            spec=spec,
            should_run=True,
            status=base.EndpointStatus.RUNNING,
            created_ms=START_MS,
            updated_ms=self._now_ms,
        )
        return [base.PutEndpoint(record)]

    def _worker(self) -> list[Any]:
        record = base.WorkerRecord(
            id=self._chance.randint(1, 4),
            endpoint_id=self._chance.choice([1, 2]),
            status=base.WorkerStatus(self._chance.randint(0, 3)),
            created_ms=START_MS,
            updated_ms=self._now_ms,
        )
        return [base.PutWorker(record, self._chance.choice([None, HOOK]), b"{}")]

    def _upkeep(self) -> list[Any]:
        match self._chance.randint(0, 9):
            case 0:
                fail = base.FailOpenTasks(endpoint_id=2, error="gone", limit=9, now_ms=self._now_ms)
                return [base.DropEndpoint(2), fail]
            case 1:
                return [upkeep.ClearState(namespace=self._chance.choice([None, "n2"]))]
            case 2 | 3:
                return [upkeep.PurgeGone(before_ms=self._now_ms - 1000, limit=50)]
            case 4 if self._snapshot is not None:
                return [upkeep.PutSnapshot(snapshot=self._snapshot, namespace=None, now_ms=self._now_ms)]
            case 4 | 5:
                self._snapshot = self._store.snapshot(None, self._now_ms, 10_000)
                return []
            case _:
                return [upkeep.PurgeTasks(before_ms=self._now_ms - 120_000, after_seq=0, limit=200)]


# ---- ends


@attrs.define
class Found:
    """What the ends of a life left: how many were looked at, and what was wrong with how many."""

    ends: int = 0
    lost: int = 0  # an answer of the store was forgotten, or half of a transaction was found
    unreadable: int = 0  # it does not open, or is corrupt
    broken: int = 0  # a promise is broken after the recovery
    first: str = ""

    def add(self, wrong: str, why: str) -> None:
        setattr(self, wrong, getattr(self, wrong) + 1)
        self.first = self.first or why

    @property
    def bad(self) -> int:
        return self.lost + self.unreadable + self.broken


def end_everywhere(life: Life, folder: Path, seed: int, *, power: bool, every: int = 1, found: Found) -> None:
    """End the life between any two of its operations (or some), and look at what is left of it."""
    platter = Platter()
    chance = random.Random(f"ends {seed}")
    offset = chance.randrange(every)
    for position, op in enumerate([*life.disk.ops, None]):
        if position % every == offset:
            left = platter.after_a_power_loss(chance) if power else platter.after_a_crash()
            found.ends += 1
            _look(life, left, platter.answered, folder / f"end{next(_numbers)}", f"seed {seed} op {position}", found)
        if op is not None:
            platter.follow(op)


def _look(life: Life, left: dict[str, bytes], answered: int, folder: Path, where: str, found: Found) -> None:
    lay_out(left, folder)
    store = None
    try:
        with changed(sqlite, Checkpointer=NoCheckpointer):
            store = QuickStore(folder)
        verdict = store._writer.execute("PRAGMA quick_check").fetchall()
        if verdict != [("ok",)]:
            found.add("unreadable", f"{where}: {verdict}")
            return
        state = dump(store._writer.execute)
        # What was answered is there; what was being done when it ended may be, but then whole.
        allowed = life.states[max(0, answered - 1) : answered + 1]
        if state not in allowed:
            held = (
                f"what it held after {life.states.index(state) + 1}" if state in life.states else "what it never held"
            )
            found.add("lost", f"{where}: after {answered} answers it holds {held}")
            return
        _recover(life, store, answered, where, found)
    except (base.StoreError, apsw.Error) as error:
        found.add("unreadable", f"{where}: {error}")
    finally:
        if store is not None:
            store.close()
        shutil.rmtree(folder)


def _recover(life: Life, store: QuickStore, answered: int, where: str, found: Found) -> None:
    watch = Watch(_RETRY_MS, 7 * DAY_MS, 4)
    store.recover(START_MS + DAY_MS)
    try:
        watch.look(store._reader, START_MS + DAY_MS)
    except AssertionError as error:
        found.add("broken", f"{where}: {error}")
        return
    late = base.SubmitTask(
        endpoint_id=99,
        task_id="late",
        input=b"1",
        worker_port=1,
        process_uri="/",
        webhook=None,
        webhook_auth_key=None,
        headers=None,
        now_ms=START_MS + DAY_MS,
    )
    [submitted] = store.apply([late])
    if submitted.seq <= life.seqs[max(0, answered - 1)]:
        found.add("broken", f"{where}: seq {submitted.seq} was given before")
