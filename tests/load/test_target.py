import pytest

from tests.load import stub_api
from tests.load.stub_api import ENDPOINT_ID, StubApi
from yottabench.load.profile import EndpointSettings, Profile
from yottabench.load.target import LOCAL_KEY, Target, TargetError, api_key_for, is_local


@pytest.mark.parametrize(
    "host", ["http://127.0.0.1:8080", "http://127.9.9.9", "http://localhost:1", "http://[::1]:8080"]
)
def test_loopback_is_local_and_needs_no_key(monkeypatch: pytest.MonkeyPatch, host: str):
    monkeypatch.delenv("YOTTA_API_KEY", raising=False)
    assert is_local(host)
    assert api_key_for(host) == LOCAL_KEY


@pytest.mark.parametrize(
    "host", ["https://api.yottalabs.ai", "http://10.0.0.1", "http://0.0.0.0:8080", "http://localhost.evil.org", "x"]
)
def test_anything_else_needs_a_key(monkeypatch: pytest.MonkeyPatch, host: str):
    monkeypatch.delenv("YOTTA_API_KEY", raising=False)
    assert not is_local(host)
    with pytest.raises(TargetError, match="YOTTA_API_KEY"):
        api_key_for(host)
    monkeypatch.setenv("YOTTA_API_KEY", "from-outside")
    assert api_key_for(host) == "from-outside"


def test_a_target_that_does_not_answer_says_how_to_start_one():
    with Target("http://127.0.0.1:1") as target, pytest.raises(TargetError, match="yottabench serve"):
        target.check()


def test_an_endpoint_is_made_read_and_removed():
    with StubApi() as stub, Target(stub.url) as target:
        target.check()
        made = target.make_endpoint(Profile("p"), "load-1")
        assert (made.endpoint_id, made.made_by_run) == (ENDPOINT_ID, True)
        assert target.use_endpoint(ENDPOINT_ID).made_by_run is False
        for n in range(250):
            stub.keep(f"t_{n}")
        listed = [task.task_id for page, _ in target.pages(ENDPOINT_ID) for task in page]
        assert listed == [f"t_{n}" for n in reversed(range(250))]
        assert len(list(target.executions(ENDPOINT_ID, 250))) == 250
        assert target.task(ENDPOINT_ID, "t_7") is not None
        assert target.task(ENDPOINT_ID, "nobody") is None
        assert target.remove_endpoint(ENDPOINT_ID) is None


def test_a_simulated_image_is_not_asked_of_a_real_service(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("YOTTA_API_KEY", "from-outside")
    with Target("http://10.255.255.1") as target, pytest.raises(TargetError, match="exists only in the emulator"):
        target.make_endpoint(Profile("p"), "load-1")


def test_an_endpoint_that_never_gets_its_workers_is_removed_again():
    with StubApi() as stub, Target(stub.url) as target:
        many = Profile("p", endpoint=EndpointSettings(workers=99, ready_timeout_s=1))
        with pytest.raises(TargetError, match="was not RUNNING with 99 workers after 1 s"):
            target.make_endpoint(many, "load-1")
        assert (stub.made, stub.deleted) == (1, 1)


def test_an_endpoint_in_another_mode_is_refused_with_the_next_step(monkeypatch: pytest.MonkeyPatch):
    queue = stub_api._endpoint
    monkeypatch.setattr(stub_api, "_endpoint", lambda stub: queue(stub) | {"serviceMode": "ALB"})
    with (
        StubApi() as stub,
        Target(stub.url) as target,
        pytest.raises(TargetError, match="is in ALB mode; only QUEUE endpoints take tasks"),
    ):
        target.use_endpoint(ENDPOINT_ID)
