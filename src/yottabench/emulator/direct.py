"""Requests that are like most others, answered without what ASGI costs: a scope, a task, a chain of coroutines.

Whatever is unusual about a request, or wrong with it, is left to the application: it has the words for it.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache, partial

from yottabench.emulator.app import Api
from yottabench.emulator.codes import ApiError
from yottabench.emulator.endpoints import Endpoint
from yottabench.emulator.store.base import StoreError, SubmitTask, Submitted
from yottabench.emulator.wire import Wire, as_api_error, success

_HOSTS = 256

Answer = Callable[[int, bytes], None]  # the status and the body


class DirectAnswers:
    """Takes submits, and reads of a task or of their count.

    `is_plain` says of a Host that requests under it are for the API, and let in.
    """

    def __init__(self, api: Api, wire: Wire, is_plain: Callable[[bytes], bool]) -> None:
        self._api = api
        self._wire = wire
        self._is_plain = lru_cache(maxsize=_HOSTS)(is_plain)

    def admits(self, method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """See direct_protocol.Direct; gives the namespace of the key."""
        if not (target.endswith(b"/tasks") if method == b"POST" else b"/tasks/" in target):
            return None
        key = b""
        for name, value in headers:
            if name == b"x-api-key":
                key = value.strip()
            elif name == b"host" and not self._is_plain(value):
                return None
        try:
            return self._wire.namespace(key)
        except ApiError:
            return None

    def read(self, target: bytes, namespace: str) -> bytes | None:
        """See direct_protocol.Direct."""
        try:
            data = self._api.read_at_once(target.decode("latin-1"), namespace)
        except Exception:  # the application will meet the same, and say it
            return None
        if data is None:
            return None
        self._wire.answers[200] += 1
        return success(data)

    def begin(self, target: bytes, namespace: str, body: bytes, answer: Answer) -> bool:
        """See direct_protocol.Direct: `answer` is called once the submit is durable, or cannot be."""
        try:
            endpoint = self._api.submit_to(target.decode("latin-1"), namespace)
            if endpoint is None:
                return False
            command = self._api.read_submit(endpoint, body)
        except Exception:  # before anything was done, as above
            return False
        self._api.commit_then(command, partial(self._end, endpoint, command, answer))
        return True

    def _end(self, endpoint: Endpoint, command: SubmitTask, answer: Answer, submitted: Submitted | StoreError) -> None:
        try:
            body = success(self._api.end_submit(endpoint, command, submitted))
        except Exception as error:
            path = f"/v2/serverless/{command.endpoint_id}/tasks"
            answer(*self._wire.refused(as_api_error(error, "POST", path)))
        else:
            self._wire.answers[200] += 1
            answer(200, body)
