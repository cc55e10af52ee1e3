"""PgQueuer on PostgreSQL through asyncpg, as its quick start has it."""

import json

import asyncpg
from pgqueuer import PgQueuer, Queries
from pgqueuer.db import AsyncpgDriver

from bench.peers.work import BODY, POSTGRES, call_async

SCHEMA = ["pgq", "install", "--pg-dsn", POSTGRES]
WORKER = ["pgq", "run", "bench.peers.pgqueuer_queue:main", "--batch-size", "100"]


async def main():
    queuer = PgQueuer(AsyncpgDriver(await asyncpg.connect(POSTGRES)))

    @queuer.entrypoint("infer")
    async def infer(job):
        await call_async(json.loads(job.payload))

    return queuer


async def fill(count):
    queries = Queries(AsyncpgDriver(await asyncpg.connect(POSTGRES)))
    payload = json.dumps(BODY).encode()
    await queries.enqueue(["infer"] * count, [payload] * count, [0] * count)
