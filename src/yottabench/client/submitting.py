"""Submits a task so that no failure on the way can make it run twice."""

import json
from typing import Any

from yottabench.client.errors import (
    ApiError,
    ConnectionFailed,
    EndpointNotFound,
    InvalidRequest,
    NotFound,
    WrongState,
    YottaError,
)
from yottabench.client.models import SubmitTaskRequest, SubmittedTask, Task
from yottabench.client.operations import Operations
from yottabench.client.plans import Attempts, Plan, Rules, may_have_acted, pause, tried
from yottabench.client.request import CallOptions, Request
from yottabench.client.requests import Id


def submit(
    rules: Rules,
    operations: Operations,
    endpoint_id: Id,
    body: SubmitTaskRequest,
    options: CallOptions,
    *,
    own_id: bool,
    look_first: bool = False,
) -> Plan[SubmittedTask]:
    """Submit a task whose id is set.

    After a failure that may hide a success, the task is asked for by its id, and sent again only when the service says
    that it has no such task. `own_id`: the id was minted here, so a task of that id is this one; else it must have the
    same input. `look_first`: an earlier run may have sent it already. An error that leaves the outcome unknown has
    `may_have_taken_effect` and `task_id` set.
    """
    task_id = str(body.task_id)
    post = operations.submit_task(endpoint_id, body)
    attempts = Attempts(rules, options)
    unclear = look_first

    def is_there() -> Plan[bool]:
        return _is_there(operations.get_task(endpoint_id, task_id), attempts, body, own_id=own_id)

    while True:
        try:
            if unclear and (yield from is_there()):
                return SubmittedTask(task_id=task_id)
            try:
                return (yield from tried(post, attempts.timeout_s(post)))
            except (InvalidRequest, WrongState):
                # A server that knows no repetition may refuse the second copy of what it has taken already.
                if unclear and (yield from is_there()):
                    return SubmittedTask(task_id=task_id)
                raise
        except YottaError as error:
            unclear = unclear or may_have_acted(error)
            if unclear:
                _tell(error)
            pause_s = attempts.pause_s(error)
        yield from pause(pause_s)


def _is_there(look: Request[Task], attempts: Attempts, body: SubmitTaskRequest, *, own_id: bool) -> Plan[bool]:
    try:
        task = yield from tried(look, attempts.timeout_s(look))
    except NotFound as error:
        # Only the service's own word counts: a bare 404 may come from something before it.
        if error.code is None or isinstance(error, EndpointNotFound):
            raise
        return False
    return own_id or _as_json(task.input_) == _as_json(body.input_)


def _tell(error: YottaError) -> None:
    """Let an error that may be raised say that an earlier try may have had success, unless that cannot be."""
    if not isinstance(error, (ApiError, ConnectionFailed)):
        return
    # The same body was sent each time, so what is refused for its content was never taken.
    refused = isinstance(error, InvalidRequest) and error.operation == "submitTask"
    error.may_have_taken_effect = not refused and not isinstance(error, EndpointNotFound)
    error.operation = "submitTask"


def _as_json(value: Any) -> Any:
    """The value as it comes back from JSON: tuples as lists, keys as texts."""
    return json.loads(json.dumps(value))
