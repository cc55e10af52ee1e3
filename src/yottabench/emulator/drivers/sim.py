"""The `sim` driver: every worker is a small real HTTP server in a process of its own."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import re
import sys
from pathlib import Path

import httptools

from yottabench.clock import Clock, Timer
from yottabench.emulator.drivers.base import LogLine, RunningWorker, WorkerSpec, WorkerStartError
from yottabench.emulator.drivers.process import WorkerProcess
from yottabench.emulator.drivers.sim_worker.images import known_image
from yottabench.emulator.drivers.sim_worker.model import log_normal

_log = logging.getLogger("yottabench.sim")

_DEFAULT_IMAGE = "sim/echo"
_WARNED_MAX = 1000  # images that the server's own log warns of, once each
_COLD_START_CV = 0.3  # between a warm image cache and a cold one; nothing is published
# Without site-packages' start-up files and without OpenSSL a worker starts in half the time and half the memory.
_BOOT = "import sys; sys.path += sys.argv[1:]; sys.modules['ssl'] = None; from sim_worker.server import main; main()"
_PATHS = (str(Path(__file__).parent), str(Path(httptools.__file__).parent.parent))
# All that an interpreter may need of our environment; the rest, keys above all, is no worker's business.
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "LANG", "TZ")
_LISTENING = re.compile(r"listening on http://127\.0\.0\.1:([0-9]+) ")


class SimWorker(WorkerProcess):
    """One simulated worker; it answers for every `workerPort` on the one port it has."""

    def __init__(self, log: LogLine) -> None:
        super().__init__(log)
        self._listening: asyncio.Future[int] = self._loop.create_future()
        self._warm = asyncio.Event()
        self._warm.set()

    def stay_cold_until(self, clock: Clock, due_ms: int) -> None:
        """Not be ready before `due_ms`."""
        self._warm.clear()
        timer: Timer = clock.call_at(due_ms, self._warm.set)
        self.exited.add_done_callback(lambda _: timer.cancel())

    def heard(self, line: str) -> None:
        """Take one line of output; the first that says where it listens makes the worker ready."""
        super().heard(line)
        if not self._listening.done():
            found = _LISTENING.match(line)
            if found:
                self._listening.set_result(int(found[1]))

    def address(self, port: int) -> tuple[str, int]:
        """See RunningWorker; the same for every `port`."""
        return "127.0.0.1", self._listening.result()

    async def wait_ready(self) -> None:
        """See RunningWorker."""
        await asyncio.wait([self._listening, self.exited], return_when=asyncio.FIRST_COMPLETED)
        warm = self._loop.create_task(self._warm.wait())
        await asyncio.wait([warm, self.exited], return_when=asyncio.FIRST_COMPLETED)
        warm.cancel()
        if self.exited.done():
            last = f" Its last line: {self.last_line}" if self.last_line else ""
            raise WorkerStartError(f"The worker {self.exited.result()} before it answered.{last}")


class SimDriver:
    """Runs every image: those of `sim_worker` as what they are, any other as `sim/echo`, with a warning in its log.

    `cold_start_s` is the mean time, by `clock`, that a worker takes to become ready.
    """

    def __init__(self, clock: Clock | None = None, cold_start_s: float = 0.0) -> None:
        self._clock = clock
        self._cold_start_s = cold_start_s
        self._warned: set[str] = set()
        self._workers: set[SimWorker] = set()
        self._closed = False

    @property
    def name(self) -> str:
        """See Driver."""
        return "sim"

    def takes(self, image: str) -> bool:
        """See Driver; true for every image, so this driver comes last."""
        return True

    async def start(self, spec: WorkerSpec, log: LogLine) -> RunningWorker:
        """See Driver."""
        image = known_image(spec.image)
        if image is None:
            image = _DEFAULT_IMAGE
            self._warn(spec.image, image, log)
        if spec.command is not None:
            log("warning: the initialization command is not run; simulated workers have no shell")
        worker = SimWorker(log)
        if self._cold_start_s and self._clock is not None:
            cold_s = log_normal(random.Random(f"{spec.seed}/cold"), self._cold_start_s, _COLD_START_CV)
            log(f"cold start: ready in {cold_s:.3f} s")
            worker.stay_cold_until(self._clock, self._clock.now_ms() + round(cold_s * 1000))
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        await worker.spawn([sys.executable, "-I", "-S", "-c", _BOOT, *_PATHS], environment)
        if self._closed:
            await worker.stop(0)
            raise WorkerStartError("The server is going down and starts no more workers.")
        self._workers.add(worker)
        worker.exited.add_done_callback(lambda _: self._workers.discard(worker))
        settings = {name: value for name, value in spec.env.items() if name.startswith("SIM_")}
        config = {"image": image, "seed": spec.seed, "env": settings}
        worker.write_input(json.dumps(config).encode() + b"\n")
        return worker

    def _warn(self, image: str, runs_as: str, log: LogLine) -> None:
        warning = f"image {image} is mapped to no driver and runs simulated, as {runs_as}"
        log(f"warning: {warning}")
        if image not in self._warned and len(self._warned) < _WARNED_MAX:
            self._warned.add(image)
            _log.warning("I%s. Map it in the images file (docs/drivers.md) to run the real one.", warning[1:])

    async def close(self) -> None:
        """See Driver."""
        self._closed = True
        workers = list(self._workers)
        for worker in workers:
            worker.kill()
        if workers:
            await asyncio.wait([worker.exited for worker in workers])
