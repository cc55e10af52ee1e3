"""Two readings of one contract: what the emulator takes is what openapi/serverless.yaml describes, nothing else."""

import contextlib
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests import strategies
from tests.spec.reading import parameter_schema, validator, validator_of
from yottabench.emulator import queries, requests
from yottabench.emulator.codes import ApiError, Code
from yottabench.emulator.limits import INT32_MAX, INT64_MAX, JSON_MAX_DEPTH, TASK_PAGE_MAX, WORKERS_MAX
from yottabench.emulator.log_query import InvalidLogQuery, parse_log_query
from yottabench.emulator.store.base import EndpointSpec

CREATE: dict[str, Any] = {
    "name": "llama",
    "image": "sim/echo",
    "resources": [{"region": "us-east-1", "gpuType": "NVIDIA_H100_80G", "gpuCount": 1}],
    "workers": 1,
    "containerVolumeInGb": 20,
    "serviceMode": "QUEUE",
}
UPDATE = {name: value for name, value in CREATE.items() if name not in {"image", "serviceMode"}}
SUBMIT: dict[str, Any] = {"input": {"prompt": "hi"}, "workerPort": 8000, "processUri": "/run"}


def old_spec(**changes: Any) -> EndpointSpec:
    return requests.read_create(json.dumps({**CREATE, **changes}).encode())


OLD = old_spec()
READERS: dict[str, Callable[[bytes], Any]] = {
    "CreateEndpointRequest": requests.read_create,
    "UpdateEndpointRequest": lambda body: requests.read_update(body, OLD),
    "SubmitTaskRequest": requests.read_submit,
}
BASES = {"CreateEndpointRequest": CREATE, "UpdateEndpointRequest": UPDATE, "SubmitTaskRequest": SUBMIT}
FIELDS = {
    "CreateEndpointRequest": strategies.CREATE_FIELDS,
    "UpdateEndpointRequest": strategies.UPDATE_FIELDS,
    "SubmitTaskRequest": strategies.SUBMIT_FIELDS,
}
VALID = {
    "CreateEndpointRequest": strategies.create_requests(),
    "UpdateEndpointRequest": strategies.update_requests(),
    "SubmitTaskRequest": strategies.submit_requests(),
}
INVALID = {
    "CreateEndpointRequest": strategies.invalid_create_requests(),
    "UpdateEndpointRequest": strategies.invalid_update_requests(),
    "SubmitTaskRequest": strategies.invalid_submit_requests(),
}
each_request = pytest.mark.parametrize("name", READERS)


def refusal(name: str, body: bytes) -> ApiError | None:
    """How the emulator refuses this body; None: it takes it. Anything but an ApiError goes through."""
    try:
        READERS[name](body)
    except ApiError as error:
        found = error
    else:
        return None
    assert (found.code, found.http_status) == (Code.INVALID, 400)
    return found


def encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


# ---- the strategies


@each_request
@given(data=st.data())
def test_what_is_valid_is_taken(name: str, data: st.DataObject) -> None:
    body = data.draw(VALID[name])
    assert refusal(name, encoded(body)) is None
    assert validator(name).is_valid(body)


@each_request
@given(data=st.data())
def test_what_is_invalid_is_refused(name: str, data: st.DataObject) -> None:
    body = data.draw(INVALID[name])
    assert refusal(name, encoded(body)) is not None
    assert not validator(name).is_valid(body)


@pytest.mark.parametrize(("name", "field"), [(name, field) for name, fields in FIELDS.items() for field in fields])
def test_both_sides_of_every_bound(name: str, field: str) -> None:
    for value in FIELDS[name][field].good:
        body = {**BASES[name], field: value}
        if value == "ALB":
            body["expose"] = {"port": 80, "protocol": "http"}
        error = refusal(name, encoded(body))
        assert error is None, (value, error)
    clearable = name == "UpdateEndpointRequest" and field in strategies.CLEARABLE
    for value in FIELDS[name][field].bad:
        error = refusal(name, encoded({**BASES[name], field: value}))
        if value is None and clearable:
            assert error is None
        else:
            assert error is not None, value
            assert error.message.startswith(field)
            assert error.message.endswith((".", "_ -", "."))


