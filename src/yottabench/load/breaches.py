"""Submits that break a rule of the API on purpose, each rule in turn: a sound server refuses every one of them."""

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from yottabench.load.journal import ACCEPTED, REFUSED, SENT, UNKNOWN, Journal


@attrs.frozen
class Submit:
    """What is sent for one task."""

    task_id: str
    input: Any
    worker_port: int
    process_uri: str


def _set(**changes: Any) -> Callable[[Submit], Submit]:
    return lambda submit: attrs.evolve(submit, **changes)


# Nothing here leaves a server in doubt: each is against a documented limit, or no value of the documented type.
BREACHES: dict[str, Callable[[Submit], Submit]] = {
    "workerPort 0": _set(worker_port=0),
    "workerPort 65536": _set(worker_port=65_536),
    "workerPort -1": _set(worker_port=-1),
    "processUri with a space": _set(process_uri="/run me"),
    "processUri with dot segments": _set(process_uri="/a/../b"),
    "processUri of 256 characters": _set(process_uri="/" + "a" * 255),
    "input null": _set(input=None),
    "input an empty object": _set(input={}),
    "input an empty array": _set(input=[]),
    "input an empty text": _set(input=""),
    "taskId with a hyphen": lambda submit: attrs.evolve(submit, task_id=submit.task_id + "-x"),
    "taskId of 256 characters": lambda submit: attrs.evolve(submit, task_id=submit.task_id.ljust(256, "x")),
}
_NAMES = tuple(BREACHES)


def breach_of(seq: int, share: float) -> str | None:
    """The rule that the seq-th submit breaks when `share` of them are to; None for a sound one.

    Spread evenly, every rule in its turn, so that journals alone tell which were which.
    """
    index = int(seq * share)
    return _NAMES[index % len(_NAMES)] if int((seq + 1) * share) > index else None


@attrs.define
class Refusals:
    """What became of the submits that broke a rule."""

    sent: int = 0
    refused: int = 0
    accepted: dict[str, int] = attrs.field(factory=dict[str, int])
    unclear: dict[str, int] = attrs.field(factory=dict[str, int])


def judge_refusals(journals: Sequence[Journal], share: float) -> Refusals:
    """Counts what was refused as it should be, what was accepted, and what got no clear answer, by rule."""
    found = Refusals()
    for journal in journals if share else ():
        for seq, outcome in zip(journal.seq, journal.outcome, strict=True):
            rule = breach_of(seq, share)
            if rule is None:
                continue
            found.sent += 1
            found.refused += outcome == REFUSED
            if outcome == ACCEPTED:
                found.accepted[rule] = found.accepted.get(rule, 0) + 1
            elif outcome in (UNKNOWN, SENT):
                found.unclear[rule] = found.unclear.get(rule, 0) + 1
    return found
