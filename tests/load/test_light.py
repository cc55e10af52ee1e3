"""The light client held against httpx: the same request on the wire, the same answer or the same kind of error."""

import gzip
import json
import os
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from gevent import monkey
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.light import MAX_HEAD_BYTES, LightClient, encode_json
from loadtest.receiving import GeventReceiving, PlainReceiving
from tests.load.scripted import CLOSE, HOLD, RESET, ScriptedServer, Turn

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
BODY = b'{"a": [1, 2.5, "\xc3\xa9"]}'


def with_length(body: bytes, head: str = "") -> bytes:
    return f"HTTP/1.1 200 OK\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(*chunks: bytes, trailer: bytes = b"") -> bytes:
    parts = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\n" + trailer + b"\r\n"


def outcome(call: Any) -> tuple[Any, ...]:
    try:
        answer = call()
    except httpx.RequestError as error:
        return ("error", type(error))
    headers = [(name.lower(), value) for name, value in answer.headers.multi_items()]
    return ("answer", answer.status_code, answer.content, sorted(headers))


def both(turns: list[Turn], count: int = 1, timeout_s: float = 5.0) -> tuple[list[Any], list[Any]]:
    """What each client makes of the same server, request after request."""
    found: list[list[Any]] = []
    for kind in ("light", "httpx"):
        with ScriptedServer(turns) as server:
            client: Any = (
                LightClient(server.url, timeout_s=timeout_s)
                if kind == "light"
                else httpx.Client(base_url=server.url, timeout=timeout_s, headers={"Accept-Encoding": "identity"})
            )
            with client:
                found.append(
                    [outcome(lambda client=client: client.request("post", "/x", json={"n": 1})) for _ in range(count)]
                )
    return found[0], found[1]


