import asyncio
import contextlib
import itertools
import json
import os
import re
import select
import signal
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yottabench.emulator.drivers import process
from yottabench.emulator.drivers.base import RunningWorker, WorkerSpec, WorkerStartError
from yottabench.emulator.drivers.process import LineSplitter, WorkerProcess
from yottabench.emulator.drivers.sim import SimDriver
from yottabench.emulator.drivers.sim_worker.images import Simulator, known_image
from yottabench.emulator.drivers.sim_worker.model import Plan, Request, Settings
from yottabench.emulator.http1 import Answer, ConnectionLost, Http1Pool

pytestmark = pytest.mark.anyio

EXECUTION = re.compile(r"task=(\S+) attempt=(\S+) path=(\S+) status=(\d+) start_ms=(\d+) end_ms=(\d+)")
CHAT = {"model": "m", "messages": [{"role": "user", "content": "x" * 40}], "max_tokens": 5}
FAST_LLM = {"SIM_TIME_SCALE": "0"}

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel about processes")


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


class Log:
    """The lines a worker has written, and a way to wait for one."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._more = asyncio.Event()

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        self._more.set()

    async def line(self, pattern: str) -> str:
        """The first line that matches, which may be yet to come."""
        while True:
            for line in self.lines:
                if re.search(pattern, line):
                    return line
            self._more.clear()
            await self._more.wait()

    def executions(self) -> list[tuple[str, ...]]:
        """What the execution log says."""
        return [found.groups() for line in self.lines if (found := EXECUTION.fullmatch(line))]


def spec_of(image: str = "sim/echo", seed: int = 7, **env: str) -> WorkerSpec:
    return WorkerSpec("w1", "e1", image, 8000, "http", env, None, seed)


class Worker:
    """A started worker, a pool to it, and its log."""

    def __init__(self, running: RunningWorker, log: Log) -> None:
        self.running = running
        self.log = log
        self.pool = Http1Pool(*running.address(8000))

    async def post(self, body: Any, task: str = "t1", attempt: int = 1, path: bytes = b"/run") -> Answer:
        """Send a task."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = f"X-Task-Id: {task}\r\nX-Task-Attempt: {attempt}\r\n".encode()
        return await self.pool.request(b"POST", path, headers, data, timeout_s=20, max_body_bytes=2**27)

    async def get(self, path: bytes) -> Answer:
        """Read a path."""
        return await self.pool.request(b"GET", path, b"", b"", timeout_s=20, max_body_bytes=2**20)


@contextlib.asynccontextmanager
async def driving() -> AsyncIterator[SimDriver]:
    driver = SimDriver()
    try:
        yield driver
    finally:
        await driver.close()


@contextlib.asynccontextmanager
async def working(spec: WorkerSpec | None = None) -> AsyncIterator[Worker]:
    """One worker, ready."""
    async with driving() as driver:
        log = Log()
        running = await driver.start(spec or spec_of(), log)
        await running.wait_ready()
        worker = Worker(running, log)
        try:
            yield worker
        finally:
            worker.pool.close()


async def test_echo_answers_with_the_bytes_it_got_and_the_times_of_its_work() -> None:
    async with working() as worker:
        for body in (b'{"a":  1}', b"", b"\xff\x00not json", b"x" * 1_000_000, b'{"simulate": null}', b'["simulate"]'):
            answer = await worker.post(body)
            assert (answer.status, answer.body) == (200, body)
            assert answer.header(b"Content-Type") == b"application/json"
        start, end = (int(answer.header(name) or 0) for name in (b"X-Worker-Start-Ms", b"X-Worker-End-Ms"))
        assert 1_600_000_000_000 < start <= end


