from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests import strategies
from tests.emulator.harness import ROOT, Bench
from yottabench.emulator.limits import WEBHOOK_AUTH_KEY_MAX_CHARS, WEBHOOK_MAX_CHARS
from yottabench.emulator.receivers import address_of, target_of
from yottabench.emulator.webhook_urls import is_auth_key, is_webhook

pytestmark = pytest.mark.anyio


@given(strategies.webhooks())
@example("HTTP://A?x")
@example("https://[::1]")
@example("http://a:80#f")
@example("http://a/??")
def test_a_url_is_read_as_the_standard_library_reads_it(url: str) -> None:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    assert address_of(url) == (parts.scheme, parts.hostname, port)
    target = target_of(url).decode()
    if parts.query:
        assert target == f"{parts.path or '/'}?{parts.query}"
    else:  # an empty one and none are the same to it
        assert target in {parts.path or "/", f"{parts.path or '/'}?"}


def test_a_url_and_a_key_may_be_as_long_as_the_limits_say_and_no_longer() -> None:
    url = "http://a/".ljust(WEBHOOK_MAX_CHARS, "x")
    assert (is_webhook(url), is_webhook(url + "x")) == (True, False)
    key = "k" * WEBHOOK_AUTH_KEY_MAX_CHARS
    assert (is_auth_key(key), is_auth_key(key + "k")) == (True, False)


@given(st.from_regex(r"http://\[[0-9A-Fa-f:.]{2,45}\]/", fullmatch=True))
def test_brackets_with_anything_in_them_are_an_address_and_never_an_error(url: str) -> None:
    # A store may hold such URLs from before they were refused, and one must not stop the outbox for all.
    assert address_of(url) == ("http", url[8:-2].lower(), 80)


async def test_a_refused_method_says_in_a_header_which_would_do(bench: Bench) -> None:
    endpoint_id = await bench.endpoint()
    for path, allowed in (("", {"GET", "POST"}), (f"/{endpoint_id}", {"GET", "PATCH", "DELETE"})):
        reply = await bench.call("PUT", ROOT + path)
        assert reply.http_status == 405
        assert set(reply.headers["allow"].split(", ")) == allowed
