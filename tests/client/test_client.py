"""How a client is made, what it carries, and what it leaves alone."""

import asyncio
import concurrent.futures
import sys
from typing import Any

import httpx
import pytest

from tests.client.clients import Kind, make
from tests.client.scripted import Action, ScriptedServer, answers, hangs, trickles
from tests.client.service import ENDPOINT, KEY, Service, success
from yottabench.client import AsyncClient, Client, InvalidArgument, TimedOut, UnreadableAnswer
from yottabench.client.http_sync import proxy_for


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("YOTTA_API_KEY", raising=False)
    monkeypatch.delenv("YOTTA_BASE_URL", raising=False)


def test_the_live_service_is_the_default(kind: Kind) -> None:
    with make(kind, KEY) as client:
        assert repr(client).endswith("Client(base_url='https://api.yottalabs.ai')")


def test_key_and_address_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, service: Service) -> None:
    monkeypatch.setenv("YOTTA_API_KEY", "key-of-the-environment")
    monkeypatch.setenv("YOTTA_BASE_URL", "http://127.0.0.1:8080/")
    client = make(service.kind, http=service.gives(ENDPOINT).transport())
    client.endpoints.get("1")
    assert str(service.last.url) == "http://127.0.0.1:8080/v2/serverless/1"
    assert service.last.headers["x-api-key"] == "key-of-the-environment"


def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch, kind: Kind) -> None:
    monkeypatch.setenv("YOTTA_BASE_URL", "http://elsewhere")
    with make(kind, KEY, "http://here/") as client:
        assert repr(client).endswith("Client(base_url='http://here')")


def test_a_base_url_may_have_a_path(service: Service) -> None:
    http = service.gives(ENDPOINT).transport()
    make(service.kind, KEY, "http://gateway.test/yotta/", http=http).endpoints.get("1")
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


@pytest.mark.parametrize("wrong", [{"timeout_s": 0}, {"timeout_s": -1}, {"deadline_s": 0}, {"timeout_s": float("nan")}])
def test_times_that_allow_nothing_are_refused(wrong: dict[str, float], kind: Kind) -> None:
    with pytest.raises(InvalidArgument, match="must be more than 0 seconds"):
        make(kind, KEY, "http://here", **wrong)


def test_a_given_http_client_is_not_changed_and_not_closed(service: Service) -> None:
    http = service.gives(ENDPOINT).transport()
    with make(service.kind, KEY, "http://emulator.test", http=http) as client:
        client.endpoints.get("1")
    assert service.last.url.host == "emulator.test"
    assert "x-api-key" not in http.headers
    assert not http.is_closed


@pytest.mark.parametrize(
    ("url", "obeyed"),
    [
        ("http://127.0.0.1:8080", False),
        ("http://localhost", False),
        ("http://[::1]:1", False),
        ("http://inside.test", False),
        ("http://x.test", True),
    ],
)
def test_proxies_of_the_environment_are_for_the_outside(
    url: str, obeyed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://proxy.test:3128")
    monkeypatch.setenv("no_proxy", "inside.test")
    assert proxy_for(url) == ("http://proxy.test:3128" if obeyed else None)


def test_requests_go_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch, kind: Kind) -> None:
    with ScriptedServer([answers(200, success(ENDPOINT))]) as proxy:
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setenv("http_proxy", proxy.url)
        with make(kind, KEY, "http://x.test") as client:
            assert client.endpoints.get("1").id == ENDPOINT["id"]
    assert proxy.requests[0].startswith(b"GET http://x.test/v2/serverless/1 HTTP/1.1")


def test_no_redirect_is_followed(kind: Kind) -> None:
    elsewhere = answers(302, b"", {"Location": "http://127.0.0.1:1/"})
    with ScriptedServer([elsewhere]) as server, make(kind, KEY, server.url) as client, pytest.raises(UnreadableAnswer):
        client.endpoints.get("1")


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
    assert client.tasks.submit("1", 5, worker_port=1, process_uri="/", task_id="x").task_id == "x"
    assert light.seen == [
        {
            "method": "POST",
            "url": "http://emulator.test/v2/serverless/1/tasks",
            "json": {"input": 5, "workerPort": 1, "processUri": "/", "taskId": "x"},
            "params": None,
            "timeout": 7.5,
        }
    ]


def test_a_fault_in_the_http_client_is_not_taken_for_a_fault_in_the_input(service: Service) -> None:
    service.answer = TypeError("a fault")
    with pytest.raises(TypeError, match="a fault"):
        service.client().tasks.submit("1", 5, worker_port=1, process_uri="/")


@pytest.mark.parametrize(
    "server_does",
    [
        hangs(),
        trickles(b"HTTP/1.1 200 OK\r\nX-Slow: ", every_s=0.02),
        trickles(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", every_s=0.02),
    ],
    ids=["silence", "header byte by byte", "body byte by byte"],
)
def test_a_try_ends_in_time_whatever_the_server_does(server_does: Action, kind: Kind) -> None:
    options = {"timeout_s": 0.2, "retries": 0}
    with (
        ScriptedServer([server_does]) as server,
        make(kind, KEY, server.url, **options) as client,
        pytest.raises(TimedOut) as caught,
    ):
        client.endpoints.get("1")
    assert caught.value.may_have_taken_effect is True


def test_a_connection_is_used_again(kind: Kind) -> None:
    with ScriptedServer([answers(200, success(ENDPOINT))] * 3) as server:
        with make(kind, KEY, server.url) as client:
            for _ in range(3):
                client.endpoints.get("1")
        assert (len(server.requests), server.connections) == (3, 1)


def test_one_client_serves_many_threads() -> None:
    with (
        ScriptedServer([], otherwise=answers(200, success(ENDPOINT))) as server,
        Client(KEY, server.url) as client,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
        found = list(pool.map(lambda _: client.endpoints.get("1").id, range(80)))
    assert found == [ENDPOINT["id"]] * 80


def test_an_async_client_outlives_its_loop() -> None:
    with ScriptedServer([], otherwise=answers(200, success(ENDPOINT))) as server:
        client = AsyncClient(KEY, server.url)

        async def once() -> str:
            try:
                return (await client.endpoints.get("1")).id
            finally:
                await client.close()

        assert [asyncio.run(once()), asyncio.run(once())] == [ENDPOINT["id"]] * 2


def test_httpx_does_where_aiohttp_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with ScriptedServer([answers(200, success(ENDPOINT))]) as server, make("async", KEY, server.url) as client:
        assert client.endpoints.get("1").id == ENDPOINT["id"]
    assert b"aiohttp" not in server.requests[0]


def test_httpx_spreads_its_connections_and_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    monkeypatch.setattr("yottabench.client.http_async.CONNECTIONS", 8)

    async def run(url: str) -> list[str]:
        async with AsyncClient(KEY, url) as client:
            for _ in range(3):
                await client.endpoints.get("1")
            assert server.connections == 1
            found: list[str] = []
            for _ in range(2):
                found += [one.id for one in await asyncio.gather(*[client.endpoints.get("1") for _ in range(20)])]
            return found

    with ScriptedServer([], otherwise=answers(200, success(ENDPOINT))) as server:
        assert asyncio.run(run(server.url)) == [ENDPOINT["id"]] * 40
        assert 4 < server.connections <= 8
