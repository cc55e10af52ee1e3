"""What the emulator offers under /_emulator/, apart from the documented API; see docs/emulator-control.md."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import attrs
import msgspec

from yottabench.clock import LoopClock
from yottabench.emulator.codes import ApiError, Code
from yottabench.emulator.control import metrics, past, rules
from yottabench.emulator.control.access import Access
from yottabench.emulator.control.snapshots import SnapshotFolder
from yottabench.emulator.control.state import State
from yottabench.emulator.fields import Fields, decode, invalid, shown
from yottabench.emulator.limits import ADVANCE_MAX_S, CONTROL_BODY_MAX_BYTES, SNAPSHOT_MAX_BYTES
from yottabench.emulator.settings import Settings
from yottabench.emulator.settling import Leases, NotSettled, Settler
from yottabench.emulator.store.base import Moved
from yottabench.emulator.store.upkeep import History, ResendDelivery
from yottabench.emulator.wire import Document, Receive, Scope, namespace_of, read_body

_ROOT = "/_emulator/"
_JSON = b"application/json"
_OBJECT = msgspec.json.Decoder(dict[str, Any])


class _Asked:
    """One request: the ids in its path, its query, its namespace if it has one, and its body when it is wanted."""

    def __init__(self, scope: Scope, receive: Receive, ids: list[str]) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        key = headers.get(b"x-api-key", b"").strip()
        self.ids = ids
        self.query: bytes = scope["query_string"]
        self.namespace = namespace_of(key) if key else None
        self._length = int(headers[b"content-length"]) if b"content-length" in headers else None
        self._receive = receive

    async def body(self, max_bytes: int = CONTROL_BODY_MAX_BYTES) -> bytes:
        """The body as it came."""
        return await read_body(self._receive, self._length, max_bytes)

    async def fields(self, *known: str) -> Fields:
        """The body as an object of these fields; no body is an empty one."""
        body = await self.body()
        fields = Fields(decode(body, _OBJECT) if body else {})
        fields.only(known)
        return fields


@attrs.frozen
class Parts:
    """What the control surface works on."""

    settings: Settings
    clock: LoopClock
    settler: Settler
    leases: Leases
    state: State
    history: History
    sources: metrics.Sources
    operations: Collection[str]
    access: Access


class Control:
    """Answers requests to paths under /_emulator/; see wire.Inside. `routes` are by method and path, * for an id."""

    def __init__(self, parts: Parts) -> None:
        self._on = parts
        self._faults = parts.sources.faults
        self._snapshots = SnapshotFolder(parts.settings.data / "snapshots")
        self.ready = False
        self.routes: dict[tuple[str, str], Callable[[_Asked], Awaitable[Any]]] = {
            ("GET", "live"): self._live,
            ("GET", "ready"): self._is_ready,
            ("GET", "stats"): self._stats,
            ("GET", "settings"): self._settings,
            ("GET", "metrics"): self._metrics,
            ("POST", "reset"): self._reset,
            ("GET", "snapshot"): self._take_snapshot,
            ("POST", "snapshot/save"): self._save_snapshot,
            ("POST", "snapshot/load"): self._load_snapshot,
            ("GET", "faults"): self._list_faults,
            ("POST", "faults"): self._add_fault,
            ("DELETE", "faults"): self._lift_faults,
            ("DELETE", "faults/*"): self._lift_fault,
            ("GET", "clock"): self._clock,
            ("POST", "clock/advance"): self._advance,
            ("POST", "clock/freeze"): self._freeze,
            ("POST", "clock/thaw"): self._thaw,
            ("GET", "tasks/*/*/attempts"): self._attempts,
            ("GET", "deliveries"): self._deliveries,
            ("GET", "deliveries/*"): self._delivery,
            ("POST", "deliveries/*/redeliver"): self._redeliver,
        }

    async def __call__(self, scope: Scope, receive: Receive) -> Any:
        """See wire.Inside."""
        self._on.access.check(scope)
        segments = scope["raw_path"].decode("latin-1")[len(_ROOT) :].split("/")
        for (method, path), answer in self.routes.items():
            pattern = path.split("/")
            if method == scope["method"] and _fits(segments, pattern):
                ids = [unquote(one) for one, other in zip(segments, pattern, strict=True) if other == "*"]
                return await answer(_Asked(scope, receive, ids))
        paths = ", ".join(f"{method} {_ROOT}{path}" for method, path in self.routes)
        raise ApiError(Code.NO_SUCH_PATH, f"There is no such path here. There is: {paths}.")

    # ---- the server itself

    async def _live(self, asked: _Asked) -> Any:
        return True

    async def _is_ready(self, asked: _Asked) -> Any:
        if not self.ready:
            raise ApiError(Code.SYSTEM_ERROR, "The server is starting. Try again.", http_status=503)
        return True

    async def _stats(self, asked: _Asked) -> Any:
        sources = self._on.sources
        return {**sources.stats.counts, "commits": sources.writer.commits, "commands": sources.writer.commands}

    async def _settings(self, asked: _Asked) -> Any:
        settings = self._on.settings
        # What is kept out of the repr is secret: only whether it is set is told.
        return {
            field.name: _plain(getattr(settings, field.name))
            if field.repr
            else {"set": bool(getattr(settings, field.name))}
            for field in attrs.fields(Settings)
        }

    async def _metrics(self, asked: _Asked) -> Any:
        return Document(*metrics.exposition(self._on.sources))

    # ---- state

    async def _reset(self, asked: _Asked) -> Any:
        return {"endpoints": await self._on.state.reset(asked.namespace)}

    async def _take_snapshot(self, asked: _Asked) -> Any:
        return Document(_JSON, await self._on.state.save(asked.namespace))

    async def _save_snapshot(self, asked: _Asked) -> Any:
        name = _file(await asked.fields("file"))
        path = await asyncio.to_thread(self._snapshots.write, name, await self._on.state.save(asked.namespace))
        return {"file": name, "path": str(path)}

    async def _load_snapshot(self, asked: _Asked) -> Any:
        body = await asked.body(SNAPSHOT_MAX_BYTES)
        if len(body) <= CONTROL_BODY_MAX_BYTES:
            sent = decode(body, _OBJECT)
            if set(sent) == {"file"}:
                body = await asyncio.to_thread(self._snapshots.read, _file(Fields(sent)))
        return await self._on.state.load(asked.namespace, body)

    # ---- faults

    async def _list_faults(self, asked: _Asked) -> Any:
        return [rules.rule_view(rule) for rule in self._faults.rules(asked.namespace)]

    async def _add_fault(self, asked: _Asked) -> Any:
        sent = decode(await asked.body(), _OBJECT)
        return rules.rule_view(rules.add_rule(self._faults, sent, asked.namespace, self._on.operations))

    async def _lift_faults(self, asked: _Asked) -> Any:
        found = self._faults.rules(asked.namespace)
        self._faults.remove(found)
        return {"lifted": len(found)}

    async def _lift_fault(self, asked: _Asked) -> Any:
        found = [rule for rule in self._faults.rules(asked.namespace) if rule.id == asked.ids[0]]
        if not found:
            raise ApiError(Code.NO_RECORD, f"There is no fault {shown(asked.ids[0])}. List faults to find the id.")
        self._faults.remove(found)
        return rules.rule_view(found[0])

    # ---- time

    async def _clock(self, asked: _Asked) -> Any:
        clock = self._on.clock
        return {"nowMs": clock.now_ms(), "aheadMs": clock.ahead_ms, "frozen": clock.frozen}

    async def _advance(self, asked: _Asked) -> Any:
        fields = await asked.fields("seconds")
        hint = f"Send a number from 0 to {ADVANCE_MAX_S}."
        seconds = fields.value("seconds", hint)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= ADVANCE_MAX_S:
            raise invalid("seconds", f"must not be {shown(seconds)}", hint)
        clock = self._on.clock
        before_ms = clock.now_ms()
        try:
            await clock.advance(round(seconds * 1000), self._on.settler.settle, self._on.leases)
        except NotSettled as error:
            passed_ms = clock.now_ms() - before_ms
            raise ApiError(
                Code.SYSTEM_ERROR, f"{error} Time stands {passed_ms} ms further; advance by the rest.", http_status=503
            ) from None
        return await self._clock(asked)

    async def _freeze(self, asked: _Asked) -> Any:
        await self._on.clock.freeze()
        return await self._clock(asked)

    async def _thaw(self, asked: _Asked) -> Any:
        await self._on.clock.thaw()
        return await self._clock(asked)

    # ---- tasks and deliveries

    async def _attempts(self, asked: _Asked) -> Any:
        return past.task_attempts(self._on.history, *asked.ids)

    async def _deliveries(self, asked: _Asked) -> Any:
        return past.deliveries(self._on.history, asked.query, asked.namespace)

    async def _delivery(self, asked: _Asked) -> Any:
        return past.delivery_view(past.one_delivery(self._on.history, past.delivery_id(asked.ids[0])))

    async def _redeliver(self, asked: _Asked) -> Any:
        number = past.delivery_id(asked.ids[0])
        past.one_delivery(self._on.history, number)
        sources = self._on.sources
        due = await sources.writer.commit(ResendDelivery(id=number, now_ms=self._on.clock.now_ms()))
        if isinstance(due, Moved):
            raise ApiError(Code.WRONG_STATE, f"Delivery {number} is being sent right now. Wait for its end.")
        sources.outbox.resend(due)
        return past.delivery_view(past.one_delivery(self._on.history, number))


def _fits(segments: list[str], pattern: list[str]) -> bool:
    return len(segments) == len(pattern) and all(b in {a, "*"} for a, b in zip(segments, pattern, strict=True))


def _file(fields: Fields) -> str:
    return fields.text("file", 100, "Name the snapshot, such as before-upgrade.")


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
