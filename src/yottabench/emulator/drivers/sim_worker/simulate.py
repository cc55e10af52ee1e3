"""The per-task override: what `input.simulate` asks for, checked and laid over the image's own plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from .model import CLOSE, EXIT, HANG, JSON_TYPE, Plan, json_bytes, read_json

_OUTPUT_MAX_BYTES = 64 * 1024 * 1024  # well above what the emulator takes, so that its own cap can be tried
_SERVICE_MAX_MS = 24 * 3600 * 1000

ErrorBody = Callable[[int, str], bytes]


class _Refused(ValueError):
    pass


def apply(plan: Plan, body: bytes, error_body: ErrorBody) -> Plan:
    """`plan` changed as `body` asks for; a plan that answers 400 when it asks for something impossible."""
    try:
        whole = read_json(body)
        asked: object = cast("dict[str, object]", whole).get("simulate") if isinstance(whole, dict) else None
    except ValueError:
        return plan
    if asked is None:
        return plan
    try:
        if not isinstance(asked, dict):
            raise _Refused("simulate must be an object")
        _lay_over(plan, cast("dict[str, object]", asked), error_body)
    except _Refused as refused:
        return Plan(400, error_body(400, f"{refused}; correct input.simulate of the task."))
    return plan


def _lay_over(plan: Plan, asked: dict[str, object], error_body: ErrorBody) -> None:
    for name in asked:
        if name not in _APPLY:
            raise _Refused(f"simulate.{name} is unknown; known are {', '.join(_APPLY)}")
    if "output" in asked and "output_bytes" in asked:
        raise _Refused("simulate.output and simulate.output_bytes exclude each other")
    if [asked.get(HANG) is True, asked.get(CLOSE) is True, EXIT in asked].count(True) > 1:
        raise _Refused("simulate.hang, simulate.close and simulate.exit exclude each other")
    for name, put in _APPLY.items():
        if name in asked:
            put(plan, asked[name], error_body)
    if "error" in asked and "status" in asked:
        plan.body = error_body(plan.status, cast("str", asked["error"]))


def _integer(name: str, value: object, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _Refused(f"simulate.{name} must be an integer from {least} to {most}")
    return value


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _Refused(f"simulate.{name} must be true or false")
    return value


def _answer(plan: Plan, status: int, body: bytes) -> None:
    plan.status, plan.body, plan.content_type, plan.stream = status, body, JSON_TYPE, None


def _put_service_ms(plan: Plan, value: object, _: ErrorBody) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _SERVICE_MAX_MS:
        raise _Refused(f"simulate.service_ms must be a number from 0 to {_SERVICE_MAX_MS}")
    plan.delay_s = value / 1000


def _put_output(plan: Plan, value: object, _: ErrorBody) -> None:
    _answer(plan, 200, json_bytes(value))


def _put_output_bytes(plan: Plan, value: object, _: ErrorBody) -> None:
    size = _integer("output_bytes", value, 0, _OUTPUT_MAX_BYTES)
    _answer(plan, 200, b'"%b"' % (b"x" * (size - 2)) if size > 1 else b"0"[:size])


def _put_error(plan: Plan, value: object, error_body: ErrorBody) -> None:
    if not isinstance(value, str):
        raise _Refused("simulate.error must be a string")
    _answer(plan, 500, error_body(500, value))


def _put_status(plan: Plan, value: object, _: ErrorBody) -> None:
    plan.status = _integer("status", value, 200, 599)
    plan.stream = None


def _put_log(plan: Plan, value: object, _: ErrorBody) -> None:
    if not isinstance(value, str):
        raise _Refused("simulate.log must be a string")
    plan.say = value


def _put_hang(plan: Plan, value: object, _: ErrorBody) -> None:
    if _flag(HANG, value):
        plan.ending = HANG


def _put_close(plan: Plan, value: object, _: ErrorBody) -> None:
    if _flag(CLOSE, value):
        plan.ending = CLOSE


def _put_exit(plan: Plan, value: object, _: ErrorBody) -> None:
    plan.exit_code = _integer(EXIT, value, 0, 255)
    plan.ending = EXIT


_APPLY: dict[str, Callable[[Plan, object, ErrorBody], None]] = {
    "service_ms": _put_service_ms,
    "output": _put_output,
    "output_bytes": _put_output_bytes,
    "error": _put_error,
    "status": _put_status,
    "log": _put_log,
    "hang": _put_hang,
    "close": _put_close,
    "exit": _put_exit,
}
