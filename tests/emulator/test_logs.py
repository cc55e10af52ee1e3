import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from yottabench.emulator import logs
from yottabench.emulator.logs import InvalidLogQuery, LogPage, LogQuery, LogStore, parse_log_query, parse_time

DAY_MS = 24 * 3600 * 1000


class SetClock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.ms = 1_705_306_215_123

    def __call__(self) -> int:
        return self.ms


def open_store(path: Path, clock: Callable[[], int], *, max_bytes: int = 10**9, in_all: int = 10**10) -> LogStore:
    return LogStore(path, max_bytes_per_worker=max_bytes, max_bytes=in_all, retention_ms=7 * DAY_MS, now_ms=clock)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def store(tmp_path: Path, clock: SetClock) -> Iterator[LogStore]:
    store = open_store(tmp_path / "logs.sqlite", clock)
    yield store
    store.close()


def texts(page: LogPage) -> list[str]:
    return [entry.line for entry in page.entries]


def every_line(store: LogStore, worker_id: str = "w") -> list[str]:
    return texts(store.query(worker_id, LogQuery(page_size=10**6)))


def test_a_query_sees_every_line_appended_before_it(store: LogStore) -> None:
    for number in range(50):
        store.append("w", f"line {number}")
        assert every_line(store)[-1] == f"line {number}"


def test_workers_do_not_see_the_lines_of_others(store: LogStore) -> None:
    store.append("a", "of a")
    store.append("b", "of b")
    assert every_line(store, "a") == ["of a"]
    assert every_line(store, "nobody") == []


def test_offsets_rise_by_line_and_times_never_fall_even_when_the_clock_steps_back(
    store: LogStore, clock: SetClock
) -> None:
    start = clock.ms
    for step in (0, -5000, 3):
        clock.ms = start + step
        store.append("w", "x")
    entries = store.query("w", LogQuery()).entries
    assert [entry.timestamp_ms - start for entry in entries] == [0, 0, 3]
    assert [entry.offset for entry in entries] == [1, 2, 3]


@pytest.mark.parametrize("line", ["", "ünïcode ✓", "tab\tand\0nul", "100%_done", "lone \ud800 surrogate", "a\nb"])
def test_any_text_can_be_a_line(store: LogStore, line: str) -> None:
    store.append("w", line)
    assert every_line(store) == [line.replace("\ud800", "?")]


def test_an_overlong_line_is_cut(store: LogStore) -> None:
    store.append("w", "x" * 1_000_000)
    assert len(every_line(store)[0]) == 32 * 1024


@pytest.mark.parametrize(
    ("keyword", "found"),
    [
        ("err", ["an error"]),
        ("Err", []),
        ("%", ["100% done"]),
        ("_", []),
        ("ü", ["für"]),
        ("\0", []),
        ("\ud800", []),
        ("an error", ["an error"]),
    ],
)
def test_a_keyword_is_a_plain_part_of_the_line(store: LogStore, keyword: str, found: list[str]) -> None:
    for line in ("an error", "100% done", "für"):
        store.append("w", line)
    assert texts(store.query("w", LogQuery(keyword=keyword))) == found


def test_start_and_end_are_inclusive(store: LogStore, clock: SetClock) -> None:
    start = clock.ms
    for step in range(5):
        clock.ms = start + step
        store.append("w", str(step))
    assert texts(store.query("w", LogQuery(start_ms=start + 1, end_ms=start + 3))) == ["1", "2", "3"]
    assert texts(store.query("w", LogQuery(start_ms=start + 3))) == ["3", "4"]
    backward = LogQuery(end_ms=start + 1, backward=True)
    assert texts(store.query("w", backward)) == ["1", "0"]


def test_more_is_said_exactly(store: LogStore) -> None:
    for number in range(4):
        store.append("w", str(number))
    first = store.query("w", LogQuery(page_size=2))
    assert (texts(first), first.has_more) == (["0", "1"], True)
    second = store.query("w", LogQuery(page_size=2, after=first.next))
    assert (texts(second), second.has_more) == (["2", "3"], False)


