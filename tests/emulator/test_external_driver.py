import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from yottabench.emulator.drivers import external
from yottabench.emulator.drivers.base import RunningWorker, WorkerSpec, WorkerStartError
from yottabench.emulator.drivers.external import ExternalDriver
from yottabench.emulator.drivers.images_file import read_images_file

pytestmark = pytest.mark.anyio

PEM = Path(__file__).parent / "tls" / "receiver.test.pem"


class Elsewhere:
    """A server that somebody else runs; it answers with `status` and counts who asked."""

    def __init__(self) -> None:
        self.status = 200
        self.requests: list[str] = []
        self.asked = asyncio.Event()
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head.split()[1].decode())
            self.asked.set()
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % self.status)
        writer.close()

    async def asked_times(self, times: int) -> None:
        async with asyncio.timeout(10):
            while len(self.requests) < times:
                self.asked.clear()
                await self.asked.wait()


@contextlib.asynccontextmanager
async def elsewhere(tls: ssl.SSLContext | None = None) -> AsyncIterator[Elsewhere]:
    it = Elsewhere()
    server = await asyncio.start_server(it.handle, "127.0.0.1", 0, ssl=tls)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
        await server.wait_closed()


class Workplace:
    """An images file in the making and the driver on it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.lines: list[str] = []

    def driver(self, *urls: str, more: str = "") -> ExternalDriver:
        path = self._folder / "images.toml"
        path.write_text(f'[[image]]\npattern = "it"\nurls = {json.dumps(urls)}\n{more}\n')
        return ExternalDriver(read_images_file(path))

    async def start(self, driver: ExternalDriver, **changes: Any) -> RunningWorker:
        fields: dict[str, Any] = {
            "worker_id": "77",
            "endpoint_id": "66",
            "image": "it",
            "port": 8000,
            "protocol": "http",
            "env": {},
            "command": None,
            "seed": 1,
        }
        return await driver.start(WorkerSpec(**{**fields, **changes}), self.lines.append)


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


async def until(
    condition: Callable[[], bool], turn: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0)
) -> None:
    for _ in range(1000):
        if condition():
            return
        await turn()
    raise AssertionError("it did not come about")


async def test_only_images_with_urls_are_taken(workplace: Workplace) -> None:
    driver = workplace.driver("http://127.0.0.1:1", more='[[image]]\npattern = "near"\ncommand = ["true"]')
    assert [driver.takes(image) for image in ("it", "it:latest", "near", "other")] == [True, True, False, False]
    assert driver.name == "external"


async def test_a_worker_is_a_server_that_answers(workplace: Workplace) -> None:
    async with elsewhere() as server:
        driver = workplace.driver(f"http://127.0.0.1:{server.port}")
        worker = await workplace.start(driver)
        await worker.wait_ready()
        assert worker.pid is None
        # Whatever port a task asks for: the server has this one.
        assert worker.address(8000) == worker.address(1) == ("127.0.0.1", server.port)
        assert server.requests == ["/"]
        assert workplace.lines == [f"uses the server http://127.0.0.1:{server.port}"]
        await driver.close()
        assert worker.exited.result() == "was let go, as asked"


async def test_a_server_may_have_every_port(workplace: Workplace) -> None:
    async with elsewhere() as server:
        worker = await workplace.start(workplace.driver("http://127.0.0.1:{port}"), port=server.port)
        await worker.wait_ready()
        assert worker.address(server.port) == ("127.0.0.1", server.port)
        assert worker.address(9) == ("127.0.0.1", 9)
        worker.kill()


async def test_it_is_not_ready_before_the_server_is(workplace: Workplace) -> None:
    async with elsewhere() as server:
        server.status = 503
        driver = workplace.driver(f"http://127.0.0.1:{server.port}", more='ready = { http = "/health" }')
        worker = await workplace.start(driver)
        waiting = asyncio.create_task(worker.wait_ready())
        await server.asked_times(2)
        assert not waiting.done()
        server.status = 200
        await waiting
        assert set(server.requests) == {"/health"}
        await driver.close()


async def test_a_server_that_is_not_there_is_given_up_in_time(workplace: Workplace) -> None:
    async with elsewhere() as server:
        pass
    driver = workplace.driver(f"http://127.0.0.1:{server.port}", more="ready = { tcp = true, timeout_s = 0.05 }")
    worker = await workplace.start(driver)
    with pytest.raises(WorkerStartError, match=r"did not accept a connection on port .* within 0\.05 s"):
        await worker.wait_ready()
    assert worker.exited.done()


async def test_a_check_can_be_left_out(workplace: Workplace) -> None:
    driver = workplace.driver("http://127.0.0.1:1", more="ready = { none = true }")
    worker = await workplace.start(driver, port=None, protocol=None)
    await worker.wait_ready()
    assert worker.address(5) == ("127.0.0.1", 1)
    await worker.stop(1)
    assert worker.exited.done()


async def test_each_worker_has_a_server_to_itself_and_waits_for_one(workplace: Workplace) -> None:
    async with elsewhere() as one, elsewhere() as two:
        driver = workplace.driver(*(f"http://127.0.0.1:{server.port}" for server in (one, two)))
        workers = [await workplace.start(driver) for _ in range(3)]
        for worker in workers[:2]:
            await worker.wait_ready()
        assert {worker.address(1)[1] for worker in workers[:2]} == {one.port, two.port}
        waiting = asyncio.create_task(workers[2].wait_ready())
        await until(lambda: "every server of this image is lent to another worker; waiting for one" in workplace.lines)
        assert not waiting.done()
        freed = workers[0].address(1)
        await workers[0].stop(1)
        await waiting
        assert workers[2].address(1) == freed
        await driver.close()


async def test_a_worker_that_waits_for_a_server_can_be_killed(workplace: Workplace) -> None:
    driver = workplace.driver("http://127.0.0.1:1", more="ready = { none = true }")
    await (await workplace.start(driver)).wait_ready()
    second = await workplace.start(driver)
    waiting = asyncio.create_task(second.wait_ready())
    await until(lambda: len(workplace.lines) == 2)
    second.kill()
    with pytest.raises(WorkerStartError, match="before a server was free"):
        await waiting
    await driver.close()


async def test_servers_can_be_shared_evenly(workplace: Workplace) -> None:
    urls = ("http://127.0.0.1:1", "http://127.0.0.1:2")
    driver = workplace.driver(*urls, more="workers_per_url = 2\nready = { none = true }")
    workers = [await workplace.start(driver) for _ in range(4)]
    for worker in workers:
        await worker.wait_ready()
    assert [worker.address(9)[1] for worker in workers] == [1, 2, 1, 2]
    await driver.close()


async def test_a_replacement_may_overlap_with_what_it_replaces(workplace: Workplace) -> None:
    driver = workplace.driver("http://127.0.0.1:1", more="ready = { none = true }")
    old = await workplace.start(driver)
    await old.wait_ready()
    new = await workplace.start(driver, replacing=True)
    await new.wait_ready()
    assert new.address(9) == old.address(9)
    await old.stop(1)
    third = await workplace.start(driver)
    waiting = asyncio.create_task(third.wait_ready())
    await until(lambda: any("waiting for one" in line for line in workplace.lines))
    await driver.close()
    with pytest.raises(WorkerStartError):
        await waiting


async def test_a_server_that_stops_answering_ends_its_worker(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external, "_LOOK_S", 0.0)
    async with elsewhere() as server:
        worker = await workplace.start(workplace.driver(f"http://127.0.0.1:{server.port}"))
        await worker.wait_ready()
        await server.asked_times(3)
        assert not worker.exited.done()
        server.status = 500
        assert await asyncio.wait_for(asyncio.shield(worker.exited), 10) == "stopped answering"
    warnings = [line for line in workplace.lines if "does not answer as it should" in line]
    assert warnings == ["warning: the server does not answer as it should: it answered with status 500"] * 3


async def test_what_cannot_be_done_for_it_is_said(workplace: Workplace) -> None:
    driver = workplace.driver("http://127.0.0.1:1", more="ready = { none = true }")
    await workplace.start(driver, command="echo hunter2", env={"KEY": "hunter2"})
    assert [line.partition(";")[0] for line in workplace.lines] == [
        "warning: the initialization command is not run",
        "warning: the environment variables are not set",
    ]
    assert "hunter2" not in "".join(workplace.lines)
    await driver.close()


async def test_https_is_spoken_to_https_urls(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_tls.load_cert_chain(PEM)
    client_tls = ssl.create_default_context(cafile=PEM)
    client_tls.check_hostname = False  # the certificate is for a name, the test serves on an address
    monkeypatch.setattr(ssl, "create_default_context", lambda: client_tls)
    async with elsewhere(server_tls) as server:
        driver = workplace.driver(f"https://127.0.0.1:{server.port}")
        worker = await workplace.start(driver)
        await worker.wait_ready()
        assert getattr(worker, "tls", None) is client_tls
        assert server.requests == ["/"]
        await driver.close()
