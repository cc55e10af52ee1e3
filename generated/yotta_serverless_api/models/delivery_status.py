from enum import StrEnum
from typing import Self


class DeliveryStatus(StrEnum):
    FAILED = "FAILED"
    INIT = "INIT"
    MAX_RETRIES_EXCEEDED = "MAX_RETRIES_EXCEEDED"
    SUCCESS = "SUCCESS"

    @classmethod
    def _missing_(cls, value: object) -> "Self | None":
        if not isinstance(value, str):
            return None
        unlisted = str.__new__(cls, value)
        unlisted._name_ = value
        unlisted._value_ = value
        return unlisted

    def __str__(self) -> str:
        return str(self.value)
