"""What one simulated run is like: drawn from its seed before anything happens."""

from __future__ import annotations

import random
from typing import Any

import attrs

# Everything that may go wrong or be asked for. A run leaves some of it out: faults hide behind each other.
FEATURES = (
    "clock jumps",
    "clock set back",
    "clean restarts",
    "crashes",
    "deletes",
    "ends leases",
    "late timers",
    "lying workers",
    "patches",
    "receivers fail",
    "receivers hang",
    "refused commits",
    "refused reads",
    "repeats",
    "retention",
    "scales",
    "slow starts",
    "small windows",
    "start failures",
    "stops",
    "worker deaths",
)
RETRY_S = (60.0, 300.0, 900.0)


@attrs.frozen
class Plan:
    """`prompt`: time passes only when nothing is left to do, so that whatever is due happens exactly then."""

    seed: int
    always: frozenset[str]  # features that were asked for
    steps: int
    features: frozenset[str]
    settings: dict[str, Any]
    healing: bool  # receivers that fail recover before the end

    @property
    def prompt(self) -> bool:
        return not self.features & {"late timers", "small windows", "refused commits", "refused reads"}

    def has(self, feature: str) -> bool:
        return feature in self.features


def plan_of(seed: int, always: frozenset[str] = frozenset()) -> Plan:
    """The same for the same seed, in every process; with all of `always`, and without what hides it."""
    chance = random.Random(f"plan {seed}")
    share = chance.choice([0.2, 0.5, 0.8])
    features = frozenset(name for name in FEATURES if chance.random() < share)
    if chance.random() < 0.4:
        features -= {"late timers", "small windows", "refused commits", "refused reads"}
    features |= always
    settings = {
        "concurrency": chance.choice([1, 1, 1, 2]),
        "worker_timeout_s": float(chance.choice([20, 600, 3600])),
        "webhook_retry_s": RETRY_S,
        "retry_busy": chance.random() < 0.3,
        "drain_s": float(chance.choice([0, 30])),
        "retention_days": chance.choice([0.02, 0.2]) if "retention" in features else 7.0,
    }
    return Plan(seed, always, chance.choice([150, 300, 600]), features, settings, healing=chance.random() < 0.5)
