import itertools
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.load.runs import Sent, write_journal
from yottabench.load.bodies import LEAST_BYTES, body_maker
from yottabench.load.breaches import BREACHES, Submit, breach_of, judge_refusals
from yottabench.load.journal import read_journal
from yottabench.load.prepare import describe, prepare
from yottabench.load.profile import Arrivals, Mix, Profile, Stage, TaskSettings
from yottabench.load.reads import ReadTally, read_tallies, reads_file, write_tally
from yottabench.load.rundir import RunDir
from yottabench.load.schedule import Arrival, build_schedule, share_out
from yottabench.load.trace import Size

weights = st.dictionaries(st.sampled_from(["submit", "get", "list", "count"]), st.floats(0.01, 100), min_size=1)
MIXED = Profile("m", arrivals=Arrivals(rate=200, duration_s=50), mix=Mix(submit=30, get=55, list=10, count=5))


@settings(max_examples=30)
@given(weights, st.integers(0, 2**32), st.sampled_from([1, 2, 4]))
def test_a_shared_out_schedule_loses_nothing_and_is_the_same_for_any_number_of_processes(
    shares: dict[str, float], seed: int, of: int
):
    whole = build_schedule(Arrivals(rate=100, duration_s=2), seed)
    parts = share_out(whole, shares)
    assert sorted(arrival.due_s for part in parts.values() for arrival in part) == [arrival.due_s for arrival in whole]
    for part in parts.values():
        alone = list(part)
        assert [arrival.seq for arrival in alone] == list(range(len(alone)))
        striped = itertools.chain(*(part.stripe(index, of) for index in range(of)))
        assert sorted(striped, key=lambda arrival: arrival.seq) == alone
        assert part.planned() == len(alone)


def test_each_operation_gets_its_share():
    prepared = prepare(MIXED, 3)
    made = {"submit": prepared.schedule.planned()} | {name: part.planned() for name, part in prepared.reads.items()}
    for name, share in {"submit": 0.30, "get": 0.55, "list": 0.10, "count": 0.05}.items():
        # 10,000 arrivals, give or take five standard deviations, and of each a binomial share.
        sigma = math.sqrt(10_000 * share * (1 - share))
        assert made[name] == pytest.approx(10_000 * share, abs=5 * sigma + 500 * share)
    assert describe(MIXED, prepared) == "Poisson, 200 requests/s: submit 30%, get 55%, list 10%, count 5%"


def test_without_a_mix_there_are_no_reads():
    assert prepare(Profile("p"), 1).reads == {}
    assert Mix().reads == {}


def test_the_reads_of_all_processes_and_seconds_are_added_up_whatever_was_cut_off(tmp_path):
    run = RunDir(tmp_path)
    for process, seconds in ((0, 0.001), (0, 0.003), (1, 0.005)):
        tally = ReadTally(made=2, throttled=1, errors=0)
        tally.latencies.record_s(seconds)
        write_tally(reads_file(run, process), 1.0, "get", tally)
    with reads_file(run, 1).open("ab") as file:
        file.write(b'{"operation": "get", "made": 5')
    (found,) = read_tallies(run).values()
    assert (found.made, found.throttled, found.errors, found.latencies.count) == (6, 3, 0, 3)
    assert found.latencies.max_ms == pytest.approx(5, rel=0.01)


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_breaches_are_spread_evenly_and_take_turns(upto: int, share: float):
    rules = [breach_of(seq, share) for seq in range(upto, upto + 50)]
    broken = [rule for rule in rules if rule is not None]
    assert abs(len(broken) - 50 * share) <= 1
    assert all(a != b for a, b in itertools.pairwise(broken))


def test_no_share_breaks_nothing_and_the_whole_share_everything():
    assert not any(breach_of(seq, 0.0) for seq in range(100))
    assert {breach_of(seq, 1.0) for seq in range(100)} == set(BREACHES)


def test_every_breach_changes_one_thing_about_a_sound_submit():
    sound = Submit("r_1", {"a": 1}, 8000, "/run")
    for name, breach in BREACHES.items():
        broken = breach(sound)
        fields = ("task_id", "input", "worker_port", "process_uri")
        assert sum(getattr(sound, field) != getattr(broken, field) for field in fields) == 1, name


def test_refusals_are_judged_by_the_rule_that_was_broken(tmp_path):
    outcomes = ["accepted", "refused", "refused", "accepted", "accepted", "unknown", "accepted", "throttled"]
    tasks = [Sent(seq, outcome=outcome) for seq, outcome in enumerate(outcomes)]
    write_journal(tmp_path / "journal-0.jsonl", tasks)
    found = judge_refusals([read_journal(tmp_path / "journal-0.jsonl")], 0.5)
    rules = list(BREACHES)
    # Every other one is broken: 1, 3, 5 and 7; what came of 2 was no breach.
    assert (found.sent, found.refused) == (4, 1)
    assert found.accepted == {rules[1]: 1}
    assert found.unclear == {rules[2]: 1}
    assert judge_refusals([read_journal(tmp_path / "journal-0.jsonl")], 0.0).sent == 0


@pytest.mark.parametrize("size", [LEAST_BYTES, 1000, 123_457, 9_900_000])
def test_a_sized_input_has_exactly_its_bytes(size: int):
    make = body_maker(TaskSettings(body="sized", sizes=(size,)))
    assert len(json.dumps(make(Arrival(0, 0.0, 5)), separators=(",", ":"))) == size


def test_sizes_come_one_after_the_other_or_from_the_trace():
    make = body_maker(TaskSettings(body="sized", sizes=(100, 200, 300)))
    assert [len(make(Arrival(seq, 0.0, 5))["data"]) + 11 for seq in range(4)] == [100, 200, 300, 100]
    traced = body_maker(TaskSettings(body="sized"))
    assert len(traced(Arrival(0, 0.0, 5, Size(5000, 0)))["data"]) + 11 == 5000
    assert len(traced(Arrival(0, 0.0, 5, Size(1, 0)))["data"]) + 11 == LEAST_BYTES


def test_stages_keep_their_shape_at_another_rate_and_for_another_time():
    stages = (Stage(10, 0, 50), Stage(30, 100), Stage(20, 100, 0))
    faster = Arrivals(stages=stages).at_rate(10)
    assert [(stage.rate, stage.rate_to) for stage in faster.stages] == [(0, 5), (10, None), (10, 0)]
    shorter = Arrivals(stages=stages).lasting(6)
    assert [stage.duration_s for stage in shorter.stages] == [1, 3, 2]
    assert build_schedule(shorter, 1).duration_s == pytest.approx(6)
    assert Arrivals().at_rate(7).rate == 7
    assert Arrivals().lasting(7).duration_s == 7
