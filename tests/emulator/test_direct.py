"""What is answered without ASGI is answered as the application would."""

import asyncio
import gc
import itertools
import json
import re
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from tests.emulator.harness import Bench, settle, submit_body
from yottabench.emulator import direct_protocol, guard
from yottabench.emulator.known_heads import KnownHeads, KnownRequest
from yottabench.emulator.limits import BODY_DEADLINE_S
from yottabench.emulator.store.base import SubmitTask

pytestmark = pytest.mark.anyio


class Line(asyncio.Transport):
    """A connection without a network: what the server sent, and whether it is still there."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.ended = ""
        self.paused = False

    def write(self, data: Any) -> None:
        if not self.ended:
            self.sent += data

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def is_closing(self) -> bool:
        return bool(self.ended)

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Watched(guard.GuardedProtocol):
    """As it is; `broke_off` when what was sent is no HTTP from somewhere on."""

    broke_off = False

    def send_400_response(self, msg: str) -> None:
        self.broke_off = True
        super().send_400_response(msg)


class WatchedDirect(Watched, direct_protocol.DirectProtocol):
    """The same with the direct way."""


class Heads(KnownHeads):
    """As they are, counting what they spared the parser."""

    found = 0

    def find(self, data: bytes) -> KnownRequest | None:
        known = super().find(data)
        self.found += known is not None
        return known


class Client:
    """One connection to the emulator of a bench, with or without the direct way."""

    def __init__(
        self, bench: Bench, *, direct: bool, state: ServerState | None = None, heads: Heads | None = None
    ) -> None:
        config = uvicorn.Config(
            bench.emulator.guarded(),
            interface="asgi3",
            ws="none",
            lifespan="off",
            log_config=None,
            proxy_headers=False,
        )
        config.load()
        self.state = state or ServerState()
        self.took = 0  # directly
        self._direct = bench.emulator.direct(guarded=True)
        self.heads = heads or Heads()
        made = partial(WatchedDirect, direct=self, heads=self.heads) if direct else Watched
        self.protocol = made(config=config, server_state=self.state, app_state={})
        self.line = Line()
        self.protocol.connection_made(self.line)

    def admits(self, *head: Any) -> Any:
        return self._direct.admits(*head)

    def begin(self, *request: Any) -> Any:
        return self._count(self._direct.begin(*request))

    def read(self, *request: Any) -> Any:
        return self._count(self._direct.read(*request))

    def _count(self, answer: Any) -> Any:
        self.took += answer not in (None, False)
        return answer

    async def send(self, *pieces: bytes) -> bytes:
        """Send them one after the other; what was answered once nothing more happens."""
        for piece in pieces:
            self.protocol.data_received(piece)
            await settle()
        return self.line.sent

    def leave(self) -> None:
        self.line.ended = "gone"
        self.protocol.connection_lost(None)


def post(endpoint_id: str, body: Any = None, *lines: str, key: str = "me", host: str = "localhost") -> bytes:
    """The bytes of a submit."""
    sent = body if isinstance(body, bytes) else json.dumps(submit_body() if body is None else body).encode()
    head = [
        f"POST /v2/serverless/{endpoint_id}/tasks HTTP/1.1",
        f"Host: {host}",
        f"X-Api-Key: {key}",
        f"Content-Length: {len(sent)}",
        *lines,
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + sent


def get(endpoint_id: str, task: str) -> bytes:
    """The bytes of a GET of a task, or of the count."""
    return (
        f"GET /v2/serverless/{endpoint_id}/tasks/{task} HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: me\r\n\r\n".encode()
    )


def answers(sent: bytes) -> list[tuple[int, Any]]:
    """Status and envelope of each."""
    found: list[tuple[int, Any]] = []
    while sent:
        head, _, sent = sent.partition(b"\r\n\r\n")
        lengths = re.findall(rb"content-length: (\d+)", head)
        assert len(lengths) == 1
        length = int(lengths[0])
        found.append((int(head.split()[1]), json.loads(sent[:length])))
        sent = sent[length:]
    return found


# ---- the same as the application

ODD: dict[str, list[Any]] = {
    "method": ["GET", "POST", "PUT", "DELETE", "HEAD", "FROB"],
    "target": [
        "/v2/serverless/ID/tasks?a=b",
        "/v2/serverless/ID/tasks/one?a=b",
        "/v2/serverless/ID/tasks/tasks",
        "/v2/serverless/ID/tasks/one/tasks",
        "/v2/serverless/ID/workers/tasks",
        "/v2/serverless/tasks/workers",
        "/v2/serverless/ID/workers/1/tasks",
        "/v2/serverless/ID/%74asks/one",
        "/v2/serverless/ID/tasks/%6fne",
        "/v2/serverless/ID/workers/1/logs",
        "/v2/serverless/ID/tasks#f",
        "/v2/serverless/ID/tasks/",
        "/v2/serverless/ID/%74asks",
        "/v2/serverless/ID//tasks",
        "/v2/serverless/%49D/tasks",
        "/v2/serverless/0ID/tasks",
        "/v2/serverless/404/tasks",
        "/v2/serverless/x/tasks",
        "/v2/serverless/ID/x/tasks",
        "/v2/serverless/ID/tasks\xe9/tasks",
        "/_gateway/ID/tasks",
        "/_gateway/ID/tasks/one",
        "/_emulator/tasks",
        "http://localhost/v2/serverless/ID/tasks",
        "//v2/serverless/ID/tasks",
        "/tasks",
        "*",
    ],
    "version": ["1.0", "1.0\r\nConnection: keep-alive", "1.1\r\nConnection: keep-alive"],
    "hosts": [
        ["127.0.0.1:80"],
        ["x.localhost"],
        ["ID.localhost"],
        ["evil.example"],
        [],
        ["localhost", "localhost"],
        ["localhost", "evil.example"],
        ["localhost", "ID.localhost"],
        ["ID.localhost", "localhost"],
        [""],
        ["[::1]:1"],
    ],
    "keys": [[" me "], ["other"], [""], [], ["me", "other"], ["other", "me"]],
    "lines": [
        ["Content-Type: application/json"],
        ["Connection: close"],
        ["Connection: keep-alive, close"],
        ["Connection: Keep-Alive"],
        ["Connection: keep-alive", "Connection: x"],
        ["Expect: 100-continue"],
        ["Expect: x"],
        ["Connection: upgrade", "Upgrade: websocket"],
        ["Upgrade: websocket"],
        ["x-api-key:"],
        ["Content-Length: 0"],
        ["Transfer-Encoding: identity"],
        ["A: b"],
    ],
    "length": ["chunked", 1, -1],
    "body": [b"", b"{", b"null", b"\xff", b"[" * 200, b'{"input":1}'],
    "fields": [
        *({"input": value} for value in ({"a": 1.0}, [2], "x" * 70_000, {}, None)),
        *({"workerPort": value} for value in (0, 1, 65_536, "1", 8000.0)),
        *({"processUri": value} for value in ("run", "/other", "/a b", "")),
        *({"webhook": value} for value in ("http://127.0.0.1:9/hook", "ftp://x")),
        *({"headers": value} for value in ({"A": "b"}, {"A": "b\r\n"}, 1)),
        {"unknown": 1},
        *({"taskId": value} for value in ("a-b", "count", "", "x" * 255, "x" * 256, 1)),
    ],
}
READS = ("one", "count", "nobody")


def request(reads: str | None = None, task_id: str | None = "one", **odd: Any) -> bytes:
    """A good submit, or read, but for what is `odd` about it. ID stands for the endpoint."""
    fields = submit_body(input={"a": 1}, taskId=task_id)
    fields.update(odd.get("fields", {}))
    body = odd.get("body", json.dumps(fields).encode() if reads is None else b"")
    method = odd.get("method", "POST" if reads is None else "GET")
    target = odd.get("target", f"/v2/serverless/ID/tasks{'' if reads is None else '/' + reads}")
    head = [f"{method} {target} HTTP/{odd.get('version', '1.1')}"]
    head += [f"Host: {host}" for host in odd.get("hosts", ["localhost"])]
    head += [f"X-Api-Key: {key}" for key in odd.get("keys", ["me"])]
    head += odd.get("lines", [])
    longer = odd.get("length", 0)
    if longer == "chunked":
        head.append("Transfer-Encoding: chunked")
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:5], body[5:]) if part) + b"0\r\n\r\n"
    elif body or longer > 0 or reads is None:
        head.append(f"Content-Length: {max(0, len(body) + longer)}")
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One request: a good submit or read but for up to three things about it."""
    odd = draw(st.sets(st.sampled_from(sorted(ODD)), max_size=3))
    reads = draw(st.sampled_from([None, *READS]))
    task_id = draw(st.sampled_from(["one", "two", None]))
    return request(reads, task_id, **{name: draw(st.sampled_from(ODD[name])) for name in sorted(odd)})


