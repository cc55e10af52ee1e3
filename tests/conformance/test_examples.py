"""Every sample of the documentation: the emulator is given the requests, and gives the answers."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from yotta_serverless_api import models

from tests.conformance.live import Api, until
from tests.conformance.process import emulator
from tests.conformance.receiver import Receiver, receiver
from tests.spec.documented import EXAMPLES

SAMPLES: dict[str, Any] = dict(EXAMPLES)
LOG_LINE = SAMPLES["LogPageEnvelope"]["data"]["logs"][0]["log"]
DOCUMENTATION = Path(__file__).parents[3] / "shared" / "api-docs.md"
# What differs from one run to the next: ids, places and times. Their form is checked, not their value.
VARIES = {"id", "endpointId", "workerUrl", "webhook", "createdAt", "updatedAt", "deliveredAt", "cost"}


@attrs.frozen
class House:
    """An emulator set up as the samples were taken: its worker gives the documented output, its webhooks arrive."""

    api: Api
    hook: Receiver

    def sent(self, name: str, **more: Any) -> dict[str, Any]:
        """A documented request; webhooks lead to this machine."""
        request = {**SAMPLES[name], **more}
        return {**request, "webhook": self.hook.url} if "webhook" in request else request


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    images = tmp_path_factory.mktemp("house") / "images.toml"
    output = json.dumps(SAMPLES["TaskEnvelope"]["data"]["output"]).encode()
    with receiver(answer=output) as worker, receiver() as hook:
        origin = worker.url.removesuffix("/hook")
        images.write_text(f'[[image]]\npattern = "vllm/*"\nurls = ["{origin}"]\nworkers_per_url = 9\n')
        with emulator("--images", str(images), "--delivered-status", "sample") as url:
            api = Api(url, "samples")
            yield House(api, hook)
            api.close()


def _form(value: Any) -> Any:
    """The value with what varies replaced by its JSON type."""
    if isinstance(value, dict):
        return {
            name: (type(item).__name__ if name in VARIES and item is not None else _form(item))
            for name, item in value.items()
        }
    return [_form(item) for item in value] if isinstance(value, list) else value


def _shows(answer: dict[str, Any], sample: dict[str, Any]) -> None:
    """The answer holds all of the sample; it may hold more (the service was seen to add fields)."""
    assert {name: item for name, item in _form(answer).items() if name in sample} == _form(sample)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_survives_the_generated_models_unchanged(name: str) -> None:
    read = getattr(models, name).from_dict(json.loads(json.dumps(SAMPLES[name])))
    assert json.loads(json.dumps(read.to_dict())) == SAMPLES[name]


@pytest.mark.skipif(not DOCUMENTATION.exists(), reason="the documentation's text is not part of this repository")
def test_the_samples_here_are_those_of_the_documentation_and_none_is_left_out() -> None:
    text = DOCUMENTATION.read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    blocks = [json.loads(block) for block in re.findall(r"```(?:json)?\n(\{.*?\n\})\n```", text, re.DOTALL)]
    assert len(blocks) == len(SAMPLES)
    for sample in SAMPLES.values():
        assert sample in blocks


def test_the_documented_endpoint_is_created_and_shown_as_documented(house: House) -> None:
    endpoint_id = house.api.data("POST", "", json=house.sent("CreateEndpointRequest"))["id"]
    sample = SAMPLES["EndpointEnvelope"]["data"]
    shown = until(
        lambda: house.api.call("GET", f"/{endpoint_id}"),
        lambda answer: all(answer.data[name] == sample[name] for name in ("runningWorkers", "status")),
    )
    assert (shown.message, shown.code) == ("success", 10000)
    assert shown.data["webhook"] == house.hook.url
    # The sample was taken without a webhook, and after some time of running.
    _shows({**shown.data, "webhook": None, "cost": float(shown.data["cost"])}, sample)


def test_the_documented_update_is_taken_as_documented(house: House) -> None:
    endpoint_id = house.api.create(image="vllm/vllm-openai:latest", workers=1)
    after = house.api.data("PATCH", f"/{endpoint_id}", json=SAMPLES["UpdateEndpointRequest"])
    assert (after["name"], after["totalWorkers"]) == ("updated-name", 4)
    assert after["environmentVars"] == SAMPLES["UpdateEndpointRequest"]["envVars"]


def test_the_documented_task_is_submitted_executed_delivered_and_shown_as_documented(house: House) -> None:
    endpoint_id = house.api.data("POST", "", json=house.sent("CreateEndpointRequest"))["id"]
    submitted = house.api.call("POST", f"/{endpoint_id}/tasks", json=house.sent("SubmitTaskRequest"))
    assert json.loads(submitted.text) == SAMPLES["SubmittedTaskEnvelope"]
    path = f"/{endpoint_id}/tasks/{submitted.data['taskId']}"
    shown = until(lambda: house.api.call("GET", path), lambda answer: answer.data["deliveryStatus"] == "SUCCESS")
    assert _form(json.loads(shown.text)) == _form(SAMPLES["TaskEnvelope"])
    assert shown.data["createdAt"] <= shown.data["updatedAt"]
    assert shown.data["webhook"] == house.hook.url


def test_the_documented_page_of_tasks_is_shown_as_documented(house: House) -> None:
    sample = SAMPLES["TaskPageEnvelope"]["data"]
    endpoint_id = house.api.data("POST", "", json=house.sent("CreateEndpointRequest"))["id"]
    for _ in range(sample["total"] - 1):
        house.api.submit(endpoint_id)
    # The newest is the first.
    house.api.data("POST", f"/{endpoint_id}/tasks", json=house.sent("SubmitTaskRequest"))
    params = {"status": "SUCCESS", "pageNumber": sample["page"], "pageSize": sample["size"]}
    shown = until(
        lambda: house.api.call("GET", f"/{endpoint_id}/tasks", params=params),
        lambda answer: answer.data["total"] == 42 and answer.data["items"][0]["deliveryStatus"] == "SUCCESS",
    )
    assert len(shown.data["items"]) == sample["size"]
    shown.data["items"] = shown.data["items"][: len(sample["items"])]
    assert _form(shown.data) == _form(sample)


def test_the_documented_count_is_shown_as_documented(house: House) -> None:
    sample = SAMPLES["TaskCountEnvelope"]
    endpoint_id = house.api.create()
    for _ in range(sample["data"]["processing"]):
        house.api.submit(endpoint_id)
    assert json.loads(house.api.call("GET", f"/{endpoint_id}/tasks/count").text) == sample


def test_the_documented_log_page_is_shown_as_documented(house: House) -> None:
    endpoint_id = house.api.create(workers=1)
    worker = until(lambda: house.api.data("GET", f"/{endpoint_id}/workers"), lambda found: len(found) == 1)[0]
    house.api.ended(endpoint_id, house.api.submit(endpoint_id, input={"simulate": {"log": LOG_LINE}}))
    house.api.ended(endpoint_id, house.api.submit(endpoint_id))
    path = f"/{endpoint_id}/workers/{worker['id']}/logs"
    params = {"pageSize": 1000, "keyword": LOG_LINE}
    found = until(lambda: house.api.data("GET", path, params=params), lambda page: page["logs"])["logs"][0]
    # One line a page, so that there is more; the token of the page before leads to this one.
    params = {"pageSize": 1, "startTime": found["timestamp"]}
    page = until(
        lambda: house.api.data("GET", path, params=params), lambda page: page["hasMore"] and page["logs"] == [found]
    )
    sample = SAMPLES["LogPageEnvelope"]["data"]
    assert set(page) == set(sample)
    assert set(found) == set(sample["logs"][0])
    assert found["log"] == LOG_LINE
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["timestamp"])
    assert page["nextSearchAfterTime"].isdigit()
    assert page["nextSearchAfterOffset"].isdigit()
