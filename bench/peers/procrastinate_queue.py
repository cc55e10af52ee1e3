"""Procrastinate on PostgreSQL: one process, 16 tasks at a time (its documentation's advice for tasks that wait)."""

import procrastinate

from bench.peers.work import BODY, POSTGRES, call_async, one_by_one

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=POSTGRES))
SCHEMA = ["procrastinate", "--app=bench.peers.procrastinate_queue.app", "schema", "--apply"]
WORKER = ["procrastinate", "--app=bench.peers.procrastinate_queue.app", "worker", "--concurrency", "16"]


@app.task(name="infer")
async def infer(body):
    await call_async(body)


async def fill(count):
    async with app.open_async():
        await infer.batch_defer_async(*[{"body": BODY} for _ in range(count)])


async def submit(count):
    async with app.open_async():
        await one_by_one(count, lambda: infer.defer_async(body=BODY))
