from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.load.runs import PREFIX, Sent, executions, server_tasks, write_journal
from yottabench.load.audit import Audit, Auditor, Execution, ServerTask
from yottabench.load.journal import Journal, read_journal, task_id

TASKS = [Sent(n, n / 10) for n in range(20)]


def journals_of(folder: Path, tasks: Sequence[Sent], of: int = 1) -> list[Journal]:
    found: list[Journal] = []
    for process in range(of):
        path = folder / f"journal-{process}.jsonl"
        write_journal(path, [task for task in tasks if task.seq % of == process], process=process, of=of)
        found.append(read_journal(path))
    return found


def audited(
    journals: Sequence[Journal],
    held: Sequence[ServerTask],
    executed: Sequence[Execution] = (),
    *,
    own_endpoint: bool = True,
) -> Audit:
    auditor = Auditor(journals, own_endpoint=own_endpoint)
    auditor.server(held)
    auditor.executions(executed)
    return auditor.finish()


outcomes = st.sampled_from(["accepted", "accepted", "accepted", "refused", "throttled", "unknown", "silent"])


@given(st.lists(outcomes, max_size=30), st.sampled_from([1, 2, 4]), st.booleans())
def test_a_run_without_faults_is_clean(tmp_path_factory, made: list[str], of: int, own_endpoint: bool):
    tasks = [Sent(n, n / 10, outcome=outcome) for n, outcome in enumerate(made)]
    journals = journals_of(tmp_path_factory.mktemp("run"), tasks, of)
    audit = audited(journals, server_tasks(tasks), executions(tasks), own_endpoint=own_endpoint)
    assert audit.clean
    assert audit.settled
    assert audit.sent == len(tasks)
    assert audit.acknowledged == audit.ended == made.count("accepted") + made.count("unknown")
    assert (audit.refused, audit.throttled) == (made.count("refused"), made.count("throttled"))
    assert (audit.unknown_there, audit.unknown_absent) == (made.count("unknown"), made.count("silent"))


@given(st.sets(st.integers(0, 19), min_size=1), st.sampled_from([1, 3]))
def test_every_lost_task_is_named(tmp_path_factory, lost: set[int], of: int):
    journals = journals_of(tmp_path_factory.mktemp("run"), TASKS, of)
    held = [task for n, task in enumerate(server_tasks(TASKS)) if n not in lost]
    audit = audited(journals, held, executions(TASKS))
    assert sorted(audit.lost.ids) == sorted(task_id(PREFIX, n) for n in lost)
    assert audit.lost.count == len(lost)
    assert not audit.clean


@given(st.sets(st.integers(0, 19), min_size=1))
def test_every_double_execution_is_named(tmp_path_factory, doubled: set[int]):
    journals = journals_of(tmp_path_factory.mktemp("run"), TASKS)
    done = executions(TASKS)
    audit = audited(journals, server_tasks(TASKS), [*done, *(done[n] for n in doubled)])
    assert sorted(audit.duplicated.ids) == sorted(task_id(PREFIX, n) for n in doubled)


def test_a_recorded_retry_is_no_double_execution(tmp_path: Path):
    done = executions(TASKS)
    again = [attrs.evolve(done[3], attempt=2), attrs.evolve(done[3], attempt=3), attrs.evolve(done[5], attempt=2)]
    audit = audited(journals_of(tmp_path, TASKS), server_tasks(TASKS), [*done, *again])
    assert audit.clean
    assert audit.retried == 2


@pytest.mark.parametrize("attempt", [0, 1, 63, 64, 10**9])
def test_any_attempt_number_can_be_doubled(tmp_path: Path, attempt: int):
    double = [Execution(task_id(PREFIX, 1), attempt, 1, 2)] * 2
    audit = audited(journals_of(tmp_path, TASKS), server_tasks(TASKS), double)
    assert audit.duplicated.ids == [task_id(PREFIX, 1)]


def test_a_task_listed_twice_is_named(tmp_path: Path):
    held = server_tasks(TASKS)
    assert audited(journals_of(tmp_path, TASKS), [*held, held[4]]).duplicated.ids == [task_id(PREFIX, 4)]


def test_a_task_that_was_never_sent_is_named_once(tmp_path: Path):
    ghost = ServerTask(task_id(PREFIX, 99), "SUCCESS", True, 1, 2)
    audit = audited(journals_of(tmp_path, TASKS), [*server_tasks(TASKS), ghost], [Execution(ghost.task_id, 1, 1, 2)])
    assert (audit.unexpected.count, audit.unexpected.ids) == (1, [ghost.task_id])


@pytest.mark.parametrize("outcome", ["refused", "throttled"])
def test_a_refused_task_that_is_there_all_the_same_is_named(tmp_path: Path, outcome: str):
    tasks = [*TASKS, Sent(20, 2.0, outcome=outcome)]
    there = ServerTask(task_id(PREFIX, 20), "SUCCESS", True, 1, 2)
    assert audited(journals_of(tmp_path, tasks), [*server_tasks(tasks), there]).unexpected.ids == [there.task_id]


def test_foreign_tasks_matter_only_on_an_endpoint_of_our_own(tmp_path: Path):
    foreign = ServerTask("somebody_elses", "SUCCESS", True, 1, 2)
    done = Execution("somebody_elses", 1, 1, 2)
    journals = journals_of(tmp_path, TASKS)
    shared = audited(journals, [*server_tasks(TASKS), foreign], [done], own_endpoint=False)
    assert (shared.clean, shared.foreign) == (True, 1)
    assert audited(journals, [*server_tasks(TASKS), foreign], [done]).unexpected.ids == ["somebody_elses"]


def test_an_open_task_leaves_the_audit_open_but_clean(tmp_path: Path):
    tasks = [*TASKS, Sent(20, 2.0, end_s=None)]
    audit = audited(journals_of(tmp_path, tasks), server_tasks(tasks))
    assert (audit.clean, audit.settled, audit.open_.ids) == (True, False, [task_id(PREFIX, 20)])


def test_without_the_servers_list_nothing_is_called_lost(tmp_path: Path):
    tasks = [*TASKS, Sent(20, 2.0, outcome="unknown", end_s=None)]
    audit = Auditor(journals_of(tmp_path, tasks), own_endpoint=True).finish()
    assert (audit.clean, audit.settled, audit.open_.count) == (True, False, 21)


def test_a_task_that_opens_again_is_named(tmp_path: Path):
    held = server_tasks(TASKS)
    held[6] = attrs.evolve(held[6], status="PROCESSING", ended=False)
    assert audited(journals_of(tmp_path, TASKS), held).resurrected.ids == [task_id(PREFIX, 6)]


@pytest.mark.parametrize(
    ("seen", "later", "wrong"),
    [("SUCCESS", "FAILED", True), ("FAILED", "SUCCESS", True), ("SUCCESS", "DELIVERED", False)],
)
def test_an_end_that_changes_is_named_unless_it_was_delivered(tmp_path: Path, seen: str, later: str, wrong: bool):
    tasks = [Sent(0, status=seen)]
    held = [attrs.evolve(server_tasks(tasks)[0], status=later)]
    assert bool(audited(journals_of(tmp_path, tasks), held).mismatched.count) is wrong


def test_no_journals_make_an_empty_audit():
    audit = audited([], [])
    assert (audit.sent, audit.clean) == (0, True)


def test_only_the_first_thousand_ids_are_kept_but_all_are_counted(tmp_path: Path):
    tasks = [Sent(n, n / 100) for n in range(1200)]
    audit = audited(journals_of(tmp_path, tasks), [])
    assert (audit.lost.count, len(audit.lost.ids)) == (1200, 1000)
