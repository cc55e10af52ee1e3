"""Lines of logs, as they are read, and as they wait to be written."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

PORTION_CHARS = 1024 * 1024  # written in one transaction


@attrs.frozen
class LogEntry:
    """One line; `offset` is unique per worker and rises with every line, and the time never falls."""

    timestamp_ms: int
    line: str
    offset: int


@attrs.frozen
class LogPage:
    """A page of lines in the order of reading.

    `next` is the `after` of the next page. Reading forward it is there even when `has_more` is False, so that a
    follower can come back for what is written later; reading backward it is None at the end.
    """

    entries: list[LogEntry]
    has_more: bool
    next: tuple[int, int] | None


@attrs.define
class Stream:
    """The log of one worker: where it stands, and the lines that wait to be written."""

    key: int
    worker_id: str
    last_ms: int = 0
    last_offset: int = 0
    bytes: int = 0
    dropped: int = 0
    waiting: list[tuple[int, int, str]] = attrs.field(factory=list[tuple[int, int, str]])

    def put(self, now_ms: int, line: str) -> None:
        """Take a line in; its time is held back to that of the line before if the clock was set back."""
        self.last_ms = max(self.last_ms, now_ms)
        self.last_offset += 1
        self.waiting.append((self.last_ms, self.last_offset, line))


Batch = list[tuple[Stream, list[tuple[int, int, str]]]]


def portions(batch: Batch) -> Iterator[Batch]:
    """The same lines in batches of about `PORTION_CHARS`, so that room is made before a flood has taken too much."""
    portion: Batch = []
    size = 0
    for stream, lines in batch:
        first = 0
        for last, (_, _, line) in enumerate(lines, 1):
            size += len(line)
            if size >= PORTION_CHARS:
                yield [*portion, (stream, lines[first:last])]
                portion, size, first = [], 0, last
        if first < len(lines):
            portion.append((stream, lines[first:]))
    if portion:
        yield portion
