"""The pytest plugin as a user has it: tests in a folder of their own, run by a pytest of their own."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

PRELUDE = """
import pathlib, time
import httpx, pytest

CREATE = dict(
    name="a", image="sim/echo", workers=1, containerVolumeInGb=20, serviceMode="QUEUE",
    resources=[dict(region="us-east-1", gpuType="NVIDIA_L4_24G", gpuCount=1)],
)
TASK = dict(input={"n": 1}, workerPort=8000, processUri="/run")
HERE = pathlib.Path(__file__).parent

class Api:
    def __init__(self, emulator):
        self.http = httpx.Client(base_url=emulator.url, headers={"X-Api-Key": emulator.api_key}, trust_env=False)

    def __call__(self, method, path="", body=None):
        answer = self.http.request(method, "/v2/serverless" + path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def until(self, path, reached):
        while not reached(found := self("GET", path)):
            time.sleep(0.01)
        return found

@pytest.fixture
def api(yotta_emulator):
    found = Api(yotta_emulator)
    yield found
    found.http.close()
"""


class Runner:
    """Runs a test file with the plugin loaded by name, and nothing else of what is installed here but xdist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def command(self, tests: str, *options: str) -> tuple[list[str], dict[str, str]]:
        (self.folder / "test_it.py").write_text(PRELUDE + textwrap.dedent(tests), encoding="utf-8")
        plugins = ["-p", "yottabench.pytest_plugin", "-p", "xdist", "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", "-q", "-W", "error", *plugins, *options, "test_it.py"]
        return command, {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}

    def __call__(self, tests: str, *options: str) -> subprocess.CompletedProcess[str]:
        command, env = self.command(tests, *options)
        return subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=120, check=False
        )

    def passes(self, tests: str, *options: str) -> None:
        done = self(tests, *options)
        assert done.returncode == 0, done.stdout + done.stderr

    def said(self, name: str) -> list[str]:
        """What the tests have written into a file."""
        return (self.folder / name).read_text(encoding="utf-8").split()


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def until(reached: Callable[[], bool], timeout_s: float = 30) -> None:
    end_s = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < end_s, "It did not come to that in time."
        time.sleep(0.01)


def is_gone(url: str) -> bool:
    try:
        httpx.get(f"{url}/_emulator/live", trust_env=False)
    except httpx.TransportError:
        return True
    return False


def test_a_test_has_a_whole_emulator_with_time_and_faults_in_its_hands(runner: Runner) -> None:
    runner.passes(
        """
        def test_it(yotta_emulator, api):
            endpoint = api("POST", "", CREATE)["id"]
            task = api("POST", f"/{endpoint}/tasks", {**TASK, "webhook": "http://127.0.0.1:9/gone"})["taskId"]
            path = f"/{endpoint}/tasks/{task}"
            assert api.until(path, lambda found: found["deliveryAttempts"])["output"] == {"n": 1}
            yotta_emulator.advance(21 * 60)
            assert api("GET", path)["deliveryStatus"] == "MAX_RETRIES_EXCEEDED"
            (delivery,) = yotta_emulator.deliveries(taskId=task, endpointId=endpoint)
            ended = [attempt["endedMs"] for attempt in delivery["attempts"]]
            assert [ms - ended[0] for ms in ended] == [0, 60_000, 360_000, 1_260_000]
            yotta_emulator.redeliver(delivery["id"])
            api.until(path, lambda found: found["deliveryAttempts"] == 5)
            assert [attempt["outcome"] for attempt in yotta_emulator.attempts(endpoint, task)] == ["SUCCEEDED"]

            rule = yotta_emulator.faults.add("error", operation="listEndpoints", status=503, count=1)
            assert rule == yotta_emulator.faults.list()[0]
            assert api.http.get("/v2/serverless").status_code == 503
            assert yotta_emulator.faults.list()[0]["fired"] == 1
            yotta_emulator.faults.clear()
            assert yotta_emulator.faults.list() == []

            snapshot = yotta_emulator.snapshot()
            yotta_emulator.reset()
            assert api("GET") == []
            yotta_emulator.load(snapshot)
            assert api("GET", path)["deliveryAttempts"] == 5
            from yottabench.pytest_plugin import EmulatorError
            with pytest.raises(EmulatorError, match="seconds"):
                yotta_emulator.advance(-1)
        """
    )


