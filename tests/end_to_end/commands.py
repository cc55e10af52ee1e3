"""Runs commands in this process, and shows how they ended."""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from typer.testing import CliRunner

from yottabench.cli.app import build

COMMAND = [sys.executable, "-m", "yottabench"]


@attrs.frozen
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one line of JSON that it printed."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The lines of JSON that it printed."""
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Done]


def runner(environment: Mapping[str, str]) -> Run:
    """Runs commands with these variables, and those of each call."""

    def call(*arguments: str, stdin: str | None = None, **more: str) -> Done:
        done = CliRunner().invoke(build(), arguments, input=stdin, env={**environment, **more})
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Done(done.exit_code, done.stdout, done.stderr)

    return call
