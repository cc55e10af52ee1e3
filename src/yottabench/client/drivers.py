"""Carries out plans on the calling thread."""

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, TypeVar, cast

from yottabench.client.driving import keep, moved_on, noted, outcome_of
from yottabench.client.envelope import opened, translated
from yottabench.client.errors import YottaError
from yottabench.client.plans import AtOnce, Effect, Pause, Plan, Try, log
from yottabench.client.transport import Channel, HttpClient, Target

R = TypeVar("R")
THREADS_AT_ONCE = 16


class Stopped(BaseException):
    """Ends a plan whose result nobody wants any more."""


class SyncDriver:
    """Carries out plans on the calling thread."""

    def __init__(self, http: HttpClient, target: Target, sleep: Callable[[float], None]) -> None:
        self._http = http
        self._target = target
        self.sleep = sleep

    def run(self, plan: Plan[R], stop: threading.Event | None = None) -> R:
        """The result of a plan. Raises the YottaError that it ends in; Stopped once `stop` is set."""
        outcome: Any = None
        try:
            while True:
                effect = moved_on(plan, outcome)
                if stop is not None and stop.is_set():
                    raise Stopped
                outcome = self._perform(effect, stop)
        except StopIteration as end:
            return end.value
        finally:
            plan.close()

    def _perform(self, effect: Effect, stop: threading.Event | None) -> Any:
        match effect:
            case Try():
                return self._try(effect)
            case Pause():
                if effect.bell is not None:
                    effect.bell.wait(effect.seconds)
                elif stop is not None:
                    stop.wait(effect.seconds)
                else:
                    self.sleep(effect.seconds)
                return None
            case AtOnce():
                return self._at_once(effect, stop)

    def _try(self, effect: Try[Any]) -> Any:
        request = effect.request
        channel = Channel(self._http, self._target, effect.timeout_s)
        try:
            with translated(request, self._target.api_key):
                answer = request.send_now(client=cast("Any", channel))
            data = opened(request, answer, self._target.api_key)
        except YottaError as error:
            return noted(error)
        finally:
            keep(channel.answer)
        log.debug("%s: HTTP %d", request.operation, answer.status_code)
        return data

    def _at_once(self, effect: AtOnce, stop: threading.Event | None) -> list[Any]:
        import concurrent.futures

        threads = min(THREADS_AT_ONCE, len(effect.plans))
        with concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="yottabench") as pool:
            futures = [pool.submit(copy_context().run, self.run, plan, stop) for plan in effect.plans]
        return [outcome_of(future) for future in futures]
