"""arq on Redis: one process, 100 tasks at a time (its default is 10)."""

from arq import create_pool
from arq.connections import RedisSettings

from bench.peers.work import BODY, REDIS, call_async, one_by_one

WORKER = ["arq", "bench.peers.arq_queue.WorkerSettings"]


async def infer(ctx, body):
    await call_async(body)


class WorkerSettings:
    """What arq's command reads."""

    functions = [infer]  # noqa: RUF012 -- as its documentation has it
    redis_settings = RedisSettings.from_dsn(REDIS or "redis://127.0.0.1")
    max_jobs = 100
    keep_result = 0


async def fill(count):
    pool = await create_pool(WorkerSettings.redis_settings)
    for _ in range(count):
        await pool.enqueue_job("infer", BODY)
    await pool.aclose()


async def submit(count):
    pool = await create_pool(WorkerSettings.redis_settings)
    await one_by_one(count, lambda: pool.enqueue_job("infer", BODY))
    await pool.aclose()
