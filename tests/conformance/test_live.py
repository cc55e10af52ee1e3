"""`yottabench conformance`: it finds what is wrong with a deployment, changes nothing unasked, and cleans up."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conformance.conftest import Stages
from tests.conformance.live import KEY, OTHER_KEY, Api, Stage
from tests.conformance.mutants import MUTANTS, Mutant
from tests.conformance.process import emulator
from tests.conformance.proxy import Reply, Request, proxy
from yottabench.conformance.live import Wishes, run
from yottabench.conformance.live.findings import Findings
from yottabench.conformance.live.service import Budget, KeyRefused

READERS = {"listEndpoints", "getEndpointById", "listWorkers", "getWorkerLogs", "listTasks", "getTaskCount"} | {
    "getTaskById"
}
SECRET = "a-key-like-no-other"
# What shows in what is only read of a deployment that is in use, and what only when a life is lived there.
SEEN_BY_READING = {
    *("AcceptsPagesOfAnySize", "IgnoresTheKey", "GivesIdsAsNumbers", "LeavesOutAField", "LosesTheContentType"),
    *("LetsPagesOverlap", "ListsTheOldestFirst", "CountsOneTooMany", "IgnoresTheStatusFilter"),
}
SEEN_BY_WRITING = {
    *("AcceptsPortsBeyondTheHighest", "AcceptsHyphensInTaskIds", "AcceptsNamesThatBeginWithADigit"),
    *(
        "LosesTheTaskHeaders",
        "AcceptsNumbersInQuotes",
        "AcceptsTasksWithoutProcessUri",
        "AcceptsOtherContentUnderAKnownTaskId",
    ),
    *("FallsOverOddUnicode", "AnswersWithAnUndocumentedStatus", "SaysSuccessWithTheStatusOfAnError"),
    *("ShowsTheWebhookAuthKey", "ServesWhatWasDeleted"),
}


class Recording(Mutant):
    """Changes nothing, and keeps what passes."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def on_reply(self, request: Request, reply: Reply) -> None:
        self.calls.append((request.method, request.path))


def quick(total: int = 3000) -> Budget:
    """A budget in which no time passes while one waits."""
    return Budget(per_second=1000, total=total, now_s=lambda: 0.0, sleep=lambda _s: None)


def check(url: str, *, key: str = KEY, total: int = 3000, http: Any = None, **wishes: Any) -> Findings:
    return run(Wishes(target=url, key=key, image="sim/echo", **wishes), budget=quick(total), http=http)


def states(findings: Findings) -> dict[str, str]:
    return {name: one.state for name, one in findings.operations.items()}


def names_of(api: Api) -> list[str]:
    return [endpoint["name"] for endpoint in api.data("GET", "")]


@pytest.fixture
def busy(stage: Stage) -> Stage:
    """The stage, whose first queue is in use."""
    for _ in range(4):
        stage.api.submit(stage.collecting)
    return stage


# ---- a right deployment


def test_a_check_that_may_not_write_sends_nothing_but_get(busy: Stage) -> None:
    recording = Recording()
    with proxy(busy.api.url, recording) as url:
        findings = check(url, endpoint_id=busy.served)
    assert {method for method, _ in recording.calls} == {"GET"}
    assert findings.requests == len(recording.calls)
    assert {name for name, state in states(findings).items() if state == "conforms"} == READERS
    assert {state for name, state in states(findings).items() if name not in READERS} == {"not checked"}
    assert findings.operations["submitTask"].reasons == ["it writes: ask for it with WRITE=1 or --write"]


@pytest.mark.parametrize("style", ["status", pytest.param("envelope200", marks=pytest.mark.full)])
def test_a_check_that_may_write_checks_all_and_leaves_nothing_behind(stages: Stages, style: str) -> None:
    stage = stages(style)
    before = names_of(stage.api)
    findings = check(stage.api.url, write=True, workers=1, endpoint_id=stage.served)
    assert findings.as_text().count("conforms") == 14 + 1, findings.as_text()
    assert not findings.deviates
    assert findings.left_behind == []
    assert names_of(stage.api) == before


def test_without_an_endpoint_there_is_little_to_read_and_it_is_said() -> None:
    with emulator() as url:
        findings = check(url)
    assert states(findings)["getTaskById"] == "not checked"
    assert "there is no endpoint to read" in findings.operations["getTaskById"].reasons[0]
    assert findings.operations["listEndpoints"].state == "conforms"


# ---- budget


def test_the_budget_is_kept_and_what_it_left_unchecked_is_said(busy: Stage) -> None:
    recording = Recording()
    with proxy(busy.api.url, recording) as url:
        findings = check(url, total=7, endpoint_id=busy.served)
    assert len(recording.calls) == findings.requests == 7
    assert "all 7 requests were sent" in str(findings.stopped)
    assert "budget used up" in findings.operations["getTaskById"].reasons