def test_a_test_has_a_client_of_its_own(runner: Runner) -> None:
    runner.passes(
        """
        def test_it(yotta_emulator, api):
            made = api("POST", "", CREATE)["id"]
            client = yotta_emulator.client(timeout_s=20)
            assert [endpoint.id for endpoint in client.endpoints.list()] == [made]
            client.close()
        """
    )


def test_a_test_finds_nothing_of_the_test_before(runner: Runner) -> None:
    runner.passes(
        """
        def test_one(yotta_emulator, api):
            endpoint = api("POST", "", CREATE)["id"]
            task = api("POST", f"/{endpoint}/tasks", TASK)["taskId"]
            worker = api.until(f"/{endpoint}/tasks/{task}", lambda found: found["output"])["workerUrl"]
            yotta_emulator.faults.add("error", operation="*", probability=0)
            yotta_emulator.freeze()
            (HERE / "left").write_text(f"{worker} {yotta_emulator.api_key}")

        def test_two(yotta_emulator, yotta_emulator_server, api):
            worker, api_key = (HERE / "left").read_text().split()
            assert yotta_emulator.api_key != api_key
            assert api("GET") == []
            assert yotta_emulator_server.call("GET", "faults") == []
            assert yotta_emulator_server.call("GET", "clock")["frozen"] is False
            assert yotta_emulator_server.call("GET", "snapshot")["endpoints"] == []
            with pytest.raises(httpx.ConnectError):
                httpx.get(worker, trust_env=False)
        """
    )


def test_each_worker_of_xdist_has_its_own_server_and_none_is_left(runner: Runner) -> None:
    runner.passes(
        """
        @pytest.mark.parametrize("number", range(8))
        def test_it(yotta_emulator, api, number, worker_id):
            with (HERE / "seen").open("a") as seen:
                seen.write(f"{worker_id}={yotta_emulator.url}\\n")
            assert api("GET") == []
            endpoint = api("POST", "", CREATE)["id"]
            assert [each["id"] for each in api("GET")] == [endpoint]
            yotta_emulator.advance(60)
        """,
        "-n",
        "2",
    )
    servers = {tuple(line.split("=")) for line in runner.said("seen")}
    assert len({url for _, url in servers}) == len({worker for worker, _ in servers}) == len(servers)
    assert all(is_gone(url) for _, url in servers)


def test_no_emulator_is_started_for_tests_that_want_none(runner: Runner) -> None:
    done = runner("def test_it(): pass", "--setup-show")
    assert done.returncode == 0
    assert "yotta" not in done.stdout


def test_the_emulator_has_the_settings_of_the_project(runner: Runner) -> None:
    settings = "[pytest]\nyotta_emulator_args = --delivered-status sample\n    --concurrency 3\n"
    (runner.folder / "pytest.ini").write_text(settings, encoding="utf-8")
    runner.passes(
        """
        def test_it(yotta_emulator_server):
            settings = yotta_emulator_server.call("GET", "settings")
            assert (settings["delivered_status"], settings["concurrency"]) == ("sample", 3)
        """
    )


def test_an_emulator_that_does_not_start_says_why(runner: Runner) -> None:
    (runner.folder / "pytest.ini").write_text(
        "[pytest]\nyotta_emulator_args = --seed-file none.json\n", encoding="utf-8"
    )
    done = runner("def test_it(yotta_emulator): pass")
    assert done.returncode == 1
    assert "none.json cannot be read" in done.stdout


def test_no_emulator_outlives_a_pytest_that_is_killed(runner: Runner) -> None:
    command, env = runner.command(
        """
        def test_it(yotta_emulator, api):
            api("POST", "", CREATE)
            (HERE / "url.new").write_text(yotta_emulator.url)
            (HERE / "url.new").rename(HERE / "url")
            time.sleep(60)
        """
    )
    process = subprocess.Popen(command, cwd=runner.folder, env=env, stdout=subprocess.DEVNULL)
    try:
        until(lambda: (runner.folder / "url").exists() or process.poll() is not None)
        (url,) = runner.said("url")
        assert not is_gone(url)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    until(lambda: is_gone(url))
