"""The processes that a run starts, the emulator and Locust: started apart from the terminal, ended for certain."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from yottabench.load.receiver import KEY_VARIABLE

POLL_S = 0.05
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class ChildError(Exception):
    """A process that did not start as it should; the text says why and where its log is."""


class Child:
    """A process in a session of its own, so that Ctrl-C reaches only us and we end it in the right order.

    Its errors go to `log`, what it prints to the file `.out` beside it. Leaving the `with` block ends what still runs.
    """

    def __init__(self, name: str, arguments: list[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.log = log
        self.output = log.with_suffix(".out")
        with log.open("ab") as errors, self.output.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603  our own commands
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env=env,
                start_new_session=True,
                preexec_fn=_die_with_parent if _LIBC is not None else None,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.end(grace_s=10.0)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def first_line(self, timeout_s: float) -> str:
        """The first line of its output. Raises ChildError when it ends before, or `timeout_s` is over."""
        until_s = time.monotonic() + timeout_s
        while True:
            exit_code = self.exit_code
            line, newline, _ = self.output.read_text("utf-8", "replace").partition("\n")
            if newline:
                return line
            if exit_code is not None:
                raise ChildError(f"The {self.name} ended with exit code {exit_code}. {self.last_words()}")
            if time.monotonic() > until_s:
                raise ChildError(f"The {self.name} said nothing for {timeout_s:g} s. {self.last_words()}")
            time.sleep(POLL_S)

    def ask_to_end(self) -> None:
        """Sends SIGTERM."""
        if self.exit_code is None:
            self._process.send_signal(signal.SIGTERM)

    def end(self, grace_s: float) -> None:
        """Ends it and every process of its session: politely, and after `grace_s` for certain."""
        self._signal_session(signal.SIGTERM)
        until_s = time.monotonic() + grace_s
        while time.monotonic() < until_s and (self.exit_code is None or self._session_lives()):
            time.sleep(POLL_S)
        self._signal_session(signal.SIGKILL)
        self._process.wait()

    def last_words(self) -> str:
        """The last lines of its log, or the last of those that tell of errors, for an error's text."""
        lines = self.log.read_text("utf-8", "replace").strip().splitlines()
        lines = ([line for line in lines if "/ERROR/" in line] or lines)[-5:]
        return f"Its log is {self.log}" + (", which ends:\n  " + "\n  ".join(lines) if lines else ", and empty.")

    def _session_lives(self) -> bool:
        try:
            os.killpg(self._process.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def _signal_session(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            return


def start_emulator(log: Path, options: Sequence[str] = ()) -> tuple[Child, str]:
    """Starts an emulator that forgets everything at its end; gives it and its URL. Raises ChildError."""
    arguments = [sys.executable, "-m", "yottabench", "serve", "--port", "0", "--json", "--ephemeral", *options]
    return _started(Child("emulator", arguments, log))


def start_receiver(file: Path, key: str, host: str, port: int) -> tuple[Child, str]:
    """Starts a webhook receiver that appends to `file`; gives it and its URL. Raises ChildError."""
    arguments = [sys.executable, "-m", "yottabench.load.receiver", str(file), "--host", host, "--port", str(port)]
    return _started(
        Child("webhook receiver", arguments, file.with_name("receiver.log"), os.environ | {KEY_VARIABLE: key})
    )


def _started(child: Child) -> tuple[Child, str]:
    try:
        line = child.first_line(30.0)
        try:
            ready: Any = json.loads(line)
            url = str(ready["url"])
        except (ValueError, TypeError, KeyError):
            raise ChildError(
                f"The {child.name} said {line.strip()!r} instead of its address. {child.last_words()}"
            ) from None
    except BaseException:
        child.end(grace_s=1.0)
        raise
    return child, url


def _die_with_parent() -> None:
    # Without it, a `kill -9` of the run would leave the emulator and its workers behind.
    assert _LIBC is not None
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
