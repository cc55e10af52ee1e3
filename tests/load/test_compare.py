import math
import os
import random
import re
from pathlib import Path

import attrs
import pytest

from tests.load.runs import Sent, make_run
from yottabench.load.baseline import check_baseline, compare_with_baseline, note_baseline
from yottabench.load.compare import METRICS, Blocks, CannotCompare, check_comparable, compare_journals
from yottabench.load.finish import conclude
from yottabench.load.journal import ACCEPTED, Journal
from yottabench.load.profile import Action, Arrivals, Profile
from yottabench.load.report import html_report
from yottabench.load.summary import markdown_report, summary_text

FULL = os.environ.get("LOAD_FULL") == "1"


def queue(seed: int, tasks: int = 2000, busy: float = 0.5, slower: float = 1.0) -> Journal:
    """A first-in, first-out queue with four workers: neighbours wait for the same tasks, as in a real run."""
    rng, rate = random.Random(seed), 50.0
    journal = Journal(Path("made-up"), {"start_epoch_s": 0, "prefix": "r", "process": 0, "of": 1})
    journal.statuses.append("SUCCESS")
    free_s, due_s = [0.0] * 4, 0.0
    for seq in range(tasks):
        due_s += rng.expovariate(rate)
        worker = min(range(4), key=lambda n: free_s[n])
        service_s = rng.lognormvariate(math.log(4 * busy / rate) - 0.18, 0.6)
        free_s[worker] = max(due_s, free_s[worker]) + service_s
        journal.seq.append(seq)
        journal.due_s.append(due_s)
        journal.sent_s.append(due_s)
        journal.answered_s.append(due_s + rng.expovariate(500) * slower)
        journal.detected_s.append(due_s + (free_s[worker] - due_s) * slower)
        journal.created_ms.append(0)
        journal.updated_ms.append(0)
        journal.outcome.append(ACCEPTED)
        journal.status.append(1)
    return journal


def test_equal_runs_raise_no_alarm_and_a_slower_one_does():
    pairs = 60 if FULL else 1
    equal = [compare_journals([queue(2 * n)], [queue(2 * n + 1)], baseline="b") for n in range(pairs)]
    slower = [compare_journals([queue(2 * n)], [queue(2 * n + 1, slower=1.2)], baseline="b") for n in range(pairs)]
    assert sum(bool(found.regressions) for found in equal) <= pairs // 60
    assert all(found.regressions for found in slower)


def test_a_faster_run_is_no_regression_and_its_ratio_is_said():
    found = compare_journals([queue(1, slower=1.5)], [queue(2)], baseline="b")
    assert not found.regressions
    median = found.rows[0]
    assert median.metric == "e2e_p50_ms"
    assert median.ratio == pytest.approx(1 / 1.5, rel=0.1)
    assert median.low <= median.ratio <= median.high


def test_the_same_runs_give_the_same_comparison():
    runs = [queue(1, tasks=300)], [queue(2, tasks=300)]
    assert compare_journals(*runs, baseline="b") == compare_journals(*runs, baseline="b")


def test_too_few_tasks_are_not_compared_and_it_is_said():
    found = compare_journals([queue(1, tasks=150)], [queue(2)], baseline="b")
    assert found.rows == ()
    assert len(found.notes) == 2
    some = compare_journals([queue(1, tasks=300)], [queue(2)], baseline="b")
    assert [row.metric for row in some.rows] == ["e2e_p50_ms", "submit_p50_ms"]
    assert "e2e_p95_ms was not compared: too few tasks lie beyond it in one of the runs" in some.notes


