"""Fixtures of pytest that give every test an emulator of its own: `yotta_emulator` and `yotta_emulator_server`."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Generator, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

    from yottabench.client import Client

_ARGS = "yotta_emulator_args"
_START_S = 30.0
_STOP_S = 10.0


class EmulatorError(Exception):
    """The emulator did not start, or refused something; the message says why."""


class YottaEmulatorServer:
    """One running `yottabench serve`; every test of the session that asks for an emulator gets a namespace of it."""

    def __init__(self, url: str, http: httpx.Client) -> None:
        self.url = url
        self._http = http

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        api_key: str | None = None,
        params: Mapping[str, str | int] | None = None,
    ) -> Any:
        """One request to the control surface, `path` without /_emulator/; the data of its answer.

        With an `api_key` it is about the namespace of that key, without about the whole server. Raises EmulatorError.
        """
        headers = {} if api_key is None else {"X-Api-Key": api_key}
        answer = self._http.request(method, f"/_emulator/{path}", json=body, params=params, headers=headers)
        if answer.status_code != 200:
            raise EmulatorError(f"{method} /_emulator/{path}: {answer.json()['message']}")
        found = answer.json()
        return found if path == "snapshot" else found["data"]  # a snapshot comes as it is kept, without an envelope


class Faults:
    """The fault rules of one test; see docs/emulator-control.md for their fields."""

    def __init__(self, server: YottaEmulatorServer, api_key: str) -> None:
        self._server = server
        self._api_key = api_key

    def add(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Put a rule in force: `add("error", operation="submitTask", status=503, count=2)`. Returns it with its id."""
        return self._server.call("POST", "faults", {"kind": kind, **fields}, api_key=self._api_key)

    def list(self) -> list[dict[str, Any]]:
        """The rules in force, each with how often it was `matched` and has `fired`."""
        return self._server.call("GET", "faults", api_key=self._api_key)

    def clear(self) -> None:
        """Lift all rules."""
        self._server.call("DELETE", "faults", api_key=self._api_key)


class YottaEmulator:
    """An emulator as one test sees it: with an API key, and so a namespace, that nobody else has."""

    def __init__(self, server: YottaEmulatorServer) -> None:
        self._server = server
        self._froze = False
        self.url = server.url
        self.api_key = f"pytest-{uuid.uuid4().hex}"
        self.faults = Faults(server, self.api_key)

    def client(self, **options: Any) -> Client:
        """A yottabench client with this key; `options` are those of yottabench.client.Client."""
        from yottabench.client import Client

        options = {"api_key": self.api_key, "base_url": self.url, **options}
        return Client(**options)

    def advance(self, seconds: float) -> None:
        """Move time forward and run all that becomes due; returns when it is done."""
        self._server.call("POST", "clock/advance", {"seconds": seconds})

    def freeze(self) -> None:
        """Let time stand still, but for `advance`, until the test ends."""
        self._froze = True
        self._server.call("POST", "clock/freeze")

    def thaw(self) -> None:
        """Let time pass again."""
        self._server.call("POST", "clock/thaw")

    def attempts(self, endpoint_id: str, task_id: str) -> list[dict[str, Any]]:
        """Every attempt at a task, oldest first."""
        return self._server.call("GET", f"tasks/{endpoint_id}/{task_id}/attempts")["attempts"]

    def deliveries(self, **query: str | int) -> list[dict[str, Any]]:
        """The webhooks of this test, newest first, each with its attempts; `query`: endpointId, taskId, state."""
        return self._server.call("GET", "deliveries", api_key=self.api_key, params=query)["deliveries"]

    def redeliver(self, delivery_id: int) -> None:
        """Send a webhook once more, now."""
        self._server.call("POST", f"deliveries/{delivery_id}/redeliver")

    def snapshot(self) -> dict[str, Any]:
        """All that this test has made so far, to be put back with `load`."""
        return self._server.call("GET", "snapshot", api_key=self.api_key)

    def load(self, snapshot: Mapping[str, Any]) -> None:
        """Throw away what there is and put a snapshot in its place."""
        self._server.call("POST", "snapshot/load", snapshot, api_key=self.api_key)

    def reset(self) -> None:
        """As at the start of the test: no endpoint, no worker, no task, no fault."""
        self._server.call("POST", "reset", api_key=self.api_key)

    def end(self) -> None:
        """Leave nothing behind."""
        self.reset()
        if self._froze:
            self.thaw()


def pytest_addoption(parser: pytest.Parser) -> None:
    """See pytest."""
    parser.addini(_ARGS, "Options of `yottabench serve` for the emulator of the tests.", type="args", default=[])


@pytest.fixture(scope="session")
def yotta_emulator_server(request: pytest.FixtureRequest) -> Iterator[YottaEmulatorServer]:
    """An emulator in a process of its own, for the whole session; under pytest-xdist one for each of its workers."""
    try:
        import httpx
    except ModuleNotFoundError as error:
        raise EmulatorError(f"The emulator's fixtures need the package {error.name}.") from None

    arguments = [str(each) for each in request.config.getini(_ARGS)]
    with _running(arguments) as url, httpx.Client(base_url=url, trust_env=False, timeout=90.0) as http:
        yield YottaEmulatorServer(url, http)


@pytest.fixture
def yotta_emulator(yotta_emulator_server: YottaEmulatorServer) -> Iterator[YottaEmulator]:
    """An emulator with nothing in it, for one test."""
    emulator = YottaEmulator(yotta_emulator_server)
    yield emulator
    emulator.end()


@contextlib.contextmanager
def _running(arguments: list[str]) -> Generator[str]:
    command = [sys.executable, "-m", "yottabench", "serve", "--port", "0", "--json", "--ephemeral", "--end-with-stdin"]
    with tempfile.TemporaryFile() as errors:
        # It ends with our end of its standard input, so none is left behind when the tests are killed.
        process = subprocess.Popen(  # noqa: S603 -- our own program, with what the project's own settings say
            [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
        try:
            yield _url_of(process, errors)
        finally:
            _stop(process)


def _url_of(process: subprocess.Popen[bytes], errors: IO[bytes]) -> str:
    assert process.stdout is not None
    until_s = time.monotonic() + _START_S
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, until_s - time.monotonic()))
        piece = os.read(process.stdout.fileno(), 4096) if ready else b""
        if not piece:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip() or "It said nothing."
            raise EmulatorError(f"The emulator did not start. {said}")
        line += piece
    return str(json.loads(line)["url"])


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdin.close()
    process.stdout.close()
