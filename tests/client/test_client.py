"""How a client is made, what it carries, and what it leaves alone."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.client.service import ENDPOINT, KEY, Service, success
from yottabench.client import Client, InvalidArgument, TimedOut


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("YOTTA_API_KEY", raising=False)
    monkeypatch.delenv("YOTTA_BASE_URL", raising=False)


def test_the_live_service_is_the_default() -> None:
    with Client(KEY) as client:
        assert repr(client) == "Client(base_url='https://api.yottalabs.ai')"


def test_key_and_address_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, service: Service) -> None:
    monkeypatch.setenv("YOTTA_API_KEY", "key-of-the-environment")
    monkeypatch.setenv("YOTTA_BASE_URL", "http://127.0.0.1:8080/")
    client = Client(http=httpx.Client(transport=httpx.MockTransport(service.gives(ENDPOINT).handle)))
    client.endpoints.get("1")
    assert str(service.last.url) == "http://127.0.0.1:8080/v2/serverless/1"
    assert service.last.headers["x-api-key"] == "key-of-the-environment"


def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOTTA_BASE_URL", "http://elsewhere")
    with Client(KEY, "http://here/") as client:
        assert repr(client) == "Client(base_url='http://here')"


def test_a_base_url_may_have_a_path(service: Service) -> None:
    http = httpx.Client(transport=httpx.MockTransport(service.gives(ENDPOINT).handle))
    Client(KEY, "http://gateway.test/yotta/", http=http).endpoints.get("1")
    assert str(service.last.url) == "http://gateway.test/yotta/v2/serverless/1"


@pytest.mark.parametrize(
    "url",
    [
        "x",
        "api.yottalabs.ai",
        "ftp://host",
        "http://",
        "http:///x",
        "http://host:x",
        "http://host:0",
        "http://host:99999",
        "http://[::1",
        "http://host?x=1",
        "http://host#x",
        "http://ho st",
        "http://host\n",
        "http://hö.de",
    ],
)
def test_a_base_url_that_cannot_be_one_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument, match="base URL must be like"):
        Client(KEY, url)


def test_a_password_in_the_base_url_is_refused_and_not_shown() -> None:
    with pytest.raises(InvalidArgument, match="must not hold a user name") as caught:
        Client(KEY, "http://user:SECRET@host")
    assert "SECRET" not in str(caught.value)


def test_a_missing_key_is_said_at_once() -> None:
    with pytest.raises(InvalidArgument, match="YOTTA_API_KEY"):
        Client()


@pytest.mark.parametrize("key", ["SECRET\n", "SECRET\r\nX: y", " SECRET", "SECRET é", "SEC\tRET"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Client(key)
    assert "SEC" not in str(caught.value)


def test_a_given_http_client_is_not_changed_and_not_closed(service: Service) -> None:
    http = httpx.Client(transport=httpx.MockTransport(service.gives(ENDPOINT).handle), base_url="http://other.test")
    with Client(KEY, "http://emulator.test", http=http) as client:
        client.endpoints.get("1")
    assert service.last.url.host == "emulator.test"
    assert "x-api-key" not in http.headers
    assert not http.is_closed


def test_an_own_http_client_is_closed_and_follows_no_redirect() -> None:
    client = Client(KEY, "http://emulator.test")
    own: Any = client._own_http  # pyright: ignore[reportPrivateUsage] -- nothing else shows it
    assert own.follow_redirects is False
    with client:
        assert not own.is_closed
    assert own.is_closed


@pytest.mark.parametrize(
    ("url", "obeyed"),
    [
        ("http://127.0.0.1:8080", False),
        ("http://localhost", False),
        ("http://[::1]:1", False),
        ("https://x.test", True),
    ],
)
def test_proxies_of_the_environment_are_for_the_outside(url: str, obeyed: bool) -> None:
    with Client(KEY, url) as client:
        own: Any = client._own_http  # pyright: ignore[reportPrivateUsage] -- nothing else shows it
        assert own.trust_env is obeyed


class LightClient:
    """The least that may carry requests."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def request(
        self,
        method: str,
        url: str,
        *,
        json: Any = None,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> httpx.Response:
        self.seen.append({"method": method, "url": url, "json": json, "params": params, "timeout": timeout})
        return httpx.Response(200, json=success({"taskId": "x"}))


def test_a_light_client_may_carry_the_requests() -> None:
    light = LightClient()
    client = Client(KEY, "http://emulator.test", timeout_s=7.5, http=light)
    assert client.tasks.submit("1", 5, worker_port=1, process_uri="/").task_id == "x"
    assert light.seen == [
        {
            "method": "POST",
            "url": "http://emulator.test/v2/serverless/1/tasks",
            "json": {"input": 5, "workerPort": 1, "processUri": "/"},
            "params": None,
            "timeout": 7.5,
        }
    ]


def test_a_fault_in_the_http_client_is_not_taken_for_a_fault_in_the_input() -> None:
    def handler(_request: httpx.Request) -> httpx.Response:
        raise TypeError("a fault")

    client = Client(KEY, "http://emulator.test", http=httpx.Client(transport=httpx.MockTransport(handler)))
    with pytest.raises(TypeError, match="a fault"):
        client.tasks.submit("1", 5, worker_port=1, process_uri="/")


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that takes connections and never answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                held.append(listener.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=accept)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    for connection in held:
        connection.close()


def test_a_server_that_never_answers_ends_in_an_error(silent_server: str) -> None:
    with Client(KEY, silent_server, timeout_s=0.05) as client, pytest.raises(TimedOut) as caught:
        client.endpoints.get("1")
    assert caught.value.may_have_taken_effect is True
