"""with_raw_response gives the HTTP answer beside the data, for each operation."""

import inspect
from typing import Any

import httpx
import pytest

from tests.client.service import ENDPOINT, ID, TASK, Service, given
from yottabench.client import AsyncClient, Client, RateLimited, RawResponse


def test_the_answer_comes_beside_the_data(service: Service) -> None:
    service.answer = httpx.Response(200, json=given(TASK).json(), headers={"X-Request-Id": "r7", "X-Rate-Left": "3"})
    found = service.client().tasks.with_raw_response.get(ID, "x")
    assert isinstance(found, RawResponse)
    assert (found.parsed.task_id, found.http_status) == ("my_task_001", 200)
    assert (found.headers["x-rate-left"], found.headers["X-Request-Id"]) == ("3", "r7")
    assert b'"my_task_001"' in found.content
    assert "Hello" not in repr(found)


def test_it_is_the_answer_of_the_last_try(service: Service) -> None:
    service.first(httpx.Response(502, headers={"X-Try": "1"}), httpx.ReadError("reset"))
    service.answer = httpx.Response(200, json=given(ENDPOINT).json(), headers={"X-Try": "3"})
    found = service.client(max_retries=2).endpoints.with_raw_response.get(ID)
    assert found.headers["x-try"] == "3"


def test_errors_stay_errors(service: Service) -> None:
    service.answer = httpx.Response(429)
    with pytest.raises(RateLimited):
        service.client().endpoints.with_raw_response.list()


def test_nothing_is_kept_for_who_did_not_ask(service: Service) -> None:
    client = service.gives(ENDPOINT).client()
    first = client.endpoints.with_raw_response.get(ID)
    client.endpoints.get(ID)
    assert first.parsed.id == client.endpoints.with_raw_response.get(ID).parsed.id


@pytest.mark.parametrize("kind_of_client", [Client, AsyncClient])
def test_every_operation_has_its_raw_form(kind_of_client: Any) -> None:
    client = kind_of_client("k", "http://x.test")
    more = {"submit_and_wait", "submit_many", "wait", "wait_many", "iterate", "iterate_logs"}
    for resource in (client.endpoints, client.workers, client.tasks):
        methods = {name for name, _ in inspect.getmembers(resource, inspect.ismethod) if not name.startswith("_")}
        assert set(vars(resource.with_raw_response)) == methods - more
