"""Answers whose heads are known are what the parser would have made of them."""

import asyncio
import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yottabench.emulator import http1
from yottabench.emulator.known_heads import KnownAnswer, KnownAnswers

MOST_BYTES = 8


class Line(asyncio.Transport):
    """A connection without a network; remembers that it was given up."""

    ended = False

    def write(self, data: Any) -> None:
        pass

    def abort(self) -> None:
        self.ended = True

    def get_write_buffer_size(self) -> int:
        return 0


class Heads(KnownAnswers):
    """As they are, counting what they spared the parser."""

    found = 0

    def find(self, data: bytes) -> KnownAnswer | None:
        known = super().find(data)
        self.found += known is not None
        return known


class NoHeads(Heads):
    """Never knows any."""

    def find(self, data: bytes) -> KnownAnswer | None:
        return None


ANSWERS = [
    b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 4\r\n\r\nbody",
    b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 4\r\n\r\nelse",
    b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 4\r\n\r\nbodyHTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 4\r\n\r\nbody\r\n",
    b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 9\r\n\r\nmuch more",
    b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 304 No\r\nContent-Length: 4\r\n\r\n",
    b"HTTP/1.1 204 No\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody",
    b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbody",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 4\r\n\r\nbody",
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nbody",
    b"HTTP/1.1 200 OK\nContent-Length: 4\n\nbody",
    b"\r\nHTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 4\r\n\r\nbody",
    b"nonsense\r\n\r\n",
]


async def heard(exchanges: list[tuple[bytes, int, bool]], most_bytes: int = MOST_BYTES) -> list[Any]:
    """What came of each: an answer in one piece or cut at a place, to a HEAD or another request."""
    loop = asyncio.get_running_loop()
    told: list[Any] = []
    with socket.socket() as unused:
        connection = http1._Connection(loop, "peer", unused)
        line = Line()
        connection.connection_made(line)
        for data, cut, head in exchanges:
            if line.ended:
                break
            try:
                asked = connection.exchange(b"", timeout_s=60, max_body_bytes=most_bytes, head=head)
            except http1.ConnectFailed as error:
                told.append((type(error), str(error)))
                continue
            await asyncio.sleep(0)
            for piece in (data[:cut], data[cut:]) if 0 < cut < len(data) else (data,):
                connection.data_received(piece)
            if not asked.done():
                await asyncio.sleep(0)
            if not connection._complete:
                connection.connection_lost(None)
            try:
                answer = await asked
            except http1.Http1Error as error:
                told.append((type(error), str(error)))
            else:
                told.append((answer.status, answer.headers, answer.body))
            told.append((connection.reusable, line.ended))
    return told


EXCHANGES = st.lists(
    st.tuples(
        st.sampled_from(ANSWERS), st.one_of(st.just(0), st.integers(1, 60)), st.sampled_from([False] * 5 + [True])
    ),
    min_size=1,
    max_size=6,
)


def test_with_known_heads_the_same_is_heard_as_without(monkeypatch: pytest.MonkeyPatch) -> None:
    found: set[int] = set()

    @settings(max_examples=500, deadline=None)
    @given(EXCHANGES, EXCHANGES)
    def check(before: list[tuple[bytes, int, bool]], after: list[tuple[bytes, int, bool]]) -> None:
        told: list[list[Any]] = []
        for heads in (Heads(), NoHeads()):
            monkeypatch.setattr(http1, "_known_answers", heads)
            # What one connection has read is known on the next.
            told.append([*asyncio.run(heard(before)), *asyncio.run(heard(after))])
            found.add(heads.found)
        assert told[0] == told[1]

    check()
    assert {0, 1, 2} <= found


@pytest.fixture
def heads(monkeypatch: pytest.MonkeyPatch) -> Heads:
    fresh = Heads()
    monkeypatch.setattr(http1, "_known_answers", fresh)
    return fresh


def test_an_answer_within_the_body_of_another_is_body(heads: Heads) -> None:
    inner = ANSWERS[0]
    outer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(inner)
    told = asyncio.run(heard([(inner, 0, False), (outer + inner, len(outer), False), (inner, 0, False)], most_bytes=99))
    assert [each[2] for each in told[::2]] == [b"body", inner, b"body"]
    assert heads.found == 0


def test_the_end_of_a_head_is_no_head(heads: Heads) -> None:
    whole = ANSWERS[0]
    told = asyncio.run(heard([(whole, 11, False), (whole[11:], 0, False)]))
    assert told[0][2] == b"body"
    assert told[2][0] is http1.BadAnswer
    assert heads.found == 0


def test_an_interim_answer_has_no_head_of_its_own() -> None:
    known = KnownAnswers()
    assert not known.note(ANSWERS[12], 200, [], 4)
    assert known.find(b"HTTP/1.1 100 Continue\r\n\r\nbody") is None


def test_an_answer_that_is_longer_than_allowed_is_refused_although_its_head_is_known(heads: Heads) -> None:
    long = ANSWERS[4]
    assert heads.note(long, 200, [(b"A", b"b"), (b"Content-Length", b"9")], 9)  # noted where more is allowed
    ((kind, message), _) = asyncio.run(heard([(long, 0, False)]))
    assert heads.found == 1
    assert kind is http1.AnswerTooLarge
    assert message == "peer answered with more than 8 bytes."
