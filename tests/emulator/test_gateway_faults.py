"""Rules of faults for what the gateway takes."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.emulator.harness import Bench
from tests.emulator.test_gateway import OK, Alb, Client, answering

pytestmark = pytest.mark.anyio


@pytest.fixture
async def alb(bench: Bench) -> AsyncIterator[Alb]:
    made = Alb(bench)
    yield made
    await made.close()


async def plant(alb: Alb, kind: str, **fields: Any) -> str:
    rule = {"kind": kind, "operation": "gateway", **fields}
    reply = await alb.bench.call("POST", "/_emulator/faults", rule, key="me")
    assert reply.code == 10000, reply.body
    return reply.data["id"]


class Resettable(Client):
    """A client whose connection can be seen to be reset."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.reset = False
        self.scope["extensions"] = {"yottabench.connection": {"reset": self._be_reset}}

    def _be_reset(self) -> None:
        self.reset = True
        self.disconnect()


def resettable(alb: Alb) -> Resettable:
    return Resettable(alb.bench, "GET", f"/_gateway/{alb.id}/x")


async def test_a_gateway_request_fails_as_a_rule_says_and_the_worker_does_not_see_it(alb: Alb) -> None:
    await alb.open(answering(OK))
    await plant(alb, "error", status=429, retryAfterS=7, count=1)
    client = await alb.client().ends()
    assert (client.status, client.code, client.headers["retry-after"]) == (429, 429, "7")
    assert alb.served[0].connections == []
    assert (await alb.client().ends()).body == b"ok"


@pytest.mark.parametrize("takes_effect", [True, False])
@pytest.mark.parametrize("kind", ["reset", "garbage"])
async def test_an_answer_of_a_worker_can_be_lost_or_spoilt(alb: Alb, kind: str, takes_effect: bool) -> None:
    await alb.open(answering(OK))
    await plant(alb, kind, takesEffect=takes_effect, count=1)
    client = await resettable(alb).ends()
    assert len(alb.served[0].connections) == takes_effect
    if kind == "reset":
        assert (client.reset, client.events) == (True, [])
    else:
        assert client.status == 200
        assert b"ok" != client.body != b""
        with pytest.raises((UnicodeDecodeError, json.JSONDecodeError)):
            json.loads(client.body)
    assert alb.in_hand == [0]


async def test_a_rule_for_all_operations_or_for_another_endpoint_is_told_apart(alb: Alb) -> None:
    await alb.open(answering(OK, OK))
    await plant(alb, "error", operation="*", endpoint="1")
    assert (await alb.client().ends()).status == 200
    await plant(alb, "error", operation="submitTask")
    assert (await alb.client().ends()).status == 200
    await plant(alb, "error", operation="*", status=503)
    assert (await alb.client().ends()).status == 503


async def test_latency_is_waited_for_on_the_clock(alb: Alb) -> None:
    await alb.open(answering(OK))
    await plant(alb, "latency", latencyMs=5000, endpoint=alb.id)
    async with alb.client() as client:
        await alb.bench.clock.advance(4)
        assert client.events == []
        await alb.bench.clock.advance(1)
        await client.has(b"ok")
