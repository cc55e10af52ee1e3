"""The vendor's own Python SDK, a client nobody here wrote, against the emulator."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from yottaml.elastic import ElasticApi
from yottaml.error import ClientError
from yottaml.lib.enums import ElasticDeploymentStatusEnum, TaskStatus
from yottaml.skywalker import SkywalkerTaskApi

from tests.conformance.live import RESOURCES, until
from tests.conformance.process import emulator
from tests.conformance.receiver import Receiver, receiver

MEANINGS = ("webhook", "worker", "sample")
# The quickstart's figures are 2 s and 300 s.
POLL_S = 0.02
POLLS_MAX = 1000


@attrs.frozen
class Sdk:
    """Both halves of the SDK, for one server."""

    endpoints: ElasticApi
    tasks: SkywalkerTaskApi

    def create(self, **more: Any) -> str:
        """A running QUEUE endpoint's id."""
        sent = {
            "name": "sdk",
            "image": "sim/echo",
            "resources": RESOURCES,
            "workers": 1,
            "service_mode": "QUEUE",
            "container_volume_in_gb": 20,
            **more,
        }
        endpoint_id = self.endpoints.create_deployment(**sent)["data"]["id"]
        self.shows(endpoint_id, "RUNNING")
        return endpoint_id

    def shows(self, endpoint_id: str, status: str) -> dict[str, Any]:
        """The endpoint once it has this status."""
        return until(
            lambda: self.endpoints.get_deployment_detail(endpoint_id)["data"], lambda found: found["status"] == status
        )

    def submit(self, endpoint_id: str, **more: Any) -> str:
        """A task's id."""
        sent = {"worker_port": 8000, "process_uri": "run", "input": {"prompt": "hello"}, **more}
        return self.tasks.create_task(endpoint_id=endpoint_id, **sent)["data"]["taskId"]

    def task(self, endpoint_id: str, task_id: str) -> dict[str, Any]:
        """A task's `data`."""
        return self.tasks.get_task(endpoint_id=endpoint_id, task_id=task_id)["data"]

    def acknowledged(self, endpoint_id: str, task_id: str) -> dict[str, Any]:
        """A task once its webhook was acknowledged."""
        return until(lambda: self.task(endpoint_id, task_id), lambda task: task["deliveryStatus"] == "SUCCESS")


@contextlib.contextmanager
def sdk_for(*options: str) -> Iterator[Sdk]:
    """The SDK on an emulator of its own."""
    with emulator("--webhook-retry", "0.05,0.05,0.05", "--max-attempts", "2", *options) as url:
        sdk = Sdk(ElasticApi("sdk", base_url=url), SkywalkerTaskApi("sdk", base_url=url))
        with sdk.endpoints.session, sdk.tasks.session:
            yield sdk


@pytest.fixture(scope="module")
def sdks() -> Iterator[Callable[[str], Sdk]]:
    """The SDK on an emulator with each meaning of DELIVERED, started when it is first asked for."""
    made: dict[str, Sdk] = {}
    with contextlib.ExitStack() as stack:

        def of(meaning: str) -> Sdk:
            if meaning not in made:
                made[meaning] = stack.enter_context(sdk_for("--delivered-status", meaning))
            return made[meaning]

        yield of


@pytest.fixture
def sdk(sdks: Callable[[str], Sdk]) -> Sdk:
    return sdks("webhook")


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as listening:
        yield listening


# ---- endpoints


