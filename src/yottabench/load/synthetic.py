"""Synthetic traces: seeded arrivals and sizes that follow the published figures of public traces."""

import bisect
import itertools
import math
import random
from array import array
from statistics import NormalDist

import attrs

from yottabench.load.trace import Trace

Knots = tuple[tuple[float, float], ...]

# How near to 0 and 1 a drawn share may come: the outermost knots are the least and the greatest value ever drawn.
_LEAST_SHARE = 1e-9
_NORMAL = NormalDist()


@attrs.frozen
class Fitted:
    """The figures of one trace: (share, value) knots of its gaps and sizes, and how its gaps hang together.

    Gaps longer than `idle_s` are stretched alike until the trace has its published length, because how much of the time
    nothing comes hangs on a few of the longest gaps. `swing` is the part of a gap's (normal) score that comes from a
    level common to neighbours, and `memory` the correlation of that level from one task to the next. Both were fitted
    to the busiest second and to the variance of the counts per second and per minute: gaps drawn each for itself give
    seconds that are far too calm.
    """

    requests: int
    duration_s: float
    idle_s: float
    gaps_s: Knots
    swing: float
    memory: float
    prompt_tokens: Knots
    output_tokens: Knots


FITTED: dict[str, Fitted] = {
    # Azure LLM inference trace 2023, code service: 8,819 requests in 3,436 s
    # (Azure/AzurePublicDataset, CC-BY-4.0; Patel et al., Splitwise, ISCA 2024).
    "azure-code": Fitted(
        requests=8819,
        duration_s=3436.0,
        idle_s=1.0,
        gaps_s=(
            (0.0, 0.00001), (0.05, 0.00009), (0.10, 0.00021), (0.20, 0.00118), (0.30, 0.0033), (0.35, 0.0053),
            (0.40, 0.0151), (0.45, 0.0382), (0.50, 0.0638), (0.55, 0.0895), (0.60, 0.095), (0.70, 0.100), (0.75, 0.104),
            (0.80, 0.160), (0.85, 0.199), (0.90, 0.273), (0.95, 0.401), (0.97, 0.598), (0.984, 0.998), (0.99, 2.2),
            (0.993, 3.7), (0.995, 10.1), (0.997, 28.1), (0.999, 82.8), (0.9995, 139.0), (1.0, 217.0),
        ),
        swing=0.28,
        memory=0.965,
        prompt_tokens=(
            (0.0, 3), (0.01, 17), (0.05, 75), (0.10, 147), (0.25, 578), (0.50, 1469), (0.75, 2745), (0.90, 5194),
            (0.95, 7315), (1.0, 7437),
        ),
        output_tokens=(
            (0.0, 6), (0.10, 7), (0.25, 9), (0.50, 13), (0.75, 24), (0.90, 55), (0.95, 90), (0.99, 252), (0.999, 831),
            (1.0, 1899),
        ),
    ),
    # The same, conversation service: 19,366 requests in 3,502 s.
    "azure-conv": Fitted(
        requests=19_366,
        duration_s=3502.0,
        idle_s=0.0,
        gaps_s=(
            (0.0, 0.00001), (0.02, 0.0014), (0.05, 0.0063), (0.10, 0.0161), (0.20, 0.0365), (0.30, 0.0607),
            (0.40, 0.0873), (0.50, 0.118), (0.60, 0.159), (0.70, 0.214), (0.80, 0.289), (0.85, 0.346), (0.90, 0.421),
            (0.95, 0.565), (0.97, 0.673), (0.984, 0.797), (0.99, 0.891), (0.995, 1.05), (0.999, 1.43), (1.0, 4.31),
        ),
        swing=0.06,
        memory=0.9998,
        prompt_tokens=(
            (0.0, 2), (0.01, 29), (0.05, 181), (0.10, 207), (0.25, 396), (0.50, 1020), (0.75, 1189), (0.90, 2735),
            (0.95, 4083), (0.99, 4142), (0.999, 6212), (1.0, 14050),
        ),
        output_tokens=(
            (0.0, 7), (0.01, 16), (0.05, 41), (0.10, 54), (0.25, 85), (0.50, 129), (0.75, 395), (0.90, 424),
            (0.95, 451), (0.99, 601), (0.999, 954), (1.0, 1000),
        ),
    ),
    # Mooncake's conversation trace: 12,031 requests in 3,537 s, its stamps spread over their ticks of 3 s
    # (kvcache-ai/Mooncake, Apache-2.0; Qin et al., FAST 2025).
    "mooncake": Fitted(
        requests=12_031,
        duration_s=3537.0,
        idle_s=0.0,
        gaps_s=(
            (0.0, 0.0001), (0.02, 0.0061), (0.05, 0.0146), (0.10, 0.031), (0.20, 0.0658), (0.30, 0.107), (0.40, 0.151),
            (0.50, 0.203), (0.60, 0.267), (0.70, 0.351), (0.80, 0.469), (0.90, 0.681), (0.95, 0.889), (0.984, 1.23),
            (0.995, 1.61), (0.999, 2.02), (1.0, 2.86),
        ),
        swing=0.01,
        memory=0.999,
        prompt_tokens=(
            (0.0, 891), (0.05, 901), (0.10, 964), (0.25, 2306), (0.50, 6909), (0.75, 15368), (0.90, 27367),
            (0.95, 39552), (0.99, 85401), (0.999, 121301), (1.0, 126195),
        ),
        output_tokens=(
            (0.0, 1), (0.01, 3), (0.05, 10), (0.10, 24), (0.25, 156), (0.50, 350), (0.75, 472), (0.90, 597),
            (0.95, 698), (0.99, 1120), (1.0, 2000),
        ),
    ),
}  # fmt: skip


