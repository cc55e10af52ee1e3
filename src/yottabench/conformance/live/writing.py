"""The checks that write: an endpoint's and a task's whole life, and what must be refused on the way."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

from yottabench.conformance.document import operations
from yottabench.conformance.live.findings import Findings
from yottabench.conformance.live.reading import missing, parameters, read_endpoint
from yottabench.conformance.live.service import Expected, Seen, Service, Unreachable
from yottabench.conformance.values import bodies, values

UNSENT = "a-webhook-auth-key"  # there is no webhook that it would be sent to
NOT_ACCEPTING, WRONG_STATE, NO_ENDPOINT = 24000, 24002, 14000
SETTLE_TRIES = 60
SETTLE_WAIT_S = 1.0
DELETE_TRIES = 5
_ALIASES = {"envVars", "environmentVars", "credentialId", "containerRegistryAuthId"}


class Writing:
    """Makes endpoints, checks what becomes of them, and deletes them again."""

    def __init__(self, service: Service, findings: Findings, *, image: str, workers: int, name: str) -> None:
        self._service = service
        self._findings = findings
        self._image = image
        self._workers = workers
        self._name = name
        self._made: list[str] = []
        self._may_be_made = False
        """A creation had no answer, so the endpoint may exist under our name."""

    def run(self) -> None:
        """The whole life of an endpoint. Raises OutOfBudget, Unreachable."""
        endpoint_id = self._create(self._settings())
        if endpoint_id is None:
            self._findings.skip(self._of_endpoints(), "no endpoint could be made")
            return
        self._listed(endpoint_id)
        self._await(endpoint_id, "RUNNING")
        self._tasks(endpoint_id)
        read_endpoint(self._service, self._findings, endpoint_id, None)
        missing(self._service, endpoint_id)
        self._stopped(endpoint_id)
        self._refusals(endpoint_id)
        self._started(endpoint_id)
        parameters(self._service, "listTasks", {"id": endpoint_id})
        self._gone(endpoint_id)

    def clean_up(self) -> None:
        """Delete what was made, budget or not; what cannot be deleted is in the findings. Raises nothing."""
        if self._may_be_made:
            with contextlib.suppress(Unreachable):
                self._find_unanswered()
        for endpoint_id in list(self._made):
            with contextlib.suppress(Unreachable):
                self._delete(endpoint_id)
        self._findings.left_behind = list(self._made)

    # ---- steps

    def _settings(self, **more: Any) -> dict[str, Any]:
        documented = copy.deepcopy(_sample("createEndpoint"))
        kept = {name: value for name, value in documented.items() if name not in _ALIASES | {"webhook"}}
        return {**kept, "name": self._name, "image": self._image, "workers": self._workers, **more}

    def _create(self, settings: dict[str, Any], expected: Expected = "success", why: str = "") -> str | None:
        before, self._may_be_made = self._may_be_made, True
        seen = self._service.call("createEndpoint", expected, why, body=settings)
        self._may_be_made = before or seen is None
        if seen is None or not seen.ok:
            return None
        self._made.append(str(seen.data["id"]))
        if expected == "success" and seen.data["name"] != settings["name"]:
            self._service.deviates("createEndpoint", "answered another name than the one that was sent")
        return self._made[-1]

    def _listed(self, endpoint_id: str) -> None:
        listed = self._service.call("listEndpoints")
        if listed is not None and listed.ok and endpoint_id not in {str(one["id"]) for one in listed.data}:
            self._service.deviates("listEndpoints", "does not list an endpoint that was just created")

    def _await(self, endpoint_id: str, status: str) -> None:
        for _ in range(SETTLE_TRIES):
            seen = self._service.call("getEndpointById", ids={"id": endpoint_id})
            if seen is None or not seen.ok or seen.data["status"] == status:
                return
            self._service.budget.sleep(SETTLE_WAIT_S)
        self._findings.skip(["getEndpointById"], f"the endpoint did not become {status}")

    def _tasks(self, endpoint_id: str) -> None:
        sample = {name: value for name, value in _sample("submitTask").items() if name != "webhook"}
        first = {**sample, "taskId": "conformance_1", "webhookAuthKey": UNSENT}
        ids = {"id": endpoint_id}
        for why in ("", "the same task again"):
            seen = self._service.call("submitTask", "success", why, body=first, ids={"id": endpoint_id})
            if seen is not None and seen.ok and seen.data["taskId"] != first["taskId"]:
                self._service.deviates("submitTask", "answered another taskId than the one that was sent")
        shown = self._service.call("getTaskById", ids={"id": endpoint_id, "taskId": first["taskId"]})
        if shown is not None and shown.ok:
            if shown.data["input"] != first["input"]:
                self._service.deviates("getTaskById", "shows another input than the one that was submitted")
            if shown.data["headers"] != first["headers"]:
                self._service.deviates("getTaskById", "shows other headers than those that were submitted")
        other = {**first, "input": "another"}
        self._service.call("submitTask", "refusal", "the taskId has another input already", body=other, ids=ids)
        made = self._service.call("submitTask", body=_without(sample, "taskId"), ids={"id": endpoint_id})
        if made is not None and made.ok:
            self._service.call("getTaskById", ids={"id": endpoint_id, "taskId": made.data["taskId"]})
        for value in bodies(operations()["submitTask"], _without(sample, "taskId")):
            # Webhooks would be told, and an id belongs to one task.
            if value.allowed and not value.why.startswith(("workerPort", "processUri", "input")):
                continue
            expected = "success" if value.allowed else "refusal"
            self._service.call("submitTask", expected, value.why, body=value.value, ids={"id": endpoint_id})

    def _stopped(self, endpoint_id: str) -> None:
        self._service.call("stopEndpoint", ids={"id": endpoint_id})
        self._await(endpoint_id, "STOPPED")
        task = _without(_sample("submitTask"), "taskId", "webhook", "webhookAuthKey")
        seen = self._service.call(
            "submitTask", "refusal", "the endpoint is stopped", body=task, ids={"id": endpoint_id}
        )
        self._has_code("submitTask", seen, NOT_ACCEPTING)
        # However many workers a stopped endpoint is told to have, none is started, so none is paid for.
        change = {**_without(_sample("updateEndpoint"), *_ALIASES), "name": self._name[:-1] + "u", "workers": 1}
        updated = self._service.call("updateEndpoint", body=change, ids={"id": endpoint_id})
        if updated is not None and updated.ok and updated.data["name"] != change["name"]:
            self._service.deviates("updateEndpoint", "answered another name than the one that was sent")
        for value in values(operations()["scaleWorkers"].parameter("count").schema):
            if type(value.value) is int:
                why = f"count {value.why}"
                expected = "success" if value.allowed else "refusal"
                self._service.call("scaleWorkers", expected, why, query={"count": value.value}, ids={"id": endpoint_id})
        self._service.call("scaleWorkers", query={"count": self._workers}, ids={"id": endpoint_id})

    def _refusals(self, endpoint_id: str) -> None:
        """Bodies that the document refuses; what is accepted all the same is deleted again."""
        for name in ("updateEndpoint", "createEndpoint"):
            base = self._settings() if name == "createEndpoint" else _without(_sample(name), *_ALIASES)
            for value in _each_field_first(list(bodies(operations()[name], base))):
                if name == "updateEndpoint":
                    self._service.call(name, "refusal", value.why, body=value.value, ids={"id": endpoint_id})
                else:
                    accepted = self._create(value.value, "refusal", value.why)
                    if accepted is not None:
                        self._delete(accepted)

    def _started(self, endpoint_id: str) -> None:
        self._service.call("startEndpoint", ids={"id": endpoint_id})
        self._await(endpoint_id, "RUNNING")

    def _gone(self, endpoint_id: str) -> None:
        self._delete(endpoint_id)
        seen = self._service.call("getEndpointById", "refusal", "the endpoint was deleted", ids={"id": endpoint_id})
        self._has_code("getEndpointById", seen, NO_ENDPOINT)

    # ---- helpers

    def _has_code(self, name: str, seen: Seen | None, code: int) -> None:
        if seen is not None and not seen.ok and seen.code != code:
            self._service.deviates(name, f"refused with code {seen.code} what should be refused with {code}")

    def _delete(self, endpoint_id: str) -> None:
        """Delete an endpoint; one that must be stopped first is."""
        for _ in range(DELETE_TRIES):
            seen = self._service.call("deleteEndpoint", "anything", free=True, ids={"id": endpoint_id})
            if seen is not None and (seen.ok or seen.code == NO_ENDPOINT):
                self._made.remove(endpoint_id)
                return
            if seen is not None and seen.code == WRONG_STATE:
                self._service.call("stopEndpoint", "anything", free=True, ids={"id": endpoint_id})
            self._service.budget.sleep(SETTLE_WAIT_S)

    def _find_unanswered(self) -> None:
        listed = self._service.call("listEndpoints", "anything", free=True)
        if listed is not None and listed.ok:
            ours = [str(one["id"]) for one in listed.data if one["name"] == self._name]
            self._made += [one for one in ours if one not in self._made]

    def _of_endpoints(self) -> list[str]:
        return [name for name, one in operations().items() if "{id}" in one.path]


def _each_field_first(changed: list[Any]) -> Iterator[Any]:
    """What is refused, so that a small budget tries something of every field before it tries all of one."""
    by_field: dict[str, list[Any]] = {}
    for value in changed:
        if not value.allowed:
            by_field.setdefault(value.why.split(" ")[0], []).append(value)
    while by_field:
        for field in list(by_field):
            yield by_field[field].pop(0)
            if not by_field[field]:
                del by_field[field]


def _sample(name: str) -> dict[str, Any]:
    return operations()[name].raw["requestBody"]["content"]["application/json"]["examples"]["documented"]["value"]


def _without(body: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in names}