def test_a_follower_can_come_back_after_the_last_line(store: LogStore) -> None:
    store.append("w", "first")
    token = store.query("w", LogQuery()).next
    empty = store.query("w", LogQuery(after=token))
    assert (texts(empty), empty.has_more, empty.next) == ([], False, token)
    store.append("w", "second")
    assert texts(store.query("w", LogQuery(after=empty.next))) == ["second"]


def test_an_empty_log_has_no_token(store: LogStore) -> None:
    assert store.query("w", LogQuery()).next is None


def test_backward_ends_without_a_token(store: LogStore) -> None:
    for number in range(3):
        store.append("w", str(number))
    first = store.query("w", LogQuery(page_size=2, backward=True))
    assert (texts(first), first.has_more) == (["2", "1"], True)
    last = store.query("w", LogQuery(page_size=2, backward=True, after=first.next))
    assert (texts(last), last.has_more, last.next) == (["0"], False, None)


def test_the_oldest_lines_go_when_a_worker_has_written_too_much(tmp_path: Path, clock: SetClock) -> None:
    store = open_store(tmp_path / "logs.sqlite", clock, max_bytes=10_000)
    store.append("quiet", "kept")
    for number in range(1_000):
        store.append("w", f"{number:0100d}")
        if number % 100 == 0:
            every_line(store)  # so that it is not one batch
    lines = every_line(store)
    assert 60 <= len(lines) <= 10_000 // 124
    assert lines == [f"{number:0100d}" for number in range(1_000 - len(lines), 1_000)]
    assert every_line(store, "quiet") == ["kept"]
    store.close()


def test_all_logs_together_are_bounded_and_the_longest_gives_up_its_oldest_lines(
    tmp_path: Path, clock: SetClock
) -> None:
    path = tmp_path / "logs.sqlite"
    store = open_store(path, clock, in_all=20_000)
    store.append("quiet", "kept")
    for number in range(300):
        for worker in ("loud", "louder", "louder"):
            store.append(worker, f"{number:0100d}")
        if number % 50 == 0:
            every_line(store)  # so that it is not one batch
    logs = {worker: every_line(store, worker) for worker in ("quiet", "loud", "louder")}
    assert logs["quiet"] == ["kept"]
    for worker in ("loud", "louder"):
        assert logs[worker][-1] == f"{299:0100d}"
        assert logs[worker] == sorted(logs[worker])
    assert 15_000 <= sum(124 * len(lines) for lines in logs.values()) <= 20_000 + 124
    store.close()
    store = open_store(path, clock, in_all=5_000)
    store.append("quiet", "more")
    assert every_line(store, "quiet") == ["kept", "more"]
    assert sum(124 * len(every_line(store, worker)) for worker in ("loud", "louder")) <= 5_000
    store.close()


def test_a_line_larger_than_the_whole_log_may_have_leaves_an_empty_log(tmp_path: Path, clock: SetClock) -> None:
    store = open_store(tmp_path / "logs.sqlite", clock, max_bytes=100)
    store.append("w", "x" * 1_000)
    assert every_line(store) == []
    store.append("w", "short")
    assert every_line(store) == ["short"]
    store.close()


def test_purge_removes_what_is_older_than_the_retention_and_says_how_much(store: LogStore, clock: SetClock) -> None:
    start = clock.ms
    for worker_id in ("w", "gone"):
        store.append(worker_id, "old")
    clock.ms = start + 1
    store.append("w", "young")
    assert store.purge(start + 7 * DAY_MS) == 0
    assert store.purge(start + 7 * DAY_MS + 1) == 2
    assert every_line(store) == ["young"]
    assert every_line(store, "gone") == []
    store.append("gone", "back")
    assert every_line(store, "gone") == ["back"]


def test_what_was_purged_no_longer_counts_as_written(tmp_path: Path, clock: SetClock) -> None:
    store = open_store(tmp_path / "logs.sqlite", clock, max_bytes=10_000)
    for _ in range(60):
        store.append("w", "x" * 100)
    clock.ms += 1
    store.append("w", "young")
    assert store.purge(clock.ms + 7 * DAY_MS) == 60
    for _ in range(60):
        store.append("w", "y" * 100)
    assert len(every_line(store)) == 61
    store.close()


