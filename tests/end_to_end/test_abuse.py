"""What strangers do to a real server over real sockets, and how little its other clients and its memory notice."""

import contextlib
import json
import socket
import sys
from collections.abc import Iterator

import httpx
import pytest

from tests.end_to_end.faults import memory_mb
from tests.end_to_end.processes import ENOUGH_S, ROOT, Serve, Server, raw

MEGABYTE = b"x" * 1_000_000
GROWTH_MAX_MB = 60.0  # of which ten bodies of 10 MB would be more, and so would one of 100 MB


def connect(server: Server) -> socket.socket:
    url = httpx.URL(server.ready["url"])
    return socket.create_connection((url.host, url.port or 0), timeout=ENOUGH_S)


def head(endpoint_id: str, *lines: str) -> bytes:
    all_lines = [f"POST {ROOT}/{endpoint_id}/tasks HTTP/1.1", "Host: localhost", "X-Api-Key: me", *lines, "", ""]
    return "\r\n".join(all_lines).encode()


def read_all(connection: socket.socket) -> bytes:
    got = b""
    with contextlib.suppress(ConnectionError):
        while more := connection.recv(65536):
            got += more
    return got


def body(task_id: str) -> bytes:
    return json.dumps({"taskId": task_id, "input": 1, "workerPort": 1, "processUri": "/"}).encode()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_large_and_lying_requests_are_refused_and_memory_stays_bounded(serve: Serve) -> None:
    server = serve()
    endpoint_id = server.endpoint(workers=0)
    url = server.ready["url"]
    server.submit(endpoint_id, 1)
    before_mb = memory_mb(server.process.pid)
    assert raw(url, head(endpoint_id, "Content-Length: 100000000"))[0] == 413
    assert raw(url, head(endpoint_id, "Content-Length: 9223372036854775807"))[0] == 413
    assert raw(url, head(endpoint_id, "Content-Length: 99999999999999999999999"))[0] == 400
    chunk = b"f4240\r\n" + MEGABYTE + b"\r\n"
    assert raw(url, head(endpoint_id, "Transfer-Encoding: chunked"), *[chunk] * 100)[0] == 413
    with connect(server) as connection:
        connection.sendall(head(endpoint_id, "Transfer-Encoding: chunked") + b"fffffffffffffffff\r\n")
        assert b" 200 " not in read_all(connection)  # the connection ends, for there is no way to go on
    assert raw(url, head(endpoint_id, *["X-Many: 1"] * 10_000))[0] == 431
    assert raw(url, head(endpoint_id, "X-Long: " + "y" * 1_000_000))[0] == 431
    assert raw(url, b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n")[0] in {400, 431}
    # Twenty of nine megabytes that never end: what is announced is not set aside, what came is let go.
    with contextlib.ExitStack() as crowd:
        for _ in range(20):
            connection = crowd.enter_context(connect(server))
            connection.sendall(head(endpoint_id, "Content-Length: 9000000") + MEGABYTE)
        server.data("GET", f"/{endpoint_id}/tasks")
    for _ in range(5):
        server.data("GET", f"/{endpoint_id}/tasks")
    assert server.data("GET", f"/{endpoint_id}/tasks")["total"] == 1
    assert memory_mb(server.process.pid) - before_mb < GROWTH_MAX_MB
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize(
    ("lines", "sent"),
    [
        (["Content-Length: {length}", "Transfer-Encoding: chunked"], b"0\r\n\r\n{second}"),
        (["Transfer-Encoding: chunked", "Content-Length: {length}"], b"0\r\n\r\n{second}"),
        (["Transfer-Encoding: xchunked", "Content-Length: 5"], b"0\r\n\r\n{second}"),
        (["Transfer-Encoding : chunked", "Content-Length: 5"], b"0\r\n\r\n{second}"),
        (["Transfer-Encoding: chunked, identity"], b"0\r\n\r\n{second}"),
        (["Transfer-Encoding:\x0bchunked", "Content-Length: 5"], b"0\r\n\r\n{second}"),
        (["X: y\rTransfer-Encoding: chunked", "Content-Length: 5"], b"0\r\n\r\n{second}"),
        (["Content-Length: 0", "Content-Length: {length}"], b"{second}"),
        (["Content-Length: 0, {length}"], b"{second}"),
        (["Content-Length: 0x10"], b"{second}"),
        (["Content-Length: -1"], b"{second}"),
        (["Transfer-Encoding: chunked"], b"5;\r\n{}\r\n\r\n0\r\n\r\n{second}"),
        (["Transfer-Encoding: chunked"], b"-1\r\n{second}"),
        (["Transfer-Encoding: chunked"], b"0x2\r\n{}\r\n0\r\n\r\n{second}"),
        (["Transfer-Encoding: chunked"], b"2 \n{}\n0\n\n{second}"),
        (["Transfer-Encoding: chunked"], b"00000000000000000002\r\n{}\r\n0\r\nTransfer-Encoding: x\r\n{second}"),
    ],
)
def test_no_pair_of_lengths_smuggles_a_second_request(serve_once: Server, lines: list[str], sent: bytes) -> None:
    server = serve_once
    endpoint_id = server.endpoint(workers=0)
    second = head(endpoint_id, f"Content-Length: {len(body('smuggled'))}") + body("smuggled")
    whole = sent.replace(b"{second}", second)
    filled = [line.replace("{length}", str(len(whole))) for line in lines]
    with connect(server) as connection:
        connection.sendall(head(endpoint_id, *filled) + whole)
        connection.shutdown(socket.SHUT_WR)
        answers = read_all(connection)
    assert b'"taskId":"smuggled"' not in answers
    assert server.data("GET", f"/{endpoint_id}/tasks")["total"] == 0


@pytest.fixture(scope="module")
def serve_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("smuggling") / "stderr.txt", "--ephemeral")
    yield server
    server.close()
