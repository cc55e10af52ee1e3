"""The docker driver and the maintained library it uses, against a daemon that is made up (docker_daemon.py)."""

import asyncio
import gc
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulator.docker_daemon import FakeDaemon, FakeImage
from yottabench.emulator.drivers import docker as docker_driver
from yottabench.emulator.drivers.base import RunningWorker, WorkerSpec, WorkerStartError
from yottabench.emulator.drivers.docker import (
    OWNER_LABEL,
    DockerDriver,
    DockerUnavailable,
    image_reference,
    owner_of,
)
from yottabench.emulator.http1 import Http1Pool
from yottabench.emulator.settings import Settings

docker = pytest.importorskip("docker")

pytestmark = pytest.mark.anyio


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path / "docker.sock") as daemon:
        monkeypatch.setenv("DOCKER_HOST", daemon.url)
        daemon.images["it:1"] = FakeImage()
        yield daemon


class Workplace:
    """The driver on the daemon, and what its workers wrote."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data=folder)
        self.lines: list[str] = []
        self.drivers: list[DockerDriver] = []

    def driver(self, **changes: Any) -> DockerDriver:
        settings = Settings(data=self.settings.data, **changes)
        self.drivers.append(DockerDriver.connect(settings))
        return self.drivers[-1]

    async def start(self, driver: DockerDriver, **changes: Any) -> RunningWorker:
        fields: dict[str, Any] = {
            "worker_id": str(random.getrandbits(60)),
            "endpoint_id": "66",
            "image": "it:1",
            "port": 8000,
            "protocol": "http",
            "env": {},
            "command": None,
            "seed": 1,
        }
        return await driver.start(WorkerSpec(**{**fields, **changes}), self.lines.append)


@pytest.fixture
async def workplace(tmp_path: Path, daemon: FakeDaemon) -> AsyncIterator[Workplace]:
    place = Workplace(tmp_path)
    yield place
    for driver in place.drivers:
        await driver.close()
    # The library's threads must not outlive the test that started them.
    for thread in threading.enumerate():
        if thread.name == "yottabench-docker":
            thread.join(5)


async def until(condition: Callable[[], bool]) -> None:
    """Threads are at work: look until it is so."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come about")


async def test_a_worker_is_a_container_that_takes_tasks(workplace: Workplace, daemon: FakeDaemon) -> None:
    worker = await workplace.start(workplace.driver(), worker_id="77")
    await worker.wait_ready()
    (container,) = daemon.containers.values()
    assert container.name == "yottabench-77"
    assert worker.pid is None
    host, port = worker.address(8000)
    assert host == "127.0.0.1"
    pool = Http1Pool(host, port)
    answer = await pool.request(b"POST", b"/run", b"", b'{"a":1}', timeout_s=5, max_body_bytes=100)
    assert answer.body == b'{"a":1}'
    pool.close()
    await until(lambda: workplace.lines == ["hello"])


async def test_the_exposed_port_is_published_to_this_machine_only(workplace: Workplace, daemon: FakeDaemon) -> None:
    worker = await workplace.start(workplace.driver(), port=8123)
    await worker.wait_ready()
    (container,) = daemon.containers.values()
    assert container.wanted["HostConfig"]["PortBindings"] == {"8123/tcp": [{"HostPort": "", "HostIp": "127.0.0.1"}]}
    assert container.server is not None
    assert worker.address(8123)[1] == container.server.server_address[1]
    # A port that is not published is reached at the container's own address.
    assert worker.address(9) == ("127.0.0.1", 9)


async def test_environment_and_labels_are_given_to_the_container(workplace: Workplace, daemon: FakeDaemon) -> None:
    worker = await workplace.start(workplace.driver(), worker_id="77", env={"MODEL": "llama", "WORKER_ID": "mine"})
    await worker.wait_ready()
    (container,) = daemon.containers.values()
    assert sorted(container.wanted["Env"]) == ["ENDPOINT_ID=66", "MODEL=llama", "WORKER_ID=mine"]
    assert container.wanted["Labels"] == {
        OWNER_LABEL: owner_of(workplace.settings),
        "yottabench.worker": "77",
        "yottabench.endpoint": "66",
    }
    assert not container.wanted["HostConfig"].get("DeviceRequests")


async def test_gpus_are_asked_for_when_the_server_is_told_so(workplace: Workplace, daemon: FakeDaemon) -> None:
    worker = await workplace.start(workplace.driver(docker_gpus=True), gpus=2)
    await worker.wait_ready()
    (container,) = daemon.containers.values()
    (request,) = container.wanted["HostConfig"]["DeviceRequests"]
    assert (request["Count"], request["Capabilities"]) == (2, [["gpu"]])


