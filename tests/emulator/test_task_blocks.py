"""Pages far from both ends are found by counts per block of seqs: held against plain OFFSET, whatever happens."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.emulator.harness import QuickStore, changed
from tests.emulator.test_store import (
    ALL_STATES,
    HOOK,
    do,
    end_delivery,
    endpoint,
    finish,
    give_back,
    lease,
    requeue,
    submit,
)
from tests.torture.freeze import thaw
from yottabench.emulator.store import base, sqlite_counts, upkeep
from yottabench.emulator.store.base import DeliveryState, StoreError, TaskState
from yottabench.emulator.store.sqlite_connection import Connection, connect
from yottabench.emulator.store.sqlite_counts import BLOCK_BITS, PASSED_OVER_MAX

SMALL, LARGE = BLOCK_BITS[-1], BLOCK_BITS[0]
# Small ones of 4 seqs, large ones of 16, and used for every page but the first from its end.
TINY = {"BLOCK_BITS": (4, 2), "PASSED_OVER_MAX": 0}
NAMESPACES = {1: "one", 2: "two", 3: "two"}


def by_offset(connection: Connection, endpoint_id: int, states: Sequence[TaskState]) -> list[int]:
    """All seqs of a list in its order, from the rows alone."""
    chosen = ", ".join(str(int(state)) for state in states)
    rows = connection.execute(
        f"SELECT seq FROM task WHERE endpoint_id = ? AND state IN ({chosen}) ORDER BY seq DESC", (endpoint_id,)
    )
    return [seq for (seq,) in rows]


def blocks_counted(connection: Connection, sizes: Sequence[int]) -> list[Any]:
    """What `task_block` must hold, from the rows alone."""
    return sorted(
        row
        for bits in sizes
        for row in connection.execute(
            f"SELECT endpoint_id, {bits}, seq >> {bits}, state, count(*) FROM task GROUP BY 1, 3, 4"
        )
    )


def blocks_kept(connection: Connection) -> list[Any]:
    return sorted(connection.execute("SELECT endpoint_id, bits, block, state, n FROM task_block"))


class BlockMachine(RuleBasedStateMachine):
    """Lives of a store with tiny blocks, in which everything happens that adds, moves or removes tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.blocks = changed(sqlite_counts, **TINY)
        self.blocks.__enter__()
        self.store = QuickStore(Path(self.folder.name))
        self.store.recover(0)
        self.now_ms = 10
        self.name = 0
        self.snapshot: upkeep.Snapshot | None = None
        self.endpoints_are_there()

    def endpoints_are_there(self) -> None:
        self.store.apply([base.PutEndpoint(endpoint(number, namespace=name)) for number, name in NAMESPACES.items()])

    def some(self, state: TaskState, portion: slice) -> list[tuple[int, int]]:
        """Tasks in a state with their fences."""
        found = self.store._writer.execute("SELECT seq, fence FROM task WHERE state = ? ORDER BY seq", (state,))
        return found.fetchall()[portion]

    portions = st.builds(slice, st.integers(0, 3), st.integers(4, 40), st.integers(1, 3))

    @rule(
        endpoint_ids=st.lists(st.integers(1, 3), min_size=1, max_size=3), count=st.integers(1, 40), hook=st.booleans()
    )
    def submit(self, endpoint_ids: list[int], count: int, hook: bool) -> None:
        self.now_ms += 1
        commands: list[Any] = []
        for number in range(count):
            self.name += 1
            to = endpoint_ids[number % len(endpoint_ids)]
            webhook = HOOK if hook else None
            commands.append(submit(f"t{self.name}", endpoint_id=to, webhook=webhook, now_ms=self.now_ms))
        self.store.apply([*commands, *commands[:1]])

    @rule(portion=portions)
    def lease(self, portion: slice) -> None:
        self.store.apply([lease(*each, now_ms=self.now_ms) for each in self.some(TaskState.QUEUED, portion)])

    @rule(portion=portions, state=st.sampled_from([TaskState.SUCCEEDED, TaskState.FAILED]))
    def finish(self, portion: slice, state: TaskState) -> None:
        self.store.apply([finish(*each, state, now_ms=self.now_ms) for each in self.some(TaskState.LEASED, portion)])

    @rule(portion=portions, wait=st.booleans())
    def give_back(self, portion: slice, wait: bool) -> None:
        until_ms = self.now_ms + 9 if wait else None
        self.store.apply(
            [
                base.ReturnTask(seq=seq, fence=fence, strike=True, next_ms=until_ms, now_ms=self.now_ms)
                for seq, fence in self.some(TaskState.LEASED, portion)
            ]
        )

    @rule(portion=portions)
    def requeue(self, portion: slice) -> None:
        waiting = self.some(TaskState.RETRY_WAIT, portion)
        self.store.apply([base.RequeueTask(seq=seq, fence=fence, now_ms=self.now_ms) for seq, fence in waiting])

    @rule(limit=st.integers(1, 20))
    def deliver(self, limit: int) -> None:
        for due in self.store.due_deliveries(limit):
            self.store.apply([base.ClaimDelivery(id=due.id), end_delivery(due.id, DeliveryState.ACKED)])

    @rule(endpoint_id=st.integers(1, 3), limit=st.integers(1, 30))
    def fail_open(self, endpoint_id: int, limit: int) -> None:
        do(self.store, base.FailOpenTasks(endpoint_id=endpoint_id, error="x", limit=limit, now_ms=self.now_ms))

    @rule(age_ms=st.integers(0, 6), limit=st.integers(1, 60))
    def purge(self, age_ms: int, limit: int) -> None:
        # What finish() and end_delivery() wrote lies in the past only once the clock is beyond it.
        self.now_ms += 60
        before_ms = self.now_ms - age_ms
        do(self.store, upkeep.PurgeTasks(before_ms=before_ms, after_seq=0, limit=limit))

    @rule(namespace=st.sampled_from([None, "one", "two"]), count=st.integers(0, 9))
    def clear(self, namespace: str | None, count: int) -> None:
        """In one batch with submits before and after it."""
        self.name += 1
        batch = [submit(f"b{self.name}_{number}", endpoint_id=1 + number % 3) for number in range(count)]
        self.store.apply([*batch, upkeep.ClearState(namespace=namespace), submit(f"a{self.name}")])
        self.endpoints_are_there()

    @rule()
    def take_a_snapshot(self) -> None:
        self.snapshot = self.store.snapshot(None, self.now_ms, 10_000)

    @rule(count=st.integers(0, 9))
    def put_the_snapshot_back(self, count: int) -> None:
        if self.snapshot is not None:
            self.name += 1
            batch = [submit(f"p{self.name}_{number}") for number in range(count)]
            back = upkeep.PutSnapshot(snapshot=self.snapshot, namespace=None, now_ms=self.now_ms)
            assert isinstance(do(self.store, *batch, back), upkeep.Cleared)

    @rule(count=st.integers(1, 9))
    def a_batch_fails(self, count: int) -> None:
        with pytest.raises(StoreError):
            self.store.apply([*(submit(f"never{number}") for number in range(count)), lease(1, worker_id=2**70)])

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = QuickStore(Path(self.folder.name))
        self.store.recover(self.now_ms)

    @rule(
        endpoint_id=st.integers(1, 4),
        states=st.one_of(st.just(frozenset(ALL_STATES)), st.frozensets(st.sampled_from(ALL_STATES), min_size=1)),
        limit=st.integers(1, 7),
    )
    def every_page_is_what_offset_says(self, endpoint_id: int, states: frozenset[TaskState], limit: int) -> None:
        expected = by_offset(self.store._writer, endpoint_id, sorted(states))
        for offset in range(0, len(expected) + limit, 1 + len(expected) // 12):
            total, page = self.store.task_page(endpoint_id, sorted(states), offset, limit)
            assert total == len(expected)
            assert [task.seq for task in page] == expected[offset : offset + limit]

    @invariant()
    def the_counts_are_the_rows_counted_and_nothing_empty_stays(self) -> None:
        assert blocks_kept(self.store._writer) == blocks_counted(self.store._writer, TINY["BLOCK_BITS"])

    def teardown(self) -> None:
        self.store.close()
        self.blocks.__exit__(None, None, None)
        self.folder.cleanup()


def test_every_page_is_what_offset_says_whatever_happened_to_the_tasks() -> None:
    run_state_machine_as_test(BlockMachine, settings=settings(max_examples=25, stateful_step_count=25, deadline=None))


def test_every_kind_of_move_is_counted_in_the_block_of_its_task(tmp_path: Path) -> None:
    seqs = range(1, 41)
    moves: list[list[Any]] = [
        [submit(f"t{seq}", webhook=HOOK) for seq in seqs],
        [lease(seq) for seq in seqs],
        [give_back(seq, next_ms=100 if seq % 2 else None) for seq in seqs],
        [requeue(seq) for seq in seqs if seq % 2],
        [lease(seq, 1) for seq in seqs],
        [finish(seq, 2, TaskState.FAILED if seq % 3 else TaskState.SUCCEEDED) for seq in seqs],
        [base.ClaimDelivery(id=number) for number in seqs],
        [end_delivery(number, DeliveryState.ACKED) for number in seqs],
        [upkeep.PurgeTasks(before_ms=1000, after_seq=20, limit=10)],
    ]
    with changed(sqlite_counts, **TINY):
        store = QuickStore(tmp_path)
        held: list[Any] = []
        for batch in moves:
            store.apply(batch)
            kept = blocks_kept(store._writer)
            assert kept == blocks_counted(store._writer, TINY["BLOCK_BITS"])
            if not isinstance(batch[0], base.ClaimDelivery):
                assert kept != held, batch[0]
            held = kept
        store.close()


# ---- blocks as large as they are


TASKS = (1 << LARGE) + 3 * PASSED_OVER_MAX
STATES = (0, 3, 3, 4, 5, 3, 3, 2)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuickStore]:
    """A store of the version before blocks, brought up to date: 1 has most tasks, 2 a few all over, some are gone."""
    folder = tmp_path_factory.mktemp("large")
    thaw(2, folder / "data")
    connection = connect(folder / "data" / "yottabench.sqlite")
    with connection:
        connection.execute("DELETE FROM task")
        connection.execute("DELETE FROM task_count")
        connection.executemany(
            "INSERT INTO task (seq, endpoint_id, task_id, state, fence, strikes, created_ms, updated_ms)"
            " VALUES (?, ?, ?, ?, 0, 0, 0, 0)",
            (
                (seq, 2 if seq % 50 == 0 else 1, f"t{seq}", STATES[seq * 7 // 3 % 8])
                for seq in range(1, TASKS)
                if seq % 9
            ),
        )
        connection.execute("INSERT INTO task_count SELECT endpoint_id, state, count(*) FROM task GROUP BY 1, 2")
    connection.close()
    store = QuickStore(folder / "data")
    yield store
    store.close()


def test_a_store_from_before_there_were_blocks_gets_them(large: QuickStore) -> None:
    kept = blocks_kept(large._writer)
    assert kept == blocks_counted(large._writer, BLOCK_BITS)
    assert {block for _, bits, block, *_ in kept if bits == LARGE} == {0, 1}
    assert len({block for _, bits, block, *_ in kept if bits == SMALL}) > 1 << (LARGE - SMALL)


@pytest.mark.parametrize("endpoint_id", [1, 2])
@pytest.mark.parametrize("states", [ALL_STATES, (TaskState.QUEUED, TaskState.RETRY_WAIT), (TaskState.SUCCEEDED,)])
def test_pages_all_over_a_large_list_are_what_offset_says(
    large: QuickStore, endpoint_id: int, states: Sequence[TaskState]
) -> None:
    expected = by_offset(large._writer, endpoint_id, states)
    edges = [
        n + d for n in (0, PASSED_OVER_MAX, len(expected) - PASSED_OVER_MAX, len(expected)) for d in range(-10, 11)
    ]
    spread = range(0, len(expected), max(1, len(expected) // 37))
    for offset in (place for place in (*edges, *spread) if place >= 0):
        total, page = large.task_page(endpoint_id, states, offset, 10)
        assert total == len(expected)
        assert [task.seq for task in page] == expected[offset : offset + 10]


def steps(store: QuickStore, states: Sequence[TaskState], offset: int) -> int:
    """How much SQLite does for a page, in hundreds of its own instructions."""
    taken = 0

    def hundred_more() -> bool:
        nonlocal taken
        taken += 1
        return False  # go on

    store._reader.set_progress_handler(hundred_more, 100)
    try:
        store.task_page(1, states, offset, 10)
    finally:
        store._reader.set_progress_handler(None, 0)
    return taken


@pytest.mark.parametrize("states", [ALL_STATES, (TaskState.SUCCEEDED,)])
def test_no_page_costs_more_than_to_pass_over_a_block(large: QuickStore, states: Sequence[TaskState]) -> None:
    total, _ = large.task_page(1, states, 0, 1)
    with changed(sqlite_counts, PASSED_OVER_MAX=total):
        walked = steps(large, states, total // 2)
        per_task = walked / (total // 2)
        to_pass_a_block = per_task * PASSED_OVER_MAX
    assert total // 2 > 10 * PASSED_OVER_MAX
    for offset in range(0, total, total // 41):
        assert steps(large, states, offset) < 2 * to_pass_a_block + 60


def test_a_page_found_by_blocks_is_of_one_moment_though_tasks_come_move_and_go_in_between(tmp_path: Path) -> None:
    reads: list[str] = []
    moments: list[list[int]] = []

    def between(_: apsw.Cursor, sql: str, __: object) -> bool:
        """Before each of the store's own reads a task comes, one ends and goes, and one is leased."""
        if sql.startswith("SELECT"):
            ((seq,),) = store._writer.execute("SELECT min(seq) FROM task WHERE state = 0").fetchall()
            store.apply([submit(f"late{len(reads)}", now_ms=40), lease(seq), lease(seq + 1)])
            do(store, finish(seq), upkeep.PurgeTasks(before_ms=35, after_seq=0, limit=1000))
            reads.append(sql)
            moments.append(by_offset(store._writer, 1, ALL_STATES))
        return True

    with changed(sqlite_counts, **TINY):
        store = QuickStore(tmp_path)
        store.apply([submit(f"t{number}") for number in range(150)])
        for offset in range(10, 60, 7):
            moments.clear()
            store._reader.exec_trace = between
            total, page = store.task_page(1, ALL_STATES, offset, 5)
            store._reader.exec_trace = None
            assert len(moments) == 4  # the counts, two sizes of blocks, the page
            assert total == len(moments[0])
            assert [task.seq for task in page] == moments[0][offset : offset + 5]
            assert moments[3][offset : offset + 5] != moments[0][offset : offset + 5]
        store.close()
    assert sum("task_block" in sql for sql in reads) == len(reads) // 2
