"""One layer of retries: what is tried again, when, how often, and what must not be."""

import ssl
from typing import Any

import httpx
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from tests.client.clients import KINDS, Kind
from tests.client.service import ENDPOINT, ID, TASK, Service, given, refusal, success
from yottabench.client import Retries, errors

RESOURCE = {"region": "us-east-1", "gpuType": "NVIDIA_RTX_4090_24G", "gpuCount": 1}
# After these the server may have done what it was asked.
AMBIGUOUS: list[Any] = [
    httpx.ReadError("reset"),
    httpx.ReadTimeout("slow"),
    httpx.RemoteProtocolError("closed"),
    httpx.Response(408),
    httpx.Response(409),
    refusal(409, 99999),
    refusal(409, 24002, headers={"Retry-After": "0"}),
    httpx.Response(500),
    refusal(200, 10002),
    httpx.Response(502, content=b"<html>"),
    httpx.Response(504),
    httpx.Response(520),
    httpx.Response(200, content=b""),
    httpx.Response(200, content=b'{"message": "succ'),
]
# After these it certainly did nothing.
HARMLESS: list[Any] = [
    httpx.ConnectError("refused"),
    httpx.ConnectTimeout("slow"),
    httpx.PoolTimeout("busy"),
    refusal(429, 429),
    httpx.Response(429),
    refusal(503, 10002, headers={"Retry-After": "1"}),
]
LASTING: list[Any] = [
    refusal(400, 10001),
    refusal(401, 40101),
    refusal(403, 10004),
    refusal(404, 14000),
    refusal(404, 24011),
    refusal(409, 24002),
    refusal(409, 24000),
    refusal(200, 24002),
    httpx.Response(404, content=b"<html>"),
    httpx.Response(302, headers={"Location": "http://elsewhere"}),
]


def create(client: Any, **options: Any) -> Any:
    return client.endpoints.create(
        name="a",
        image="b",
        resources=[RESOURCE],
        workers=1,
        container_volume_in_gb=20,
        service_mode="QUEUE",
        **options,
    )


@pytest.mark.parametrize("failure", [*AMBIGUOUS, *HARMLESS])
def test_what_may_pass_is_tried_again(failure: Any, service: Service) -> None:
    service.first(failure, failure).gives(ENDPOINT)
    assert service.client(max_retries=2).endpoints.get(ID).id == ID
    assert len(service.requests) == 3


@pytest.mark.parametrize("failure", LASTING)
def test_what_will_not_pass_is_raised_at_once(failure: Any, service: Service) -> None:
    service.first(failure).gives(ENDPOINT)
    with pytest.raises(errors.ApiError):
        service.client(max_retries=5).endpoints.get(ID)
    assert (len(service.requests), service.time.naps) == (1, [])


def test_a_certificate_that_is_refused_once_is_refused_for_good(service: Service) -> None:
    failure = httpx.ConnectError("no")
    failure.__cause__ = ssl.SSLCertVerificationError("self-signed")
    service.first(failure)
    with pytest.raises(errors.ConnectionFailed):
        service.client(max_retries=5).endpoints.get(ID)
    assert len(service.requests) == 1


def test_the_last_failure_is_raised_when_the_retries_are_used_up(service: Service) -> None:
    service.first(httpx.ReadError("reset"), httpx.Response(500)).fails(520, b"the last")
    with pytest.raises(errors.ServerError) as caught:
        service.client(max_retries=2).endpoints.get(ID)
    assert (caught.value.http_status, caught.value.body, len(service.requests)) == (520, "the last", 3)


@pytest.mark.parametrize("failure", AMBIGUOUS)
def test_an_endpoint_is_never_created_twice(failure: Any, service: Service) -> None:
    service.first(failure).gives(ENDPOINT)
    with pytest.raises(errors.YottaError) as caught:
        create(service.client(max_retries=5))
    assert len(service.requests) == 1
    assert isinstance(caught.value, (errors.ApiError, errors.ConnectionFailed))
    assert caught.value.may_have_taken_effect


@pytest.mark.parametrize("failure", HARMLESS)
def test_an_endpoint_is_created_once_what_did_no_harm_has_passed(failure: Any, service: Service) -> None:
    service.first(failure).gives(ENDPOINT)
    assert create(service.client(max_retries=1)).id == ID


@pytest.mark.parametrize(
    "repeat",
    [
        lambda client: client.endpoints.update(
            ID, name="a", resources=[RESOURCE], workers=1, container_volume_in_gb=20
        ),
        lambda client: client.endpoints.stop(ID),
        lambda client: client.endpoints.start(ID),
        lambda client: client.endpoints.delete(ID),
        lambda client: client.endpoints.scale(ID, 3),
    ],
)
def test_what_may_be_done_twice_is_repeated_even_if_it_may_have_been_done(repeat: Any, service: Service) -> None:
    service.first(httpx.ReadError("reset"), httpx.Response(502)).gives(ENDPOINT)
    repeat(service.client(max_retries=2))
    assert len(service.requests) == 3


