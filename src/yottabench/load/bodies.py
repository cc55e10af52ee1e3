"""Task inputs: a profile's fixed JSON, bodies of given sizes, or chats whose lengths follow a trace."""

import gzip
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from yottabench.load.profile import TaskSettings
from yottabench.load.schedule import Arrival
from yottabench.load.tables import ProfileError
from yottabench.load.trace import Size

Body = dict[str, Any]

MARK = "yottabench_task"  # the member of an input that holds the task's id
DEFAULT_SIZE = Size(prompt_tokens=200, output_tokens=50)
MAX_PROMPT_CHARS = 4_000_000  # under the API's 10 MB for a body, whatever the characters weigh

LEAST_BYTES, MOST_BYTES = 64, 11_000_000  # of a sized input
_SIZED_FRAME = len('{"data":""}')

BUILT_IN_PROMPTS = (
    "Explain to a new colleague how a message queue keeps work safe when a server restarts.",
    "Write a short packing list for a three-day walk in the mountains in early autumn.",
    "Summarise the main ideas behind double-entry bookkeeping for someone who has never seen a ledger.",
    "Compare a binary search with a hash table for looking up words in a dictionary.",
    "Draft a polite answer to a customer whose parcel arrived two days late.",
    "A train leaves at 9:40 and travels 210 km at 84 km/h. When does it arrive? Show the steps.",
    "Name three uses of a pressure sensor on a ship and what each one could warn about.",
    "Turn the sentence 'The meeting was moved by the manager' into the active voice and explain the change.",
)


def read_prompts(path: Path) -> tuple[str, ...]:
    """Prompts from JSONL: of each line its first `turns` entry, or its `prompt`. Raises ProfileError."""
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ProfileError(f"Cannot read the prompts {path}: {error}. Give a JSONL file, plain or gzipped.") from None
    prompts = tuple(_prompt(line, f"{path}: line {n}") for n, line in enumerate(text.splitlines(), 1) if line.strip())
    if not prompts:
        raise ProfileError(f"{path} holds no prompts.")
    return prompts


def body_maker(task: TaskSettings, prompts: tuple[str, ...] = BUILT_IN_PROMPTS) -> Callable[[Arrival], Body]:
    """A function from an arrival to the input of its task; equal arrivals give equal inputs."""
    if task.body == "json":
        fixed = dict(task.input)
        return lambda arrival: fixed
    if task.body == "sized":
        return _sized_maker(task.sizes)
    filler = "\n\n".join(prompts) + "\n\n"
    starts = [0]
    for prompt in prompts[:-1]:
        starts.append(starts[-1] + len(prompt) + 2)

    def chat(arrival: Arrival) -> Body:
        size = arrival.size or DEFAULT_SIZE
        start = starts[arrival.draw % len(starts)]
        length = min(MAX_PROMPT_CHARS, max(1, round(size.prompt_tokens * task.chars_per_token)))
        text = filler[start : start + length]
        # The prompts that follow in the file are the padding, round and round, until the length is reached.
        while len(text) < length:
            text += filler[: length - len(text)]
        return {
            "model": task.model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": max(1, size.output_tokens),
        }

    return chat


def _sized_maker(sizes: tuple[int, ...]) -> Callable[[Arrival], Body]:
    @lru_cache(maxsize=16)
    def of_bytes(size: int) -> Body:
        return {"data": "x" * (size - _SIZED_FRAME)}

    def sized(arrival: Arrival) -> Body:
        wanted = sizes[arrival.seq % len(sizes)] if sizes else (arrival.size or DEFAULT_SIZE).prompt_tokens
        return of_bytes(min(max(wanted, LEAST_BYTES), MOST_BYTES))

    return sized


def marked(body: Body, task_id: str) -> Body:
    """The input with the task's id in it."""
    return body | {MARK: task_id}


def mark_in(output: Any) -> str | None:
    """The task id that a result shows, None when it shows none."""
    mark: Any = cast("dict[str, Any]", output).get(MARK) if isinstance(output, dict) else None
    return mark if isinstance(mark, str) else None


def _prompt(line: str, where: str) -> str:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise ProfileError(f"{where} is not JSON: {error}.") from None
    if isinstance(row, dict):
        fields = cast("dict[str, Any]", row)
        turns = fields.get("turns")
        text: Any = cast("list[Any]", turns)[0] if isinstance(turns, list) and turns else fields.get("prompt")
        if isinstance(text, str) and text:
            return text
    raise ProfileError(f'{where} must be an object with "turns": [text, ...] or "prompt": text.')
