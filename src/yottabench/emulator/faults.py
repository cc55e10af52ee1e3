"""Faults on request: what answers, workers and receivers do wrong while a rule says so."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

import attrs
import msgspec

from yottabench.clock import Clock
from yottabench.emulator import http1
from yottabench.emulator.codes import ApiError, Code
from yottabench.emulator.dispatch import WorkerCaller

T = TypeVar("T")
Kind = Literal["latency", "error", "reset", "drop", "garbage"]
KINDS: tuple[Kind, ...] = ("latency", "error", "reset", "drop", "garbage")
ANY = "*"

_CODES = {400: Code.INVALID, 401: Code.UNAUTHENTICATED, 404: Code.ENDPOINT_NOT_FOUND, 409: Code.WRONG_STATE, 429: 429}
_GARBAGE_BYTES = 64


@attrs.define(kw_only=True, eq=False)
class Rule:
    """One fault: where it strikes, what happens then, how often.

    Exactly one of `operation`, `worker` and `receiver` is set. `takes_effect`: the request is worked on all the same,
    and only its answer is lost or spoilt.
    """

    id: str
    kind: Kind
    namespace: str | None
    operation: str | None = None  # an operationId, or ANY
    endpoint: str | None = None  # narrows `operation`
    worker: str | None = None  # the id of a worker or of an endpoint, or ANY
    receiver: str | None = None  # host:port, or ANY
    latency_ms: int = 0
    status: int = 500
    code: int | None = None
    retry_after_s: int | None = None
    probability: float = 1.0
    count: int | None = None
    seed: int = 0
    takes_effect: bool = False
    matched: int = 0
    fired: int = 0
    lifted: asyncio.Event = attrs.field(factory=asyncio.Event)
    _chance: random.Random = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._chance = random.Random(self.seed)

    def strikes(self) -> bool:
        """Decide about one more request that it is meant for."""
        self.matched += 1
        if self.count is not None and self.fired >= self.count:
            return False
        if self.probability < 1 and self._chance.random() >= self.probability:
            return False
        self.fired += 1
        return True

    def refusal(self) -> ApiError:
        """What a rule of the kind error answers."""
        return ApiError(
            self.code if self.code is not None else _CODES.get(self.status, Code.SYSTEM_ERROR),
            f"Fault {self.id} answers so. DELETE /_emulator/faults/{self.id} lifts it.",
            http_status=self.status,
            retry_after_s=self.retry_after_s,
        )

    def garbage(self) -> bytes:
        """Bytes that are no JSON and no UTF-8."""
        return b"\xff" + self._chance.randbytes(_GARBAGE_BYTES - 1)


class BrokenAnswer(Exception):
    """The answer to a request is not to be given as it should: `rule.kind` is reset, drop or garbage."""

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule.id)
        self.rule = rule


class Faults:
    """The rules in force. `armed` is what the hot paths look at: without a rule nothing here costs anything.

    Rules are asked in the order in which they were made. Each latency that strikes is waited for, on the clock; the
    first other rule that strikes decides.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rules: dict[str, Rule] = {}
        self._made = 0
        self.armed = False
        self.waiting_sends = 0  # sends of webhooks that wait for a time on the clock

    def rules(self, namespace: str | None) -> list[Rule]:
        """Those of a namespace, or all."""
        return [rule for rule in self._rules.values() if namespace is None or rule.namespace == namespace]

    def add(self, namespace: str | None, fields: dict[str, Any]) -> Rule:
        """Put a rule in force, for the requests of one namespace or of all."""
        self._made += 1
        rule = Rule(id=f"f{self._made}", namespace=namespace, **fields)
        self._rules[rule.id] = rule
        self.armed = True
        return rule

    def remove(self, rules: list[Rule]) -> None:
        """Lift rules; answers that they hold back end with a closed connection."""
        for rule in rules:
            self._rules.pop(rule.id, None)
            rule.lifted.set()
        self.armed = bool(self._rules)

    # ---- where faults strike

    async def answer(self, operation: str, endpoint: str, namespace: str, run: Callable[[], Awaitable[T]]) -> T:
        """An answer of the API. Raises ApiError or BrokenAnswer when a rule says so."""
        rule = await self.met(operation, endpoint, namespace)
        if rule is None:
            return await run()
        if rule.takes_effect:
            with contextlib.suppress(ApiError):
                await run()
        if rule.kind != "error":
            raise BrokenAnswer(rule)
        raise rule.refusal()

    async def met(self, operation: str, endpoint: str, namespace: str) -> Rule | None:
        """The rule that decides about a request, after those that only make it wait; None: it is to be answered."""
        return await self._struck(
            lambda rule: (
                rule.operation in {operation, ANY}
                and rule.endpoint in {None, endpoint}
                and rule.namespace in {None, namespace}
            )
        )

    async def call(
        self, ids: frozenset[str], namespace: str, timeout_s: float, run: Callable[[], Awaitable[http1.Answer]]
    ) -> http1.Answer:
        """A call to a worker, known by `ids`: its own, its endpoint's and ANY. Raises http1.Http1Error."""
        rule = await self._struck(lambda rule: rule.worker in ids and rule.namespace in {None, namespace})
        if rule is None:
            return await run()
        if rule.takes_effect:
            await run()
        match rule.kind:
            case "reset" if not rule.takes_effect:
                raise http1.ConnectFailed(f"Fault {rule.id} refused the connection.")
            case "reset":
                raise http1.ConnectionLost(f"Fault {rule.id} reset the connection.", reused=False)
            case "drop":
                await self._sleep(int(timeout_s * 1000))
                raise http1.AnswerTimeout(f"Fault {rule.id} dropped the answer.")
            case "garbage":
                raise http1.BadAnswer(f"Fault {rule.id} answered {rule.garbage()[:8].hex()}.")
            case _:
                return http1.Answer(rule.status, [], msgspec.json.encode({"error": f"Fault {rule.id} answers so."}))

    async def send(self, receiver: str, timeout_s: float, run: Callable[[], Awaitable[str | None]]) -> str | None:
        """One send of a webhook to `receiver` (host:port): None when it was acknowledged, else why not."""
        rule = await self._struck(lambda rule: rule.receiver in {receiver, ANY}, is_send=True)
        if rule is None:
            return await run()
        if rule.takes_effect:
            await run()
        match rule.kind:
            case "reset":
                return f"Fault {rule.id} reset the connection."
            case "drop":
                await self._sleep(int(timeout_s * 1000), is_send=True)
                return f"Fault {rule.id} dropped the answer."
            case "garbage":
                return f"Fault {rule.id} answered {rule.garbage()[:8].hex()}, which is not HTTP."
            case _:
                return f"Fault {rule.id} answered HTTP {rule.status}; only 2xx acknowledges."

    async def _struck(self, meant: Callable[[Rule], bool], *, is_send: bool = False) -> Rule | None:
        for rule in tuple(self._rules.values()):
            if not meant(rule) or rule.lifted.is_set() or not rule.strikes():
                continue
            if rule.kind != "latency":
                return rule
            await self._sleep(rule.latency_ms, is_send=is_send)
        return None

    async def _sleep(self, milliseconds: int, *, is_send: bool = False) -> None:
        over = asyncio.Event()
        self.waiting_sends += is_send

        def end() -> None:
            # Here and not in the sleeper, which wakes a moment later: until then it is busy again, not waiting.
            if not over.is_set():
                over.set()
                self.waiting_sends -= is_send

        timer = self._clock.call_at(self._clock.now_ms() + milliseconds, end)
        try:
            await over.wait()
        finally:
            timer.cancel()
            end()


class FaultyCaller:
    """The way to one worker, past the faults that are meant for it; see WorkerCaller."""

    def __init__(
        self,
        caller: WorkerCaller,
        faults: Faults,
        *,
        worker_id: int,
        endpoint_id: int,
        namespace: str,
        timeout_s: float,
    ) -> None:
        self._caller = caller
        self._faults = faults
        self._ids = frozenset((str(worker_id), str(endpoint_id), ANY))
        self._namespace = namespace
        self._timeout_s = timeout_s

    def url(self, port: int) -> str:
        """See WorkerCaller.url."""
        return self._caller.url(port)

    def post(self, port: int, target: str, headers: bytes, body: bytes) -> Awaitable[http1.Answer]:
        """See WorkerCaller.post."""
        if not self._faults.armed:
            return self._caller.post(port, target, headers, body)
        return self._faults.call(
            self._ids, self._namespace, self._timeout_s, lambda: self._caller.post(port, target, headers, body)
        )
