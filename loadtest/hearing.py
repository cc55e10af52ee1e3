"""Reads the webhook receiver's receipts while they are written, and tells the watch of this process's tasks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import orjson

from loadtest.wire import Seen
from yottabench.load.journal import seq_of

# The receiver stamps each receipt itself, so this delays nothing that is measured; it bounds how long a flight stays.
READ_EVERY_S = 0.05


class Hearing:
    """Follows the file of receipts from its start, until `close`."""

    def __init__(
        self,
        path: Path,
        prefix: str,
        mine: Callable[[int], bool],
        start_epoch_s: float,
        on_news: Callable[[Seen, float, bool], None],
    ) -> None:
        self._path = path
        self._prefix = prefix
        self._mine = mine
        self._start_epoch_s = start_epoch_s
        self._on_news = on_news
        self._read_to = 0
        self._greenlet: gevent.Greenlet[..., None] = gevent.spawn(self._follow)

    def close(self) -> None:
        """Stops reading."""
        self._greenlet.kill()

    def _follow(self) -> None:
        while True:
            gevent.sleep(READ_EVERY_S)
            if not self._path.exists():
                continue
            with self._path.open("rb") as file:
                file.seek(self._read_to)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._read_to += len(whole)
            for raw in whole.splitlines():
                self._tell(orjson.loads(raw))

    def _tell(self, line: dict[str, Any]) -> None:
        task_id = line.get("id")
        seq = None if task_id is None else seq_of(self._prefix, task_id)
        if task_id is None or seq is None or not self._mine(seq):
            return
        seen = Seen(task_id, "SUCCESS" if line["ok"] else "FAILED", True, 0, 0, line.get("mark"))
        self._on_news(seen, line["at"] - self._start_epoch_s, line["send"] == 1)
