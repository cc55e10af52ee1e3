"""The emulator as a user runs it: real processes, real sockets, real signals."""

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.processes import ENOUGH_S, ROOT, Receive, Serve, is_running, raw, refused, until

# ---- the plain way


def test_one_json_line_says_that_it_serves_and_nothing_else_is_printed(serve: Serve) -> None:
    server = serve("--ephemeral", "--log-level", "debug")
    assert server.ready == {"ready": True, "url": server.ready["url"], "pid": server.process.pid}
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", server.ready["url"])
    # It serves already: no waiting, no second try.
    assert server.http.get(ROOT).json() == {"message": "success", "code": 10000, "data": []}
    assert server.end() == 0
    assert server.process.stdout is not None
    assert server.process.stdout.read() == ""


def test_a_task_goes_through_a_real_worker_and_comes_back(serve: Serve) -> None:
    server = serve()
    endpoint_id = server.endpoint(workers=2)
    task = server.ended(endpoint_id, server.submit(endpoint_id, {"prompt": "Hällo"}, taskId="t1"))
    assert (task["status"], task["output"], task["error"]) == ("SUCCESS", {"prompt": "Hällo"}, None)
    assert task["workerUrl"].startswith("http://127.")
    assert server.data("GET", f"/{endpoint_id}/tasks/count") == {"processing": 0}
    (pid, other) = server.worker_pids(endpoint_id, 2)
    assert pid != other

    def logged() -> list[str]:
        return [
            entry["log"]
            for worker in server.data("GET", f"/{endpoint_id}/workers")
            for entry in server.data("GET", f"/{endpoint_id}/workers/{worker['id']}/logs?keyword=task%3D")["logs"]
        ]

    (line,) = until(logged)
    assert line.startswith("task=t1 attempt=1 path=/run status=200")


def test_a_task_can_say_what_its_simulated_worker_does(serve: Serve) -> None:
    server = serve("--ephemeral", "--worker-timeout-s", "0.3", "--max-attempts", "2")
    endpoint_id = server.endpoint(workers=2)

    def run(**simulate: Any) -> tuple[Any, ...]:
        task = server.ended(endpoint_id, server.submit(endpoint_id, {"simulate": simulate}))
        return task["status"], task["output"], task["error"]

    assert run(output={"a": [1]}) == ("SUCCESS", {"a": [1]}, None)
    assert run(service_ms=50, output=1) == ("SUCCESS", 1, None)
    assert run(status=422) == ("FAILED", None, run(status=422)[2])
    assert str(run(error="out of memory")[2]).startswith("HTTP 500: ")
    for fault in ({"hang": True}, {"close": True}, {"exit": 3}):
        status, output, error = run(**fault)
        assert (status, output) == ("FAILED", None)
        assert error.startswith("No worker ended this task in 2 attempts.")
    assert run(output="and on it goes") == ("SUCCESS", "and on it goes", None)


def test_a_flaky_image_fails_the_share_of_tasks_that_it_is_told_to(serve: Serve) -> None:
    server = serve()
    endpoint_id = server.endpoint(image="sim/flaky", environmentVars=[{"key": "SIM_FAIL_RATE", "value": "1"}])
    task = server.ended(endpoint_id, server.submit(endpoint_id, 1))
    assert (task["status"], task["output"]) == ("FAILED", None)
    assert task["error"].startswith("HTTP 500: ")


def test_a_worker_that_dies_is_replaced_and_its_task_goes_on(serve: Serve) -> None:
    server = serve()
    endpoint_id = server.endpoint()
    (pid,) = server.worker_pids(endpoint_id, 1)
    old = server.data("GET", f"/{endpoint_id}/workers")[0]["id"]
    task_id = server.submit(endpoint_id, {"simulate": {"service_ms": 300, "output": "done"}})
    until(lambda: server.data("GET", f"/{endpoint_id}/tasks/{task_id}")["workerUrl"])
    os.kill(pid, signal.SIGKILL)
    assert server.ended(endpoint_id, task_id)["output"] == "done"
    new = until(lambda: server.data("GET", f"/{endpoint_id}/workers?statusList=RUNNING"))[0]["id"]
    assert new != old
    gone = server.data("GET", f"/{endpoint_id}/workers?statusList=TERMINATED")
    assert [worker["id"] for worker in gone] == [old]
    assert not is_running(pid)


