"""Workers and receivers that hang, drip, flood, lie and vanish, between them and a real server real sockets."""

from pathlib import Path
from typing import Any

from tests.end_to_end.processes import ROOT, Serve, Server, until
from tests.end_to_end.rogues import BEHAVIOURS, Rogues, rogues

# What becomes of a task that only such a worker is there for, after two attempts at the most.
ENDS = {
    "good": None,
    "hangs": "before its lease ended|gave no complete answer",
    "drips": "before its lease ended|gave no complete answer",
    "closes-at-once": "connection before its answer was complete|connection before the request was sent",
    "closes-unanswered": "closed the connection before its answer was complete, after 0 bytes",
    "resets": "closed the connection before its answer was complete",
    "resets-in-the-middle": "closed the connection before its answer was complete",
    "short": "closed the connection before its answer was complete",
    "long": None,
    "two-lengths": "that is not HTTP",
    "huge": "answered with more than 10000000 bytes",
    "endless": "answered with more than 10000000 bytes",
    "many-headers": "bytes of headers",
    "no-http": "that is not HTTP",
}
PROXIES = {
    "late": "latency ms=30 jitter=20",
    "slow": "slow rate=2000",
    "cut-once": "cut towards=client after=20 count=1",
    "reset-once": "reset count=1",
    "reset-anywhere": "reset towards=client after=0..80 count=1",
    "garbled": "garbage towards=client size=12",
    "half-open-once": "half-open towards=client after=10 count=1",
    "refused": "reset",
}
THROUGH = {
    "late": None,
    "slow": None,
    "cut-once": None,
    "reset-once": None,
    "reset-anywhere": None,
    "garbled": "that is not HTTP",
    "half-open-once": None,
    "refused": "closed the connection|reset|Cannot connect",
}


def images_file(folder: Path, peers: Rogues) -> Path:
    entries = [
        f'[[image]]\npattern = "w/{name}"\nurls = ["{peers.url(name)}"]\nready = {{ none = true }}\n'
        for name in peers.ports
    ]
    path = folder / "images.toml"
    path.write_text("\n".join(entries))
    return path


def test_whatever_a_worker_does_its_task_ends_and_no_other_is_disturbed(serve: Serve, tmp_path: Path) -> None:
    assert ENDS.keys() == BEHAVIOURS.keys()
    with rogues(**PROXIES) as peers:
        options = ("--images", str(images_file(tmp_path, peers)), "--worker-timeout-s", "0.6", "--max-attempts", "2")
        server = serve("--ephemeral", *options)
        tasks = {}
        for name in peers.ports:
            endpoint_id = server.endpoint(image=f"w/{name}")
            tasks[name] = (endpoint_id, server.submit(endpoint_id, {"n": name}))
        good, _ = tasks["good"]
        for number in range(20):  # beside all of that
            assert server.ended(good, server.submit(good, number))["output"] == {"ok": True}
        for name, expected in {**ENDS, **THROUGH}.items():
            task = server.ended(*tasks[name])
            if expected is None:
                assert (task["status"], task["error"]) == ("SUCCESS", None), (name, task["error"])
            else:
                assert task["status"] == "FAILED", name
                assert any(part in task["error"] for part in expected.split("|")), (name, task["error"])
        assert server.data("GET", f"/{tasks['long'][0]}/tasks/{tasks['long'][1]}")["output"] == {}
        assert "Traceback" not in server.log.read_text()


def attempts_minutes(server: Server, endpoint_id: str, task_id: str) -> list[float]:
    """When each send of a task's webhook began, in minutes from the first."""
    query = f"endpointId={endpoint_id}&taskId={task_id}"
    (found,) = server.http.get(f"/_emulator/deliveries?{query}").json()["data"]["deliveries"]
    whole = server.http.get(f"/_emulator/deliveries/{found['id']}").json()["data"]
    started = [attempt["startedMs"] for attempt in whole["attempts"]]
    return [(each - started[0]) / 60_000 for each in started]


def control(server: Server, path: str, body: Any = None) -> Any:
    answer = server.http.post(f"/_emulator/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_a_receiver_that_is_down_for_an_hour_is_tried_at_0_1_6_and_21_minutes_exactly_and_disturbs_no_other(
    serve: Serve,
) -> None:
    gone = [name for name in BEHAVIOURS if name not in {"good", "long"}]
    with rogues(**{"half-open": "half-open", "refused": "reset"}) as peers:
        server = serve("--ephemeral", "--webhook-timeout-s", "0.25")
        endpoint_id = server.endpoint()
        server.worker_pids(endpoint_id, 1)
        control(server, "clock/freeze")
        down = [*gone, "half-open", "refused"]
        for name in down:
            server.submit(endpoint_id, name, taskId=name.replace("-", "_"), webhook=peers.url(name) + "/hook")
        server.submit(endpoint_id, "nobody", taskId="nobody", webhook="http://127.0.0.1:1/")
        ids = [name.replace("-", "_") for name in down] + ["nobody"]
        until(lambda: server.data("GET", f"/{endpoint_id}/tasks/count")["processing"] == 0)
        control(server, "clock/advance", {"seconds": 30})
        others = []
        for minute in range(60):
            if minute % 10 == 0:
                others.append(server.submit(endpoint_id, minute, webhook=peers.url("good") + "/hook"))
                assert server.ended(endpoint_id, others[-1], "DELIVERED")["deliveryAttempts"] == 1
            control(server, "clock/advance", {"seconds": 60})
        for task_id in ids:
            task = server.data("GET", f"/{endpoint_id}/tasks/{task_id}")
            assert (task["status"], task["deliveryStatus"]) == ("SUCCESS", "MAX_RETRIES_EXCEEDED"), task_id
            assert attempts_minutes(server, endpoint_id, task_id) == [0, 1, 6, 21], task_id
        for task_id in others:
            assert attempts_minutes(server, endpoint_id, task_id) == [0]
        assert "Traceback" not in server.log.read_text()
        assert server.http.get(ROOT).status_code == 200
