"""Readers for the public formats of traces: Azure's CSV, Mooncake's JSONL, ServeGen's windows, plain CSV and JSONL."""

import csv
import gzip
import io
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import attrs
import orjson

from yottabench.load.servegen import is_servegen, read_servegen
from yottabench.load.tables import ProfileError
from yottabench.load.trace import Trace, from_rows, spread, tick_of

MAX_SIZE = 10_000_000  # of one row; beyond it the file is broken, or its tasks exceed every body the API takes
MAX_ROWS = 5_000_000

Row = tuple[float, int, int]


def read_trace(path: Path, seed: int = 1, *, tick_s: float | None = None, until_s: float = math.inf) -> Trace:
    """Reads a trace in whichever of the known formats it is, plain or .gz.

    `tick_s` is how far each time is moved by chance: None for the tick to which the file's times were rounded, if they
    were, 0 for not at all. `until_s` ends a ServeGen workload, which is drawn and not recorded. Raises ProfileError
    that names file, line and rule.
    """
    if is_servegen(path):
        return read_servegen(path, seed, until_s=until_s, max_rows=MAX_ROWS)
    text = _text(path)
    rows = _json_rows(path, text) if text.lstrip()[:1] == "{" else _csv_rows(path, text)
    if len(rows) > MAX_ROWS:
        raise ProfileError(f"{path} has more than {MAX_ROWS} rows. Cut it into parts.")
    trace = from_rows(path.name, rows)
    tick_s = tick_of(trace) if tick_s is None else tick_s
    return spread(trace, tick_s, seed) if tick_s > 0 else trace


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ProfileError(
            f"Cannot read the trace {path}: {error}. Give a CSV or JSONL file, plain or gzipped, or a ServeGen folder."
        ) from None


def _csv_rows(path: Path, text: str) -> list[Row]:
    reader = csv.reader(io.StringIO(text))
    no_header: list[str] = []
    header = ",".join(cell.strip().lower() for cell in next(reader, no_header))
    parse = _COLUMNS.get(header)
    if parse is None:
        known = " or ".join(f"'{columns}'" for columns in _COLUMNS)
        raise ProfileError(
            f"{path}: line 1 must be the header {known}, not {header[:80]!r}; JSON lines must be objects."
        )
    rows = [_checked(parse, cells, f"{path}: line {reader.line_num}") for cells in reader if cells]
    if not rows:
        raise ProfileError(f"{path} has a header but no rows.")
    return rows


def _json_rows(path: Path, text: str) -> list[Row]:
    return [
        _checked(_json_row, line, f"{path}: line {number}")
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip()
    ]


def _checked(parse: Callable[[Any], Row], data: Any, where: str) -> Row:
    try:
        at_s, prompt, output = parse(data)
    except (ValueError, IndexError, KeyError, TypeError) as error:
        said = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ProfileError(f"{where} cannot be read: {said}.") from None
    if not math.isfinite(at_s) or not 0 <= prompt <= MAX_SIZE or not 0 <= output <= MAX_SIZE:
        raise ProfileError(f"{where}: the time must be finite and sizes must be 0 to {MAX_SIZE}.")
    return at_s, prompt, output


def _json_row(line: str) -> Row:
    row: Any = orjson.loads(line)
    if not isinstance(row, dict):
        raise TypeError("a line must be an object")
    fields = cast("Mapping[str, Any]", row)
    for layout in _KEYS:
        if layout.at in fields:
            at_s = float(fields[layout.at]) * layout.unit_s
            return at_s, _whole(fields[layout.size]), _whole(fields.get(layout.out, 0))
    known = " or ".join(f"{layout.at}, {layout.size}" for layout in _KEYS)
    raise ValueError(f"its keys must be {known}")


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"a size must be a whole number, not {value!r}")
    return value


def _azure_row(cells: list[str]) -> Row:
    # Azure writes seven digits of a second, which datetime does not read; the fraction is added by hand.
    stamp, _, fraction = cells[0].partition(".")
    seconds = (datetime.fromisoformat(stamp) - _AZURE_EPOCH).total_seconds()
    return seconds + (int(fraction) / 10 ** len(fraction) if fraction else 0.0), int(cells[1]), int(cells[2])


def _plain_row(cells: list[str]) -> Row:
    return float(cells[0]), int(cells[1]), 0


@attrs.frozen
class _Keys:
    """The keys of a JSONL layout, and what one unit of its time is in seconds."""

    at: str
    unit_s: float
    size: str
    out: str


_AZURE_EPOCH = datetime(2020, 1, 1)  # noqa: DTZ001  the file's stamps carry no zone; only their differences are used
_COLUMNS: dict[str, Callable[[list[str]], Row]] = {
    "timestamp,contexttokens,generatedtokens": _azure_row,
    "t,size": _plain_row,
}
_KEYS: Iterable[_Keys] = (
    _Keys("timestamp", 0.001, "input_length", "output_length"),  # Mooncake
    _Keys("t", 1.0, "size", "output"),
)
