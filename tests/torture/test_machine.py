"""A real server on a machine that gives way: the last byte of a disk, memory, death at any moment; `TORTURE=full`."""

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.faults import forks, limited
from tests.end_to_end.processes import ROOT, Server, until
from tests.end_to_end.processes import refused as refused_to_start
from tests.torture import kills

FULL = os.environ.get("TORTURE") == "full"
pytestmark = [pytest.mark.torture, pytest.mark.skipif(not FULL, reason="make torture runs it")]
SMALL_DISK = "8m"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no file systems can be mounted here: {done.stderr.decode()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def submit(server: Server, endpoint_id: str, task_id: str, size: int) -> int:
    body = {"taskId": task_id, "input": "x" * size, "workerPort": 1, "processUri": "/"}
    return server.http.post(f"{ROOT}/{endpoint_id}/tasks", json=body).json()["code"]


def shown(server: Server, endpoint_id: str) -> set[str]:
    found: set[str] = set()
    page = 1
    while items := server.data("GET", f"/{endpoint_id}/tasks?pageSize=100&pageNumber={page}")["items"]:
        found |= {item["taskId"] for item in items}
        page += 1
    return found


def test_a_disk_that_is_full_to_its_last_byte_loses_nothing_even_when_the_server_is_killed_then(
    small_disk: Path, tmp_path: Path
) -> None:
    log, data = tmp_path / "stderr.txt", str(small_disk / "data")
    server = Server(log, "--data", data)
    endpoint_id = server.endpoint(workers=0)
    acknowledged: set[str] = set()
    refused = 0
    for size in (100_000, 10_000, 1_000, 10):
        for number in range(10_000):
            task_id = f"t{size}_{number}"
            code = submit(server, endpoint_id, task_id, size)
            if code != 10000:
                assert code == 10002
                refused += 1
                break
            acknowledged.add(task_id)
    assert refused == 4
    assert shown(server, endpoint_id) == acknowledged
    server.end(signal.SIGKILL)
    server.close()
    assert "Make room" in refused_to_start("--port", "0", "--data", data)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    again = Server(log, "--data", data)
    assert shown(again, endpoint_id) == acknowledged
    assert submit(again, endpoint_id, "room", 10) == 10000
    again.data("PUT", f"/{endpoint_id}/workers?count=4")
    until(lambda: again.data("GET", f"/{endpoint_id}/tasks/count")["processing"] == 0)
    assert again.end() == 0
    again.close()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("megabytes", [20, 40, 80])
def test_with_too_little_memory_a_server_refuses_or_dies_and_what_it_acknowledged_is_kept(
    tmp_path: Path, megabytes: int
) -> None:
    log, data = tmp_path / "stderr.txt", str(tmp_path / "data")
    server = Server(log, "--data", data)
    endpoint_id = server.endpoint()
    server.worker_pids(endpoint_id, 1)
    acknowledged: list[str] = []

    def send(number: int) -> None:
        task_id = f"large{number}"
        body = {"taskId": task_id, "input": "x" * 9_000_000, "workerPort": 1, "processUri": "/"}
        with (
            httpx.Client(base_url=server.ready["url"], headers={"X-Api-Key": "me"}, trust_env=False) as client,
            contextlib.suppress(httpx.HTTPError),
        ):
            if client.post(f"{ROOT}/{endpoint_id}/tasks", json=body, timeout=60).status_code == 200:
                acknowledged.append(task_id)

    with contextlib.ExitStack() as limits:
        for pid in (server.process.pid, *forks(server.process.pid)):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
            room = pages * os.sysconf("SC_PAGE_SIZE") + megabytes * 1_000_000
            limits.enter_context(limited(pid, resource.RLIMIT_AS, room))
        threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    server.process.kill()  # libuv may have ended it: it gives up when it gets no memory
    server.close()
    again = Server(log, "--data", data)
    for task_id in acknowledged:
        assert again.ended(endpoint_id, task_id)["status"] == "SUCCESS"
    assert again.end() == 0
    again.close()


@pytest.mark.parametrize("seed", range(5))
def test_deaths_and_standstills_at_random_under_load_lose_nothing(seed: int) -> None:
    assert asyncio.run(kills.main(20, seed)) == 0
