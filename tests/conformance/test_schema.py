from pathlib import Path

import pytest

from tests.conformance.conftest import FULL, Stages, staged
from tests.conformance.schema_run import Outcome, Size, run
from tests.spec.reading import operations
from yottabench.conformance.envelope import deviations, status_of, statuses_of_codes

EDGES = Size(examples=60 if FULL else 4, chains=0)
CHAINS = Size(examples=0, chains=25 if FULL else 8, edges=False)
# What the hooks aim at is there, so nearly all that is valid succeeds; a lower share would mean that requests no longer
# get past the lookup of an endpoint, and that their refusals prove nothing.
SHARE_MIN = 0.95
TRIED_MIN = 5
OPERATIONS = sorted(one["operationId"] for _, _, one in operations())
styles = pytest.mark.parametrize("style", ["status", pytest.param("envelope200", marks=pytest.mark.full)])


def _found(outcome: Outcome) -> str:
    return "\n\n".join(f"{found.check} at {found.operation}: {found.text}" for found in outcome.findings[:5])


@styles
@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_no_single_request_makes_the_emulator_deviate(stages: Stages, style: str, operation_id: str) -> None:
    outcome = run(stages(style), EDGES, envelope200=style == "envelope200", operations=[operation_id])
    assert not outcome.findings, _found(outcome)
    assert {"COVERAGE", "FUZZING"} <= set(outcome.phases)
    assert min(outcome.modes["positive"], outcome.modes["negative"]) >= TRIED_MIN
    assert outcome.share(operation_id) >= SHARE_MIN


# The life of a task is a thin thread among all that can follow each other, so it is also followed alone.
LIFE_OF_A_TASK = ["createEndpoint", "submitTask", "getTaskById", "getTaskCount", "listTasks", "deleteEndpoint"]


@styles
@pytest.mark.parametrize("operation_ids", [OPERATIONS, LIFE_OF_A_TASK], ids=["everything", "tasks"])
def test_no_chain_of_requests_makes_the_emulator_deviate(keys_file: Path, style: str, operation_ids: list[str]) -> None:
    # On an emulator of its own, so that the chains find the same things, and are the same, every time.
    with staged(keys_file, "--error-style", style) as stage:
        outcome = run(stage, CHAINS, envelope200=style == "envelope200", operations=operation_ids)
    assert not outcome.findings, _found(outcome)
    assert set(outcome.phases) == {"STATEFUL_TESTING"}
    # Which links are followed is a matter of chance; that most are is not.
    assert len(outcome.links) >= (len(operation_ids) // 2 - 1 if FULL else 1)


# ---- the reading of answers itself


def _body(code: object) -> bytes:
    return b'{"message":"","code":%s,"data":null}' % str(code).encode()


def test_the_table_of_codes_in_the_document_is_read_whole() -> None:
    table = statuses_of_codes()
    assert table[10000] == {200}
    assert table[10001] == {400, 413}
    assert table[24011] == {404}
    assert len(table) == 10


@pytest.mark.parametrize(
    ("status", "code", "conforms"), [(200, 10000, True), (404, 24011, True), (400, 24011, False), (200, 24011, False)]
)
def test_a_code_comes_with_its_status(status: int, code: int, conforms: bool) -> None:
    assert (list(deviations(status, "application/json", _body(code))) == []) == conforms


@pytest.mark.parametrize(
    ("status", "code", "conforms"),
    [(200, 10000, True), (200, 24011, True), (404, 24011, False), (401, 40101, True), (200, 40101, False)],
)
def test_a_hidden_error_comes_in_a_200_and_an_error_of_transport_does_not(
    status: int, code: int, conforms: bool
) -> None:
    assert (list(deviations(status, "application/json", _body(code), envelope200=True)) == []) == conforms


NO_ENVELOPE = "no envelope of message, code and data"
NO_TYPES = "message is no text, or code no integer"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", "not JSON"),
        (b"<html>", "not JSON"),
        (b"null", NO_ENVELOPE),
        (b"[]", NO_ENVELOPE),
        (b"{}", NO_ENVELOPE),
        (b'{"message":"","code":10000}', NO_ENVELOPE),
        (_body('"10000"'), NO_TYPES),
        (_body("true"), NO_TYPES),
        (b'{"message":null,"code":10000,"data":null}', NO_TYPES),
        (_body(5), "undocumented code 5"),
        (_body(24011), "code 24011 came with HTTP 200, not [404]"),
        (b'{"message":"","code":10000,"data":{"list":[{"webhookAuthKey":"k"}]}}', "shows webhookAuthKey"),
    ],
)
def test_what_is_no_envelope_deviates(body: bytes, found: str) -> None:
    assert list(deviations(200, "application/json", body)) == [found]


def test_the_caller_may_name_things_as_they_like_and_types_of_content_have_parameters() -> None:
    of_the_caller = b'{"message":"","code":10000,"data":{"input":{"webhookAuthKey":"k"},"output":1}}'
    for content_type in ("application/json; charset=utf-8", "Application/JSON ;a=b"):
        assert list(deviations(200, content_type, of_the_caller)) == []
    assert list(deviations(200, "text/json", of_the_caller)) == ["content type 'text/json'"]


def test_a_hidden_error_has_the_status_of_its_code() -> None:
    assert status_of(200, _body(24011)) == 404
    assert status_of(200, _body(10000)) == 200
    assert status_of(503, _body(10002)) == 503
    assert status_of(200, b"<html>") == 200
