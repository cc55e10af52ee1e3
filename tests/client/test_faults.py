"""Over real connections: whatever a server does to a request, the call ends well or with an error that tells."""

import sys
import threading
from collections import Counter
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from tests.client.clients import KINDS, Kind, make
from tests.client.scripted import (
    Action,
    Connection,
    ScriptedServer,
    answers,
    closes,
    delays,
    hangs,
    resets,
    resets_next,
    trickles,
)
from tests.client.service import ENDPOINT, ID, KEY, TASK, success
from yottabench.client import ApiError, ConnectionFailed, Retries, YottaError

QUICK = Retries(first_s=0.001, most_retry_after_s=0.01)
HTML = b"<html><h1>502 Bad Gateway</h1></html>"

FAULTS: dict[str, Action] = {
    "429 with Retry-After": answers(429, {"message": "slow down", "code": 429, "data": None}, {"Retry-After": "30"}),
    "reset after the request was sent": resets(),
    "reset again before the request was read": resets_next(),
    "closed after the request was sent": closes(),
    "closed in the middle of the header": closes(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "closed in the middle of the body": closes(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"message'),
    "closed in the middle of a chunk": closes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{"),
    "502 with HTML": answers(502, HTML),
    "200 with HTML": answers(200, HTML),
    "empty 200": answers(200, b""),
    "empty 500": answers(500, b""),
    "520": answers(520, b"Web server is returning an unknown error"),
    "503 with a date": answers(503, b"", {"Retry-After": "Mon, 15 Jan 2024 08:10:30 GMT"}),
    "no HTTP at all": closes(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "half an envelope": answers(200, b'{"message": "success", "code": 10000, "data": {"id"'),
    "not UTF-8": answers(200, b'{"message": "\xff\xfe"}'),
    "a broken length": closes(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}"),
    "gzip that is none": answers(200, b"plain", {"Content-Encoding": "gzip"}),
    "too slow": hangs(),
    "byte by byte": trickles(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", every_s=0.01),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_call_survives_the_fault_when_the_next_try_is_answered(fault: Action, kind: Kind) -> None:
    with ScriptedServer([fault, fault], otherwise=answers(200, success(ENDPOINT))) as server:
        rest = {"base_url": server.url, "retries": QUICK, "timeout_s": 0.15}
        with make(kind, KEY, **rest) as client:
            assert client.endpoints.get(ID).id == ID
    assert len(server.requests) >= 3


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_that_stays_is_an_error_of_this_client(fault: Action, kind: Kind) -> None:
    options = {"retries": 1, "timeout_s": 0.1, "deadline_s": 5}
    with (
        ScriptedServer([], otherwise=fault) as server,
        make(kind, KEY, server.url, **options) as client,
        pytest.raises((ApiError, ConnectionFailed)) as caught,
    ):
        client.tasks.get(ID, "x")
    assert caught.value.operation == "getTaskById"
    assert KEY not in f"{caught.value!s}{caught.value!r}"


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_httpx_bears_what_aiohttp_does(fault: Action, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with (
        ScriptedServer([fault], otherwise=answers(200, success(ENDPOINT))) as server,
        make("async", KEY, server.url, retries=QUICK, timeout_s=0.15) as client,
    ):
        assert client.endpoints.get(ID).id == ID
    assert len(server.requests) >= 2


def test_a_slow_answer_within_the_time_is_a_good_answer(kind: Kind) -> None:
    slow = delays(0.2, answers(200, success(ENDPOINT)))
    with ScriptedServer([slow]) as server, make(kind, KEY, server.url, timeout_s=20) as client:
        assert client.endpoints.get(ID).id == ID


def test_unknown_values_and_fields_survive_the_wire(kind: Kind) -> None:
    strange = {**TASK, "status": "ARCHIVED", "deliveryStatus": "PAUSED", "priority": {"level": 3}}
    with ScriptedServer([], otherwise=answers(200, success(strange))) as server, make(kind, KEY, server.url) as client:
        task = client.tasks.get(ID, "my_task_001")
    assert (task.status, task.delivery_status, task["priority"]) == ("ARCHIVED", "PAUSED", {"level": 3})


STRANGE = "a good answer with unknown values and fields"
SLOW = {"too slow", "byte by byte"}


class NaiveQueue:
    """Runs every task that it is sent, unless it knows repetitions; a script says what happens to each request."""

    def __init__(self, script: list[tuple[str, bool]], *, knows_repetitions: bool = False) -> None:
        self.script = list(script)
        self.knows_repetitions = knows_repetitions
        self.runs: Counter[str] = Counter()
        self._lock = threading.Lock()

    def act(self, connection: Connection) -> bool:
        with self._lock:
            name, done = self.script.pop(0) if self.script else ("", True)
            # Who says "too many" or "later" has done nothing.
            good = self._take(connection) if done and name[:3] not in ("429", "503") else None
        if name in FAULTS:
            return FAULTS[name](connection)
        assert good is not None
        status, data = good
        if name == STRANGE and status == 200:
            data = {**data, "status": "ARCHIVED", "deliveryStatus": "PAUSED", "priority": {"level": 3}}
        code, message = (10000, "success") if status == 200 else (24011, "no such task")
        return answers(status, {"message": message, "code": code, "data": data})(connection)

    def _take(self, connection: Connection) -> tuple[int, Any]:
        method, path = connection.line
        if method == "POST":
            task_id = connection.body["taskId"]
            if not self.knows_repetitions or task_id not in self.runs:
                self.runs[task_id] += 1
            return 200, {"taskId": task_id}
        task_id = path.rsplit("/", 1)[1]
        return (200, {**TASK, "taskId": task_id, "input": 5}) if task_id in self.runs else (404, None)


def assert_fate_is_told(queue: NaiveQueue, kind: Kind, **options: Any) -> None:
    """Submit a task: it ran at most once, and the caller knows whether it is there, or that this is not known."""
    outcome: Any
    with ScriptedServer([], otherwise=queue.act) as server, make(kind, KEY, server.url, **options) as client:
        try:
            outcome = client.tasks.submit(ID, 5, worker_port=1, process_uri="/")
        except YottaError as error:
            outcome = error
    assert sum(queue.runs.values()) <= 1
    if isinstance(outcome, YottaError):
        assert isinstance(outcome, (ApiError, ConnectionFailed))
        assert outcome.task_id is not None
        assert outcome.may_have_taken_effect or not queue.runs
    else:
        assert queue.runs == {outcome.task_id: 1}


def scripts(names: set[str], **options: Any) -> st.SearchStrategy[list[tuple[str, bool]]]:
    """What happens to each request, and whether what it asks for is done; a good answer is also done."""
    steps = st.tuples(st.sampled_from(sorted(names)), st.booleans())
    return st.lists(steps.map(lambda step: (step[0], step[1] or step[0] == STRANGE)), **options)


@settings(max_examples=40)
@for_all(scripts({*FAULTS, STRANGE} - SLOW, max_size=7), st.sampled_from(KINDS))
def test_a_task_runs_at_most_once_over_real_connections(script: list[tuple[str, bool]], kind: Kind) -> None:
    assert_fate_is_told(NaiveQueue(script), kind, retries=QUICK, timeout_s=5)


# What a slow server takes may come to it after it was asked for and not found: only one that knows the documented
# repetitions runs it once then.
@settings(max_examples=10)
@for_all(scripts({*SLOW, "502 with HTML", STRANGE}, min_size=1, max_size=4), st.sampled_from(KINDS))
def test_the_fate_of_a_task_is_told_by_slow_servers_too(script: list[tuple[str, bool]], kind: Kind) -> None:
    assert_fate_is_told(NaiveQueue(script, knows_repetitions=True), kind, retries=QUICK, timeout_s=0.1)