def test_purge_gives_the_room_back(tmp_path: Path, clock: SetClock) -> None:
    path = tmp_path / "logs.sqlite"
    store = open_store(path, clock)
    for _ in range(2_000):
        store.append("w", "x" * 500)
    store.close()
    full = path.stat().st_size
    store = open_store(path, clock)
    assert store.purge(clock.ms + 8 * DAY_MS) == 2_000
    store.close()
    assert path.stat().st_size < full / 10


def test_lines_and_offsets_outlive_the_process(tmp_path: Path, clock: SetClock) -> None:
    path = tmp_path / "logs.sqlite"
    store = open_store(path, clock)
    store.append("w", "before")
    token = store.query("w", LogQuery()).next
    store.close()
    clock.ms -= 1_000
    store = open_store(path, clock)
    store.append("w", "after")
    page = store.query("w", LogQuery(after=token))
    assert texts(page) == ["after"]
    assert page.entries[0].offset == 2
    store.close()


def test_what_is_appended_before_close_is_kept_and_what_comes_after_is_ignored(tmp_path: Path, clock: SetClock) -> None:
    path = tmp_path / "logs.sqlite"
    store = open_store(path, clock)
    store.append("w", "kept")
    store.close()
    store.append("w", "late")
    store.close()
    with pytest.raises(RuntimeError, match="closed"):
        store.query("w", LogQuery())
    with pytest.raises(RuntimeError, match="closed"):
        store.purge(0)
    store = open_store(path, clock)
    assert every_line(store) == ["kept"]
    store.close()


