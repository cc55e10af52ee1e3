"""What became of tasks and deliveries, as it is asked and shown."""

from typing import Any

from yottabench.emulator import queries
from yottabench.emulator.codes import ApiError, Code
from yottabench.emulator.fields import invalid, shown
from yottabench.emulator.limits import DELIVERY_PAGE_MAX, INT64_MAX, TASK_ID_MAX_CHARS
from yottabench.emulator.store.base import DeliveryState
from yottabench.emulator.store.upkeep import Delivery, DeliveryQuery, History

_STATES = tuple(state.name for state in DeliveryState)


def task_attempts(history: History, endpoint_id: str, task_id: str) -> dict[str, Any]:
    """Every lease of a task. Raises ApiError when there is none such."""
    number = min(queries.endpoint_id(endpoint_id), INT64_MAX)
    name = queries.path_id(task_id, "taskId", TASK_ID_MAX_CHARS)
    found = history.task_history(number, name)
    if found is None:
        raise ApiError(
            Code.TASK_NOT_FOUND, f"Endpoint {endpoint_id} has no task {name}. List its tasks to find the id."
        )
    return {
        "taskId": name,
        "endpointId": endpoint_id,
        "state": found.state.name,
        "strikes": found.strikes,
        "nextAttemptMs": found.next_ms,
        "attempts": [
            {
                "attempt": attempt.fence,
                "workerId": str(attempt.worker_id),
                "workerUrl": attempt.worker_url,
                "leasedMs": attempt.leased_ms,
                "endedMs": attempt.ended_ms,
                "outcome": "RUNNING" if attempt.outcome is None else attempt.outcome.upper(),
                "reason": attempt.reason,
            }
            for attempt in found.attempts
        ],
    }


def deliveries(history: History, raw_query: bytes, namespace: str | None) -> dict[str, Any]:
    """A page of deliveries, newest first. Raises ApiError."""
    query = queries.read_query(raw_query)
    endpoint_id = queries.single(query, "endpointId")
    task_id = queries.single(query, "taskId")
    if task_id is not None and endpoint_id is None:
        raise invalid("endpointId", "is missing", "A taskId belongs to an endpoint: send both.")
    state = queries.single(query, "state")
    if state is not None and state not in _STATES:
        raise invalid("state", f"must not be {shown(state)}", f"Choose one of {', '.join(_STATES)}.")
    limit = queries.query_integer(query, "limit", 1, DELIVERY_PAGE_MAX, 100)
    before = queries.query_integer(query, "before", 1, INT64_MAX, INT64_MAX)
    found = history.deliveries(
        DeliveryQuery(
            namespace=namespace,
            endpoint_id=None if endpoint_id is None else min(queries.endpoint_id(endpoint_id), INT64_MAX),
            task_id=None if task_id is None else queries.path_id(task_id, "taskId", TASK_ID_MAX_CHARS),
            state=None if state is None else DeliveryState[state],
            before=before,
            limit=limit,
        )
    )
    return {
        "deliveries": [delivery_view(delivery) for delivery in found],
        "nextBefore": found[-1].id if len(found) == limit else None,
    }


def delivery_id(segment: str) -> int:
    """The id of a delivery in a path."""
    if not segment.isascii() or not segment.isdigit() or len(segment) > 18:
        raise invalid("id", f"must be a number, but is {shown(segment)}", "List deliveries to find the id.")
    return int(segment)


def one_delivery(history: History, number: int) -> Delivery:
    """Raises ApiError when there is none such."""
    found = history.delivery(number)
    if found is None:
        raise ApiError(Code.NO_RECORD, f"There is no delivery {number}. List deliveries to find the id.")
    return found


def delivery_view(delivery: Delivery) -> dict[str, Any]:
    """A delivery with its attempts; `nextMs` only while another is to come."""
    return {
        "id": delivery.id,
        "endpointId": str(delivery.endpoint_id),
        "taskId": delivery.task_id,
        "workerId": None if delivery.worker_id is None else str(delivery.worker_id),
        "url": delivery.url,
        "state": delivery.state.name,
        "nextMs": delivery.next_ms if delivery.state is DeliveryState.DUE else None,
        "deliveredMs": delivery.delivered_ms,
        "attempts": [
            {
                "attempt": attempt.number,
                "startedMs": attempt.started_ms,
                "endedMs": attempt.ended_ms,
                "acknowledged": attempt.note is None,
                "note": attempt.note,
            }
            for attempt in delivery.attempts
        ],
    }
