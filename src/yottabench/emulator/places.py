"""How many workers run at a time on the whole server: each is a process, and memory has an end."""

import asyncio
import logging
from collections import Counter

_log = logging.getLogger("yottabench.workers")


class Place:
    """The right of one worker to run, or the hope for it."""

    def __init__(self, places: "Places", owner: int) -> None:
        self._places = places
        self._settled = asyncio.Event()
        self.owner = owner
        self.had = False

    @property
    def waits(self) -> bool:
        """Whether it is still to be had."""
        return not self._settled.is_set()

    async def wait(self) -> bool:
        """Return once it is had (True), or given up (False)."""
        await self._settled.wait()
        return self.had

    def give(self) -> None:
        """Called by Places."""
        self.had = True
        self._settled.set()

    def release(self) -> None:
        """It is not needed, or no more. Idempotent."""
        self._places.take_back(self)
        self.had = False
        self._settled.set()


class Places:
    """`total` places, asked for by endpoints.

    A place that becomes free goes to a waiting worker of the endpoint that had it, so that its workers can be replaced;
    else to the waiting worker whose endpoint has the fewest, first come first served among equals.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken: Counter[int] = Counter()
        self._waiting: dict[Place, None] = {}

    @property
    def waiting(self) -> int:
        """How many workers wait."""
        return len(self._waiting)

    def ask(self, owner: int) -> Place:
        """A place for one worker of the endpoint `owner`."""
        place = Place(self, owner)
        if self._taken.total() < self._total:
            self._give(place)
        else:
            if not self._waiting:
                _log.warning("%s Others wait.", self.why)
            self._waiting[place] = None
        return place

    @property
    def why(self) -> str:
        """Why somebody waits, for people."""
        return f"{self._total} workers run on this server, the most that --max-workers-total allows."

    def take_back(self, place: Place) -> None:
        """Called by Place.release."""
        self._waiting.pop(place, None)
        if not place.had:
            return
        self._taken[place.owner] -= 1
        if not self._taken[place.owner]:
            del self._taken[place.owner]
        if self._waiting:
            # min() takes the first of equals, and that is the one who asked first.
            heir = min(self._waiting, key=lambda each: (each.owner != place.owner, self._taken[each.owner]))
            del self._waiting[heir]
            self._give(heir)

    def _give(self, place: Place) -> None:
        self._taken[place.owner] += 1
        place.give()
