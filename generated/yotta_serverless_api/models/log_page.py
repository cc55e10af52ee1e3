from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

T = TypeVar("T", bound="LogPage")


@_attrs_define
class LogPage:
    """One page of a worker's log.

    Attributes:
        logs (list[LogEntry]):
        has_more (bool): Whether there are more lines in this direction now.
        next_search_after_time (None | str): Send it as searchAfterTime to read on. Opaque (N27).
        next_search_after_offset (None | str): Send it as searchAfterOffset to read on. Opaque (N27).
    """

    logs: list[LogEntry]
    has_more: bool
    next_search_after_time: None | str
    next_search_after_offset: None | str
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        logs = []
        for logs_item_data in self.logs:
            logs_item = logs_item_data.to_dict()
            logs.append(logs_item)

        has_more = self.has_more

        next_search_after_time: None | str
        next_search_after_time = self.next_search_after_time

        next_search_after_offset: None | str
        next_search_after_offset = self.next_search_after_offset

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "logs": logs,
                "hasMore": has_more,
                "nextSearchAfterTime": next_search_after_time,
                "nextSearchAfterOffset": next_search_after_offset,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        logs = []
        _logs = d.pop("logs")
        for logs_item_data in _logs:
            logs_item = LogEntry.from_dict(logs_item_data)

            logs.append(logs_item)

        has_more = d.pop("hasMore")

        def _parse_next_search_after_time(data: object) -> None | str:
            if data is None:
                return data
            return cast("None | str", data)

        next_search_after_time = _parse_next_search_after_time(d.pop("nextSearchAfterTime"))

        def _parse_next_search_after_offset(data: object) -> None | str:
            if data is None:
                return data
            return cast("None | str", data)

        next_search_after_offset = _parse_next_search_after_offset(d.pop("nextSearchAfterOffset"))

        log_page = cls(
            logs=logs,
            has_more=has_more,
            next_search_after_time=next_search_after_time,
            next_search_after_offset=next_search_after_offset,
        )

        log_page.additional_properties = d
        return log_page

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


from ..models.log_entry import LogEntry  # noqa: E402