async def test_each_execution_is_one_line_in_the_log() -> None:
    async with working() as worker:
        assert worker.log.lines == [
            f"listening on http://127.0.0.1:{worker.running.address(1)[1]} image=sim/echo pid={worker.running.pid}"
        ]
        answer = await worker.post({"a": 1}, task="abc_1", attempt=2, path=b"/v1/x")
        await worker.get(b"/health")
        await worker.get(b"/plain?q=1")
        await worker.log.line("/plain")
        first, second = worker.log.executions()
        start, end = (answer.header(name) for name in (b"X-Worker-Start-Ms", b"X-Worker-End-Ms"))
        assert first == ("abc_1", "2", "/v1/x", "200", (start or b"").decode(), (end or b"").decode())
        assert second[:4] == ("-", "-", "/plain", "200")


async def test_a_worker_has_one_address_for_every_port() -> None:
    async with working() as worker:
        assert worker.running.address(1) == worker.running.address(65535)


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("sim/echo", "sim/echo"),
        ("sim/llm:1.2", "sim/llm"),
        ("docker.io/sim/sleep", "sim/sleep"),
        ("localhost:5000/team/sim/flaky:v1@sha256:abc", "sim/flaky"),
        ("vllm/vllm-openai:latest", None),
        ("echo", None),
        ("sim/unknown", None),
        ("notsim/echo", None),
        ("", None),
    ],
)
def test_a_registry_a_tag_and_a_digest_do_not_change_the_image(image: str, name: str | None) -> None:
    assert known_image(image) == name


async def test_an_image_without_a_mapping_runs_as_echo_and_says_so() -> None:
    async with working(spec_of("vllm/vllm-openai:latest")) as worker:
        assert "warning: image vllm/vllm-openai:latest is mapped to no driver" in worker.log.lines[0]
        assert (await worker.post(b"{}")).body == b"{}"


async def test_two_requests_at_a_time_do_not_wait_for_each_other() -> None:
    async with working() as worker:
        slow = asyncio.ensure_future(worker.post({"simulate": {"hang": True, "log": "begun"}}))
        await worker.log.line("^begun$")  # cancelled before it is sent, it would never be logged
        assert (await worker.post(b"{}", task="t2")).status == 200
        assert not slow.done()
        slow.cancel()
        await worker.log.line("task=t1 .* status=0 ")


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async with working() as worker:
        reader, writer = await asyncio.open_connection(*worker.running.address(1))
        bodies = [b'{"simulate":{"service_ms":30}}', b'"second"', b'{"simulate":{"output":3}}']
        for body in bodies:
            writer.write(b"POST / HTTP/1.1\r\nHost: w\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        got = []
        for _ in bodies:
            head = await reader.readuntil(b"\r\n\r\n")
            got.append(await reader.readexactly(int(re.search(rb"Content-Length: (\d+)", head)[1])))
        writer.close()
        await writer.wait_closed()
        assert got == [bodies[0], bodies[1], b"3"]


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"junk\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000, b"431"),
        (b"POST / HTTP/1.1\r\nHost: w\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", b"100"),
    ],
    ids=["junk", "endless headers", "asks before it sends"],
)
async def test_a_worker_answers_odd_callers_as_a_server_should(wire: bytes, status: bytes) -> None:
    async with working() as worker:
        reader, writer = await asyncio.open_connection(*worker.running.address(1))
        writer.write(wire)
        line = await reader.readline()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        assert line.split()[1] == status


# ---- what tasks can ask for


@pytest.mark.parametrize(
    ("asked", "status", "body"),
    [
        ({"status": 201}, 201, None),
        ({"status": 204}, 204, b""),
        ({"error": "out of memory"}, 500, b'{"error":"out of memory"}'),
        ({"error": "busy", "status": 503}, 503, b'{"error":"busy"}'),
        ({"output": {"x": [1, None]}}, 200, b'{"x":[1,null]}'),
        ({"output": None, "status": 418}, 418, b"null"),
        ({"output_bytes": 0}, 200, b""),
        ({"output_bytes": 1}, 200, b"0"),
        ({"output_bytes": 2}, 200, b'""'),
        ({"output_bytes": 5}, 200, b'"xxx"'),
        ({"hang": False, "close": False, "service_ms": 1.5}, 200, None),
        ({}, 200, None),
    ],
)
async def test_a_task_gets_the_answer_it_asks_for(asked: dict[str, Any], status: int, body: bytes | None) -> None:
    async with working() as worker:
        sent = json.dumps({"prompt": "p", "simulate": asked}).encode()
        answer = await worker.post(sent)
        assert (answer.status, answer.body) == (status, sent if body is None else body)
        await worker.log.line(f"task=t1 attempt=1 path=/run status={status} ")


