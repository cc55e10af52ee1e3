from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

T = TypeVar("T", bound="EndpointResource")


@_attrs_define
class EndpointResource:
    """The GPUs of one worker, and where. Region and GPU names are not a closed list (N34).

    Attributes:
        region (str):
        gpu_type (str):
        gpu_count (int): GPUs per worker. A guide says powers of two (N34).
    """

    region: str
    gpu_type: str
    gpu_count: int
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        region = self.region

        gpu_type = self.gpu_type

        gpu_count = self.gpu_count

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "region": region,
                "gpuType": gpu_type,
                "gpuCount": gpu_count,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        region = d.pop("region")

        gpu_type = d.pop("gpuType")

        gpu_count = d.pop("gpuCount")

        endpoint_resource = cls(
            region=region,
            gpu_type=gpu_type,
            gpu_count=gpu_count,
        )

        endpoint_resource.additional_properties = d
        return endpoint_resource

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
