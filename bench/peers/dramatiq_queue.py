"""Dramatiq on Redis: as many processes as cores, 8 threads each, which are its defaults."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench.peers.work import BODY, REDIS, call

dramatiq.set_broker(RedisBroker(url=REDIS))
WORKER = ["dramatiq", "bench.peers.dramatiq_queue"]


@dramatiq.actor
def infer(body):
    call(body)


def fill(count):
    for _ in range(count):
        infer.send(BODY)
