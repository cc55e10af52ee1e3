"""What the moves of the store write beside the state: the past of a task, times, reasons, and what a failure undoes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.emulator.harness import QuickStore
from tests.emulator.test_store import (
    ALL_STATES,
    HOOK,
    at,
    do,
    end_delivery,
    endpoint,
    finish,
    give_back,
    lease,
    requeue,
    submit,
    worker,
)
from yottabench.emulator.store import base
from yottabench.emulator.store.base import DeliveryState, Moved, StoreError, StoreInUse, TaskState
from yottabench.emulator.store.sqlite import SqliteStore
from yottabench.emulator.store.sqlite_connection import connect


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = QuickStore(tmp_path)
    opened.recover(0)
    yield opened
    opened.close()


def column(store: SqliteStore, sql: str) -> list[Any]:
    """What only the table tells."""
    return [value for (value,) in store._rows(sql)]


# ---- the past of a task


def test_a_lease_that_is_given_back_is_remembered_with_its_worker_its_times_and_the_reason(store: SqliteStore) -> None:
    seq = at(store, TaskState.LEASED)
    other = at(store, TaskState.LEASED, task_id="other")
    moved = base.ReturnTask(seq=seq, fence=1, strike=True, next_ms=None, now_ms=33, reason="HTTP 503")
    assert do(store, moved) is Moved.DONE
    assert do(store, moved) is Moved.STALE
    history = store.task_history(1, "t")
    assert history is not None
    (attempt,) = history.attempts
    assert (attempt.fence, attempt.worker_id, attempt.worker_url) == (1, 7, "http://w:1")
    assert (attempt.leased_ms, attempt.ended_ms, attempt.outcome, attempt.reason) == (20, 33, "returned", "HTTP 503")
    assert column(store, f"SELECT count(*) FROM attempt WHERE task_seq = {other}") == [0]


def test_a_late_return_adds_nothing_to_the_past(store: SqliteStore) -> None:
    seq = at(store, TaskState.LEASED)
    assert do(store, give_back(seq, fence=2)) is Moved.STALE
    assert column(store, "SELECT count(*) FROM attempt") == [0]


def test_a_lease_that_the_end_of_the_server_cut_off_is_remembered_as_that(tmp_path: Path) -> None:
    one = QuickStore(tmp_path)
    seqs = [each.seq for each in one.apply([submit("a"), submit("b", endpoint_id=2), submit("c")])]
    one.apply([lease(seq) for seq in seqs[:2]])
    one.apply([base.PutWorker(worker())])
    one.close()
    two = QuickStore(tmp_path)
    two.recover(500)
    for endpoint_id, task_id in ((1, "a"), (2, "b")):
        history = two.task_history(endpoint_id, task_id)
        assert history is not None
        (attempt,) = history.attempts
        assert (attempt.outcome, attempt.ended_ms, attempt.reason) == ("returned", 500, "The server ended.")
        task = two.task(endpoint_id, task_id)
        assert task is not None
        assert task.updated_ms == 500
    assert column(two, "SELECT deadline_ms FROM task") == [None] * 3
    assert column(two, "SELECT updated_ms FROM task WHERE task_id = 'c'") == [10]
    assert [each.reason for each in two.workers(1)] == ["the server ended"]
    two.close()


# ---- times


def test_every_move_notes_its_time_and_the_deadline_is_that_of_the_lease(store: SqliteStore) -> None:
    seq = do(store, submit()).seq
    seen: list[tuple[Any, ...]] = []
    for command in (lease(seq), give_back(seq, next_ms=100), requeue(seq), lease(seq, 1, now_ms=50), finish(seq, 2)):
        do(store, command)
        seen += store._rows("SELECT updated_ms, leased_ms, deadline_ms, next_ms, ended_ms FROM task")
    assert seen == [
        (20, 20, 1020, None, None),
        (30, 20, None, 100, None),
        (40, 20, None, None, None),
        (50, 50, 1050, None, None),
        (30, 50, None, None, 30),
    ]


@pytest.mark.parametrize("state", [TaskState.QUEUED, TaskState.LEASED, TaskState.RETRY_WAIT])
def test_a_task_that_is_failed_with_its_endpoint_ends_then_with_the_error(store: SqliteStore, state: TaskState) -> None:
    seq = at(store, state, webhook=HOOK)
    failed = do(store, base.FailOpenTasks(endpoint_id=1, error="deleted", limit=2, now_ms=99))
    (due,) = failed.deliveries
    assert (failed.count, failed.more, due.task_seq, due.next_ms) == (1, False, seq, 99)
    shown = "SELECT state, error, deadline_ms, next_ms, ended_ms, updated_ms FROM task"
    assert store._rows(shown) == [(TaskState.FAILED, "deleted", None, None, 99, 99)]
    assert store._rows("SELECT next_ms, updated_ms, destination FROM delivery") == [(99, 99, "http://127.0.0.1:9")]


def test_after_the_clock_was_set_back_what_waits_waits_as_long_as_it_was_to_wait(tmp_path: Path) -> None:
    one = QuickStore(tmp_path)
    at(one, TaskState.RETRY_WAIT, task_id="waits")
    at(one, TaskState.FAILED, task_id="told", webhook=HOOK)
    (due,) = one.due_deliveries(9)
    one.apply([base.ClaimDelivery(id=due.id), end_delivery(due.id, DeliveryState.DUE, next_ms=90)])
    one.close()
    two = QuickStore(tmp_path)
    two.recover(5)
    assert [next_ms for next_ms, _ in two.waiting()] == [5 + (100 - 30)]
    assert [each.next_ms for each in two.due_deliveries(9)] == [5 + (90 - 60)]
    two.recover(5)
    assert [next_ms for next_ms, _ in two.waiting()] == [75]
    two.close()


def test_what_a_delivery_was_is_kept_of_every_send(store: SqliteStore) -> None:
    at(store, TaskState.SUCCEEDED, webhook=HOOK)
    (due,) = store.due_deliveries(9)
    claim = base.ClaimDelivery(id=due.id)
    later = base.EndDelivery(id=due.id, state=DeliveryState.ACKED, next_ms=0, note=None, now_ms=90, started_ms=80)
    store.apply([claim, end_delivery(due.id, DeliveryState.DUE), claim, later])
    delivery = store.delivery(due.id)
    assert delivery is not None
    assert [(each.number, each.started_ms, each.ended_ms, each.note) for each in delivery.attempts] == [
        (1, 60, 60, "HTTP 500"),
        (2, 80, 90, None),
    ]
    assert (delivery.state, delivery.delivered_ms) == (DeliveryState.ACKED, 90)
    assert store._rows("SELECT note, updated_ms, next_ms FROM delivery") == [(None, 90, 0)]
    task = store.task(1, "t")
    assert task is not None
    assert (task.state, task.updated_ms) == (TaskState.DELIVERED, 90)


def test_a_delivery_acknowledged_again_keeps_the_time_of_the_first(store: SqliteStore) -> None:
    at(store, TaskState.SUCCEEDED, webhook=HOOK)
    (due,) = store.due_deliveries(9)
    for now_ms, state in ((60, DeliveryState.ACKED), (70, DeliveryState.EXHAUSTED), (80, DeliveryState.ACKED)):
        store._writer.execute("UPDATE delivery SET state = 0")
        store.apply([base.ClaimDelivery(id=due.id), end_delivery(due.id, state, now_ms=now_ms)])
    assert column(store, "SELECT delivered_ms FROM delivery") == [60]
    assert store.counts(1)[TaskState.DELIVERED] == 1


def test_a_worker_delivery_tells_of_the_worker_at_once_and_moves_no_task(store: SqliteStore) -> None:
    at(store, TaskState.SUCCEEDED)
    due = do(store, base.PutWorker(worker(), HOOK, b"{}"))
    assert (due.url, due.auth_key, due.task_seq, due.body) == (HOOK, None, None, b"{}")
    assert (due.attempts, due.next_ms, due.once) == (0, 6, False)
    assert store.due_deliveries(9) == [due]
    assert column(store, "SELECT worker_id FROM delivery") == [7]
    store.apply([base.ClaimDelivery(id=due.id), end_delivery(due.id, DeliveryState.ACKED)])
    assert store.counts(1)[TaskState.SUCCEEDED] == 1


def test_a_task_delivery_takes_the_key_and_the_place_of_its_task(store: SqliteStore) -> None:
    seqs = [do(store, submit(f"t{n}", webhook=f"http://127.0.0.1:{n}/h", webhook_auth_key=f"k{n}")).seq for n in (1, 2)]
    store.apply([lease(seq) for seq in seqs])
    made = [each.delivery for each in store.apply([finish(seq) for seq in seqs])]
    assert [(each.task_seq, each.auth_key, each.url, each.body) for each in made] == [
        (seqs[0], "k1", "http://127.0.0.1:1/h", None),
        (seqs[1], "k2", "http://127.0.0.1:2/h", None),
    ]
    assert sorted(store.delivery_destinations()) == ["http://127.0.0.1:1", "http://127.0.0.1:2"]
    assert column(store, "SELECT worker_id FROM delivery") == [None, None]


# ---- many at once


@pytest.mark.parametrize("tasks", [1, 2, 31, 32, 33, 63, 64, 65, 95, 96, 97, 150])
def test_as_many_tasks_as_one_likes_go_through_all_moves_in_one_batch_each(store: SqliteStore, tasks: int) -> None:
    submits = [submit(f"t{n}", input=b"%d" % n, headers=b'{"n":"%d"}' % n) for n in range(tasks)]
    seqs = [each.seq for each in store.apply(submits)]
    assert seqs == list(range(1, tasks + 1))
    assert store.apply([lease(seq, worker_id=seq) for seq in seqs]) == [Moved.DONE] * tasks
    ends = [
        base.FinishTask(seq=seq, fence=1, state=TaskState.SUCCEEDED, output=b"%d" % seq, error=None, now_ms=30)
        for seq in seqs
    ]
    assert store.apply(ends) == [base.Finished(Moved.DONE, None)] * tasks
    assert store.apply(ends) == [base.Finished(Moved.STALE, None)] * tasks
    for n, seq in enumerate(seqs):
        task = store.task(1, f"t{n}")
        assert task is not None
        assert (task.seq, task.input, task.headers, task.output) == (seq, b"%d" % n, b'{"n":"%d"}' % n, b"%d" % seq)
    assert column(store, "SELECT worker_id FROM task ORDER BY seq") == seqs
    assert {state: n for state, n in store.counts(1).items() if n} == {TaskState.SUCCEEDED: tasks}


def test_among_known_tasks_only_the_new_ones_are_written(store: SqliteStore) -> None:
    store.apply([submit("b", input=b"1"), submit("c", input=b"2")])
    outcomes = store.apply([submit("a"), submit("b", input=b"1"), submit("c", input=b"other"), submit("d")])
    a, b, c, d = outcomes
    assert [(each.known, each.same) for each in outcomes] == [
        (False, True), (True, True), (True, False), (False, True),
    ]  # fmt: skip
    assert (b.seq, c.seq) == (1, 2)
    assert b.seq < c.seq < a.seq < d.seq
    assert column(store, "SELECT seq FROM task_input ORDER BY seq") == [1, 2, a.seq, d.seq]
    assert store.counts(1) == {TaskState.QUEUED: 4}


def test_a_task_is_led_through_all_its_moves_by_one_batch_in_their_order(store: SqliteStore) -> None:
    seq = do(store, submit()).seq
    outcomes = store.apply([finish(seq, 1), lease(seq, 0), finish(seq, 1)])
    assert [outcomes[0].moved, outcomes[1], outcomes[2].moved] == [Moved.STALE, Moved.DONE, Moved.DONE]


def test_a_failure_keeps_no_output_and_an_end_without_one_none(store: SqliteStore) -> None:
    seqs = [do(store, submit(task_id)).seq for task_id in ("fails", "succeeds", "late")]
    store.apply([lease(seq) for seq in seqs[:2]])
    store.apply([finish(seqs[0], state=TaskState.FAILED), finish(seqs[1]), finish(seqs[2])])
    assert store._rows("SELECT * FROM task_output") == [(seqs[1], b"42")]
    assert column(store, "SELECT error FROM task ORDER BY seq") == ["HTTP 500", None, None]


# ---- failures and the file


def test_a_batch_that_fails_gives_its_numbers_and_its_counts_back(store: SqliteStore) -> None:
    for attempt in range(2):
        with pytest.raises(StoreError, match="The store could not write: "):
            store.apply([submit("a"), submit("b"), base.PutWorker(worker(2**70))])
        assert not store._writer.in_transaction, attempt
    assert do(store, submit("a")).seq == 1
    assert store.counts(1) == {TaskState.QUEUED: 1}


def test_what_is_no_error_of_the_store_ends_the_transaction_and_is_raised_as_it_is(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(store._do, base.PutEndpoint, interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.apply([submit(), base.PutEndpoint(endpoint())])
    assert not store._writer.in_transaction
    assert do(store, submit()).seq == 1


def test_an_endpoint_keeps_its_namespace_and_what_replaces_it_is_read_back(store: SqliteStore) -> None:
    store.apply([base.PutEndpoint(endpoint(3, namespace="mine")), base.PutEndpoint(endpoint(4, namespace="other"))])
    assert (store.endpoint_ids("mine"), store.endpoint_ids("other"), store.endpoint_ids(None)) == ([3], [4], [3, 4])


def test_a_store_that_cannot_be_opened_lets_go_of_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "yottabench.sqlite"
    path.write_bytes(b"this is no database" * 100)
    for _ in range(2):  # a lock that was left behind would be StoreInUse
        with pytest.raises(StoreError, match="cannot be opened as a store: file is not a database") as refused:
            SqliteStore(tmp_path)
        assert not isinstance(refused.value, StoreInUse)
        assert str(path) in str(refused.value)
    path.unlink()
    connection = connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    for _ in range(2):
        with pytest.raises(StoreError, match="later yottabench") as refused:
            SqliteStore(tmp_path)
        assert str(path) in str(refused.value)
        assert not isinstance(refused.value, StoreInUse)


def test_whoever_is_refused_is_told_which_folder_and_why(tmp_path: Path) -> None:
    one = SqliteStore(tmp_path)
    with pytest.raises(StoreInUse) as in_use:
        SqliteStore(tmp_path)
    one.close()
    assert f"Another yottabench serves {tmp_path}. Stop it" in str(in_use.value)
    assert (tmp_path / "lock").exists()  # by this name every version of yottabench knows it
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used for a store: Not a directory") as unusable:
        SqliteStore(tmp_path / "file" / "data")
    assert str(tmp_path / "file" / "data") in str(unusable.value)


def test_connections_never_checkpoint_by_themselves_and_the_reader_cannot_write(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    for connection in (store._writer, store._reader):
        settings = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in (
                "journal_mode", "synchronous", "wal_autocheckpoint", "busy_timeout", "cache_size", "temp_store",
            )
        }  # fmt: skip
        assert settings == {
            "journal_mode": "wal",
            "synchronous": 2,
            "wal_autocheckpoint": 0,
            "busy_timeout": 5000,
            "cache_size": -16384,
            "temp_store": 2,
        }
    with pytest.raises(apsw.ReadOnlyError):
        store._reader.execute("DELETE FROM task")
    store.close()


def test_numbers_of_tasks_go_on_after_reopening(tmp_path: Path) -> None:
    one = QuickStore(tmp_path)
    assert [each.seq for each in one.apply([submit("a"), submit("b")])] == [1, 2]
    one.close()
    two = QuickStore(tmp_path)
    assert do(two, submit("c")).seq == 3
    assert [task.task_id for task in two.tasks(1, ALL_STATES, 0, 9)] == ["c", "b", "a"]
    two.close()


def test_a_closed_store_has_let_go_of_its_files(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    do(store, submit())
    store.close()
    assert store._lock.closed
    for connection in (store._reader, store._writer):
        with pytest.raises(apsw.ConnectionClosedError):
            connection.execute("SELECT 1")
    assert not (tmp_path / "yottabench.sqlite-wal").exists()
    store.close()
