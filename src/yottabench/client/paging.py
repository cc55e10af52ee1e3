"""Reads lists and logs to their end: no item twice, none missed, while new ones arrive and old ones change."""

from collections.abc import Mapping
from typing import Any

from yottabench.client.errors import InvalidArgument
from yottabench.client.models import LogDirection, LogEntry, LogPage, TaskPage, TaskStatus, TaskSummary
from yottabench.client.operations import Operations
from yottabench.client.plans import Plan, Rules, call, pause
from yottabench.client.requests import Id
from yottabench.client.waiting import Cadence, checked_times

PAGE_MAX = 100
REMEMBERED = 20_000  # ids of tasks already given: as many may arrive between two pages without one being given twice
SAME_LINES = 10_000  # lines of the last moment already given, for servers that give no token at the end of a log


class TaskPager:
    """Gives all tasks that are in the list from the beginning to the end of the reading, each once.

    Pages are cut from the newest: what arrives pushes the rest down, what leaves (a filter's tasks change status)
    pulls it up. So every page is asked for such that it begins with a task already given; where none of them is there,
    an earlier page is read. Page sizes vary a little, because only so can a page begin one task back.
    """

    def __init__(
        self,
        rules: Rules,
        operations: Operations,
        endpoint_id: Id,
        *,
        status: TaskStatus | str | None,
        page_size: int = PAGE_MAX,
    ) -> None:
        self._rules = rules
        self._operations = operations
        self._endpoint_id = endpoint_id
        self._status = status
        self._page_size = page_size
        self._given: dict[str, None] = {}
        self._last: TaskSummary | None = None
        self._next_index = 0
        self._overlap = 1
        self._overlaps = True
        self.done = False

    def next_tasks(self) -> Plan[list[TaskSummary]]:
        """The next portion, maybe empty."""
        number, size = self._page_to_ask_for()
        request = self._operations.list_tasks(
            self._endpoint_id, status=self._status, page_number=number, page_size=size
        )
        page = yield from call(self._rules, request, {})
        return self._take(page, number, size)

    def _page_to_ask_for(self) -> tuple[int, int]:
        """The page that begins at or before the wanted task and reaches farthest beyond it."""
        wanted = max(0, self._next_index - self._overlap)
        if wanted == 0:
            return 1, self._page_size
        sizes = range(self._page_size, self._page_size // 2, -1)
        size = max(sizes, key=lambda size: wanted // size * size + size)
        self._overlaps = self._overlap > 1 or wanted // size * size + size > self._next_index
        if not self._overlaps:
            # Every size divides the index. With pages of 100 that index is beyond any list; with tiny ones it is not.
            return self._next_index // self._page_size + 1, self._page_size
        return wanted // size + 1, size

    def _take(self, page: TaskPage, number: int, size: int) -> list[TaskSummary]:
        if 0 < page.size < size:
            # The server gives no pages as large as that.
            self._page_size = size = page.size
        start = (number - 1) * size
        known = [index for index, task in enumerate(page.items) if task.task_id in self._given]
        above = not known and self._is_above(page)
        if self._last is not None and not known and not above and start > 0 and self._overlaps:
            # Tasks above have left the list, how many is not known: some may lie between the last one and this page.
            self._overlap = min(2 * self._overlap + size // 2, self._next_index)
            return []
        self._overlap = 1
        self._next_index = start + len(page.items)
        # A short page ends the list. `total` is not relied on: it may be older than the page.
        self.done = len(page.items) < size
        # What stands above the last one that was given arrived since, and is not part of this reading.
        new = [] if above else page.items[known[-1] + 1 :] if known else page.items
        self._remember(new)
        return new

    def _is_above(self, page: TaskPage) -> bool:
        """Whether a page without any known task lies above the last one, because very many have arrived."""
        return self._last is not None and bool(page.items) and page.items[-1].created_at > self._last.created_at

    def _remember(self, tasks: list[TaskSummary]) -> None:
        if tasks:
            self._last = tasks[-1]
        self._given.update(dict.fromkeys(task.task_id for task in tasks))
        while len(self._given) > REMEMBERED:
            del self._given[next(iter(self._given))]


class LogReader:
    """Reads a worker's log line by line, by the tokens that the pages give; with `follow` it goes on for ever.

    A server that gives no token at the end of the log is asked from the time of the last line on, and the lines of
    that time are not given again.
    """

    def __init__(
        self,
        rules: Rules,
        operations: Operations,
        endpoint_id: Id,
        worker_id: Id,
        query: Mapping[str, Any],
        *,
        follow: bool,
        poll_s: float,
    ) -> None:
        self._backward = str(query.get("direction")) == LogDirection.BACKWARD
        if follow and self._backward:
            raise InvalidArgument("A log can be followed only forward. Leave direction out, or follow.")
        checked_times(0.0, poll_s)
        self._rules = rules
        self._operations = operations
        self._path = endpoint_id, worker_id
        self._query = dict(query)
        self._follow = follow
        self._poll_s = poll_s
        self._cadence = Cadence(rules, poll_s)
        self._last_lines: dict[tuple[str, int, str], None] = {}
        self._more = True
        self.done = False

    def next_lines(self) -> Plan[list[LogEntry]]:
        """The next portion, maybe empty; with `follow`, after a pause when there was nothing more."""
        if not self._more:
            yield from pause(self._cadence.pause_s())
        request = self._operations.get_worker_logs(*self._path, **self._query)
        page = yield from call(self._rules, request, {})
        lines = [line for line in page.logs if self._is_new(line)]
        moved = self._go_on_after(page)
        # A page that leads nowhere new would be read for ever.
        self._more = page.has_more and (moved or bool(lines))
        if lines:
            self._cadence = Cadence(self._rules, self._poll_s)
        self.done = not self._more and not self._follow
        return lines

    def _is_new(self, line: LogEntry) -> bool:
        key = (line.timestamp, line.offset, line.log)
        if key in self._last_lines:
            return False
        self._last_lines[key] = None
        while len(self._last_lines) > SAME_LINES:
            del self._last_lines[next(iter(self._last_lines))]
        return True

    def _go_on_after(self, page: LogPage) -> bool:
        """Put the next page into the query; gives whether it is another one."""
        before = dict(self._query)
        if page.next_search_after_time is not None and page.next_search_after_offset is not None:
            self._query["search_after_time"] = str(page.next_search_after_time)
            self._query["search_after_offset"] = str(page.next_search_after_offset)
        elif page.logs and not self._backward:
            self._query.pop("search_after_time", None)
            self._query.pop("search_after_offset", None)
            self._query["start_time"] = page.logs[-1].timestamp
        return self._query != before
