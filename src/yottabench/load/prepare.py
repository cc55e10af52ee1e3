"""From a profile to what a process needs to send: its schedule, its bodies, and how to say what they are."""

import math
import os
import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import attrs

from yottabench.load.bodies import BUILT_IN_PROMPTS, Body, body_maker, read_prompts
from yottabench.load.profile import Profile
from yottabench.load.schedule import Arrival, Schedule, build_schedule, share_out
from yottabench.load.synthetic import synthetic_trace
from yottabench.load.trace import Trace
from yottabench.load.trace_files import read_trace

# Beside a trace, the file of prompts that is used when none is named.
PROMPTS_BESIDE_TRACE = "mt_bench_question.jsonl"


@attrs.frozen
class Prepared:
    """A profile ready to be sent: every process prepares it alike from the same files and the same seed.

    `schedule` is that of the tasks, `reads` has one for each read of a mixed load.
    """

    schedule: Schedule
    reads: dict[str, Schedule]
    make_body: Callable[[Arrival], Body]
    trace: Trace | None
    prompts_name: str | None


def prepare(profile: Profile, seed: int) -> Prepared:
    """Reads the profile's files and builds its schedule. Raises ProfileError."""
    arrivals, trace = profile.arrivals, None
    if arrivals.trace:
        until_s = (arrivals.duration_s or math.inf) * arrivals.time_scale
        trace = read_trace(Path(arrivals.trace), seed, tick_s=arrivals.tick_s, until_s=until_s)
    elif arrivals.synthetic:
        trace = synthetic_trace(arrivals.synthetic, seed)
    prompts, name = BUILT_IN_PROMPTS, "the built-in prompts"
    if profile.task.prompts:
        path = Path(profile.task.prompts)
        prompts, name = read_prompts(path), path.name
    make_body = body_maker(profile.task, prompts)
    prompts_name = name if profile.task.body == "chat" else None
    schedule, reads = build_schedule(arrivals, seed, trace), dict[str, Schedule]()
    if profile.mix.reads:
        reads = share_out(schedule, {"submit": profile.mix.submit, **profile.mix.reads})
        schedule = reads.pop("submit")
    return Prepared(schedule, reads, make_body, trace, prompts_name)


def prompts_beside(trace: Path) -> Path | None:
    """The file of prompts in the trace's folder, None when there is none."""
    path = trace.parent / PROMPTS_BESIDE_TRACE
    return path if path.is_file() else None


def describe(profile: Profile, prepared: Prepared) -> str:
    """How tasks come, in one line for people."""
    arrivals = profile.arrivals
    if prepared.trace is not None:
        scale = f", {arrivals.time_scale:g} times as fast" if arrivals.time_scale != 1 else ""
        return prepared.trace.summary() + scale
    kind = {"constant": "constant gaps", "poisson": "Poisson", "gamma": f"Gamma, gap CV {arrivals.gap_cv:g}"}[
        arrivals.kind
    ]
    if arrivals.stages:
        rates = [rate for stage in arrivals.stages for rate in (stage.rate, stage.rate_to) if rate is not None]
        stages = f"{len(arrivals.stages)} stage{'s' if len(arrivals.stages) != 1 else ''}"
        return (
            f"{kind}, {stages} of {min(rates):g} to {max(rates):g} tasks/s, "
            f"{prepared.schedule.expected:.0f} tasks expected"
        )
    if profile.mix.reads:
        weights = {"submit": profile.mix.submit, **profile.mix.reads}
        parts = ", ".join(f"{name} {weight / sum(weights.values()):.0%}" for name, weight in weights.items())
        return f"{kind}, {arrivals.rate:g} requests/s: {parts}"
    return f"{kind}, {arrivals.rate:g} tasks/s"


def machine() -> dict[str, Any]:
    """What the run's figures depend on besides the target: the generator's machine and versions."""
    versions = {"python": platform.python_version()}
    for package in ("yottabench", "locust", "gevent", "httptools"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {"system": platform.system(), "machine": platform.machine(), "cpus": os.cpu_count(), "versions": versions}
