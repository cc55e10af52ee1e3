"""Bugs that servers have, one class each, planted by the proxy: the conformance suite must find every one of them."""

import json
import re
from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode

from tests.conformance.live import KEY, OTHER_KEY
from tests.conformance.proxy import Reply, Request

MUTANTS: list[type["Mutant"]] = []

_TASKS = re.compile(r"/v2/serverless/\d+/tasks")
_TASK = re.compile(r"/v2/serverless/\d+/tasks/(?!count$)[^/]+")
_COUNT = re.compile(r"/v2/serverless/\d+/tasks/count")
_ENDPOINT = re.compile(r"/v2/serverless/\d+")
_LOGS = re.compile(r"/v2/serverless/\d+/workers/[^/]+/logs")


class Mutant:
    """A right server. `found_by` names the check or the law that must find the bug, and `operations` where it shows."""

    found_by: ClassVar[str]
    operations: ClassVar[tuple[str, ...]] = ()
    """Where Schemathesis has to look. Empty: a law finds it."""
    chained: ClassVar[bool] = False
    """It shows only in a chain of requests."""

    def __init_subclass__(cls) -> None:
        if hasattr(cls, "found_by"):
            MUTANTS.append(cls)

    def on_request(self, request: Request) -> None:
        """See proxy.Change."""

    def on_reply(self, request: Request, reply: Reply) -> None:
        """See proxy.Change."""


def _is(request: Request, method: str, path: re.Pattern[str]) -> bool:
    return request.method == method and path.fullmatch(request.path) is not None


def _edit(request: Request | Reply, change: Callable[[Any], Any]) -> None:
    """Change a JSON body; leave it alone when it is none."""
    try:
        value = change(json.loads(request.body))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return
    request.body = json.dumps(value).encode()


