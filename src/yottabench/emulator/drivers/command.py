"""The `command` driver: an image is a program of this machine, one supervised process per worker."""

from __future__ import annotations

import asyncio
import fnmatch
import json
import os
import random
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import attrs

from yottabench.emulator.drivers import addresses
from yottabench.emulator.drivers.base import LogLine, RunningWorker, WorkerSpec, WorkerStartError
from yottabench.emulator.drivers.images_file import CommandImage, Images
from yottabench.emulator.drivers.process import WorkerProcess
from yottabench.emulator.drivers.readiness import Settled, wait_until_ready

_SUPERVISOR = str(Path(__file__).with_name("supervisor.py"))
# What a program needs of our environment to run at all; `inherit` of the images file adds to it. The rest, keys above
# all, is no worker's business.
_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_*", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
# A supervisor that does not end its worker in this time is ended itself, and its command dies with it.
_KILL_WITHIN_S = 5.0
_PLACEHOLDER = re.compile(r"\{(port|host|worker_id|endpoint_id|image)\}")
_INITIALIZATION = "YOTTABENCH_INITIALIZATION"
# Evaluated, not run in a shell of its own: what it exports is meant for the command. It travels in the environment,
# which other users of the machine cannot read, and not among the arguments, which they can.
INITIALIZE_AND_RUN = (
    f'yottabench_command=${_INITIALIZATION}; unset {_INITIALIZATION}; eval "$yottabench_command" || {{ '
    "yottabench_code=$?; "
    'echo "the initialization command ended with code $yottabench_code" >&2; exit "$yottabench_code"; }; '
    'unset yottabench_command; exec "$@"'
)


