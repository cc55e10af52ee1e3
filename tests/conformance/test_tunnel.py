"""The proxy changes no byte, whatever passes, and reads along what can be read."""

import asyncio
import gzip
import json
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yottabench.conformance.proxy import Target, Tunnel
from yottabench.conformance.proxy.reading import Connection, NotHttp, Passed

LARGE = bytes(range(256)) * 12_000
CHUNKED = (
    b"POST /a HTTP/1.1\r\nHost: x\r\ntransfer-encoding: Chunked\r\n\r\n5;ext=1\r\nhello\r\n0\r\nX-Trailer: a\r\n\r\n"
)
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SENT = {
    "plain": b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n",
    "odd headers": b"GET / HTTP/1.1\r\nhOsT:x\r\nA: 1\r\nA:  2 \t\r\nX-\x21: \xe9\xff\r\nEmpty:\r\n\r\n",
    "folded header": b"GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\n 2\r\n\r\n",
    "chunked": CHUNKED,
    "large": b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(LARGE), LARGE),
    "two at once": CHUNKED + b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n",
    "old": b"GET / HTTP/1.0\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9,
    "bare line feeds": b"GET / HTTP/1.1\nHost: x\n\n",
    "unfinished": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc",
}
ANSWERED = {
    "plain": PLAIN,
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "until it ends": b"HTTP/1.1 200 OK\r\n\r\nok",
    "continue first": b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN,
    "two": PLAIN + PLAIN,
    "large": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(LARGE), LARGE),
    "odd": b"HTTP/1.1 299 \r\nset-cookie: a\r\nSet-Cookie: b\r\ncontent-length: 0\r\n\r\n",
    "switched": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\n\r\n\x00\x01",
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "nothing": b"",
}


@attrs.define
class Seen:
    """What came out at both ends, and what was read along."""

    server: bytes = b""
    client: bytes = b""
    passed: list[Passed] = attrs.field(factory=list)
    unreadable: list[str] = attrs.field(factory=list)


class Named(Target):
    """A target that has a name, at an address that is there."""

    named = True
    authority = "api.example.com"


async def through(pieces: list[bytes], answered: bytes, kind: type[Target] = Target, **more: Any) -> Seen:
    """Send something through a tunnel to a server that answers once it has got all of it."""
    seen = Seen()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.server = await reader.read(-1)
        writer.write(answered)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    tunnel = Tunnel(
        kind("127.0.0.1", port, False), seen.passed.append, seen.unreadable.append, now_s=lambda: 1.0, **more
    )
    url = await tunnel.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    writer.write_eof()
    seen.client = await reader.read(-1)
    writer.close()
    await writer.wait_closed()
    await tunnel.close()
    server.close()
    await server.wait_closed()
    return seen


@pytest.mark.anyio
@pytest.mark.parametrize("sent", SENT.values(), ids=SENT)
@pytest.mark.parametrize("answered", ANSWERED.values(), ids=ANSWERED)
async def test_every_byte_comes_out_as_it_went_in(sent: bytes, answered: bytes) -> None:
    seen = await through([sent], answered)
    assert seen.server == sent
    assert seen.client == answered


@settings(max_examples=25)
@given(st.lists(st.integers(1, 40), max_size=12), st.sampled_from(["chunked", "two at once", "odd headers", "no HTTP"]))
def test_it_does_not_matter_where_the_bytes_are_divided(cuts: list[int], name: str) -> None:
    rest, pieces = SENT[name], []
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    seen = asyncio.run(through([*filter(None, pieces), rest] if rest else pieces, PLAIN))
    assert seen.server == SENT[name]
    assert seen.client == PLAIN
    whole = asyncio.run(through([SENT[name]], PLAIN))
    assert seen.passed == whole.passed


@pytest.mark.anyio
async def test_requests_and_answers_are_read_along() -> None:
    seen = await through([SENT["two at once"]], ANSWERED["continue first"] + ANSWERED["chunked"])
    first, second = seen.passed
    assert (first.request.method, first.request.target, first.request.body) == ("POST", "/a", b"hello")
    assert (second.request.method, second.request.target, second.request.body) == ("GET", "/b", b"")
    assert [one.answer.body for one in seen.passed] == [b"ok", b"ok"]
    assert ("transfer-encoding", "chunked") in first.request.headers
    assert seen.unreadable == []


@pytest.mark.anyio
async def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    seen = await through([SENT["plain"]], ANSWERED["until it ends"])
    assert [one.answer.body for one in seen.passed] == [b"ok"]


