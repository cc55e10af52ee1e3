"""Lets go of what has been over for long enough: tasks, gone workers, deleted endpoints, old log lines."""

import asyncio
import logging

from yottabench.clock import Clock
from yottabench.emulator.limits import SWEEP_MAX_MS, SWEEP_MIN_MS, SWEEP_PORTION
from yottabench.emulator.logs import LogStore
from yottabench.emulator.settings import Settings
from yottabench.emulator.stats import Stats
from yottabench.emulator.store.base import StoreError
from yottabench.emulator.store.upkeep import PurgeGone, PurgeTasks
from yottabench.emulator.store.writer import Writer

_log = logging.getLogger("yottabench.retention")

DAY_MS = 24 * 3600 * 1000


class Retention:
    """Sweeps at `start`, and from then on again and again. Open tasks and undelivered results always stay."""

    def __init__(self, settings: Settings, clock: Clock, writer: Writer, logs: LogStore, stats: Stats) -> None:
        self._kept_ms = int(settings.retention_days * DAY_MS)
        self._pause_ms = min(SWEEP_MAX_MS, max(SWEEP_MIN_MS, self._kept_ms // 24))
        self._clock = clock
        self._writer = writer
        self._logs = logs
        self._stats = stats
        self._sweeping: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def busy(self) -> int:
        """1 while it sweeps."""
        return int(self._sweeping is not None and not self._sweeping.done())

    def start(self) -> None:
        """Sweep, and book the next one."""
        if self._closed:
            return
        self._clock.call_at(self._clock.now_ms() + self._pause_ms, self.start)
        if not self.busy:
            self._sweeping = asyncio.get_running_loop().create_task(self._sweep())

    async def close(self) -> None:
        """Sweep no more."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)

    async def _sweep(self) -> None:
        now_ms = self._clock.now_ms()
        try:
            tasks = await self._purge_tasks(now_ms - self._kept_ms)
            others = await self._purge_gone(now_ms - self._kept_ms)
            lines = await asyncio.to_thread(self._logs.purge, now_ms)
        except StoreError:
            return  # the log has it; the next sweep finds what this one left
        self._stats.add("purged_tasks", tasks)
        self._stats.add("purged_log_lines", lines)
        if tasks or others or lines:
            _log.info("Removed after %d days: %d tasks, %d log lines.", self._kept_ms // DAY_MS, tasks, lines)

    async def _purge_tasks(self, before_ms: int) -> int:
        count = 0
        after_seq: int | None = 0
        while after_seq is not None:
            purged = await self._writer.commit(
                PurgeTasks(before_ms=before_ms, after_seq=after_seq, limit=SWEEP_PORTION)
            )
            count += purged.count
            after_seq = purged.next_seq
        return count

    async def _purge_gone(self, before_ms: int) -> int:
        count = 0
        while (gone := await self._writer.commit(PurgeGone(before_ms=before_ms, limit=SWEEP_PORTION))) > 0:
            count += gone
        return count
