"""The `external` driver: an image is servers that run already, which are neither started nor ended."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from yottabench.emulator.drivers.base import LogLine, RunningWorker, WorkerSpec, WorkerStartError
from yottabench.emulator.drivers.images_file import ExternalImage, Images, Url
from yottabench.emulator.drivers.readiness import Settled, wait_until_ready

# A worker that was ready is looked at so often, and given up after so many looks in a row that found it not ready.
_LOOK_S = 5.0
_MISSES = 3


class ExternalWorker:
    """One server, lent to one worker (or several, see `workers_per_url`) of an endpoint."""

    def __init__(
        self, driver: ExternalDriver, image: ExternalImage, check: Settled, log: LogLine, *, replacing: bool
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._driver = driver
        self._image = image
        self._check = check
        self._log = log
        self._replacing = replacing
        self._url: Url | None = None
        self._watch: asyncio.Task[None] | None = None
        self.tls: ssl.SSLContext | None = None
        self.exited: asyncio.Future[str] = self._loop.create_future()

    @property
    def pid(self) -> int | None:
        """See RunningWorker; always None."""
        return None

    def address(self, port: int) -> tuple[str, int]:
        """See RunningWorker."""
        assert self._url is not None  # lent before the worker is ready
        return self._url.host, self._url.port or port

    async def wait_ready(self) -> None:
        """See RunningWorker; waits for a server that is not lent to another worker, then for its answer."""
        check = self._check
        try:
            await self._borrow()
            assert self._url is not None
            await wait_until_ready(self._missing, self.exited, check.timeout_s, check.what)
        except WorkerStartError:
            self.kill()
            raise
        self._log(f"uses the server {self._url.text}")
        if check.check != "none":
            self._watch = self._loop.create_task(self._look_after())

    async def _borrow(self) -> None:
        said = False
        while (url := self._driver.lend(self._image, replacing=self._replacing)) is None:
            if not said:
                self._log("every server of this image is lent to another worker; waiting for one")
                said = True
            await asyncio.wait([self._driver.returned(), self.exited], return_when=asyncio.FIRST_COMPLETED)
            if self.exited.done():
                raise WorkerStartError(f"The worker {self.exited.result()} before a server was free.")
        self._url = url
        if url.tls:
            self.tls = ssl.create_default_context()

    async def _missing(self) -> str | None:
        if self._check.check == "none":
            return None
        assert self._url is not None
        port = self._url.port or self._check.port
        if port is None:
            return None
        return await self._check.missing(self.address(port), self.tls)

    async def _look_after(self) -> None:
        misses = 0
        while misses < _MISSES:
            await asyncio.sleep(_LOOK_S)
            found = await self._missing()
            misses = 0 if found is None else misses + 1
            if found is not None:
                self._log(f"warning: the server does not answer as it should: {found}")
        self._end("stopped answering")

    async def stop(self, grace_s: float) -> None:
        """See RunningWorker; the server runs on, for others."""
        self.kill()

    def kill(self) -> None:
        """See RunningWorker; the server runs on."""
        self._end("was let go, as asked")

    def _end(self, reason: str) -> None:
        if self.exited.done():
            return
        self.exited.set_result(reason)
        if self._watch is not None:
            self._watch.cancel()
        if self._url is not None:
            self._driver.take_back(self._image, self._url)


class ExternalDriver:
    """Lends servers of the images file to workers."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._lent: dict[tuple[str, str], int] = {}
        self._returned: asyncio.Future[None] | None = None
        self._workers: set[ExternalWorker] = set()

    @property
    def name(self) -> str:
        """See Driver."""
        return "external"

    def takes(self, image: str) -> bool:
        """See Driver."""
        return isinstance(self._images.find(image), ExternalImage)

    async def start(self, spec: WorkerSpec, log: LogLine) -> RunningWorker:
        """See Driver."""
        image = self._images.find(spec.image)
        assert isinstance(image, ExternalImage)  # `takes` said so
        if spec.command is not None:
            log("warning: the initialization command is not run; this worker is a server that runs already")
        if spec.env:
            log("warning: the environment variables are not set; this worker is a server that runs already")
        default_port = image.port or next((url.port for url in image.urls if url.port is not None), None)
        check = image.ready.settled(spec, default_port)
        worker = ExternalWorker(self, image, check, log, replacing=spec.replacing)
        self._workers.add(worker)
        worker.exited.add_done_callback(lambda _: self._workers.discard(worker))
        return worker

    async def close(self) -> None:
        """See Driver."""
        for worker in list(self._workers):
            worker.kill()

    # ---- for its workers

    def lend(self, image: ExternalImage, *, replacing: bool) -> Url | None:
        """The server with the fewest workers, or None when all have as many as they may.

        A worker that replaces another may be one too many: the other goes only when this one is ready.
        """
        counts = [(self._lent.get((image.pattern, url.text), 0), url) for url in image.urls]
        count, url = min(counts, key=lambda each: each[0])
        if count >= image.workers_per_url + replacing:
            return None
        self._lent[image.pattern, url.text] = count + 1
        return url

    def take_back(self, image: ExternalImage, url: Url) -> None:
        """The worker that had it is gone."""
        self._lent[image.pattern, url.text] -= 1
        if self._returned is not None:
            with contextlib.suppress(asyncio.InvalidStateError):
                self._returned.set_result(None)
            self._returned = None

    def returned(self) -> asyncio.Future[None]:
        """Resolves when the next server is free again."""
        if self._returned is None:
            self._returned = asyncio.get_running_loop().create_future()
        return self._returned
