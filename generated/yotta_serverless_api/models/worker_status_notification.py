from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.worker_status import WorkerStatus
from ..types import UNSET, Unset

T = TypeVar("T", bound="WorkerStatusNotification")


@_attrs_define
class WorkerStatusNotification:
    """A change of a worker's status; the shape is this project's own (N12).

    Attributes:
        event (Literal['worker.status']):
        endpoint_id (str):
        endpoint_name (str):
        worker_id (str):
        status (WorkerStatus): Where the worker stands in its life. The sources differ; this is their union (N20).
        timestamp (str): When it changed, UTC.
        previous_status (None | Unset | WorkerStatus):
    """

    event: Literal["worker.status"]
    endpoint_id: str
    endpoint_name: str
    worker_id: str
    status: WorkerStatus
    timestamp: str
    previous_status: None | Unset | WorkerStatus = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        event = self.event

        endpoint_id = self.endpoint_id

        endpoint_name = self.endpoint_name

        worker_id = self.worker_id

        status = self.status.value

        timestamp = self.timestamp

        previous_status: None | str | Unset
        if isinstance(self.previous_status, Unset):
            previous_status = UNSET
        elif isinstance(self.previous_status, WorkerStatus):
            previous_status = self.previous_status.value
        else:
            previous_status = self.previous_status

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "event": event,
                "endpoint_id": endpoint_id,
                "endpoint_name": endpoint_name,
                "worker_id": worker_id,
                "status": status,
                "timestamp": timestamp,
            }
        )
        if previous_status is not UNSET:
            field_dict["previous_status"] = previous_status

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        event = cast("Literal['worker.status']", d.pop("event"))
        if event != "worker.status":
            raise ValueError(f"event must match const 'worker.status', got '{event}'")

        endpoint_id = d.pop("endpoint_id")

        endpoint_name = d.pop("endpoint_name")

        worker_id = d.pop("worker_id")

        status = WorkerStatus(d.pop("status"))

        timestamp = d.pop("timestamp")

        def _parse_previous_status(data: object) -> None | Unset | WorkerStatus:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            if isinstance(data, str):
                previous_status_type_0 = WorkerStatus(data)

                return previous_status_type_0
            raise TypeError(f"previous_status cannot be of type {type(data).__name__}")

        previous_status = _parse_previous_status(d.pop("previous_status", UNSET))

        worker_status_notification = cls(
            event=event,
            endpoint_id=endpoint_id,
            endpoint_name=endpoint_name,
            worker_id=worker_id,
            status=status,
            timestamp=timestamp,
            previous_status=previous_status,
        )

        worker_status_notification.additional_properties = d
        return worker_status_notification

    @property
    def additional_keys(self) -> list[str]:
        return list(self.additional_properties.keys())

    def __getitem__(self, key: str) -> Any:
        return self.additional_properties[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.additional_properties[key] = value

    def __delitem__(self, key: str) -> None:
        del self.additional_properties[key]

    def __contains__(self, key: str) -> bool:
        return key in self.additional_properties