def test_requests_are_spread_over_time() -> None:
    now = [100.0]
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        now[0] += seconds

    budget = Budget(per_second=4, total=9, now_s=lambda: now[0], sleep=sleep)
    for _ in range(9):
        budget.spend()
    assert now[0] == pytest.approx(102.0)
    assert len(naps) == 8


def test_a_budget_that_ends_in_the_middle_of_writing_leaves_nothing_behind(stage: Stage) -> None:
    before = names_of(stage.api)
    findings = check(stage.api.url, total=200, write=True, endpoint_id=stage.served)
    assert findings.stopped
    assert findings.left_behind == []
    assert names_of(stage.api) == before


# ---- deviating deployments


def mutants(names: set[str]) -> list[type[Mutant]]:
    return [mutant for mutant in MUTANTS if mutant.__name__ in names]


@pytest.mark.parametrize("mutant", mutants(SEEN_BY_READING), ids=lambda mutant: mutant.__name__)
def test_reading_finds_the_bug(busy: Stage, mutant: type[Mutant]) -> None:
    with proxy(busy.api.url, mutant()) as url:
        findings = check(url, endpoint_id=busy.served if mutant.__name__ == "LeavesOutAField" else busy.collecting)
    assert findings.deviates, findings.as_text()
    for one in findings.operations.values():
        assert all(finding.text and finding.request for finding in one.deviations)


@pytest.mark.full
@pytest.mark.parametrize("mutant", mutants(SEEN_BY_WRITING), ids=lambda mutant: mutant.__name__)
def test_writing_finds_the_bug_and_cleans_up_all_the_same(stage: Stage, mutant: type[Mutant]) -> None:
    before = names_of(stage.api)
    with proxy(stage.api.url, mutant()) as url:
        findings = check(url, write=True, endpoint_id=stage.served)
    assert findings.deviates, findings.as_text()
    assert names_of(stage.api) == before


def test_a_deviation_is_shown_with_its_request_and_answer_and_without_secrets(busy: Stage) -> None:
    class Leaking(Mutant):
        def on_reply(self, request: Request, reply: Reply) -> None:
            if request.path.endswith("/count"):
                reply.body = b"<html>" + request.headers.get(b"x-api-key", b"") + b"</html>"
                reply.headers[b"set-cookie"] = SECRET.encode()

    with proxy(busy.api.url, Leaking()) as url:
        findings = check(url, endpoint_id=busy.collecting)
    finding = findings.operations["getTaskCount"].deviations[0]
    assert finding.request["target"].endswith("/tasks/count")
    assert finding.answer is not None
    assert finding.answer["body"] == "<html>[redacted]</html>"
    shown = findings.as_text() + json.dumps(findings.as_json())
    assert KEY not in shown
    assert SECRET not in shown
    assert "deviates     getTaskCount" in findings.as_text()


def test_a_busy_deployment_is_asked_again_and_what_stays_busy_is_not_checked(stage: Stage) -> None:
    class Busy(Mutant):
        def on_reply(self, request: Request, reply: Reply) -> None:
            if request.path.endswith("/count"):
                reply.status, reply.headers[b"retry-after"] = 429, b"1"
                reply.body = b'{"message":"Too many requests.","code":429,"data":null}'

    with proxy(stage.api.url, Busy()) as url:
        findings = check(url, endpoint_id=stage.served)
    assert states(findings)["getTaskCount"] == "not checked"
    assert "busy (HTTP 429)" in findings.operations["getTaskCount"].reasons[0]


# ---- cleaning up


class Interfering(httpx.BaseTransport):
    """Sends requests, and does something odd at one of them."""

    def __init__(self, at: Callable[[httpx.Request], bool], error: BaseException, *, after: bool) -> None:
        self._under = httpx.HTTPTransport()
        self._at = at
        self._error = error
        self._after = after

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        hit = self._at(request)
        if hit and not self._after:
            raise self._error
        response = self._under.handle_request(request)
        if hit:
            response.close()
            raise self._error
        return response

    def close(self) -> None:
        self._under.close()


def interfering(method: str, ending: str, error: BaseException, *, after: bool = False, once: bool = True) -> Any:
    left = [1] if once else [10**6]

    def at(request: httpx.Request) -> bool:
        hit = request.method == method and request.url.path.endswith(ending) and left[0] > 0
        left[0] -= hit
        return hit

    return lambda: httpx.Client(transport=Interfering(at, error, after=after), timeout=10)


