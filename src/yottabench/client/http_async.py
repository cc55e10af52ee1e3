"""The HTTP client of AsyncClient: aiohttp with the extra `aio`, which is several times faster, else httpx."""

import asyncio
import json as json_module
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode, urlsplit

import attrs
import httpx

from yottabench.client.http_sync import CONNECT_MOST_S, CONNECT_SHARE, CONNECTIONS, proxy_for
from yottabench.client.transport import AsyncHttpClient, HttpAnswer, is_loopback

if TYPE_CHECKING:
    import aiohttp

POOL_CONNECTIONS = 4


class OwnAsyncHttp(AsyncHttpClient, Protocol):
    """An HTTP client that an AsyncClient made for itself, and closes."""

    async def close(self) -> None:
        """Close the connections."""
        ...


def default_async_http(base_url: str) -> OwnAsyncHttp:
    """The fastest that is installed. Neither follows redirects: the key must not go to another host."""
    try:
        import aiohttp
    except ModuleNotFoundError:
        return HttpxAsyncHttp(base_url)
    return AiohttpHttp(base_url, aiohttp)


@attrs.define(eq=False)
class _Pool:
    client: httpx.AsyncClient
    under_way: int = 0


class HttpxAsyncHttp:
    """httpx, which is always there.

    Its pools look at all their connections again and again, so the connections are spread over small pools: with 32
    requests under way, each then costs less than half of the CPU time.
    """

    def __init__(self, base_url: str) -> None:
        self._proxy = proxy_for(base_url)
        self._trust_env = not is_loopback(urlsplit(base_url).hostname or "")
        self._tls = httpx.create_ssl_context(trust_env=self._trust_env) if base_url.startswith("https") else False
        self._pools: list[_Pool] = []

    async def request(
        self,
        method: str,
        url: str,
        *,
        json: Any = None,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as httpx has it
    ) -> HttpAnswer:
        """See AsyncHttpClient.request."""
        limits = httpx.Timeout(timeout, connect=_connect_s(timeout))
        pool = self._pool()
        pool.under_way += 1
        try:
            return await pool.client.request(method, url, json=json, params=params, headers=headers, timeout=limits)
        finally:
            pool.under_way -= 1

    def _pool(self) -> _Pool:
        """The first that has a connection to spare."""
        for pool in self._pools:
            if pool.under_way < POOL_CONNECTIONS:
                return pool
        if len(self._pools) == CONNECTIONS // POOL_CONNECTIONS:
            return min(self._pools, key=lambda pool: pool.under_way)
        client = httpx.AsyncClient(
            verify=self._tls,
            limits=httpx.Limits(max_connections=POOL_CONNECTIONS, max_keepalive_connections=POOL_CONNECTIONS),
            proxy=self._proxy,
            trust_env=self._trust_env,
            follow_redirects=False,
        )
        self._pools.append(_Pool(client))
        return self._pools[-1]

    async def close(self) -> None:
        """Close the connections."""
        pools, self._pools = self._pools, []
        for pool in pools:
            await pool.client.aclose()


@attrs.frozen
class Answer:
    """An answer that was read whole."""

    status_code: int
    content: bytes
    headers: Mapping[str, str]

    def json(self) -> Any:
        """The body read as JSON; raises ValueError."""
        return json_module.loads(self.content)


class AiohttpHttp:
    """aiohttp, without what httpx does around a request. Its errors are raised as those of httpx."""

    def __init__(self, base_url: str, aiohttp_: Any) -> None:
        self._aiohttp = aiohttp_
        self._proxy = proxy_for(base_url)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        json: Any = None,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as httpx has it
    ) -> HttpAnswer:
        """See AsyncHttpClient.request."""
        import yarl

        body = None
        if json is not None:
            body = json_module.dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        query = f"?{urlencode(params)}" if params else ""
        # Already encoded: encoding it anew could make another path of it.
        address = yarl.URL(url + query, encoded=True)
        limits = self._aiohttp.ClientTimeout(total=timeout, connect=_connect_s(timeout))
        try:
            async with self._open_session().request(
                method, address, data=body, headers=headers, timeout=limits, allow_redirects=False, proxy=self._proxy
            ) as answer:
                return Answer(answer.status, await answer.read(), answer.headers)
        except (self._aiohttp.ClientError, TimeoutError) as error:
            raise self._as_httpx(error) from error

    def _open_session(self) -> "aiohttp.ClientSession":
        loop = asyncio.get_running_loop()
        if self._session is not None and self._loop is loop:
            return self._session
        # Connections belong to the loop that they were made on; those of a loop that is gone are gone with it.
        self._loop = loop
        session: aiohttp.ClientSession = self._aiohttp.ClientSession(
            connector=self._aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=5.0),
            cookie_jar=self._aiohttp.DummyCookieJar(),
            auto_decompress=True,
        )
        self._session = session
        return session

    def _as_httpx(self, error: Exception) -> httpx.HTTPError:
        text = str(error) or type(error).__name__
        match error:
            case self._aiohttp.ConnectionTimeoutError():
                return httpx.ConnectTimeout(text)
            case TimeoutError():
                return httpx.ReadTimeout(text)
            case self._aiohttp.ClientConnectorError() | self._aiohttp.ClientProxyConnectionError():
                return httpx.ConnectError(text)
            case self._aiohttp.ClientOSError() | self._aiohttp.ServerDisconnectedError():
                return httpx.ReadError(text)
            case _:
                return httpx.RemoteProtocolError(text)

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None and self._loop is asyncio.get_running_loop():
            await session.close()


def _connect_s(timeout_s: float | None) -> float | None:
    return None if timeout_s is None else min(CONNECT_MOST_S, CONNECT_SHARE * timeout_s)
