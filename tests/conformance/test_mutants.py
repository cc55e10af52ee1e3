"""The suite itself under test: every seeded bug must be found, by the check that is there for it."""

import collections
from collections.abc import Iterator

import attrs
import pytest

from tests.conformance.laws import LAWS
from tests.conformance.live import KEY, OTHER_KEY, Api, Stage
from tests.conformance.mutants import MUTANTS, Mutant
from tests.conformance.proxy import proxy
from tests.conformance.schema_run import Size, run

BY_LAW = [mutant for mutant in MUTANTS if not mutant.operations]
BY_SCHEMA = [mutant for mutant in MUTANTS if mutant.operations]
LAW_NAMED = {law.__name__: law for law in LAWS}
EDGES = Size(examples=20, chains=0)
CHAINS = Size(examples=0, chains=200, edges=False)


@pytest.fixture
def seen_through(stage: Stage) -> Iterator[collections.abc.Callable[[Mutant], Stage]]:
    """The stage, seen through a proxy with a bug."""
    import contextlib

    with contextlib.ExitStack() as stack:

        def through(mutant: Mutant) -> Stage:
            url = stack.enter_context(proxy(stage.api.url, mutant))
            ours, others = Api(url, KEY), Api(url, OTHER_KEY)
            stack.callback(ours.close)
            stack.callback(others.close)
            return attrs.evolve(stage, api=ours, other=others)

        yield through


def test_there_are_bugs_of_every_kind_and_each_names_a_check_that_exists() -> None:
    assert len(MUTANTS) >= 24
    assert {mutant.found_by for mutant in BY_LAW} <= set(LAW_NAMED)


@pytest.mark.parametrize("mutant", BY_LAW, ids=lambda mutant: mutant.__name__)
def test_a_law_finds_the_bug(seen_through, mutant: type[Mutant]) -> None:
    with pytest.raises(AssertionError):
        LAW_NAMED[mutant.found_by](seen_through(mutant()))


def test_a_proxy_without_a_bug_breaks_no_law(seen_through) -> None:
    stage = seen_through(Mutant())
    for law in LAWS:
        law(stage)


@pytest.mark.full
@pytest.mark.parametrize("mutant", BY_SCHEMA, ids=lambda mutant: mutant.__name__)
def test_schemathesis_finds_the_bug(seen_through, mutant: type[Mutant]) -> None:
    size = CHAINS if mutant.chained else EDGES
    outcome = run(seen_through(mutant()), size, operations=mutant.operations, stop_at_first=True)
    assert mutant.found_by in {found.check for found in outcome.findings}


@pytest.mark.full
def test_schemathesis_finds_nothing_through_a_proxy_without_a_bug(seen_through) -> None:
    assert run(seen_through(Mutant()), EDGES, operations=["submitTask", "listTasks"]).findings == []
