"""docs/drivers.md says how images are mapped, and what it shows works."""

import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from yottabench.emulator.drivers import images_file
from yottabench.emulator.drivers.base import RunningWorker, WorkerSpec
from yottabench.emulator.drivers.choice import ENTRY_POINTS, make_drivers
from yottabench.emulator.drivers.images_file import read_images_file
from yottabench.emulator.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "drivers.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_images_file_of_the_page_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "images.toml"
    path.write_text(blocks("toml")[0])
    images = read_images_file(path)
    assert [type(entry).__name__ for entry in images.entries] == ["CommandImage", "ExternalImage"]
    assert images.find("vllm/vllm-openai:v0.9") is images.entries[0]


def test_every_key_of_the_images_file_is_documented() -> None:
    source = inspect.getsource(images_file)
    asked = set(re.findall(r"(?:table|ready)\.(?:text|texts|text_table|integer|number|table)\(\s*\"(\w+)\"", source))
    assert {"pattern", "command", "urls", "ready", "timeout_s", "workers_per_url"} <= asked
    documented = set(re.findall(r"`(\w+)(?: = [^`]*)?`", PAGE))
    assert asked - documented == set()


def test_the_entry_point_of_the_page_is_in_the_group_that_is_looked_in() -> None:
    (group,) = tomllib.loads(blocks("toml")[1])["project"]["entry-points"]
    assert group == ENTRY_POINTS


@pytest.mark.anyio
async def test_the_driver_of_the_page_is_one(tmp_path: Path) -> None:
    namespace: dict[str, Any] = {}
    exec(blocks("python")[0], namespace)

    class Installed:
        name = "mine"

        def load(self) -> Any:
            return namespace["driver"]

    drivers = make_drivers(Settings(data=tmp_path, drivers=("mine",)), namespace["Mine"](), lambda: [Installed()])
    driver = drivers[0]
    assert driver.takes("mine/model")
    lines: list[str] = []
    worker: RunningWorker = await driver.start(
        WorkerSpec("7", "6", "mine/model", 8000, "http", {}, None, 1), lines.append
    )
    await worker.wait_ready()
    assert worker.address(8000) == ("127.0.0.1", 8000)
    assert lines == ["worker 7 uses port 8000"]
    worker.kill()
    await worker.stop(1)
    assert worker.exited.done()
    await driver.close()
