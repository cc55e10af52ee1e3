"""`yottabench proxy` between real clients and servers: who deviates is told, and what passed can be replayed."""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from tests.conformance.live import KEY, Api, Stage
from tests.conformance.mutants import MUTANTS
from tests.conformance.proxy import proxy as mutating
from yottabench.cli.app import build
from yottabench.client import Client
from yottabench.conformance.exchange import Answer, Request, check
from yottabench.conformance.proxy.reading import Passed
from yottabench.conformance.proxy.watching import Watcher
from yottabench.load.prepare import prepare
from yottabench.load.profile import read_profile

SECRETS = {
    "key": KEY,
    "auth": "a-webhook-auth-key",
    "header": "Bearer token-of-mine",
    "hook": "path-with-a-token",
    "variable": "value-of-a-variable",
}


class Running:
    """A proxy that runs; `told` is all it said once it has ended."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.told: list[dict[str, Any]] = []
        self.text = ""
        self.code = 0

    @property
    def deviations(self) -> list[dict[str, Any]]:
        return [line["deviation"] for line in self.told if "deviation" in line]


@contextlib.contextmanager
def watching(target: str, *options: str) -> Iterator[Running]:
    line = [sys.executable, "-m", "yottabench", "proxy", "--target", target, "--port", "0", "--json", *options]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        running = Running(json.loads(process.stdout.readline())["url"])
        try:
            yield running
        finally:
            process.send_signal(signal.SIGTERM)
            running.text, _ = process.communicate(timeout=20)
            running.code = process.returncode
            running.told = [json.loads(line) for line in running.text.splitlines()]


def test_our_own_client_and_the_emulator_do_not_deviate(stage: Stage) -> None:
    with watching(stage.api.url) as running, Client(KEY, running.url) as client:
        done = client.tasks.submit_and_wait(stage.served, {"prompt": "Hi"}, worker_port=8000, process_uri="/run")
        assert done.output is not None
        assert client.tasks.list(stage.served, status="SUCCESS").items
        assert client.tasks.count(stage.served).processing >= 0
        assert client.endpoints.list(statuses=["RUNNING", "STOPPED"])
        client.workers.logs(stage.served, stage.worker_id, page_size=5)
    assert running.deviations == []
    assert running.code == 0
    assert running.told[-1]["of_the_api"] >= 6


def test_a_client_that_deviates_is_told_apart_from_a_service_that_does(stage: Stage) -> None:
    bug = next(mutant for mutant in MUTANTS if mutant.__name__ == "GivesIdsAsNumbers")
    with (
        mutating(stage.api.url, bug()) as target,
        watching(target) as running,
        contextlib.closing(Api(running.url, KEY)) as api,
    ):
        api.call("GET", f"/{stage.served}")
        api.call("GET", f"/{stage.served}/tasks", params={"pageSize": 101, "sort": "up"})
        api.call("POST", f"/{stage.served}/tasks", json={"input": 1, "workerPort": "80", "processUri": "/"})
        api.call("PUT", f"/{stage.parked}/workers")
        api.send(f"/{stage.served}/tasks", b"{")
        api.call("POST", "/tasks")
    assert running.code == 1
    told = {(one["by"], one["operation"], one["text"]) for one in running.deviations}
    assert {(by, name) for by, name, _ in told} == {
        ("service", "getEndpointById"),
        ("client", "listTasks"),
        ("client", "submitTask"),
        ("client", "scaleWorkers"),
        ("client", "none"),
    }
    texts = " ".join(text for _, _, text in told)
    for part in ("undocumented parameter sort", "pageSize", "workerPort", "count is missing", "no JSON", "has no POST"):
        assert part in texts


def test_what_is_told_and_recorded_holds_no_secrets(stage: Stage, tmp_path: Path) -> None:
    with (
        watching(stage.api.url, "--record", str(tmp_path / "kept")) as running,
        contextlib.closing(Api(running.url, KEY)) as api,
    ):
        api.submit(
            stage.collecting,
            webhook=f"http://127.0.0.1:9/{SECRETS['hook']}",
            webhookAuthKey=SECRETS["auth"],
            headers={"Authorization": SECRETS["header"]},
        )
        # These deviate, so they are shown.
        wrong = {"webhookAuthKey": SECRETS["auth"], "headers": {"Authorization": SECRETS["header"]}}
        api.call("POST", f"/{stage.collecting}/tasks", json={**wrong, "input": "", "workerPort": 0})
        variables = [{"key": "A", "value": SECRETS["variable"]}]
        api.call("POST", "", json={"name": "", "environmentVars": variables, "initializationCommand": "x"})
    assert len(running.deviations) >= 3
    kept = "".join(path.read_text() for path in (tmp_path / "kept").iterdir())
    for secret in SECRETS.values():
        assert secret not in running.text
        assert secret not in kept


def test_what_passed_can_be_replayed_by_a_load_test(stage: Stage, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    with (
        watching(stage.api.url, "--record", str(folder)) as running,
        contextlib.closing(Api(running.url, KEY)) as api,
    ):
        for number in range(3):
            prompt = "x" * (400 * number + 40)
            api.submit(stage.collecting, input={"prompt": prompt}, workerPort=8123, processUri="/v1/chat")
        api.call("POST", f"/{stage.collecting}/tasks", json={"input": None})
    assert running.told[-1] == {**running.told[-1], "tasks": 3, "profile": str(folder / "profile.toml")}
    profile = read_profile(folder / "profile.toml")
    assert (profile.task.worker_port, profile.task.process_uri, profile.task.body) == (8123, "/v1/chat", "chat")
    prepared = prepare(profile, seed=1)
    assert prepared.trace is not None
    assert len(prepared.trace) == 3
    assert prepared.trace.at_s[0] == 0
    # A prompt is as long as it was, but for the braces around it.
    assert [round(size.prompt_tokens * 4, -1) for _, size in prepared.trace.rows()] == [60, 460, 860]


def test_nothing_is_recorded_when_no_task_passed(stage: Stage, tmp_path: Path) -> None:
    with watching(stage.api.url, "--record", str(tmp_path / "kept")) as running:
        httpx.get(f"{running.url}/elsewhere")
    assert running.told == [
        {"exchanges": 1, "of_the_api": 0, "unchecked": 0, "deviations": {}, "tasks": 0, "profile": None}
    ]
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target", "ftp://x"], "must be http(s)://HOST"),
        (["--target", "http://127.0.0.1", "--host", "192.0.2.1"], "Cannot listen"),
    ],
)
def test_wrong_usage_is_said(options: list[str], said: str) -> None:
    result = CliRunner().invoke(build(), ["proxy", *options])
    assert result.exit_code == 2
    assert said in result.stderr


def test_it_speaks_to_people_too(stage: Stage) -> None:
    line = [sys.executable, "-m", "yottabench", "proxy", "--target", stage.api.url, "--port", "0"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env={"PYTHONUNBUFFERED": "1"}) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[0]
        with contextlib.closing(Api(url, KEY)) as api:
            api.call("GET", f"/{stage.served}/tasks", params={"pageSize": 0})
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=20)
    assert "client deviates at listTasks: query parameter pageSize: " in said
    assert "1 requests, 1 of the API; deviations: 1 by the client" in said
    assert process.returncode == 1


# ---- single exchanges


def exchange(
    status: int = 200, body: bytes = b'{"message":"","code":10000,"data":{"processing":1}}', **headers: str
) -> tuple[Request, Answer]:
    request = Request("GET", "/v2/serverless/1/tasks/count", [("X-Api-Key", "k")], b"")
    return request, Answer(status, [("Content-Type", "application/json"), *headers.items()], body)


def busy(retry_after: str | None) -> tuple[Request, Answer]:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return exchange(429, b'{"message":"Slow down.","code":429,"data":null}', **headers)


@pytest.mark.parametrize(
    ("seen", "texts"),
    [
        (exchange(), []),
        (exchange(**{"Content-Encoding": "br"}), []),
        (exchange(404, b'{"message":"None.","code":14000,"data":null}'), []),
        (exchange(200, b'{"message":"None.","code":14000,"data":null}'), []),
        (exchange(405, b'{"message":"GET it.","code":10001,"data":null}'), []),
        (busy("1"), []),
        (busy(None), ["the header Retry-After is missing"]),
        (busy("soon"), ["header Retry-After: the value is not of type \"integer\""]),
        (exchange(418, b'{"message":"","code":10001,"data":null}'), ["code 10001 came with HTTP 418, not [400, 413]",
                                                                     "HTTP 418 is not documented here"]),
        (exchange(body=b'{"message":"","code":10000,"data":{}}'), ['answer.data: "processing" is a required property']),
        (exchange(body=b"no"), ["not JSON"]),
        (exchange(body=b"\x1f", **{"Content-Encoding": "gzip"}), ["not JSON"]),
    ],
)  # fmt: skip
def test_an_answer_is_held_to_what_its_operation_says(seen: tuple[Request, Answer], texts: list[str]) -> None:
    assert [one.text for one in check(*seen)] == texts


def test_a_missing_key_and_another_api_are_told_apart() -> None:
    request, answer = exchange()
    told = next(check(Request("GET", request.target, [], b""), answer))
    assert (told.by, told.text) == ("client", "the header X-Api-Key is missing")
    assert list(check(Request("GET", "/other", [], b""), answer)) == []
    assert [one.operation for one in check(Request("GET", "/v2/serverless/1/nothing", [], b""), answer)] == ["none"]


def test_a_refused_request_that_is_accepted_is_the_services_deviation_too() -> None:
    body = json.dumps({"input": 1, "workerPort": 0, "processUri": "/"}).encode()
    request = Request("POST", "/v2/serverless/1/tasks", [("X-Api-Key", "k")], body)
    _, answer = exchange(body=b'{"message":"","code":10000,"data":{"taskId":"t"}}')
    assert [one.by for one in check(request, answer)] == ["client", "service"]


def test_what_is_too_large_to_check_is_counted() -> None:
    watcher = Watcher(lambda _deviation, _shown: None)
    watcher.passed(Passed(0.0, *exchange(), whole=False))
    watcher.unreadable("no HTTP")
    assert watcher.counts.unchecked == 2
