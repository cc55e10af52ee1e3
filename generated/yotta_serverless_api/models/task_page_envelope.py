from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

T = TypeVar("T", bound="TaskPageEnvelope")


@_attrs_define
class TaskPageEnvelope:
    """One page of tasks.

    Attributes:
        message (str):
        code (Literal[10000]): The code of success.
        data (TaskPage): One page of an endpoint's tasks. Total and pages are exact (N26).
    """

    message: str
    code: Literal[10000]
    data: TaskPage
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        message = self.message

        code = self.code

        data = self.data.to_dict()

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "message": message,
                "code": code,
                "data": data,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        message = d.pop("message")

        code = cast("Literal[10000]", d.pop("code"))
        if code != 10000:
            raise ValueError(f"code must match const 10000, got '{code}'")

        data = TaskPage.from_dict(d.pop("data"))

        task_page_envelope = cls(
            message=message,
            code=code,
            data=data,
        )

        task_page_envelope.additional_properties = d
        return task_page_envelope

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


from ..models.task_page import TaskPage  # noqa: E402
