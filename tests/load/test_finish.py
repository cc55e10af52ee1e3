"""Reading what the server holds while it still changes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import attrs
import pytest

from tests.load.runs import PREFIX, Sent, make_run
from yottabench.load.attempts import NoRecord
from yottabench.load.audit import Execution, ServerTask
from yottabench.load.finish import collect
from yottabench.load.journal import task_id
from yottabench.load.rundir import read_lines
from yottabench.load.target import EndpointInUse, Target
from yottabench.load.verdict import evaluate

SIZE = 4
NAMES = [task_id(PREFIX, n) for n in range(12)]


@attrs.define
class Shifting:
    """A target whose newest task comes after the first page of a reading, for the first `late` readings."""

    late: int
    double: bool = False
    readings: int = 0
    here: int = 10
    attempts_told: list[Execution] = attrs.field(factory=list[Execution])
    logged: list[Execution] = attrs.field(factory=list[Execution])
    no_record: bool = True

    def count(self, endpoint_id: str) -> int:
        return 0

    def task(self, endpoint_id: str, identifier: str) -> ServerTask | None:
        return ServerTask(identifier, "SUCCESS", True, 1, 2) if identifier in NAMES[: self.here] else None

    def pages(self, endpoint_id: str) -> Iterator[tuple[list[ServerTask], int]]:
        self.readings += 1
        number = 0
        while True:
            held = [ServerTask(name, "SUCCESS", True, 1, 2) for name in reversed(NAMES[: self.here])]
            held += held[:1] if self.double else []
            yield held[number * SIZE : (number + 1) * SIZE], len(held)
            number += 1
            if number * SIZE >= len(held):
                return
            if number == 1 and self.readings <= self.late:
                self.here += self.here < len(NAMES)

    def executions(self, endpoint_id: str, expected: int) -> Iterator[Execution]:
        yield from self.logged

    def attempts(self, endpoint_id: str, task_ids: Any) -> Iterator[Execution]:
        if self.no_record:
            raise NoRecord("it answers 404 when asked for one")
        yield from self.attempts_told


def collected(folder: Path, target: Shifting, *, own: bool = True) -> dict[str, Any]:
    tasks = [Sent(n, n / 100) for n in range(10)]
    tasks += [Sent(n, n / 100, outcome="unknown", end_s=None) for n in (10, 11)]
    endpoint = {"endpoint_id": "7", "made_by_run": own, "image": "sim/echo", "workers": 2}
    run = make_run(folder, tasks, endpoint=endpoint)
    collect(run, cast("Target", target), EndpointInUse("7", own, "sim/echo", 2))
    return evaluate(run)


@pytest.mark.parametrize("late", [0, 1, 2])
def test_tasks_that_come_while_the_list_is_read_are_no_duplicates(tmp_path: Path, late: int):
    target = Shifting(late)
    audit = collected(tmp_path, target)["audit"]
    assert (audit["duplicated"]["count"], audit["lost"]["count"], audit["server_listed"]) == (0, 0, True)
    assert audit["unknown_there"] == late
    assert target.readings == late + 1


def test_a_task_that_is_really_listed_twice_is_found(tmp_path: Path):
    audit = collected(tmp_path, Shifting(0, double=True))["audit"]
    assert audit["duplicated"]["ids"] == [NAMES[9]]


def test_a_list_that_never_stands_still_leaves_the_audit_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = Shifting(late=99)
    monkeypatch.setattr("yottabench.load.finish.MOST_READINGS", 2)
    audit = collected(tmp_path, target)["audit"]
    assert target.readings == 2
    assert (audit["duplicated"]["count"], audit["server_listed"]) == (0, False)


def test_an_endpoint_that_others_use_is_read_once(tmp_path: Path):
    target = Shifting(late=9)
    audit = collected(tmp_path, target, own=False)["audit"]
    assert (target.readings, audit["duplicated"]["count"], audit["server_listed"]) == (1, 0, True)


def test_without_logs_the_servers_record_of_attempts_stands_in_and_that_is_said(tmp_path: Path):
    record = [Execution(NAMES[n], 1, 10, 20) for n in range(10)]
    result = collected(tmp_path, Shifting(0, attempts_told=record, no_record=False))
    assert result["audit"]["executions"] == 10
    assert result["detection"]["joined"] is True
    assert any("server's own record" in note for note in result["audit"]["notes"])


def test_with_neither_logs_nor_a_record_that_is_said(tmp_path: Path):
    result = collected(tmp_path, Shifting(0))
    assert any("double executions would not be seen" in note for note in result["audit"]["notes"])
    assert "queued" not in result["latency_ms"]


def test_logs_make_the_record_unnecessary(tmp_path: Path):
    result = collected(tmp_path, Shifting(0, logged=[Execution(NAMES[0], 1, 10, 20)]))
    assert result["audit"]["notes"] == []
    assert result["detection"]["joined"] is False
    assert [line["id"] for line in read_lines(tmp_path / "executions.jsonl")] == [NAMES[0]]
