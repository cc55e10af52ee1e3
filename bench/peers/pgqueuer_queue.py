"""PgQueuer on PostgreSQL through asyncpg, 100 tasks a batch; run as a program, for its command breaks in 1.6.0."""

import asyncio
import json

import asyncpg
from pgqueuer import PgQueuer, Queries
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver

from bench.peers.work import BODY, POSTGRES, call_async, one_by_one

SCHEMA = ["pgq", "--pg-dsn", POSTGRES, "install"]
WORKER = ["python", "-m", "bench.peers.pgqueuer_queue"]


async def work():
    queuer = PgQueuer(AsyncpgDriver(await asyncpg.connect(POSTGRES)))

    @queuer.entrypoint("infer")
    async def infer(job):
        await call_async(json.loads(job.payload))

    await queuer.run(batch_size=100)


async def fill(count):
    queries = Queries(AsyncpgDriver(await asyncpg.connect(POSTGRES)))
    payload = json.dumps(BODY).encode()
    await queries.enqueue(["infer"] * count, [payload] * count, [0] * count)


async def submit(count):
    async with asyncpg.create_pool(POSTGRES) as pool:
        queries = Queries(AsyncpgPoolDriver(pool))
        payload = json.dumps(BODY).encode()
        await one_by_one(count, lambda: queries.enqueue("infer", payload))


if __name__ == "__main__":
    asyncio.run(work())
