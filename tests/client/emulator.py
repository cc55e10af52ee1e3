"""A real emulator in a process of its own, for tests of the client against it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import servers
from yottabench.client import Client

RESOURCE = {"region": "us-east-1", "gpuType": "NVIDIA_RTX_4090_24G", "gpuCount": 1}
START_S = 30.0


@contextmanager
def emulator(*options: str) -> Iterator[str]:
    """Its base URL, as long as the block runs; its data is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder, servers.emulator(Path(folder), *options) as url:
        yield url


def make_endpoint(url: str, key: str, *, workers: int = 1, image: str = "sim/echo", running: bool = True) -> str:
    """The id of a new QUEUE endpoint, RUNNING."""
    with Client(key, url) as client:
        made = client.endpoints.create(
            name="test",
            image=image,
            resources=[RESOURCE],
            workers=workers,
            container_volume_in_gb=20,
            service_mode="QUEUE",
            expose={"port": 8000, "protocol": "http"},
        )
        until_s = time.monotonic() + START_S
        while running and client.endpoints.get(made.id).running_workers < workers:
            assert time.monotonic() < until_s, "the workers did not start"
            time.sleep(0.02)
        return made.id
