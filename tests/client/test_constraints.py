"""What is refused here before anything is sent is what the emulator refuses, in the same words."""

import copy
import enum
import json
import operator
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume
from hypothesis import given as for_all
from hypothesis import strategies as st

from tests import strategies
from tests.client.service import ENDPOINT, ID, TASK, Service
from yottabench.client import InvalidArgument, constraints
from yottabench.emulator import queries
from yottabench.emulator import requests as server
from yottabench.emulator.app import ENDPOINT_STATUSES, WORKER_STATUSES
from yottabench.emulator.codes import ApiError
from yottabench.emulator.log_query import InvalidLogQuery, parse_log_query
from yottabench.emulator.store.base import EndpointSpec

CREATE = {
    "name": "a",
    "image": "b",
    "resources": [{"region": "us-east-1", "gpuType": "NVIDIA_L4_24G", "gpuCount": 1}],
    "workers": 1,
    "containerVolumeInGb": 20,
    "serviceMode": "QUEUE",
}
OLD: EndpointSpec = server.read_create(json.dumps(CREATE).encode())
CREATE_ALL = {
    **CREATE,
    "imageRegistry": "c",
    "containerRegistryAuthId": 1,
    "initializationCommand": "d",
    "environmentVars": [{"key": "E", "value": "f"}],
    "expose": {"port": 80, "protocol": "http"},
    "webhook": "https://example.com/hook",
    "minSingleCardVramInGb": 1,
    "minSingleCardVcpu": 2,
    "minSingleCardRamInGb": 3,
}
UPDATE_ALL = {**CREATE_ALL, "credentialId": 1}
del UPDATE_ALL["containerRegistryAuthId"]
SUBMIT = {"input": 1, "workerPort": 1, "processUri": "/"}
SUBMIT_ALL = {
    **SUBMIT,
    "taskId": "a",
    "webhook": "https://example.com/hook",
    "webhookAuthKey": "k",
    "headers": {"A": "b", "Az09!#$%&'*+.^_`|~-": "c"},
}
# The two long texts stand on both sides of what messages show of a value.
ODD = (
    None, True, -1, 0, 1.0, 1.5, 1e300, 2**63, "", " ", " a", "a ", "a b", "a=b", "\0", "count", "..", "/a//b",
    "Az09@._-", "é" * 58, "é" * 59, "x" * 33_000, [], [1], [[]], {}, {"": "a"}, {"a b": "a"}, {"A": None}, {"A": "\n"},
)  # fmt: skip
# One field has two names on the wire; the client's arguments know one.
ALIASES = {"envVars", "credentialId", "containerRegistryAuthId"}


def words(check: Callable[[], object]) -> str | None:
    """What a check says against something; None when it has nothing against it."""
    try:
        check()
    except (InvalidArgument, InvalidLogQuery) as error:
        return str(error)
    except ApiError as error:
        return error.message
    return None


def both(here: Callable[[Any], object], there: Callable[[bytes], object], body: Any) -> tuple[str | None, str | None]:
    return words(lambda: here(copy.deepcopy(body))), words(lambda: there(json.dumps(body).encode()))


def without_aliases(body: dict[str, Any], *kept: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in ALIASES or name in kept}


@for_all(st.one_of(strategies.create_requests(), strategies.invalid_create_requests()))
def test_create_is_refused_in_the_servers_words(body: dict[str, Any]) -> None:
    body = without_aliases(body, "containerRegistryAuthId")
    ours, theirs = both(constraints.check_create, server.read_create, body)
    assert ours == theirs


@for_all(st.one_of(strategies.update_requests(), strategies.invalid_update_requests()))
def test_update_is_refused_in_the_servers_words(body: dict[str, Any]) -> None:
    body = without_aliases(body, "credentialId")
    ours, theirs = both(constraints.check_update, lambda sent: server.read_update(sent, OLD), body)
    assert ours == theirs