def test_a_flood_is_dropped_and_counted_in_one_line(
    tmp_path: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_WAITING_MAX_LINES", 100)
    held, go_on = threading.Event(), threading.Event()
    insert = LogStore._insert

    def held_insert(self: LogStore, batch: list) -> None:
        held.set()
        go_on.wait()
        insert(self, batch)

    monkeypatch.setattr(LogStore, "_insert", held_insert)
    store = open_store(tmp_path / "logs.sqlite", clock)
    store.append("w", "0")
    held.wait()
    for number in range(1, 251):
        store.append("w", str(number))
    go_on.set()
    lines = every_line(store)
    assert lines[:101] == [str(number) for number in range(101)]
    assert lines[101:] == ["[150 lines dropped: written faster than they can be kept]"]
    store.close()


def test_a_failed_write_loses_its_lines_visibly_and_nothing_else(
    tmp_path: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path / "logs.sqlite", clock)
    store.append("w", "before")
    every_line(store)
    insert = LogStore._insert

    def failing_insert(self: LogStore, batch: list) -> None:
        monkeypatch.setattr(LogStore, "_insert", insert)
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(LogStore, "_insert", failing_insert)
    store.append("w", "lost")
    assert every_line(store) == ["before"]
    store.append("w", "after")
    assert every_line(store) == ["before", "after", "[1 lines dropped: written faster than they can be kept]"]
    store.close()


def test_an_unreadable_file_is_put_aside_and_begun_anew(tmp_path: Path, clock: SetClock) -> None:
    path = tmp_path / "logs.sqlite"
    path.write_bytes(b"not a database, whatever its name says" * 100)
    store = open_store(path, clock)
    store.append("w", "fresh")
    assert every_line(store) == ["fresh"]
    store.close()
    assert (tmp_path / "logs.sqlite.unreadable").exists()


def test_damage_found_while_running_costs_the_old_lines_but_not_the_service(tmp_path: Path, clock: SetClock) -> None:
    path = tmp_path / "logs.sqlite"
    store = open_store(path, clock)
    for _ in range(1_000):
        store.append("w", "x" * 100)
    store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(16_384 * 3)
        file.write(b"\xff" * (size - 16_384 * 3))
    store = open_store(path, clock)
    with pytest.raises(sqlite3.DatabaseError):
        every_line(store)
    store.append("w", "fresh")
    assert every_line(store) == ["fresh"]
    store.close()


def test_damage_met_by_two_at_once_is_put_aside_only_once(store: LogStore) -> None:
    store.append("w", "old")
    store._ask(lambda: store._begin_anew(0))
    store.append("w", "fresh")
    store._ask(lambda: store._begin_anew(0))
    assert every_line(store) == ["fresh"]


def test_the_file_is_for_its_owner_only(store: LogStore, tmp_path: Path) -> None:
    assert (tmp_path / "logs.sqlite").stat().st_mode & 0o077 == 0


def test_lines_may_come_from_many_threads(store: LogStore) -> None:
    def write(name: int) -> None:
        for number in range(200):
            store.append("w", f"{name} {number}")

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = store.query("w", LogQuery(page_size=1_000)).entries
    assert [entry.offset for entry in entries] == list(range(1, 801))
    for name in range(4):
        of_one = [entry.line for entry in entries if entry.line.startswith(f"{name} ")]
        assert of_one == [f"{name} {number}" for number in range(200)]


class LogReading(RuleBasedStateMachine):
    """Readers in both directions, while lines come, time moves either way, and the store is opened anew."""

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.clock = SetClock()
        self.path = Path(self.folder.name) / "logs.sqlite"
        self.store = open_store(self.path, self.clock)
        self.written: list[str] = []
        self.followed: list[str] = []
        self.follow_token: tuple[int, int] | None = None
        self.back: list[str] | None = None
        self.back_token: tuple[int, int] | None = None
        self.back_from = 0

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()

    @rule(count=st.integers(1, 5))
    def write(self, count: int) -> None:
        for _ in range(count):
            line = f"line {len(self.written)} {'odd' if len(self.written) % 2 else 'even'}"
            self.written.append(line)
            self.store.append("w", line)
            self.store.append("other", "noise")

    @rule(step_ms=st.integers(-3, 3))
    def move_time(self, step_ms: int) -> None:
        self.clock.ms += step_ms

    @rule(page_size=st.integers(1, 4))
    def follow(self, page_size: int) -> None:
        page = self.store.query("w", LogQuery(page_size=page_size, after=self.follow_token))
        self.followed += texts(page)
        self.follow_token = page.next
        assert page.has_more == (len(self.followed) < len(self.written))

    @rule(page_size=st.integers(1, 4))
    def read_backward(self, page_size: int) -> None:
        if self.back is None:
            self.back, self.back_token, self.back_from = [], None, len(self.written)
        page = self.store.query("w", LogQuery(page_size=page_size, after=self.back_token, backward=True))
        self.back += texts(page)
        self.back_token = page.next
        assert self.back == self.written[: self.back_from][::-1][: len(self.back)]
        assert page.has_more == (len(self.back) < self.back_from)
        if not page.has_more:
            self.back = None

    @rule(page_size=st.integers(1, 4))
    def search(self, page_size: int) -> None:
        found: list[str] = []
        token = None
        while True:
            page = self.store.query("w", LogQuery(page_size=page_size, after=token, keyword="odd"))
            found += texts(page)
            token = page.next
            if not page.has_more:
                break
        assert found == self.written[1::2]

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = open_store(self.path, self.clock)

    @invariant()
    def the_follower_never_repeats_or_misses_a_line(self) -> None:
        assert self.followed == self.written[: len(self.followed)]


TestLogReading = LogReading.TestCase
TestLogReading.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_the_documented_sample_times_are_understood() -> None:
    assert parse_time("1705306215123") == 1_705_306_215_123
    assert parse_time("2024-01-15T08:10:15.123Z") == 1_705_306_215_123


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2024-01-15", "2024-01-15T00:00:00+00:00"),
        ("2024-01-15T10:30", "2024-01-15T10:30:00+00:00"),
        ("2024-01-15 10:30:15", "2024-01-15T10:30:15+00:00"),
        ("2024-01-15T10:30:15+02:00", "2024-01-15T08:30:15+00:00"),
        ("2024-01-15T10:30:15.9999Z", "2024-01-15T10:30:15.999+00:00"),
        ("2024-12-31T23:59:59.123456789Z", "2024-12-31T23:59:59.123+00:00"),
        ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999+00:00"),
    ],
)
def test_iso_times_are_utc_unless_they_say_otherwise(text: str, iso: str) -> None:
    assert parse_time(text) == (datetime.fromisoformat(iso) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
        milliseconds=1
    )


