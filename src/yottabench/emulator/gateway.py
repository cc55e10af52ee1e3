"""The gateway of ALB endpoints: streams HTTP to whichever ready worker has the fewest requests in its hands."""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Mapping
from contextlib import aclosing
from typing import Any, Protocol

import attrs

from yottabench.emulator import http1
from yottabench.emulator.codes import ApiError, Code, endpoint_not_found
from yottabench.emulator.endpoints import Endpoint
from yottabench.emulator.faults import Faults, Rule
from yottabench.emulator.gateway_request import Key, Passed, Target, key_of, passed_down, request_of
from yottabench.emulator.gateway_tunnel import pass_both_ways, switch_head
from yottabench.emulator.guard import Tunnel
from yottabench.emulator.http1_stream import Upstream
from yottabench.emulator.settings import Settings
from yottabench.emulator.stats import Stats
from yottabench.emulator.wire import Receive, Scope, Send, break_off, send_error
from yottabench.emulator.workers import Worker

_log = logging.getLogger("yottabench.gateway")

FAULT_OPERATION = "gateway"  # what rules of faults call a request that the gateway takes
_LAST_BYTES_S = 5.0
_PREFIX = b"/_gateway/"
# Methods that may be sent a second time when the connection turned out to be dead (RFC 9110, 9.2.2).
_IDEMPOTENT = frozenset(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])


