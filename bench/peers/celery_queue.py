"""Celery on Redis: one process per core, its default, without results."""

from celery import Celery

from bench.peers.work import BODY, REDIS, call

app = Celery("bench", broker=REDIS)
app.conf.task_ignore_result = True
WORKER = ["celery", "-A", "bench.peers.celery_queue", "worker", "--loglevel", "ERROR"]


@app.task
def infer(body):
    call(body)


def fill(count):
    with app.producer_or_acquire() as producer:
        for _ in range(count):
            infer.apply_async((BODY,), producer=producer)