@for_all(st.one_of(strategies.submit_requests(), strategies.invalid_submit_requests()))
def test_submit_is_refused_in_the_servers_words(body: dict[str, Any]) -> None:
    ours, theirs = both(constraints.check_submit, server.read_submit, body)
    assert ours == theirs


@pytest.mark.parametrize(
    ("fields", "whole", "here", "there", "skipped"),
    [
        (strategies.CREATE_FIELDS, CREATE, constraints.check_create, server.read_create, ALIASES),
        (
            strategies.UPDATE_FIELDS,
            CREATE,
            constraints.check_update,
            lambda sent: server.read_update(sent, OLD),
            ALIASES,
        ),
        (
            strategies.SUBMIT_FIELDS,
            SUBMIT,
            constraints.check_submit,
            server.read_submit,
            set(),
        ),
    ],
    ids=["create", "update", "submit"],
)
def test_both_sides_of_every_bound_are_judged_alike(
    fields: dict[str, Any], whole: dict[str, Any], here: Any, there: Any, skipped: set[str]
) -> None:
    refused = 0
    for name in sorted(set(fields) - skipped):
        for value in (*fields[name].good, *fields[name].bad):
            ours, theirs = both(here, there, {**whole, name: value})
            assert ours == theirs, (name, value)
            refused += ours is not None
    assert refused > 50


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


