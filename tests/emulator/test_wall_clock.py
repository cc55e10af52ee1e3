"""The machine's clock is set while no server runs: what waited by the old time must not wait for the new one."""

import pytest

from tests.emulator.harness import Bench, FakeClock, settle

pytestmark = pytest.mark.anyio

HOUR_MS = 3600 * 1000


async def again_at(bench: Bench, ms: int) -> Bench:
    """The server dies, the clock is set, another takes up what it left."""
    await bench.crash()
    chosen = {"data": bench.settings.data, "clock": FakeClock(bench.clock.ms + ms), "network": bench.network}
    other = Bench(**chosen)
    await settle()
    return other


@pytest.mark.parametrize("hours", [-2, 0, 2])
async def test_a_webhook_waits_no_longer_than_it_was_to_wait(bench: Bench, hours: int) -> None:
    receiver = bench.network.receiver(then=lambda call: call.reply(503))
    bench.driver.then = lambda call: call.ok()
    endpoint_id = await bench.endpoint()
    await bench.submit(endpoint_id, webhook="http://127.0.0.1:9000/hook")
    await settle()
    assert len(receiver.all_calls) == 1
    await bench.clock.advance(10)
    other = await again_at(bench, hours * HOUR_MS)
    async with other:
        await other.clock.advance(60)
        assert len(receiver.all_calls) == 2
        await other.clock.advance(300)
        assert len(receiver.all_calls) == 3


@pytest.mark.parametrize("hours", [-2, 0, 2])
async def test_a_task_waits_no_longer_for_its_next_attempt_than_it_was_to_wait(bench: Bench, hours: int) -> None:
    bench.driver.then = lambda call: call.time_out()
    endpoint_id = await bench.endpoint()
    task_id = await bench.submit(endpoint_id)
    await settle()
    assert len(bench.driver.all_calls) == 1  # and the next attempt is 100 ms away
    other = await again_at(bench, hours * HOUR_MS)
    other.driver.then = lambda call: call.ok()
    async with other:
        for worker in other.driver.workers:
            worker.then = other.driver.then
        await other.clock.advance(1)
        await settle()
        assert (await other.task(endpoint_id, task_id))["status"] == "SUCCESS"


@pytest.mark.parametrize("hours", [-2, 2])
async def test_tasks_keep_their_order_and_ids_stay_apart_when_the_clock_was_set(bench: Bench, hours: int) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    ids = [await bench.submit(endpoint_id) for _ in range(5)]
    other = await again_at(bench, hours * HOUR_MS)
    async with other:
        ids += [await other.submit(endpoint_id) for _ in range(5)]
        assert len(set(ids)) == 10
        listed = await other.get(f"/{endpoint_id}/tasks?pageSize=100")
        assert [item["taskId"] for item in listed["items"]] == ids[::-1]
        other.driver.then = lambda call: call.ok()
        await other.put(f"/{endpoint_id}/workers?count=1")
        await settle()
        await other.clock.advance(1)
        assert [call.task_id for call in other.driver.all_calls] == ids
