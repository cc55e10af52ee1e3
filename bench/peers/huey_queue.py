"""Huey on Redis: 16 threads, as its documentation advises for tasks that wait."""

from huey import RedisHuey

from bench.peers.work import BODY, REDIS, call

huey = RedisHuey("bench", url=REDIS, results=False)
WORKER = ["huey_consumer", "bench.peers.huey_queue.huey", "-w", "16", "-k", "thread"]


@huey.task()
def infer(body):
    call(body)


def fill(count):
    for _ in range(count):
        infer(BODY)