# ---- webhooks


def test_a_result_is_sent_until_it_is_acknowledged(serve: Serve, receive: Receive) -> None:
    server = serve("--ephemeral", "--webhook-retry", "0.05,0.05,0.05")
    receiver = receive(500, 302, 404, 204)
    endpoint_id = server.endpoint()
    sent = {"taskId": "t", "webhook": receiver.url, "webhookAuthKey": "my-key"}
    task = server.ended(endpoint_id, server.submit(endpoint_id, {"a": 1}, **sent), "DELIVERED")
    assert (task["deliveryStatus"], task["deliveryAttempts"]) == ("SUCCESS", 4)
    assert [body["retry_count"] for _, body in receiver.told] == [1, 2, 3, 4]
    for headers, body in receiver.told:
        assert headers["x-api-key"] == "my-key"
        assert (body["user_task_id"], body["status"], body["result"]) == ("t", "Success", {"a": 1})


def test_a_result_that_nobody_takes_is_given_up(serve: Serve, receive: Receive) -> None:
    server = serve("--ephemeral", "--webhook-retry", "0.05,0.05,0.05")
    receiver = receive(503)
    endpoint_id = server.endpoint()
    task_id = server.submit(endpoint_id, {"simulate": {"status": 500}}, webhook=receiver.url)
    nowhere = server.submit(endpoint_id, 1, webhook="http://127.0.0.1:1/")

    def given_up() -> bool:
        tasks = [server.data("GET", f"/{endpoint_id}/tasks/{each}") for each in (task_id, nowhere)]
        return all(task["deliveryStatus"] == "MAX_RETRIES_EXCEEDED" for task in tasks)

    until(given_up)
    assert [(body["status"], body["retry_count"]) for _, body in receiver.told] == [("Failed", n) for n in (1, 2, 3, 4)]
    assert server.data("GET", f"/{endpoint_id}/tasks/{nowhere}")["status"] == "SUCCESS"


# ---- how it ends


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_with_its_workers_and_its_ephemeral_folder(serve: Serve, tmp_path: Path, how: int) -> None:
    server = serve("--ephemeral", TMPDIR=str(tmp_path))
    folders = list(tmp_path.glob("yottabench-*"))
    endpoint_id = server.endpoint(workers=3)
    pids = server.worker_pids(endpoint_id, 3)
    for _ in range(5):
        server.submit(endpoint_id, {"simulate": {"hang": True}})
    assert len(folders) == 1
    assert server.end(how) == 0
    until(lambda: not any(is_running(pid) for pid in pids))
    assert not folders[0].exists()
    assert "Traceback" not in server.log.read_text()


