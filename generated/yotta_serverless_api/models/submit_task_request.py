from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

T = TypeVar("T", bound="SubmitTaskRequest")


@_attrs_define
class SubmitTaskRequest:
    """One task for the queue.

    Attributes:
        input_ (Any): What the worker gets as the body of the request, byte for byte. Any JSON value but null and the
            empty object, list and text (N6).
        worker_port (int): Port of the worker to send the task to.
        process_uri (str): Path on the worker, at most 255 characters with its leading slash, which is added when it is
            missing. Only path characters: no space, `?`, `#`, `%` or backslash, no `//`, no `.` or `..` as a segment (N7).
        task_id (str | Unset): Your name for the task, unique in the endpoint; letters, digits and underscore. Left out,
            the server makes a UUID without hyphens (N4). `count` is reserved (N5).
        webhook (str | Unset): An http or https URL with a host and without user name or password (N41).
        webhook_auth_key (str | Unset): Sent to the webhook in the header X-API-Key, so it is printable ASCII without
            spaces at its ends (N42). It is never shown again.
        headers (TaskHeaders | Unset): Headers for the worker. Names are HTTP tokens; values are printable ASCII, with
            spaces and tabs only inside. Host, Content-Length, Content-Type and hop-by-hop headers are taken but not
            forwarded (N32). Often secret.
    """

    input_: Any
    worker_port: int
    process_uri: str
    task_id: str | Unset = UNSET
    webhook: str | Unset = UNSET
    webhook_auth_key: str | Unset = _attrs_field(default=UNSET, repr=False)
    headers: TaskHeaders | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        input_ = self.input_

        worker_port = self.worker_port

        process_uri = self.process_uri

        task_id = self.task_id

        webhook = self.webhook

        webhook_auth_key = self.webhook_auth_key

        headers: dict[str, Any] | Unset = UNSET
        if not isinstance(self.headers, Unset):
            headers = self.headers.to_dict()

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "input": input_,
                "workerPort": worker_port,
                "processUri": process_uri,
            }
        )
        if task_id is not UNSET:
            field_dict["taskId"] = task_id
        if webhook is not UNSET:
            field_dict["webhook"] = webhook
        if webhook_auth_key is not UNSET:
            field_dict["webhookAuthKey"] = webhook_auth_key
        if headers is not UNSET:
            field_dict["headers"] = headers

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        input_ = d.pop("input")

        worker_port = d.pop("workerPort")

        process_uri = d.pop("processUri")

        task_id = d.pop("taskId", UNSET)

        webhook = d.pop("webhook", UNSET)

        webhook_auth_key = d.pop("webhookAuthKey", UNSET)

        _headers = d.pop("headers", UNSET)
        headers: TaskHeaders | Unset
        if isinstance(_headers, Unset):
            headers = UNSET
        else:
            headers = TaskHeaders.from_dict(_headers)

        submit_task_request = cls(
            input_=input_,
            worker_port=worker_port,
            process_uri=process_uri,
            task_id=task_id,
            webhook=webhook,
            webhook_auth_key=webhook_auth_key,
            headers=headers,
        )

        submit_task_request.additional_properties = d
        return submit_task_request

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


from ..models.task_headers import TaskHeaders  # noqa: E402