@each_request
def test_every_required_field_is_asked_for_by_name(name: str) -> None:
    for field in BASES[name]:
        body = {key: value for key, value in BASES[name].items() if key != field}
        error = refusal(name, encoded(body))
        assert error is not None
        assert error.message.startswith(f"{field} is missing. ")


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(value, dict):
        for key, item in value.items():
            found += _paths(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value[:3]):
            found += _paths(item, (*path, index))
    return found


def _changed(value: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(value)
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _changed(value[path[0]], path[1:], change)
    return copy


_ODD = st.one_of(
    strategies.json_values(),
    st.sampled_from(
        ["", " ", "\n", "a\n", "\x00", "é", "x" * 300, "..", "/", 0, -1, 1.0, 8000.0, 65535, 65536, 2**31, 2**53,
         2**63 - 1, 2**64, 0.5, 1e300, True, False, None, [], {}, [None], {"a": None}, "ALB", "QUEUE"]
    ),
)  # fmt: skip


def _allowed_to_differ(name: str, body: Any) -> bool:
    """What the emulator refuses and a schema cannot say; each is pinned below."""
    if not isinstance(body, dict):
        return False
    pairs = [("environmentVars", "envVars"), ("containerRegistryAuthId", "credentialId")]
    two_names = any(one in body and other in body and body[one] != body[other] for one, other in pairs)
    hook = body.get("webhook")
    return two_names or (isinstance(hook, str) and "[" in hook)


@each_request
@settings(max_examples=150)
@given(data=st.data())
def test_a_body_with_anything_anywhere_is_taken_by_both_readings_or_by_none(name: str, data: st.DataObject) -> None:
    body: Any = data.draw(VALID[name])
    for _ in range(data.draw(st.integers(1, 2))):
        paths = _paths(body)
        path = data.draw(st.sampled_from(paths))
        match data.draw(st.sampled_from(["replace", "add", "drop"])):
            case "replace":
                odd = data.draw(_ODD)
                body = _changed(body, path, lambda _, odd=odd: odd)
            case "add":
                odd, key = data.draw(_ODD), data.draw(st.sampled_from([*FIELDS[name], "port", "key", "unknown", ""]))
                body = _changed(
                    body,
                    path,
                    lambda value, odd=odd, key=key: (
                        {**value, key: odd}
                        if isinstance(value, dict)
                        else [*value, odd]
                        if isinstance(value, list)
                        else value
                    ),
                )
            case _:
                if path:
                    keep = path[-1]
                    body = _changed(
                        body,
                        path[:-1],
                        lambda value, keep=keep: (
                            {k: v for k, v in value.items() if k != keep}
                            if isinstance(value, dict)
                            else value[:keep] + value[keep + 1 :]
                        ),
                    )
    if not _allowed_to_differ(name, body):
        error = refusal(name, encoded(body))
        assert (error is None) == validator(name).is_valid(body), error and error.message


@pytest.mark.parametrize("name", ["CreateEndpointRequest", "UpdateEndpointRequest"])
@pytest.mark.parametrize(
    ("one", "other", "value", "another"),
    [
        ("environmentVars", "envVars", [{"key": "A", "value": "1"}], [{"key": "A", "value": "2"}]),
        ("containerRegistryAuthId", "credentialId", 5, 6),
    ],
)
def test_two_names_of_one_field_may_agree_but_not_differ(
    name: str, one: str, other: str, value: Any, another: Any
) -> None:
    for body in ({one: value}, {other: value}, {one: value, other: value}):
        read = READERS[name](encoded({**BASES[name], **body}))
        assert (read.environment and read.environment[0].value == "1") or read.registry_auth_id == 5
    error = refusal(name, encoded({**BASES[name], one: value, other: another}))
    assert error is not None
    first, second = (one, other)
    if name == "UpdateEndpointRequest" and one == "containerRegistryAuthId":
        first, second = (other, one)  # the name that the documentation of this request has
    assert error.message == f"{first} and {second} are two names of one field but differ. Send {first} alone."


@pytest.mark.parametrize("name", ["CreateEndpointRequest", "UpdateEndpointRequest"])
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("envVars", [{"value": "1"}], "envVars[0].key is missing. A name has at least one character, no equals sign "
         "and no NUL."),
        ("envVars", [{"key": "A"}], "envVars[0].value is missing. Send a text without NUL."),
        ("envVars", [1], "envVars[0] must be an object, but is a number. See the API documentation for its fields."),
        ("envVars", 1, "envVars must be an array, but is a number. Send a list of {key, value}."),
        ("containerRegistryAuthId", 0, f"containerRegistryAuthId must be between 1 and {INT64_MAX}, but is 0. Send the "
         "id of a registry credential, or leave it out."),
        ("credentialId", 0, f"credentialId must be between 1 and {INT64_MAX}, but is 0. Send the id of a registry "
         "credential, or leave it out."),
    ],
)  # fmt: skip
def test_a_refusal_names_the_field_as_it_was_sent(name: str, field: str, value: Any, message: str) -> None:
    error = refusal(name, encoded({**BASES[name], field: value}))
    assert error is not None
    assert error.message == message


