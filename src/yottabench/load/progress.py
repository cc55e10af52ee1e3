"""Progress of a run, read from the metrics files while its processes write them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from yottabench.load.latency import Latencies
from yottabench.load.rundir import RunDir

BAR_CELLS = 24


class Progress:
    """What all processes of a run have measured so far; `on_line` is given each line as it is read."""

    def __init__(self, run: RunDir, on_line: Callable[[Path, dict[str, Any]], None] | None = None) -> None:
        self._run = run
        self._on_line = on_line
        self._read_to: dict[Path, int] = {}
        self.at_s = 0.0
        self.counts: dict[str, int] = {}
        self.open: dict[Path, int] = {}
        self.e2e = Latencies()

    def read_on(self) -> bool:
        """Takes the lines that were written since the last call; says whether there were any."""
        new = False
        for path in self._run.path.glob("metrics-*.jsonl"):
            with path.open("rb") as file:
                file.seek(self._read_to.get(path, 0))
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._read_to[path] = self._read_to.get(path, 0) + len(whole)
            for raw in whole.splitlines():
                new = True
                self._take(path, orjson.loads(raw))
        return new

    def line(self, duration_s: float | None) -> str:
        """Where the run is, in one line; the bar needs to know how long tasks will be due."""
        counts = self.counts
        shown = [f"sent {counts.get('sent', 0)}", f"ended {counts.get('ended', 0)}", f"open {sum(self.open.values())}"]
        shown += [
            f"{name} {counts[name]}" for name in ("throttled", "refused", "unknown", "failed") if counts.get(name)
        ]
        values = self.e2e.percentiles_ms((50, 95, 99))
        latency = " / ".join("-" if value is None else f"{value:.0f}" for value in values)
        return f"{self._bar(duration_s)}  {'  '.join(shown)}  end to end p50/p95/p99 {latency} ms"

    def _bar(self, duration_s: float | None) -> str:
        if not duration_s:
            return f"{self.at_s:6.0f} s"
        done = min(1.0, self.at_s / duration_s)
        cells = round(done * BAR_CELLS)
        return f"[{'#' * cells}{'.' * (BAR_CELLS - cells)}] {min(self.at_s, duration_s):.0f}/{duration_s:.0f} s"

    def _take(self, path: Path, line: dict[str, Any]) -> None:
        if self._on_line is not None:
            self._on_line(path, line)
        self.at_s = max(self.at_s, line["t"])
        self.open[path] = line["open"]
        for name in ("sent", "accepted", "refused", "throttled", "unknown", "ended", "failed"):
            self.counts[name] = self.counts.get(name, 0) + line[name]
        if "e2e" in line:
            self.e2e.merge(Latencies(line["e2e"]))