@pytest.mark.parametrize(
    ("method", "ending", "error", "after", "said"),
    [
        ("POST", "/tasks", KeyboardInterrupt(), True, "interrupted"),
        ("POST", "/v2/serverless", KeyboardInterrupt(), True, "interrupted"),
        ("POST", "/v2/serverless", httpx.ReadTimeout("no answer"), True, "no answer"),
        ("POST", "/stop", httpx.ConnectError("gone"), False, "no answer"),
    ],
)
def test_however_it_ends_what_was_made_is_deleted(
    stage: Stage, method: str, ending: str, error: BaseException, after: bool, said: str
) -> None:
    before = names_of(stage.api)
    http = interfering(method, ending, error, after=after)
    findings = check(stage.api.url, write=True, endpoint_id=stage.served, http=http)
    assert said in str(findings.stopped)
    assert findings.left_behind == []
    assert names_of(stage.api) == before


def test_what_cannot_be_deleted_is_named(stage: Stage) -> None:
    before = names_of(stage.api)
    http = interfering("DELETE", "", httpx.ConnectError("gone"), once=False)
    findings = check(stage.api.url, write=True, total=250, endpoint_id=stage.served, http=http)
    (left,) = findings.left_behind
    assert "Not deleted again, please do so" in findings.as_text()
    stage.api.call("DELETE", f"/{left}")
    assert names_of(stage.api) == before


def test_an_endpoint_that_must_be_stopped_first_is_stopped_and_deleted(stage: Stage) -> None:
    class Strict(Mutant):
        def __init__(self) -> None:
            self._stopped = False

        def on_request(self, request: Request) -> None:
            self._stopped |= request.path.endswith("/stop")

        def on_reply(self, request: Request, reply: Reply) -> None:
            if request.method == "DELETE" and not self._stopped:
                reply.status = 409
                reply.body = b'{"message":"Stop it first, please.","code":24002,"data":null}'

    before = names_of(stage.api)
    with proxy(stage.api.url, Strict()) as url:
        # It ends before the endpoint would have been stopped anyway.
        findings = check(url, write=True, total=170, endpoint_id=stage.served)
    assert findings.left_behind == []
    assert len(names_of(stage.api)) <= len(before) + 1


# ---- the command


def command(url: str, *words: str, key: str | None = KEY) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "YOTTA_API_KEY"}
    environment |= {} if key is None else {"YOTTA_API_KEY": key}
    line = [sys.executable, "-m", "yottabench", "conformance", "--target", url, "--rate", "1000", *words]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_ends_with_what_it_found(busy: Stage) -> None:
    done = command(busy.api.url, "--endpoint-id", busy.served, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["deviates"] is False
    assert told["mode"] == "read-only"
    assert told["operations"]["listTasks"]["state"] == "conforms"
    with proxy(busy.api.url, next(iter(mutants({"GivesIdsAsNumbers"})))()) as url:
        assert command(url, "--endpoint-id", busy.served, "--requests", "20").returncode == 1


@pytest.mark.parametrize(
    ("url", "key", "code", "said"),
    [
        ("127.0.0.1:1", KEY, 2, "must be a URL"),
        ("https://192.0.2.1", None, 4, "YOTTA_API_KEY is not set"),
        ("http://127.0.0.1:9", KEY, 5, "no answer"),
    ],
)
def test_the_command_says_why_it_could_not_check(url: str, key: str | None, code: int, said: str) -> None:
    done = command(url, key=key)
    assert done.returncode == code
    assert said in done.stdout + done.stderr


def test_an_unknown_key_is_said(stage: Stage) -> None:
    with pytest.raises(KeyRefused):
        check(stage.api.url, key="no-such-key")
    done = command(stage.api.url, key="no-such-key")
    assert done.returncode == 4
    assert "does not know the key" in done.stderr
    assert "no-such-key" not in done.stderr


def test_a_terminated_check_cleans_up(stage: Stage) -> None:
    made = []

    class Watching(Mutant):
        def on_reply(self, request: Request, reply: Reply) -> None:
            if request.method == "POST" and request.path == "/v2/serverless" and not made:
                made.append(json.loads(reply.body)["data"]["id"])
                process.send_signal(signal.SIGTERM)

    before = names_of(stage.api)
    environment = {**os.environ, "YOTTA_API_KEY": KEY}
    with proxy(stage.api.url, Watching()) as url:
        line = [sys.executable, "-m", "yottabench", "conformance", "--target", url, "--rate", "1000", "--write"]
        line += ["--endpoint-id", stage.served]
        with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True) as process:
            said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Ended early: interrupted" in said
    assert made
    assert names_of(stage.api) == before


def test_make_passes_the_target_on() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        ["make", "--dry-run", "conformance", "TARGET=https://api.example.com", "WRITE=1"],
        cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert 'conformance --target "https://api.example.com" --write' in done.stdout
    done = subprocess.run(["make", "--dry-run", "conformance"], cwd=root, capture_output=True, text=True, check=True)
    assert "tests/conformance" in done.stdout


def test_another_account_sees_nothing_of_the_first(stage: Stage) -> None:
    findings = check(stage.api.url, key=OTHER_KEY)
    assert states(findings)["listEndpoints"] == "conforms"