STRICT: dict[str, Callable[[bytes], Any]] = {
    "CreateEndpointRequest": lambda body: requests.read_create(body, strict=True),
    "UpdateEndpointRequest": lambda body: requests.read_update(body, OLD, strict=True),
    "SubmitTaskRequest": lambda body: requests.read_submit(body, strict=True),
}


@each_request
def test_a_strict_reading_knows_every_documented_field_and_no_other(name: str) -> None:
    good = {field: FIELDS[name][field].good[0] for field in FIELDS[name]}
    body = {**good, **BASES[name]}
    assert STRICT[name](encoded(body)) == READERS[name](encoded(body))
    wrong = encoded({**BASES[name], "wrokers": 1})
    assert refusal(name, wrong) is None
    with pytest.raises(ApiError) as refused:
        STRICT[name](wrong)
    assert refused.value.code is Code.INVALID
    assert refused.value.message == "'wrokers' is no field of this request. Correct its name or leave it out."


@pytest.mark.parametrize("name", ["CreateEndpointRequest", "UpdateEndpointRequest"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gpuType": "H1000"}, "resources[1].gpuType 'H1000' is not known. Take one of the guide's list."),
        ({"gpuCount": 3}, "resources[1].gpuCount 3 is no power of two. Take 1, 2, 4, 8 and so on."),
        ({"gpuCount": 2}, "resources[1].gpuCount differs from that of resources[0]. Give all resources the same."),
    ],
)
def test_a_strict_reading_refuses_gpus_that_the_guide_does_not_have(name: str, change: Any, message: str) -> None:
    gpu = CREATE["resources"][0]
    assert STRICT[name](encoded({**BASES[name], "resources": [gpu, gpu]})).resources[1].gpu_count == 1
    body = encoded({**BASES[name], "resources": [gpu, {**gpu, **change}]})
    assert refusal(name, body) is None
    with pytest.raises(ApiError) as refused:
        STRICT[name](body)
    assert (refused.value.code, refused.value.message) == (Code.INVALID, message)


# ---- what is read


def test_an_input_is_kept_byte_for_byte() -> None:
    for text in (b'{ "a" : 1.50 }', b'"\\u00e9"', b"[1e5, -0.0]", b"0", b"false", b'" "', b'{"":null}', b"[[]]"):
        body = b'{ "workerPort":1, "input" :  ' + text + b'  ,"processUri":"/"}'
        assert requests.read_submit(body).input == text


@pytest.mark.parametrize("text", [b"null", b"{}", b"[]", b'""', b"{ }", b"[\n]", b"{\t\r\n }"])
def test_an_empty_input_is_refused_however_it_is_spaced(text: bytes) -> None:
    error = refusal("SubmitTaskRequest", b'{"input": ' + text + b' ,"workerPort":1,"processUri":"/"}')
    assert error is not None
    assert error.message.startswith("input must not be")


@given(strategies.process_uris())
def test_a_process_uri_is_read_with_one_leading_slash(uri: str) -> None:
    read = requests.read_submit(encoded({**SUBMIT, "processUri": uri})).process_uri
    assert read == (uri if uri.startswith("/") else f"/{uri}")
    assert len(read) <= 255


@given(strategies.header_maps())
def test_headers_are_kept_as_sent(headers: dict[str, str]) -> None:
    read = requests.read_submit(encoded({**SUBMIT, "headers": headers})).headers
    assert read is not None
    assert json.loads(read) == headers


