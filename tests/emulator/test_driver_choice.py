import asyncio
import logging
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.emulator.harness import Bench, FakeClock, FakeDriver, Network
from yottabench.emulator.drivers import choice
from yottabench.emulator.drivers.base import Driver, WorkerSpec, WorkerStartError
from yottabench.emulator.drivers.choice import DriverError, make_drivers
from yottabench.emulator.drivers.docker import DockerDriver, DockerUnavailable
from yottabench.emulator.drivers.sim import SimDriver
from yottabench.emulator.server import CannotServe
from yottabench.emulator.settings import Settings

FILE = '[[image]]\npattern = "near"\ncommand = ["true"]\n[[image]]\npattern = "far"\nurls = ["http://127.0.0.1:1"]\n'


@attrs.frozen
class Installed:
    """An entry point of a package that is installed."""

    name: str
    made: Any

    def load(self) -> Any:
        return self.made


@pytest.fixture
def last() -> Driver:
    return FakeDriver(Network())


def names(drivers: tuple[Driver, ...]) -> list[str]:
    return [driver.name for driver in drivers]


def test_without_settings_everything_is_simulated(tmp_path: Path, last: Driver) -> None:
    assert make_drivers(Settings(data=tmp_path), last) == (last,)


@pytest.mark.parametrize("where", ["data", "named"])
def test_the_images_file_comes_first(tmp_path: Path, last: Driver, where: str) -> None:
    path = tmp_path / ("images.toml" if where == "data" else "other.toml")
    path.write_text(FILE)
    settings = Settings(data=tmp_path, images=None if where == "data" else path)
    drivers = make_drivers(settings, last)
    assert names(drivers) == ["command", "external", "fake"]
    first = {image: next(each.name for each in drivers if each.takes(image)) for image in ("near", "far", "sim/echo")}
    assert first == {"near": "command", "far": "external", "sim/echo": "fake"}


def test_a_named_file_that_is_not_there_is_an_error(tmp_path: Path, last: Driver) -> None:
    with pytest.raises(DriverError, match=r"none\.toml cannot be read"):
        make_drivers(Settings(data=tmp_path, images=tmp_path / "none.toml"), last)


def test_a_file_that_is_wrong_is_an_error(tmp_path: Path, last: Driver) -> None:
    (tmp_path / "images.toml").write_text("[[image]]")
    with pytest.raises(DriverError, match="has neither command nor urls"):
        make_drivers(Settings(data=tmp_path), last)


