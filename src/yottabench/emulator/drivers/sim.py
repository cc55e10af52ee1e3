"""The `sim` driver: every worker is a small real HTTP server in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import httptools

from yottabench.emulator.drivers.base import LogLine, RunningWorker, WorkerSpec, WorkerStartError
from yottabench.emulator.drivers.process import WorkerProcess
from yottabench.emulator.drivers.sim_worker.images import known_image

_DEFAULT_IMAGE = "sim/echo"
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
        if self.exited.done():
            last = f" Its last line: {self.last_line}" if self.last_line else ""
            raise WorkerStartError(f"The worker {self.exited.result()} before it answered.{last}")


class SimDriver:
    """Runs every image: those of `sim_worker` as what they are, any other as `sim/echo` with a warning in its log."""

    def __init__(self) -> None:
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
            log(f"warning: image {spec.image} is mapped to no driver and runs simulated, as {image}")
        if spec.command is not None:
            log("warning: the initialization command is not run; simulated workers have no shell")
        worker = SimWorker(log)
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

    async def close(self) -> None:
        """See Driver."""
        self._closed = True
        workers = list(self._workers)
        for worker in workers:
            worker.kill()
        if workers:
            await asyncio.wait([worker.exited for worker in workers])
