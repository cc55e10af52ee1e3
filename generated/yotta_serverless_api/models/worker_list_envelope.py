from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

T = TypeVar("T", bound="WorkerListEnvelope")


@_attrs_define
class WorkerListEnvelope:
    """Workers.

    Attributes:
        message (str):
        code (Literal[10000]): The code of success.
        data (list[Worker]):
    """

    message: str
    code: Literal[10000]
    data: list[Worker]
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        message = self.message

        code = self.code

        data = []
        for data_item_data in self.data:
            data_item = data_item_data.to_dict()
            data.append(data_item)

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

        data = []
        _data = d.pop("data")
        for data_item_data in _data:
            data_item = Worker.from_dict(data_item_data)

            data.append(data_item)

        worker_list_envelope = cls(
            message=message,
            code=code,
            data=data,
        )

        worker_list_envelope.additional_properties = d
        return worker_list_envelope

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


from ..models.worker import Worker  # noqa: E402