def _told(client: Client, endpoint_id: str) -> tuple[bytes, str]:
    sent = client.line.sent.replace(endpoint_id.encode(), b"ID")
    return re.sub(rb'"taskId":"[0-9a-f]{32}"', b'"taskId":"MADE"', sent), client.line.ended


async def _kept(bench: Bench, endpoint_id: str) -> list[tuple[str, Any]]:
    tasks = (await bench.get(f"/{endpoint_id}/tasks?pageSize=100"))["items"]
    whole = [await bench.task(endpoint_id, each["taskId"]) for each in tasks]
    return [("MADE" if len(each["taskId"]) == 32 else each["taskId"], each["input"]) for each in whole]


async def _play(
    bench: Bench, sent: Sequence[bytes], cuts: Sequence[int] | None, pauses: Sequence[bool]
) -> tuple[int, int]:
    """Send the same with and without the direct way and compare. `cuts` None: between requests.

    How many went it, and of how many the head was known.
    """
    told: list[tuple[bytes, str]] = []
    broke_off: list[bool] = []
    kept: list[list[tuple[str, Any]]] = []
    took: list[tuple[int, int]] = []
    for direct in (True, False):
        endpoint_id = await bench.endpoint(workers=0)
        client = Client(bench, direct=direct)
        stream = [each.replace(b"ID", endpoint_id.encode()) for each in sent]
        for piece, pause in zip(stream if cuts is None else _pieces(b"".join(stream), cuts), itertools.cycle(pauses)):
            client.protocol.data_received(piece)
            if pause:
                await settle()
        await settle()
        took.append((client.took, client.heads.found))
        told.append(_told(client, endpoint_id))
        broke_off.append(client.protocol.broke_off)
        client.leave()
        await settle()
        assert not client.state.tasks
        kept.append(await _kept(bench, endpoint_id))
    if all(broke_off):
        # The application had no time for what came before, in the same piece.
        assert told[0][0].startswith(told[1][0])
        assert told[0][1] == told[1][1] == "closed"
        assert all(task in kept[0] for task in kept[1])
    else:
        assert told[0] == told[1]
        assert kept[0] == kept[1]
    return took[0]


