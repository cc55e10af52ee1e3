"""What every endpoint uses of the server, and what an endpoint leaves behind for it to do."""

import attrs

from yottabench.clock import Clock, Ids
from yottabench.emulator.drivers.base import Driver
from yottabench.emulator.faults import Faults
from yottabench.emulator.logs import LogStore
from yottabench.emulator.places import Places
from yottabench.emulator.settings import Settings
from yottabench.emulator.stats import Stats
from yottabench.emulator.store.base import FailOpenTasks, Store
from yottabench.emulator.store.writer import Writer
from yottabench.emulator.webhooks import Outbox

FAIL_BATCH_TASKS = 2_000


@attrs.frozen
class Services:
    """What every endpoint uses of the server."""

    settings: Settings
    clock: Clock
    ids: Ids
    store: Store
    writer: Writer
    logs: LogStore
    outbox: Outbox
    stats: Stats
    drivers: tuple[Driver, ...]
    faults: Faults
    places: Places


async def fail_open_tasks(endpoint_id: int, on: Services) -> None:
    """Fail what a deleted endpoint leaves behind, in portions, so that others are not kept waiting."""
    more = True
    while more:
        command = FailOpenTasks(
            endpoint_id=endpoint_id,
            error="The endpoint was deleted before this task ended.",
            limit=FAIL_BATCH_TASKS,
            now_ms=on.clock.now_ms(),
        )
        failed = await on.writer.insist(command)
        more = failed.more
        for delivery in failed.deliveries:
            on.outbox.add(delivery)
