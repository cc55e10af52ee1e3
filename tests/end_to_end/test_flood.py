"""A worker that writes as fast as it can: the log stays readable and bounded, and nobody else notices."""

import sys
from pathlib import Path
from typing import Any

from tests.end_to_end.processes import Serve, until

# Numbered lines of 1 KB, without a pause.
FLOODER = """
import os, sys
number = 0
while True:
    os.write(1, b"".join(b"%09d %s\\n" % (number + i, b"x" * 990) for i in range(64)))
    number += 64
"""
LOGS_MAX_MB = 2
ENOUGH_LINES = 16_000  # 16 MB, eight times what may be kept


def memory_mb(pid: int) -> float:
    fields = Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()
    return int(fields[1]) * 4096 / 1e6


def test_a_worker_that_floods_its_log_costs_neither_disk_nor_memory_nor_anybody_elses_time(
    serve: Serve, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    program = tmp_path / "flood.py"
    program.write_text(FLOODER, encoding="utf-8")
    (data / "images.toml").write_text(
        f'[[image]]\npattern = "flood"\ncommand = ["{sys.executable}", "{program}"]\nready = {{ none = true }}\n',
        encoding="utf-8",
    )
    server = serve("--data", str(data), "--logs-max-mb", str(LOGS_MAX_MB))
    quiet = server.endpoint(workers=1)
    server.ended(quiet, server.submit(quiet, {"n": 0}))
    before_mb = memory_mb(server.process.pid) if sys.platform == "linux" else 0.0
    loud = server.endpoint(image="flood", workers=2)

    def written() -> Any:
        task = server.ended(quiet, server.submit(quiet, {"n": 1}))
        assert task["output"] == {"n": 1}
        workers = server.data("GET", f"/{loud}/workers?statusList=RUNNING")
        for worker in workers:
            logs = server.data("GET", f"/{loud}/workers/{worker['id']}/logs?direction=Backward&pageSize=3")["logs"]
            numbers = [int(entry["log"][:9]) for entry in logs if entry["log"][:9].isdigit()]
            if numbers and numbers[0] > ENOUGH_LINES:
                return worker["id"]
        return None

    worker_id = until(written)
    for number in range(5):
        assert server.ended(quiet, server.submit(quiet, {"n": number}))["output"] == {"n": number}
    # What is kept is a whole page of its newest lines, and nothing of its beginning.
    oldest = server.data("GET", f"/{loud}/workers/{worker_id}/logs?pageSize=5")["logs"][0]["log"]
    assert int(oldest[:9]) > 0
    on_disk = sum(path.stat().st_size for path in data.glob("logs.sqlite*"))
    assert on_disk < LOGS_MAX_MB * 2e6 + 16 * 1024 * 1024  # twice for freed pages, and the log of the database itself
    if sys.platform == "linux":
        assert memory_mb(server.process.pid) < before_mb + 60
    assert server.data("GET", f"/{quiet}/workers")[0]["status"] == "RUNNING"