def _field(name: str, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda body: {**body, name: change(body[name])}


def _data(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda envelope: {**envelope, "data": change(envelope["data"])}


def _succeeded(reply: Reply) -> bool:
    return b'"code":10000' in reply.body[:60]


# ---- what must be refused is accepted ----------------------------------------------------------------------------


class AcceptsPortsBeyondTheHighest(Mutant):
    found_by = "negative_data_rejection"
    operations = ("submitTask",)

    def on_request(self, request: Request) -> None:
        if _is(request, "POST", _TASKS):
            _edit(request, _field("workerPort", lambda port: 65535 if type(port) is int and port > 65535 else port))


class AcceptsPagesOfAnySize(Mutant):
    found_by = "negative_data_rejection"
    operations = ("listTasks",)

    def on_request(self, request: Request) -> None:
        if _is(request, "GET", _TASKS):
            request.query = re.sub(r"pageSize=(\d{3,})", "pageSize=100", request.query)


class AcceptsHyphensInTaskIds(Mutant):
    found_by = "negative_data_rejection"
    operations = ("submitTask",)

    def on_request(self, request: Request) -> None:
        if _is(request, "POST", _TASKS):
            _edit(request, _field("taskId", lambda text: re.sub(r"[^A-Za-z0-9_]", "_", text)[:255]))


class AcceptsNamesThatBeginWithADigit(Mutant):
    found_by = "negative_data_rejection"
    operations = ("createEndpoint",)

    def on_request(self, request: Request) -> None:
        if request.method == "POST" and request.path == "/v2/serverless":
            _edit(request, _field("name", lambda text: re.sub(r"^[^A-Za-z]", "a", text)))


class AcceptsNumbersInQuotes(Mutant):
    found_by = "negative_data_rejection"
    operations = ("submitTask",)

    def on_request(self, request: Request) -> None:
        if _is(request, "POST", _TASKS):
            _edit(request, _field("workerPort", lambda port: 8000 if isinstance(port, str) else port))


class AcceptsTasksWithoutProcessUri(Mutant):
    found_by = "negative_data_rejection"
    operations = ("submitTask",)

    def on_request(self, request: Request) -> None:
        if _is(request, "POST", _TASKS):
            _edit(request, lambda body: {"processUri": "/", **body})


class AcceptsOtherContentUnderAKnownTaskId(Mutant):
    found_by = "the_same_submit_again_makes_no_second_task_and_another_payload_is_refused"

    def on_reply(self, request: Request, reply: Reply) -> None:
        if _is(request, "POST", _TASKS) and b"another payload" in reply.body:
            task_id = json.loads(request.body)["taskId"]
            envelope = {"message": "success", "code": 10000, "data": {"taskId": task_id}}
            reply.status, reply.body = 200, json.dumps(envelope).encode()


# ---- keys --------------------------------------------------------------------------------------------------------


class IgnoresTheKey(Mutant):
    found_by = "ignored_auth"
    operations = ("getTaskCount",)

    def on_request(self, request: Request) -> None:
        request.headers[b"x-api-key"] = KEY.encode()


class ShowsOneAccountAnother(Mutant):
    found_by = "another_account_sees_nothing_of_it"

    def on_request(self, request: Request) -> None:
        if request.headers.get(b"x-api-key") == OTHER_KEY.encode():
            request.headers[b"x-api-key"] = KEY.encode()


# ---- answers that break the schema or the envelope ---------------------------------------------------------------


class GivesIdsAsNumbers(Mutant):
    found_by = "response_schema_conformance"
    operations = ("getEndpointById",)

    def on_reply(self, request: Request, reply: Reply) -> None:
        if _is(request, "GET", _ENDPOINT) and _succeeded(reply):
            _edit(reply, _data(_field("id", int)))


class LeavesOutAField(Mutant):
    found_by = "response_schema_conformance"
    operations = ("getTaskById",)

    def on_reply(self, request: Request, reply: Reply) -> None:
        if _is(request, "GET", _TASK) and _succeeded(reply):
            _edit(reply, _data(lambda task: {name: task[name] for name in task if name != "updatedAt"}))


class FallsOverOddUnicode(Mutant):
    found_by = "not_a_server_error"
    operations = ("submitTask",)

    def on_reply(self, request: Request, reply: Reply) -> None:
        try:
            text = json.dumps(json.loads(request.body), ensure_ascii=False)
        except (ValueError, RecursionError):
            return
        if any(ord(letter) > 0xFFFF for letter in text):
            reply.status, reply.body = 500, b'{"message":"System error.","code":10002,"data":null}'


class AnswersWithAnUndocumentedStatus(Mutant):
    found_by = "status_code_conformance"
    operations = ("submitTask",)

    def on_reply(self, request: Request, reply: Reply) -> None:
        if _is(request, "POST", _TASKS) and reply.status == 200:
            reply.status = 202


class SaysSuccessWithTheStatusOfAnError(Mutant):
    found_by = "envelope"
    operations = ("stopEndpoint",)

    def on_reply(self, request: Request, reply: Reply) -> None:
        if request.path.endswith("/stop") and _succeeded(reply):
            reply.status = 409


class HidesAnErrorInA200(Mutant):
    found_by = "envelope"
    operations = ("getEndpointById",)

    def on_reply(self, request: Request, reply: Reply) -> None:
        if reply.status == 400:
            reply.status = 200


class LosesTheContentType(Mutant):
    found_by = "content_type_conformance"
    operations = ("listWorkers",)

    def on_reply(self, request: Request, reply: Reply) -> None:
        reply.headers.pop(b"content-type", None)


class LosesTheAllowHeader(Mutant):
    found_by = "unsupported_method"
    operations = ("getTaskCount",)

    def on_reply(self, request: Request, reply: Reply) -> None:
        reply.headers.pop(b"allow", None)


class ShowsTheWebhookAuthKey(Mutant):
    found_by = "a_webhook_auth_key_is_never_shown"

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}

    def on_reply(self, request: Request, reply: Reply) -> None:
        if _is(request, "POST", _TASKS) and _succeeded(reply):
            sent = json.loads(request.body)
            self._keys[json.loads(reply.body)["data"]["taskId"]] = sent.get("webhookAuthKey", "")
        elif _is(request, "GET", _TASK) and _succeeded(reply):
            key = self._keys.get(request.path.rsplit("/", 1)[1])
            _edit(reply, _data(lambda task: {**task, "webhookAuthKey": key}))


# ---- answers that do not hang together ---------------------------------------------------------------------------


class ServesWhatWasDeleted(Mutant):
    found_by = "use_after_free"
    operations = ("createEndpoint", "getEndpointById", "deleteEndpoint")
    chained = True

    def __init__(self) -> None:
        self._seen: dict[str, bytes] = {}

    def on_reply(self, request: Request, reply: Reply) -> None:
        if request.path == "/v2/serverless" and request.method == "POST" and _succeeded(reply):
            self._seen[f"/v2/serverless/{json.loads(reply.body)['data']['id']}"] = reply.body
        elif _is(request, "GET", _ENDPOINT) and reply.status == 404 and request.path in self._seen:
            reply.status, reply.body = 200, self._seen[request.path]


class LetsPagesOverlap(Mutant):
    found_by = "pages_hold_every_task_once_and_newest_first"

    def __init__(self) -> None:
        self._last: Any = None

    def on_reply(self, request: Request, reply: Reply) -> None:
        if not _is(request, "GET", _TASKS) or not _succeeded(reply):
            return
        page = json.loads(reply.body)["data"]
        if page["page"] > 1 and page["items"] and self._last:
            last = self._last
            _edit(reply, _data(_field("items", lambda items: [last, *items[:-1]])))
        self._last = page["items"][-1] if page["items"] else None


class ListsTheOldestFirst(Mutant):
    found_by = "pages_hold_every_task_once_and_newest_first"

    def on_reply(self, request: Request, reply: Reply) -> None:
        if _is(request, "GET", _TASKS):
            _edit(reply, _data(_field("items", lambda items: items[::-1])))


class CountsOneTooMany(Mutant):
    found_by = "the_count_is_the_number_of_tasks_that_the_list_shows_as_processing"

    def on_reply(self, request: Request, reply: Reply) -> None:
        if _is(request, "GET", _COUNT):
            _edit(reply, _data(_field("processing", lambda count: count + (count >= 3))))


class IgnoresTheStatusFilter(Mutant):
    found_by = "a_status_list_selects"

    def on_request(self, request: Request) -> None:
        pairs = parse_qsl(request.query, keep_blank_values=True)
        if request.path == "/v2/serverless" and pairs:
            request.query = urlencode([pair for pair in pairs if pair[0] != "statusList"])


class MakesASecondTaskOfARepeatedSubmit(Mutant):
    found_by = "the_same_submit_again_makes_no_second_task_and_another_payload_is_refused"

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def on_request(self, request: Request) -> None:
        if not _is(request, "POST", _TASKS):
            return
        sent = request.path.encode() + request.body
        if sent in self._seen:
            _edit(request, _field("taskId", lambda text: text + "_again"))
        self._seen.add(sent)

    def on_reply(self, request: Request, reply: Reply) -> None:
        if _is(request, "POST", _TASKS):
            reply.body = reply.body.replace(b'_again"', b'"')


class LosesTheTaskHeaders(Mutant):
    found_by = "headers_are_kept_as_they_were_sent"

    def on_request(self, request: Request) -> None:
        if _is(request, "POST", _TASKS):
            _edit(request, _field("headers", lambda headers: dict(list(headers.items())[1:])))


class ReadsAndWritesTheInputAnew(Mutant):
    found_by = "an_input_reaches_the_worker_and_comes_back_byte_for_byte"

    def on_request(self, request: Request) -> None:
        if _is(request, "POST", _TASKS):
            _edit(request, lambda body: body)


class RepeatsALineOfTheLogOnEveryPage(Mutant):
    found_by = "log_pages_hold_every_line_once_in_both_directions"

    def on_request(self, request: Request) -> None:
        if _is(request, "GET", _LOGS):
            step = 1 if "direction=Backward" in request.query else -1
            request.query = re.sub(
                r"(searchAfterOffset=)(\d+)", lambda found: f"{found[1]}{int(found[2]) + step}", request.query
            )