@pytest.mark.parametrize(
    "asked",
    [
        7, [], "text", {"status": 199}, {"status": 600}, {"status": "200"}, {"status": True}, {"service_ms": -1},
        {"service_ms": "1"}, {"service_ms": True}, {"service_ms": 86_400_001}, {"error": 1}, {"log": 1}, {"hang": 1},
        {"close": "yes"}, {"exit": -1}, {"exit": 256}, {"exit": None}, {"output_bytes": -1}, {"output_bytes": 1.0},
        {"output_bytes": 2**26 + 1}, {"typo": 1}, {"hang": True, "close": True}, {"hang": True, "exit": 1},
        {"output": 1, "output_bytes": 1},
    ],
    ids=json.dumps,
)  # fmt: skip
def test_an_impossible_wish_is_answered_with_400_and_the_rule(asked: Any) -> None:
    plan = plan_of("sim/echo", {"simulate": asked})
    assert (plan.status, plan.ending, plan.delay_s) == (400, "answer", 0)
    assert "simulate" in json.loads(plan.body)["error"]


@pytest.mark.parametrize("image", ["sim/echo", "sim/sleep", "sim/llm", "sim/flaky"])
def test_every_image_honours_a_wish(image: str) -> None:
    plan = plan_of(image, {**CHAT, "stream": True, "simulate": {"service_ms": 1500, "output": 1, "log": "hello"}})
    assert (plan.status, plan.body, plan.delay_s, plan.say, plan.stream) == (200, b"1", 1.5, "hello", None)


async def test_a_task_can_write_lines_to_the_log_but_no_second_line() -> None:
    async with working() as worker:
        await worker.post({"simulate": {"log": "one\ntask=forged attempt=1"}})
        assert await worker.log.line("^one") == "one\\ntask=forged attempt=1"


async def test_a_worker_can_be_made_to_exit_while_it_holds_a_request() -> None:
    async with working() as worker:
        with pytest.raises(ConnectionLost):
            await worker.post({"simulate": {"exit": 3}})
        assert await worker.running.exited == "exited with code 3"
        assert [line[:4] for line in worker.log.executions()] == [("t1", "1", "/run", "0")]


async def test_a_worker_can_be_made_to_close_the_connection() -> None:
    async with working() as worker:
        with pytest.raises(ConnectionLost):
            await worker.post({"simulate": {"close": True}})
        await worker.log.line("task=t1 attempt=1 path=/run status=0 ")
        assert (await worker.post(b"{}")).status == 200


# ---- the models