def _pieces(stream: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[start:end] for start, end in itertools.pairwise(places)]


SETTINGS: list[dict[str, Any]] = [{}, {"error_style": "envelope200", "strict_validation": True}]


@pytest.mark.parametrize("chosen", SETTINGS, ids=["plain", "strict"])
def test_whatever_is_sent_it_is_answered_and_kept_as_the_application_would(
    chosen: dict[str, Any], tmp_path: Path
) -> None:
    took: list[tuple[int, int]] = []
    with asyncio.Runner() as runner:
        bench = runner.run(_bench(tmp_path, **chosen))

        @settings(max_examples=300)
        @given(
            st.lists(requests(), min_size=1, max_size=3).flatmap(
                lambda some: st.lists(st.sampled_from(some), min_size=1, max_size=6)
            ),
            st.one_of(st.none(), st.lists(st.integers(0, 2_000), max_size=3)),
            st.lists(st.booleans(), min_size=4, max_size=4),
        )
        def check(sent: list[bytes], cuts: list[int] | None, pauses: list[bool]) -> None:
            took.append(runner.run(_play(bench, sent, cuts, pauses)))

        check()
        runner.run(bench.close())
    assert {0, 1, 2} <= {directly for directly, _ in took}
    assert {0, 1} <= {known for _, known in took}


