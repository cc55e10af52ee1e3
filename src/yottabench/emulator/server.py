"""Puts the parts together: takes up what the store holds, serves, and leaves nothing running behind."""

import asyncio
import ipaddress
import logging
import os
import random
import secrets
import signal
import socket
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

import attrs
import uvicorn

from yottabench.clock import Ids, LoopClock
from yottabench.emulator import garbage
from yottabench.emulator.app import Api
from yottabench.emulator.control.access import Access
from yottabench.emulator.control.metrics import Sources
from yottabench.emulator.control.seeds import SeedError, plant
from yottabench.emulator.control.state import State
from yottabench.emulator.control.surface import Control, Parts
from yottabench.emulator.direct import DirectAnswers
from yottabench.emulator.direct_protocol import DirectProtocol
from yottabench.emulator.dispatch import Dispatcher
from yottabench.emulator.drivers.choice import DriverError, make_drivers
from yottabench.emulator.drivers.sim import SimDriver
from yottabench.emulator.faults import Faults
from yottabench.emulator.gateway import FAULT_OPERATION, Gateway
from yottabench.emulator.guard import sweep
from yottabench.emulator.hosts import Application, HostCheck, LocalNames
from yottabench.emulator.known_heads import KnownHeads
from yottabench.emulator.limits import LOG_BYTES_PER_WORKER
from yottabench.emulator.listening import Server
from yottabench.emulator.logs import LogStore
from yottabench.emulator.places import Places
from yottabench.emulator.retention import DAY_MS, Retention
from yottabench.emulator.services import Services
from yottabench.emulator.settings import Settings
from yottabench.emulator.settling import Leases, Settler
from yottabench.emulator.stats import Stats
from yottabench.emulator.store.base import StoreBroken
from yottabench.emulator.store.forked import open_store
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
        self._store = open_store(settings.data)
        try:
            # Not before the store: who holds that may remove containers that an earlier server of it left.
            self._drivers = make_drivers(settings, SimDriver(self._clock, settings.cold_start_s))
        except DriverError as error:
            self._store.close()
            raise CannotServe(str(error)) from None
        self._writer = Writer(self._store, loop, self._clock)
        self._logs = self._open_logs(settings.data / "logs.sqlite")
        stats = Stats()
        self.faults = Faults(self._clock)
        self._outbox = Outbox(settings, self._clock, self._store, self._writer, stats, self.faults)
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
            faults=self.faults,
            places=Places(settings.max_workers_total),
        )
        self._api = Api(self._on)
        self._state = State(self._on, self._api, self._store)
        self._names = LocalNames(settings.host, settings.gateway_domain)
        self.retention = Retention(settings, self._clock, self._writer, self._logs, stats)
        self.control = Control(self._parts())
        self._wire = Wire(settings, self._api, self.control)
        self.application = Gateway(settings, self._api.endpoints, stats, self.faults, self._wire)

    def _open_logs(self, path: Path) -> LogStore:
        try:
            return LogStore(
                path,
                max_bytes_per_worker=LOG_BYTES_PER_WORKER,
                max_bytes=int(self._settings.logs_max_mb * 1_000_000),
                retention_ms=int(self._settings.retention_days * DAY_MS),
                now_ms=self._clock.now_ms,
            )
        except (OSError, sqlite3.Error) as error:
            self._writer.close()
            self._store.close()
            is_full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
            next_step = "Make room on the disk." if is_full else "Move it away; a new one is made."
            raise CannotServe(f"{path} cannot be used for logs: {error}. {next_step}") from None

    def _parts(self) -> Parts:
        writer, outbox, retention = self._writer, self._outbox, self.retention
        return Parts(
            settings=self._settings,
            clock=self._clock,
            settler=Settler(
                {
                    "commits": lambda: writer.unanswered,
                    "tasks on their way": lambda: sum(each.busy for each in self._dispatchers()) - writer.retrying,
                    "webhooks": lambda: outbox.busy - writer.retrying,
                    "the sweep of retention": lambda: retention.busy,
                }
            ),
            leases=Leases(self._dispatchers),
            state=self._state,
            history=self._store,
            sources=Sources(
                stats=self._on.stats,
                writer=writer,
                outbox=outbox,
                faults=self.faults,
                places=self._on.places,
                store=self._store,
                endpoints=self._api.endpoints,
                answers=lambda: self._wire.answers,
                ahead_ms=lambda: self._clock.ahead_ms,
            ),
            operations=self._api.operations | {FAULT_OPERATION},
            access=Access(self._settings.control_key, self._names),
        )

    def _dispatchers(self) -> list[Dispatcher]:
        return [endpoint.dispatcher for endpoint in (*self._api.endpoints.values(), *self._api.ending)]

    def direct(self, *, guarded: bool) -> DirectAnswers:
        """What is answered without the application; `guarded` as it is."""

        def is_plain(host: bytes) -> bool:
            return self.application.label_of(host) is None and not (guarded and not self._names.has(host))

        return DirectAnswers(self._api, self._wire, is_plain)

    def guarded(self) -> Application:
        """The application for a listener on loopback: only what was sent to one of this machine's names gets in."""
        return HostCheck(self.application, self._names)

    async def plant(self) -> None:
        """Make what the seed file says. Raises CannotServe."""
        if self._settings.seed_file is not None:
            try:
                await plant(self._settings.seed_file, self._api, self._settings.api_keys)
            except SeedError as error:
                raise CannotServe(str(error)) from None

    def when_broken(self, run: Callable[[StoreBroken], None]) -> None:
        """Call `run`, on the event loop, once the store has broken: the server is to end."""
        loop = asyncio.get_running_loop()
        self._store.when_broken = lambda broken: loop.call_soon_threadsafe(run, broken)

    def open(self) -> None:
        """Take up what an earlier server left: endpoints, their queues, what was leased, what is to be delivered."""
        self._store.recover(self._clock.now_ms())
        self._state.take_up()
        self.control.ready = True

    async def close(self) -> None:
        """End workers and writers; what was not finished is taken up by the next server."""
        self.control.ready = False
        await self.retention.close()
        await self._state.close()
        for endpoint in (*self._api.endpoints.values(), *self._api.ending):
            await endpoint.close()
        await self._outbox.close()
        for driver in self._drivers:
            await driver.close()
        self._writer.close()
        self._store.close()
        self._logs.close()


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