@pytest.mark.anyio
async def test_the_answer_to_a_head_request_has_no_body_whatever_it_says() -> None:
    head = b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"
    seen = await through([head + SENT["plain"]], b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" + PLAIN)
    assert [one.answer.body for one in seen.passed] == [b"", b"ok"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("sent", "answered"), [("no HTTP", "plain"), ("plain", "no HTTP"), ("plain", "switched"), ("folded header", "odd")]
)
async def test_what_cannot_be_read_is_said_and_passes_all_the_same(sent: str, answered: str) -> None:
    seen = await through([SENT[sent]], ANSWERED[answered])
    assert (seen.server, seen.client) == (SENT[sent], ANSWERED[answered])
    assert len(seen.unreadable) == (1 if sent != "folded header" else 0)


@pytest.mark.anyio
async def test_a_body_too_large_to_keep_is_marked_and_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yottabench.conformance.proxy.reading.BODY_MAX_BYTES", 1000)
    seen = await through([SENT["large"]], PLAIN)
    assert seen.server == SENT["large"]
    assert [one.whole for one in seen.passed] == [False]


@pytest.mark.anyio
async def test_a_connection_turned_into_a_tunnel_is_left_alone() -> None:
    connect = b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n"
    seen = await through([connect, b"\x16\x03"], b"HTTP/1.1 200 OK\r\n\r\n\x15\x03")
    assert (seen.server, seen.client) == (connect + b"\x16\x03", b"HTTP/1.1 200 OK\r\n\r\n\x15\x03")
    assert seen.unreadable


# ---- the one change


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["plain", "odd headers", "chunked", "large", "two at once", "unfinished"])
async def test_a_target_with_a_name_is_told_it_and_nothing_else_changes(name: str) -> None:
    sent = SENT[name]
    seen = await through([sent[:7], sent[7:50], sent[50:]], PLAIN, Named)
    if b"hOsT:x" in sent:
        assert seen.server == sent.replace(b"hOsT:x", b"hOsT:api.example.com")
    else:
        assert seen.server == sent.replace(b"Host: x", b"Host: api.example.com")


@pytest.mark.anyio
async def test_a_name_in_a_body_stays(anyio_backend: str) -> None:
    body = b"\r\n\r\nHost: x\r\n\r\n"
    sent = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    seen = await through([sent, SENT["plain"]], PLAIN, Named)
    assert seen.server == sent.replace(b"Host: x", b"Host: api.example.com", 1) + SENT["plain"].replace(
        b"Host: x", b"Host: api.example.com"
    )
    assert (await through([sent], PLAIN, Named, keep_host=True)).server == sent


@pytest.mark.anyio
async def test_what_is_no_http_passes_a_target_with_a_name_too() -> None:
    much = b"\x00" * 300_000
    assert (await through([much], PLAIN, Named)).server == much


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "named", "authority"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1", 8080, False, False, "127.0.0.1:8080"),
        ("http://localhost", "localhost", 80, False, False, "localhost"),
        ("https://api.example.com/", "api.example.com", 443, True, True, "api.example.com"),
        ("https://[::1]:8443", "::1", 8443, True, False, "[::1]:8443"),
    ],
)
def test_a_target_is_read_from_its_url(url: str, host: str, port: int, tls: bool, named: bool, authority: str) -> None:
    target = Target.of(url)
    assert (target.host, target.port, target.tls, target.named, target.authority) == (host, port, tls, named, authority)


@pytest.mark.parametrize("url", ["ftp://x", "http://", "api.example.com", "http://x/v2", "http://x?y=z"])
def test_another_target_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must be http"):
        Target.of(url)


@pytest.mark.anyio
async def test_a_target_that_is_not_there_is_said_to_the_client() -> None:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    tunnel = Tunnel(Target("127.0.0.1", port, False), lambda _p: None, lambda _w: None, now_s=lambda: 0.0)
    url = await tunnel.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    answer = await reader.read(-1)
    assert answer.startswith(b"HTTP/1.1 502 Bad Gateway")
    assert b"cannot be reached" in answer
    writer.close()
    await writer.wait_closed()
    await tunnel.close()


@pytest.mark.anyio
async def test_closing_hangs_up_on_those_who_are_connected() -> None:
    connected = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    tunnel = Tunnel(Target("127.0.0.1", port, False), lambda _p: None, lambda _w: None, now_s=lambda: 0.0)
    url = await tunnel.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    await connected.wait()
    await tunnel.close()
    assert await reader.read(-1) == b""
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


def test_an_answer_before_anything_was_asked_is_nothing_to_check() -> None:
    passed: list[Passed] = []
    connection = Connection(passed.append, lambda: 0.0)
    assert connection.from_server(PLAIN + b"rest") == (4, True)
    assert passed == []
    with pytest.raises(NotHttp):
        connection.from_server(b"\x00\x00\r\n\r\n")


@pytest.mark.anyio
async def test_a_compressed_answer_is_read_and_passes_compressed() -> None:
    body = gzip.compress(json.dumps({"code": 10000}).encode(), mtime=0)
    answered = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    seen = await through([SENT["plain"]], answered)
    assert seen.client == answered
    assert seen.passed[0].answer.code() == 10000
