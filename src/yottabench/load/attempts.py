"""The server's own record of attempts, where the target is an emulator: for workers whose logs tell of nothing."""

from collections.abc import Iterable, Iterator
from typing import Any

import httpx

from yottabench.load.audit import Execution

MOST_ASKED = 20_000  # a request for each task: beyond that the asking would take longer than most runs


class NoRecord(Exception):
    """The target keeps no record that can be asked; the text says what was found instead."""


def recorded_attempts(host: str, api_key: str, endpoint_id: str, task_ids: Iterable[str]) -> Iterator[Execution]:
    """The ended attempts of each of the first MOST_ASKED tasks; times are the server's. Raises NoRecord."""
    with httpx.Client(base_url=host, headers={"X-Api-Key": api_key}, timeout=10.0) as http:
        try:
            live = http.get("/_emulator/live")
            if live.status_code != 200:
                raise NoRecord(f"it answers {live.status_code} when asked for one")
            for number, task_id in enumerate(task_ids):
                if number == MOST_ASKED:
                    return
                answer = http.get(f"/_emulator/tasks/{endpoint_id}/{task_id}/attempts")
                if answer.status_code == 200:
                    yield from _executions(task_id, answer.json()["data"]["attempts"])
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise NoRecord(f"asking for one failed: {type(error).__name__}") from error


def _executions(task_id: str, attempts: list[dict[str, Any]]) -> Iterator[Execution]:
    for attempt in attempts:
        if attempt["endedMs"] is not None:
            yield Execution(task_id, int(attempt["attempt"]), int(attempt["leasedMs"]), int(attempt["endedMs"]))
