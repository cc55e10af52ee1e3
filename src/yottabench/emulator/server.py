"""Puts the parts together: takes up what the store holds, serves, and leaves nothing running behind."""

import asyncio
import contextlib
import ipaddress
import logging
import random
import secrets
import signal
import socket
from collections.abc import Callable, Generator
from typing import Any

import uvicorn

from yottabench.clock import Ids, LoopClock
from yottabench.emulator.app import Api
from yottabench.emulator.control import Control
from yottabench.emulator.drivers.base import Driver
from yottabench.emulator.drivers.sim import SimDriver
from yottabench.emulator.endpoints import Services, fail_open_tasks
from yottabench.emulator.faults import Faults
from yottabench.emulator.guard import GuardedProtocol, sweep
from yottabench.emulator.limits import LOG_BYTES_PER_WORKER, RETENTION_MS
from yottabench.emulator.logs import LogStore
from yottabench.emulator.settings import Settings
from yottabench.emulator.stats import Stats
from yottabench.emulator.store.base import EndpointStatus
from yottabench.emulator.store.sqlite import SqliteStore
from yottabench.emulator.store.writer import Writer
from yottabench.emulator.webhooks import Outbox
from yottabench.emulator.wire import Wire

_log = logging.getLogger("yottabench.server")

KEEP_ALIVE_S = 75  # longer than the idle time of common clients, so that they close first
GRACE_S = 3  # for answers under way when the server is told to stop


class CannotServe(Exception):
    """The server cannot start; the message says why and what to do."""


class Emulator:
    """Everything between the socket and the workers, on one event loop."""

    def __init__(self, settings: Settings) -> None:
        loop = asyncio.get_running_loop()
        self._settings = settings
        self._clock = LoopClock(loop)
        self._store = SqliteStore(settings.data)
        self._writer = Writer(self._store, loop, self._clock)
        self._logs = LogStore(
            settings.data / "logs.sqlite",
            max_bytes_per_worker=LOG_BYTES_PER_WORKER,
            retention_ms=RETENTION_MS,
            now_ms=self._clock.now_ms,
        )
        stats = Stats()
        self._faults = Faults(self._clock)
        self._outbox = Outbox(settings, self._clock, self._store, self._writer, stats, self._faults)
        self._drivers: tuple[Driver, ...] = (SimDriver(),)
        self._on = Services(
            settings=settings,
            clock=self._clock,
            ids=Ids(self._clock, random.Random(secrets.randbits(256))),
            store=self._store,
            writer=self._writer,
            logs=self._logs,
            outbox=self._outbox,
            stats=stats,
            drivers=self._drivers,
            faults=self._faults,
        )
        self._api = Api(self._on)
        self.control = Control(stats, self._writer)
        self.application = Wire(settings, self._api, self.control)
        self._leftovers: asyncio.Future[Any] | None = None

    def open(self) -> None:
        """Take up what an earlier server left: endpoints, their queues, what was leased, what is to be delivered."""
        self._store.recover(self._clock.now_ms())
        for record in self._store.endpoints():
            if record.should_run:
                record.status = EndpointStatus.RUNNING if record.spec.workers == 0 else EndpointStatus.INITIALIZING
            self._api.open(record)
        for next_ms, task in self._store.waiting():
            self._api.endpoints[task.endpoint_id].dispatcher.add_waiting(task, next_ms)
        self._leftovers = asyncio.gather(
            *(fail_open_tasks(endpoint_id, self._on) for endpoint_id in self._store.deleted_with_open_tasks())
        )
        self._outbox.load()
        self.control.ready = True

    async def close(self) -> None:
        """End workers and writers; what was not finished is taken up by the next server."""
        self.control.ready = False
        if self._leftovers is not None:
            self._leftovers.cancel()
        for endpoint in (*self._api.endpoints.values(), *self._api.ending):
            await endpoint.close()
        await self._outbox.close()
        for driver in self._drivers:
            await driver.close()
        self._writer.close()
        self._store.close()
        self._logs.close()


class _Server(uvicorn.Server):
    """uvicorn, but signals are the caller's business, and it says when it listens."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._listening()


def bind(host: str, port: int, *, with_keys: bool) -> socket.socket:
    """A listening socket. Raises CannotServe when the address is taken, or open to others without keys."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise CannotServe(f"--host {host} is no address of this machine: {error}.") from None
    if not ipaddress.ip_address(address[0]).is_loopback and not with_keys:
        raise CannotServe(
            f"--host {host} can be reached from other machines, and no API keys are set. Name a file of keys with"
            " --keys-file, or serve on 127.0.0.1."
        )
    try:
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise CannotServe(
            f"Port {port} of {host} cannot be used: {error.strerror}. Choose another with --port; 0 is any free one."
        ) from None


async def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. `announce` gets the URL once requests are answered.

    Raises CannotServe, or StoreError when the store cannot be opened.
    """
    listener = bind(settings.host, settings.port, with_keys=bool(settings.api_keys))
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    emulator = Emulator(settings)
    try:
        emulator.open()
        config = uvicorn.Config(
            emulator.application,  # pyright: ignore[reportArgumentType] -- its ASGI types are mappings, ours too
            http=GuardedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=2048,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
        server = _Server(config, lambda: announce(url))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: setattr(server, "should_exit", True))
        sweeping = loop.create_task(sweep(server.server_state.connections))
        await server.serve(sockets=[listener])
        sweeping.cancel()
    finally:
        await emulator.close()
        listener.close()
