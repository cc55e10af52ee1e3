from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

T = TypeVar("T", bound="ActionEnvelope")


@_attrs_define
class ActionEnvelope:
    """The action was taken. One source shows data true, another null (N18).

    Attributes:
        message (str):
        code (Literal[10000]): The code of success.
        data (bool | None):
    """

    message: str
    code: Literal[10000]
    data: bool | None
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        message = self.message

        code = self.code

        data: bool | None
        data = self.data

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

        def _parse_data(data: object) -> bool | None:
            if data is None:
                return data
            return cast("bool | None", data)

        data = _parse_data(d.pop("data"))

        action_envelope = cls(
            message=message,
            code=code,
            data=data,
        )

        action_envelope.additional_properties = d
        return action_envelope

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
