"""Servers and receivers that end with their test."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.processes import Receive, Receiver, Serve, Server


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with contextlib.ExitStack() as running:

        def start(*options: str, **environment: str) -> Server:
            server = Server(tmp_path / "stderr.txt", *(options or ("--ephemeral",)), **environment)
            running.callback(server.close)
            return server

        yield start


@pytest.fixture
def receive() -> Iterator[Receive]:
    with contextlib.ExitStack() as open_ones:

        def start(*statuses: int) -> Receiver:
            receiver = Receiver(*statuses)
            open_ones.callback(receiver.close)
            return receiver

        yield start