def plan_of(
    image: str,
    body: Any,
    *,
    task: str = "t1",
    attempt: str = "1",
    path: str = "/v1/chat/completions",
    seed: int = 7,
    **env: str,
) -> Plan:
    """What a worker with this image would do."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    simulator = Simulator(image, Settings(env), seed)
    return simulator.plan(Request(b"POST", path, data, task, attempt, keep_alive=True))


def test_sleep_times_have_the_mean_and_the_spread_that_are_set() -> None:
    times = [
        plan_of("sim/sleep", b"{}", task=f"t{n}", SIM_MEAN_MS="80", SIM_CV="0.5", SIM_TIME_SCALE="2").delay_s * 1000
        for n in range(4_000)
    ]
    assert statistics.fmean(times) == pytest.approx(160, rel=0.05)
    assert statistics.stdev(times) / statistics.fmean(times) == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("image", ["sim/sleep", "sim/llm"])
def test_a_service_time_depends_on_the_seed_and_the_task_alone(image: str) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}]}
    times = {(seed, task): plan_of(image, body, seed=seed, task=task).delay_s for seed in (1, 2) for task in "ab"}
    assert len(set(times.values())) == 4
    assert plan_of(image, body, seed=1, task="a", attempt="2").delay_s == times[1, "a"]


def test_requests_without_a_task_id_are_told_apart_by_their_order() -> None:
    def draws() -> list[float]:
        simulator = Simulator("sim/sleep", Settings({}), 7)
        return [simulator.plan(Request(b"POST", "/", b"", "-", "-", keep_alive=True)).delay_s for _ in range(3)]

    assert draws() == draws()
    assert len(set(draws())) == 3


def test_no_spread_and_no_time_are_possible() -> None:
    assert plan_of("sim/sleep", b"", SIM_CV="0").delay_s == 0.05
    assert plan_of("sim/sleep", b"", SIM_MEAN_MS="0").delay_s == 0


def test_flaky_spoils_the_shares_it_was_told_and_gives_a_retry_another_chance() -> None:
    env = {"SIM_FAIL_RATE": "0.2", "SIM_HANG_RATE": "0.2", "SIM_CLOSE_RATE": "0.2", "SIM_EXIT_RATE": "0.2"}
    plans = [plan_of("sim/flaky", b"{}", task=f"t{n}", **env) for n in range(1_000)]
    kinds = [plan.ending if plan.status == 200 else "fail" for plan in plans]
    for kind in ("fail", "hang", "close", "exit", "answer"):
        assert kinds.count(kind) == pytest.approx(200, abs=50)
    statuses = {plan_of("sim/flaky", b"{}", attempt=str(n), SIM_FAIL_RATE="0.5").status for n in range(20)}
    assert statuses == {200, 500}


def test_an_llm_takes_the_time_of_its_tokens() -> None:
    env = {"SIM_TTFT_MS": "100", "SIM_PREFILL_MS_PER_TOKEN": "2", "SIM_TPOT_MS": "10", "SIM_CV": "0"}
    plan = plan_of("sim/llm", CHAT, **env, SIM_TIME_SCALE="0.5")
    prompt_tokens = 10 + 4
    assert plan.delay_s == pytest.approx(0.5 * (100 + 2 * prompt_tokens + 10 * 5) / 1000)


async def test_an_llm_answers_a_chat_as_openai_does() -> None:
    async with working(spec_of("sim/llm", **FAST_LLM)) as worker:
        answer = json.loads((await worker.post(CHAT, path=b"/v1/chat/completions")).body)
        (choice,) = answer["choices"]
        assert (answer["object"], answer["model"]) == ("chat.completion", "m")
        assert answer["id"].startswith("chatcmpl-")
        assert (choice["index"], choice["finish_reason"], choice["message"]["role"]) == (0, "length", "assistant")
        assert len(choice["message"]["content"].split()) == 5
        assert answer["usage"] == {"prompt_tokens": 14, "completion_tokens": 5, "total_tokens": 19}
        models = json.loads((await worker.get(b"/v1/models")).body)
        assert (models["object"], models["data"][0]["id"]) == ("list", "sim-llm")
        assert json.loads((await worker.get(b"/health")).body) == {"status": "ok"}
        assert len(worker.log.executions()) <= 1


async def test_an_llm_completes_a_prompt() -> None:
    async with working(spec_of("sim/llm", **FAST_LLM)) as worker:
        body = {"prompt": "Once upon", "max_completion_tokens": 3, "max_tokens": 9}
        answer = json.loads((await worker.post(body, path=b"/v1/completions")).body)
        assert (answer["object"], answer["model"]) == ("text_completion", "sim-llm")
        assert len(answer["choices"][0]["text"].split()) == 3
        assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/completions"])
async def test_an_llm_streams_one_event_per_token_and_says_when_it_is_done(path: bytes) -> None:
    async with working(spec_of("sim/llm", SIM_TIME_SCALE="0.1")) as worker:
        asked = {**CHAT, "prompt": "p", "stream": True, "stream_options": {"include_usage": True}}
        answer = await worker.post(asked, path=path)
        assert answer.header(b"Content-Type") == b"text/event-stream"
        assert answer.header(b"X-Worker-End-Ms") is not None
        events = [line.removeprefix("data: ") for line in answer.body.decode().split("\n\n")[:-1]]
        assert events.pop() == "[DONE]"
        chunks = [json.loads(event) for event in events]
        assert len({chunk["id"] for chunk in chunks}) == 1
        usage = chunks.pop()
        assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 5)
        choices = [chunk["choices"][0] for chunk in chunks]
        text = "".join(c["delta"].get("content", "") if "delta" in c else c["text"] for c in choices)
        assert [c["finish_reason"] for c in choices] == [None] * (len(choices) - 1) + ["length"]
        assert len(text.split()) == 5
        await worker.log.line("task=t1 .* status=200 ")


def test_a_stream_and_a_whole_answer_say_the_same() -> None:
    whole = json.loads(plan_of("sim/llm", CHAT).body)["choices"][0]["message"]["content"]
    stream = plan_of("sim/llm", {**CHAT, "stream": True}).stream
    assert stream is not None
    shares, events = zip(*stream, strict=True)
    chunks = [json.loads(event[6:])["choices"][0]["delta"].get("content", "") for event in events[:-1]]
    assert "".join(chunks) == whole
    assert list(shares) == sorted(shares)
    assert 0 < shares[0] < shares[1] < shares[-1] == 1


def test_without_a_wish_the_length_of_a_completion_is_drawn_around_the_mean() -> None:
    body = {"messages": [{"role": "user", "content": "hi"}]}
    lengths = []
    for n in range(2_000):
        answer = json.loads(plan_of("sim/llm", body, task=f"t{n}", SIM_COMPLETION_TOKENS="50").body)
        assert answer["choices"][0]["finish_reason"] == "stop"
        lengths.append(answer["usage"]["completion_tokens"])
    assert min(lengths) >= 1
    assert statistics.fmean(lengths) == pytest.approx(50, rel=0.1)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"[" * 100_000, None),
        ([], None),
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        ({**CHAT, "max_tokens": 0}, "max_tokens"),
        ({**CHAT, "max_tokens": 131_073}, "max_tokens"),
        ({**CHAT, "max_tokens": True}, "max_tokens"),
        ({**CHAT, "max_completion_tokens": "5"}, "max_completion_tokens"),
        ({**CHAT, "model": 1}, "model"),
        ({**CHAT, "stream": "yes"}, "stream"),
        ({**CHAT, "n": 2}, "n"),
    ],
)
def test_a_bad_chat_is_refused_as_openai_does(body: Any, param: str | None) -> None:
    plan = plan_of("sim/llm", body)
    error = json.loads(plan.body)["error"]
    assert (plan.status, error["type"], error["param"]) == (400, "invalid_request_error", param)


@pytest.mark.parametrize("tokens", [1, 131_072])
def test_a_completion_may_have_1_to_131072_tokens(tokens: int) -> None:
    answer = json.loads(plan_of("sim/llm", {**CHAT, "max_tokens": tokens}).body)
    assert answer["usage"]["completion_tokens"] == tokens


def test_parts_of_a_message_and_turns_without_text_are_counted() -> None:
    parts = [{"type": "text", "text": "x" * 8}, {"type": "image_url", "image_url": {"url": "data:"}}, "odd"]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": None}]
    answer = json.loads(plan_of("sim/llm", {"messages": messages, "max_tokens": 1}).body)
    assert answer["usage"]["prompt_tokens"] == 4 + 2 + 4


@pytest.mark.parametrize(("method", "path", "status"), [(b"POST", "/run", 404), (b"GET", "/v1/completions", 405)])
def test_an_llm_serves_no_other_paths_or_methods(method: bytes, path: str, status: int) -> None:
    plan = Simulator("sim/llm", Settings({}), 7).plan(Request(method, path, b"{}", "t", "1", keep_alive=True))
    assert plan.status == status


# ---- starting, stopping, dying


@pytest.mark.parametrize(
    ("image", "name", "value"),
    [
        ("sim/sleep", "SIM_MEAN_MS", "fast"),
        ("sim/sleep", "SIM_CV", "11"),
        ("sim/llm", "SIM_TPOT_MS", "-1"),
        ("sim/llm", "SIM_TTFT_MS", "nan"),
        ("sim/flaky", "SIM_FAIL_RATE", "1.1"),
        ("sim/echo", "SIM_START_MS", "inf"),
    ],
)
async def test_a_setting_that_is_no_number_keeps_the_worker_from_starting(image: str, name: str, value: str) -> None:
    async with driving() as driver:
        worker = await driver.start(spec_of(image, **{name: value}), Log())
        with pytest.raises(WorkerStartError, match=f"{name} must be a number") as failed:
            await worker.wait_ready()
        assert "exited with code 2" in failed.value.reason


def test_shares_of_spoilt_requests_that_exceed_one_are_refused() -> None:
    with pytest.raises(ValueError, match="must not exceed 1"):
        plan_of("sim/flaky", b"", SIM_FAIL_RATE="0.6", SIM_HANG_RATE="0.6")


async def test_a_worker_can_be_made_to_fail_its_start() -> None:
    async with driving() as driver:
        worker = await driver.start(spec_of(SIM_START_EXIT="9", SIM_START_MS="1"), Log())
        with pytest.raises(WorkerStartError, match="exited with code 9"):
            await worker.wait_ready()


def visible_to_all(pid: int) -> str:
    """What the system shows of a process: its environment and its arguments."""
    folder = Path("/proc") / str(pid)
    return (folder / "environ").read_text() + (folder / "cmdline").read_text()


@needs_linux
async def test_a_worker_is_told_nothing_but_its_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOTTA_API_KEY", "in our environment")
    spec = WorkerSpec(
        "w", "e", "sim/echo", None, None, {"TOKEN": "in its settings", "SIM_CV": "1"}, "secret command", 7
    )
    assert "settings" not in repr(spec)
    assert "secret" not in repr(spec)
    async with working(spec) as worker:
        told = visible_to_all(worker.running.pid or 0)
        assert "settings" not in told
        assert "environment" not in told
        assert worker.log.lines[0].startswith("warning: the initialization command is not run")


async def test_stop_lets_the_request_in_flight_finish() -> None:
    async with working() as worker:
        answer = asyncio.ensure_future(worker.post({"simulate": {"service_ms": 200, "log": "begun"}}))
        await worker.log.line("^begun$")
        await worker.running.stop(30)
        assert (await answer).status == 200
        assert worker.running.exited.result() == "exited with code 0, as asked"
        assert worker.log.executions()[-1][3] == "200"


async def test_stop_kills_what_does_not_finish_in_time_and_may_be_asked_twice() -> None:
    async with working() as worker:
        answer = asyncio.ensure_future(worker.post({"simulate": {"hang": True, "log": "begun"}}))
        await worker.log.line("^begun$")
        await asyncio.gather(worker.running.stop(0.05), worker.running.stop(0.05))
        await worker.running.stop(0.05)
        assert worker.running.exited.result() == "was ended by signal SIGKILL, as asked"
        with pytest.raises(ConnectionLost):
            await answer


async def test_a_worker_killed_by_somebody_else_is_noticed() -> None:
    async with working() as worker:
        assert worker.running.pid
        os.kill(worker.running.pid, signal.SIGKILL)
        assert await worker.running.exited == "was ended by signal SIGKILL"
        worker.running.kill()


async def test_closing_the_driver_leaves_no_process() -> None:
    driver = SimDriver()
    workers = [await driver.start(spec_of(), Log()) for _ in range(2)]
    await workers[0].wait_ready()
    await driver.close()
    await driver.close()
    assert all(worker.exited.done() for worker in workers)
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker.pid or 0, 0)


async def test_a_closed_driver_starts_nothing() -> None:
    driver = SimDriver()
    await driver.close()
    with pytest.raises(WorkerStartError, match="going down"):
        await driver.start(spec_of(), Log())


async def test_a_worker_is_out_of_reach_of_the_terminal() -> None:
    async with working() as worker:
        assert os.getsid(worker.running.pid or 0) != os.getsid(0)


PARENT = """
import asyncio, uvloop
from yottabench.emulator.drivers.base import WorkerSpec
from yottabench.emulator.drivers.sim import SimDriver