def test_pauses_grow_and_are_drawn_from_the_whole_of_each(service: Service) -> None:
    retries = Retries(max_retries=400, first_s=1, most_s=8)
    service.fails(500, b"")
    with pytest.raises(errors.ServerError):
        service.client(retries=retries, deadline_s=1e9).endpoints.get(ID)
    naps = service.time.naps
    assert all(nap <= min(8, 2**index) for index, nap in enumerate(naps))
    late = naps[3:]
    assert min(late) < 0.4
    assert max(late) > 7.6
    assert 3.5 < sum(late) / len(late) < 4.5


@for_all(st.integers(1, 10_000), st.floats(0, 1e6), st.floats(0, 1e6), st.one_of(st.none(), st.floats(0, 1e9)))
def test_no_pause_is_longer_than_was_allowed(
    repetition: int, first_s: float, most_s: float, retry_after_s: float | None
) -> None:
    retries = Retries(first_s=first_s, most_s=most_s, most_retry_after_s=60)
    pause_s = retries.pause_s(repetition, retry_after_s, Service().time.rules().chance)
    assert min(retry_after_s or 0, 60) <= pause_s <= most_s + 60


@pytest.mark.parametrize(
    ("headers", "least_s", "most_s"),
    [
        ({"Retry-After": "7"}, 7, 7.5),
        ({"Retry-After": "Mon, 15 Jan 2024 08:10:30 GMT", "Date": "Mon, 15 Jan 2024 08:10:00 GMT"}, 30, 30.5),
        ({"Retry-After": "86400"}, 60, 60.5),
        ({"Retry-After": "soon"}, 0, 0.5),
    ],
)
def test_the_server_says_how_long_to_wait_up_to_a_limit(
    headers: dict[str, str], least_s: float, most_s: float, service: Service
) -> None:
    service.first(httpx.Response(429, headers=headers)).gives(ENDPOINT)
    service.client(max_retries=1).endpoints.get(ID)
    (nap,) = service.time.naps
    assert least_s <= nap <= most_s


def test_no_wait_is_begun_that_would_outlast_the_deadline(service: Service) -> None:
    service.first(httpx.Response(429, headers={"Retry-After": "30"})).gives(ENDPOINT)
    with pytest.raises(errors.RateLimited):
        service.client(max_retries=9, deadline_s=29).endpoints.get(ID)
    assert service.time.naps == []


@for_all(st.floats(0.01, 500), st.integers(0, 2**32), st.sampled_from(KINDS))
def test_the_deadline_holds_whatever_fails(deadline_s: float, seed: int, kind: Kind) -> None:
    service = Service(kind).fails(500, b"")
    rules = service.time.rules(seed=seed)
    assert rules.chance is not None
    with pytest.raises(errors.ServerError):
        service.client(max_retries=1000).endpoints.get(ID, deadline_s=deadline_s)
    assert service.time.now_s - 1000 < deadline_s


def test_each_try_has_no_more_time_than_the_deadline_leaves(service: Service) -> None:
    def slow(request: httpx.Request) -> httpx.Response:
        seen.append(request.extensions["timeout"]["read"])
        service.time.now_s += 4
        return httpx.Response(500)

    seen: list[float] = []
    service.answer = slow
    with pytest.raises((errors.ServerError, errors.TimedOut)):
        service.client(retries=Retries(first_s=0)).endpoints.get(ID, timeout_s=5, deadline_s=10)
    assert seen == [5, 5, 2]


def test_options_of_a_call_win_over_those_of_the_client(service: Service) -> None:
    service.fails(500, b"")
    with pytest.raises(errors.ServerError):
        service.client(max_retries=9).endpoints.get(ID, max_retries=1)
    assert len(service.requests) == 2
    create_options: dict[str, Any] = {"max_retries": 0, "timeout_s": 3}
    with pytest.raises(errors.ServerError):
        create(service.client(max_retries=9), **create_options)
    assert service.last.extensions["timeout"]["read"] == 3
    assert "timeout_s" not in service.sent


def test_every_attempt_sends_the_same(service: Service) -> None:
    service.first(httpx.ReadError("reset"), httpx.Response(500)).gives(TASK)
    service.client(max_retries=2).tasks.get(ID, "x")
    assert len(set(service.calls)) == 1


def test_retries_can_be_counted_in_the_client(service: Service) -> None:
    import yottabench.client

    one = yottabench.client.Client("k", "http://x.test", retries=7)
    assert one.tasks._setup.rules.retries.max_retries == 7  # pyright: ignore[reportPrivateUsage]
    assert given(1).json() == success(1)
