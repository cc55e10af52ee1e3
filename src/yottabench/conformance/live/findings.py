"""What a check of a deployment found, by operation, as data, as JSON and as text."""

import json
from collections.abc import Iterable
from typing import Any, Literal

import attrs

from yottabench.conformance.document import operations

State = Literal["conforms", "deviates", "not checked"]
SHOWN_MAX = 20  # deviations of one operation; a broken one would fill the report


@attrs.frozen
class Finding:
    """A deviation, with the request and the answer that show it; their secrets are taken out."""

    text: str
    request: dict[str, Any]
    answer: dict[str, Any] | None


@attrs.define
class OperationFindings:
    """What is known of one operation."""

    answered: int = 0
    """Answers that were checked."""
    succeeded: int = 0
    """Of these, successes as documented. Without any, little is known."""
    deviations: list[Finding] = attrs.field(factory=list[Finding])
    reasons: list[str] = attrs.field(factory=list[str])
    """Why something was not checked."""

    @property
    def state(self) -> State:
        """The verdict."""
        if self.deviations:
            return "deviates"
        return "conforms" if self.succeeded else "not checked"


@attrs.define
class Findings:
    """What a check found, and what it did."""

    target: str
    writes: bool
    operations: dict[str, OperationFindings] = attrs.field(
        factory=lambda: {name: OperationFindings() for name in operations()}
    )
    requests: int = 0
    left_behind: list[str] = attrs.field(factory=list[str])
    """Endpoints that were made and could not be deleted again."""
    stopped: str | None = None
    """Why the check ended early."""

    @property
    def deviates(self) -> bool:
        """Whether anything is not as documented."""
        return any(one.deviations for one in self.operations.values())

    def skip(self, names: Iterable[str], reason: str) -> None:
        """Say why something of these operations is not checked."""
        for name in names:
            if reason not in self.operations[name].reasons:
                self.operations[name].reasons.append(reason)

    def as_json(self) -> dict[str, Any]:
        """The findings for programs."""
        return {
            "target": self.target,
            "mode": "write" if self.writes else "read-only",
            "requests": self.requests,
            "deviates": self.deviates,
            "stopped": self.stopped,
            "left_behind": self.left_behind,
            "operations": {
                name: {
                    "state": one.state,
                    "answers_checked": one.answered,
                    "successes": one.succeeded,
                    "not_checked": one.reasons,
                    "deviations": [attrs.asdict(finding) for finding in one.deviations],
                }
                for name, one in self.operations.items()
            },
        }

    def as_text(self) -> str:
        """The findings for people."""
        width = max(map(len, self.operations))
        lines: list[str] = []
        for name, one in self.operations.items():
            reasons = "; ".join(one.reasons)
            lines.append(f"{one.state:<11}  {name:<{width}}  {one.answered:>4} answers  {reasons}".rstrip())
            for finding in one.deviations[:SHOWN_MAX]:
                lines += [f"    {finding.text}", f"      request: {_line(finding.request)}"]
                lines.append(f"      answer:  {_line(finding.answer)}")
            if len(one.deviations) > SHOWN_MAX:
                lines.append(f"    and {len(one.deviations) - SHOWN_MAX} more; --json has them all")
        states = [one.state for one in self.operations.values()]
        counts = ", ".join(f"{states.count(state)} {state}" for state in ("conforms", "deviates", "not checked"))
        lines.append(f"{self.target}: of {len(states)} operations: {counts}; {self.requests} requests")
        if self.stopped:
            lines.append(f"Ended early: {self.stopped}")
        if self.left_behind:
            lines.append(f"Not deleted again, please do so: {', '.join(self.left_behind)}")
        return "\n".join(lines)


def _line(shown: dict[str, Any] | None) -> str:
    return "none" if shown is None else json.dumps(shown, ensure_ascii=False)