def with_initialization(
    shell: str, command: str, argv: tuple[str, ...], env: dict[str, str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The arguments and environment that run `command` in `shell` and then become `argv`."""
    return (shell, "-c", INITIALIZE_AND_RUN, shell, *argv), {**env, _INITIALIZATION: command}


@attrs.frozen
class Place:
    """Where a worker listens. `own`: an address of its own, on which every port is what it says."""

    host: str
    port: int | None
    own: addresses.OwnAddress | None

    def address(self, port: int) -> tuple[str, int]:
        """Where a request for `port` goes."""
        return (self.host, port) if self.own is not None or self.port is None else (self.host, self.port)

    def release(self) -> None:
        """Give the address back. Idempotent."""
        if self.own is not None:
            self.own.release()


class CommandWorker(WorkerProcess):
    """One command under its supervisor."""

    def __init__(self, log: LogLine, image: CommandImage, place: Place, check: Settled) -> None:
        super().__init__(log)
        self._image = image
        self._place = place
        self._check = check
        self._said_ready = False
        self.exited.add_done_callback(lambda _: place.release())

    def heard(self, line: str) -> None:
        """Take one line of output; it may be the one that shows that the worker is ready."""
        super().heard(line)
        if self._image.ready.line is not None and self._image.ready.line.search(line):
            self._said_ready = True

    def address(self, port: int) -> tuple[str, int]:
        """See RunningWorker."""
        return self._place.address(port)

    async def wait_ready(self) -> None:
        """See RunningWorker."""
        check = self._check
        if check.check == "none":
            return
        try:
            await wait_until_ready(self._missing, self.exited, check.timeout_s, check.what)
        except WorkerStartError as error:
            self.kill()
            await asyncio.wait([self.exited])
            last = f" Its last line: {self.last_line}" if self.last_line else ""
            raise WorkerStartError(error.reason + last) from None

    async def _missing(self) -> str | None:
        if self._check.check == "log":
            return None if self._said_ready else "no such line so far"
        assert self._check.port is not None  # settled
        return await self._check.missing(self.address(self._check.port))

    def kill(self) -> None:
        """See RunningWorker. The supervisor kills everything that the command has started, and then ends."""
        if self.exited.done() or self._transport is None:
            return
        self._stop_asked = True
        pipe = self._transport.get_pipe_transport(0)
        if pipe is not None:
            pipe.close()
        self._loop.call_later(_KILL_WITHIN_S, super().kill)


class CommandDriver:
    """Runs the images to which the images file gives a command."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._workers: set[CommandWorker] = set()
        self._closed = False

    @property
    def name(self) -> str:
        """See Driver."""
        return "command"

    def takes(self, image: str) -> bool:
        """See Driver."""
        return isinstance(self._images.find(image), CommandImage)

    async def start(self, spec: WorkerSpec, log: LogLine) -> RunningWorker:
        """See Driver."""
        image = self._images.find(spec.image)
        assert isinstance(image, CommandImage)  # `takes` said so
        check = image.ready.settled(spec, image.port)
        if check.check == "none" and image.ready.check == "auto":
            log("warning: nothing says when this worker is ready (no expose, no port); it counts as ready at once")
        place = _place(spec.port or image.port, spec.seed)
        worker = CommandWorker(log, image, place, check)
        try:
            argv, env = _filled(spec, image, place)
            config = {"argv": argv, "env": env, "cwd": str(image.working_directory)}
            await worker.spawn([sys.executable, "-I", "-S", _SUPERVISOR], inherited(()))
        except BaseException:
            place.release()
            raise
        worker.write_input(json.dumps(config).encode() + b"\n")
        self._workers.add(worker)
        worker.exited.add_done_callback(lambda _: self._workers.discard(worker))
        if self._closed:
            await worker.stop(0)
            raise WorkerStartError("The server is going down and starts no more workers.")
        return worker

    async def close(self) -> None:
        """See Driver."""
        self._closed = True
        workers = list(self._workers)
        for worker in workers:
            worker.kill()
        if workers:
            await asyncio.wait([worker.exited for worker in workers])


def inherited(more: tuple[str, ...]) -> dict[str, str]:
    """What of our environment a worker gets; patterns such as CUDA_* are among the names of `more`."""
    return {
        name: value
        for name, value in os.environ.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in (*_INHERITED, *more))
    }


def _place(port: int | None, seed: int) -> Place:
    own = addresses.OwnAddress.reserve(random.Random(seed))
    if own is not None:
        return Place(own.host, port, own)
    return Place("127.0.0.1", addresses.free_port(), None)


def _filled(spec: WorkerSpec, image: CommandImage, place: Place) -> tuple[tuple[str, ...], dict[str, str]]:
    """What to run, the initialization command first, and its environment; every placeholder replaced."""
    values = {
        "port": None if place.port is None else str(place.port),
        "host": place.host,
        "worker_id": spec.worker_id,
        "endpoint_id": spec.endpoint_id,
        "image": spec.image,
    }

    def fill(text: str) -> str:
        return _PLACEHOLDER.sub(lambda found: _value(found[1], values, spec), text)

    given: Mapping[str, str] = {name: fill(text) for name, text in image.environment.items()}
    argv = tuple(fill(text) for text in image.command)
    ours = {"HOST": place.host, "WORKER_ID": spec.worker_id, "ENDPOINT_ID": spec.endpoint_id}
    if place.port is not None:
        ours["PORT"] = str(place.port)
    env = {**inherited(image.inherit), **ours, **given, **spec.env}
    if spec.command is None:
        return argv, env
    if not image.initialization_shell:
        raise WorkerStartError(
            f"Image {spec.image} takes no initializationCommand: its initialization_shell is empty in the images file."
            " Leave it out of the endpoint."
        )
    return with_initialization(image.initialization_shell, spec.command, argv, env)


def _value(name: str, values: Mapping[str, str | None], spec: WorkerSpec) -> str:
    value = values[name]
    if value is None:
        raise WorkerStartError(
            f"The command of image {spec.image} needs {{{name}}}, but the endpoint has no expose and the image no port"
            " in the images file. Give it one of them."
        )
    return value
