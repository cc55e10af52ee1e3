"""The HTTP client of Client: httpx over httpcore, where the time limit of a try holds whatever the server does.

httpx limits each read by itself, so a server that sends a byte now and then is waited for without end. Here the
connections know when the try must be over.
"""

import ssl
import time
import urllib.request
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

import httpcore
import httpx

from yottabench.client.transport import HttpAnswer, is_loopback

CONNECT_SHARE = 0.5  # of a try's time for connecting: what never connected may be repeated without asking
CONNECT_MOST_S = 10.0
CONNECTIONS = 128
WRITE_PIECE_BYTES = 64 * 1024  # between two pieces the time is looked at

_end_s: ContextVar[float | None] = ContextVar("yottabench_end_s", default=None)


class SyncHttp:
    """Carries requests over a pool of connections; for any number of threads."""

    def __init__(self, base_url: str, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        # No redirect is followed: the key must not go to another host. Proxies are looked up in the transport.
        self._client = httpx.Client(transport=_Transport(base_url, now_s), follow_redirects=False, trust_env=False)

    def request(
        self,
        method: str,
        url: str,
        *,
        json: Any = None,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> HttpAnswer:
        """Send one request; httpx.TimeoutException when it is not done in `timeout` seconds."""
        limits = httpx.Timeout(timeout)
        if timeout is not None:
            limits = httpx.Timeout(timeout, connect=min(CONNECT_MOST_S, CONNECT_SHARE * timeout))
        mark = _end_s.set(None if timeout is None else self._now_s() + timeout)
        try:
            return self._client.request(method, url, json=json, params=params, headers=headers, timeout=limits)
        finally:
            _end_s.reset(mark)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def proxy_for(base_url: str) -> str | None:
    """The proxy that the environment or the system has for this address; never one for this machine itself."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


class _Transport(httpx.BaseTransport):
    """As httpx.HTTPTransport, with connections that keep the time limit of the whole try."""

    def __init__(self, base_url: str, now_s: Callable[[], float]) -> None:
        context = httpx.create_ssl_context() if base_url.startswith("https") else None
        self._pool = _pool(proxy_for(base_url), context, _Backend(now_s))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.SyncByteStream)
        sent = httpcore.Request(
            method=request.method,
            url=httpcore.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _as_httpx():
            answer = self._pool.handle_request(sent)
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer))

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx():
            yield from self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


@contextmanager
def _as_httpx() -> Generator[None]:
    """Raise httpx's exception for httpcore's: both have the same names."""
    try:
        yield
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise getattr(httpx, type(error).__name__, httpx.TransportError)(str(error)) from error
    except (httpcore.ProxyError, httpcore.UnsupportedProtocol) as error:
        raise getattr(httpx, type(error).__name__)(str(error)) from error


def _pool(
    proxy_url: str | None, context: ssl.SSLContext | None, backend: httpcore.NetworkBackend
) -> httpcore.ConnectionPool:
    options: Mapping[str, Any] = {
        "ssl_context": context,
        "max_connections": CONNECTIONS,
        "max_keepalive_connections": CONNECTIONS,
        "keepalive_expiry": 5.0,
        "network_backend": backend,
    }
    if proxy_url is None:
        return httpcore.ConnectionPool(**options)
    proxy = httpx.Proxy(proxy_url)
    return httpcore.HTTPProxy(
        proxy_url=httpcore.URL(
            scheme=proxy.url.raw_scheme, host=proxy.url.raw_host, port=proxy.url.port, target=proxy.url.raw_path
        ),
        proxy_auth=proxy.raw_auth,
        proxy_headers=proxy.headers.raw,
        **options,
    )


class _Backend(httpcore.NetworkBackend):
    def __init__(self, now_s: Callable[[], float]) -> None:
        self._inner = httpcore.SyncBackend()
        self._now_s = now_s

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        left_s = _left_s(self._now_s, timeout, httpcore.ConnectTimeout)
        stream = self._inner.connect_tcp(host, port, left_s, local_address, socket_options)
        return _Stream(stream, self._now_s)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, now_s: Callable[[], float]) -> None:
        self._inner = inner
        self._now_s = now_s

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left_s(self._now_s, timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), WRITE_PIECE_BYTES):
            left_s = _left_s(self._now_s, timeout, httpcore.WriteTimeout)
            self._inner.write(buffer[start : start + WRITE_PIECE_BYTES], left_s)

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left_s = _left_s(self._now_s, timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left_s), self._now_s)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)

    def close(self) -> None:
        self._inner.close()


def _left_s(now_s: Callable[[], float], timeout_s: float | None, kind: type[Exception]) -> float | None:
    end_s = _end_s.get()
    if end_s is None:
        return timeout_s
    left_s = end_s - now_s()
    if left_s <= 0:
        raise kind("the time of this try is over")
    return left_s if timeout_s is None else min(timeout_s, left_s)