def test_an_integer_may_be_written_as_a_float_as_json_schema_has_it() -> None:
    for text in (b"8000.0", b"8e3"):
        port = requests.read_submit(b'{"input":1,"workerPort":' + text + b',"processUri":"/"}').worker_port
        assert (port, type(port)) == (8000, int)
    for text in (b"8000.5", b"true", b'"8000"', b"1e400", b"-0.5", b"9" * 5000):
        assert refusal("SubmitTaskRequest", b'{"input":1,"workerPort":' + text + b',"processUri":"/"}') is not None


def test_an_update_keeps_what_is_left_out_and_takes_away_what_is_null() -> None:
    old = old_spec(
        environmentVars=[{"key": "A", "value": "1"}],
        expose={"port": 80, "protocol": "http"},
        webhook="http://a/",
        initializationCommand="x",
        containerRegistryAuthId=5,
        minSingleCardVramInGb=1,
        minSingleCardVcpu=2,
        minSingleCardRamInGb=3,
    )
    assert requests.read_update(encoded(UPDATE), old) == old
    nulls = dict.fromkeys(strategies.CLEARABLE)
    assert requests.read_update(encoded({**UPDATE, **nulls}), old) == OLD


def test_an_update_never_changes_image_registry_or_mode() -> None:
    body = {**UPDATE, "image": "other", "imageRegistry": "other", "serviceMode": "CUSTOM", "name": "new"}
    new = requests.read_update(encoded(body), OLD)
    assert (new.name, new.image, new.image_registry, new.service_mode) == ("new", OLD.image, None, "QUEUE")


def test_an_alb_endpoint_keeps_its_exposed_port() -> None:
    assert refusal("CreateEndpointRequest", encoded({**CREATE, "serviceMode": "ALB"})) is not None
    old = old_spec(serviceMode="ALB", expose={"port": 80, "protocol": "http"})
    with pytest.raises(ApiError) as refused:
        requests.read_update(encoded({**UPDATE, "expose": None}), old)
    assert refused.value.code is Code.INVALID
    assert refused.value.message == (
        "expose cannot be removed. An ALB endpoint needs the port that requests are balanced to."
    )


def test_no_refusal_shows_a_secret() -> None:
    secret = "s3cret\n"
    bodies = [
        ("SubmitTaskRequest", {**SUBMIT, "webhookAuthKey": secret}),
        ("SubmitTaskRequest", {**SUBMIT, "headers": {"Authorization": secret}}),
        ("CreateEndpointRequest", {**CREATE, "environmentVars": [{"key": "K", "value": f"{secret}\x00"}]}),
        ("CreateEndpointRequest", {**CREATE, "initializationCommand": f"{secret}\x00"}),
    ]
    for name, body in bodies:
        error = refusal(name, encoded(body))
        assert error is not None
        assert "s3cret" not in error.message


@pytest.mark.parametrize("task_id", [None, "a", "a" * 255])
@pytest.mark.parametrize("port", [1, 8000, 65535])
def test_the_quick_reading_of_a_plain_submit_is_what_the_careful_one_reads(task_id: str | None, port: int):
    sent = {**SUBMIT, "workerPort": port, **({} if task_id is None else {"taskId": task_id})}
    read = requests.read_submit(encoded(sent))
    assert read == requests.read_submit(encoded(sent), strict=True)
    assert (read.task_id, read.worker_port, read.process_uri) == (task_id, port, "/run")


def test_no_repr_of_a_submission_shows_its_payload_or_keys() -> None:
    read = requests.read_submit(encoded({**SUBMIT, "webhookAuthKey": "s3cret", "headers": {"A": "s3cret"}}))
    assert "s3cret" not in repr(read)
    assert "hi" not in repr(read)


# ---- bytes that are no such body


