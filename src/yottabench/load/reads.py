"""The reads of a mixed load: what a process counts of them, and the file in which it keeps that."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import orjson

from yottabench.load.latency import Latencies
from yottabench.load.profile import READS
from yottabench.load.rundir import RunDir


@attrs.define
class ReadTally:
    """The reads of one operation: how many, what became of them, and how long they took from their due time."""

    made: int = 0
    throttled: int = 0
    errors: int = 0
    latencies: Latencies = attrs.field(factory=Latencies)

    def add(self, other: "ReadTally") -> None:
        """Adds another process's reads, or another second's."""
        self.made += other.made
        self.throttled += other.throttled
        self.errors += other.errors
        self.latencies.merge(other.latencies)

    def to_json(self) -> dict[str, Any]:
        """The tally as one line of a file."""
        counts = {"made": self.made, "throttled": self.throttled, "errors": self.errors}
        return counts | {"latencies": self.latencies.encode()}

    @classmethod
    def from_json(cls, line: dict[str, Any]) -> "ReadTally":
        """Reads what `to_json` wrote."""
        return cls(int(line["made"]), int(line["throttled"]), int(line["errors"]), Latencies(line["latencies"]))

    def summary(self) -> dict[str, Any]:
        """Counts and percentiles for result.json."""
        counts = {"made": self.made, "throttled": self.throttled, "errors": self.errors}
        return counts | {"latency_ms": self.latencies.summary()}


def reads_file(run: RunDir, process: int) -> Path:
    """Where a process keeps what it read: a line per second and operation."""
    return run.path / f"reads-{process}.jsonl"


def write_tally(path: Path, at_s: float, operation: str, tally: ReadTally) -> None:
    """Adds a line; a killed process loses no more than the second that was under way."""
    line = {"t": round(at_s, 3), "operation": operation} | tally.to_json()
    with path.open("ab") as file:
        file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def read_tallies(run: RunDir) -> dict[str, ReadTally]:
    """What all processes of a run read, by operation; a line that was cut off is left out."""
    found: dict[str, ReadTally] = {}
    for path in sorted(run.path.glob("reads-*.jsonl")):
        for line in _whole_lines(path.read_bytes()):
            found.setdefault(str(line["operation"]), ReadTally()).add(ReadTally.from_json(line))
    return {name: found[name] for name in READS if name in found}


def _whole_lines(data: bytes) -> Iterable[dict[str, Any]]:
    for raw in data[: data.rfind(b"\n") + 1].splitlines():
        yield orjson.loads(raw)
