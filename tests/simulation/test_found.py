"""What the simulation has found, each made smaller."""

import pytest

from tests.emulator.harness import Bench
from yottabench.emulator.store.base import PutWorker, WorkerStatus

pytestmark = pytest.mark.anyio


async def test_a_status_that_a_full_disk_held_up_does_not_overwrite_the_one_after_it(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    worker = bench.driver.workers[0]
    await bench.submit(endpoint_id)  # so that it drains, and does not go at once
    bench.writer.refuse_those[PutWorker] = 1
    await bench.put(f"/{endpoint_id}/workers?count=0")
    await bench.clock.advance(0)  # STOPPING could not be written down
    worker.die()
    await bench.clock.advance(10)
    assert bench.sql("SELECT status FROM worker") == [(WorkerStatus.TERMINATED,)]


async def test_a_worker_that_died_while_its_readiness_was_written_down_costs_no_task_an_attempt(bench: Bench) -> None:
    bench.driver.by_hand = True
    endpoint_id = await bench.endpoint()
    await bench.submit(endpoint_id, taskId="t")
    worker = bench.driver.workers[0]
    bench.writer.held = True  # the commit takes long
    worker.become_ready()
    await bench.clock.advance(0)
    worker.die()
    bench.writer.let_go()
    await bench.clock.advance(0)
    assert bench.sql("SELECT fence, strikes, state FROM task") == [(0, 0, 0)]
    assert worker.all_calls == []
