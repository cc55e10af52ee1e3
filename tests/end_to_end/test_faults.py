"""What becomes of a real server when its machine fails it."""

import contextlib
import itertools
import os
import resource
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.faults import failing, forks, limited, open_files, runs, stopped, writer_of
from tests.end_to_end.processes import ROOT, Serve, Server, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these faults are made with what Linux has")


def submit(server: Server, endpoint_id: str, task_id: str, **changes: Any) -> tuple[int, int]:
    """HTTP status and code of the answer."""
    body = {"taskId": task_id, "input": {"n": task_id}, "workerPort": 1, "processUri": "/run", **changes}
    answer = server.http.post(f"{ROOT}/{endpoint_id}/tasks", json=body)
    return answer.status_code, answer.json()["code"]


def task_ids(server: Server, endpoint_id: str) -> set[str]:
    return {item["taskId"] for item in server.data("GET", f"/{endpoint_id}/tasks?pageSize=100")["items"]}


OK, NOT_KEPT = (200, 10000), (500, 10002)


# ---- the disk


def test_on_a_full_disk_nothing_is_acknowledged_reads_go_on_and_room_cures_it(serve: Serve, tmp_path: Path) -> None:
    data = tmp_path / "data"
    server = serve("--data", str(data))
    endpoint_id = server.endpoint()
    server.ended(endpoint_id, server.submit(endpoint_id, 1, taskId="before"))
    largest = max(path.stat().st_size for path in data.iterdir())
    with limited(writer_of(server.process.pid), resource.RLIMIT_FSIZE, largest):
        # Up to the size of the largest file there is room.
        fillers = (f"filler{number}" for number in itertools.count())
        until(lambda: submit(server, endpoint_id, next(fillers), input="x" * 100_000) == NOT_KEPT)
        assert submit(server, endpoint_id, "refused", input="x" * 100_000) == NOT_KEPT
        assert server.data("GET", f"/{endpoint_id}/tasks/before")["status"] == "SUCCESS"
        assert "refused" not in task_ids(server, endpoint_id)
    assert submit(server, endpoint_id, "refused") == OK
    assert server.ended(endpoint_id, "refused")["output"] == {"n": "refused"}
    assert "could not write" in server.log.read_text()
    assert "Traceback" not in server.log.read_text()


def test_a_result_that_finds_no_room_is_kept_once_there_is_some(serve: Serve, tmp_path: Path) -> None:
    server = serve("--data", str(tmp_path / "data"))
    endpoint_id = server.endpoint()
    wish = {"simulate": {"service_ms": 300, "output": "y" * 200_000}}
    task_id = server.submit(endpoint_id, wish)
    until(lambda: server.data("GET", f"/{endpoint_id}/tasks/{task_id}")["workerUrl"])
    with limited(writer_of(server.process.pid), resource.RLIMIT_FSIZE, 4096):
        until(lambda: "could not write" in server.log.read_text())
        assert server.data("GET", f"/{endpoint_id}/tasks/{task_id}")["status"] == "PROCESSING"
    task = server.ended(endpoint_id, task_id)
    assert (task["status"], len(task["output"])) == ("SUCCESS", 200_000)
    attempts = server.http.get(f"/_emulator/tasks/{endpoint_id}/{task_id}/attempts").json()["data"]
    assert len(attempts["attempts"]) == 1  # the work was not done again


def test_errors_of_the_disk_are_said_and_over_when_they_are_over(serve: Serve, tmp_path: Path) -> None:
    data = tmp_path / "data"
    server = serve("--data", str(data))
    endpoint_id = server.endpoint(workers=0)
    assert submit(server, endpoint_id, "before") == OK
    with failing(writer_of(server.process.pid), data / "yottabench.sqlite-wal", "pwrite64", "EIO") as said:
        assert submit(server, endpoint_id, "refused") == NOT_KEPT
        assert server.data("GET", f"/{endpoint_id}/tasks/before")["status"] == "PROCESSING"
        assert task_ids(server, endpoint_id) == {"before"}
        assert "EIO" in said.read_text()
    assert submit(server, endpoint_id, "refused") == OK
    server.end(signal.SIGKILL)
    again = serve("--data", str(data))
    assert task_ids(again, endpoint_id) == {"before", "refused"}