@given(
    st.datetimes(
        min_value=datetime(1, 1, 2),  # noqa: DTZ001
        max_value=datetime(9999, 12, 30),  # noqa: DTZ001
        timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
    )
)
def test_what_python_writes_as_iso_is_read_back_to_the_millisecond(moment: datetime) -> None:
    exact = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert parse_time(moment.isoformat()) == exact
    if exact >= 0:
        assert parse_time(str(exact)) == exact


@pytest.mark.parametrize(
    "text",
    [
        "", "yesterday", "-1", "1e3", " 1", "1705306215123\n", "٣", "1234567890123456", "2024-13-01", "2024-02-30",
        "2024-1-5", "2024-01-15T24:00:00Z", "2024-01-15T10:30:60Z", "2024-W03-1", "2024-01-15T10:30:15z", "\ud800",
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused_with_what_would_be_right(text: str) -> None:
    with pytest.raises(ValueError, match="give milliseconds since 1970"):
        parse_time(text)


def test_a_plus_lost_in_a_url_is_pointed_out() -> None:
    with pytest.raises(ValueError, match="%2B"):
        parse_time("2024-01-15T10:30:15 02:00")


def test_a_query_without_parameters_has_the_documented_defaults() -> None:
    assert parse_log_query({}) == LogQuery(page_size=100, backward=False)


def test_every_documented_parameter_is_read() -> None:
    query = parse_log_query(
        {
            "pageSize": "7",
            "keyword": "err",
            "startTime": "1000",
            "endTime": "1970-01-01T00:00:02Z",
            "searchAfterTime": "1500",
            "searchAfterOffset": "9223372036854775807",
            "direction": "Backward",
            "unknown": "ignored",
        }
    )
    assert query == LogQuery(7, "err", 1000, 2000, (1500, 2**63 - 1), backward=True)


@pytest.mark.parametrize("size", ["1", "1000"])
def test_a_page_size_at_its_bounds_is_accepted(size: str) -> None:
    assert parse_log_query({"pageSize": size}).page_size == int(size)


def test_a_keyword_may_have_1024_characters() -> None:
    assert parse_log_query({"keyword": "k" * 1024}).keyword == "k" * 1024


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"pageSize": "0"}, "pageSize"),
        ({"pageSize": "1001"}, "pageSize"),
        ({"pageSize": ""}, "pageSize"),
        ({"pageSize": "1.0"}, "pageSize"),
        ({"pageSize": "+5"}, "pageSize"),
        ({"pageSize": "5\n"}, "pageSize"),
        ({"pageSize": "٣"}, "pageSize"),
        ({"keyword": ""}, "keyword"),
        ({"keyword": "k" * 1025}, "keyword"),
        ({"startTime": "soon"}, "startTime"),
        ({"endTime": ""}, "endTime"),
        ({"startTime": "2", "endTime": "1"}, "startTime"),
        ({"searchAfterTime": "1"}, "searchAfterOffset"),
        ({"searchAfterOffset": "1"}, "searchAfterTime"),
        ({"searchAfterTime": "now", "searchAfterOffset": "1"}, "searchAfterTime"),
        ({"searchAfterTime": "1", "searchAfterOffset": "-1"}, "searchAfterOffset"),
        ({"searchAfterTime": "1", "searchAfterOffset": "9223372036854775808"}, "searchAfterOffset"),
        ({"direction": "forward"}, "direction"),
        ({"direction": ""}, "direction"),
    ],
)
def test_a_parameter_out_of_its_rule_is_named(params: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidLogQuery) as refused:
        parse_log_query(params)
    assert refused.value.field == field
    assert str(refused.value).startswith(field)


@given(st.dictionaries(st.sampled_from(["pageSize", "keyword", "startTime", "searchAfterOffset"]), st.text()))
def test_no_parameter_raises_anything_else(params: dict[str, str]) -> None:
    try:
        query = parse_log_query(params)
    except InvalidLogQuery:
        return
    assert 1 <= query.page_size <= 1000
