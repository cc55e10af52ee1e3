"""Whether a webhook is genuine and new, and what it says."""

import base64
import binascii
import hashlib
import hmac
import json
import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any, cast

import attrs

from yottabench.client.errors import WebhookRefused
from yottabench.client.models import TaskResultNotification, Unset, WorkerStatusNotification

DEFAULT_WINDOW_S = 300.0  # as the Standard Webhooks libraries have it
REMEMBERED = 100_000  # results; far more than are sent again within the 21 minutes of the documented retries


@attrs.frozen
class TaskResult:
    """The result of a task, as a webhook told it."""

    task_id: str
    endpoint_id: str
    succeeded: bool
    output: Any
    """What the worker answered; None when the task failed, or the service does not send it."""
    error: str | None
    """Why the task failed."""
    send: int
    """Which attempt of the service this is; the first is 1."""
    notification: TaskResultNotification = attrs.field(repr=False)
    """The body as it came."""


def check_sender(
    headers: Mapping[str, str],
    body: bytes,
    key: str,
    *,
    now_s: float,
    window_s: float = DEFAULT_WINDOW_S,
    require_signature: bool = False,
) -> None:
    """Raise WebhookRefused unless the sender knows the key that tasks were submitted with (webhookAuthKey).

    The documented header X-API-Key shows the key itself. A Standard Webhooks signature, which the emulator adds, proves
    it, and that the body is unchanged and not older than `window_s`. What is there must be right, and one must be
    there; with `require_signature` the signature. Header names in any case of letters.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    sent_key, signature = lowered.get("x-api-key"), lowered.get("webhook-signature")
    if signature is None and (require_signature or sent_key is None):
        missing = "webhook-signature" if require_signature else "X-API-Key"
        raise WebhookRefused(f"The header {missing} is missing. Submit tasks with webhook_auth_key.", 401)
    if sent_key is not None and not hmac.compare_digest(sent_key.encode("latin-1", "replace"), key.encode()):
        raise WebhookRefused("The header X-API-Key is not the key of this receiver.", 401)
    if signature is not None:
        _check_signature(lowered, signature, body, key, now_s, window_s)


def _check_signature(
    lowered: Mapping[str, str], signature: str, body: bytes, key: str, now_s: float, window_s: float
) -> None:
    message_id, timestamp = lowered.get("webhook-id", ""), lowered.get("webhook-timestamp", "")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16 and message_id.isascii()):
        raise WebhookRefused("The headers webhook-id and webhook-timestamp are missing or unreadable.", 401)
    if abs(now_s - int(timestamp)) > window_s:
        raise WebhookRefused(
            f"The webhook is not from the last {window_s:g} s. Is the clock right, or does somebody replay it?",
            401,
        )
    signed = b".".join([message_id.encode(), timestamp.encode(), body])
    right = hmac.digest(key.encode(), signed, hashlib.sha256)
    for one in signature.split():
        version, _, text = one.partition(",")
        if version == "v1" and hmac.compare_digest(_decoded(text), right):
            return
    raise WebhookRefused("The signature of the webhook is wrong.", 401)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return b""


def read_webhook(body: bytes) -> TaskResult | WorkerStatusNotification:
    """What a webhook says, of a task or of a worker. Raises WebhookRefused when it cannot be read."""
    try:
        found: Any = json.loads(body)
        if not isinstance(found, dict):
            raise TypeError("it is no JSON object")
        content = cast("dict[str, Any]", found)
        if content.get("event") == "worker.status":
            return WorkerStatusNotification.from_dict(content)
        return _task_result(TaskResultNotification.from_dict(content))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise WebhookRefused(f"The webhook cannot be read: {type(error).__name__} {error}", 400) from error


def _task_result(sent: TaskResultNotification) -> TaskResult:
    if not isinstance(sent.user_task_id, str) or not isinstance(sent.success, bool):  # pyright: ignore[reportUnnecessaryIsInstance] -- from_dict does not look
        raise TypeError("user_task_id must be a text and success a boolean")
    return TaskResult(
        task_id=sent.user_task_id,
        endpoint_id=str(sent.endpoint_id),
        succeeded=sent.success,
        output=None if isinstance(sent.result, Unset) else sent.result,
        error=None if isinstance(sent.failed_reason, Unset) else sent.failed_reason,
        send=sent.retry_count,
        notification=sent,
    )


def identity_of(event: TaskResult | WorkerStatusNotification) -> Hashable:
    """Equal for what is the same news, however often it is sent."""
    if isinstance(event, TaskResult):
        return (event.endpoint_id, event.task_id)
    return (event.endpoint_id, event.worker_id, event.status.value, event.timestamp)


class Seen:
    """What has been dealt with, and what is being dealt with now; for several threads."""

    def __init__(self, most: int = REMEMBERED) -> None:
        self._lock = threading.Lock()
        self._most = most
        self._done: OrderedDict[Hashable, None] = OrderedDict()
        self._under_way: set[Hashable] = set()

    def begin(self, identity: Hashable) -> bool:
        """True: it is new, and the caller must `end` it; False: it was dealt with. Raises WebhookRefused meanwhile."""
        with self._lock:
            if identity in self._done:
                self._done.move_to_end(identity)
                return False
            if identity in self._under_way:
                raise WebhookRefused("The same news is being dealt with right now. Send it again later.", 409)
            self._under_way.add(identity)
            return True

    def end(self, identity: Hashable, *, dealt_with: bool) -> None:
        """What was begun is over; what was not dealt with is new when it comes again."""
        with self._lock:
            self._under_way.discard(identity)
            if dealt_with:
                self._done[identity] = None
                while len(self._done) > self._most:
                    self._done.popitem(last=False)
