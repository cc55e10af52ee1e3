from pathlib import Path

import orjson

from yottabench.load.latency import Latencies
from yottabench.load.progress import Progress
from yottabench.load.rundir import RunDir

COUNTS = {
    "due": 5,
    "sent": 5,
    "accepted": 5,
    "refused": 0,
    "throttled": 0,
    "unknown": 0,
    "ended": 4,
    "failed": 0,
    "looks": 9,
}


def line(at_s: float, **changes: object) -> bytes:
    return orjson.dumps({"t": at_s, **COUNTS, "open": 1, "cpu": 0.1, "late_max_ms": 1.0, **changes}) + b"\n"


def test_lines_of_all_processes_are_added_up_once(tmp_path: Path):
    run = RunDir(tmp_path)
    latencies = Latencies()
    latencies.record_s(0.02)
    progress = Progress(run)
    assert progress.read_on() is False
    run.metrics_file(0).write_bytes(line(1.0, e2e=latencies.encode()))
    run.metrics_file(1).write_bytes(line(1.0, throttled=2) + line(2.0)[:-9])
    assert progress.read_on() is True
    assert progress.read_on() is False
    shown = progress.line(10.0)
    assert "sent 10  ended 8  open 2  throttled 2" in shown
    assert "p50/p95/p99 20 / 20 / 20 ms" in shown
    assert shown.startswith("[##......................] 1/10 s")


def test_a_half_written_line_is_taken_when_it_is_whole(tmp_path: Path):
    run, progress = RunDir(tmp_path), Progress(RunDir(tmp_path))
    whole = line(3.0)
    run.metrics_file(0).write_bytes(whole[:20])
    assert progress.read_on() is False
    run.metrics_file(0).write_bytes(whole)
    assert progress.read_on() is True
    assert "sent 5" in progress.line(None)
    assert "3 s" in progress.line(None)
