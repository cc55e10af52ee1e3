"""The three task operations of a load run, through the generated client, carried by the light client or by httpx."""

import ssl
import threading
from typing import Any, cast

import attrs
import httpx
import orjson
from yotta_serverless_api.api.tasks import get_task_by_id, get_task_count, list_tasks, submit_task
from yotta_serverless_api.client import AuthenticatedClient
from yotta_serverless_api.errors import UnexpectedAnswer
from yotta_serverless_api.models.submit_task_request import SubmitTaskRequest
from yotta_serverless_api.models.submitted_task_envelope import SubmittedTaskEnvelope
from yotta_serverless_api.models.task import Task
from yotta_serverless_api.models.task_count_envelope import TaskCountEnvelope
from yotta_serverless_api.models.task_envelope import TaskEnvelope
from yotta_serverless_api.models.task_page_envelope import TaskPageEnvelope
from yotta_serverless_api.models.task_status import TaskStatus
from yotta_serverless_api.models.task_summary import TaskSummary
from yotta_serverless_api.types import UNSET

from loadtest.light import LightClient
from yottabench.client import is_terminal
from yottabench.load.bodies import mark_in

CLIENT_KINDS = ("light", "httpx")
TASK_NOT_FOUND = 24011


@attrs.frozen
class Submitted:
    """What became of a submit: `ok`, or the HTTP status (0 without an answer), the code if any, and why in words."""

    ok: bool
    http: int
    code: int | None
    why: str
    length: int

    @property
    def throttled(self) -> bool:
        """Whether the server said "too many requests"."""
        return 429 in (self.http, self.code)

    @property
    def refused(self) -> bool:
        """Whether the server certainly did not take the task; otherwise, and not `ok`, only a GET can tell."""
        return not self.ok and (
            self.throttled or 400 <= self.http < 500 or (self.http == 200 and self.code is not None)
        )


@attrs.frozen
class Seen:
    """A task as it was seen; the stamps are the server's, in milliseconds since 1970, or 0 where nothing told them.

    `mark` is the task id in its result, None where the result shows none.
    """

    task_id: str
    status: str
    ended: bool
    created_ms: int
    updated_ms: int
    mark: str | None = None


@attrs.frozen
class Look:
    """An answer to a look at the queue: the tasks in it, how many there are in all, and the answer's size."""

    tasks: tuple[Seen, ...]
    total: int
    length: int


class WireError(Exception):
    """A look that gave nothing: refused, unreadable, or unanswered (`http` is 0). An absent task is no error."""

    def __init__(self, http: int, code: int | None, why: str) -> None:
        super().__init__(why)
        self.http = http
        self.code = code


