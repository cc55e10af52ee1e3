"""Schemathesis on a running service: all phases, valid and invalid requests, links; what it finds as plain data."""

import collections
import contextlib
import copy
import gc
import warnings
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

import attrs
import schemathesis
from schemathesis import Case, Config, HookContext, Response, hooks
from schemathesis.core.parameters import ParameterLocation
from schemathesis.engine import events, from_schema
from schemathesis.engine.run import PhaseName
from schemathesis.generation.meta import TestPhase
from schemathesis.schemas import BaseSchema

from tests.conformance.live import SUCCESS, Stage
from yottabench.conformance.envelope import deviations, status_of
from yottabench.spec import spec

# Every worker of the emulator is a process: requests that ask for more get this many. That the upper bound itself is
# accepted is seen on a stopped endpoint (updateEndpoint, scaleWorkers), where none is started.
WORKERS_AT_MOST = 1
WORKERS_MAX = 1000
UNAUTHENTICATED = 40101
NOBODY = "http://127.0.0.1:9/"


@attrs.frozen
class Size:
    """How much to try: every edge of the document or none, random requests per operation, and chains of requests."""

    examples: int
    chains: int
    edges: bool = True


@attrs.frozen
class Finding:
    """A deviation from the document: which check found it, at which operation, and what it was."""

    check: str
    operation: str
    text: str


@attrs.define
class Outcome:
    """What a run found, and what it did."""

    findings: list[Finding] = attrs.field(factory=list)
    codes: collections.defaultdict[str, Counter[int]] = attrs.field(factory=lambda: collections.defaultdict(Counter))
    """By operation: how often each code was answered to requests that were meant to be valid."""
    phases: Counter[str] = attrs.field(factory=Counter)
    """Requests by phase."""
    modes: Counter[str] = attrs.field(factory=Counter)
    """Requests by intent: positive or negative."""
    links: set[str] = attrs.field(factory=set)
    """Operations that were reached by a link from another's answer."""

    def share(self, operation_id: str) -> float:
        """The part of the valid requests of an operation that succeeded."""
        codes = self.codes[operation_id]
        return codes[SUCCESS] / max(1, codes.total())


def run(
    stage: Stage,
    size: Size,
    *,
    envelope200: bool = False,
    operations: Collection[str] = (),
    stop_at_first: bool = False,
) -> Outcome:
    """Try the whole document, or some operations of it."""
    schema = schemathesis.openapi.from_dict(copy.deepcopy(spec()), config=_config(stage, size, stop_at_first))
    if operations:
        schema = schema.include(operation_id=list(operations))
    outcome = Outcome()
    with _hooked(schema, stage, outcome, envelope200):
        stream = from_schema(schema).execute()
        for event in stream:
            if isinstance(event, events.PhaseStarted) and event.phase.name is PhaseName.STATEFUL_TESTING:
                stage.api.data("PUT", f"/{stage.parked}/workers", params={"count": 0})
            elif isinstance(event, events.NonFatalError):
                outcome.findings.append(Finding("error", str(event.label), f"{event.info.title}: {event.info.message}"))
            elif isinstance(event, events.ScenarioFinished):
                for endpoint_id in _take_down(event, outcome):
                    stage.api.call("DELETE", f"/{endpoint_id}")
            if stop_at_first and outcome.findings:
                stream.stop()
                break
    return outcome


def _config(stage: Stage, size: Size, stop_at_first: bool) -> Config:
    whole: dict[str, Any] = {"max-failures": 1} if stop_at_first else {"continue-on-failure": True}
    # A request that is refused ends its chain, so these are all valid.
    chained = {"max-examples": max(1, size.chains), "mode": "positive"}
    return Config.from_dict(
        {
            **whole,
            "base-url": stage.api.url,
            "headers": {"X-Api-Key": stage.api.key},
            "request-timeout": 10,
            "generation": {
                "mode": "all",
                "max-examples": size.examples,
                "deterministic": True,
                "database": "none",
                "no-shrink": stop_at_first,
            },
            "phases": {
                "examples": {"enabled": size.edges},
                "coverage": {"enabled": size.edges},
                "fuzzing": {"enabled": size.examples > 0},
                "stateful": {"enabled": size.chains > 0, "generation": chained},
            },
        }
    )


def _operation_id(case: Case) -> str:
    return case.operation.definition.raw["operationId"]


def _take_down(event: events.ScenarioFinished, outcome: Outcome) -> list[str]:
    """Add what was done and found; returns the ids of the endpoints that were made for it."""
    recorder = event.recorder
    made: list[str] = []
    for case_id, interaction in recorder.interactions.items():
        node = recorder.cases[case_id]
        outcome.phases[event.phase.name] += 1
        if node.is_transition_applied:
            outcome.links.add(_operation_id(node.value))
        if node.value.meta is None or interaction.response is None:
            continue
        mode = node.value.meta.generation.mode
        code = _code(interaction.response)
        outcome.modes[mode.value] += 1
        # Requests without their key are probes of a check.
        if mode.is_positive and event.phase is not PhaseName.STATEFUL_TESTING and code != UNAUTHENTICATED:
            outcome.codes[_operation_id(node.value)][code] += 1
        if code == SUCCESS and _operation_id(node.value) == "createEndpoint":
            made.append(interaction.response.json()["data"]["id"])
    for case_id, checks in recorder.checks.items():
        for check in checks:
            if check.failure_info is not None:
                failure = check.failure_info.failure
                text = f"{failure.title}: {failure.message}\n{_shown(recorder.interactions[case_id])}"
                outcome.findings.append(Finding(check.name, failure.operation, text))
    return made