BROKEN = {
    "nothing": b"",
    "space": b"  ",
    "no JSON": b"hello",
    "half": b'{"input":',
    "not UTF-8": b'{"input":"\xff"}',
    "not UTF-8 in a key": b'{"\xff":1}',
    "UTF-8 surrogate": b'{"input":"\xed\xa0\x80"}',
    "overlong UTF-8": b'{"input":"\xc0\xaf"}',
    "UTF-16": '{"input":1}'.encode("utf-16"),
    "lone surrogate": b'{"input":"\\ud800"}',
    "lone surrogate deep in the input": b'{"input":{"a":["\\udc00"]},"workerPort":1,"processUri":"/"}',
    "lone surrogate in a key": b'{"\\ud800":1}',
    "lone surrogate in an unknown field": b'{"x":"\\ud800","input":1,"workerPort":1,"processUri":"/"}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "NaN": b'{"input":NaN,"workerPort":1,"processUri":"/"}',
    "Infinity": b'{"input":-Infinity,"workerPort":1,"processUri":"/"}',
    "too large a number": b'{"workerPort":1e999,"input":1,"processUri":"/"}',
    "digits without end": b'{"workerPort":' + b"9" * 100_000 + b',"input":1,"processUri":"/"}',
    "a comma too many": b'{"input":[1,],"workerPort":1,"processUri":"/"}',
    "a leading zero": b'{"input":01,"workerPort":1,"processUri":"/"}',
    "a comment": b'{"input":1/**/,"workerPort":1,"processUri":"/"}',
    "single quotes": b"{'input':1}",
    "a control character": b'{"input":"a\x01b","workerPort":1,"processUri":"/"}',
    "a bad escape": b'{"input":"\\x41","workerPort":1,"processUri":"/"}',
    "two values": b'{"input":1,"workerPort":1,"processUri":"/"} {}',
    "NUL after it": b'{"input":1,"workerPort":1,"processUri":"/"}\x00',
    "deep": b'{"input":' + b"[" * 100_000 + b"]" * 100_000 + b',"workerPort":1,"processUri":"/"}',
    "deep and open": b"[" * 100_000,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "deep in an unknown field": b'{"x":' + b"[" * 5_000 + b"]" * 5_000 + b',"input":1,"workerPort":1,"processUri":"/"}',
    "an array": b"[]",
    "null": b"null",
    "a text": b'"x"',
    "a number": b"1",
    "true": b"true",
}


@each_request
@pytest.mark.parametrize("body", BROKEN.values(), ids=list(BROKEN))
def test_bytes_that_are_no_such_body_are_a_parameter_error(name: str, body: bytes) -> None:
    error = refusal(name, body)
    assert error is not None
    assert len(error.message) < 500


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The request has no body. Send a JSON object."),
        (b'{"input":"\xff"}', "The body is not UTF-8 (byte 10). Encode it as UTF-8."),
        (b"[]", "The body does not fit: Expected `object`, got `array`. Send a JSON object."),
        (b"{", "The body is not valid JSON: Input data was truncated. Send a JSON object."),
        (b"[" * 101, "The body is nested more than 100 levels deep. Send flatter JSON."),
    ],
)
@each_request
def test_what_is_wrong_with_the_bytes_is_said(name: str, body: bytes, message: str) -> None:
    error = refusal(name, body)
    assert error is not None
    assert error.message == message


@pytest.mark.parametrize(("depth", "taken"), [(JSON_MAX_DEPTH - 1, True), (JSON_MAX_DEPTH, False)])
def test_the_depth_of_a_body_has_a_bound_with_two_sides(depth: int, taken: bool) -> None:
    nested = b"[" * depth + b"1" + b"]" * depth
    body = b'{"workerPort":1,"processUri":"/","input":' + nested + b"}"
    assert (refusal("SubmitTaskRequest", body) is None) is taken
    nested = b'{"a":' * depth + b"1" + b"}" * depth
    body = b'{"workerPort":1,"processUri":"/","input":' + nested + b"}"
    assert (refusal("SubmitTaskRequest", body) is None) is taken


@pytest.mark.parametrize("sibling", [b"[],", b"{},", b'[{"a":[]}],', b'"]",', b"0,"])
@pytest.mark.parametrize(("depth", "taken"), [(JSON_MAX_DEPTH - 2, True), (JSON_MAX_DEPTH - 1, False)])
def test_depth_counts_what_is_open_and_not_what_stands_beside_it(sibling: bytes, depth: int, taken: bool) -> None:
    nested = b"[" + sibling * 150 + b"[" * depth + b"1" + b"]" * depth + b"]"
    body = b'{"workerPort":1,"processUri":"/","input":' + nested + b"}"
    assert (refusal("SubmitTaskRequest", body) is None) is taken