class Wire:
    """Typed calls against one endpoint. Any number of greenlets may call at once.

    `webhook` is the address and the key that every task is submitted with.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        endpoint_id: str,
        *,
        kind: str = "light",
        timeout_s: float = 30.0,
        webhook: tuple[str, str] | None = None,
    ) -> None:
        self._base_url = base_url
        self._api_key = api_key
        self._endpoint_id = endpoint_id
        self._timeout_s = timeout_s
        self._webhook, self._webhook_key = webhook or (UNSET, UNSET)
        self._light = self._lightly() if kind == "light" else None
        # An httpx.Client shared by many greenlets collapses, so under httpx each greenlet has its own.
        self._own = threading.local()
        self._tls: ssl.SSLContext | None = None

    def close(self) -> None:
        """Closes idle connections."""
        if self._light is not None:
            self._light.get_httpx_client().close()

    def submit(self, task_id: str, body: Any, worker_port: int, process_uri: str) -> Submitted:
        """Submits one task, once. Never raises for what the network or the server does: that is an outcome."""
        request = SubmitTaskRequest(
            input_=body,
            worker_port=worker_port,
            process_uri=process_uri,
            task_id=task_id,
            webhook=self._webhook,
            webhook_auth_key=self._webhook_key,
        )
        try:
            answer = submit_task.sync_detailed(self._endpoint_id, client=self._client(), body=request)
        except httpx.RequestError as error:
            return Submitted(False, 0, None, type(error).__name__, 0)
        except UnexpectedAnswer as error:
            code = envelope_code(error.content)
            why = f"HTTP {error.status_code}, code {code}"
            return Submitted(False, error.status_code, code, why, len(error.content))
        if isinstance(answer.parsed, SubmittedTaskEnvelope):
            return Submitted(True, answer.status_code, answer.parsed.code, "", len(answer.content))
        why = f"HTTP {answer.status_code}, code {answer.parsed.code}: {answer.parsed.message}"
        return Submitted(False, answer.status_code, answer.parsed.code, why, len(answer.content))

    def look(self, task_id: str) -> Look:
        """Gets one task; no task in the answer when the server does not know it. Raises WireError."""
        try:
            answer = get_task_by_id.sync_detailed(self._endpoint_id, task_id, client=self._client())
        except (httpx.RequestError, UnexpectedAnswer) as error:
            wrong = _wire_error(error)
            if wrong.code != TASK_NOT_FOUND:
                raise wrong from error
            return Look((), 0, 0)
        if isinstance(answer.parsed, TaskEnvelope):
            return Look((_seen(answer.parsed.data),), 1, len(answer.content))
        if answer.parsed.code == TASK_NOT_FOUND:
            return Look((), 0, len(answer.content))
        raise WireError(answer.status_code, answer.parsed.code, answer.parsed.message)

    def count(self) -> Look:
        """Asks how many tasks are open: no task in the answer, their number as its total. Raises WireError."""
        try:
            answer = get_task_count.sync_detailed(self._endpoint_id, client=self._client())
        except (httpx.RequestError, UnexpectedAnswer) as error:
            raise _wire_error(error) from error
        if isinstance(answer.parsed, TaskCountEnvelope):
            return Look((), answer.parsed.data.processing, len(answer.content))
        raise WireError(answer.status_code, answer.parsed.code, answer.parsed.message)

    def page(self, status: str, number: int, size: int) -> Look:
        """Gets one page of the endpoint's tasks in one state, newest first. Raises WireError."""
        try:
            answer = list_tasks.sync_detailed(
                self._endpoint_id,
                client=self._client(),
                status=TaskStatus(status),
                page_number=number,
                page_size=size,
            )
        except (httpx.RequestError, UnexpectedAnswer) as error:
            raise _wire_error(error) from error
        if isinstance(answer.parsed, TaskPageEnvelope):
            page = answer.parsed.data
            return Look(tuple(_seen(item) for item in page.items), page.total, len(answer.content))
        raise WireError(answer.status_code, answer.parsed.code, answer.parsed.message)

    def _client(self) -> AuthenticatedClient:
        if self._light is not None:
            return self._light
        client: AuthenticatedClient | None = getattr(self._own, "client", None)
        if client is None:
            timeout = httpx.Timeout(self._timeout_s)
            client = AuthenticatedClient(
                base_url=self._base_url, token=self._api_key, timeout=timeout, verify_ssl=self._trusted()
            )
            self._own.client = client
        return client

    def _trusted(self) -> ssl.SSLContext:
        """The context that httpx would make for each client: once, since reading the authorities takes longest."""
        if self._tls is None:
            self._tls = httpx.create_ssl_context()
        return self._tls

    def _lightly(self) -> AuthenticatedClient:
        client = AuthenticatedClient(base_url=self._base_url, token=self._api_key)
        light = LightClient(self._base_url, {client.auth_header_name: self._api_key}, timeout_s=self._timeout_s)
        # It has the methods that generated code calls, not the whole of httpx.Client.
        return client.set_httpx_client(cast("httpx.Client", light))


def envelope_code(content: bytes) -> int | None:
    """The code in an answer that has no documented shape, None when there is none."""
    try:
        body: Any = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    code: Any = cast("dict[str, Any]", body).get("code") if isinstance(body, dict) else None
    return code if isinstance(code, int) else None


def _wire_error(error: httpx.RequestError | UnexpectedAnswer) -> WireError:
    if isinstance(error, UnexpectedAnswer):
        return WireError(error.status_code, envelope_code(error.content), f"HTTP {error.status_code}, unreadable")
    return WireError(0, None, type(error).__name__)


def _seen(task: Task | TaskSummary) -> Seen:
    mark = mark_in(task.output) if isinstance(task, Task) else None
    return Seen(task.task_id, str(task.status), is_terminal(task), task.created_at, task.updated_at, mark)
