from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.delivery_status import DeliveryStatus
from ..models.task_status import TaskStatus
from ..types import UNSET, Unset

T = TypeVar("T", bound="TaskSummary")


@_attrs_define
class TaskSummary:
    """A task as lists show it, without input, output and headers.

    Attributes:
        task_id (str):
        endpoint_id (int): The endpoint's id, here a number as documented (N22).
        endpoint_name (str):
        status (TaskStatus): PROCESSING: accepted, waiting or being executed. SUCCESS: executed. FAILED: execution
            failed. DELIVERED: the result was delivered to the webhook; version 1 used the word for "handed to a worker"
            (N1).
        worker_url (None | str): Where the task was sent; null until then (N43).
        delivery_status (DeliveryStatus): INIT: nothing sent yet, or no webhook. SUCCESS: acknowledged. FAILED: the last
            attempt failed, another is scheduled. MAX_RETRIES_EXCEEDED: given up (N13).
        delivery_attempts (int): How often the result was sent.
        created_at (int): Milliseconds since 1970.
        updated_at (int): Milliseconds since 1970.
        webhook (None | str | Unset): Where the result is delivered.
        error (None | str | Unset): Why the task failed.
        delivered_at (int | None | Unset): When the webhook acknowledged the result, in milliseconds since 1970; null
            until then.
    """

    task_id: str
    endpoint_id: int
    endpoint_name: str
    status: TaskStatus
    worker_url: None | str
    delivery_status: DeliveryStatus
    delivery_attempts: int
    created_at: int
    updated_at: int
    webhook: None | str | Unset = UNSET
    error: None | str | Unset = UNSET
    delivered_at: int | None | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        task_id = self.task_id

        endpoint_id = self.endpoint_id

        endpoint_name = self.endpoint_name

        status = self.status.value

        worker_url: None | str
        worker_url = self.worker_url

        delivery_status = self.delivery_status.value

        delivery_attempts = self.delivery_attempts

        created_at = self.created_at

        updated_at = self.updated_at

        webhook: None | str | Unset
        if isinstance(self.webhook, Unset):
            webhook = UNSET
        else:
            webhook = self.webhook

        error: None | str | Unset
        if isinstance(self.error, Unset):
            error = UNSET
        else:
            error = self.error

        delivered_at: int | None | Unset
        if isinstance(self.delivered_at, Unset):
            delivered_at = UNSET
        else:
            delivered_at = self.delivered_at

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "taskId": task_id,
                "endpointId": endpoint_id,
                "endpointName": endpoint_name,
                "status": status,
                "workerUrl": worker_url,
                "deliveryStatus": delivery_status,
                "deliveryAttempts": delivery_attempts,
                "createdAt": created_at,
                "updatedAt": updated_at,
            }
        )
        if webhook is not UNSET:
            field_dict["webhook"] = webhook
        if error is not UNSET:
            field_dict["error"] = error
        if delivered_at is not UNSET:
            field_dict["deliveredAt"] = delivered_at

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        task_id = d.pop("taskId")

        endpoint_id = d.pop("endpointId")

        endpoint_name = d.pop("endpointName")

        status = TaskStatus(d.pop("status"))

        def _parse_worker_url(data: object) -> None | str:
            if data is None:
                return data
            return cast("None | str", data)

        worker_url = _parse_worker_url(d.pop("workerUrl"))

        delivery_status = DeliveryStatus(d.pop("deliveryStatus"))

        delivery_attempts = d.pop("deliveryAttempts")

        created_at = d.pop("createdAt")

        updated_at = d.pop("updatedAt")

        def _parse_webhook(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("None | str | Unset", data)

        webhook = _parse_webhook(d.pop("webhook", UNSET))

        def _parse_error(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("None | str | Unset", data)

        error = _parse_error(d.pop("error", UNSET))

        def _parse_delivered_at(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("int | None | Unset", data)

        delivered_at = _parse_delivered_at(d.pop("deliveredAt", UNSET))

        task_summary = cls(
            task_id=task_id,
            endpoint_id=endpoint_id,
            endpoint_name=endpoint_name,
            status=status,
            worker_url=worker_url,
            delivery_status=delivery_status,
            delivery_attempts=delivery_attempts,
            created_at=created_at,
            updated_at=updated_at,
            webhook=webhook,
            error=error,
            delivered_at=delivered_at,
        )

        task_summary.additional_properties = d
        return task_summary

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
