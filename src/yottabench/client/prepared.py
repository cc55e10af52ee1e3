"""What both clients do with the arguments of the calls that are more than one request."""

from collections.abc import Mapping
from typing import Any, Protocol

import attrs

from yottabench.client import requests
from yottabench.client.models import SubmitTaskRequest, SubmittedTask, Task
from yottabench.client.news import TaskNews
from yottabench.client.plans import Plan
from yottabench.client.request import CallOptions
from yottabench.client.requests import Id
from yottabench.client.setup import Setup
from yottabench.client.submitting import submit
from yottabench.client.waiting import LAST_TRY_S, checked_times, wait


class Receiver(TaskNews, Protocol):
    """Where results are to be sent; webhooks.Receiver is one."""

    @property
    def url(self) -> str:
        """The address for the service."""
        ...

    @property
    def key(self) -> str | None:
        """What the service proves itself with."""
        ...


@attrs.frozen(kw_only=True)
class Submission:
    """A task as a caller wants to submit it."""

    endpoint_id: Id
    input: Any
    worker_port: int
    process_uri: str
    task_id: str | None = None
    webhook: str | None = None
    webhook_auth_key: str | None = attrs.field(default=None, repr=False)
    headers: Mapping[str, str] | None = attrs.field(default=None, repr=False)
    receiver: Receiver | None = None

    def body(self, setup: Setup) -> SubmitTaskRequest:
        """The checked request, with an id. Raises InvalidArgument."""
        webhook, key = webhook_of(self.webhook, self.webhook_auth_key, self.receiver)
        headers = self.headers
        # Under an id of the caller's own the same task may be submitted again, and must then be the same in all.
        if self.task_id is None and (traced := setup.telemetry.trace_headers()):
            headers = {**traced, **(headers or {})}
        return requests.submit_body(
            self.input,
            worker_port=self.worker_port,
            process_uri=self.process_uri,
            task_id=setup.rules.new_task_id() if self.task_id is None else self.task_id,
            webhook=webhook,
            webhook_auth_key=key,
            headers=headers,
            check=setup.operations.check,
        )


def webhook_of(webhook: str | None, key: str | None, receiver: Receiver | None) -> tuple[str | None, str | None]:
    """Where results go and with which key: as the caller said, else to the receiver."""
    if receiver is None or webhook is not None:
        return webhook, key
    return receiver.url, receiver.key


def submitted(setup: Setup, wanted: Submission, body: SubmitTaskRequest, options: CallOptions) -> Plan[SubmittedTask]:
    """See Tasks.submit."""
    return submit(setup.rules, setup.operations, wanted.endpoint_id, body, options, own_id=wanted.task_id is None)


def submitted_and_awaited(
    setup: Setup, wanted: Submission, body: SubmitTaskRequest, *, timeout_s: float, poll_s: float, check: bool
) -> Plan[Task]:
    """See Tasks.submit_and_wait."""
    checked_times(timeout_s, poll_s)
    end_s = setup.rules.now_s() + timeout_s
    task = yield from submitted(
        setup, wanted, body, {"deadline_s": min(setup.rules.deadline_s, max(timeout_s, LAST_TRY_S))}
    )
    return (
        yield from wait(
            setup.rules,
            setup.operations,
            wanted.endpoint_id,
            task.task_id,
            timeout_s=max(0.0, end_s - setup.rules.now_s()),
            poll_s=poll_s,
            check=check,
            receiver=wanted.receiver,
        )
    )