def test_drivers_are_asked_in_the_order_they_are_named(
    tmp_path: Path, last: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images.toml").write_text(FILE)
    seen: list[Settings] = []
    ray, docker = FakeDriver(Network()), FakeDriver(Network())
    ray.name, docker.name = "ray", "docker"
    monkeypatch.setattr(DockerDriver, "connect", lambda settings: docker)

    def factory(settings: Settings) -> Driver:
        seen.append(settings)
        return ray

    settings = Settings(data=tmp_path, drivers=("ray", "docker"))
    drivers = make_drivers(settings, last, lambda: [Installed("other", None), Installed("ray", factory)])
    assert names(drivers) == ["command", "external", "ray", "docker", "fake"]
    assert seen == [settings]


def test_an_installed_driver_that_is_not_named_is_not_even_loaded(tmp_path: Path, last: Driver) -> None:
    assert make_drivers(Settings(data=tmp_path), last, lambda: [Installed("ray", None)]) == (last,)


def test_a_driver_that_is_none_is_an_error_that_lists_them(tmp_path: Path, last: Driver) -> None:
    with pytest.raises(DriverError, match=r"--driver podman names no driver\. There are: docker, ray\."):
        make_drivers(Settings(data=tmp_path, drivers=("podman",)), last, lambda: [Installed("ray", None)])


def test_a_driver_that_fails_is_an_error_that_says_how(tmp_path: Path, last: Driver) -> None:
    def factory(settings: Settings) -> Driver:
        raise ImportError("no module named ray")

    with pytest.raises(DriverError, match="The driver ray of an installed package cannot be used: ImportError: no mod"):
        make_drivers(Settings(data=tmp_path, drivers=("ray",)), last, lambda: [Installed("ray", factory)])


def test_docker_without_a_daemon_is_an_error(tmp_path: Path, last: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(settings: Settings) -> Driver:
        raise DockerUnavailable("no daemon")

    monkeypatch.setattr(DockerDriver, "connect", connect)
    with pytest.raises(DriverError, match="no daemon"):
        make_drivers(Settings(data=tmp_path, drivers=("docker",)), last)


def test_entry_points_are_looked_for_in_the_documented_group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def entry_points(group: str) -> list[Installed]:
        asked.append(group)
        return [Installed("mine", lambda settings: FakeDriver(Network()))]

    monkeypatch.setattr(choice.metadata, "entry_points", entry_points)
    drivers = make_drivers(Settings(data=tmp_path, drivers=("mine",)), FakeDriver(Network()))
    assert asked == ["yottabench.drivers"]
    assert len(drivers) == 2


@pytest.mark.anyio
async def test_a_server_with_a_wrong_images_file_does_not_start_and_lets_go_of_its_data(tmp_path: Path) -> None:
    (tmp_path / "images.toml").write_text("[[image]]")
    with pytest.raises(CannotServe, match=r"images\.toml, line 1, \[\[image\]\] no\. 1: has neither"):
        Bench(tmp_path)
    (tmp_path / "images.toml").write_text("")
    await Bench(tmp_path).close()


# ---- simulated workers


def spec(seed: int = 1, image: str = "sim/echo") -> WorkerSpec:
    return WorkerSpec("7", "6", image, None, None, {}, None, seed)


@pytest.mark.anyio
async def test_a_cold_start_delays_readiness_by_the_servers_clock() -> None:
    clock = FakeClock()
    lines: list[str] = []
    driver = SimDriver(clock, cold_start_s=100)
    worker = await driver.start(spec(), lines.append)
    ready = asyncio.create_task(worker.wait_ready())
    while not any(line.startswith("listening") for line in lines):
        await asyncio.wait([ready], timeout=0.01)
    (said,) = [line for line in lines if line.startswith("cold start: ready in ")]
    cold_s = float(said.split()[-2])
    assert 20 < cold_s < 500
    await clock.advance(cold_s - 0.001)
    assert not ready.done()
    await clock.advance(0.002)
    await ready
    await driver.close()


@pytest.mark.anyio
async def test_a_worker_that_dies_in_its_cold_start_says_so() -> None:
    driver = SimDriver(FakeClock(), cold_start_s=100)
    worker = await driver.start(spec(), lambda line: None)
    ready = asyncio.create_task(worker.wait_ready())
    await driver.close()
    with pytest.raises(WorkerStartError, match="was ended by signal SIGKILL, as asked before it answered"):
        await ready


@pytest.mark.anyio
async def test_cold_starts_are_drawn_from_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    from yottabench.emulator.drivers import sim

    async def no_process(self: Any, *_: object) -> None:
        pass

    monkeypatch.setattr(sim.SimWorker, "spawn", no_process)
    driver = SimDriver(FakeClock(), cold_start_s=10)
    lines: list[str] = []
    for seed in (*range(300), 5):
        worker = await driver.start(spec(seed), lines.append)
        worker.exited.set_result("gone")
    drawn = [float(line.split()[-2]) for line in lines]
    assert drawn[-1] == drawn[5]
    assert len(set(drawn)) > 290
    assert statistics.mean(drawn) == pytest.approx(10, rel=0.1)


@pytest.mark.anyio
async def test_an_image_that_no_driver_takes_is_simulated_with_a_warning_that_is_seen(
    caplog: pytest.LogCaptureFixture,
) -> None:
    driver = SimDriver()
    lines: list[str] = []
    with caplog.at_level(logging.WARNING):
        for image in ("vllm/vllm-openai:latest", "vllm/vllm-openai:latest", "sim/echo"):
            await driver.start(spec(image=image), lines.append)
    await driver.close()
    warning = "image vllm/vllm-openai:latest is mapped to no driver and runs simulated, as sim/echo"
    assert lines.count(f"warning: {warning}") == 2
    assert [record.message for record in caplog.records] == [
        f"I{warning[1:]}. Map it in the images file (docs/drivers.md) to run the real one."
    ]


@pytest.mark.anyio
async def test_the_server_gives_its_settings_to_the_simulated_driver(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    from yottabench.emulator import server

    asked: list[tuple[object, ...]] = []
    real = server.make_drivers

    def spy(settings: Settings, last: Driver) -> tuple[Driver, ...]:
        asked.append((settings.cold_start_s, last))
        return real(settings, last)

    monkeypatch.setattr(server, "make_drivers", spy)
    bench = make_bench(cold_start_s=3.0)
    assert asked == [(3.0, bench.driver)]
