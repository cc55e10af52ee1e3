"""What a run's folder tells besides its tasks: reads, actions, refusals, an early end, a comparison; and in words."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from yottabench.load.actions import Done, action_doubts, read_done
from yottabench.load.baseline import compare_with_baseline
from yottabench.load.breaches import Refusals, judge_refusals
from yottabench.load.compare import Comparison
from yottabench.load.journal import Journal
from yottabench.load.latency import Latencies
from yottabench.load.profile import Profile
from yottabench.load.reads import ReadTally, read_tallies
from yottabench.load.rundir import RunDir

ABORT_FILE = "abort.txt"
OPEN_AUDIT = "the audit is open"


@attrs.frozen
class Outcome:
    """What came of the parts of a profile that are no tasks, and why the run ended early, if it did."""

    reads: Mapping[str, ReadTally]
    actions: Sequence[Done]
    refusals: Refusals
    aborted: str | None
    comparison: Comparison | None
    by_size: Mapping[int, Latencies]

    def doubts(self, profile: Profile) -> list[str]:
        """What of the profile was not done, one sentence each."""
        if self.aborted:
            return []
        found = action_doubts(profile, self.actions)
        if profile.mix.reads and not self.reads:
            found.append("the profile's reads were not made")
        if self.comparison is not None and not self.comparison.rows:
            found.append(f"the run could not be compared: {'; '.join(self.comparison.notes)}")
        return found

    def to_json(self) -> dict[str, Any]:
        """The entries of result.json."""
        return {
            "reads": {name: tally.summary() for name, tally in self.reads.items()},
            "actions": [attrs.asdict(done) for done in self.actions],
            "breaches": attrs.asdict(self.refusals),
            "aborted": self.aborted,
            "by_size": {str(size): found.summary() for size, found in self.by_size.items()},
            "comparison": None if self.comparison is None else self.comparison.to_json(),
        }


def read_outcome(run: RunDir, profile: Profile, journals: Sequence[Journal]) -> Outcome:
    """Reads all of it from a run's folder."""
    abort_file = run.path / ABORT_FILE
    return Outcome(
        reads=read_tallies(run),
        actions=read_done(run),
        refusals=judge_refusals(journals, profile.task.bad),
        aborted=abort_file.read_text("utf-8") if abort_file.exists() else None,
        comparison=compare_with_baseline(run, journals),
        by_size=times_by_size(journals, profile.task.sizes if profile.task.body == "sized" else ()),
    )


def times_by_size(journals: Sequence[Journal], sizes: Sequence[int]) -> dict[int, Latencies]:
    """The end-to-end times of the tasks with inputs of each size; which task had which, its number tells."""
    found = {size: Latencies() for size in sorted(set(sizes))}
    for journal in journals if sizes else ():
        for row, seq in enumerate(journal.seq):
            if journal.ended(row):
                found[sizes[seq % len(sizes)]].record_s(journal.detected_s[row] - journal.due_s[row])
    return found


def note_abort(run: RunDir, why: str) -> None:
    """Writes down that the run is ended early, and why."""
    run.write_text(run.path / ABORT_FILE, why)


def outcome_facts(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is to be said of it, as pairs of a name and a sentence."""
    found: list[tuple[str, str]] = []
    reads: Mapping[str, Any] = result.get("reads") or {}
    for name, tally in reads.items():
        latency = tally["latency_ms"]
        parts = [latency[part] for part in ("p50_ms", "p95_ms", "p99_ms")]
        times = " / ".join("-" if part is None else f"{part:.1f}" for part in parts)
        problems = f"   throttled {tally['throttled']}   errors {tally['errors']}"
        found.append((f"read {name}", f"{tally['made']}   p50/p95/p99 {times} ms from due{problems}"))
    sizes: Mapping[str, Any] = result.get("by_size") or {}
    for size, latency in sizes.items():
        if latency["count"]:
            times = f"p50 {latency['p50_ms']:.0f}, max {latency['max_ms']:.0f} ms end to end"
            found.append((f"{int(size):,} B", f"{latency['count']} ended   {times}"))
    for action in result.get("actions") or ():
        when = "not done" if action["at_s"] is None else f"at {action['at_s']:.1f} s"
        found.append(("action", f"{action['do']} {when}: {action['what']}"))
    if result.get("retried"):
        found.append(("tried again", f"{result['retried']} tasks needed more than one attempt"))
    breaches = result.get("breaches")
    if breaches and breaches["sent"]:
        wrong = "".join(
            f"   {word} {', '.join(f'{rule} ({count})' for rule, count in breaches[key].items())}"
            for key, word in (("accepted", "TAKEN:"), ("unclear", "no clear answer:"))
            if breaches[key]
        )
        found.append(("bad input", f"{breaches['refused']} of {breaches['sent']} refused as they should be{wrong}"))
    if result.get("aborted"):
        found.append(("ended early", result["aborted"]))
    comparison = result.get("comparison")
    if comparison:
        found.append(("compared", "; ".join([f"with {comparison['baseline']}", *comparison["notes"]])))
    return found


def comparison_rows(result: Mapping[str, Any]) -> list[tuple[str, str, str, str, str, bool]]:
    """Each compared percentile in words: its name, before, now, the change, its confidence limits; and if it alarms."""
    comparison = result.get("comparison")
    return [
        (
            row["metric"],
            f"{row['before_ms']:,.1f}",
            f"{row['now_ms']:,.1f}",
            f"{row['ratio'] - 1:+.1%}",
            f"{row['low'] - 1:+.1%} to {row['high'] - 1:+.1%}",
            row["slower"],
        )
        for row in (comparison["rows"] if comparison else ())
    ]


def comparison_lines(result: Mapping[str, Any]) -> list[str]:
    """The same for a terminal, one percentile a line."""
    return [
        f"{name:<14}{before:>9} -> {now:>9} ms  {change} ({sure}){'   SLOWER' if slower else ''}"
        for name, before, now, change, sure, slower in comparison_rows(result)
    ]


def outcome_limits(result: Mapping[str, Any]) -> list[str]:
    """What the figures do not say, for whoever quotes them."""
    lines = [
        f"{gate['gate']} was judged by {gate['samples']} tasks; {gate['needed']} without a miss are the fewest that "
        "show it with 99 % confidence, were they independent, which tasks of a queue are not."
        for gate in result["gates"]
        if gate.get("needed") and gate["samples"] < gate["needed"]
    ]
    comparison = result.get("comparison")
    if comparison:
        lines.append(
            f"Slower means: the ratio exceeds {1 + comparison['tolerance']:.2f}, its lower confidence limit exceeds 1. "
            "The limits come from drawing blocks of each run's time with replacement; all rows together alarm in at "
            f"most {comparison['false_alarms']:.0%} of equal runs. What differs between runs as a whole, such as "
            "another machine or a busier hour, they cannot know."
        )
    return lines