def test_after_a_failed_flush_the_server_ends_and_says_why_and_the_next_has_all_that_was_acknowledged(
    serve: Serve, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    server = serve("--data", str(data))
    endpoint_id = server.endpoint(workers=0)
    assert submit(server, endpoint_id, "before") == OK
    with failing(writer_of(server.process.pid), data / "yottabench.sqlite-wal", "fdatasync,fsync", "EIO"):
        body = {"taskId": "unknown", "input": 1, "workerPort": 1, "processUri": "/"}
        answer = server.http.post(f"{ROOT}/{endpoint_id}/tasks", json=body)
        assert (answer.status_code, answer.json()["code"]) == NOT_KEPT
        assert "may or may not have taken effect" in answer.json()["message"]
        assert server.process.wait(30) == 1
    said = server.log.read_text()
    assert "could not be flushed to the disk" in said
    assert "Traceback" not in said
    again = serve("--data", str(data))
    assert "before" in task_ids(again, endpoint_id)
    assert submit(again, endpoint_id, "unknown", input=1, processUri="/") == OK  # whichever it was


# ---- the two processes of a server


def test_when_the_writing_process_dies_the_server_ends_and_says_why_and_the_next_has_all_that_was_acknowledged(
    serve: Serve, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    server = serve("--data", str(data))
    if not forks(server.process.pid):
        pytest.skip("There is one core: the server is one process")
    endpoint_id = server.endpoint(workers=0)
    assert submit(server, endpoint_id, "before") == OK
    os.kill(writer_of(server.process.pid), signal.SIGKILL)
    assert server.process.wait(30) == 1
    said = server.log.read_text()
    assert "is gone. Whether it wrote what it was given last is not certain." in said.replace("\n", " ")
    assert "Traceback" not in said
    again = serve("--data", str(data))
    assert task_ids(again, endpoint_id) == {"before"}
    assert submit(again, endpoint_id, "after") == OK


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_when_the_server_ends_its_writing_process_does(serve: Serve, number: signal.Signals) -> None:
    server = serve()
    writers = forks(server.process.pid)
    endpoint_id = server.endpoint(workers=0)
    assert submit(server, endpoint_id, "a") == OK
    server.process.send_signal(number)
    server.process.wait(30)
    until(lambda: not any(map(runs, writers)))


# ---- what the system gives a process


def test_without_free_descriptors_nothing_is_failed_and_connections_are_taken_again(serve: Serve) -> None:
    server = serve()
    pid = server.process.pid
    endpoint_id = server.endpoint()
    server.worker_pids(endpoint_id, 1)
    url = httpx.URL(server.ready["url"])
    with limited(pid, resource.RLIMIT_NOFILE, open_files(pid) + 8), contextlib.ExitStack() as crowd:
        for _ in range(40):
            crowd.enter_context(socket.create_connection((url.host, url.port or 0), timeout=20))
        task_id = server.submit(endpoint_id, 1)  # over the connection that is there
        # None is left to call the worker with: that is no fault of the worker's, nor of the task.
        until(lambda: "cannot be sent now" in server.log.read_text())
    assert server.ended(endpoint_id, task_id)["status"] == "SUCCESS"
    with httpx.Client(base_url=server.ready["url"], headers={"X-Api-Key": "me"}, trust_env=False, timeout=20) as new:
        assert new.get(f"{ROOT}/{endpoint_id}/tasks/{task_id}").json()["data"]["status"] == "SUCCESS"
    assert "Traceback" not in server.log.read_text()


def test_a_worker_that_stands_still_past_its_lease_loses_its_task_and_changes_nothing_when_it_goes_on(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve("--ephemeral", "--worker-timeout-s", "0.5")
    endpoint_id = server.endpoint()
    (pid,) = server.worker_pids(endpoint_id, 1)
    with stopped(pid):
        task_id = server.submit(endpoint_id, {"simulate": {"output": "once"}})
        until(lambda: server.data("GET", f"/{endpoint_id}/tasks/{task_id}")["workerUrl"])
        server.data("PUT", f"/{endpoint_id}/workers?count=2")
        task = server.ended(endpoint_id, task_id)
    assert (task["status"], task["output"]) == ("SUCCESS", "once")
    attempts = server.http.get(f"/_emulator/tasks/{endpoint_id}/{task_id}/attempts").json()["data"]["attempts"]
    assert [attempt["outcome"] for attempt in attempts][-1] == "SUCCEEDED"
    assert len(attempts) >= 2
    after = [server.ended(endpoint_id, server.submit(endpoint_id, number))["output"] for number in range(4)]
    assert after == [0, 1, 2, 3]
    assert server.data("GET", f"/{endpoint_id}/tasks/{task_id}") == task


def test_a_server_that_stands_still_for_a_while_loses_nothing(serve: Serve) -> None:
    server = serve()
    endpoint_id = server.endpoint(workers=2, image="sim/sleep", environmentVars=[{"key": "SIM_MEAN_MS", "value": "5"}])
    server.worker_pids(endpoint_id, 2)
    acknowledged: list[str] = []

    def load(name: str) -> None:
        with httpx.Client(base_url=server.ready["url"], headers={"X-Api-Key": "me"}, trust_env=False) as client:
            for number in range(40):
                task_id = f"{name}_{number}"
                body = {"taskId": task_id, "input": number, "workerPort": 1, "processUri": "/"}
                if client.post(f"{ROOT}/{endpoint_id}/tasks", json=body, timeout=20).status_code == 200:
                    acknowledged.append(task_id)

    clients = [threading.Thread(target=load, args=(name,)) for name in "abc"]
    for client in clients:
        client.start()
    for _ in range(3):
        reached = len(acknowledged)
        with stopped(server.process.pid):
            clients[0].join(0.1)  # time passes for everybody else
        until(lambda reached=reached: len(acknowledged) > min(reached, 119))
    for client in clients:
        client.join()
    until(lambda: server.data("GET", f"/{endpoint_id}/tasks/count")["processing"] == 0)
    shown = [
        item
        for page in (1, 2)
        for item in server.data("GET", f"/{endpoint_id}/tasks?pageSize=100&pageNumber={page}")["items"]
    ]
    assert {item["taskId"] for item in shown} == set(acknowledged)
    assert {item["status"] for item in shown} == {"SUCCESS"}
    assert len(acknowledged) == 120
