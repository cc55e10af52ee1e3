"""Holds every answer that a test gets from the emulator against openapi/serverless.yaml."""

import functools
import re
from typing import Any

import jsonschema_rs

from tests.spec.reading import follow, operations, validator, validator_of


@functools.cache
def _templates() -> list[tuple[re.Pattern[str], str, dict[str, Any]]]:
    found = []
    # Longest first: /tasks/count is no task.
    for path, method, operation in sorted(operations(), key=lambda each: ("{taskId}" in each[0], each[0])):
        pattern = re.sub(r"\{[A-Za-z]+\}", "[^/]*", path)
        found.append((re.compile(pattern), method.upper(), operation))
    return found


def operation_of(method: str, path: str) -> dict[str, Any] | None:
    """The documented operation of a request, without its query; None when none is."""
    for pattern, its_method, operation in _templates():
        if its_method == method and pattern.fullmatch(path):
            return operation
    return None


@functools.cache
def _answers(operation_id: str, status: int) -> jsonschema_rs.Draft202012Validator:
    operation = next(each for _, _, each in _templates() if each["operationId"] == operation_id)
    responses = operation["responses"]
    assert str(status) in responses, f"{operation_id} is not documented to answer {status}."
    return validator_of(follow(responses[str(status)])["content"]["application/json"]["schema"])


def check(method: str, path: str, status: int, envelope: Any) -> None:
    """The answer is one that the document has; outside of the documented operations it is an error envelope."""
    operation = operation_of(method, path)
    error = envelope["code"] != 10000
    # 431 is of the transport, and an error in a 200 is --error-style envelope200.
    if operation is None or status == 431 or (error and status == 200):
        assert error
        validator("ErrorEnvelope").validate(envelope)
    else:
        assert error == (status != 200)
        _answers(operation["operationId"], status).validate(envelope)
