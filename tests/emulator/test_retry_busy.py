"""`--retry-busy`: a worker that says it is busy is asked again."""

from email.utils import formatdate
from pathlib import Path

import pytest

from tests.emulator.harness import START_MS, Bench, settle
from yottabench.emulator.dispatch import BUSY_STATUSES, BUSY_WAIT_MAX_MS, asked_wait_ms
from yottabench.emulator.http1 import Answer


@pytest.mark.anyio
@pytest.mark.parametrize("status", sorted(BUSY_STATUSES))
async def test_a_busy_worker_is_asked_again_only_when_that_is_set(tmp_path: Path, status: int) -> None:
    async with Bench(tmp_path / "set", retry_busy=True) as bench:
        endpoint = await bench.endpoint()
        task_id = await bench.submit(endpoint)
        for attempt in (1, 2):
            (call,) = bench.driver.calls
            assert call.attempt == attempt
            if attempt == 1:
                call.reply(status, b"busy")
                await settle()
                assert (await bench.task(endpoint, task_id))["status"] == "PROCESSING"
                await bench.clock.advance(1)
            else:
                call.ok()
                await settle()
        assert (await bench.task(endpoint, task_id))["status"] == "SUCCESS"
    async with Bench(tmp_path / "unset") as bench:
        endpoint = await bench.endpoint()
        task_id = await bench.submit(endpoint)
        bench.driver.calls[0].reply(status, b"busy")
        await settle()
        assert (await bench.task(endpoint, task_id))["error"] == f"HTTP {status}: busy"


@pytest.mark.anyio
async def test_a_worker_that_is_always_busy_uses_up_the_attempts(tmp_path: Path) -> None:
    async with Bench(tmp_path, retry_busy=True, max_attempts=2) as bench:
        endpoint = await bench.endpoint()
        task_id = await bench.submit(endpoint)
        for _ in range(2):
            bench.driver.calls[0].reply(503)
            await settle()
            await bench.clock.advance(60)
        task = await bench.task(endpoint, task_id)
        assert task["status"] == "FAILED"
        assert "HTTP 503" in task["error"]


@pytest.mark.parametrize(
    ("text", "wait_ms"),
    [
        (b"0", 0),
        (b"7", 7_000),
        (b"999999999", BUSY_WAIT_MAX_MS),
        (formatdate(START_MS / 1000 + 30, usegmt=True).encode(), 30_000),
        (formatdate(START_MS / 1000 - 30, usegmt=True).encode(), 0),
        (b"soon", 0),
        (b"-5", 0),
        (b"", 0),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(text: bytes, wait_ms: int) -> None:
    assert asked_wait_ms(Answer(503, [(b"Retry-After", text)], b""), START_MS) == wait_ms
    assert asked_wait_ms(Answer(503, [], b""), START_MS) == 0