async def main():
    driver = SimDriver()
    spec = WorkerSpec("w", "e", "sim/echo", None, None, {}, None, 7)
    workers = [await driver.start(spec, lambda line: None) for _ in range(2)]
    for worker in workers:
        await worker.wait_ready()
    print(*[worker.pid for worker in workers], flush=True)
    await asyncio.Event().wait()

{loop}.run(main())
"""


@needs_linux
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_workers_die_with_their_server_even_by_kill_9(loop: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT.replace("{loop}", loop)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        ends = [os.pidfd_open(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(ends) == 2
        parent.kill()
    for end in ends:
        readable, _, _ = select.select([end], [], [], 20)
        os.close(end)
        assert readable, "the worker has outlived its server"


# ---- output


class Script(WorkerProcess):
    """A process that runs some lines of Python."""

    async def run(self, code: str) -> str:
        await self.spawn([sys.executable, "-I", "-S", "-c", code], {})
        return await self.exited


async def test_the_last_words_of_a_process_are_heard_before_its_end() -> None:
    log = Log()
    code = "import sys\nfor n in range(500): print(n)\nprint('no newline', end='', file=sys.stderr); sys.exit(4)"
    assert await Script(log).run(code) == "exited with code 4"
    assert log.lines == [*map(str, range(500)), "no newline"]


async def test_a_child_that_keeps_the_output_open_does_not_hide_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_LAST_OUTPUT_S", 0.05)
    log = Log()
    code = "import os, time\nif os.fork():\n print('done', flush=True); os._exit(0)\nos.read(0, 1)"
    assert await Script(log).run(code) == "exited with code 0"
    assert log.lines == ["done"]


async def test_a_program_that_is_not_there_is_a_failure_to_start() -> None:
    with pytest.raises(WorkerStartError, match="/no/such/program"):
        await WorkerProcess(Log()).spawn(["/no/such/program"], {})


async def test_a_flood_of_output_is_cut_not_kept() -> None:
    log = Log()
    code = "import os\nos.write(1, b'x' * 3_000_000 + b'\\n' + b'\\n' * 100_000 + b'\\nend\\n')"
    await Script(log).run(code)
    assert log.lines[0] == "x" * 16_384 + " [cut]"
    assert max(map(len, log.lines)) == 16_384 + 6
    assert log.lines[-1] == "end" or "lines dropped" in log.lines[-1]
    dropped = sum(int(found[1]) for line in log.lines if (found := re.match(r"\[(\d+) lines dropped", line)))
    notes = sum(line.startswith("[") for line in log.lines)
    assert len(log.lines) - notes + dropped == 1 + 100_001 + 1


@given(st.lists(st.binary(max_size=30)), st.lists(st.integers(0, 200)))
def test_lines_do_not_depend_on_the_pieces_they_arrive_in(parts: list[bytes], cuts: list[int]) -> None:
    data = b"\n".join(parts)
    splitter = LineSplitter()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    lines = [line for first, last in itertools.pairwise(edges) for line in splitter.feed(data[first:last])]
    lines += splitter.end()
    wanted = data.split(b"\n")
    if not wanted[-1]:
        wanted.pop()
    assert lines == [line.removesuffix(b"\r").decode(errors="replace") for line in wanted]


@pytest.mark.parametrize(("size", "cut"), [(16_384, ""), (16_385, " [cut]")])
@pytest.mark.parametrize("piece", [1_000, 10**6])
def test_a_line_may_have_16384_bytes(size: int, cut: str, piece: int) -> None:
    splitter = LineSplitter()
    data = b"x" * size + b"\nnext\n"
    lines = [line for first in range(0, len(data), piece) for line in splitter.feed(data[first : first + piece])]
    assert lines == ["x" * 16_384 + cut, "next"]
