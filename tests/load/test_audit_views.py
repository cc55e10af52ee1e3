"""The four views held against each other: what each can tell that no other one can."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.load.runs import PREFIX, START_EPOCH_S, Sent, executions, make_run, server_tasks, write_journal
from yottabench.load.audit import FAULTS, Audit, Auditor, Execution, Receipt, ServerTask
from yottabench.load.journal import Journal, JournalWriter, read_journal, task_id
from yottabench.load.rundir import write_lines
from yottabench.load.verdict import evaluate

TASKS = [Sent(n, n / 10, status="DELIVERED") for n in range(20)]
MANY = 10_000


def journal_of(folder: Path, tasks: Sequence[Sent] = TASKS) -> list[Journal]:
    write_journal(folder / "journal-0.jsonl", tasks)
    return [read_journal(folder / "journal-0.jsonl")]


def delivered(tasks: Sequence[Sent] = TASKS) -> list[ServerTask]:
    return [attrs.evolve(task, delivered_ms=3) for task in server_tasks(tasks)]


def receipts(tasks: Sequence[Sent] = TASKS) -> list[Receipt]:
    return [Receipt(START_EPOCH_S + 1, task_id(PREFIX, task.seq), True, 1, 3) for task in tasks]


def audited(
    journals: Sequence[Journal],
    held: Sequence[ServerTask] | None = None,
    told: Sequence[Receipt] | None = None,
    done: Sequence[Execution] | None = None,
    processing: int | None = 0,
) -> Audit:
    auditor = Auditor(journals, own_endpoint=True)
    auditor.server(delivered() if held is None else held)
    if processing is not None:
        auditor.count(processing)
    auditor.receipts(receipts() if told is None else told)
    auditor.executions(executions(TASKS) if done is None else done)
    return auditor.finish()


def found(audit: Audit) -> dict[str, list[str]]:
    return {name: finding.ids for name, finding in audit.faults.items() if finding.count}


def test_four_views_that_agree_are_clean(tmp_path: Path):
    audit = audited(journal_of(tmp_path))
    assert (audit.clean, audit.settled, audit.receipts, audit.sent_again) == (True, True, 20, 0)


def test_a_webhook_sent_twice_as_the_same_send_is_a_duplicate_delivery(tmp_path: Path):
    told = receipts()
    assert found(audited(journal_of(tmp_path), told=[*told, told[4]])) == {"redelivered": [task_id(PREFIX, 4)]}


def test_a_webhook_sent_again_as_a_recorded_retry_is_no_fault(tmp_path: Path):
    told = receipts()
    audit = audited(journal_of(tmp_path), told=[*told, attrs.evolve(told[4], send=2)])
    assert (found(audit), audit.sent_again) == ({}, 1)


def test_a_delivery_that_is_said_to_be_acknowledged_and_never_came_is_named(tmp_path: Path):
    told = receipts()
    assert found(audited(journal_of(tmp_path), told=told[1:])) == {"undelivered": [task_id(PREFIX, 0)]}


def test_a_delivery_that_is_still_to_come_is_no_fault(tmp_path: Path):
    held = [attrs.evolve(delivered()[0], delivered_ms=0), *delivered()[1:]]
    assert found(audited(journal_of(tmp_path), held, receipts()[1:])) == {}


def test_a_webhook_of_a_task_that_was_never_sent_is_foreign(tmp_path: Path):
    ghost = attrs.evolve(receipts()[0], task_id="somebody_elses")
    assert found(audited(journal_of(tmp_path), told=[*receipts(), ghost])) == {"unexpected": ["somebody_elses"]}


def test_a_webhook_of_a_refused_task_is_unexpected(tmp_path: Path):
    tasks = [*TASKS, Sent(20, 2.0, outcome="refused")]
    audit = audited(journal_of(tmp_path, tasks), told=receipts(tasks))
    assert found(audit) == {"unexpected": [task_id(PREFIX, 20)]}


def test_a_webhook_that_tells_another_end_than_was_seen_is_named(tmp_path: Path):
    told = receipts()
    told[7] = attrs.evolve(told[7], ok=False)
    assert found(audited(journal_of(tmp_path), told=told)) == {"mismatched": [task_id(PREFIX, 7)]}


def test_a_webhook_with_another_tasks_result_is_named_once(tmp_path: Path):
    told = [attrs.evolve(each, mark=each.task_id) for each in receipts()]
    told[7] = attrs.evolve(told[7], mark=told[8].task_id, ok=False)
    assert found(audited(journal_of(tmp_path), told=told)) == {"mismatched": [task_id(PREFIX, 7)]}


@pytest.mark.parametrize(("own", "wrong"), [(True, False), (False, True), (None, False)])
def test_a_result_seen_with_another_tasks_mark_is_named(tmp_path: Path, own: bool | None, wrong: bool):
    writer = JournalWriter(
        tmp_path / "journal-0.jsonl", {"prefix": PREFIX, "process": 0, "of": 1, "start_epoch_s": START_EPOCH_S}
    )
    writer.intent(0, task_id(PREFIX, 0), 0.0, 0.0)
    writer.accepted(0, 0.1)
    writer.ended(0, 0.2, "SUCCESS", 1, 2, by="get", own_result=own)
    writer.close()
    audit = audited([read_journal(tmp_path / "journal-0.jsonl")], server_tasks([Sent(0)]), [], executions([Sent(0)]))
    assert bool(audit.mismatched.count) is wrong
    assert audit.results_checked == (own is not None)


@pytest.mark.parametrize(("processing", "off"), [(0, 0), (1, 1), (7, 7)])
def test_a_count_that_disagrees_with_the_list_is_a_fault(tmp_path: Path, processing: int, off: int):
    audit = audited(journal_of(tmp_path), processing=processing)
    assert audit.miscounted.count == off
    assert audit.clean is (off == 0)


def test_views_that_nobody_gave_are_said_to_be_absent(tmp_path: Path):
    auditor = Auditor(journal_of(tmp_path), own_endpoint=True)
    auditor.server(delivered())
    audit = auditor.finish()
    assert (audit.executions, audit.receipts, audit.processing, audit.clean) == (None, None, None, True)


def planted(
    rng: random.Random, of: int = MANY
) -> tuple[list[ServerTask], list[Receipt], list[Execution], dict[str, Any]]:
    """Views of a run in which each kind of fault happened to one task in ten thousand; and which those were."""
    tasks = [Sent(n, n / 1000, status="DELIVERED") for n in range(of)]
    held, told, done = delivered(tasks), receipts(tasks), executions(tasks)
    lost, doubled, redelivered, undelivered, swapped = rng.sample(range(of), 5)
    names = [task_id(PREFIX, n) for n in range(of)]
    ghost = f"{PREFIX}_{of + rng.randrange(of)}"
    expected = {
        "lost": [names[lost]],
        "duplicated": [names[doubled]],
        "redelivered": [names[redelivered]],
        "undelivered": [names[undelivered]],
        "mismatched": [names[swapped]],
        "unexpected": [ghost],
    }
    told.append(told[redelivered])
    told[swapped] = attrs.evolve(told[swapped], mark=names[lost])
    told = [each for n, each in enumerate(told) if n not in (lost, undelivered)]
    done.append(done[doubled])
    held = [each for n, each in enumerate(held) if n != lost]
    held.insert(rng.randrange(of), attrs.evolve(held[0], task_id=ghost, delivered_ms=0))
    return held, told, done, expected


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> list[Journal]:
    folder = tmp_path_factory.mktemp("many")
    return journal_of(folder, [Sent(n, n / 1000, status="DELIVERED") for n in range(MANY)])


@pytest.mark.parametrize("seed", range(3))
def test_one_fault_of_each_kind_in_ten_thousand_tasks_is_found_and_nothing_else(many: list[Journal], seed: int):
    held, told, done, expected = planted(random.Random(seed))
    assert found(audited(many, held, told, done)) == expected


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([1, 2, 4]), st.integers(6, 60))
def test_whatever_is_planted_is_found_for_any_number_of_processes(
    tmp_path_factory: pytest.TempPathFactory, rng: random.Random, of: int, count: int
):
    folder = tmp_path_factory.mktemp("run")
    journals: list[Journal] = []
    for process in range(of):
        path = folder / f"journal-{process}.jsonl"
        mine = [Sent(n, n / 1000, status="DELIVERED") for n in range(count) if n % of == process]
        write_journal(path, mine, process=process, of=of)
        journals.append(read_journal(path))
    held, told, done, expected = planted(rng, count)
    rng.shuffle(told)
    rng.shuffle(done)
    assert found(audited(journals, held, told, done)) == expected


def test_the_run_folders_receipts_and_count_are_part_of_its_verdict(tmp_path: Path):
    tasks = [Sent(n, n / 100) for n in range(5)]
    run = make_run(tmp_path, tasks, webhooks=True)
    lines: list[dict[str, Any]] = [
        {"at": START_EPOCH_S + 1, "id": task_id(PREFIX, n), "endpoint": "7", "ok": True, "send": 1, "sent": 0}
        for n in range(5)
    ]
    write_lines(run.receipts_file, [*lines, {"at": 1.0, "refused": "The header X-API-Key is missing."}])
    with run.receipts_file.open("ab") as file:
        file.write(b'{"at": 1, "id": "cut o')
    result = evaluate(run)
    assert (result["exit_code"], result["audit"]["receipts"], result["audit"]["receipts_refused"]) == (0, 5, 1)
    write_lines(run.receipts_file, [*lines, lines[2]])
    result = evaluate(run)
    assert (result["exit_code"], result["reasons"]) == (4, ["audit: 1 redelivered"])


def test_every_fault_has_its_words():
    assert set(FAULTS) == set(Audit().faults)
