"""An emulator in the test with its real clock and its real writer; only workers and receivers do what the test says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.emulator.harness import Bench, Call, Reply
from yottabench.clock import LoopClock

CONTROL = "/_emulator/"


class LiveBench(Bench):
    """See Bench. `quiet` returns when nothing is under way but what workers and receivers have in hand."""

    clock: LoopClock  # type: ignore[assignment]

    def __init__(self, data: Path, **chosen: Any) -> None:
        super().__init__(data, **chosen)
        self.clock = self.on.clock  # type: ignore[assignment]

    def _stand_ins(self) -> dict[str, Any]:
        return {name: other for name, other in super()._stand_ins().items() if name not in {"LoopClock", "Writer"}}

    def workers_then(self, then: Callable[[Call], None] | None) -> None:
        """What workers do with a task from here on; None: they keep it until the test says what."""
        self.driver.then = then
        for worker in self.driver.workers:
            worker.then = then

    async def quiet(self) -> None:
        await self.emulator.control._on.settler.settle()

    async def endpoint(self, *, key: str = "me", **changes: Any) -> str:
        made = await super().endpoint(key=key, **changes)
        await self.quiet()
        return made

    async def submit(self, endpoint_id: str, *, key: str = "me", **changes: Any) -> str:
        made = await super().submit(endpoint_id, key=key, **changes)
        await self.quiet()
        return made

    async def ask(self, method: str, path: str, body: Any = None, *, key: str | None = None, **more: Any) -> Reply:
        """A request to the control surface; with a `key` it is about that namespace."""
        return await self.call(method, CONTROL + path, body, key=key, **more)

    async def told(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """The data of a request to the control surface that must succeed."""
        reply = await self.ask(method, path, body, **more)
        assert (reply.http_status, reply.code) == (200, 10000), reply.body
        return reply.data

    async def advance(self, seconds: float) -> None:
        await self.told("POST", "clock/advance", {"seconds": seconds})