def test_after_kill_9_under_load_every_acknowledged_task_ends_and_no_worker_is_left(
    serve: Serve, tmp_path: Path, receive: Receive
) -> None:
    data = str(tmp_path / "data")
    server = serve("--data", data)
    receiver = receive(200)
    variables = [{"key": "SIM_MEAN_MS", "value": "10"}]
    endpoint_id = server.endpoint(image="sim/sleep", workers=2, environmentVars=variables, webhook=receiver.url)
    pids = server.worker_pids(endpoint_id, 2)
    acknowledged: set[str] = set()
    sent: set[str] = set()

    def load(client_number: int) -> None:
        with httpx.Client(base_url=server.ready["url"], headers={"X-Api-Key": "me"}, trust_env=False) as client:
            for number in itertools.count():
                task_id = f"c{client_number}_{number}"
                hook = {"webhook": receiver.url} if number % 5 == 0 else {}
                body = {"taskId": task_id, "input": number, "workerPort": 1, "processUri": "/", **hook}
                sent.add(task_id)
                try:
                    answer = client.post(f"{ROOT}/{endpoint_id}/tasks", json=body)
                except httpx.HTTPError:
                    return
                if answer.status_code == 200:
                    acknowledged.add(task_id)

    clients = [threading.Thread(target=load, args=(number,)) for number in range(6)]
    for client in clients:
        client.start()
    until(lambda: len(acknowledged) > 250)
    server.end(signal.SIGKILL)
    for client in clients:
        client.join()
    until(lambda: not any(is_running(pid) for pid in pids))

    again = serve("--data", data)
    until(lambda: again.data("GET", f"/{endpoint_id}/tasks/count")["processing"] == 0)
    shown: dict[str, Any] = {}
    for page in itertools.count(1):
        items = again.data("GET", f"/{endpoint_id}/tasks?pageSize=100&pageNumber={page}")["items"]
        if not items:
            break
        shown.update({item["taskId"]: item for item in items})
    assert acknowledged <= shown.keys() <= sent
    assert {item["status"] for item in shown.values()} <= {"SUCCESS", "DELIVERED"}
    hooked = [task_id for task_id, item in shown.items() if item["webhook"]]
    for task_id in hooked:
        again.ended(endpoint_id, task_id, "DELIVERED")
    told = {body["user_task_id"] for _, body in receiver.told if "user_task_id" in body}
    assert told == set(hooked)
    new_pids = again.worker_pids(endpoint_id, 2)
    assert not set(new_pids) & set(pids)
    assert again.end() == 0
    until(lambda: not any(is_running(pid) for pid in new_pids))


