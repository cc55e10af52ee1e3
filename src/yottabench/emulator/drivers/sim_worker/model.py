"""What a simulated request is, and what is decided about it before any time passes."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping

JSON_TYPE = b"application/json"

# How an execution ends.
ANSWER = "answer"
HANG = "hang"
CLOSE = "close"
EXIT = "exit"


class SettingError(ValueError):
    """An environment variable of the endpoint that no worker can run with."""


class Request:
    """One HTTP request as an image sees it; `task` and `attempt` are "-" when their header is missing."""

    __slots__ = ("attempt", "body", "keep_alive", "method", "path", "task")

    def __init__(self, method: bytes, path: str, body: bytes, task: str, attempt: str, *, keep_alive: bool) -> None:
        self.method = method
        self.path = path
        self.body = body
        self.task = task
        self.attempt = attempt
        self.keep_alive = keep_alive


class Plan:
    """What happens with a request: wait `delay_s`, then end in the way `ending` says.

    `stream` replaces `body`: pairs of the share of `delay_s` that has passed and the bytes to send then. `counted` is
    False for what is no execution.
    """

    __slots__ = ("body", "content_type", "counted", "delay_s", "ending", "exit_code", "say", "status", "stream")

    def __init__(self, status: int, body: bytes, delay_s: float = 0.0, *, counted: bool = True) -> None:
        self.status = status
        self.body = body
        self.delay_s = delay_s
        self.content_type = JSON_TYPE
        self.counted = counted
        self.stream: Iterator[tuple[float, bytes]] | None = None
        self.ending = ANSWER
        self.exit_code = 0
        self.say = ""


def json_bytes(value: object) -> bytes:
    """`value` as compact JSON in UTF-8."""
    return json.dumps(value, separators=(",", ":")).encode()


def read_json(body: bytes) -> object:
    """The JSON in `body`; ValueError when it is none."""
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def generator(key: str) -> random.Random:
    """The source of chance that belongs to `key`: the same key draws the same, in any process."""
    return random.Random(key)


def log_normal(chance: random.Random, mean: float, cv: float) -> float:
    """A draw with this mean and this coefficient of variation."""
    if not mean or not cv:
        return mean
    sigma_squared = math.log1p(cv * cv)
    return chance.lognormvariate(math.log(mean) - sigma_squared / 2, math.sqrt(sigma_squared))


class Settings:
    """The SIM_* variables of one worker."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def number(self, name: str, default: float, *, maximum: float = 1e9) -> float:
        """The number called `name`, from 0 to `maximum`; SettingError when it is anything else."""
        text = self._env.get(name, "").strip()
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value <= maximum:
            raise SettingError(f"{name} must be a number from 0 to {maximum:g}; got {text!r}. Update the endpoint.")
        return value

    def text(self, name: str, default: str) -> str:
        """The text called `name`."""
        return self._env.get(name) or default
