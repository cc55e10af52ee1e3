"""SAQ on Redis: two processes with 10 tasks each, its default."""

from saq import Queue

from bench.peers.work import BODY, REDIS, call_async, one_by_one

queue = Queue.from_url(REDIS)
WORKER = ["saq", "bench.peers.saq_queue.settings", "--workers", "2"]


async def infer(ctx, *, body):
    await call_async(body)


settings = {"queue": queue, "functions": [infer], "concurrency": 10}


async def fill(count):
    await queue.connect()
    for _ in range(count):
        await queue.enqueue("infer", body=BODY)
    await queue.disconnect()


async def submit(count):
    await queue.connect()
    await one_by_one(count, lambda: queue.enqueue("infer", body=BODY))
    await queue.disconnect()