class Inner(Protocol):
    """The application behind the gateway."""

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Take what is not for the gateway."""
        ...

    def namespace(self, key: bytes) -> str:
        """Whose the key is, or ApiError."""
        ...


class Gateway:
    """An ASGI application in front of another: takes what is meant for ALB endpoints and passes on the rest.

    An endpoint is named by the path, `/_gateway/<id>/...`, or by the host, `<id>.localhost` (`gateway_domain`
    replaces `localhost`). Bodies pass in both directions piece by piece, at the pace of the slower side; nothing is
    kept. A WebSocket passes once the worker has agreed to it. Whoever is refused gets the envelope.
    """

    def __init__(
        self, settings: Settings, endpoints: Mapping[int, Endpoint], stats: Stats, faults: Faults, inner: Inner
    ) -> None:
        self._silence_s = settings.gateway_timeout_s
        self._suffix = b"." + (settings.gateway_domain or "localhost").partition(":")[0].lower().encode("idna")
        self._endpoints = endpoints
        self._stats = stats
        self._faults = faults
        self._inner = inner
        self._turns = itertools.count(1)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """One connection event, as ASGI has it."""
        target = self._target(scope) if scope["type"] == "http" else None
        if target is None:
            return self._inner(scope, receive, send)
        return self._answer(target, scope, receive, send)

    async def _answer(self, target: Target, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            key = key_of(scope["headers"])
            endpoint = self._endpoint(target, key)
            request = request_of(scope, target, key)
            rule = None
            if self._faults.armed:
                rule = await self._faults.met(FAULT_OPERATION, target.endpoint_id, endpoint.record.namespace)
            if rule is None:
                await self._serve(endpoint, request, scope, receive, send)
            else:
                await self._fail(rule, endpoint, request, scope, receive, send)
        except ApiError as error:
            self._stats.add("gateway_refusals")
            await send_error(send, error)

    def _target(self, scope: Scope) -> Target | None:
        host = b""
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
                break
        path: bytes = scope["raw_path"]
        label = self.label_of(host)
        if label is not None:
            return Target(label, path, host, b"")
        if path.startswith(_PREFIX):
            name, _, path = path.removeprefix(_PREFIX).partition(b"/")
            return Target(name.decode("latin-1"), b"/" + path, host, _PREFIX + name)
        return None

    def label_of(self, host: bytes) -> str | None:
        """The endpoint that a Host names; None: the path decides."""
        if self._suffix in host.lower():  # of other hosts nothing more is to be known
            label, dot, rest = host.partition(b".")
            if label.isdigit() and dot + rest.partition(b":")[0].lower() == self._suffix:
                return label.decode()
        return None

    def _endpoint(self, target: Target, key: Key) -> Endpoint:
        namespace = self._inner.namespace(key.value)
        name = target.endpoint_id
        known = name.isascii() and name.isdigit() and len(name) <= 19
        endpoint = self._endpoints.get(int(name)) if known else None
        if endpoint is None or endpoint.record.namespace != namespace:
            raise endpoint_not_found(name[:64])
        mode = endpoint.record.spec.service_mode
        if mode != "ALB":
            raise ApiError(
                Code.INVALID,
                f"Endpoint {name} is in {mode} mode; the gateway leads to ALB endpoints only."
                " Create one with serviceMode=ALB.",
            )
        return endpoint

    # ---- one request

    async def _fail(
        self, rule: Rule, endpoint: Endpoint, request: Passed, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if rule.takes_effect:
            with contextlib.suppress(ApiError):
                await self._serve(endpoint, attrs.evolve(request, may_switch=False), scope, receive, _to_nobody)
        if rule.kind == "error":
            raise rule.refusal()
        await break_off(rule, scope, receive, send)

    async def _serve(self, endpoint: Endpoint, request: Passed, scope: Scope, receive: Receive, send: Send) -> None:
        self._stats.add("gateway_requests")
        tried: set[int] = set()
        fresh = False
        while True:
            worker = self._choose(endpoint, tried)
            with worker.request() as pool:
                try:
                    upstream = await pool.lend(self._silence_s, fresh=fresh or request.may_switch)
                except http1.ConnectFailed as error:
                    # It certainly had nothing of the request, so another may have it.
                    tried.add(worker.record.id)
                    if not self._candidates(endpoint, tried):
                        raise _bad_gateway(error) from error
                    continue
                passage = _Passage(upstream, request, self._silence_s, scope, receive, send)
                fresh = not await passage.ends()
            if not fresh:
                return

    def _candidates(self, endpoint: Endpoint, tried: set[int]) -> list[Worker]:
        return [worker for worker in endpoint.live_workers if worker.takes_requests and worker.record.id not in tried]

    def _choose(self, endpoint: Endpoint, tried: set[int]) -> Worker:
        candidates = self._candidates(endpoint, tried)
        if not candidates:
            record = endpoint.record
            raise ApiError(
                Code.NOT_ACCEPTING_TASKS,
                f"Endpoint {record.id} is {record.status.name} and has no ready worker. Try again when it has one;"
                f" GET /v2/serverless/{record.id}/workers shows them.",
                http_status=503,
                retry_after_s=1,
            )
        # Of equally busy ones the one whose last turn is longest ago.
        worker = min(candidates, key=lambda each: (each.in_hand, each.last_turn))
        worker.last_turn = next(self._turns)
        return worker


class _Passage:
    """One request passing up and its answer passing down at the same time."""

    def __init__(
        self, upstream: Upstream, request: Passed, silence_s: float, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._upstream = upstream
        self._request = request
        self._silence_s = silence_s
        self._scope = scope
        self._receive = receive
        self._send = send
        self._slow_client = False
        self._tunnel: Tunnel | None = None
        self.started = False  # the client has the beginning of an answer

    async def ends(self) -> bool:
        """True when the client has what it will get; False when the connection was dead, and another may do."""
        try:
            await self._go()
        except http1.Http1Error as error:
            if self.started:
                # The server closes the connection of an answer without an end, which is all that can still be told.
                _log.warning("An answer was cut off: %s", error)
                return True
            dead = isinstance(error, http1.ConnectionLost) and error.reused
            if dead and not self._request.has_body and self._request.method in _IDEMPOTENT:
                return False
            raise _bad_gateway(error) from error
        return True

    async def _go(self) -> None:
        request = self._request
        head = self._upstream.send_head(
            request.method.encode(),
            request.target,
            request.headers,
            chunked=request.chunked,
            may_switch=request.may_switch,
        )
        alive = await _survives(head)
        up = asyncio.create_task(self._pass_up(alive))
        down = asyncio.create_task(self._pass_down())
        try:
            await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
            # Whichever ended: the answer, or the way up because the client is gone or the worker does not read.
            (down if down.done() else up).result()
            if self._tunnel is not None:
                await asyncio.wait([up], timeout=_LAST_BYTES_S)  # until the client has what was on its way
                self._tunnel.abort()
                await asyncio.wait([up])
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            self._upstream.release()
        if self._slow_client and not self.started:
            raise ApiError(Code.INVALID, "The request did not arrive in time. Send it in one go.", http_status=408)

    async def _pass_up(self, alive: bool) -> None:
        """Returns when the client is gone or too slow, never before; raises AnswerTimeout when the worker is."""
        lift = self._scope.get("extensions", {}).get("yottabench.body_deadline", {}).get("lift")
        if lift is not None and self._request.has_body:
            lift()  # a body that is passed on takes as long as both sides take; silence is watched here
        upstream = self._upstream
        more = self._request.has_body
        while more:
            try:
                async with asyncio.timeout(self._silence_s):
                    message = await self._receive()
            except TimeoutError:
                self._slow_client = True
                return
            if message["type"] == "http.disconnect":
                return
            more = message.get("more_body", False)
            # A worker that answers without reading all of a body may close: its answer tells the client.
            alive = alive and await _survives(upstream.send_body(message.get("body", b"")))
        if alive:
            await _survives(upstream.send_end())
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _pass_down(self) -> None:
        head = await self._upstream.head()
        if head.status == 101:
            self.started = True
            tunnel = self._scope["extensions"]["yottabench.tunnel"]["open"](switch_head(head.headers))
            self._tunnel = tunnel
            await pass_both_ways(tunnel, self._upstream, self._silence_s)
            return
        if not 200 <= head.status <= 599:
            raise http1.BadAnswer(f"The worker answered with status {head.status}, which HTTP does not have.")
        self.started = True
        headers = passed_down(head.headers, head.status)
        await self._send({"type": "http.response.start", "status": head.status, "headers": headers})
        async with aclosing(self._upstream.pieces()) as pieces:
            async for piece in pieces:
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})


async def _to_nobody(event: dict[str, Any]) -> None:
    pass


async def _survives(sending: Any) -> bool:
    try:
        await sending
    except http1.ConnectionLost:
        return False
    return True


def _bad_gateway(error: http1.Http1Error) -> ApiError:
    late = isinstance(error, http1.AnswerTimeout)
    return ApiError(
        Code.SYSTEM_ERROR,
        f"The worker gave no answer: {error} Look at the workers' logs.",
        http_status=504 if late else 502,
    )
