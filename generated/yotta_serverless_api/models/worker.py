from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.worker_status import WorkerStatus
from ..types import UNSET, Unset

T = TypeVar("T", bound="Worker")


@_attrs_define
class Worker:
    """One running copy of the image. Only the status is in every source's shape (N21).

    Attributes:
        status (WorkerStatus): Where the worker stands in its life. The sources differ; this is their union (N20).
        worker_id (str | Unset): Decimal digits. The same as id; some sources know one name, some the other.
        id (str | Unset): Decimal digits. The same as workerId.
        created_at (int | None | Unset): Milliseconds since 1970 (N24).
        region (None | str | Unset):
        gpu_type (None | str | Unset):
        gpu_display_name (None | str | Unset):
        gpu_count (int | None | Unset):
        single_card_vram_in_gb (int | None | Unset):
        single_card_vcpu (int | None | Unset):
        single_card_ram_in_gb (int | None | Unset):
        uptime (int | None | Unset): Seconds since the worker was started.
        cost (float | None | Unset): US dollars since it was started (N25).
    """

    status: WorkerStatus
    worker_id: str | Unset = UNSET
    id: str | Unset = UNSET
    created_at: int | None | Unset = UNSET
    region: None | str | Unset = UNSET
    gpu_type: None | str | Unset = UNSET
    gpu_display_name: None | str | Unset = UNSET
    gpu_count: int | None | Unset = UNSET
    single_card_vram_in_gb: int | None | Unset = UNSET
    single_card_vcpu: int | None | Unset = UNSET
    single_card_ram_in_gb: int | None | Unset = UNSET
    uptime: int | None | Unset = UNSET
    cost: float | None | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        status = self.status.value

        worker_id = self.worker_id

        id = self.id

        created_at: int | None | Unset
        if isinstance(self.created_at, Unset):
            created_at = UNSET
        else:
            created_at = self.created_at

        region: None | str | Unset
        if isinstance(self.region, Unset):
            region = UNSET
        else:
            region = self.region

        gpu_type: None | str | Unset
        if isinstance(self.gpu_type, Unset):
            gpu_type = UNSET
        else:
            gpu_type = self.gpu_type

        gpu_display_name: None | str | Unset
        if isinstance(self.gpu_display_name, Unset):
            gpu_display_name = UNSET
        else:
            gpu_display_name = self.gpu_display_name

        gpu_count: int | None | Unset
        if isinstance(self.gpu_count, Unset):
            gpu_count = UNSET
        else:
            gpu_count = self.gpu_count

        single_card_vram_in_gb: int | None | Unset
        if isinstance(self.single_card_vram_in_gb, Unset):
            single_card_vram_in_gb = UNSET
        else:
            single_card_vram_in_gb = self.single_card_vram_in_gb

        single_card_vcpu: int | None | Unset
        if isinstance(self.single_card_vcpu, Unset):
            single_card_vcpu = UNSET
        else:
            single_card_vcpu = self.single_card_vcpu

        single_card_ram_in_gb: int | None | Unset
        if isinstance(self.single_card_ram_in_gb, Unset):
            single_card_ram_in_gb = UNSET
        else:
            single_card_ram_in_gb = self.single_card_ram_in_gb

        uptime: int | None | Unset
        if isinstance(self.uptime, Unset):
            uptime = UNSET
        else:
            uptime = self.uptime

        cost: float | None | Unset
        if isinstance(self.cost, Unset):
            cost = UNSET
        else:
            cost = self.cost

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "status": status,
            }
        )
        if worker_id is not UNSET:
            field_dict["workerId"] = worker_id
        if id is not UNSET:
            field_dict["id"] = id
        if created_at is not UNSET:
            field_dict["createdAt"] = created_at
        if region is not UNSET:
            field_dict["region"] = region
        if gpu_type is not UNSET:
            field_dict["gpuType"] = gpu_type
        if gpu_display_name is not UNSET:
            field_dict["gpuDisplayName"] = gpu_display_name
        if gpu_count is not UNSET:
            field_dict["gpuCount"] = gpu_count
        if single_card_vram_in_gb is not UNSET:
            field_dict["singleCardVramInGb"] = single_card_vram_in_gb
        if single_card_vcpu is not UNSET:
            field_dict["singleCardVcpu"] = single_card_vcpu
        if single_card_ram_in_gb is not UNSET:
            field_dict["singleCardRamInGb"] = single_card_ram_in_gb
        if uptime is not UNSET:
            field_dict["uptime"] = uptime
        if cost is not UNSET:
            field_dict["cost"] = cost

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        status = WorkerStatus(d.pop("status"))

        worker_id = d.pop("workerId", UNSET)

        id = d.pop("id", UNSET)

        def _parse_created_at(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("int | None | Unset", data)

        created_at = _parse_created_at(d.pop("createdAt", UNSET))

        def _parse_region(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("None | str | Unset", data)

        region = _parse_region(d.pop("region", UNSET))

        def _parse_gpu_type(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("None | str | Unset", data)

        gpu_type = _parse_gpu_type(d.pop("gpuType", UNSET))

        def _parse_gpu_display_name(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("None | str | Unset", data)

        gpu_display_name = _parse_gpu_display_name(d.pop("gpuDisplayName", UNSET))

        def _parse_gpu_count(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("int | None | Unset", data)

        gpu_count = _parse_gpu_count(d.pop("gpuCount", UNSET))

        def _parse_single_card_vram_in_gb(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("int | None | Unset", data)

        single_card_vram_in_gb = _parse_single_card_vram_in_gb(d.pop("singleCardVramInGb", UNSET))

        def _parse_single_card_vcpu(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("int | None | Unset", data)

        single_card_vcpu = _parse_single_card_vcpu(d.pop("singleCardVcpu", UNSET))

        def _parse_single_card_ram_in_gb(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("int | None | Unset", data)

        single_card_ram_in_gb = _parse_single_card_ram_in_gb(d.pop("singleCardRamInGb", UNSET))

        def _parse_uptime(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("int | None | Unset", data)

        uptime = _parse_uptime(d.pop("uptime", UNSET))

        def _parse_cost(data: object) -> float | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("float | None | Unset", data)

        cost = _parse_cost(d.pop("cost", UNSET))

        worker = cls(
            status=status,
            worker_id=worker_id,
            id=id,
            created_at=created_at,
            region=region,
            gpu_type=gpu_type,
            gpu_display_name=gpu_display_name,
            gpu_count=gpu_count,
            single_card_vram_in_gb=single_card_vram_in_gb,
            single_card_vcpu=single_card_vcpu,
            single_card_ram_in_gb=single_card_ram_in_gb,
            uptime=uptime,
            cost=cost,
        )

        worker.additional_properties = d
        return worker

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