def test_blocks_give_the_quantiles_of_what_is_in_them():
    rng = random.Random(5)
    timed = [(rng.uniform(0, 100), rng.lognormvariate(0, 1)) for _ in range(4000)]
    blocks = Blocks(timed, 100)
    ordered = sorted(seconds for _, seconds in timed)
    for share in (0.5, 0.95, 0.99):
        exact = ordered[math.ceil(share * len(ordered)) - 1]
        assert math.exp(blocks.quantile_log(share, [1] * len(blocks))) == pytest.approx(exact, rel=0.002)
    first = sorted(seconds for at_s, seconds in timed if at_s < 100 / len(blocks))
    alone = [1] + [0] * (len(blocks) - 1)
    assert math.exp(blocks.quantile_log(0.5, alone)) == pytest.approx(first[math.ceil(len(first) / 2) - 1], rel=0.002)
    assert blocks.quantile_log(0.5, [0] * len(blocks)) == -math.inf


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arrivals": Arrivals(rate=7.0)}, "arrivals: rate 100.0 then, 7.0 now"),
        ({"actions": (Action("scale", 0.5, 3),)}, "actions: differ"),
    ],
)
def test_runs_of_different_kinds_are_not_compared(changes: dict[str, object], said: str):
    with pytest.raises(CannotCompare) as caught:
        check_comparable(Profile("p"), attrs.evolve(Profile("p"), **changes))
    assert said in str(caught.value)


def test_other_gates_and_names_are_no_other_kind():
    check_comparable(Profile("p"), Profile("q", about="else", gates=("e2e_p95_ms <= 5",)))


def tasks_of(count: int, slower: float, seed: int) -> list[Sent]:
    rng = random.Random(seed)
    return [Sent(seq, due_s=seq * 0.01, end_s=0.005 + rng.lognormvariate(-4, 0.5) * slower) for seq in range(count)]


def test_a_slower_run_than_its_baseline_ends_with_3_and_says_by_how_much(tmp_path: Path):
    old = make_run(tmp_path / "old", tasks_of(1000, 1.0, 1))
    conclude(old)
    new = make_run(tmp_path / "new", tasks_of(1000, 2.0, 2))
    note_baseline(new, old.path)
    result = conclude(new)
    assert (result["verdict"], result["exit_code"]) == ("FAIL", 3)
    assert "e2e_p50_ms is slower than in ../old" in result["reasons"][0]
    assert "SLOWER" in summary_text(result)
    assert "drawing blocks of each run's time" in markdown_report(result)
    assert re.search(
        r"\| e2e_p50_ms \| [0-9.]+ \| [0-9.]+ \| \+[0-9.]+% .*\| \*\*slower\*\* \|", markdown_report(result)
    )
    page = html_report(result)
    assert "<h2>Compared with ../old</h2>" in page
    assert (
        page.count('<td class="broken">slower</td>') == sum(row["slower"] for row in result["comparison"]["rows"]) > 0
    )
    other = make_run(tmp_path / "other", tasks_of(1000, 1.0, 3))
    note_baseline(other, old.path)
    result = conclude(other)
    assert result["exit_code"] == 0
    assert {row["metric"] for row in result["comparison"]["rows"]} <= {metric for metric, _, _ in METRICS}


def test_gates_and_audit_come_before_a_regression(tmp_path: Path):
    old = make_run(tmp_path / "old", tasks_of(300, 1.0, 1))
    conclude(old)
    gated = make_run(tmp_path / "gated", tasks_of(300, 2.0, 2), Profile("made-up", gates=("e2e_p50_ms <= 1",)))
    note_baseline(gated, old.path)
    assert conclude(gated)["exit_code"] == 99


@pytest.mark.parametrize("wrong", ["gone", "unjudged", "invalid"])
def test_a_baseline_that_is_no_measure_is_refused(tmp_path: Path, wrong: str):
    old = make_run(tmp_path / "old", tasks_of(300, 1.0, 1), interrupted=wrong == "invalid")
    if wrong != "unjudged":
        conclude(old)
    path = tmp_path / "nowhere" if wrong == "gone" else old.path
    with pytest.raises(CannotCompare, match=r"cannot be read|never judged|is INVALID"):
        check_baseline(path, Profile("made-up"))


def test_a_baseline_that_has_gone_since_leaves_the_run_invalid_not_passed(tmp_path: Path):
    new = make_run(tmp_path / "new", tasks_of(300, 1.0, 1))
    assert compare_with_baseline(new, []) is None
    note_baseline(new, tmp_path / "gone")
    result = conclude(new)
    assert result["exit_code"] == 5
    assert "could not be compared" in result["reasons"][0]
