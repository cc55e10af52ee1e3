"""`--limits documented`: the rates of version 1."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.emulator.harness import Bench, FakeClock
from yottabench.emulator.codes import ApiError
from yottabench.emulator.rates import OPEN_TASKS_MAX, PER_SECOND, Rates


@given(
    operation=st.sampled_from(sorted(PER_SECOND)),
    steps_ms=st.lists(st.integers(0, 400), min_size=1, max_size=400),
)
def test_the_documented_rates_are_enforced_when_asked(operation: str, steps_ms: list[int]) -> None:
    clock = FakeClock()
    rates = Rates(clock)
    passed_ms: list[int] = []
    for step_ms in steps_ms:
        clock.ms += step_ms
        if _passes(rates, operation):
            passed_ms.append(clock.ms)
    most, _ = PER_SECOND[operation]
    for index, begin_ms in enumerate(passed_ms):
        # A full bucket passes at once, then it refills: never more than two seconds' worth in a second.
        assert sum(each_ms < begin_ms + 1000 for each_ms in passed_ms[index:]) <= 2 * most


def _passes(rates: Rates, operation: str) -> bool:
    try:
        rates.check(operation, 1, "me")
    except ApiError as refused:
        return (refused.http_status, refused.code, refused.retry_after_s) != (429, 429, 1)
    return True


@pytest.mark.parametrize("operation", sorted(PER_SECOND))
def test_a_burst_passes_up_to_the_rate_and_not_one_more(operation: str) -> None:
    clock = FakeClock()
    rates = Rates(clock)
    most, _ = PER_SECOND[operation]
    for _ in range(most):
        rates.check(operation, 1, "me")
    with pytest.raises(ApiError, match=f"More than {most} {operation} requests per second for endpoint 1"):
        rates.check(operation, 1, "me")
    clock.ms += 1000 // most + 1
    rates.check(operation, 1, "me")
    rates.check(operation, 2, "me")


def test_a_key_has_its_own_share_over_all_its_endpoints() -> None:
    rates = Rates(FakeClock())
    per_endpoint, per_key = PER_SECOND["submitTask"]
    for endpoint_id in range(per_key // per_endpoint):
        for _ in range(per_endpoint):
            rates.check("submitTask", endpoint_id, "me")
    with pytest.raises(ApiError, match="your API key"):
        rates.check("submitTask", 99, "me")
    rates.check("submitTask", 100, "another")


def test_what_no_source_limits_is_not_limited() -> None:
    rates = Rates(FakeClock())
    for _ in range(1000):
        rates.check("getEndpointById", 1, "me")


@pytest.mark.anyio
async def test_too_many_submits_answer_429_with_retry_after_and_store_nothing(tmp_path: Path) -> None:
    async with Bench(tmp_path, limits="documented") as bench:
        endpoint = await bench.endpoint(workers=0)
        body = {"input": 1, "workerPort": 8000, "processUri": "/"}
        path = f"/v2/serverless/{endpoint}/tasks"
        replies = [await bench.call("POST", path, body) for _ in range(41)]
        assert [reply.http_status for reply in replies] == [200] * 40 + [429]
        assert replies[-1].code == 429
        assert replies[-1].headers["retry-after"] == "1"
        assert await bench.get(f"/{endpoint}/tasks/count") == {"processing": 40}


@pytest.mark.anyio
async def test_an_endpoint_has_at_most_a_thousand_open_tasks(tmp_path: Path) -> None:
    async with Bench(tmp_path, limits="documented") as bench:
        endpoint = await bench.endpoint(workers=0)
        body = {"input": 1, "workerPort": 8000, "processUri": "/"}
        path = f"/v2/serverless/{endpoint}/tasks"
        for _ in range(OPEN_TASKS_MAX):
            assert (await bench.call("POST", path, body)).code == 10000
            bench.clock.ms += 25
        refused = await bench.call("POST", path, body)
        assert (refused.http_status, refused.code) == (429, 429)
        assert "at most 1000" in refused.message


@pytest.mark.anyio
async def test_nothing_is_limited_unless_asked(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        endpoint = await bench.endpoint(workers=0)
        for _ in range(100):
            await bench.submit(endpoint)


@pytest.mark.anyio
async def test_a_reset_also_forgets_what_was_asked_so_far(tmp_path: Path) -> None:
    async with Bench(tmp_path, limits="documented") as bench:

        async def submits(key: str, n: int) -> list[int]:
            endpoint = await bench.endpoint(workers=0, key=key)
            body = {"input": 1, "workerPort": 8000, "processUri": "/"}
            path = f"/v2/serverless/{endpoint}/tasks"
            return [(await bench.call("POST", path, body, key=key)).http_status for _ in range(n)]

        async def share_of_the_key(key: str) -> int:
            return sum([(await submits(key, 40)).count(200) for _ in range(6)])

        assert (await share_of_the_key("me"), await share_of_the_key("you")) == (200, 200)
        await bench.call("POST", "/_emulator/reset", key="me")
        assert (await share_of_the_key("me"), await share_of_the_key("you")) == (200, 0)
        await bench.call("POST", "/_emulator/reset", key=None)
        assert (await share_of_the_key("me"), await share_of_the_key("you")) == (200, 200)


def test_buckets_that_are_like_new_are_dropped_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yottabench.emulator.rates._BUCKETS_MAX", 20)
    clock = FakeClock()
    rates = Rates(clock)
    for number in range(100):
        rates.check("submitTask", number, f"key{number}")
        assert len(rates._buckets) <= 22
        clock.ms += 1000
