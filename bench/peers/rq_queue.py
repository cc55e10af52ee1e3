"""RQ: a pool of two workers, each of which forks for every task, which is its default."""

from redis import Redis
from rq import Queue

from bench.peers.work import BODY, REDIS, call

WORKER = ["rq", "worker-pool", "bench", "--num-workers", "2", "--url", REDIS, "--quiet"]


def infer(body):
    call(body)


def fill(count):
    queue = Queue("bench", connection=Redis.from_url(REDIS))
    for _ in range(count):
        queue.enqueue(infer, BODY, result_ttl=0)
