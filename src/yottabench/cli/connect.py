"""What the commands that talk to a deployment share: options, the client, output, errors and exit codes."""

import json
import os
import shutil
import sys
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from yottabench.client import Client, YottaError

EXIT_FAILED = 1  # the service refused or failed
EXIT_USAGE = 2  # wrong usage: nothing was sent
EXIT_NOT_FOUND = 3
EXIT_KEY = 4  # the key is missing, wrong, or not for this
EXIT_NO_ANSWER = 5  # unreachable, or no answer in time
EXIT_TASK_FAILED = 6  # a task ended FAILED, or was refused in a batch
EXIT_STILL_OPEN = 7  # a task was still open when the wait was over
EXIT_INTERRUPTED = 130

KINDS = {
    EXIT_USAGE: "Usage",
    EXIT_NOT_FOUND: "NotFound",
    EXIT_STILL_OPEN: "WaitTimedOut",
    EXIT_INTERRUPTED: "Interrupted",
}

LOCAL_KEY = "local"  # an emulator on this machine without configured keys takes any
LAST_COLUMN_CHARS = 30  # of a table, however narrow the terminal
KEY_HINT = (
    "the environment variable YOTTA_API_KEY; or, for an emulator on this machine, YOTTA_BASE_URL=http://127.0.0.1:8080."
)

_as_json: ContextVar[bool] = ContextVar("yottabench_as_json", default=False)


def _noted(as_json: bool) -> bool:
    _as_json.set(as_json)
    return as_json


BaseUrl = Annotated[
    str | None,
    typer.Option("--base-url", envvar="YOTTA_BASE_URL", help="Deployment to talk to; the live service unless set."),
]
AsJson = Annotated[
    bool, typer.Option("--json", is_eager=True, callback=_noted, help="Print JSON for programs, and nothing else.")
]
EndpointId = Annotated[str, typer.Argument(metavar="ENDPOINT_ID", help="Id of the endpoint.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait at most.")]


@contextmanager
def connected(base_url: str | None) -> "Generator[Client]":
    """A client for one command; what goes wrong inside is said in one line on stderr, and ends the command."""
    from yottabench.client import Client, YottaError

    try:
        with Client(api_key=_key(base_url), base_url=base_url) as client:
            yield client
    except YottaError as error:
        fail_with(error)
    except BrokenPipeError:
        # Whoever read the output has enough; Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def is_local(base_url: str | None) -> bool:
    """Whether a base URL is on this machine."""
    from urllib.parse import urlsplit

    from yottabench.client.transport import is_loopback

    try:
        return is_loopback(urlsplit(base_url or "").hostname or "")
    except ValueError:
        return False


def _key(base_url: str | None) -> str:
    if not os.environ.get("YOTTA_API_KEY") and not is_local(base_url):
        stop(f"No API key. Set {KEY_HINT}")
    return os.environ.get("YOTTA_API_KEY") or LOCAL_KEY


def fail_with(error: "YottaError") -> NoReturn:
    """Say what went wrong and end with its exit code."""
    names = ("code", "http_status", "operation", "request_id", "task_id", "may_have_taken_effect", "open_ids")
    details = {name: getattr(error, name, None) for name in names}
    say_error(str(error), type(error).__name__, **{name: value for name, value in details.items() if value is not None})
    raise typer.Exit(exit_code_of(error))


def say_error(message: str, kind: str = "Failed", **details: Any) -> None:
    """One line on stderr: red on a terminal; with --json an object that holds it."""
    if _as_json.get():
        typer.echo(json.dumps({"error": {"kind": kind, "message": message, **details}}), err=True)
    else:
        typer.secho(" ".join(message.split()), err=True, fg=typer.colors.RED)


def stop(message: str, code: int = EXIT_USAGE) -> NoReturn:
    """Say why and end."""
    say_error(message, KINDS.get(code, "Failed"))
    raise typer.Exit(code)


def interrupted(message: str) -> NoReturn:
    """Say what goes on after Ctrl-C, and end."""
    stop(f"Interrupted. {message}", EXIT_INTERRUPTED)