def test_the_sdk_leads_an_endpoint_through_its_life(sdk: Sdk) -> None:
    endpoint_id = sdk.create(
        image_registry="https://index.docker.io/v1",
        environment_vars=[{"key": "MODEL", "value": "x"}],
        expose={"port": 8000, "protocol": "HTTP"},
        initialization_command="true",
        min_single_card_vram_in_gb=24,
        credential_id=361530338086227968,
        workers=1,
    )
    listed = sdk.endpoints.get_deployments([ElasticDeploymentStatusEnum.RUNNING, "stopped"])["data"]
    assert endpoint_id in {one["id"] for one in listed}
    assert sdk.endpoints.scale_workers(endpoint_id, 2)["data"] is True
    workers = until(lambda: sdk.endpoints.get_workers(endpoint_id, ["running"])["data"], lambda found: len(found) == 2)
    assert len({worker["id"] for worker in workers}) == 2

    changed = sdk.endpoints.update_deployment(endpoint_id, "changed", RESOURCES, 1, 30, environment_vars=None)["data"]
    assert (changed["name"], changed["containerVolumeInGb"], changed["environmentVars"]) == ("changed", 30, [])
    assert sdk.endpoints.stop_deployment(endpoint_id)["code"] == 10000
    sdk.shows(endpoint_id, "STOPPED")
    assert sdk.endpoints.start_deployment(endpoint_id)["code"] == 10000
    sdk.shows(endpoint_id, "RUNNING")
    assert sdk.endpoints.delete_deployment(endpoint_id)["code"] == 10000
    with pytest.raises(ClientError) as caught:
        sdk.endpoints.get_deployment_detail(endpoint_id)
    assert (caught.value.status_code, caught.value.error_code) == (404, 14000)


def test_an_endpoint_scaled_to_none_by_the_sdk_only_collects(sdk: Sdk) -> None:
    endpoint_id = sdk.create()
    sdk.endpoints.scale_workers(endpoint_id, 0)
    until(lambda: sdk.endpoints.get_workers(endpoint_id)["data"], lambda found: found == [])
    sdk.submit(endpoint_id)
    assert sdk.tasks.get_processing_count(endpoint_id=endpoint_id)["data"] == {"processing": 1}


# ---- tasks


def test_the_sdk_submits_gets_lists_and_counts_tasks(sdk: Sdk) -> None:
    endpoint_id = sdk.create()
    ids = [sdk.submit(endpoint_id, task_id=f"t_{number}", headers={"X-A": "b"}) for number in range(3)]
    ids.append(sdk.submit(int(endpoint_id), input=[1]))
    for task_id in ids:
        assert quickstart(sdk, endpoint_id, task_id) == "SUCCESS"
    task = sdk.task(endpoint_id, "t_0")
    assert (task["input"], task["output"], task["headers"]) == ({"prompt": "hello"}, {"prompt": "hello"}, {"X-A": "b"})
    pages = [
        sdk.tasks.list_tasks(endpoint_id=endpoint_id, status=TaskStatus.SUCCESS, page=number, page_size=3)["data"]
        for number in (1, 2)
    ]
    assert [task["taskId"] for page in pages for task in page["items"]] == ids[::-1]
    assert [(page["total"], page["pages"]) for page in pages] == [(4, 2), (4, 2)]
    assert sdk.tasks.get_processing_count(endpoint_id=endpoint_id)["data"] == {"processing": 0}
    # To the SDK the count is a task with that name: both are one path.
    assert sdk.task(endpoint_id, "count") == {"processing": 0}


def test_what_the_sdk_lets_through_and_the_rule_does_not_is_refused_by_the_server(sdk: Sdk) -> None:
    endpoint_id = sdk.create()
    for sent in ({"task_id": "abc\n"}, {"task_id": "count"}, {"process_uri": "/a/../b"}, {"webhook": "http://u@h/"}):
        with pytest.raises(ClientError) as caught:
            sdk.submit(endpoint_id, **sent)
        assert (caught.value.status_code, caught.value.error_code) == (400, 10001), sent


def test_an_error_in_a_200_does_not_raise_in_the_sdk_and_is_there_to_be_read() -> None:
    with sdk_for("--error-style", "envelope200") as sdk:
        answer = sdk.endpoints.get_deployment_detail(1)
    assert (answer["code"], answer["data"]) == (14000, None)


# ---- webhooks


