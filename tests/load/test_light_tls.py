"""The light client over TLS, held against httpx: a real TLS server with a certificate of a test's own authority."""

import shutil
import ssl
from typing import Any

import httpx
import pytest

from loadtest.light import LightClient
from tests.certificates import Certificates, make_certificates
from tests.load.scripted import CLOSE, HOLD, RESET, ScriptedServer, Turn
from tests.load.test_light import OK, chunked, outcome, wait_until_stale, with_length

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def light_client(url: str, trust: ssl.SSLContext | None, timeout_s: float = 5.0) -> LightClient:
    return LightClient(url, timeout_s=timeout_s, connect_timeout_s=timeout_s, tls=trust)


def httpx_client(url: str, trust: ssl.SSLContext | None, timeout_s: float = 5.0) -> httpx.Client:
    headers = {"Accept-Encoding": "identity"}
    return httpx.Client(base_url=url, timeout=timeout_s, headers=headers, verify=trust or True)


def both(
    turns: list[Turn], serving: ssl.SSLContext, trust: ssl.SSLContext | None, count: int = 1, timeout_s: float = 5.0
) -> tuple[list[Any], list[Any], list[int]]:
    """What each client makes of it, request after request; and how many connections each made."""
    found: list[list[Any]] = []
    connections: list[int] = []
    for make in (light_client, httpx_client):
        with ScriptedServer(turns, serving) as server, make(server.url, trust, timeout_s) as client:
            ask: Any = client.request
            found.append([outcome(lambda ask=ask: ask("post", "/x", json={"n": 1})) for _ in range(count)])
            connections.append(server.connections)
    return found[0], found[1], connections


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("answer", [with_length(b'{"a": 1}'), chunked(b'{"a"', b": 1}"), with_length(b"x" * 300_000)])
def test_both_clients_read_the_same_answer_over_tls(certificates: Certificates, version: ssl.TLSVersion, answer: bytes):
    trusting = certificates.trusting
    before = trusting.maximum_version
    trusting.maximum_version = version
    try:
        light, stock, connections = both([Turn((answer,))] * 2, certificates.here, trusting, count=2)
    finally:
        trusting.maximum_version = before
    assert light == stock
    assert [kind for kind, *_ in light] == ["answer", "answer"]
    assert connections == [1, 1]


@pytest.mark.parametrize(
    "turn",
    [
        Turn((), CLOSE),
        Turn((), RESET),
        Turn((OK[:30],), CLOSE),
        Turn((with_length(b"{}" * 20)[:-3],), CLOSE),
        Turn((chunked(b"{}")[:-8],), CLOSE),
    ],
    ids=["no answer", "reset", "cut off in the head", "cut off in the body", "cut off in a chunk"],
)
def test_both_clients_call_a_broken_answer_over_tls_the_same_error(certificates: Certificates, turn: Turn):
    light, stock, _ = both([turn], certificates.here, certificates.trusting)
    assert light == stock
    assert light[0][0] == "error"


def test_an_answer_that_does_not_come_over_tls_is_a_timeout_for_both(certificates: Certificates):
    light, stock, _ = both([Turn((), HOLD)], certificates.here, certificates.trusting, timeout_s=0.2)
    assert light == stock == [("error", httpx.ReadTimeout)]


def test_a_certificate_of_an_unknown_authority_is_refused_by_both(certificates: Certificates):
    light, stock, _ = both([Turn((OK,))], certificates.here, None)
    assert light == stock == [("error", httpx.ConnectError)]


def test_a_certificate_for_another_name_is_refused_by_both_and_nothing_is_sent(certificates: Certificates):
    for make in (light_client, httpx_client):
        with (
            ScriptedServer([Turn((OK,))], certificates.elsewhere) as server,
            make(server.url, certificates.trusting) as client,
        ):
            ask: Any = client.request
            assert outcome(lambda ask=ask: ask("post", "/x", json={})) == ("error", httpx.ConnectError)
            assert server.requests == []


def test_a_server_that_speaks_no_tls_is_a_connect_error_for_both(certificates: Certificates):
    for make in (light_client, httpx_client):
        with ScriptedServer([Turn((b"plain\r\n\r\n",), CLOSE)]) as server:
            client = make(server.url.replace("http:", "https:"), certificates.trusting, 0.3)
            ask: Any = client.request
            kind, error = outcome(lambda ask=ask: ask("get", "/"))
            client.close()
            assert kind == "error"
            assert issubclass(error, httpx.ConnectError | httpx.ConnectTimeout)


def test_a_tls_connection_that_the_server_closed_while_idle_is_not_used(certificates: Certificates):
    turns = [Turn((OK,), CLOSE), Turn((OK,))]
    with ScriptedServer(turns, certificates.here) as server, light_client(server.url, certificates.trusting) as client:
        assert client.request("get", "/").status_code == 200
        wait_until_stale(client)
        assert client.request("get", "/").status_code == 200
        assert server.connections == 2
