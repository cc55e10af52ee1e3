"""The extension point for running workers: what a driver is given and what it must give back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    import asyncio

LogLine = Callable[[str], None]
"""Takes one line of a worker's output, without its newline; never blocks, never raises, and is safe in any thread."""


class WorkerStartError(Exception):
    """The worker never became ready and never will; `reason` is one sentence for people (no secrets)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@attrs.frozen
class WorkerSpec:
    """One worker to start.

    `port` and `protocol` are the endpoint's `expose` (None without one). `env` and `command` may hold secrets and are
    therefore kept out of the repr. `seed` is the only source of chance a simulated worker may use. `registry` is the
    endpoint's `imageRegistry`, `gpus` its `gpuCount`. `replacing`: it takes the place of an older worker, which goes
    when this one is ready.
    """

    worker_id: str
    endpoint_id: str
    image: str
    port: int | None
    protocol: str | None
    env: Mapping[str, str] = attrs.field(repr=False)
    command: str | None = attrs.field(repr=False)
    seed: int
    registry: str | None = None
    gpus: int = 0
    replacing: bool = False


class RunningWorker(Protocol):
    """A worker that was started; it may still be starting, and it may already be gone.

    One that is reached through TLS has, besides, an attribute `tls`: the ssl.SSLContext to reach it with.
    """

    @property
    def pid(self) -> int | None:
        """The id of its process on this machine, or None when it has none."""
        ...

    @property
    def exited(self) -> asyncio.Future[str]:
        """Resolves once, with a reason for people, when the worker is gone, whether that was wanted or not.

        Await it through `asyncio.shield`: cancelling it would cancel it for everybody.
        """
        ...

    def address(self, port: int) -> tuple[str, int]:
        """Where a task for `workerPort` `port` is sent, as (host, port); valid once the worker is ready."""
        ...

    async def wait_ready(self) -> None:
        """Return when the worker answers; raise WorkerStartError if it never will."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Ask it to finish what it holds, kill it after `grace_s`, and return when it is gone. Idempotent."""
        ...

    def kill(self) -> None:
        """End it now, without grace. Idempotent; `exited` resolves soon after."""
        ...


class Driver(Protocol):
    """Starts workers of the images it takes."""

    @property
    def name(self) -> str:
        """The name settings and messages use for this driver."""
        ...

    def takes(self, image: str) -> bool:
        """Whether this driver runs `image`; the first driver that says yes gets it."""
        ...

    async def start(self, spec: WorkerSpec, log: LogLine) -> RunningWorker:
        """Start a worker and return at once (see `RunningWorker.wait_ready`).

        Raises WorkerStartError if it cannot even be started. `log` is called once per line of output.
        """
        ...

    async def close(self) -> None:
        """Kill the workers that are left and free what the driver holds. Idempotent."""
        ...
