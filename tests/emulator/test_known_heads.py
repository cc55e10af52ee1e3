"""What is taken for a request with a known head, and what is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yottabench.emulator.known_heads import KnownHeads, KnownRequest

HEAD = b" HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
POST = b"POST /tasks" + HEAD + b"body"
GET = b"GET /tasks/1 HTTP/1.1\r\nHost: a\r\n\r\n"


def heads(*whole: tuple[bytes, int]) -> KnownHeads:
    """They know these requests of "me", each with the length of its body."""
    known = KnownHeads()
    for data, body_bytes in whole:
        assert known.note(data, "me", body_bytes)
    return known


def test_another_request_with_the_same_head_is_known() -> None:
    known = heads((POST, 4), (GET, 0))
    assert known.find(b"POST /other-1/tasks_2" + HEAD + b"else") == KnownRequest(
        b"POST", b"/other-1/tasks_2", "me", b"else"
    )
    assert known.find(GET) == KnownRequest(b"GET", b"/tasks/1", "me", b"")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        POST[:-1],
        POST + b"x",
        POST + POST,
        POST[:20],
        b"PUT /tasks" + HEAD + b"body",
        b"GET /tasks" + HEAD + b"body",
        b"POST  /tasks" + HEAD + b"body",
        b"POST /tasks\r\n" + HEAD + b"body",
        b"\r\n" + POST,
        b"xPOST /tasks" + HEAD + b"body",
        b"POST /tasks" + HEAD.replace(b"a", b"b") + b"body",
        b"POST /tasks" + HEAD.replace(b"1.1", b"1.0") + b"body",
        b"POST /tasks" + HEAD.replace(b"4", b"3") + b"bod",
    ],
)
def test_anything_else_is_not(data: bytes) -> None:
    assert heads((POST, 4), (GET, 0)).find(data) is None


PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_/-"


@given(st.binary(max_size=20))
def test_a_target_is_plain_or_left_to_the_parser(target: bytes) -> None:
    found = heads((POST, 4)).find(b"POST " + target + HEAD + b"body")
    assert (found is not None) == (target[:1] == b"/" and not target.translate(None, PLAIN))


@pytest.mark.parametrize("more", [b"", b"x", b"\r\n"])
@pytest.mark.parametrize("body_bytes", [0, 3, 4, 5, 6])
def test_only_what_is_whole_becomes_known(more: bytes, body_bytes: int) -> None:
    known = KnownHeads()
    assert known.note(POST + more, "me", body_bytes) == (len(more) + 4 == body_bytes)
    assert (known.find(POST) is not None) == (more == b"" and body_bytes == 4)


def test_a_long_head_is_not_kept() -> None:
    def get(size: int) -> bytes:
        frame = b"GET / HTTP/1.1\r\nx: \r\n\r\n"
        return frame.replace(b"x: ", b"x: " + b"y" * (size + len(b" /") - len(frame)))

    known = heads((get(2048), 0), (get(2049), 0))
    assert known.find(get(2048)) is not None
    assert known.find(get(2049)) is None


def test_as_many_are_kept_as_fit_and_the_oldest_goes() -> None:
    def get(number: int) -> bytes:
        return b"GET / HTTP/1.1\r\nx: %d\r\n\r\n" % number

    known = heads(*((get(number), 0) for number in range(1024)))
    assert all(known.find(get(number)) is not None for number in range(1024))
    assert known.note(get(7), "me", 0)  # no other has to go for one that is there
    assert known.find(get(0)) is not None
    assert known.note(get(1024), "me", 0)
    assert [number for number in range(1025) if known.find(get(number)) is None] == [0]
