"""Puts a batch together from the arguments of submit_many, and takes it apart at the end."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from yottabench.client.batch import Batch, BatchSettings
from yottabench.client.journal import Journal
from yottabench.client.news import listening
from yottabench.client.prepared import Receiver, webhook_of
from yottabench.client.requests import Id
from yottabench.client.setup import Setup


class BatchRun:
    """A context manager: inside, the journal is open and the receiver listens. Raises InvalidArgument at once."""

    def __init__(
        self,
        setup: Setup,
        endpoint_id: Id,
        *,
        journal: str | os.PathLike[str] | None,
        receiver: Receiver | None,
        webhook: str | None,
        webhook_auth_key: str | None,
        headers: Mapping[str, str] | None,
        **settings: Any,
    ) -> None:
        setup.operations.get_task_count(endpoint_id)  # an id that cannot be asked for is refused at once
        url, key = webhook_of(webhook, webhook_auth_key, receiver)
        self._setup = setup
        self._endpoint_id = endpoint_id
        self._journal = journal
        self._receiver = receiver
        self._settings = BatchSettings(
            webhook=url,
            webhook_auth_key=key,
            headers=headers,
            trace_headers=setup.telemetry.trace_headers(),
            **settings,
        )
        self._open = ExitStack()
        self.concurrency = self._settings.concurrency

    def __enter__(self) -> Batch:
        with ExitStack() as opening:
            journal = opening.enter_context(Journal(self._journal, str(self._endpoint_id)))
            heard = opening.enter_context(listening(self._receiver, self._endpoint_id))
            batch = Batch(self._setup.rules, self._setup.operations, self._endpoint_id, self._settings, journal, heard)
            self._open = opening.pop_all()
        return batch

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()
