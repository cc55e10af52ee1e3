"""Locust's user: a share of the rate at which tasks come; the engine of its process does the work."""

from typing import Any, ClassVar

from gevent.event import Event
from locust import User, task

from yottabench.load.target import LOCAL_HOST


class QueueUser(User):
    """Stands for `--tasks-per-user` tasks per second, in an open loop: tasks come whether or not earlier ones ended.

    With a profile (`--load-profile`) its schedule sets the rate instead, and one user in all is enough.
    """

    host: str | None = LOCAL_HOST
    on_count: ClassVar[list[Any]] = []

    def on_start(self) -> None:
        """Adds this user's share to the rate."""
        for listener in self.on_count:
            listener(1)

    def on_stop(self) -> None:
        """Takes it away again."""
        for listener in self.on_count:
            listener(-1)

    @task
    def stand_by(self) -> None:
        """Waits until Locust stops the user: pacing is the engine's work, so that no user waits for another's task."""
        Event().wait()
