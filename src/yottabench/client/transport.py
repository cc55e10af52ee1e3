"""Carries what the generated code sends: adds base URL, key and time limit, whatever HTTP client is underneath."""

import ipaddress
import json
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx

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


class Transport:
    """Stands in for the httpx.Client of the generated code."""

    def __init__(self, http: HttpClient, *, base_url: str, api_key: str, timeout_s: float) -> None:
        self._http = http
        self._base_url = base_url
        self._api_key = api_key
        self._timeout_s = timeout_s

    def request(self, *, method: str, url: str, headers: dict[str, str] | None = None, **rest: Any) -> HttpAnswer:
        """Send one request of the generated code. Raises InvalidArgument when its body cannot be JSON."""
        headers = {**(headers or {}), "X-Api-Key": self._api_key, "User-Agent": f"yottabench/{__version__}"}
        # Concatenated, not joined: whatever stands in the path, the host stays the one that was chosen.
        address = self._base_url + url
        try:
            return self._http.request(method.upper(), address, headers=headers, timeout=self._timeout_s, **rest)
        except (TypeError, ValueError, RecursionError) as error:
            # Only if the body is to blame: the same errors from elsewhere are faults, and something may have been sent.
            if _is_json(rest.get("json")):
                raise
            raise InvalidArgument(f"The request cannot be written as JSON: {error}. Nothing was sent.") from error


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


def default_http(base_url: str) -> httpx.Client:
    """The HTTP client used when none is given. It follows no redirect: the key must not go to another host."""
    # Proxy settings of the environment are for the outside; the emulator on this machine is not behind one.
    return httpx.Client(follow_redirects=False, trust_env=not _is_loopback(urlsplit(base_url).hostname or ""))


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
