"""ServeGen's workloads: per client, windows of a rate and a distribution of gaps, drawn anew as one trace."""

import bisect
import csv
import heapq
import itertools
import json
import math
import random
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from yottabench.load.tables import ProfileError
from yottabench.load.trace import Trace, from_rows

TRACE_FILE = re.compile(r"(?:.*/)?(.+)-trace\.csv")
ARCHIVES = (".tar.xz", ".tar.gz", ".tar", ".tgz")
DEFAULT_SIZE = (200, 50)  # tokens, for clients whose lengths are not there
_WEIGHT = re.compile(r"(\d+): ([0-9.eE+-]+)")


@attrs.frozen
class Window:
    """From `start_s` on a client sends `rate` tasks per second, with gaps of that distribution and shape."""

    start_s: float
    rate: float
    kind: str
    shape: float

    def unit_gap(self, rng: random.Random) -> float:
        """A gap with mean 1."""
        if self.kind == "Gamma":
            return rng.gammavariate(self.shape, 1 / self.shape)
        if self.kind == "Weibull":
            return rng.weibullvariate(1 / math.gamma(1 + 1 / self.shape), self.shape)
        return rng.expovariate(1)


@attrs.frozen
class Lengths:
    """Token counts with their weights, for drawing."""

    values: tuple[int, ...]
    weights: tuple[float, ...]

    def draw(self, rng: random.Random) -> int:
        """One of the values."""
        return rng.choices(self.values, self.weights)[0]


@attrs.frozen
class Client:
    """One client: its windows in order, and its lengths by the second from which they hold, if known."""

    name: str
    windows: tuple[Window, ...]
    lengths: tuple[tuple[float, Lengths, Lengths], ...] = ()

    def arrivals(self, seed: int, end_s: float) -> Iterator[tuple[float, int, int]]:
        """(second, prompt tokens, output tokens), endless only if the last window is.

        Gaps are drawn in a clock that runs at the rate, so a change of rate stretches the gap under way. The first
        gap begins somewhere before the start.
        """
        rng = random.Random(f"servegen/{self.name}/{seed}")
        left = self.windows[0].unit_gap(rng) * rng.random()
        for window, upto in zip(self.windows, [*self.windows[1:], None], strict=True):
            at_s, until_s = window.start_s, min(end_s, upto.start_s if upto else end_s)
            while window.rate > 0 and at_s + left / window.rate < until_s:
                at_s += left / window.rate
                yield (at_s, *self._size(at_s, rng))
                left = window.unit_gap(rng)
            left -= max(0.0, until_s - at_s) * window.rate

    def _size(self, at_s: float, rng: random.Random) -> tuple[int, int]:
        if not self.lengths:
            return DEFAULT_SIZE
        index = max(0, bisect.bisect_right(self.lengths, at_s, key=lambda entry: entry[0]) - 1)
        _, prompts, outputs = self.lengths[index]
        return prompts.draw(rng), outputs.draw(rng)


def is_servegen(path: Path) -> bool:
    """Whether a path is what `read_servegen` reads: a folder, an archive, or one client's file."""
    return path.is_dir() or path.name.endswith(ARCHIVES) or TRACE_FILE.fullmatch(path.name) is not None


def read_servegen(path: Path, seed: int, *, until_s: float = math.inf, max_rows: int) -> Trace:
    """Draws the workload of a ServeGen folder (also one inside a tar) or file up to its second `until_s`.

    Raises ProfileError that names file, line and rule.
    """
    files = _files(path)
    clients = [_client(name, text, files) for name, text in files.items() if TRACE_FILE.fullmatch(name)]
    if not clients:
        raise ProfileError(f"{path} holds no file that ends in -trace.csv. Give a ServeGen folder of one workload.")
    end_s = min(until_s, max(_end_s(client) for client in clients))
    drawn = heapq.merge(*(client.arrivals(seed, end_s) for client in clients))
    rows = list(itertools.islice(drawn, max_rows + 1))
    if not rows:
        raise ProfileError(f"{path}: no client sends anything in its first {end_s:g} s.")
    if len(rows) > max_rows:
        raise ProfileError(f"{path} gives more than {max_rows} tasks. Set a shorter --duration.")
    return from_rows(path.name, rows, kind=f"{len(clients)} clients drawn by the windows of")


def _files(path: Path) -> Mapping[str, str]:
    """The texts of every -trace.csv and -dataset.json there, by name within one folder."""
    try:
        if path.is_dir():
            return {
                found.relative_to(path).as_posix(): found.read_text("utf-8")
                for found in sorted(path.iterdir())
                if found.is_file() and _wanted(found.name)
            }
        if path.name.endswith(ARCHIVES):
            return _unpacked(path)
        beside = path.with_name(path.name.replace("-trace.csv", "-dataset.json"))
        return {found.name: found.read_text("utf-8") for found in (path, beside) if found.is_file()}
    except (OSError, EOFError, UnicodeDecodeError, tarfile.TarError) as error:
        raise ProfileError(f"Cannot read the trace {path}: {error}.") from None


def _unpacked(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() and _wanted(member.name) else None
            if file is not None:
                texts[member.name] = file.read().decode("utf-8")
    folders = sorted({name.rpartition("/")[0] for name in texts})
    if len(folders) > 1:
        raise ProfileError(f"{path} holds several workloads ({', '.join(folders)}). Unpack it and give one folder.")
    return dict(sorted(texts.items()))


def _wanted(name: str) -> bool:
    return name.endswith(("-trace.csv", "-dataset.json"))


def _client(name: str, text: str, files: Mapping[str, str]) -> Client:
    windows: list[Window] = []
    for number, cells in enumerate(csv.reader(text.splitlines()), 1):
        if not cells:
            continue
        try:
            start_s, rate, _, kind, shape = float(cells[0]), float(cells[1]), cells[2], cells[3], float(cells[4])
            if not math.isfinite(start_s + rate + shape) or rate < 0 or (kind in ("Gamma", "Weibull") and shape <= 0):
                raise ValueError("a rate must not be negative, a shape must be positive")
        except (ValueError, IndexError) as error:
            raise ProfileError(f"{name}: line {number} cannot be read: {error}.") from None
        windows.append(Window(start_s, rate, kind, shape))
    if not windows:
        raise ProfileError(f"{name} has no windows.")
    windows.sort(key=lambda window: window.start_s)
    dataset = name.replace("-trace.csv", "-dataset.json")
    return Client(name, tuple(windows), _lengths(dataset, files[dataset]) if dataset in files else ())


def _lengths(name: str, text: str) -> tuple[tuple[float, Lengths, Lengths], ...]:
    try:
        table: dict[str, dict[str, Any]] = json.loads(text)
        found = [
            (float(start), _weights(entry["input_tokens"]), _weights(entry["output_tokens"]))
            for start, entry in table.items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProfileError(f"{name} cannot be read: {error}.") from None
    return tuple(sorted((entry for entry in found if entry[1].values and entry[2].values), key=lambda entry: entry[0]))


def _weights(text: str) -> Lengths:
    pairs = [(int(value), float(weight)) for value, weight in _WEIGHT.findall(text)]
    return Lengths(tuple(value for value, _ in pairs), tuple(weight for _, weight in pairs))


def _end_s(client: Client) -> float:
    """Where the last window ends: as long after its start as the windows before it were apart."""
    windows = client.windows
    return windows[-1].start_s + (windows[-1].start_s - windows[-2].start_s if len(windows) > 1 else 600.0)
