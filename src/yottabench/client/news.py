"""News of tasks that comes in by itself, as a webhook receiver brings it, for those who wait."""

from collections import deque
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Protocol

from yottabench.client.bell import Bell
from yottabench.client.requests import Id


class Heard:
    """The ids of tasks that are said to have ended; may be told from any thread."""

    def __init__(self, wanted: Iterable[str] = ()) -> None:
        self.bell = Bell()
        self._wanted = set(wanted)
        self._ids: deque[str] = deque()

    def also(self, task_id: str) -> None:
        """Listen for one more task."""
        self._wanted.add(task_id)

    def no_more(self, task_id: str) -> None:
        """Listen for this task no more."""
        self._wanted.discard(task_id)

    def task_ended(self, task_id: str) -> None:
        """A task is said to have ended; whether it did, the API is asked."""
        if task_id in self._wanted:
            self._ids.append(task_id)
            self.bell.ring()

    @property
    def any(self) -> bool:
        """Whether there is something to take."""
        return bool(self._ids)

    def take(self) -> list[str]:
        """The ids since the last time, each once."""
        return list(dict.fromkeys(self._ids.popleft() for _ in range(len(self._ids))))


class TaskNews(Protocol):
    """Where news comes in; webhooks.Receiver is one."""

    def listen(self, endpoint_id: str, heard: Heard) -> None:
        """Call `heard.task_ended` with the id of each task of the endpoint whose end becomes known."""
        ...

    def forget(self, endpoint_id: str, heard: Heard) -> None:
        """Stop calling it."""
        ...


@contextmanager
def listening(news: TaskNews | None, endpoint_id: Id, task_ids: Iterable[str] = ()) -> Generator[Heard | None]:
    """What is heard of these tasks as long as the block runs; None when there is nobody to hear it from."""
    if news is None:
        yield None
        return
    heard = Heard(task_ids)
    news.listen(str(endpoint_id), heard)
    try:
        yield heard
    finally:
        news.forget(str(endpoint_id), heard)
