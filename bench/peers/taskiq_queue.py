"""Taskiq on a Redis stream (its documentation's choice where no task may be lost), two processes, 100 tasks each."""

from taskiq_redis import RedisStreamBroker

from bench.peers.work import BODY, REDIS, call_async, one_by_one

broker = RedisStreamBroker(url=REDIS)
WORKER = ["taskiq", "worker", "bench.peers.taskiq_queue:broker", "--workers", "2"]


@broker.task
async def infer(body):
    await call_async(body)


async def fill(count):
    await broker.startup()
    for _ in range(count):
        await infer.kiq(BODY)
    await broker.shutdown()


async def submit(count):
    await broker.startup()
    await one_by_one(count, lambda: infer.kiq(BODY))
    await broker.shutdown()
