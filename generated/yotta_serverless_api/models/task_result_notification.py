from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.notification_status import NotificationStatus
from ..types import UNSET, Unset

T = TypeVar("T", bound="TaskResultNotification")


@_attrs_define
class TaskResultNotification:
    """The result of a task, as documented for version 1 (N13).

    Attributes:
        task_id (int): The server's own number of the task.
        user_task_id (str): The task's taskId.
        endpoint_id (int | str): The endpoint's id. A text here; an example shows a bare number.
        status (NotificationStatus): How the task ended. Compare without regard to letter case, or read `success` (N13).
        success (bool):
        timestamp (str): When the task ended, UTC.
        retry_count (int): Which attempt this is; the first is 1.
        result (Any | Unset): What the worker answered, when the task succeeded.
        failed_reason (str | Unset): Why the task failed, when it did.
    """

    task_id: int
    user_task_id: str
    endpoint_id: int | str
    status: NotificationStatus
    success: bool
    timestamp: str
    retry_count: int
    result: Any | Unset = UNSET
    failed_reason: str | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        task_id = self.task_id

        user_task_id = self.user_task_id

        endpoint_id: int | str
        endpoint_id = self.endpoint_id

        status = self.status.value

        success = self.success

        timestamp = self.timestamp

        retry_count = self.retry_count

        result = self.result

        failed_reason = self.failed_reason

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "task_id": task_id,
                "user_task_id": user_task_id,
                "endpoint_id": endpoint_id,
                "status": status,
                "success": success,
                "timestamp": timestamp,
                "retry_count": retry_count,
            }
        )
        if result is not UNSET:
            field_dict["result"] = result
        if failed_reason is not UNSET:
            field_dict["failed_reason"] = failed_reason

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        task_id = d.pop("task_id")

        user_task_id = d.pop("user_task_id")

        def _parse_endpoint_id(data: object) -> int | str:
            return cast("int | str", data)

        endpoint_id = _parse_endpoint_id(d.pop("endpoint_id"))

        status = NotificationStatus(d.pop("status"))

        success = d.pop("success")

        timestamp = d.pop("timestamp")

        retry_count = d.pop("retry_count")

        result = d.pop("result", UNSET)

        failed_reason = d.pop("failed_reason", UNSET)

        task_result_notification = cls(
            task_id=task_id,
            user_task_id=user_task_id,
            endpoint_id=endpoint_id,
            status=status,
            success=success,
            timestamp=timestamp,
            retry_count=retry_count,
            result=result,
            failed_reason=failed_reason,
        )

        task_result_notification.additional_properties = d
        return task_result_notification

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
