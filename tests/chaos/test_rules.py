"""Rules as people write them, and which connections get them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import chaos_rules
from yottabench.chaos.rules import BYTES_MAX, MS_MAX, Rule, RuleError, Rules, read_rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("latency ms=200", Rule(kind="latency", ms=200)),
        ("latency jitter=5 towards=client", Rule(kind="latency", jitter_ms=5, towards="client")),
        ("  cut   after=100  ", Rule(kind="cut", after=(100, 100))),
        ("cut after=0..5000 count=3", Rule(kind="cut", after=(0, 5000), count=3)),
        ("slow rate=1000 probability=0.25", Rule(kind="slow", bytes_per_s=1000, probability=0.25)),
        ("garbage size=8 towards=target", Rule(kind="garbage", size=8, towards="target")),
        ("half-open", Rule(kind="half-open")),
        ("reset probability=0", Rule(kind="reset", probability=0.0)),
    ],
)
def test_a_rule_is_read_as_it_is_meant(text: str, rule: Rule) -> None:
    assert read_rule(text) == rule


@given(chaos_rules())
def test_a_rule_reads_back_what_it_shows(rule: Rule) -> None:
    assert read_rule(str(rule)) == rule


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Begin with one of latency"),
        ("lag ms=5", "Begin with one of latency"),
        ("latency", "latency needs ms"),
        ("slow", "slow needs rate"),
        ("slow rate=0", "from 1 to"),
        ("cut ms=5", "'ms=5' is nothing that cut has. It takes after, count"),
        ("cut 5", "'5' is nothing that cut has"),
        ("cut after=9..3", "must not end before it begins"),
        ("cut after=-1", "must be a whole number"),
        ("cut after=٣", "must be a whole number"),
        (f"cut after={BYTES_MAX + 1}", f"to {BYTES_MAX}"),
        (f"latency ms={MS_MAX + 1}", f"to {MS_MAX}"),
        ("reset probability=1.01", "from 0 to 1"),
        ("reset probability=nan", "from 0 to 1"),
        ("reset towards=server", "one of target, client, both"),
        ("reset count=1 count=2", "count twice"),
    ],
)
def test_what_cannot_be_is_refused_with_what_would_do(text: str, said: str) -> None:
    with pytest.raises(RuleError) as refused:
        read_rule(text)
    assert said in str(refused.value)


@given(st.text(max_size=60))
def test_any_text_is_a_rule_or_refused(text: str) -> None:
    for each in (text, f"cut {text}", f"latency ms={text}"):
        try:
            read_rule(each)
        except RuleError:
            continue


def test_the_largest_bounds_are_taken() -> None:
    assert read_rule(f"cut after={BYTES_MAX}").after == (BYTES_MAX, BYTES_MAX)
    assert read_rule(f"latency ms={MS_MAX}").ms == MS_MAX


def given_to(seed: int, rule: Rule, connections: int = 200) -> list[tuple[int, int]]:
    rules = Rules(seed)
    live = rules.add(rule)
    drawn = [(number, rules.draw(live, number)) for number in range(1, connections + 1)]
    return [(number, fault.at) for number, faults in drawn for fault in faults.values()]


def test_the_same_seed_gives_the_same_connections_the_same_faults() -> None:
    rule = Rule(kind="cut", towards="client", probability=0.3, after=(0, 10_000))
    assert given_to(1, rule) == given_to(1, rule)
    assert given_to(1, rule) != given_to(2, rule)
    assert 30 <= len(given_to(1, rule)) <= 90
    assert len({at for _, at in given_to(1, rule)}) > 20


def test_a_count_is_a_most() -> None:
    assert [number for number, _ in given_to(1, Rule(kind="cut", towards="client", count=3))] == [1, 2, 3]
    assert given_to(1, Rule(kind="cut", count=0)) == []
    assert given_to(1, Rule(kind="cut", probability=0.0)) == []


def test_both_directions_have_a_fault_each() -> None:
    rules = Rules()
    assert set(rules.draw(rules.add(Rule(kind="cut")), 1)) == {"target", "client"}
    assert set(rules.draw(rules.add(Rule(kind="cut", towards="target")), 1)) == {"target"}


def test_a_rule_can_be_taken_away_once() -> None:
    rules = Rules()
    live = rules.add(Rule(kind="cut"))
    assert rules.remove(live.id)
    assert not rules.remove(live.id)
    assert rules.add(Rule(kind="cut")).id != live.id