def _code(response: Response) -> int:
    try:
        return int(response.json()["code"])
    except (ValueError, KeyError, TypeError):
        return 0


def _shown(interaction: Any) -> str:
    request, response = interaction.request, interaction.response
    if response is None:
        return f"{request.method} {request.uri}: no answer"
    sent = (request.body or b"")[:300]
    return f"{request.method} {request.uri} {sent!r} -> {response.status_code} {response.content[:300]!r}"


# ---- hooks


@contextlib.contextmanager
def _hooked(schema: BaseSchema, stage: Stage, outcome: Outcome, envelope200: bool) -> Iterator[None]:
    """Hooks on every request and answer of this schema."""

    def before_call(_context: HookContext, case: Case, _kwargs: dict[str, Any]) -> None:
        if case.operation.schema.raw_schema is schema.raw_schema:
            _aim(case, stage)

    def after_call(_context: HookContext, case: Case, response: Response) -> None:
        content_type = response.headers.get("content-type", [""])[0]
        for text in deviations(response.status_code, content_type, response.content, envelope200=envelope200):
            outcome.findings.append(Finding("envelope", case.operation.label, text))
        # The checks of Schemathesis know of statuses and nothing of codes.
        response.status_code = status_of(response.status_code, response.content)

    schema.hooks.hook(after_call)
    schemathesis.hook(before_call)  # this hook can only be global
    try:
        yield
    finally:
        hooks.unregister(before_call)
        with warnings.catch_warnings():  # Schemathesis leaves its sockets to the garbage collector
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


def _aim(case: Case, stage: Stage) -> None:
    """Let a request reach something that is there, and obey the rules that JSON Schema cannot say."""
    meta = case.meta
    if meta is None:  # a probe of a check: a request of before, without its key
        return
    operation_id = _operation_id(case)
    chained = meta.phase.name is TestPhase.STATEFUL
    if isinstance(case.body, dict):
        body = dict(case.body)
        if chained and operation_id == "submitTask":
            body.pop("taskId", None)  # an id belongs to one payload (N3), and chains come back to an endpoint
        tamed = (operation_id == "createEndpoint" or chained) and _tame(body, chained)
        if tamed or meta.generation.mode.is_positive:
            _agree(body)
        if body != case.body:
            case.body = body
    if chained:
        _spare_the_stage(case, stage)
    elif not meta.is_negative_at(ParameterLocation.PATH) and case.operation.path_parameters:
        case.path_parameters = {**(case.path_parameters or {}), **_ids(case, stage)}
    if case.query:
        query = dict(case.query)
        if operation_id == "scaleWorkers" and chained:
            _cap(query, "count", WORKERS_AT_MOST)
        if operation_id == "getWorkerLogs" and meta.generation.mode.is_positive:
            _pair(query)
        if query != case.query:
            case.query = query


def _ids(case: Case, stage: Stage) -> dict[str, str]:
    """Ids that exist, for the path parameters of this operation."""
    found = {"workerId": stage.worker_id, "taskId": stage.task_id}
    names = [parameter.name for parameter in case.operation.path_parameters]
    return {name: found.get(name) or _endpoint_for(case, stage) for name in names}


def _endpoint_for(case: Case, stage: Stage) -> str:
    match _operation_id(case):
        case "updateEndpoint" | "scaleWorkers":
            return stage.parked
        case "startEndpoint" | "stopEndpoint":
            return stage.toggled
        case "deleteEndpoint":
            return stage.api.create()
        case "submitTask" if isinstance(case.body, dict) and "taskId" in case.body:
            # Each in a queue of its own: examples repeat ids, and an id belongs to one payload (N3).
            # They stay: to delete them would end their tasks, and tell made-up webhooks.
            return stage.api.create()
        case "submitTask" if isinstance(case.body, dict) and "webhook" in case.body:
            return stage.collecting
        case _:
            return stage.served


def _spare_the_stage(case: Case, stage: Stage) -> None:
    """A chain that found the stage in a list may look at it, and must change one of its own instead."""
    path = case.path_parameters or {}
    if case.operation.method != "get" and path.get("id") in stage.ids and _operation_id(case) != "submitTask":
        case.path_parameters = {**path, "id": stage.api.create()}


def _tame(body: dict[str, Any], chained: bool) -> bool:
    """Few workers, whose statuses are told to nobody elsewhere. True when something changed."""
    tamed = _cap(body, "workers", WORKERS_AT_MOST if chained else 0)
    if chained and body.get("serviceMode") in ("ALB", "CUSTOM"):
        body["serviceMode"] = "QUEUE"  # the others take no tasks, which a link cannot know
        tamed = True
    if chained and isinstance(body.get("webhook"), str):
        body["webhook"] = NOBODY
        tamed = True
    return tamed


def _cap(values: dict[str, Any], name: str, most: int) -> bool:
    """Lower a number of workers that would be accepted; numbers in queries are texts, and 5.0 is an integer."""
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return False
    try:
        excessive = most < float(value) <= WORKERS_MAX
    except ValueError:
        return False
    if excessive:
        values[name] = type(value)(most)
    return excessive


def _agree(body: dict[str, Any]) -> None:
    """Two names of one field may not differ (N23)."""
    for name, other in (("environmentVars", "envVars"), ("containerRegistryAuthId", "credentialId")):
        if name in body and other in body:
            body[other] = body[name]


def _pair(query: dict[str, Any]) -> None:
    """The two tokens of a page come together (N27), and a span begins before it ends."""
    if len({"searchAfterTime", "searchAfterOffset"} & set(query)) == 1:
        query.pop("searchAfterTime", None)
        query.pop("searchAfterOffset", None)
    if "startTime" in query and "endTime" in query:
        query["endTime"] = query["startTime"]