async def _bench(folder: Path, **chosen: Any) -> Bench:
    return Bench(folder / "data", **chosen)


@pytest.mark.parametrize("name", sorted(ODD))
@pytest.mark.parametrize("chosen", SETTINGS, ids=["plain", "strict"])
async def test_one_odd_thing_about_a_request_is_met_as_the_application_would(
    make_bench: Callable[..., Bench], chosen: dict[str, Any], name: str
) -> None:
    bench = make_bench(**chosen)
    for odd in ODD[name]:
        for reads in (None, "one"):
            sent = (request(), request(reads, **{name: odd}), request(task_id="two"))
            assert (await _play(bench, sent, None, (True,)))[0] >= 1


# ---- heads that are known


async def test_a_head_that_one_connection_sent_is_known_on_all(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    first = Client(bench, direct=True)
    await first.send(post(endpoint_id, submit_body(taskId="a")), get(endpoint_id, "a"))
    assert first.heads.found == 0
    second = Client(bench, direct=True, heads=first.heads)
    await second.send(post(endpoint_id, submit_body(taskId="b")), get(endpoint_id, "b"), get(endpoint_id, "count"))
    assert first.heads.found == 3
    assert [envelope["code"] for _, envelope in answers(second.line.sent)] == [10000] * 3
    assert answers(second.line.sent)[1][1]["data"]["taskId"] == "b"
    assert second.protocol.deadline_s is None
    assert second.protocol.idle_until_s is not None


async def test_a_request_within_the_body_of_another_is_body(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    inner = post(endpoint_id, submit_body(taskId="a"))
    await client.send(inner)
    outer = f"POST /v2/serverless/{endpoint_id}/tasks HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: me\r\n"
    await client.send(f"{outer}Content-Length: {len(inner)}\r\n\r\n".encode(), inner)
    assert client.heads.found == 0
    assert [envelope["code"] for _, envelope in answers(client.line.sent)] == [10000, 10001]


@pytest.mark.parametrize(
    ("before", "found"),
    [
        ([], 1),
        ([b"\r\n"], 0),  # allowed before a request; and who knows what follows half of it
        ([b"\r"], 0),
        ([b"GET /v2/serverless HTTP/1.1\r\nX-Api-Key: me\r\nHost: localhost\r\n\r\n"], 0),  # not a direct one
        ([b"POST", b" /x HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: me\r\nContent-Length: 0\r\n\r\n"], 0),
    ],
)
async def test_after_anything_else_the_parser_reads_the_next_one(bench: Bench, before: list[bytes], found: int) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    await client.send(get(endpoint_id, "count"), *before, get(endpoint_id, "count"))
    assert client.heads.found == found
    await client.send(get(endpoint_id, "count"))
    assert client.heads.found == found + 1
    assert answers(client.line.sent)[-1][0] == 200


async def test_the_end_of_a_head_is_no_head(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    whole = post(endpoint_id, submit_body(taskId="a"))
    await client.send(whole[:3], whole[3:])
    assert client.took == 1
    await client.send(whole[3:])
    assert client.protocol.broke_off
    assert client.took == 1


async def test_a_known_request_on_a_connection_that_is_ending_does_nothing(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    await client.send(post(endpoint_id, submit_body(taskId="a")))
    client.protocol.refuse(408, "Late.")
    await client.send(post(endpoint_id, submit_body(taskId="b")))
    assert client.took == 1
    assert (await bench.get(f"/{endpoint_id}/tasks"))["total"] == 1


async def test_a_connection_with_a_known_submit_under_way_is_not_idle(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    await client.send(post(endpoint_id, submit_body(taskId="a")))
    assert client.protocol.idle_until_s is not None
    bench.writer.held = True
    await client.send(post(endpoint_id, submit_body(taskId="b")))
    assert client.heads.found == 1
    assert client.protocol.idle_until_s is None
    bench.writer.let_go()
    await settle()
    assert client.protocol.idle_until_s is not None


async def test_a_known_request_that_nothing_takes_goes_the_long_way(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    await client.send(get(endpoint_id, "count"), get(endpoint_id, "nobody"), get(endpoint_id, "count"))
    assert client.heads.found == 2
    assert client.took == 2
    assert [envelope["code"] for _, envelope in answers(client.line.sent)] == [10000, 24011, 10000]


async def test_a_known_request_behind_one_under_way_waits_for_it(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    await client.send(get(endpoint_id, "count"))
    bench.writer.held = True
    await client.send(post(endpoint_id, submit_body(taskId="a")), get(endpoint_id, "count"))
    assert len(answers(client.line.sent)) == 1
    bench.writer.let_go()
    await settle()
    assert client.heads.found == 0
    assert [envelope["data"] for _, envelope in answers(client.line.sent)] == [
        {"processing": 0},
        {"taskId": "a"},
        {"processing": 1},
    ]


# ---- on its way


async def test_a_submit_goes_directly_and_is_answered_once_it_is_durable(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    bench.writer.held = True
    assert await client.send(post(endpoint_id, submit_body(taskId="a"))) == b""
    assert client.took == 1
    bench.writer.let_go()
    await settle()
    assert answers(client.line.sent) == [(200, {"message": "success", "code": 10000, "data": {"taskId": "a"}})]
    head = client.line.sent.partition(b"\r\n\r\n")[0]
    assert head == b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 56"
    assert (await bench.task(endpoint_id, "a"))["status"] == "PROCESSING"


async def test_a_read_is_answered_at_once_although_a_commit_takes_long(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client, other = Client(bench, direct=True), Client(bench, direct=True)
    await client.send(post(endpoint_id, submit_body(taskId="a")))
    bench.writer.held = True
    await client.send(post(endpoint_id, submit_body(taskId="b")))
    other.protocol.data_received(get(endpoint_id, "a") + get(endpoint_id, "count") + get(endpoint_id, "b"))
    (first, second) = answers(other.line.sent)  # no turn of the loop was needed
    assert (first[0], first[1]["data"]["taskId"], first[1]["data"]["input"]) == (200, "a", {"prompt": "hi"})
    assert second == (200, {"message": "success", "code": 10000, "data": {"processing": 1}})
    assert (client.took, other.took) == (2, 2)
    await settle()
    assert answers(other.line.sent)[2][1]["code"] == 24011  # the application says that there is none
    bench.writer.let_go()
    await settle()
    assert len(answers(client.line.sent)) == 2


async def test_answers_come_in_the_order_of_the_requests(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    bench.writer.held = True
    await client.send(
        post(endpoint_id, submit_body(taskId="a")) + get(endpoint_id, "a") + post(endpoint_id, submit_body(taskId="b")),
        get(endpoint_id, "a"),
    )
    assert client.line.sent == b""
    bench.writer.let_go()
    await settle()
    told = answers(client.line.sent)
    assert [status for status, _ in told] == [200] * 4
    assert [envelope["data"]["taskId"] for _, envelope in told] == ["a", "a", "b", "a"]
    assert client.took == 1  # what waits behind another is the application's
    assert not client.line.paused


@pytest.mark.parametrize("stopping", [False, True])
async def test_a_client_that_left_loses_nothing_but_its_answer(bench: Bench, stopping: bool) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    bench.writer.held = True
    await client.send(post(endpoint_id, submit_body(taskId="a")))
    if stopping:
        client.protocol.shutdown()
    client.leave()
    bench.writer.let_go()
    await settle()
    assert client.line.sent == b""
    assert client.state.total_requests == 0
    assert not client.state.tasks
    assert (await bench.task(endpoint_id, "a"))["status"] == "PROCESSING"


async def test_a_submit_under_way_is_answered_when_the_server_stops_and_then_the_connection_ends(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    bench.writer.held = True
    await client.send(post(endpoint_id))
    client.protocol.shutdown()
    assert not client.line.ended
    (under_way,) = client.state.tasks  # what the server waits for
    bench.writer.let_go()
    await under_way
    await settle()
    assert answers(client.line.sent)[0][0] == 200
    assert b"\r\nconnection: close\r\n" in client.line.sent
    assert client.line.ended == "closed"
    assert not client.state.tasks


async def test_nothing_is_waited_for_when_all_was_answered(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    await client.send(post(endpoint_id))
    client.protocol.shutdown()
    assert (client.state.tasks, client.line.ended) == (set(), "closed")


async def test_a_submit_that_is_given_up_ends_its_connection(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    bench.writer.held = True
    await client.send(post(endpoint_id))
    client.protocol.shutdown()
    for task in tuple(client.state.tasks):
        task.cancel()
    await settle()
    assert (client.line.sent, client.line.ended) == (b"", "aborted")
    bench.writer.let_go()
    await settle()
    assert not client.state.tasks


async def test_a_submit_that_the_store_refuses_says_so(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    bench.writer.refuse_those[SubmitTask] = 1
    bench.emulator._wire.answers.clear()
    ((status, envelope),) = answers(await client.send(post(endpoint_id)))
    assert (status, envelope["code"]) == (500, 10002)
    assert "could not store" in envelope["message"]
    assert client.took == 1
    assert bench.emulator._wire.answers == {500: 1}


async def test_tasks_that_come_in_both_ways_in_one_commit_are_all_worked_on(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    long_way, direct = Client(bench, direct=False), Client(bench, direct=True)
    waiting = bench.api.endpoints[int(endpoint_id)].dispatcher._ready
    assert waiting.pop() is None  # the store was read to its end: what comes now is seen as it comes
    bench.writer.held = True
    await long_way.send(post(endpoint_id, submit_body(taskId="a", webhook="http://127.0.0.1:9000/")))
    await direct.send(post(endpoint_id, submit_body(taskId="b")))
    bench.writer.let_go()
    await settle()
    assert [task.task_id for task in (waiting.pop(), waiting.pop()) if task is not None] == ["a", "b"]


async def test_direct_answers_are_counted_as_others_are(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    bench.emulator._wire.answers.clear()
    await client.send(
        post(endpoint_id, submit_body(taskId="a")),
        post(endpoint_id, submit_body(taskId="a", workerPort=1)),
        get(endpoint_id, "a"),
        post(endpoint_id, submit_body(taskId="b")),
        post(endpoint_id, submit_body(taskId="c")),
    )
    assert client.took == 5
    assert bench.emulator._wire.answers == {200: 4, 400: 1}
    assert client.state.total_requests == 5


async def test_a_request_may_come_in_any_pieces(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    request = post(endpoint_id, submit_body(taskId="a"))
    await client.send(*(request[at : at + 1] for at in range(len(request))))
    assert client.took == 1
    assert (await bench.task(endpoint_id, "a"))["input"] == submit_body()["input"]


async def test_what_was_said_about_one_request_is_not_held_against_the_next(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    for took, request in enumerate(
        (
            post(endpoint_id, submit_body(taskId="a"), "Expect: 100-continue"),
            post(endpoint_id, submit_body(taskId="b")),
            get(endpoint_id, "a"),
            post(endpoint_id, submit_body(taskId="c"), "Connection: keep-alive"),
        )
    ):
        await client.send(request)
        assert client.took == took


async def test_a_read_with_a_body_goes_the_long_way(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    await client.send(get(endpoint_id, "count").replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\n") + b"x")
    assert (client.took, len(answers(client.line.sent))) == (0, 1)


async def test_the_headers_of_the_server_are_those_of_the_moment(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    for direct in (True, False):
        client = Client(bench, direct=direct)
        heads: list[bytes] = []
        for date in (b"Mon, 30 Nov 2026 21:00:00 GMT", b"Mon, 30 Nov 2026 21:00:01 GMT"):
            client.state.default_headers = [(b"date", date), (b"server", b"x")]
            for _ in range(2):
                client.line.sent = b""
                heads.append((await client.send(get(endpoint_id, "count"))).partition(b"\r\n\r\n")[0])
        assert heads == [
            b"HTTP/1.1 200 OK\r\ndate: Mon, 30 Nov 2026 21:00:0%d GMT\r\nserver: x\r\n"
            b"content-type: application/json\r\ncontent-length: 58" % second
            for second in (0, 0, 1, 1)
        ]


async def test_nothing_is_said_on_a_connection_that_is_being_closed(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    bench.writer.held = True
    await client.send(post(endpoint_id) + b"no http\r\n\r\n")
    assert (client.took, client.line.ended) == (1, "closed")
    bench.writer.let_go()
    await settle()
    assert (client.line.sent, client.state.total_requests, len(client.state.tasks)) == (b"", 0, 0)


async def test_a_body_that_does_not_come_is_given_up(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    await client.send(post(endpoint_id)[:-1])
    now_s = asyncio.get_running_loop().time()
    guard.close_late(client.state.connections, now_s + BODY_DEADLINE_S - 1)
    assert not client.line.ended
    guard.close_late(client.state.connections, now_s + BODY_DEADLINE_S + 1)
    assert client.line.ended == "closed"
    assert [status for status, _ in answers(client.line.sent)] == [408]


async def test_an_armed_fault_and_a_client_that_does_not_read_take_the_long_way(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    client.protocol.pause_writing()
    await client.send(post(endpoint_id))
    assert (client.took, client.line.sent) == (0, b"")
    client.protocol.resume_writing()
    await settle()
    assert [status for status, _ in answers(client.line.sent)] == [200]
    bench.emulator.faults.armed = True
    await client.send(post(endpoint_id))
    assert client.took == 0
    bench.emulator.faults.armed = False
    await client.send(post(endpoint_id))
    assert client.took == 1
    assert [status for status, _ in answers(client.line.sent)] == [200] * 3


async def test_a_body_is_taken_directly_up_to_a_size(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    frame = len(json.dumps(submit_body(input="")))
    for size, took in ((direct_protocol._BODY_MAX_BYTES, 1), (direct_protocol._BODY_MAX_BYTES + 1, 1)):
        await client.send(post(endpoint_id, submit_body(input="x" * (size - frame))))
        assert client.took == took
    assert [status for status, _ in answers(client.line.sent)] == [200] * 2


async def test_documented_limits_are_kept_the_long_way(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(limits="documented")
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    for _ in range(41):
        await client.send(post(endpoint_id))
    assert [status for status, _ in answers(client.line.sent)] == [200] * 40 + [429]
    assert client.took == 0


@pytest.mark.parametrize("is_answered", [True, False])
async def test_a_connection_that_ended_stays_in_memory_for_nothing(bench: Bench, is_answered: bool) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    gc.collect()
    gc.disable()
    try:
        bench.writer.held = not is_answered
        await client.send(post(endpoint_id))
        assert (client.took, bool(client.line.sent)) == (1, is_answered)
        client.leave()
        bench.writer.let_go()
        await settle()
        protocol = weakref.ref(client.protocol)
        del client.protocol
        assert protocol() is None
    finally:
        gc.enable()


async def test_a_connection_is_closed_once_it_was_idle_for_too_long(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    bench.writer.held = True
    await client.send(post(endpoint_id))
    later_s = asyncio.get_running_loop().time() + client.protocol.timeout_keep_alive
    guard.close_late(client.state.connections, later_s + 3600)
    assert not client.line.ended  # a request is under way
    bench.writer.let_go()
    await settle()
    guard.close_late(client.state.connections, later_s - 1)
    assert not client.line.ended
    guard.close_late(client.state.connections, later_s + 1)
    assert client.line.ended == "closed"
    assert [status for status, _ in answers(client.line.sent)] == [200]


async def test_a_request_that_has_begun_is_not_idle(bench: Bench) -> None:
    endpoint_id = await bench.endpoint(workers=0)
    client = Client(bench, direct=True)
    client.protocol.timeout_keep_alive = 1
    await client.send(post(endpoint_id), post(endpoint_id)[:20])
    guard.close_late(client.state.connections, asyncio.get_running_loop().time() + 2)
    assert not client.line.ended