def synthetic_trace(name: str, seed: int) -> Trace:
    """A seeded trace of that name (see FITTED); sizes are drawn apart from the gaps and from each other."""
    figures = FITTED[name]
    rng = random.Random(f"trace/{name}/{seed}")
    gaps_s = _gaps_s(figures, rng)
    at_s = array("d", itertools.accumulate(gaps_s, initial=0.0))
    prompts, outputs = (
        array("q", (round(_at(knots, rng.random())) for _ in at_s))
        for knots in (figures.prompt_tokens, figures.output_tokens)
    )
    return Trace(name, at_s, prompts, outputs, kind="synthetic, fitted to")


def _gaps_s(figures: Fitted, rng: random.Random) -> list[float]:
    level = rng.gauss(0, 1)
    gaps_s: list[float] = []
    for _ in range(figures.requests - 1):
        level = figures.memory * level + math.sqrt(1 - figures.memory**2) * rng.gauss(0, 1)
        score = math.sqrt(figures.swing) * level + math.sqrt(1 - figures.swing) * rng.gauss(0, 1)
        gaps_s.append(_at(figures.gaps_s, _NORMAL.cdf(score)))
    busy_s = math.fsum(gap_s for gap_s in gaps_s if gap_s <= figures.idle_s)
    stretch = (figures.duration_s - busy_s) / (math.fsum(gaps_s) - busy_s)
    return [gap_s * stretch if gap_s > figures.idle_s else gap_s for gap_s in gaps_s]


def _at(knots: Knots, share: float) -> float:
    """The value at a share, by inverse transform, interpolated between the knots on a logarithmic scale."""
    share = min(max(share, _LEAST_SHARE), 1 - _LEAST_SHARE)
    index = min(bisect.bisect_right(knots, share, key=lambda knot: knot[0]), len(knots) - 1)
    (low_share, low), (high_share, high) = knots[index - 1], knots[index]
    part = (share - low_share) / (high_share - low_share)
    return math.exp(math.log(low) + part * (math.log(high) - math.log(low)))