def test_what_a_clean_end_left_is_taken_up(serve: Serve, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    server = serve("--data", data)
    endpoint_id = server.endpoint(workers=0)
    for number in range(5):
        server.submit(endpoint_id, number, taskId=f"t{number}")
    assert server.end() == 0
    again = serve("--data", data)
    assert [each["id"] for each in again.data("GET", "")] == [endpoint_id]
    assert again.data("PUT", f"/{endpoint_id}/workers?count=1") is True
    for number in range(5):
        assert again.ended(endpoint_id, f"t{number}")["output"] == number


# ---- when it does not start


def test_a_second_server_on_the_same_folder_is_refused(serve: Serve, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    server = serve("--data", data)
    said = refused("--port", "0", "--data", data)
    assert "Another yottabench serves" in said
    assert "--data" in said
    assert server.data("GET", "") == []


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused("--port", str(port), "--data", str(tmp_path / "data"))
    assert f"Port {port} of 127.0.0.1 cannot be used" in said
    assert "--port" in said


def test_other_addresses_than_loopback_need_keys(tmp_path: Path) -> None:
    said = refused("--host", "0.0.0.0", "--port", "0", "--data", str(tmp_path / "data"))
    assert "no API keys are set" in said
    assert "--keys-file" in said


def test_wrong_options_are_refused_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("# nothing but a comment\n")
    (tmp_path / "odd").write_text("clé\n")
    (tmp_path / "file").write_text("")
    (tmp_path / "no-store").mkdir()
    (tmp_path / "no-store" / "yottabench.sqlite").write_text("This is a text and no store. " * 200)
    (tmp_path / "no-logs" / "logs.sqlite").mkdir(parents=True)
    wrong = {
        ("--keys-file", "empty"): "holds no key",
        ("--keys-file", "odd"): "not printable ASCII",
        ("--keys-file", "missing"): "cannot be read",
        ("--webhook-retry", "1,x"): "must be seconds separated by commas",
        ("--ephemeral", "--data", "data"): "either --data or --ephemeral",
        ("--host", "no.such.host.example.invalid", "--data", "data"): "is no address",
        ("--port", "0", "--data", "file/data"): "cannot be used for a store",
        ("--port", "0", "--data", "/proc/yottabench"): "cannot be used for a store",
        ("--port", "0", "--data", "no-store"): "cannot be opened as a store",
        ("--port", "0", "--data", "no-logs"): "logs.sqlite cannot be used for logs",
        ("--port", "0", "--ephemeral", "--images", "."): "Is a directory",
        ("--port", "0", "--ephemeral", "--max-workers-total", "0"): "is not in the range",
    }
    # In one process, which is quicker than one for each.
    code = """
import contextlib, io, json, sys
from yottabench.cli import main
for options in json.loads(sys.argv[1]):
    sys.argv = ["yottabench", "serve", *options]
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            main()
        except SystemExit as ended:
            print(json.dumps([ended.code, said.getvalue()]))
"""
    command = [sys.executable, "-c", code, json.dumps(list(wrong))]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=ENOUGH_S, check=True, cwd=tmp_path)
    told = [json.loads(line) for line in ended.stdout.splitlines()]
    for (code, said), expected in zip(told, wrong.values(), strict=True):
        assert code in {1, 2}
        assert expected in " ".join(said.replace("│", " ").split())
        assert "Traceback" not in said
        assert code == 2 or len(said.splitlines()) == 1  # 2: the option itself, told in a frame with the usage


def test_with_a_keys_file_only_its_keys_are_let_in_and_each_sees_its_own(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# the team\nalpha\n\n  beta  # of the CI\n")
    server = serve("--ephemeral", "--keys-file", str(tmp_path / "keys"))
    statuses = {}
    for key in ("alpha", "beta", "me", "# the team", ""):
        answer = server.http.get(ROOT, headers={"X-Api-Key": key})
        statuses[key] = (answer.status_code, answer.json()["code"])
    assert statuses == {
        "alpha": (200, 10000),
        "beta": (200, 10000),
        "me": (401, 40101),
        "# the team": (401, 40101),
        "": (401, 40101),
    }


# ---- on the wire


def test_what_is_too_large_is_refused_however_it_is_sent(serve: Serve) -> None:
    server = serve()
    endpoint_id = server.endpoint(workers=0)
    head = f"POST {ROOT}/{endpoint_id}/tasks HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: me\r\n".encode()
    announced = raw(server.ready["url"], head + b"Content-Length: 11000000\r\n\r\n")
    megabyte = b"%x\r\n%b\r\n" % (1_000_000, b"x" * 1_000_000)
    chunked = raw(server.ready["url"], head + b"Transfer-Encoding: chunked\r\n\r\n", *[megabyte] * 11, b"0\r\n\r\n")
    assert (announced[0], announced[1]["code"]) == (413, 10001)
    assert (chunked[0], chunked[1]["code"]) == (413, 10001)
    assert server.data("GET", f"/{endpoint_id}/tasks")["total"] == 0
    # A chunked body that is not too large is one like any other.
    body = json.dumps({"taskId": "c", "input": 1, "workerPort": 1, "processUri": "/"}).encode()
    fine = raw(
        server.ready["url"],
        head + b"Transfer-Encoding: chunked\r\n\r\n",
        *[b"1\r\n%b\r\n" % body[at : at + 1] for at in range(len(body))],
        b"0\r\n\r\n",
    )
    assert fine == (200, {"message": "success", "code": 10000, "data": {"taskId": "c"}})


def test_paths_are_taken_as_they_are_sent(serve: Serve) -> None:
    server = serve()
    endpoint_id = server.endpoint(workers=0)
    server.submit(endpoint_id, 1, taskId="t")

    def get(path: str) -> tuple[int, int]:
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: me\r\nConnection: close\r\n\r\n"
        status, envelope = raw(server.ready["url"], request.encode())
        return status, envelope["code"]

    assert get(f"{ROOT}/{endpoint_id}/tasks/t") == (200, 10000)
    assert get(f"{ROOT}/{endpoint_id}/tasks/%74") == (200, 10000)
    assert get(f"{ROOT}/{endpoint_id}/tasks/..") == (400, 10001)
    assert get(f"{ROOT}/{endpoint_id}/tasks/%2e%2e") == (400, 10001)
    assert get(f"{ROOT}/{endpoint_id}/../{endpoint_id}/tasks/t") == (404, 40400)
    assert get(f"{ROOT}/{endpoint_id}/x/../tasks") == (404, 40400)
    assert get(f"/{ROOT}/{endpoint_id}") == (404, 40400)
    assert get(f"{ROOT}/{endpoint_id}%2ftasks") == (400, 10001)
    assert get(f"{ROOT}/{endpoint_id}/tasks/*") == (400, 10001)
    assert get(f"http://localhost{ROOT}/{endpoint_id}/tasks/t") == (200, 10000)
