"""Those who use the API: what they ask for, what they were told, and what must therefore be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import attrs

from tests.emulator.harness import ROOT, Call, Reply, create_body, submit_body
from tests.simulation.peers import RECEIVERS
from tests.simulation.watch import TERMINAL, need

if TYPE_CHECKING:
    from tests.simulation.world import World

Option = tuple[float, Callable[[], None]]
Key = tuple[int, str]
_ENDPOINTS_MAX = 3
_TASKS_MAX = 24


@attrs.define
class _Sent:
    """A task that somebody submitted; `acknowledged`: somebody was told that it is there."""

    body: dict[str, Any]
    acknowledged: bool = False


@attrs.define
class _Asked:
    """A request under way, and who hears its answer."""

    task: asyncio.Task[Reply]
    hear: Callable[[Reply], None]


@attrs.define
class _Mine:
    """An endpoint as its owner knows it."""

    id: int
    deleting: bool = False
    deleted: bool = False


class Clients:
    """All clients together."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._endpoints: dict[int, _Mine] = {}
        self._sent: dict[Key, _Sent] = {}
        self._asked: list[_Asked] = []
        self._made = 0
        self._number = 0

    @property
    def pending(self) -> int:
        """Requests under way."""
        return len(self._asked)

    @property
    def _live(self) -> list[_Mine]:
        return [each for each in self._endpoints.values() if not each.deleted]

    def lose_touch(self) -> None:
        """The server is gone: whoever waits for an answer never learns."""
        for asked in self._asked:
            if asked.task.done() and not asked.task.cancelled() and asked.task.exception() is None:
                asked.hear(asked.task.result())
        self._asked.clear()

    # ---- what they may do

    def may(self) -> Iterator[Option]:
        plan = self._world.plan
        if len(self._live) < _ENDPOINTS_MAX and self._made < 6:
            yield 2 if self._live else 10, self._create
        if not self._live:
            return
        if len(self._sent) < _TASKS_MAX:
            yield 6, self._submit
        if plan.has("repeats") and self._sent:
            yield 2, self._repeat
        yield 1, self._read
        for feature, act in (
            ("stops", self._stop_or_start),
            ("scales", self._scale),
            ("patches", self._patch),
            ("deletes", self._delete),
        ):
            if plan.has(feature):
                yield 1, act

    def _ask(self, method: str, path: str, body: Any, hear: Callable[[Reply], None]) -> None:
        self._world.note("ask", method, path)
        work = self._world.bench.call(method, f"{ROOT}{path}", body)
        self._asked.append(_Asked(self._world.loop.create_task(work), hear))

    def _pick(self) -> _Mine:
        return self._world.chance.choice(self._live)

    def _create(self) -> None:
        self._made += 1
        chance = self._world.chance
        webhook = chance.choice([None, None, *RECEIVERS.values()])

        def hear(reply: Reply) -> None:
            if self._is_done(reply):
                made = int(reply.data["id"])
                self._endpoints[made] = _Mine(made)

        self._ask("POST", "", create_body(workers=chance.choice([0, 1, 1, 2, 3]), webhook=webhook), hear)

    def _submit(self) -> None:
        chance = self._world.chance
        endpoint = self._pick()
        self._number += 1
        key = (endpoint.id, f"t{self._number}")
        webhook = chance.choice([None, *RECEIVERS.values()])
        secret = chance.choice([None, "key"]) if webhook else None
        self._sent[key] = _Sent(
            submit_body(taskId=key[1], input={"n": self._number}, webhook=webhook, webhookAuthKey=secret)
        )
        self._send(key)

    def _repeat(self) -> None:
        live = {each.id for each in self._live}
        known = [key for key in self._sent if key[0] in live]
        if known:
            self._send(self._world.chance.choice(known))

    def _send(self, key: Key) -> None:
        sent = self._sent[key]

        def hear(reply: Reply) -> None:
            if reply.code == 24000 or not self._is_done(reply):
                return
            need(reply.data["taskId"] == key[1], "A submit is answered with its own taskId.", reply.body)
            sent.acknowledged = True
            need(key in self._world.watch.by_name, "What is acknowledged is durable.", key)

        self._ask("POST", f"/{key[0]}/tasks", sent.body, hear)

    def _is_done(self, reply: Reply) -> bool:
        allowed = {10000, 14000, 10002, 24000}
        need(reply.code in allowed, "A good request is done, or refused with its reason.", reply.body)
        return reply.code == 10000

    def _hear_nothing(self, reply: Reply) -> None:
        self._is_done(reply)

    def _stop_or_start(self) -> None:
        action = self._world.chance.choice(["stop", "start"])
        self._ask("POST", f"/{self._pick().id}/{action}", None, self._hear_nothing)

    def _scale(self) -> None:
        path = f"/{self._pick().id}/workers?count={self._world.chance.randint(0, 3)}"
        self._ask("PUT", path, None, self._hear_nothing)

    def _patch(self) -> None:
        variables = [{"key": "A", "value": str(self._world.chance.randint(0, 1))}]
        body = create_body(workers=self._world.chance.randint(1, 2), environmentVars=variables)
        self._ask("PATCH", f"/{self._pick().id}", body, self._hear_nothing)

    def _delete(self) -> None:
        if self._world.chance.random() < 0.7:
            return
        endpoint = self._pick()
        endpoint.deleting = True

        def hear(reply: Reply) -> None:
            if self._is_done(reply) or reply.code == 14000:
                endpoint.deleted = True

        self._ask("DELETE", f"/{endpoint.id}", None, hear)

    def _read(self) -> None:
        endpoint = self._pick()
        tail = self._world.chance.choice(["", "/workers", "/tasks", "/tasks/count", "/tasks?status=FAILED"])

        def hear(reply: Reply) -> None:
            if self._is_done(reply) and tail == "/tasks":
                need(reply.data["total"] >= len(reply.data["items"]), "A list counts what it shows.", reply.body)

        self._ask("GET", f"/{endpoint.id}{tail}", None, hear)

    # ---- what they hear

    def look(self) -> None:
        """Answers that came in."""
        done = [asked for asked in self._asked if asked.task.done()]
        self._asked = [asked for asked in self._asked if not asked.task.done()]
        for asked in done:
            reply = asked.task.result()
            self._world.note("told", reply.http_status, reply.code)
            asked.hear(reply)

    def check_call(self, key: Key, call: Call) -> None:
        """A worker is sent what the client sent."""
        need(json.loads(call.body) == self._sent[key].body["input"], "Input comes to the worker as it was sent.", key)

    # ---- the end

    def heal(self) -> None:
        """Every endpoint that is left runs and has workers."""
        if self.pending:
            return
        rows = self._world.bench.api.endpoints
        for record in [endpoint.record for endpoint in rows.values()]:
            if not record.should_run or record.status.name == "FAILED":
                self._ask("POST", f"/{record.id}/start", None, self._hear_nothing)
            elif record.spec.workers == 0:
                self._ask("PUT", f"/{record.id}/workers?count=1", None, self._hear_nothing)

    def check_all(self) -> None:
        """Everything that was acknowledged has ended, but for what retention let go of."""
        watch = self._world.watch
        for key, sent in self._sent.items():
            seq = watch.by_name.get(key)
            here = seq is not None or key in watch.let_go
            need(here or not sent.acknowledged, "Nothing acknowledged is lost.", key)
            if seq is not None:
                need(watch.tasks[seq].state in TERMINAL, "Everything acknowledged ends.", watch.tasks[seq])
        strangers = watch.by_name.keys() - self._sent.keys()
        need(not strangers, "There is no task that nobody sent.", strangers)