def test_brackets_inside_texts_are_no_depth() -> None:
    text = json.dumps('[{"' * 5000).encode()
    assert refusal("SubmitTaskRequest", b'{"workerPort":1,"processUri":"/","input":' + text + b"}") is None


@each_request
def test_the_last_of_two_equal_keys_counts_as_everywhere(name: str) -> None:
    field, value = ("workerPort", b"0") if name == "SubmitTaskRequest" else ("workers", b"-1")
    plain = encoded(BASES[name])
    assert refusal(name, plain[:-1] + b',"%b":%b}' % (field.encode(), value)) is not None
    assert refusal(name, b'{"%b":%b,' % (field.encode(), value) + plain[1:]) is None


@each_request
@settings(max_examples=150)
@given(body=st.binary(max_size=60))
@example(body=b'{"a"')
def test_any_bytes_are_read_or_refused(name: str, body: bytes) -> None:
    refusal(name, body)


@each_request
@settings(max_examples=150)
@given(data=st.data())
def test_any_damaged_body_is_read_or_refused_and_what_is_read_is_json(name: str, data: st.DataObject) -> None:
    body = encoded(data.draw(VALID[name]))
    at = data.draw(st.integers(0, len(body) - 1))
    patch = data.draw(
        st.one_of(st.binary(max_size=4), st.sampled_from([b"\xed\xa0\x80", b"\\ud800", b"[[", b"\x00", b"1e999"]))
    )
    damaged = body[:at] + patch + body[at + data.draw(st.integers(0, 4)) :]
    if refusal(name, damaged) is None:
        assert isinstance(json.loads(damaged), dict)
        if name == "SubmitTaskRequest":
            msgspec.json.decode(requests.read_submit(damaged).input, type=msgspec.Raw)


# ---- paths and queries


def query(**values: Any) -> queries.Query:
    return queries.read_query("&".join(f"{name}={quote(str(value))}" for name, value in values.items()).encode())


INTEGERS = {
    "pageNumber": ("listTasks", strategies.PAGE_NUMBER, 1, INT32_MAX),
    "pageSize": ("listTasks", strategies.PAGE_SIZE, 1, TASK_PAGE_MAX),
    "count": ("scaleWorkers", strategies.CREATE_WORKERS, 0, WORKERS_MAX),
}


@pytest.mark.parametrize("name", INTEGERS)
@given(data=st.data())
def test_integer_parameters_have_the_bounds_of_the_document(name: str, data: st.DataObject) -> None:
    operation, field, low, high = INTEGERS[name]
    schema = parameter_schema(operation, name)
    assert (schema["minimum"], schema["maximum"]) == (low, high)
    value = data.draw(field.valid())
    assert queries.query_integer(query(**{name: value}), name, low, high, None) == value
    wrong = data.draw(st.one_of(st.integers(max_value=low - 1), st.integers(min_value=high + 1)))
    with pytest.raises(ApiError, match=f"^{name} must be"):
        queries.query_integer(query(**{name: wrong}), name, low, high, None)


@pytest.mark.parametrize(
    "text", ["", " ", "1.0", "1e1", "+1", " 1", "1 ", "1\n", "0x1", "١", "1_0", "--1", "1,2", "true", "9" * 30]
)
def test_what_is_no_integer_is_refused(text: str) -> None:
    with pytest.raises(ApiError, match=r"^pageSize must be an integer"):
        queries.query_integer(query(pageSize=text), "pageSize", 1, 100, 10)


def test_a_parameter_is_sent_once_or_not_at_all() -> None:
    assert queries.query_integer(query(), "pageSize", 1, 100, 10) == 10
    with pytest.raises(ApiError) as refused:
        queries.query_integer(query(), "count", 0, 10, None)
    assert refused.value.message == "count is missing. Send a whole number from 0 to 10."
    with pytest.raises(ApiError) as refused:
        queries.query_integer(queries.read_query(b"pageSize=1&pageSize=2"), "pageSize", 1, 100, 10)
    assert refused.value.message == "pageSize was sent more than once. Send it once."
    assert queries.query_statuses(query(), STATUSES) == frozenset()


