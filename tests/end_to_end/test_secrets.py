"""Secrets planted wherever one can be sent, through a whole life with its failures, and then looked for."""

import contextlib
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.faults import limited, writer_of
from tests.end_to_end.processes import ROOT, Receive, Serve, Server, until

PLANT = "planted"  # in every secret
CREATE = {
    "name": "secrets",
    "image": "sim/echo",
    "resources": [{"region": "r", "gpuType": "g", "gpuCount": 1}],
    "workers": 1,
    "containerVolumeInGb": 20,
    "serviceMode": "QUEUE",
    "environmentVars": [{"key": "HF_TOKEN", "value": "planted-variable"}],
    "initializationCommand": "login --token planted-command",
    "containerRegistryAuthId": 4711,
}


class Spy:
    """Talks to a server, and keeps the body of every answer that is no success."""

    def __init__(self, server: Server, key: str) -> None:
        self._http = httpx.Client(base_url=server.ready["url"], headers={"X-Api-Key": key}, trust_env=False, timeout=20)
        self.errors: list[str] = []

    def ask(self, method: str, path: str, body: Any = None, **headers: Any) -> Any:
        content = body if isinstance(body, bytes) else None
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self._http.request(method, path, content=content, json=None if content else body, headers=sent)
        if answer.headers.get("content-type") != "application/json" or answer.json()["code"] != 10000:
            self.errors.append(f"{answer.headers} {answer.text}")
            return None
        return answer.json()["data"]

    def page(self, path: str) -> str:
        answer = self._http.get(path, headers={"X-Control-Key": "planted-control"})
        assert answer.status_code == 200, path
        return answer.text

    def close(self) -> None:
        self._http.close()


def _life(spy: Spy, server: Server, hook: str) -> None:
    endpoint_id = spy.ask("POST", ROOT, {**CREATE, "webhook": "http://127.0.0.1:1/?token=planted-worker-hook"})["id"]
    tasks = f"{ROOT}/{endpoint_id}/tasks"
    secret = {"webhookAuthKey": "planted-hook-key", "headers": {"Authorization": "Bearer planted-header"}}
    plain = {"workerPort": 8000, "processUri": "/run", **secret}
    hooks = [hook, "http://127.0.0.1:1/?token=planted-query", "http://10.1.2.3/?token=planted-query"]
    for number, webhook in enumerate(hooks):
        wish = {"simulate": {"output": 1, "status": 200 if number else 500}}
        spy.ask("POST", tasks, {"taskId": f"t{number}", "input": wish, "webhook": webhook, **plain})
        until(lambda number=number: spy.ask("GET", f"{tasks}/t{number}")["deliveryAttempts"] == 4)
    spy.ask("POST", tasks, {"taskId": "dies", "input": {"simulate": {"exit": 3}}, **plain})
    until(lambda: spy.ask("GET", f"{tasks}/dies")["status"] == "FAILED")
    # What is refused, with the secret in the very field that is wrong, or beside it.
    for wrong in (
        {"webhookAuthKey": "planted-key\n"},
        {"webhookAuthKey": ["planted-key"]},
        {"headers": {"Authorization": "planted-header\r\nX: y"}},
        {"headers": {"no name": "planted-header"}},
        {"headers": ["planted-header"]},
        {"workerPort": 0},
        {"webhook": "ftp://planted-user:planted-pass@127.0.0.1/"},
    ):
        assert spy.ask("POST", tasks, {"input": 1, **plain, **wrong}) is None, wrong
    assert spy.ask("POST", tasks, {"taskId": "t0", "input": "another", **plain}) is None
    assert spy.ask("POST", tasks, b'{"webhookAuthKey": "planted-key", "headers": {') is None
    for wrong in (
        {"environmentVars": [{"key": "A", "value": 5, "planted": 1}]},
        {"environmentVars": [{"key": "A", "value": "planted-variable\x00"}]},
        {"initializationCommand": "planted-command\x00"},
        {"workers": -1},
    ):
        assert spy.ask("POST", ROOT, {**CREATE, **wrong}) is None, wrong
        assert spy.ask("PATCH", f"{ROOT}/{endpoint_id}", wrong) is None, wrong
    for key in ("planted-wrong-key", "planted-api-key2", ""):
        assert spy.ask("GET", ROOT, X_Api_Key=key) is None
        assert spy.ask("GET", "/_emulator/settings", X_Control_Key=key) is None
    assert spy.ask("GET", "/nowhere", Authorization="Bearer planted-header") is None
    with limited(writer_of(server.process.pid), resource.RLIMIT_FSIZE, 4096):
        assert spy.ask("POST", tasks, {"taskId": "unkept", "input": 1, **plain}) is None
    spy.ask("DELETE", f"{ROOT}/{endpoint_id}")
    kept = spy.ask("POST", ROOT, {**CREATE, "workers": 0})["id"]
    spy.ask("POST", f"{ROOT}/{kept}/tasks", {"taskId": "waits", "input": 1, **plain})


@pytest.mark.skipif(sys.platform != "linux", reason="the full disk is made with what Linux has")
def test_a_whole_life_leaves_no_secret_in_any_log_error_metric_or_page(
    serve: Serve, receive: Receive, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text("planted-api-key\n")
    (tmp_path / "control").write_text("planted-control\n")
    data = tmp_path / "data"
    options = (
        *("--data", str(data), "--keys-file", str(tmp_path / "keys"), "--control-key-file", str(tmp_path / "control")),
        *("--log-level", "debug", "--webhook-retry", "0.01,0.01,0.01", "--max-attempts", "2"),
    )
    server = serve(*options)
    with contextlib.closing(Spy(server, "planted-api-key")) as spy:
        _life(spy, server, receive(500).url)
        pages = {
            path: spy.page(f"/_emulator/{path}") for path in ("live", "ready", "settings", "stats", "metrics", "faults")
        }
        server.end(signal.SIGKILL)
        again = serve(*options)
        assert again.end() == 0
    assert len(spy.errors) > 20
    assert server.process.stdout is not None
    seen = {
        "standard output": server.first_line + server.process.stdout.read(),
        "standard error": server.log.read_text(),
        "errors": "\n".join(spy.errors),
        **pages,
        **{path.name: path.read_bytes().decode("latin-1") for path in data.glob("logs.sqlite*")},
    }
    assert "logs.sqlite" in seen
    assert "task=t0 attempt=1" in "".join(seen[name] for name in seen if name.startswith("logs.sqlite"))
    assert "could not write" in seen["standard error"]
    found = {name: _around(text) for name, text in seen.items() if PLANT in text}
    assert found == {}
    # It is the search that finds: the store itself must hold what workers and receivers are to be sent.
    assert PLANT in (data / "yottabench.sqlite").read_bytes().decode("latin-1")


def _around(text: str) -> str:
    at = text.index(PLANT)
    return text[max(0, at - 100) : at + 60]
