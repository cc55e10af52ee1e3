"""What a person at a terminal meets: usage errors, tables, progress, Ctrl-C, completion in bash."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.emulator import emulator, make_endpoint
from tests.end_to_end.commands import COMMAND, Done, Run, runner
from yottabench.cli import connect

KEY = "terminal"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with emulator() as made:
        yield made


@pytest.fixture(scope="module")
def endpoint(url: str) -> str:
    return make_endpoint(url, KEY)


@pytest.fixture(scope="module")
def queue_only(url: str) -> str:
    return make_endpoint(url, KEY, workers=0)


@pytest.fixture
def environment(url: str) -> dict[str, str]:
    own = {"YOTTA_BASE_URL": url, "YOTTA_API_KEY": KEY, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    return {**{name: value for name, value in os.environ.items() if name != "NO_COLOR"}, **own}


def started(environment: dict[str, str], *arguments: str, **options: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen([*COMMAND, *arguments], text=True, env=environment, **options)


def ended(environment: dict[str, str], *arguments: str) -> Done:
    """Run a command in a process of its own, as its entry point does."""
    with started(environment, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=60)
    return Done(process.returncode, out, err)


class Terminal:
    """A pseudo-terminal with a command on it."""

    def __init__(self, environment: dict[str, str], *arguments: str, **options: Any) -> None:
        self._master, slave = pty.openpty()
        self.process = started(environment, *arguments, stdin=slave, stderr=slave, **{"stdout": slave, **options})
        os.close(slave)
        self.text = ""

    def read_until(self, pattern: str, timeout_s: float = 60.0) -> str:
        """Everything shown until the pattern is."""
        until_s = time.monotonic() + timeout_s
        while re.search(pattern, self.text) is None:
            assert time.monotonic() < until_s, self.text
            if not self._read(1.0) and self.process.poll() is not None:
                break
        assert re.search(pattern, self.text), self.text
        return self.text

    def end(self) -> str:
        """Everything shown until the command ended."""
        while self._read(0.2) or self.process.poll() is None:
            pass
        os.close(self._master)
        return self.text

    def _read(self, timeout_s: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], timeout_s)
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # how Linux says that nobody has the other end any more
            return False
        self.text += data.decode()
        return bool(data)


# ---- usage errors


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tasks", "get"], "Missing argument 'ENDPOINT_ID'. See: yottabench tasks get --help"),
        (["endpoint"], "No such command 'endpoint'. Did you mean 'endpoints'? See: yottabench --help"),
        (["tasks", "list", "1", "--page", "x"], "Invalid value for '--page': 'x' is not a valid int."),
        (["tasks", "list", "1", "--size", "1"], "No such option: --size"),
    ],
)
def test_wrong_usage_is_told_in_one_line(arguments: list[str], said: str, environment: dict[str, str]) -> None:
    done = ended(environment, *arguments)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert said in done.err


def test_wrong_usage_is_json_for_programs(environment: dict[str, str], run: Run) -> None:
    error = json.loads(ended(environment, "tasks", "get", "1", "--json").err)["error"]
    assert error == {"kind": "Usage", "message": "Missing argument 'TASK_ID'. See: yottabench tasks get --help"}
    for arguments in (["tasks", "submit", "1", "{"], ["endpoints", "create", "a", "b", "--env", "A"]):
        done = run(*arguments, "--json")
        assert (done.code, json.loads(done.err)["error"]["kind"]) == (2, "Usage")
    assert "{" not in run("endpoints", "create", "a", "b", "--env", "A").err


def test_without_a_command_the_commands_are_listed(environment: dict[str, str]) -> None:
    done = ended(environment)
    assert (done.code, done.err) == (2, "")
    assert {"endpoints", "doctor", "serve"} <= set(done.out.split())


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    return runner(environment)


# ---- tables


def test_nothing_of_a_table_is_folded_and_only_its_last_column_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [["a" * 60, "2026-11-23 17:59:43Z", "why \n " * 20], ["b", None, "short"]]
    connect.print_table(["ID", "CREATED", "ERROR"], rows, "none")
    whole = capsys.readouterr().out.splitlines()
    assert [len(line.split()) for line in whole] == [3, 3 + 20, 3]
    monkeypatch.setattr(connect, "_terminal_width", lambda: 80)
    connect.print_table(["ID", "CREATED", "ERROR"], rows, "none")
    head, first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("a" * 60 + "  2026-11-23 17:59:43Z  why why ")
    assert first.endswith("…")
    assert len(first) == 60 + 2 + 20 + 2 + connect.LAST_COLUMN_CHARS
    assert second.split() == ["b", "-", "short"]
    assert head.index("ERROR") == second.index("short")


# ---- waiting and Ctrl-C


def test_a_terminal_shows_that_something_is_waited_for(environment: dict[str, str], queue_only: str) -> None:
    terminal = Terminal(environment, "tasks", "submit", queue_only, "1", "--task-id", "waited", "--wait")
    terminal.read_until("Task waited is under way")
    terminal.process.send_signal(signal.SIGINT)
    shown = terminal.end()
    assert terminal.process.wait(30) == 130
    hint = f"Interrupted. Task waited goes on. Wait for it with: yottabench tasks wait {queue_only} waited"
    assert hint in shown.replace("\r\n", "").replace("\n", "")


def test_a_batch_shows_how_far_it_is_where_its_results_do_not_go(
    environment: dict[str, str], endpoint: str, tmp_path: Path
) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text("1\n2\n3\n")
    terminal = Terminal(environment, "batch", endpoint, str(file), "--out", str(tmp_path / "out.jsonl"))
    shown = terminal.end()
    assert terminal.process.wait(30) == 0
    assert "3/3" in shown
    assert "3 submitted, 3 succeeded" in shown
    terminal = Terminal(environment, "batch", endpoint, str(file))
    shown = terminal.end()
    assert (terminal.process.wait(30), "3/3" in shown, shown.count('"outcome": "SUCCESS"')) == (0, False, 3)


def test_a_batch_does_not_write_what_it_reads(run: Run, queue_only: str, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text("1\n")
    (tmp_path / "link").symlink_to(file)
    for options in (["--out", str(file)], ["--journal", str(tmp_path / "link")], ["--out", "x", "--journal", "x"]):
        done = run("batch", queue_only, str(file), "--no-wait", *options)
        assert (done.code, "Give each a file of its own." in done.err) == (2, True)
    assert file.read_text() == "1\n"


# ---- completion


def test_bash_completes_commands_and_options(environment: dict[str, str]) -> None:
    script = """
    source /dev/stdin
    for words in "yottabench ta" "yottabench tasks su" "yottabench tasks submit --wa" "yottabench endpoints cr"; do
      COMP_WORDS=($words) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
      _yottabench_completion yottabench
      echo "${COMPREPLY[@]}"
    done
    """
    beside = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    with_path = {**environment, "PATH": beside, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    function = ended(with_path, "--show-completion", "bash").out
    assert "complete -o default -F _yottabench_completion yottabench" in function
    done = subprocess.run(
        ["bash", "-euc", script], input=function, capture_output=True, text=True, env=with_path, check=False, timeout=60
    )
    assert done.stdout.splitlines() == ["tasks", "submit", "--wait", "create"], done.stderr