ANSWERS = {
    "with a length": with_length(BODY),
    "empty": with_length(b""),
    "chunked": chunked(b'{"a"', b": 1}"),
    "chunked with trailer": chunked(b"{}", trailer=b"X-End: 1\r\n"),
    "chunked and empty": chunked(),
    "chunk extensions": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    "server error": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops",
    "an unknown status": b"HTTP/1.1 599 Whatever\r\nContent-Length: 0\r\n\r\n",
    "no reason phrase": b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\n{}",
    "an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK,
    "repeated headers": with_length(b"{}", "X-A: 1\r\nX-A: 2\r\n"),
    "odd spaces": with_length(b"{}", "X-A:   1  \r\nX-B:\r\n"),
    "connection: close": with_length(b"{}", "Connection: close\r\n"),
    "many headers": with_length(b"{}", "".join(f"X-{n}: {n}\r\n" for n in range(80))),
    "gzip though not asked for": with_length(gzip.compress(BODY), "Content-Encoding: gzip\r\n"),
    "deflate though not asked for": with_length(zlib.compress(BODY), "Content-Encoding: deflate\r\n"),
    "no text": with_length(bytes(range(256))),
}
BROKEN = {
    "no answer": Turn((), CLOSE),
    "reset": Turn((), RESET),
    "cut off in the head": Turn((OK[:30],), CLOSE),
    "cut off in the body": Turn((with_length(BODY)[:-3],), CLOSE),
    "cut off in a chunk": Turn((chunked(b"{}")[:-8],), CLOSE),
    "reset in the body": Turn((with_length(BODY)[:-3],), RESET),
    "not HTTP": Turn((b"SSH-2.0-OpenSSH_9.2\r\n\r\n",), CLOSE),
    "a broken status line": Turn((b"HTTP/1.1 abc\r\n\r\n",), CLOSE),
    "a broken length": Turn((b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",), CLOSE),
    "two lengths": Turn((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}}",), CLOSE),
    "a broken chunk": Turn((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",), CLOSE),
    "broken gzip": Turn((with_length(b"nope", "Content-Encoding: gzip\r\n"),)),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_both_clients_read_the_same_answer(name: str):
    light, stock = both([Turn((ANSWERS[name],), CLOSE)])
    assert light == stock
    assert light[0][0] == "answer"


@pytest.mark.parametrize("name", BROKEN)
def test_both_clients_call_it_the_same_error(name: str):
    light, stock = both([BROKEN[name]])
    assert light == stock
    assert light[0][0] == "error"


def test_both_clients_read_a_body_that_ends_with_the_connection():
    light, stock = both([Turn((b"HTTP/1.1 200 OK\r\n\r\n{", b"}"), CLOSE)])
    assert light == stock
    assert light[0][2] == b"{}"


@settings(max_examples=40)
@given(st.sampled_from(sorted(ANSWERS)), st.data())
def test_it_does_not_matter_how_an_answer_is_cut_into_pieces(name: str, data: st.DataObject):
    answer = ANSWERS[name]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(answer) - 1), max_size=4)))
    pieces = [answer[start:end] for start, end in zip([0, *cuts], [*cuts, len(answer)], strict=True)]
    with ScriptedServer([Turn(pieces, CLOSE)]) as server, LightClient(server.url, timeout_s=5) as client:
        found = outcome(lambda: client.request("post", "/x", json={"n": 1}))
    with ScriptedServer([Turn((answer,), CLOSE)]) as server, LightClient(server.url, timeout_s=5) as client:
        assert found == outcome(lambda: client.request("post", "/x", json={"n": 1}))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(json_values)
def test_any_json_is_sent_as_what_it_is(value: Any):
    assert json.loads(encode_json(value)) == value


@given(json_values)
def test_any_json_is_read_as_the_standard_library_reads_it(value: Any):
    from loadtest.light import LightHeaders, LightResponse

    content = json.dumps(value).encode()
    found = LightResponse(200, LightHeaders([]), content).json()
    assert found == json.loads(content)
    assert json.dumps(found) == json.dumps(json.loads(content))


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": {1, 2}}, "\ud800"])
def test_what_is_no_json_is_not_sent(value: Any):
    with ScriptedServer([]) as server, LightClient(server.url) as client:
        with pytest.raises((TypeError, ValueError)):
            client.request("post", "/x", json=value)
        assert server.connections == 0


REQUESTS = [
    ("get", "/v2/serverless", {}),
    ("get", "/v2/serverless/1/tasks", {"params": {"pageNumber": 1, "pageSize": 100, "status": "SUCCESS"}}),
    ("get", "/v2/x", {"params": {"keyword": "a b&c=d/é+%"}}),
    (
        "post",
        "/v2/serverless/1/tasks",
        {
            "json": {"input": {"é": [1, None, True, 0.5]}, "workerPort": 80},
            "headers": {"Content-Type": "application/json"},
        },
    ),
    ("post", "/v2/serverless/1/stop", {}),
    ("put", "/v2/serverless/1/workers", {"params": {"count": 4}}),
    ("patch", "/v2/serverless/1", {"json": {"name": "a"}}),
    ("delete", "/v2/serverless/1", {}),
    ("get", "/v2/serverless/1/tasks/a%2Fb", {}),
]


@pytest.mark.parametrize(("method", "url", "arguments"), REQUESTS)
def test_both_clients_put_the_same_request_on_the_wire(method: str, url: str, arguments: dict[str, Any]):
    sent: list[tuple[bytes, dict[bytes, bytes], bytes]] = []
    for kind in ("light", "httpx"):
        with ScriptedServer([Turn((OK,))]) as server:
            client: Any = (
                LightClient(server.url + "/base", {"X-Api-Key": "k"})
                if kind == "light"
                else httpx.Client(base_url=server.url + "/base", headers={"X-Api-Key": "k"})
            )
            with client:
                client.request(method, url, **arguments)
            head, _, body = server.requests[0][1].partition(b"\r\n\r\n")
            first, *lines = head.split(b"\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
            # Which client it is and how it would like to be answered may differ; what it asks for may not.
            for own in (b"user-agent", b"connection", b"accept-encoding", b"host"):
                headers.pop(own, None)
            sent.append((first, headers, body))
    assert sent[0] == sent[1]


@pytest.mark.parametrize("method", ["head", "options", "GET", "trace"])
def test_other_methods_are_refused_before_anything_is_sent(method: str):
    with pytest.raises(ValueError, match="The light client sends get, post"):
        LightClient("http://127.0.0.1:1").request(method, "/")


@pytest.mark.parametrize("url", ["no-slash", "/a b", "/a\r\nX: y", "/é", ""])
def test_a_path_that_would_be_another_request_is_refused(url: str):
    with pytest.raises(httpx.InvalidURL):
        LightClient("http://127.0.0.1:1").request("get", url)


@pytest.mark.parametrize("headers", [{"X\r\nY": "z"}, {"X": "a\r\nY: z"}, {"": "a"}, {"X": "é"}, {"X Y": "a"}])
def test_a_header_that_would_be_another_is_refused(headers: dict[str, str]):
    with pytest.raises(ValueError, match="cannot be sent"):
        LightClient("http://127.0.0.1:1").request("get", "/", headers=headers)


@pytest.mark.parametrize("url", ["ftp://x", "http://", "127.0.0.1:80", "http://u:p@x", "http://x?y=1", ""])
def test_what_is_no_base_url_is_refused(url: str):
    with pytest.raises(ValueError, match="is no base URL"):
        LightClient(url)


def test_a_connection_is_kept_and_used_again():
    with ScriptedServer([Turn((OK,)) for _ in range(5)]) as server, LightClient(server.url) as client:
        for _ in range(5):
            assert client.request("get", "/").json() == {}
        assert server.connections == 1


@pytest.mark.parametrize("answer", [ANSWERS["connection: close"], b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"])
def test_a_connection_that_is_to_close_is_not_used_again(answer: bytes):
    with ScriptedServer([Turn((answer,)), Turn((OK,))]) as server, LightClient(server.url) as client:
        client.request("get", "/")
        client.request("get", "/")
        assert [number for number, _ in server.requests] == [1, 2]


def test_a_connection_that_the_server_closed_while_idle_is_not_used():
    with ScriptedServer([Turn((OK,), CLOSE), Turn((OK,))]) as server, LightClient(server.url) as client:
        client.request("get", "/")
        wait_until_stale(client)
        assert client.request("get", "/").status_code == 200
        assert server.connections == 2


def wait_until_stale(client: LightClient) -> None:
    connection = client._idle[-1]
    until_s = time.monotonic() + 5
    while connection.alive() and time.monotonic() < until_s:
        time.sleep(0.005)


def test_bytes_after_an_answer_never_become_the_next_one():
    evil = b'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"evil"'
    with ScriptedServer([Turn((OK + evil,)), Turn((OK,))]) as server, LightClient(server.url) as client:
        assert client.request("get", "/").content == b"{}"
        assert client.request("get", "/").content == b"{}"
        assert server.connections == 2


def test_an_answer_nobody_asked_for_never_becomes_the_next_one():
    evil = b'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"evil"'
    with ScriptedServer([Turn((OK, evil)), Turn((OK,))]) as server, LightClient(server.url) as client:
        assert client.request("get", "/").content == b"{}"
        wait_until_stale(client)
        assert client.request("get", "/").content == b"{}"


def test_an_answer_that_does_not_come_is_a_timeout_for_both():
    light, stock = both([Turn((), HOLD)], timeout_s=0.1)
    assert light == stock == [("error", httpx.ReadTimeout)]


def test_a_trickle_does_not_outlast_the_time_limit():
    slow = [with_length(b"x" * 400)[n : n + 1] for n in range(400)]
    with (
        ScriptedServer([Turn(slow)]) as server,
        LightClient(server.url, timeout_s=0.2) as client,
        pytest.raises(httpx.ReadTimeout),
    ):
        client.request("get", "/")


def test_after_a_timeout_the_connection_is_gone():
    with ScriptedServer([Turn((), HOLD), Turn((OK,))]) as server, LightClient(server.url, timeout_s=0.1) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.request("get", "/")
        assert client.request("get", "/").status_code == 200
        assert server.connections == 2


def test_nobody_listening_is_a_connect_error_for_both():
    with ScriptedServer([]) as server:
        url = server.url
    for client in (LightClient(url), httpx.Client(base_url=url)):
        with client, pytest.raises(httpx.ConnectError):
            client.request("get", "/")


def test_headers_without_end_are_refused():
    endless = Turn((b"HTTP/1.1 200 OK\r\nX: " + b"a" * (MAX_HEAD_BYTES + 1),), HOLD)
    with (
        ScriptedServer([endless]) as server,
        LightClient(server.url, timeout_s=5) as client,
        pytest.raises(httpx.RemoteProtocolError, match="of headers"),
    ):
        client.request("get", "/")


def test_an_early_refusal_of_a_large_body_is_read():
    """The server answers 413 and closes while the body is still on its way."""
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    listener_ready, answered = threading.Event(), threading.Event()
    import socket

    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        listener_ready.set()
        connection, _ = listener.accept()
        connection.recv(1024)
        connection.sendall(refusal)
        connection.shutdown(socket.SHUT_WR)
        answered.wait(5)
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    listener_ready.wait(5)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with LightClient(url, timeout_s=1) as client:
        try:
            found = outcome(lambda: client.request("post", "/x", json={"input": "x" * 50_000_000}))
        finally:
            answered.set()
            thread.join()
            listener.close()
    assert found in [
        ("answer", 413, b"", [("connection", "close"), ("content-length", "0")]),
        ("error", httpx.WriteTimeout),
    ]


def test_many_threads_share_one_client():
    with ScriptedServer([Turn((OK,)) for _ in range(80)]) as server, LightClient(server.url) as client:
        found: list[int] = []

        def ask() -> None:
            found.extend(client.request("get", "/").status_code for _ in range(10))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [200] * 80
        assert server.connections <= 8


def test_a_closed_client_keeps_no_connection():
    with ScriptedServer([Turn((OK,)), Turn((OK,))]) as server:
        client = LightClient(server.url)
        client.request("get", "/")
        client.close()
        client.request("get", "/")
        assert not client._idle


def test_headers_are_found_by_any_case_and_counted():
    with (
        ScriptedServer([Turn((with_length(b"{}", "Retry-After: 7\r\n"),))]) as server,
        LightClient(server.url) as client,
    ):
        headers = client.request("get", "/").headers
    assert headers["retry-after"] == headers["RETRY-AFTER"] == "7"
    assert (len(headers), sorted(headers), headers.get("x")) == (2, ["content-length", "retry-after"], None)


GEVENT = """
from gevent import monkey; monkey.patch_all()
import gevent, json, sys
from loadtest.light import LightClient
client = LightClient(sys.argv[1], timeout_s=5)
order = []
def ask(n):
    order.append(client.request("get", f"/{n}").json())
gevent.joinall([gevent.spawn(ask, n) for n in range(20)], raise_error=True)
print(json.dumps(order))
"""


def test_under_gevent_many_requests_wait_at_once():
    """None of twenty is answered before all twenty have arrived."""
    with ScriptedServer([Turn((OK,), after=20) for _ in range(20)]) as server:
        command = [sys.executable, "-c", GEVENT, server.url]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, timeout=60, check=True)
    assert json.loads(done.stdout) == [{}] * 20
    assert server.connections == 20


def test_each_kind_of_socket_is_received_from_in_its_own_way():
    with ScriptedServer([Turn((OK,))]) as server, LightClient(server.url) as client:
        client.request("get", "/")
        receiving = client._idle[0]._receiving
    assert type(receiving) is (GeventReceiving if monkey.is_module_patched("socket") else PlainReceiving)


@pytest.mark.skipif(monkey.is_module_patched("socket"), reason="this is that run")
def test_all_of_this_file_holds_under_gevent():
    command = [sys.executable, "-m", "gevent.monkey", "--module", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed, 1 skipped" in done.stdout.splitlines()[-1]


def test_importing_the_light_client_patches_nothing():
    program = "import sys, loadtest.light; assert not {'gevent', 'locust'} & set(sys.modules), 'patched'"
    # Coverage imports gevent into every process that it measures.
    bare = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], env=bare, check=True, timeout=30)
