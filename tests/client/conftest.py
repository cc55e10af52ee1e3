from collections.abc import Iterator

import pytest

from tests.client.batches import BusyQueue
from tests.client.clients import KINDS, Kind, end_loop
from tests.client.service import Service


@pytest.fixture(scope="session", autouse=True)
def _one_loop() -> Iterator[None]:
    yield
    end_loop()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Which client: each claim holds for both."""
    return request.param


@pytest.fixture
def service(kind: Kind) -> Service:
    return Service(kind)


@pytest.fixture
def queue(service: Service) -> BusyQueue:
    """What the service answers from, where a test says nothing else."""
    made = BusyQueue()
    service.answer = made.handle
    return made
