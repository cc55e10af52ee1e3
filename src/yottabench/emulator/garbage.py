"""When Python looks for garbage: seldom while requests come in, but now and then for all of it."""

import asyncio
import gc

_COLLECT_S = 60.0


def collect_less() -> None:
    """For a process that serves: what requests leave goes by itself; looking for more costs a tenth of the time."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def collect_now_and_then(every_s: float = _COLLECT_S) -> None:
    """Collect all garbage, for ever: by the thresholds above, what once lived long would hardly ever be looked at.

    It takes some milliseconds: what was there before the first request is frozen and not looked at.
    """
    while True:
        await asyncio.sleep(every_s)
        gc.collect()