async def test_the_initialization_command_comes_before_what_the_image_runs(
    workplace: Workplace, daemon: FakeDaemon
) -> None:
    worker = await workplace.start(workplace.driver(), command="export A=b")
    await worker.wait_ready()
    (container,) = daemon.containers.values()
    assert container.wanted["Entrypoint"] == ["/bin/sh"]
    option, script, name, *rest = container.wanted["Cmd"]
    assert (option, name, rest) == ("-c", "/bin/sh", ["/entry", "--serve"])
    assert 'exec "$@"' in script
    assert "YOTTABENCH_INITIALIZATION=export A=b" in container.wanted["Env"]


async def test_an_image_that_is_not_there_is_pulled(workplace: Workplace, daemon: FakeDaemon) -> None:
    daemon.remote["far/it:latest"] = FakeImage()
    worker = await workplace.start(workplace.driver(), image="far/it")
    await worker.wait_ready()
    assert workplace.lines[:2] == ["pulling image far/it", "pulled image far/it"]
    again = await workplace.start(workplace.drivers[0], image="far/it")
    await again.wait_ready()
    assert daemon.calls.count("POST /images/create") == 1


async def test_an_image_that_is_nowhere_is_said_so(workplace: Workplace) -> None:
    worker = await workplace.start(workplace.driver(), image="far/nothing:2")
    with pytest.raises(WorkerStartError, match=r"could not be run by Docker: pull access denied for far/nothing:2"):
        await worker.wait_ready()


@pytest.mark.parametrize(
    ("image", "registry", "reference"),
    [
        ("it:1", None, "it:1"),
        ("it:1", "https://index.docker.io/v1", "it:1"),
        ("it:1", "docker.io", "it:1"),
        ("me/it:1", "ghcr.io", "ghcr.io/me/it:1"),
        ("me/it:1", "https://ghcr.io/", "ghcr.io/me/it:1"),
        ("ghcr.io/me/it:1", "ghcr.io", "ghcr.io/me/it:1"),
        ("it:1", "http://registry.test:5000", "registry.test:5000/it:1"),
    ],
)
def test_the_registry_goes_before_the_image(image: str, registry: str | None, reference: str) -> None:
    assert image_reference(image, registry) == reference


async def test_simulated_images_stay_simulated(workplace: Workplace) -> None:
    driver = workplace.driver()
    assert driver.name == "docker"
    assert [driver.takes(image) for image in ("it:1", "vllm/vllm-openai", "sim/llm", "sim/echo:latest")] == [
        True,
        True,
        False,
        False,
    ]


# ---- its end


async def test_stop_asks_politely_and_removes_the_container(workplace: Workplace, daemon: FakeDaemon) -> None:
    worker = await workplace.start(workplace.driver())
    await worker.wait_ready()
    await worker.stop(2)
    assert worker.exited.result() == "was ended by signal SIGTERM, as asked"
    assert not daemon.containers
    assert not any(call.endswith("/kill") for call in daemon.calls)
    await worker.stop(2)


async def test_kill_does_not_ask(workplace: Workplace, daemon: FakeDaemon) -> None:
    worker = await workplace.start(workplace.driver())
    await worker.wait_ready()
    worker.kill()
    assert await asyncio.shield(worker.exited) == "was ended by signal SIGKILL, as asked"
    assert not daemon.containers
    worker.kill()


async def test_close_leaves_nothing(workplace: Workplace, daemon: FakeDaemon) -> None:
    driver = workplace.driver()
    for _ in range(2):
        await (await workplace.start(driver)).wait_ready()
    await driver.close()
    assert not daemon.containers
    with pytest.raises(WorkerStartError, match="going down"):
        await workplace.start(driver)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (FakeImage(code=3, says=["no model"]), r"exited with code 3 before it was ready\. Its last line: no model"),
        (FakeImage(code=139), "was ended by signal SIGSEGV before it was ready"),
        (FakeImage(code=137, out_of_memory=True), "was ended for using too much memory before it was ready"),
        (FakeImage(code=255), "exited with code 255 before it was ready"),
    ],
)
async def test_the_reason_of_an_early_end_can_be_read(
    workplace: Workplace, daemon: FakeDaemon, image: FakeImage, reason: str
) -> None:
    daemon.images["it:1"] = image
    worker = await workplace.start(workplace.driver())
    with pytest.raises(WorkerStartError, match=reason):
        await worker.wait_ready()
    assert not daemon.containers


async def test_a_crash_ends_the_worker_and_removes_the_container(workplace: Workplace, daemon: FakeDaemon) -> None:
    worker = await workplace.start(workplace.driver())
    await worker.wait_ready()
    next(iter(daemon.containers.values())).end(1)
    assert await asyncio.wait_for(asyncio.shield(worker.exited), 10) == "exited with code 1"
    await until(lambda: not daemon.containers)


