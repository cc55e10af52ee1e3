import pytest

from tests.client.service import Service


@pytest.fixture
def service() -> Service:
    return Service()