def at(body: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    """A copy of the body in which the holder of one place was changed."""
    changed = holder = copy.deepcopy(body)
    for key in path[:-1]:
        holder = holder[key]
    change(holder, path[-1])
    return changed


@pytest.mark.parametrize(
    ("whole", "here", "there"),
    [
        (CREATE_ALL, constraints.check_create, server.read_create),
        (UPDATE_ALL, constraints.check_update, lambda sent: server.read_update(sent, OLD)),
        (SUBMIT_ALL, constraints.check_submit, server.read_submit),
    ],
    ids=["create", "update", "submit"],
)
def test_anything_odd_at_any_place_is_judged_alike(whole: dict[str, Any], here: Any, there: Any) -> None:
    assert both(here, there, whole) == (None, None)
    refused = 0
    for path in places(whole)[1:]:
        changes: list[Callable[[Any, Any], None]] = [operator.delitem]
        changes += [lambda holder, key, odd=odd: operator.setitem(holder, key, odd) for odd in ODD]
        for change in changes:
            body = at(whole, path, change)
            ours, theirs = both(here, there, body)
            assert ours == theirs, body
            refused += ours is not None
    assert refused > 100


def test_values_that_only_python_has_are_named_as_what_they_are_sent_as() -> None:
    mode = enum.StrEnum("mode", {"OTHER": "other"}).OTHER
    for name, value in (("name", (1,)), ("resources", ()), ("expose", (1,)), ("serviceMode", mode), ("name", mode)):
        ours, theirs = both(constraints.check_create, server.read_create, {**CREATE, name: value})
        assert ours == theirs
    assert both(constraints.check_submit, server.read_submit, {**SUBMIT, "input": ()})[0] == (
        "input must not be []. Send what the worker is to get, any JSON value that is not empty."
    )
    refused = words(lambda: constraints.check_create({**CREATE, "workers": {1}}))
    assert refused == "workers must be an integer, but is set. Say how many workers to run."


@for_all(st.one_of(st.text(max_size=25), st.from_regex(r"[0-9]{1,22}", fullmatch=True)))
def test_endpoint_ids_are_refused_in_the_servers_words(text: str) -> None:
    for value in (text, "1" * 19, "1" * 20, "²", "١"):
        ours = words(lambda value=value: constraints.check_endpoint_id(value))
        assert ours == words(lambda value=value: queries.endpoint_id(value))


@for_all(st.text(max_size=70), st.sampled_from([("taskId", 255), ("workerId", 64)]))
def test_other_ids_are_refused_in_the_servers_words(text: str, which: tuple[str, int]) -> None:
    name, longest = which
    for value in (text, "", "x" * longest, "x" * (longest + 1), "AZaz09_-", "a.b", "a\n"):
        ours = words(lambda value=value: constraints.check_path_id(name, value, longest))
        assert ours == words(lambda value=value: queries.path_id(value, name, longest))


@for_all(st.integers(-(10**19), 10**19), st.sampled_from([(1, 100), (0, 1000), (1, 2**31 - 1)]))
def test_numbers_in_queries_are_refused_in_the_servers_words(value: int, bounds: tuple[int, int]) -> None:
    for number in (value, bounds[0] - 1, bounds[0], bounds[1], bounds[1] + 1):
        ours = words(lambda number=number: constraints.check_query_integer("count", number, *bounds))
        query = {"count": [str(number)]}
        assert ours == words(lambda query=query: queries.query_integer(query, "count", *bounds, None))
    ours = words(lambda: constraints.check_query_integer("count", "x", *bounds))
    assert ours == words(lambda: queries.query_integer({"count": ["x"]}, "count", *bounds, None))
    for odd in (True, 1.0):
        assert "must be an integer" in str(
            words(lambda odd=odd: constraints.check_query_integer("count", odd, *bounds))
        )


def test_a_status_to_filter_by_is_refused_with_the_choices() -> None:
    for status in ("PROCESSING", "DELIVERED", "SUCCESS", "FAILED"):
        constraints.check_task_status(status)
    refused = words(lambda: constraints.check_task_status("DONE"))
    assert refused == "status must not be 'DONE'. Choose one of PROCESSING, DELIVERED, SUCCESS, FAILED."


@for_all(st.lists(st.one_of(st.sampled_from(WORKER_STATUSES), st.text(max_size=5)), min_size=1, max_size=3))
def test_status_lists_are_refused_in_the_servers_words(statuses: list[str]) -> None:
    text = ",".join(statuses)
    for known, of_workers in ((ENDPOINT_STATUSES, False), (WORKER_STATUSES, True)):
        ours = words(lambda of_workers=of_workers: constraints.check_status_list(text, of_workers=of_workers))
        assert ours == words(lambda known=known: queries.query_statuses({"statusList": [text]}, known))


@for_all(
    st.fixed_dictionaries(
        {"pageSize": st.integers(-1, 1002).map(str), "direction": st.sampled_from(["Forward", "Backward", "forward"])},
        optional={
            "keyword": st.one_of(st.text(max_size=5), st.just("x" * 1024), st.just("x" * 1025)),
            "searchAfterTime": st.just("1705306215123"),
            "searchAfterOffset": st.one_of(st.integers(-1, 2**63).map(str), st.just("x")),
        },
    )
)
def test_log_queries_are_refused_in_the_servers_words(params: dict[str, str]) -> None:
    assert words(lambda: constraints.check_log_query(params)) == words(lambda: parse_log_query(params))


@pytest.mark.parametrize(
    ("name", "kept", "refused"),
    [
        ("keyword", ["x", "x" * 1024], ["", "x" * 1025]),
        ("direction", ["Forward", "Backward"], ["", "forward"]),
        ("pageSize", ["1", "1000"], ["0", "1001", "", "x" * 32, "x" * 40, "1" * 20]),
        ("searchAfterOffset", ["0", str(2**63 - 1)], ["-1", str(2**63), "x" * 40]),
    ],
)
def test_both_sides_of_the_bounds_of_log_queries(name: str, kept: list[str], refused: list[str]) -> None:
    both_tokens = {"searchAfterTime": "1", "searchAfterOffset": "1"}
    for value in (*kept, *refused):
        params = {"pageSize": "1", "direction": "Forward", **both_tokens, name: value}
        ours = words(lambda params=params: constraints.check_log_query(params))
        assert ours == words(lambda params=params: parse_log_query(params))
        assert (ours is None) == (value in kept)


@pytest.mark.parametrize("name", ["searchAfterTime", "searchAfterOffset"])
def test_one_token_without_the_other_is_refused_in_the_servers_words(name: str) -> None:
    params = {"pageSize": "1", "direction": "Forward", name: "1"}
    ours = words(lambda: constraints.check_log_query(params))
    assert ours is not None
    assert ours == words(lambda: parse_log_query(params))


@for_all(st.data())
def test_no_valid_call_is_refused_and_no_invalid_one_sent(data: st.DataObject) -> None:
    body = data.draw(st.one_of(strategies.submit_requests(), strategies.invalid_submit_requests()))
    assume(all(name in body for name in strategies.SUBMIT_REQUIRED))
    # An argument that is None is one that was not given.
    assume(all(body.get(name, 1) is not None for name in ("taskId", "webhook", "webhookAuthKey", "headers")))
    service = Service().gives({"taskId": "x"})
    refused = words(
        lambda: service.client().tasks.submit(
            ID,
            body["input"],
            worker_port=body["workerPort"],
            process_uri=body["processUri"],
            task_id=body.get("taskId"),
            webhook=body.get("webhook"),
            webhook_auth_key=body.get("webhookAuthKey"),
            headers=body.get("headers"),
        )
    )
    assert refused == words(lambda: server.read_submit(json.dumps(body).encode()))
    assert (refused is None) == (len(service.requests) == 1)


CALLS: list[tuple[str, Callable[[Any], Any]]] = [
    ("id must be 1 to 19 digits", lambda c: c.endpoints.get("x")),
    ("id must be 1 to 19 digits", lambda c: c.tasks.submit("1" * 20, 1, worker_port=1, process_uri="/")),
    ("taskId must be 1 to 255", lambda c: c.tasks.get(ID, "a/b")),
    ("taskId must be 1 to 255", lambda c: c.tasks.wait(ID, "a b")),
    ("taskId must be 1 to 255", lambda c: list(c.tasks.wait_many(ID, ["a", "a b"]))),
    ("workerId must be 1 to 64", lambda c: c.workers.logs(ID, "a.b")),
    ("count must be between 0 and 1000, but is 1001", lambda c: c.endpoints.scale(ID, 1001)),
    ("count must be an integer, but is '4'", lambda c: c.endpoints.scale(ID, "4")),
    ("pageSize must be between 1 and 100, but is 0", lambda c: c.tasks.list(ID, page_size=0)),
    ("pageNumber must be between 1", lambda c: c.tasks.list(ID, page_number=0)),
    ("status must not be 'DONE'", lambda c: c.tasks.list(ID, status="DONE")),
    ("status must not be 'DONE'", lambda c: list(c.tasks.iterate(ID, status="DONE"))),
    ("statusList must not hold 'UP'", lambda c: c.endpoints.list(statuses=["UP"])),
    ("statusList must not hold 'UP'", lambda c: c.workers.list(ID, statuses="UP")),
    ("pageSize must be an integer from 1 to 1000", lambda c: c.workers.logs(ID, "7", page_size=1001)),
    ("direction must be Forward", lambda c: c.workers.logs(ID, "7", direction="up")),
]


@pytest.mark.parametrize(("said", "call"), CALLS)
def test_each_call_checks_what_it_is_given_unless_told_not_to(
    said: str, call: Callable[[Any], Any], service: Service
) -> None:
    with pytest.raises(InvalidArgument, match=said):
        call(service.client())
    assert service.requests == []
    lenient = service.gives([ENDPOINT]).client(local_checks=False)
    words(lambda: _try(call, lenient))
    assert len(service.requests) >= 1
    assert TASK["taskId"]


def _try(call: Callable[[Any], Any], client: Any) -> None:
    try:
        call(client)
    except InvalidArgument:
        raise
    except Exception as error:
        assert "the answer does not have the documented form" in str(error)  # noqa: PT017 -- one answer fits not all