async def test_a_worker_can_be_killed_while_its_image_is_pulled(workplace: Workplace, daemon: FakeDaemon) -> None:
    daemon.remote["far/it:1"] = FakeImage()
    daemon.may_pull.clear()
    worker = await workplace.start(workplace.driver(), image="far/it:1")
    await until(lambda: "POST /images/create" in daemon.calls)
    worker.kill()
    with pytest.raises(WorkerStartError, match="was ended before it was started, as asked"):
        await worker.wait_ready()
    daemon.may_pull.set()
    await until(lambda: "far/it:1" in daemon.images)
    assert not daemon.containers


async def test_without_expose_a_started_container_is_ready(workplace: Workplace, daemon: FakeDaemon) -> None:
    daemon.images["it:1"] = FakeImage(listens=False)
    worker = await workplace.start(workplace.driver(), port=None, protocol=None)
    await worker.wait_ready()
    assert not next(iter(daemon.containers.values())).wanted["HostConfig"].get("PortBindings")


# ---- the daemon


async def test_what_an_earlier_server_of_the_same_data_left_is_removed(
    workplace: Workplace, daemon: FakeDaemon
) -> None:
    first = workplace.driver()
    await (await workplace.start(first, worker_id="1")).wait_ready()
    other = DockerDriver(docker.from_env(), owner="somebody else", gpus=False)
    workplace.drivers.append(other)
    await (await workplace.start(other, worker_id="2")).wait_ready()
    workplace.driver()
    assert [container.name for container in daemon.containers.values()] == ["yottabench-2"]


# The library leaves the socket of the failed connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_daemon_that_does_not_answer_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(DockerUnavailable, match=r"found no Docker daemon that answers: .*DOCKER_HOST") as error:
        DockerDriver.connect(Settings(data=tmp_path))
    error.value.__cause__ = None
    del error
    gc.collect()


async def test_a_missing_library_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "docker", None)
    with pytest.raises(DockerUnavailable, match=r"pip install 'yottabench\[docker\]'"):
        DockerDriver.connect(Settings(data=tmp_path))


class SmallClient:
    """A client that starts nothing and fails as it is told."""

    def __init__(self, **failures: Exception) -> None:
        self.images = self.containers = self
        self.failures = failures
        self.attrs: dict[str, Any] = {"NetworkSettings": {"IPAddress": "127.0.0.9"}, "State": {}}
        self.end = threading.Event()
        self.log: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        def call(*_: object, **__: object) -> Any:
            if name in self.failures:
                raise self.failures[name]
            return {"get": self, "create": self, "list": [], "wait": {"StatusCode": 0}}.get(name)

        return call

    def logs(self, **_: object) -> Iterator[bytes]:
        yield from self.log
        self.end.wait(10)
        if "logs" in self.failures:
            raise self.failures["logs"]


async def test_a_lost_daemon_ends_the_worker_and_says_so(tmp_path: Path) -> None:
    client = SmallClient(logs=ConnectionError("daemon went away\nwith details"), remove=ConnectionError("gone"))
    driver = DockerDriver(client, owner="me", gpus=False)
    worker = await Workplace(tmp_path).start(driver, port=None, protocol=None)
    await worker.wait_ready()
    assert worker.address(7) == ("127.0.0.9", 7)
    client.end.set()
    reason = await asyncio.wait_for(asyncio.shield(worker.exited), 10)
    assert reason == "could not be run by Docker: daemon went away"


async def test_a_container_that_cannot_be_created_is_said_so(tmp_path: Path) -> None:
    client = SmallClient(create=RuntimeError("no space left on device."))
    worker = await Workplace(tmp_path).start(DockerDriver(client, owner="me", gpus=False))
    with pytest.raises(WorkerStartError, match=r"could not be run by Docker: no space left on device\.$"):
        await worker.wait_ready()


async def test_output_is_cut_into_lines_however_it_comes(tmp_path: Path) -> None:
    client = SmallClient()
    client.log = [b"one\ntw", b"o\nthree"]
    client.end.set()
    place = Workplace(tmp_path)
    worker = await place.start(DockerDriver(client, owner="me", gpus=False), port=None, protocol=None)
    assert await asyncio.wait_for(asyncio.shield(worker.exited), 10) == "exited with code 0"
    assert place.lines == ["one", "two", "three"]


async def test_a_daemon_that_hangs_does_not_keep_the_server_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_driver, "_CLOSE_WITHIN_S", 0.05)
    client = SmallClient()
    driver = DockerDriver(client, owner="me", gpus=False)
    worker = await Workplace(tmp_path).start(driver, port=None, protocol=None)
    await worker.wait_ready()
    await driver.close()
    assert not worker.exited.done()
    client.end.set()
    await asyncio.wait_for(asyncio.shield(worker.exited), 10)