async def serve(settings: Settings, announce: Callable[[str], None], *, end_with_stdin: bool = False) -> None:
    """Serve until SIGTERM or SIGINT, or the end of standard input. `announce` gets the URL once requests are answered.

    Raises CannotServe, or StoreError when the store cannot be opened or has broken.
    """
    listener = bind(settings.host, settings.port, with_keys=bool(settings.api_keys))
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    emulator = Emulator(attrs.evolve(settings, port=port))
    try:
        emulator.open()
        await emulator.plant()
        is_local = ipaddress.ip_address(host).is_loopback
        application = emulator.guarded() if is_local else emulator.application
        config = uvicorn.Config(
            application,  # pyright: ignore[reportArgumentType] -- its ASGI types are mappings, ours too
            interface="asgi3",  # not guessed: the outer application is a plain function that gives a coroutine
            http=partial(DirectProtocol, direct=emulator.direct(guarded=is_local), heads=KnownHeads()),  # pyright: ignore[reportArgumentType] -- it is only called
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
        server = Server(config, lambda: announce(url))

        def stop() -> None:
            emulator.faults.remove(emulator.faults.rules(None))  # answers that they hold back would be waited for
            server.stop()

        def stop_broken(broken: StoreBroken) -> None:
            failed.append(broken)
            stop()

        failed: list[StoreBroken] = []
        emulator.when_broken(stop_broken)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        if end_with_stdin:
            _watch_stdin(loop, stop)
        emulator.retention.start()
        garbage.collect_less()
        upkeep = [
            loop.create_task(sweep(server.server_state.connections)),
            loop.create_task(garbage.collect_now_and_then()),
        ]
        await server.serve(sockets=[listener])
        for each in upkeep:
            each.cancel()
        if failed:
            raise failed[0]
    finally:
        await emulator.close()
        listener.close()


def _watch_stdin(loop: asyncio.AbstractEventLoop, ended: Callable[[], None]) -> None:
    """Whoever started this server holds the other end: it closes when they end, however that happens."""

    def read() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            ended()

    try:
        loop.add_reader(0, read)
    except OSError as error:  # a file or /dev/null, which have no end to wait for, or nothing at all
        raise CannotServe(
            f"--end-with-stdin cannot watch this standard input ({error.strerror}). Give it a pipe, or leave it out."
        ) from None
