"""Requests to the deployment under check: paced, counted, guarded, and each answer held to the document."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal
from urllib.parse import quote, urlencode

import attrs
import httpx

from yottabench.conformance import envelope
from yottabench.conformance.document import Operation, operations
from yottabench.conformance.exchange import Answer, Request, answer_faults, header
from yottabench.conformance.live.findings import Finding, Findings
from yottabench.conformance.redaction import shown_answer, shown_request

Expected = Literal["success", "refusal", "anything"]

REQUEST_TIMEOUT_S = 30.0
BUSY_TRIES = 3
BUSY_WAIT_MAX_S = 30.0  # a deployment that asks for more is not there to be checked now
_BUSY = {429, 503}


class OutOfBudget(Exception):
    """All requests that may be sent have been sent."""


class Unreachable(Exception):
    """The deployment does not answer."""


class KeyRefused(Exception):
    """The deployment does not know the key."""


@attrs.define
class Budget:
    """At most so many requests, and so many per second."""

    per_second: float
    total: int
    now_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    spent: int = 0
    _next_s: float = 0.0

    def spend(self) -> None:
        """Wait until a request may be sent. Raises OutOfBudget."""
        if self.spent >= self.total:
            raise OutOfBudget
        self.spent += 1
        self.pace()

    def pace(self) -> None:
        """Wait until a request may be sent, whether or not there is one left."""
        now_s = self.now_s()
        if self._next_s > now_s:
            self.sleep(self._next_s - now_s)
        self._next_s = max(now_s, self._next_s) + 1 / self.per_second


@attrs.frozen
class Seen:
    """An answer as documented: its code and data."""

    code: int
    data: Any

    @property
    def ok(self) -> bool:
        """Whether it was a success."""
        return self.code == envelope.SUCCESS


class Service:
    """The deployment. Unless `writes`, nothing but GET leaves here, whatever is asked for."""

    def __init__(self, url: str, key: str, findings: Findings, budget: Budget, http: httpx.Client) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._findings = findings
        self._http = http
        self.budget = budget

    def call(
        self,
        name: str,
        expected: Expected = "success",
        why: str = "",
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        key: str | None = "",
        free: bool = False,
        ids: Mapping[str, str] | None = None,
    ) -> Seen | None:
        """Send a request of an operation and check what is answered; None when the answer was not as documented.

        `why` says what is special about the request. With `key` None it has none. `free` is not counted in the budget:
        what was made must be cleaned up. Raises OutOfBudget, Unreachable.
        """
        operation = operations()[name]
        if operation.method != "GET" and not self._findings.writes:
            raise AssertionError(f"{name} writes, and this check only reads.")
        request = self._request(operation, ids or {}, query or {}, body, self._key if key == "" else key)
        answer = self._send(request, free=free)
        for _ in range(BUSY_TRIES - 1):
            if answer.status not in _BUSY:
                break
            self.budget.sleep(_wait_s(answer))
            answer = self._send(request, free=free)
        return self._judged(operation, request, answer, expected, why)

    def deviates(self, name: str, text: str) -> None:
        """Record a deviation that shows only between several answers."""
        self._findings.operations[name].deviations.append(Finding(text, {"seen": "between several answers"}, None))

    def _request(
        self, operation: Operation, ids: Mapping[str, str], query: Mapping[str, Any], body: Any, key: str | None
    ) -> Request:
        path = operation.path.format(**{name: quote(value, safe="") for name, value in ids.items()})
        target = f"{path}?{urlencode(query)}" if query else path
        headers = [("Accept", "application/json")]
        if key is not None:
            headers.append(("X-Api-Key", key))
        if body is not None:
            headers.append(("Content-Type", "application/json"))
        return Request(operation.method, target, headers, b"" if body is None else json.dumps(body).encode())

    def _send(self, request: Request, *, free: bool) -> Answer:
        if free:
            self.budget.pace()
        else:
            self.budget.spend()
        self._findings.requests += 1
        try:
            response = self._http.request(
                request.method, self._url + request.target, headers=list(request.headers), content=request.body
            )
        except httpx.HTTPError as error:
            raise Unreachable(f"{request.method} {request.path}: {type(error).__name__} {error}".rstrip()) from None
        # httpx has taken the content coding away.
        headers = [(name, value) for name, value in response.headers.multi_items() if name != "content-encoding"]
        return Answer(response.status_code, headers, response.content)

    def _judged(
        self, operation: Operation, request: Request, answer: Answer, expected: Expected, why: str
    ) -> Seen | None:
        about = self._findings.operations[operation.name]
        about.answered += 1
        code = answer.code()
        wrong = list(answer_faults(operation, answer))
        if answer.status in _BUSY and not wrong:
            self._findings.skip([operation.name], f"the deployment was busy (HTTP {answer.status})")
            return None
        if code == envelope.SUCCESS and expected == "refusal":
            wrong.append(f"accepted what the document refuses: {why}")
        elif code is not None and code != envelope.SUCCESS and expected == "success":
            wrong.append(f"refused what the document allows{': ' if why else ''}{why}")
        if wrong:
            shown = shown_request(request), shown_answer(answer, request)
            about.deviations += [Finding(text, *shown) for text in wrong]
        elif code == envelope.SUCCESS:
            about.succeeded += 1
        if code is None or (wrong and code != envelope.SUCCESS):
            return None
        try:
            return Seen(code, json.loads(answer.plain())["data"])
        except (ValueError, KeyError):
            return None


def _wait_s(answer: Answer) -> float:
    try:
        return min(BUSY_WAIT_MAX_S, max(0.0, float(header(answer.headers, "retry-after") or 1)))
    except ValueError:
        return 1.0
