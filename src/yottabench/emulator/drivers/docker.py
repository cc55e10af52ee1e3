"""The `docker` driver: an image is a container image, run by whatever Docker daemon answers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

from yottabench.emulator.drivers.base import LogLine, RunningWorker, WorkerSpec, WorkerStartError
from yottabench.emulator.drivers.command import with_initialization
from yottabench.emulator.drivers.process import LineSplitter
from yottabench.emulator.drivers.readiness import Readiness, Settled, wait_until_ready
from yottabench.emulator.drivers.sim_worker.images import known_image
from yottabench.emulator.settings import Settings

_log = logging.getLogger("yottabench.docker")

_T = TypeVar("_T")

OWNER_LABEL = "yottabench.owner"
_WORKER_LABEL = "yottabench.worker"
_ENDPOINT_LABEL = "yottabench.endpoint"
# Spellings of Docker Hub, which is what an image name without a registry means.
_DOCKER_HUB = ("", "docker.io", "index.docker.io", "registry.hub.docker.com", "hub.docker.com")
_SHELL = "/bin/sh"
_READ_BYTES, _READ_PAUSE_S = 64 * 1024, 0.02  # as fast as processes of this machine are read
_CLOSE_WITHIN_S = 10.0  # what a daemon that does not answer leaves then is removed by the next server


class DockerUnavailable(Exception):
    """No Docker daemon can be used; the message says why and what to do."""


class Container(Protocol):
    """What is used of docker.models.containers.Container."""

    @property
    def attrs(self) -> Mapping[str, Any]: ...
    def start(self) -> None: ...
    def reload(self) -> None: ...
    def logs(self, *, stream: bool, follow: bool) -> Iterable[bytes]: ...
    def wait(self, *, timeout: float | None) -> Mapping[str, Any]: ...
    def stop(self, *, timeout: int) -> None: ...
    def kill(self) -> None: ...
    def remove(self, *, force: bool, v: bool) -> None: ...


class _Images(Protocol):
    def get(self, name: str) -> Any: ...
    def pull(self, repository: str) -> Any: ...


class _Containers(Protocol):
    def create(self, image: str, **options: Any) -> Container: ...
    def list(self, *, all: bool, filters: Mapping[str, str]) -> Sequence[Container]: ...


class Client(Protocol):
    """What is used of docker.DockerClient; tests put something smaller in its place."""

    @property
    def images(self) -> _Images: ...
    @property
    def containers(self) -> _Containers: ...
    def close(self) -> None: ...


class DockerWorker:
    """One container from its image's pull to its removal."""

    def __init__(
        self, client: Client, spec: WorkerSpec, log: LogLine, options: Mapping[str, Any], check: Settled
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._client = client
        self._spec = spec
        self._log = log
        self._options = options
        self._check = check
        self._container: Container | None = None
        self._kill_asked = asyncio.Event()
        self._stop_asked = False
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._start_failure = ""
        self._last_line = ""
        self.exited: asyncio.Future[str] = self._loop.create_future()
        self._life = self._loop.create_task(self._live())

    @property
    def pid(self) -> int | None:
        """See RunningWorker; None: its process is the daemon's."""
        return None

    def address(self, port: int) -> tuple[str, int]:
        """See RunningWorker: the published port if there is one, else the container's own address."""
        assert self._container is not None  # started
        network = _table(self._container.attrs["NetworkSettings"])
        published = _table(network.get("Ports")).get(f"{port}/tcp")
        if published:
            return "127.0.0.1", int(published[0]["HostPort"])
        own = [each["IPAddress"] for each in _table(network.get("Networks")).values() if each.get("IPAddress")]
        return (own or [network.get("IPAddress") or "127.0.0.1"])[0], port

    # ---- its life

    async def _live(self) -> None:
        try:
            reason = await self._run()
        except Exception as error:
            reason = self._start_failure = f"could not be run by Docker: {_first_line(error)}"
        if self._container is not None:
            try:
                await _in_thread(lambda: _remove(self._container))
            except Exception as error:
                _log.warning("The container of worker %s is left behind: %s", self._spec.worker_id, _first_line(error))
        if not self.exited.done():
            self.exited.set_result(f"{reason}, as asked" if self._stop_asked else reason)

    async def _run(self) -> str:
        image = await self._unless_killed(_in_thread(self._pulled))
        if image is None:
            return "was ended before it was started"
        options = self._entry(image)
        self._container = container = await _in_thread(
            lambda: self._client.containers.create(self._reference, **options)
        )
        if self._kill_asked.is_set():
            return "was ended before it was started"
        await _in_thread(container.start)
        if self._kill_asked.is_set():
            # Asked for while it started, which is too early for the daemon.
            return "was ended by signal SIGKILL"
        await _in_thread(container.reload)
        self._started.set_result(None)
        await _in_thread(lambda: self._follow(container))
        result = await _in_thread(lambda: container.wait(timeout=None))
        await _in_thread(container.reload)
        return _how_it_ended(int(result["StatusCode"]), container.attrs)

    async def _unless_killed(self, work: asyncio.Future[_T]) -> _T | None:
        killed = self._loop.create_task(self._kill_asked.wait())
        try:
            await asyncio.wait([work, killed], return_when=asyncio.FIRST_COMPLETED)
        finally:
            killed.cancel()
        if work.done():
            return work.result()
        work.cancel()
        return None

    @property
    def _reference(self) -> str:
        return image_reference(self._spec.image, self._spec.registry)

    def _pulled(self) -> Any:
        name = self._reference
        try:
            return self._client.images.get(name)
        except Exception as error:
            if type(error).__name__ not in {"ImageNotFound", "NotFound"}:
                raise
        self._log(f"pulling image {name}")
        # Without a tag the library would pull every tag of some daemons; "latest" is what everybody means.
        image = self._client.images.pull(name)
        self._log(f"pulled image {name}")
        return image

    def _entry(self, image: Any) -> dict[str, Any]:
        """The options, with the initialization command before what the image would run."""
        if self._spec.command is None:
            return dict(self._options)
        config = _table(image.attrs.get("Config"))
        argv = tuple(cast("list[str]", [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]))
        (shell, *rest), env = with_initialization(_SHELL, self._spec.command, argv, dict(self._options["environment"]))
        return {**self._options, "entrypoint": [shell], "command": rest, "environment": env}

    def _follow(self, container: Container) -> None:
        """Runs in a thread until the container writes no more; a flood of output is read at a bearable pace."""
        lines = LineSplitter()
        since_pause = 0
        for piece in container.logs(stream=True, follow=True):
            self._hear(lines.feed(piece))
            since_pause += len(piece)
            if since_pause >= _READ_BYTES:
                time.sleep(_READ_PAUSE_S)
                since_pause = 0
        self._hear(lines.end())

    def _hear(self, lines: list[str]) -> None:
        for line in lines:
            self._log(line)
            self._last_line = line

    # ---- what is asked of it

    async def wait_ready(self) -> None:
        """See RunningWorker."""
        await asyncio.wait([self._started, self.exited], return_when=asyncio.FIRST_COMPLETED)
        if not self._started.done():
            raise WorkerStartError(f"The worker {self.exited.result()}.")
        check = self._check
        if check.check == "none":
            return
        try:
            await wait_until_ready(self._missing, self.exited, check.timeout_s, check.what)
        except WorkerStartError as error:
            self.kill()
            await asyncio.wait([self.exited])
            last = f" Its last line: {self._last_line}" if self._last_line else ""
            raise WorkerStartError(error.reason + last) from None

    async def _missing(self) -> str | None:
        assert self._check.port is not None  # settled
        return await self._check.missing(self.address(self._check.port))

    async def stop(self, grace_s: float) -> None:
        """See RunningWorker."""
        if self.exited.done():
            return
        self._stop_asked = True
        container = self._container
        if container is None or not self._started.done():
            self.kill()
        else:
            with contextlib.suppress(Exception):  # it may be gone already; `exited` tells
                await _in_thread(lambda: container.stop(timeout=max(0, round(grace_s))))
        await asyncio.wait([self.exited])

    def kill(self) -> None:
        """See RunningWorker."""
        if self.exited.done():
            return
        self._stop_asked = True
        self._kill_asked.set()
        container = self._container
        if container is not None:
            _in_thread(container.kill).add_done_callback(_seen)


class DockerDriver:
    """Runs every image but the simulated ones. Containers that an earlier server of the same data left are removed."""

    def __init__(self, client: Client, *, owner: str, gpus: bool) -> None:
        self._client = client
        self._owner = owner
        self._gpus = gpus
        self._workers: set[DockerWorker] = set()
        self._closed = False
        for container in client.containers.list(all=True, filters={"label": f"{OWNER_LABEL}={owner}"}):
            _remove(container)

    @classmethod
    def connect(cls, settings: Settings) -> DockerDriver:
        """The driver on the daemon that DOCKER_HOST, or the system's default, names. Raises DockerUnavailable."""
        try:
            import docker
        except ModuleNotFoundError:
            raise DockerUnavailable(
                "--driver docker needs the package docker. Install it with: pip install 'yottabench[docker]'"
            ) from None
        library: Any = docker
        try:
            # It asks for the daemon's version at once.
            return cls(library.from_env(), owner=owner_of(settings), gpus=settings.docker_gpus)
        except Exception as error:
            raise DockerUnavailable(
                f"--driver docker found no Docker daemon that answers: {_first_line(error)}. Start one, name it in"
                " DOCKER_HOST, or leave the option out."
            ) from error

    @property
    def name(self) -> str:
        """See Driver."""
        return "docker"

    def takes(self, image: str) -> bool:
        """See Driver."""
        return known_image(image) is None

    async def start(self, spec: WorkerSpec, log: LogLine) -> RunningWorker:
        """See Driver."""
        if self._closed:
            raise WorkerStartError("The server is going down and starts no more workers.")
        check = Readiness().settled(spec, None)
        worker = DockerWorker(self._client, spec, log, self._options(spec), check)
        self._workers.add(worker)
        worker.exited.add_done_callback(lambda _: self._workers.discard(worker))
        return worker

    def _options(self, spec: WorkerSpec) -> dict[str, Any]:
        options: dict[str, Any] = {
            "name": f"yottabench-{spec.worker_id}",
            "labels": {
                OWNER_LABEL: self._owner,
                _WORKER_LABEL: spec.worker_id,
                _ENDPOINT_LABEL: spec.endpoint_id,
            },
            "environment": {"WORKER_ID": spec.worker_id, "ENDPOINT_ID": spec.endpoint_id, **spec.env},
            # Any free port, of this machine only; other ports are reached at the container's own address.
            "ports": {} if spec.port is None else {f"{spec.port}/tcp": ("127.0.0.1", None)},
        }
        if self._gpus and spec.gpus:
            options["device_requests"] = [{"count": spec.gpus, "capabilities": [["gpu"]]}]
        return options

    async def close(self) -> None:
        """See Driver."""
        self._closed = True
        workers = list(self._workers)
        for worker in workers:
            worker.kill()
        if workers:
            await asyncio.wait([worker.exited for worker in workers], timeout=_CLOSE_WITHIN_S)
        with contextlib.suppress(Exception):
            self._client.close()


def owner_of(settings: Settings) -> str:
    """What tells the containers of one data folder from those of another."""
    return hashlib.sha256(str(settings.data.resolve()).encode()).hexdigest()[:16]


def image_reference(image: str, registry: str | None) -> str:
    """The name Docker knows an image by: the registry in front, unless that is Docker Hub or there already."""
    host = (registry or "").removeprefix("https://").removeprefix("http://").rstrip("/")
    place = host.partition("/")[0].lower()
    if place in _DOCKER_HUB or image.startswith(host + "/"):
        return image
    return f"{host}/{image}"


def _how_it_ended(code: int, attrs: Mapping[str, Any]) -> str:
    if _table(attrs.get("State")).get("OOMKilled"):
        return "was ended for using too much memory"
    if code > 128:
        with contextlib.suppress(ValueError):
            return f"was ended by signal {signal.Signals(code - 128).name}"
    return f"exited with code {code}"


def _table(value: Any) -> Mapping[str, Any]:
    return value or {}


def _remove(container: Container | None) -> None:
    if container is None:
        return
    try:
        container.remove(force=True, v=True)
    except Exception as error:
        if type(error).__name__ != "NotFound":
            raise


def _first_line(error: Exception) -> str:
    # What the daemon said, without the library's words about the request.
    text = str(getattr(error, "explanation", None) or error).strip().partition("\n")[0]
    return (text or type(error).__name__).rstrip(".")


def _in_thread(work: Callable[[], _T]) -> asyncio.Future[_T]:
    """Run `work` in a thread of its own: a daemon that does not answer holds up nobody else, nor our own end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast("_T", result))

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except Exception as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="yottabench-docker", daemon=True).start()
    return future


def _seen(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
