"""What refers to itself is collected once in a while, whatever Python's own counting says."""

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from yottabench.emulator import garbage


class Node:
    """Refers to itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.mark.anyio
@pytest.mark.usefixtures("thresholds")
async def test_garbage_that_lived_long_is_collected_and_what_was_there_before_is_not_looked_at() -> None:
    early = Node()
    garbage.collect_less()
    late = Node()
    gc.collect()  # has lived through a collection: Python would count to millions before it looks at it again
    found, left = asyncio.Event(), asyncio.Event()
    weakref.finalize(late, found.set)
    weakref.finalize(early, left.set)
    del early, late
    collecting = asyncio.create_task(garbage.collect_now_and_then(0.01))
    async with asyncio.timeout(20):
        await found.wait()
    collecting.cancel()
    assert not left.is_set()