STATUSES = ("RUNNING", "STOPPED", "FAILED")


@given(st.lists(st.sampled_from(STATUSES), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_status_lists_may_be_joined_repeated_and_in_any_case(wanted: list[str], chance: Any) -> None:
    cased = ["".join(chance.choice([c.lower(), c]) for c in status) for status in wanted]
    for raw in (",".join(cased), "&statusList=".join(cased), "%2C".join(cased), ", ".join(cased).replace(" ", "%20")):
        found = queries.query_statuses(queries.read_query(f"statusList={raw}".encode()), STATUSES)
        assert found == frozenset(wanted)


@pytest.mark.parametrize(
    "text", ["", ",", "RUNNING,", ",RUNNING", "RUNNING,,FAILED", "NONE", "RUNNING;FAILED", "RUNN ING"]
)
def test_other_status_lists_are_refused_with_the_choices(text: str) -> None:
    with pytest.raises(ApiError, match=r"statusList .* Choose from RUNNING, STOPPED, FAILED"):
        queries.query_statuses(query(statusList=text), STATUSES)


@pytest.mark.parametrize("raw", [b"a=%ff", b"a=%ED%A0%80", b"\xff=1", b"&".join(b"a=1" for _ in range(101))])
def test_a_query_that_is_no_utf8_or_has_no_end_is_refused(raw: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        queries.read_query(raw)
    assert refused.value.code is Code.INVALID
    assert refused.value.message == "The query is not valid percent-encoded UTF-8. Encode its values."
    assert queries.read_query(b"&".join(b"a=1" for _ in range(100))) == {"a": ["1"] * 100}


@given(st.binary(max_size=40))
def test_any_query_is_read_or_refused(raw: bytes) -> None:
    with contextlib.suppress(ApiError):
        found = queries.read_query(raw)
        assert all(isinstance(value, str) for values in found.values() for value in values)


IDS = {
    "id": ("getEndpointById", lambda text: queries.endpoint_id(text)),
    "taskId": ("getTaskById", lambda text: queries.path_id(text, "taskId", 255)),
    "workerId": ("getWorkerLogs", lambda text: queries.path_id(text, "workerId", 64)),
}


@pytest.mark.parametrize("name", IDS)
@given(
    text=st.one_of(
        st.text(st.characters(codec="utf-8"), max_size=300),
        st.from_regex(r"[A-Za-z0-9_-]{1,260}", fullmatch=True),
        st.integers().map(str),
    )
)
@example(text="1" * 19)
@example(text="1" * 20)
@example(text="x" * 255)
@example(text="x" * 256)
@example(text="x" * 64)
@example(text="x" * 65)
@example(text="1\n")
@example(text="²")
@example(text="١")
@example(text="..")
def test_ids_in_paths_are_those_of_the_document(name: str, text: str) -> None:
    operation, read = IDS[name]
    if validator_of(parameter_schema(operation, name)).is_valid(text):
        read(text)
    else:
        with pytest.raises(ApiError, match=f"^{name} must be") as refused:
            read(text)
        assert refused.value.code is Code.INVALID


LOG_FIELDS = {
    "pageSize": strategies.LOG_PAGE_SIZE,
    "startTime": strategies.LOG_TIME,
    "endTime": strategies.LOG_TIME,
    "searchAfterTime": strategies.LOG_TIME,
    "searchAfterOffset": strategies.SEARCH_OFFSET,
}


@pytest.mark.parametrize("name", LOG_FIELDS)
@given(data=st.data())
def test_log_queries_have_the_bounds_of_the_document(name: str, data: st.DataObject) -> None:
    other = {"searchAfterTime": {"searchAfterOffset": "1"}, "searchAfterOffset": {"searchAfterTime": "1"}}.get(name, {})
    value = str(data.draw(LOG_FIELDS[name].valid()))
    parse_log_query({**other, name: value})
    assert validator_of(parameter_schema("getWorkerLogs", name)).is_valid(value if "Time" in name else int(value))
    kind = str if "Time" in name else int  # a text of digits is how a query has its integers
    bad = data.draw(LOG_FIELDS[name].invalid().filter(lambda each: type(each) is kind))
    with pytest.raises(InvalidLogQuery):
        parse_log_query({**other, name: str(bad)})
