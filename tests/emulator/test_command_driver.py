import asyncio
import contextlib
import errno
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from yottabench.emulator.drivers import addresses
from yottabench.emulator.drivers.addresses import OwnAddress
from yottabench.emulator.drivers.base import RunningWorker, WorkerSpec, WorkerStartError
from yottabench.emulator.drivers.command import CommandDriver
from yottabench.emulator.drivers.images_file import read_images_file
from yottabench.emulator.drivers.process import WorkerProcess
from yottabench.emulator.drivers.readiness import Settled
from yottabench.emulator.http1 import Http1Pool

pytestmark = pytest.mark.anyio

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a subreaper, which is Linux's")

# A server that says what it is, and whose first answers may be 503.
SERVER = """
import http.server, json, os, sys
busy = int(os.environ.get("BUSY", "0"))
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        global busy
        status = 503 if busy else 200 if self.path == "/health" else 404
        busy = max(0, busy - 1)
        body = json.dumps({"env": dict(os.environ), "argv": sys.argv[1:], "cwd": os.getcwd()}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        print("request", self.path, args[2], flush=True)
server = http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler)
print("listening", flush=True)
server.serve_forever()
"""


class Workplace:
    """An images file in the making, the driver on it, and what its workers wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self._heard = asyncio.Event()
        self.drivers: list[CommandDriver] = []

    def driver(self, command: list[str], more: str = "") -> CommandDriver:
        path = self.folder / "images.toml"
        path.write_text(f'[[image]]\npattern = "it"\ncommand = {json.dumps(command)}\n{more}\n')
        self.drivers.append(CommandDriver(read_images_file(path)))
        return self.drivers[-1]

    def server(self, more: str = "", *arguments: str) -> CommandDriver:
        script = self.folder / "server.py"
        script.write_text(SERVER)
        return self.driver([sys.executable, str(script), "{host}", "{port}", *arguments], more)

    def shell(self, script: str, more: str = "ready = { none = true }") -> CommandDriver:
        return self.driver(["sh", "-c", script], more)

    async def start(self, driver: CommandDriver, **changes: Any) -> RunningWorker:
        fields: dict[str, Any] = {
            "worker_id": "77",
            "endpoint_id": "66",
            "image": "it",
            "port": 8000,
            "protocol": "http",
            "env": {},
            "command": None,
            "seed": random.SystemRandom().getrandbits(32),
        }
        return await driver.start(WorkerSpec(**{**fields, **changes}), self.hear)

    def hear(self, line: str) -> None:
        self.lines.append(line)
        self._heard.set()

    async def heard(self, words: str, times: int = 1) -> list[str]:
        """The lines that hold `words`, once there are so many."""
        async with asyncio.timeout(10):
            while len(found := [line for line in self.lines if words in line]) < times:
                self._heard.clear()
                await self._heard.wait()
        return found


@pytest.fixture
async def workplace(tmp_path: Path) -> AsyncIterator[Workplace]:
    place = Workplace(tmp_path)
    yield place
    for driver in place.drivers:
        await driver.close()


async def ask(worker: RunningWorker, port: int = 8000, path: bytes = b"/health") -> Any:
    pool = Http1Pool(*worker.address(port))
    answer = await pool.request(b"GET", path, b"", b"", timeout_s=5, max_body_bytes=1_000_000)
    pool.close()
    return json.loads(answer.body)


@pytest.fixture
def own_addresses() -> None:
    probe = OwnAddress.reserve(random.Random(0))
    if probe is None:
        pytest.skip("this system has no loopback addresses besides 127.0.0.1")
    probe.release()


async def gone(*pids: int) -> bool:
    """Whether these processes end soon."""
    for _ in range(500):
        if not any(_runs(pid) for pid in pids):
            return True
        await asyncio.sleep(0.01)
    return False


def arguments_of(*pids: int) -> str:
    return "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in pids)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ---- where it runs


async def test_only_images_with_a_command_are_taken(workplace: Workplace) -> None:
    driver = workplace.driver(["true"], '[[image]]\npattern = "far"\nurls = ["http://127.0.0.1:1"]')
    assert [driver.takes(image) for image in ("it", "it:latest", "far", "other")] == [True, True, False, False]
    assert driver.name == "command"


@pytest.mark.usefixtures("own_addresses")
async def test_each_worker_has_an_address_of_its_own_where_the_port_is_literal(workplace: Workplace) -> None:
    driver = workplace.server()
    workers = [await workplace.start(driver, worker_id=str(number)) for number in range(3)]
    for worker in workers:
        await worker.wait_ready()
    hosts = {worker.address(8000)[0] for worker in workers}
    assert len(hosts) == 3
    assert all(host.startswith("127.") and host != "127.0.0.1" for host in hosts)
    assert {worker.address(port)[1] for worker in workers for port in (8000, 9)} == {8000, 9}
    assert [(await ask(worker))["env"]["WORKER_ID"] for worker in workers] == ["0", "1", "2"]


async def test_without_such_addresses_ports_are_mapped_and_told_in_the_environment(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OwnAddress, "reserve", lambda chance: None)
    driver = workplace.server()
    workers = [await workplace.start(driver) for _ in range(2)]
    for worker in workers:
        await worker.wait_ready()
        host, port = worker.address(8000)
        assert host == "127.0.0.1"
        assert worker.address(9) == (host, port)
        environment = (await ask(worker))["env"]
        assert (environment["HOST"], environment["PORT"]) == (host, str(port))
    assert len({worker.address(8000) for worker in workers}) == 2


@pytest.mark.usefixtures("own_addresses")
def test_an_address_is_lent_once_and_again_when_it_was_given_back() -> None:
    first = OwnAddress.reserve(random.Random(1))
    second = OwnAddress.reserve(random.Random(1))
    assert first is not None
    assert second is not None
    assert first.host != second.host
    first.release()
    first.release()
    third = OwnAddress.reserve(random.Random(1))
    assert third is not None
    assert third.host == first.host
    second.release()
    third.release()


@pytest.mark.usefixtures("own_addresses")
def test_when_all_addresses_are_taken_there_is_none() -> None:
    class Same(random.Random):
        def randint(self, a: int, b: int) -> int:
            return 9

    taken = OwnAddress.reserve(Same())
    assert taken is not None
    assert OwnAddress.reserve(Same()) is None
    taken.release()


def test_a_system_without_such_addresses_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(socket.socket):
        def bind(self, address: object) -> None:
            raise OSError(errno.EADDRNOTAVAIL, "Can't assign requested address")

    monkeypatch.setattr(addresses.socket, "socket", Refusing)
    assert OwnAddress.reserve(random.Random(1)) is None


async def test_placeholders_are_filled_in_and_other_braces_stay(workplace: Workplace) -> None:
    driver = workplace.server(
        'environment = { WHO = "{worker_id}/{endpoint_id}/{image}" }', '{"a": {port}}', "${port}", "{other}"
    )
    worker = await workplace.start(driver, port=8001)
    await worker.wait_ready()
    told = await ask(worker, 8001)
    assert told["argv"] == [worker.address(8001)[0], "8001", '{"a": 8001}', "$8001", "{other}"]
    assert told["env"]["WHO"] == "77/66/it"
    assert Path(told["cwd"]) == workplace.folder.resolve()


async def test_the_images_file_may_give_the_port_that_the_endpoint_does_not(workplace: Workplace) -> None:
    worker = await workplace.start(workplace.server("port = 8002"), port=None, protocol=None)
    await worker.wait_ready()
    assert (await ask(worker, 8002))["env"]["PORT"] == "8002"


async def test_a_port_that_nobody_gave_is_asked_for(workplace: Workplace) -> None:
    driver = workplace.server("ready = { none = true }")
    with pytest.raises(WorkerStartError, match=r"image it needs \{port\}, but the endpoint has no expose"):
        await workplace.start(driver, port=None, protocol=None)
    driver = workplace.server("ready = { tcp = true }")
    with pytest.raises(WorkerStartError, match="No port says whether a worker of image it is ready"):
        await workplace.start(driver, port=None, protocol=None)


# ---- its environment


async def test_the_endpoint_overrides_the_images_file_which_overrides_what_is_inherited(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "ours")
    monkeypatch.setenv("LANG", "ours")
    monkeypatch.setenv("HOME", "/ours")
    monkeypatch.setenv("CUDA_X", "ours")
    monkeypatch.setenv("YOTTA_API_KEY", "a secret")
    driver = workplace.server('inherit = ["CUDA_*"]\nenvironment = { TZ = "file", LANG = "file" }')
    worker = await workplace.start(driver, env={"TZ": "endpoint", "MODEL": "llama", "PORT": "1"})
    await worker.wait_ready()
    environment = (await ask(worker))["env"]
    wanted = {"TZ": "endpoint", "LANG": "file", "HOME": "/ours", "CUDA_X": "ours", "MODEL": "llama", "PORT": "1"}
    assert {name: environment[name] for name in wanted} == wanted
    assert "YOTTA_API_KEY" not in environment
    assert "YOTTABENCH_INITIALIZATION" not in environment


async def test_the_initialization_command_runs_first_and_in_the_same_environment(workplace: Workplace) -> None:
    worker = await workplace.start(workplace.server(), command="echo one; export TOLD='it is said'\necho two")
    await worker.wait_ready()
    assert (await ask(worker))["env"]["TOLD"] == "it is said"
    assert workplace.lines[:3] == ["one", "two", "listening"]
    assert "YOTTABENCH_INITIALIZATION" not in (await ask(worker))["env"]


@on_linux
async def test_the_initialization_command_is_no_argument_that_others_can_see(workplace: Workplace) -> None:
    worker = await workplace.start(workplace.shell("sleep 60"), command="echo pid $$; sleep 60; : hunter2")
    assert worker.pid is not None
    seen = arguments_of(worker.pid, int((await workplace.heard("pid "))[0].split()[1]))
    assert "eval" in seen
    assert "hunter2" not in seen


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("false", r"exited with code 1.*the initialization command ended with code 1"),
        ("exit 3", "exited with code 3 before it was ready"),
        ("if", "exited with code 2 before it was ready"),
    ],
)
async def test_a_failing_initialization_command_is_the_end(workplace: Workplace, command: str, reason: str) -> None:
    worker = await workplace.start(workplace.server(), command=command)
    with pytest.raises(WorkerStartError, match=reason):
        await worker.wait_ready()
    assert "listening" not in workplace.lines


async def test_initialization_commands_can_be_refused(workplace: Workplace) -> None:
    driver = workplace.server('initialization_shell = ""')
    with pytest.raises(WorkerStartError, match="takes no initializationCommand: its initialization_shell is empty"):
        await workplace.start(driver, command="echo hunter2")
    await (await workplace.start(driver)).wait_ready()


# ---- readiness


async def test_an_exposed_http_port_is_ready_when_it_answers_below_500(workplace: Workplace) -> None:
    worker = await workplace.start(workplace.server(), env={"BUSY": "2"})
    await worker.wait_ready()
    assert [line for line in workplace.lines if line.startswith("request")] == [
        "request / 503",
        "request / 503",
        "request / 404",
    ]


async def test_a_named_path_must_be_found(workplace: Workplace) -> None:
    worker = await workplace.start(workplace.server('ready = { http = "/health" }'), env={"BUSY": "1"})
    await worker.wait_ready()
    assert [line for line in workplace.lines if line.startswith("request")][-1] == "request /health 200"
    check = Settled("http", "/nowhere", 8000, below=400, timeout_s=1)
    assert check.what == "answer GET /nowhere on port 8000"
    assert await check.missing(worker.address(8000)) == "it answered with status 404"


@pytest.mark.parametrize("ready", ["", "ready = { tcp = true }"])
async def test_another_exposed_port_is_ready_when_it_accepts(workplace: Workplace, ready: str) -> None:
    worker = await workplace.start(workplace.server(ready), protocol="tcp")
    await worker.wait_ready()
    assert not any(line.startswith("request") for line in workplace.lines)


async def test_a_line_of_output_can_show_it(workplace: Workplace) -> None:
    script = "echo starting; read line < go; echo 'model loaded in 3 s'; sleep 60"
    driver = workplace.shell(script, 'ready = { log = "load.. in" }')
    os.mkfifo(workplace.folder / "go")
    worker = await workplace.start(driver)
    waiting = asyncio.create_task(worker.wait_ready())
    await workplace.heard("starting")
    assert not waiting.done()
    (workplace.folder / "go").write_text("go\n")
    await waiting


async def test_without_a_port_it_counts_as_ready_at_once_with_a_warning(workplace: Workplace) -> None:
    worker = await workplace.start(workplace.shell("sleep 60", ""), port=None, protocol=None)
    await worker.wait_ready()
    assert workplace.lines[0].startswith("warning: nothing says when this worker is ready")


async def test_a_worker_that_never_becomes_ready_is_killed(workplace: Workplace) -> None:
    driver = workplace.shell("echo loading; sleep 60", "ready = { tcp = true, timeout_s = 0.2 }")
    worker = await workplace.start(driver)
    with pytest.raises(
        WorkerStartError, match=r"did not accept a connection on port 8000 within 0\.2 s.*Its last line: loading"
    ):
        await worker.wait_ready()
    assert worker.exited.done()


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["sh", "-c", "echo no model; exit 7"], r"exited with code 7 before it was ready\. Its last line: no model"),
        (["sh", "-c", "kill -SEGV $$"], "was ended by signal SIGSEGV before it was ready"),
        (["no-such-program"], r"exited with code 127 .*cannot start no-such-program: No such file or directory"),
        (["/etc/passwd"], r"exited with code 127 .*cannot start /etc/passwd: Permission denied"),
    ],
)
async def test_the_reason_of_an_early_end_can_be_read(workplace: Workplace, command: list[str], reason: str) -> None:
    worker = await workplace.start(workplace.driver(command))
    with pytest.raises(WorkerStartError, match=reason):
        await worker.wait_ready()


# ---- its end


async def test_a_polite_worker_ends_by_itself(workplace: Workplace) -> None:
    driver = workplace.shell("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done")
    worker = await workplace.start(driver)
    await workplace.heard("up")
    await worker.stop(10)
    assert worker.exited.result() == "exited with code 0, as asked"
    assert workplace.lines[-1] == "bye"
    await worker.stop(10)


async def test_a_stubborn_worker_is_killed_after_its_grace(workplace: Workplace) -> None:
    driver = workplace.shell("trap '' TERM; echo up; while :; do sleep 0.05; done")
    worker = await workplace.start(driver)
    await workplace.heard("up")
    await worker.stop(0.1)
    assert worker.exited.result() == "was ended by signal SIGKILL, as asked"


async def test_a_crash_is_not_called_asked_for(workplace: Workplace) -> None:
    worker = await workplace.start(workplace.shell("kill -9 $$"))
    assert await asyncio.wait_for(asyncio.shield(worker.exited), 10) == "was ended by signal SIGKILL"


# Leaves one child in its process group, one in a session of its own, and one daemon without a parent.
FAMILY = """
sh -c 'echo pid $$; exec sleep 300' &
setsid sh -c 'echo pid $$; exec sleep 300' &
(setsid sh -c 'echo pid $$; exec sleep 300' &) &
sleep 0.05
echo pid $$
"""


async def family(workplace: Workplace) -> list[int]:
    return [int(line.split()[1]) for line in await workplace.heard("pid ", times=4)]


@on_linux
@pytest.mark.parametrize("how", ["stop", "kill", "close", "exit", "supervisor"])
async def test_nothing_of_a_worker_is_left(workplace: Workplace, how: str) -> None:
    driver = workplace.shell(FAMILY + ("exit 0" if how == "exit" else "exec sleep 300"))
    worker = await workplace.start(driver)
    pids = await family(workplace)
    assert worker.pid is not None
    if how == "stop":
        await worker.stop(5)
    elif how == "kill":
        worker.kill()
    elif how == "close":
        await driver.close()
    elif how == "supervisor":
        os.kill(worker.pid, signal.SIGKILL)
        assert await gone(pids[-1])  # the command itself; what it started is nobody's then
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert await gone(*pids, worker.pid)
    await asyncio.wait_for(asyncio.shield(worker.exited), 10)


@on_linux
def test_nothing_of_a_worker_is_left_when_the_server_is_killed(tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
from pathlib import Path
from yottabench.emulator.drivers.base import WorkerSpec
from yottabench.emulator.drivers.command import CommandDriver
from yottabench.emulator.drivers.images_file import read_images_file
async def main():
    driver = CommandDriver(read_images_file(Path({str(tmp_path / "images.toml")!r})))
    spec = WorkerSpec("1", "2", "it", None, None, {{}}, None, 3)
    worker = await driver.start(spec, lambda line: print(line, flush=True))
    print("supervisor", worker.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    Workplace(tmp_path).shell(FAMILY + "exec sleep 300")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        pids: list[int] = []
        while len(pids) < 5:
            word, pid = server.stdout.readline().split()
            assert word in {"pid", "supervisor"}
            pids.append(int(pid))
        server.kill()
    assert asyncio.run(gone(*pids))


async def test_a_supervisor_that_hangs_is_ended_with_its_command(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yottabench.emulator.drivers.command._KILL_WITHIN_S", 0.1)
    worker = await workplace.start(workplace.shell("echo pid $$; exec sleep 300"))
    pid = int((await workplace.heard("pid "))[0].split()[1])
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)
    worker.kill()
    await asyncio.wait_for(asyncio.shield(worker.exited), 10)
    assert await gone(pid)


async def test_a_closed_driver_starts_nothing(workplace: Workplace) -> None:
    driver = workplace.shell("sleep 60")
    await driver.close()
    with pytest.raises(WorkerStartError, match="going down"):
        await workplace.start(driver)


async def test_an_address_is_free_again_when_its_worker_is_gone(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = workplace.shell("sleep 60")
    hosts = []
    for _ in range(2):
        worker = await workplace.start(driver, seed=5)
        hosts.append(worker.address(1)[0])
        await worker.stop(0)
    assert hosts[0] == hosts[1]

    async def no_process(*_: object) -> None:
        raise WorkerStartError("The process could not be started.")

    monkeypatch.setattr(WorkerProcess, "spawn", no_process)
    with pytest.raises(WorkerStartError, match="could not be started"):
        await workplace.start(driver, seed=5)
    monkeypatch.undo()
    worker = await workplace.start(driver, seed=5)
    assert worker.address(1)[0] == hosts[0]
