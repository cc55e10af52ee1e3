"""What a process measures while a run goes on: a line per second in its metrics file, and deltas for the master."""

import math
import os
import time
from pathlib import Path
from typing import Any

import attrs
import orjson

from yottabench.load.latency import Latencies

COUNTS = ("due", "sent", "accepted", "refused", "throttled", "unknown", "ended", "failed", "looks", "lists")
HISTOGRAMS = ("e2e", "submit", "lateness")


@attrs.define
class Tally:
    """Counts and latencies that can be added up over seconds and processes."""

    counts: dict[str, int] = attrs.field(factory=lambda: dict.fromkeys(COUNTS, 0))
    latencies: dict[str, Latencies] = attrs.field(factory=lambda: {name: Latencies() for name in HISTOGRAMS})

    def add(self, other: "Tally") -> None:
        """Adds the other's counts and latencies to this one."""
        for name, count in other.counts.items():
            self.counts[name] += count
        for name, latencies in other.latencies.items():
            self.latencies[name].merge(latencies)

    def to_json(self) -> dict[str, Any]:
        """The tally for another process; empty histograms are left out."""
        encoded = {name: found.encode() for name, found in self.latencies.items() if found.count}
        return {"counts": dict(self.counts), "latencies": encoded}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Tally":
        """Reads what `to_json` wrote."""
        tally = cls()
        tally.counts.update({name: int(data["counts"][name]) for name in COUNTS})
        tally.latencies.update({name: Latencies(text) for name, text in data["latencies"].items()})
        return tally


class Meter:
    """Counts for the second that is running; `tick` ends it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._unreported = Tally()
        self._cpu_s = time.process_time()
        self._wall_s = time.monotonic()
        self.now = Tally()
        self.late_max_s = 0.0

    def late(self, seconds: float) -> None:
        """Takes how late a task was sent."""
        self.now.latencies["lateness"].record_s(seconds)
        self.late_max_s = max(self.late_max_s, seconds)

    def tick(self, at_s: float, open_tasks: int) -> None:
        """Ends the second: writes its line and begins the next."""
        cpu_s, wall_s = time.process_time(), time.monotonic()
        cpu = (cpu_s - self._cpu_s) / max(1e-9, wall_s - self._wall_s)
        self._cpu_s, self._wall_s = cpu_s, wall_s
        line = {"t": round(at_s, 3), **self.now.counts, "open": open_tasks, "cpu": round(cpu, 3)}
        line["late_max_ms"] = round(self.late_max_s * 1000, 3)
        line |= {name: found.encode() for name, found in self.now.latencies.items() if found.count}
        os.write(self._file, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        self._unreported.add(self.now)
        self.now, self.late_max_s = Tally(), 0.0

    def take_unreported(self) -> Tally:
        """Everything since the last call, for the master."""
        taken, self._unreported = self._unreported, Tally()
        return taken

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


def whole_second_after(at_s: float) -> float:
    """The next whole second of the run."""
    return math.floor(at_s) + 1.0
