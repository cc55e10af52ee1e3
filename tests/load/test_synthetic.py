import heapq
import itertools
import math
import statistics
from collections import Counter
from pathlib import Path

import attrs
import pytest

from yottabench.load.synthetic import FITTED, synthetic_trace
from yottabench.load.trace import Trace
from yottabench.load.trace_files import read_trace

SHARED = Path(__file__).parents[3] / "shared" / "traces"
FILES = {
    "azure-code": "AzureLLMInferenceTrace_code.csv.gz",
    "azure-conv": "AzureLLMInferenceTrace_conv.csv.gz",
    "mooncake": "mooncake_conversation_trace.jsonl.gz",
}


@attrs.frozen
class Figures:
    """The published figures of a trace: rate, busiest second, gap CV, variance over mean of counts per 1 and 60 s."""

    rate: float
    busiest: float
    cv: float
    per_second: float
    per_minute: float
    prompt: float
    output: float


PUBLISHED = {
    "azure-code": Figures(2.57, 67, 13.2, 13.2, 160, 2048, 27.9),
    "azure-conv": Figures(5.53, 16, 1.09, 1.39, 20.6, 1155, 211),
    "mooncake": Figures(3.40, 12, 1.02, 1.03, 2.8, 12035, 343),
}


def dispersion(trace: Trace, width_s: float) -> float:
    windows = int(trace.duration_s // width_s) + 1
    counts = Counter(int(at_s // width_s) for at_s in trace.at_s)
    return statistics.pvariance([counts.get(n, 0) for n in range(windows)]) / (len(trace) / windows)


def figures(trace: Trace) -> Figures:
    rate, busiest, cv = trace.figures()
    return Figures(
        rate,
        busiest,
        cv,
        dispersion(trace, 1),
        dispersion(trace, 60),
        statistics.fmean(trace.prompt_tokens),
        statistics.fmean(trace.output_tokens),
    )


@pytest.mark.parametrize("name", FITTED)
def test_a_synthetic_trace_is_as_fast_and_as_bursty_as_the_real_one(name: str):
    seeds = range(3 if name == "azure-conv" else 5)
    found = [figures(synthetic_trace(name, seed)) for seed in seeds]
    medians = {
        field.name: statistics.median(getattr(one, field.name) for one in found) for field in attrs.fields(Figures)
    }
    wanted = PUBLISHED[name]
    assert medians["rate"] == pytest.approx(wanted.rate, rel=0.01)
    assert medians["busiest"] == pytest.approx(wanted.busiest, rel=0.2)
    assert medians["cv"] == pytest.approx(wanted.cv, rel=0.12)
    assert medians["per_second"] == pytest.approx(wanted.per_second, rel=0.25)
    assert wanted.per_minute / 2 < medians["per_minute"] < wanted.per_minute * 2
    assert medians["prompt"] == pytest.approx(wanted.prompt, rel=0.12)
    assert medians["output"] == pytest.approx(wanted.output, rel=0.12)


@pytest.mark.parametrize("name", FITTED)
@pytest.mark.skipif(not SHARED.is_dir(), reason="the public traces are not beside the checkout")
def test_the_published_figures_are_those_of_the_real_traces(name: str):
    found, wanted = figures(read_trace(SHARED / FILES[name])), PUBLISHED[name]
    for field in attrs.fields(Figures):
        assert getattr(found, field.name) == pytest.approx(getattr(wanted, field.name), rel=0.03), field.name


def test_the_same_seed_gives_the_same_trace_and_the_kind_is_said():
    first, again, other = (synthetic_trace("azure-code", seed) for seed in (1, 1, 2))
    assert first == again
    assert first.at_s != other.at_s
    assert first.summary().startswith("synthetic, fitted to azure-code:")
    assert all(a <= b for a, b in itertools.pairwise(first.at_s))


def test_knots_rise_from_share_zero_to_one():
    for fitted in FITTED.values():
        for knots in (fitted.gaps_s, fitted.prompt_tokens, fitted.output_tokens):
            assert (knots[0][0], knots[-1][0]) == (0.0, 1.0)
            assert all(a < b and x <= y for (a, x), (b, y) in itertools.pairwise(knots))
            assert all(math.isfinite(value) and value > 0 for _, value in knots)


def waiting_p95_s(trace: Trace, workers: int) -> float:
    """How long the slowest twentieth takes in a queue of that many workers, with the service times of azure-code."""
    free_s = [0.0] * workers
    took_s: list[float] = []
    for at_s, size in trace.rows():
        begin_s = max(at_s, heapq.heappop(free_s))
        end_s = begin_s + 0.05 + 0.0001 * size.prompt_tokens + 0.02 * size.output_tokens
        heapq.heappush(free_s, end_s)
        took_s.append(end_s - at_s)
    return sorted(took_s)[int(0.95 * len(took_s))]


def test_a_synthetic_code_trace_loads_a_queue_as_the_real_one_does():
    real_s = 15.8  # what the same queue makes of the real trace
    found = [waiting_p95_s(synthetic_trace("azure-code", seed), 8) for seed in range(1, 6)]
    assert real_s / 2 < statistics.median(found) < real_s * 2


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public traces are not beside the checkout")
def test_the_real_code_trace_loads_a_queue_as_is_said():
    assert waiting_p95_s(read_trace(SHARED / FILES["azure-code"]), 8) == pytest.approx(15.8, rel=0.05)
