"""Carries what the generated code sends: adds base URL, key and time limit, whatever HTTP client is underneath."""

import ipaddress
import json
from collections.abc import Mapping
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

import attrs

from yottabench import __version__
from yottabench.client.errors import InvalidArgument


class HttpAnswer(Protocol):
    """What generated code reads of an answer; httpx.Response has it all."""

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        ...

    @property
    def content(self) -> bytes:
        """The body."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""
        ...

    def json(self) -> Any:
        """The body read as JSON; raises ValueError."""
        ...


class HttpClient(Protocol):
    """What carries requests; httpx.Client does. `json` and `params` are given only where there are any."""

    def request(
        self,
        method: str,
        url: str,
        *,
        json: Any = ...,
        params: dict[str, Any] | None = ...,
        headers: dict[str, str] | None = ...,
        timeout: float | None = ...,
    ) -> HttpAnswer:
        """Send one request and give its answer, whatever its status."""
        ...


class AsyncHttpClient(Protocol):
    """What carries requests of the AsyncClient; httpx.AsyncClient does."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        json: Any = ...,
        params: dict[str, Any] | None = ...,
        headers: dict[str, str] | None = ...,
        timeout: float | None = ...,  # noqa: ASYNC109 - as httpx has it
    ) -> HttpAnswer:
        """Send one request and give its answer, whatever its status."""
        ...


@attrs.frozen
class Target:
    """Where requests go, and with which key."""

    base_url: str
    api_key: str = attrs.field(repr=False)

    def address(self, path: str) -> str:
        """The whole URL. Concatenated, not joined: whatever stands in the path, the host stays the one chosen."""
        return self.base_url + path

    def headers(self, headers: dict[str, str] | None) -> dict[str, str]:
        """The headers of a request with those that every request has."""
        return {**(headers or {}), "X-Api-Key": self.api_key, "User-Agent": f"yottabench/{__version__}"}


class Channel:
    """Stands in for the generated client and its httpx.Client for one try, and keeps the answer."""

    def __init__(self, http: HttpClient, target: Target, timeout_s: float) -> None:
        self._http = http
        self._target = target
        self._timeout_s = timeout_s
        self.answer: HttpAnswer | None = None

    def get_httpx_client(self) -> Self:
        """Called by the generated code."""
        return self

    def request(self, *, method: str, url: str, headers: dict[str, str] | None = None, **rest: Any) -> HttpAnswer:
        """Send one request of the generated code. Raises InvalidArgument when its body cannot be JSON."""
        address, all_headers = self._target.address(url), self._target.headers(headers)
        try:
            self.answer = self._http.request(
                method.upper(), address, headers=all_headers, timeout=self._timeout_s, **rest
            )
        except (TypeError, ValueError, RecursionError) as error:
            if _is_json(rest.get("json")):
                raise
            raise _no_json(error) from error
        return self.answer


class AsyncChannel:
    """The same for the generated client's httpx.AsyncClient."""

    def __init__(self, http: AsyncHttpClient, target: Target, timeout_s: float) -> None:
        self._http = http
        self._target = target
        self._timeout_s = timeout_s
        self.answer: HttpAnswer | None = None

    def get_async_httpx_client(self) -> Self:
        """Called by the generated code."""
        return self

    async def request(self, *, method: str, url: str, headers: dict[str, str] | None = None, **rest: Any) -> HttpAnswer:
        """Send one request of the generated code. Raises InvalidArgument when its body cannot be JSON."""
        address, all_headers = self._target.address(url), self._target.headers(headers)
        try:
            self.answer = await self._http.request(
                method.upper(), address, headers=all_headers, timeout=self._timeout_s, **rest
            )
        except (TypeError, ValueError, RecursionError) as error:
            if _is_json(rest.get("json")):
                raise
            raise _no_json(error) from error
        return self.answer


def _no_json(error: Exception) -> InvalidArgument:
    return InvalidArgument(f"The request cannot be written as JSON: {error}. Nothing was sent.")


def checked_base_url(text: str) -> str:
    """The base URL without a final slash. Raises InvalidArgument."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
        parts = urlsplit("")
    if not usable or parts.query or parts.fragment or not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidArgument(
            "The base URL must be like https://api.yottalabs.ai: http or https, a host, no query. "
            "Check the base_url argument or the environment variable YOTTA_BASE_URL."
        )
    if parts.username is not None or parts.password is not None:
        raise InvalidArgument("The base URL must not hold a user name or password. The key goes into api_key.")
    return text.rstrip("/")


def checked_api_key(text: str) -> str:
    """A key that can stand in a header. Raises InvalidArgument, without showing it."""
    if not text:
        raise InvalidArgument("No API key. Give api_key=... or set the environment variable YOTTA_API_KEY.")
    if not all("!" <= letter <= "~" for letter in text):
        raise InvalidArgument("The API key has letters that no key has, such as a space or a line end. Copy it anew.")
    return text


def _is_json(value: Any) -> bool:
    # Only if the body is to blame: the same errors from elsewhere are faults, and something may have been sent.
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, which no proxy stands before."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
