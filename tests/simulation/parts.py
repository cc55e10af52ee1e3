"""The parts of the server that are replaced in a simulation: its threads, its sockets, its sleep."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.emulator.harness import Bench, FakeClock, FakeDriver, Network, QuickStore, StepWriter, changed
from yottabench.emulator.store import sqlite
from yottabench.emulator.store.base import StoreError


class NoCheckpointer:
    """The real one is a thread; power.py is where its work is tested."""

    def __init__(self, *_: Any) -> None:
        pass

    def wake_if_needed(self) -> None:
        pass

    def cut_wal_if_long(self, *_: Any) -> None:
        pass

    def stop(self) -> None:
        pass


class SimStore(QuickStore):
    """The real store; its next `refuse_reads` reads fail."""

    refuse_reads = 0

    def __init__(self, data: Path) -> None:
        with changed(sqlite, Checkpointer=NoCheckpointer):
            super().__init__(data)

    def _rows(self, sql: str, values: Any = ()) -> list[tuple[Any, ...]]:
        if self.refuse_reads:
            self.refuse_reads -= 1
            raise StoreError("The disk cannot be read, says the simulation.")
        return super()._rows(sql, values)


class NoLogs:
    """Worker logs, which no promise of this simulation is about."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def append(self, worker_id: str, line: str) -> None:
        pass

    def purge(self, now_ms: int) -> int:
        return 0

    def close(self) -> None:
        pass


class SimWriter(StepWriter):
    """The writer in two halves, either of which happens when the simulation says so: the commit, and its answer."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.unheard: deque[tuple[list[Any], Any]] = deque()
        self._answers = deque()
        self.dead = False
        self.committed: Callable[[list[Any], Any], None] = lambda _, __: None

    @property
    def waiting(self) -> list[Any]:
        """What the next commit will hold."""
        return self._batch

    def commit_then(self, command: Any, then: Any) -> None:
        if not self.dead:
            super().commit_then(command, then)

    def _book(self) -> None:
        """Nothing happens by itself."""

    def _flush(self) -> None:
        """See `close` of StepWriter: at a clean end, all that waits is committed, and nobody is left to hear it."""
        if self._batch:
            self.commit_now()

    def commit_now(self) -> None:
        """Commit what waits, or fail to; who waits for it learns of it at `answer_now`."""
        batch, self._batch = self._batch, []
        commands = [command for command, _ in batch]
        try:
            self._check_room({type(command) for command in commands})
            outcomes: Any = self._store.apply(commands)
            self.commits += 1
            self.commands += len(batch)
        except StoreError as error:
            outcomes = error
        self.unheard.append((batch, outcomes))
        self.committed(commands, outcomes)

    def answer_now(self) -> None:
        """Tell those who wait what became of the oldest commit that nobody has heard of."""
        batch, outcomes = self.unheard.popleft()
        self._resolve(batch, outcomes)

    def _resolve(self, batch: list[Any], outcomes: Any) -> None:
        self._note_answers(batch, outcomes)
        self._answer(len(batch))

    def drop(self) -> None:
        super().drop()
        self.unheard.clear()
        self.dead = True


class SimBench(Bench):
    """See Bench; everything in it is still."""

    writer: SimWriter
    store: SimStore  # type: ignore[assignment]

    def __init__(self, data: Path, clock: FakeClock, network: Network, driver: FakeDriver, **chosen: Any) -> None:
        self._given = driver
        super().__init__(data, clock, network, **chosen)
        self.driver = driver

    def _stand_ins(self) -> dict[str, Any]:
        return {
            **super()._stand_ins(),
            "open_store": SimStore,
            "Writer": SimWriter,
            "LogStore": NoLogs,
            "SimDriver": lambda *_, **__: self._given,
        }

    def kill(self) -> None:
        """As kill -9."""
        self._end()
        self.writer.drop()
        for worker in self.driver.alive:
            worker.kill()
        self.store.close()
        self._pools.stop()