def test_every_webhook_passes_the_check_of_the_sdk(sdk: Sdk, hook: Receiver) -> None:
    endpoint_id = sdk.create()
    for simulate, success in (({}, True), ({"status": 500}, False), ({"close": True, "status": 200}, False)):
        sent = {"prompt": "x", "simulate": simulate} if simulate else {"prompt": "x"}
        hook.answers.put(503)
        task_id = sdk.submit(endpoint_id, input=sent, webhook=hook.url, webhook_auth_key="k e y")
        for attempt in (1, 2):
            delivery = hook.take()
            sdk.tasks.validate_notify_payload(delivery.payload)
            shown = {name: delivery.payload[name] for name in ("user_task_id", "endpoint_id", "success", "retry_count")}
            assert shown == {
                "user_task_id": task_id,
                "endpoint_id": endpoint_id,
                "success": success,
                "retry_count": attempt,
            }
            assert delivery.headers["x-api-key"] == "k e y"
            assert ("result" in delivery.payload) == success
            assert ("failed_reason" in delivery.payload) == (not success)
        assert sdk.acknowledged(endpoint_id, task_id)["deliveryAttempts"] == 2


# ---- the loop of the public quickstart: poll until the status is SUCCESS or FAILED, and nothing else ends it


def quickstart(sdk: Sdk, endpoint_id: str, task_id: str, polls_max: int = POLLS_MAX) -> str | None:
    """The status that ended the loop; None when it did not end."""
    for _ in range(polls_max):
        status = sdk.task(endpoint_id, task_id)["status"]
        if status in {"SUCCESS", "FAILED"}:
            return status
        time.sleep(POLL_S)
    return None


@pytest.mark.parametrize("meaning", MEANINGS)
@pytest.mark.parametrize(("status", "ends_as"), [(200, "SUCCESS"), (500, "FAILED")])
def test_the_quickstart_ends_without_a_webhook_whatever_delivered_means(
    sdks: Callable[[str], Sdk], meaning: str, status: int, ends_as: str
) -> None:
    sdk = sdks(meaning)
    endpoint_id = sdk.create()
    task_id = sdk.submit(endpoint_id, input={"simulate": {"status": status, "service_ms": 60}})
    assert quickstart(sdk, endpoint_id, task_id) == ends_as


@pytest.mark.parametrize("meaning", MEANINGS)
def test_the_quickstart_ends_for_a_failed_task_with_a_webhook(
    sdks: Callable[[str], Sdk], hook: Receiver, meaning: str
) -> None:
    sdk = sdks(meaning)
    endpoint_id = sdk.create()
    task_id = sdk.submit(endpoint_id, input={"simulate": {"status": 500}}, webhook=hook.url)
    hook.take()
    assert quickstart(sdk, endpoint_id, task_id) == "FAILED"


def _delivered(sdk: Sdk, hook: Receiver) -> tuple[str, str]:
    endpoint_id = sdk.create()
    task_id = sdk.submit(endpoint_id, webhook=hook.url)
    hook.take()
    sdk.acknowledged(endpoint_id, task_id)
    return endpoint_id, task_id


def test_the_quickstart_does_not_end_once_a_result_is_delivered_as_the_documentation_has_it(
    sdk: Sdk, hook: Receiver
) -> None:
    endpoint_id, task_id = _delivered(sdk, hook)
    assert quickstart(sdk, endpoint_id, task_id, polls_max=25) is None
    assert sdk.task(endpoint_id, task_id)["status"] == "DELIVERED"


@pytest.mark.parametrize("meaning", ["worker", "sample"])
def test_the_setting_delivered_status_makes_the_quickstart_end(
    sdks: Callable[[str], Sdk], hook: Receiver, meaning: str
) -> None:
    endpoint_id, task_id = _delivered(sdks(meaning), hook)
    assert quickstart(sdks(meaning), endpoint_id, task_id) == "SUCCESS"


def test_a_task_that_a_worker_has_shows_delivered_when_the_setting_says_worker(sdks: Callable[[str], Sdk]) -> None:
    sdk = sdks("worker")
    endpoint_id = sdk.create()
    task_id = sdk.submit(endpoint_id, input={"simulate": {"service_ms": 300}})
    until(lambda: sdk.task(endpoint_id, task_id), lambda task: task["status"] == "DELIVERED")
    assert quickstart(sdk, endpoint_id, task_id) == "SUCCESS"
