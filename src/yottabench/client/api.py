"""The client: one method for each operation of the API, grouped as the API groups them, and what is built on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from yottabench.client.drivers import SyncDriver
from yottabench.client.plans import DEFAULT_DEADLINE_S, DEFAULT_TIMEOUT_S, Retries, Rules
from yottabench.client.resources import Endpoints, Workers
from yottabench.client.setup import set_up
from yottabench.client.tasks import Tasks

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry.trace import TracerProvider

    from yottabench.client.http_sync import SyncHttp
    from yottabench.client.transport import HttpClient


class Client:
    """The Serverless API, in blocking calls. One client serves any number of threads.

    `api_key` defaults to the environment variable YOTTA_API_KEY, `base_url` to YOTTA_BASE_URL, then to the live
    service. `timeout_s` is the longest that one try may take, `deadline_s` the longest for a call with all its tries
    (both also per call), `retries` when there is another try (a number: so many at most). `local_checks` False leaves
    all judgement of arguments to the server. `tracing` makes OpenTelemetry spans, with the global provider or the one
    given. `http` carries the requests instead of an own HTTP client (httpx.Client does); address, key and time limit
    still come from here, and closing it stays with whoever made it. `rules` replaces timeout_s, deadline_s and
    retries, and says where time and chance come from. Calls raise YottaError, see `yottabench.client.errors`.
    """

    def __init__(  # noqa: PLR0913 - what can be chosen
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        http: HttpClient | None = None,
        *,
        deadline_s: float = DEFAULT_DEADLINE_S,
        retries: Retries | int = Retries(),  # noqa: B008 - immutable
        local_checks: bool = True,
        tracing: bool | TracerProvider = False,
        rules: Rules | None = None,
    ) -> None:
        setup = set_up(
            api_key,
            base_url,
            timeout_s=timeout_s,
            deadline_s=deadline_s,
            retries=retries,
            local_checks=local_checks,
            tracing=tracing,
            rules=rules,
        )
        self._base_url = setup.target.base_url
        self._own_http: SyncHttp | None = None
        if http is None:
            from yottabench.client.http_sync import SyncHttp

            http = self._own_http = SyncHttp(self._base_url)
        driver = SyncDriver(http, setup.target, setup.rules.sleep)
        self.endpoints = Endpoints(setup, driver)
        self.workers = Workers(setup, driver)
        self.tasks = Tasks(setup, driver)

    def __repr__(self) -> str:
        return f"Client(base_url={self._base_url!r})"

    def close(self) -> None:
        """Close the connections, unless they belong to an HTTP client that was given."""
        if self._own_http is not None:
            self._own_http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
