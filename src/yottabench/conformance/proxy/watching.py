"""Holds what passes to the document, and keeps what a load test needs to do the same again."""

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from yottabench.conformance import envelope
from yottabench.conformance.document import operation_of
from yottabench.conformance.exchange import Deviation, check
from yottabench.conformance.proxy.reading import Passed
from yottabench.conformance.redaction import shown_answer, shown_request

CHARS_PER_TOKEN = 4  # as the profiles have it, so that bodies come out as long as they were


@attrs.frozen
class Arrival:
    """An accepted task: when it was sent, how long its input was, and where on the worker it went."""

    at_s: float
    input_chars: int
    worker_port: int
    process_uri: str


@attrs.define
class Counts:
    """What was seen."""

    exchanges: int = 0
    of_the_api: int = 0
    unchecked: int = 0
    """Too large, or no HTTP that could be read."""
    by: Counter[str] = attrs.field(factory=Counter[str])
    """Deviations by who deviates."""


class Watcher:
    """Checks each exchange; `told` gets a deviation for people and the same for programs."""

    def __init__(self, told: Callable[[Deviation, dict[str, Any]], None]) -> None:
        self._told = told
        self.counts = Counts()
        self.arrivals: list[Arrival] = []

    def passed(self, passed: Passed) -> None:
        """See a request and its answer."""
        self.counts.exchanges += 1
        found = operation_of(passed.request.method, passed.request.path)
        self.counts.of_the_api += found is not None
        if not passed.whole:
            self.counts.unchecked += 1
            return
        for deviation in check(passed.request, passed.answer):
            self.counts.by[deviation.by] += 1
            shown = {
                **attrs.asdict(deviation),
                "request": shown_request(passed.request),
                "answer": shown_answer(passed.answer, passed.request),
            }
            self._told(deviation, shown)
        if found is not None and found[0].name == "submitTask" and passed.answer.code() == envelope.SUCCESS:
            self._keep(passed)

    def unreadable(self, _why: str) -> None:
        """A connection went on in a way that could not be read."""
        self.counts.unchecked += 1

    def _keep(self, passed: Passed) -> None:
        try:
            body: Any = json.loads(passed.request.body)
            text = json.dumps(body["input"], ensure_ascii=False)
            self.arrivals.append(Arrival(passed.at_s, len(text), int(body["workerPort"]), str(body["processUri"])))
        except (ValueError, KeyError, TypeError):
            return  # an accepted task without these has been told of as a deviation

    def write_recording(self, folder: Path) -> Path | None:
        """Write trace.csv and profile.toml for `yottabench load run`; returns the profile, None without tasks.

        They hold times, sizes, the worker's port and path: nothing of what was in the tasks, their headers or keys.
        """
        if not self.arrivals:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        ordered = sorted(self.arrivals, key=lambda one: one.at_s)
        rows = [f"{one.at_s - ordered[0].at_s:.6f},{math.ceil(one.input_chars / CHARS_PER_TOKEN)}" for one in ordered]
        trace = folder / "trace.csv"
        trace.write_text("\n".join(["t,size", *rows]) + "\n", encoding="utf-8")
        (port, uri), _ = Counter((one.worker_port, one.process_uri) for one in ordered).most_common(1)[0]
        profile = folder / "profile.toml"
        profile.write_text(_profile(ordered, trace, port, uri), encoding="utf-8")
        return profile


def _profile(arrivals: list[Arrival], trace: Path, port: int, uri: str) -> str:
    span_s = arrivals[-1].at_s - arrivals[0].at_s
    # A JSON text is a TOML text.
    return "\n".join(
        [
            f'about = "Recorded by yottabench proxy: {len(arrivals)} tasks in {span_s:.1f} s."',
            "",
            "[arrivals]",
            'kind = "trace"',
            f"trace = {json.dumps(str(trace.resolve()))}",
            "",
            "[task]",
            'body = "chat"',
            f"chars_per_token = {float(CHARS_PER_TOKEN)}",
            f"worker_port = {port}",
            f"process_uri = {json.dumps(uri)}",
            "",
        ]
    )