def usage_error(error: typer.TyperException, as_json: bool) -> int:
    """Say in one line what of the command line is wrong; its exit code."""
    # That one only ends a command that has shown its help, because nothing was asked of it.
    if type(error).__name__ != "NoArgsIsHelpError":
        _noted(as_json)
        path = getattr(getattr(error, "ctx", None), "command_path", "yottabench")
        what = error.format_message()
        say_error(f"{what}{'' if what.endswith(('.', '?')) else '.'} See: {path} --help", KINDS[EXIT_USAGE])
    return error.exit_code


@contextmanager
def waiting(text: str) -> "Generator[None]":
    """Show on a terminal that something is waited for."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(text):
        yield


def exit_code_of(error: "YottaError") -> int:
    """The documented exit code."""
    from yottabench import client

    codes: Mapping[type[YottaError], int] = {
        client.InvalidArgument: EXIT_USAGE,
        client.JournalError: EXIT_USAGE,
        client.NotFound: EXIT_NOT_FOUND,
        client.AuthenticationError: EXIT_KEY,
        client.PermissionDenied: EXIT_KEY,
        client.ConnectionFailed: EXIT_NO_ANSWER,
        client.TaskFailed: EXIT_TASK_FAILED,
        client.WaitTimedOut: EXIT_STILL_OPEN,
    }
    return next((code for kind, code in codes.items() if isinstance(error, kind)), EXIT_FAILED)


def print_json(value: Any) -> None:
    """One line of JSON; models as the API has them."""
    typer.echo(json.dumps(plain(value), ensure_ascii=False))


def plain(value: Any) -> Any:
    """Models as the dicts that they came as."""
    if isinstance(value, list):
        return [plain(one) for one in value]  # pyright: ignore[reportUnknownVariableType] -- any JSON
    return value.to_dict() if hasattr(value, "to_dict") else value


def print_table(columns: Iterable[str], rows: Iterable[Iterable[Any]], empty: str) -> None:
    """A table; `empty` instead when there are no rows. Nothing is folded, so that ids can be copied; only the last
    column is cut, where a terminal has no room for it."""
    shown = [[" ".join(_cell(cell).split()) for cell in row] for row in rows]
    if not shown:
        typer.echo(empty)
        return
    table = [list(columns), *shown]
    widths = [max(len(row[index]) for row in table) for index in range(len(table[0]) - 1)]
    room = _terminal_width() - sum(widths) - 2 * len(widths)
    for number, row in enumerate(table):
        cells = [f"{cell:<{width}}  " for cell, width in zip(row[:-1], widths, strict=True)]
        line = "".join([*cells, _cut(row[-1], max(room, LAST_COLUMN_CHARS))])
        typer.echo(typer.style(line, bold=True) if number == 0 else line)


def _terminal_width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def print_fields(fields: Mapping[str, Any]) -> None:
    """Names and values below each other."""
    width = max(map(len, fields))
    for name, value in fields.items():
        typer.echo(f"{name:<{width}}  {_cell(value)}")


def _cell(value: Any) -> str:
    if value is None or type(value).__name__ == "Unset":
        return "-"
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def when(milliseconds: Any) -> str:
    """A time of the API for people, in UTC."""
    from datetime import UTC, datetime

    if not isinstance(milliseconds, int):
        return _cell(milliseconds)
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def read_json(text: str | None, file: Path | None) -> Any:
    """JSON from an argument, a file, or stdin ("-"). Ends the command when it is none."""
    if (text is None) == (file is None):
        stop("Give the input either as an argument ('-' for stdin) or with --file.")
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            stop(f"{file} cannot be read: {reason(error)}.")
    elif text == "-":
        text = sys.stdin.read()
    try:
        return json.loads(text or "")
    except ValueError as error:
        stop(f'The input is no JSON: {error}. Quote it for the shell, as in \'{{"prompt": "hi"}}\'.')


def reason(error: OSError | UnicodeDecodeError) -> str:
    """Why a file cannot be read or written, without its name."""
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def read_pairs(pairs: Iterable[str] | None, separator: str, option: str) -> dict[str, str] | None:
    """NAME=VALUE options as a dict. Ends the command when one is none."""
    if not pairs:
        return None
    found: dict[str, str] = {}
    for pair in pairs:
        name, middle, value = pair.partition(separator)
        if not middle or not name:
            stop(f"{option} takes NAME{separator}VALUE, but is {pair.partition(separator)[0]!r}.")
        found[name.strip()] = value.strip() if separator == ":" else value
    return found
