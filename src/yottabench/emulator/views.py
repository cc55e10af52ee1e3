"""Records as the API shows them."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from yottabench.emulator.endpoints import Endpoint
from yottabench.emulator.prices import worker_usd_per_hour
from yottabench.emulator.settings import DeliveredStatus
from yottabench.emulator.store.base import (
    OPEN_STATES,
    DeliveryState,
    EndpointSpec,
    Task,
    TaskState,
    TaskSummary,
    WorkerRecord,
    WorkerStatus,
)

TASK_STATUSES = ("PROCESSING", "DELIVERED", "SUCCESS", "FAILED")

_OPEN = dict.fromkeys(OPEN_STATES, "PROCESSING")
_SHOWN_AS: dict[DeliveredStatus, dict[TaskState, str]] = {
    "webhook": {
        **_OPEN,
        TaskState.SUCCEEDED: "SUCCESS",
        TaskState.DELIVERED: "DELIVERED",
        TaskState.FAILED: "FAILED",
    },
    "worker": {
        **_OPEN,
        TaskState.LEASED: "DELIVERED",
        TaskState.SUCCEEDED: "SUCCESS",
        TaskState.DELIVERED: "SUCCESS",
        TaskState.FAILED: "FAILED",
    },
    "sample": {
        **_OPEN,
        TaskState.SUCCEEDED: "SUCCESS",
        TaskState.DELIVERED: "SUCCESS",
        TaskState.FAILED: "FAILED",
    },
}


def states_shown_as(status: str | None, delivered: DeliveredStatus) -> tuple[TaskState, ...]:
    """The states that the status filter means; all of them for None."""
    shown = _SHOWN_AS[delivered]
    return tuple(state for state in TaskState if status is None or shown[state] == status)


def endpoint_view(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint: what is documented, and the fields that the live service was seen to add."""
    record = endpoint.record
    spec = record.spec
    per_hour = worker_usd_per_hour(spec) * endpoint.running_workers
    return {
        "id": str(record.id),
        "name": spec.name,
        "image": spec.image,
        "imageRegistry": spec.image_registry,
        "status": record.status.name,
        "totalWorkers": spec.workers,
        "runningWorkers": endpoint.running_workers,
        "cost": round(endpoint.spent_usd, 6),
        "perHourPrice": round(per_hour, 6),
        "perSecondPrice": round(per_hour / 3600, 9),
        "serviceMode": spec.service_mode,
        "webhook": spec.webhook,
        "resources": spec.resources,
        "containerVolumeInGb": spec.container_volume_in_gb,
        "environmentVars": spec.environment,
        "expose": spec.expose,
        "domain": endpoint.domain,
        "createdAt": iso(record.created_ms),
        "updatedAt": iso(record.updated_ms),
    }


def worker_view(worker: WorkerRecord, spec: EndpointSpec, now_ms: int) -> dict[str, Any]:
    """A worker under both of its names (the sources know `id` and `workerId`), with the GPUs it was asked for."""
    resource = spec.resources[0]
    end_ms = worker.updated_ms if worker.status is WorkerStatus.TERMINATED else now_ms
    uptime_s = (end_ms - worker.created_ms) // 1000
    return {
        "id": str(worker.id),
        "workerId": str(worker.id),
        "status": worker.status.name,
        "createdAt": worker.created_ms,
        "region": resource.region,
        "gpuType": resource.gpu_type,
        "gpuCount": resource.gpu_count,
        "uptime": uptime_s,
        "cost": round(worker_usd_per_hour(spec) * uptime_s / 3600, 6),
    }


def task_summary_view(task: TaskSummary, endpoint_name: str, delivered: DeliveredStatus) -> dict[str, Any]:
    """A task as lists show it."""
    return {
        "taskId": task.task_id,
        "endpointId": task.endpoint_id,
        "endpointName": endpoint_name,
        "status": _SHOWN_AS[delivered][task.state],
        "workerUrl": task.worker_url,
        "webhook": task.webhook,
        "deliveryStatus": delivery_status(task.delivery_state, task.delivery_attempts),
        "deliveryAttempts": task.delivery_attempts,
        "error": task.error,
        "createdAt": task.created_ms,
        "updatedAt": task.updated_ms,
        "deliveredAt": task.delivered_ms,
    }


def task_view(task: Task, endpoint_name: str, delivered: DeliveredStatus) -> dict[str, Any]:
    """A task whole. The webhookAuthKey is not part of it, as documented."""
    view = task_summary_view(task, endpoint_name, delivered)
    view["input"] = msgspec.Raw(task.input)
    view["output"] = None if task.output is None else msgspec.Raw(task.output)
    view["headers"] = None if task.headers is None else msgspec.Raw(task.headers)
    return view


def delivery_status(state: DeliveryState | None, attempts: int) -> str:
    """INIT: nothing finished yet. FAILED: an attempt failed and another is to come."""
    if state is DeliveryState.ACKED:
        return "SUCCESS"
    if state is DeliveryState.EXHAUSTED:
        return "MAX_RETRIES_EXCEEDED"
    return "FAILED" if attempts else "INIT"


def iso(time_ms: int) -> str:
    """ISO 8601 in UTC with milliseconds."""
    moment = datetime.fromtimestamp(time_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z"
