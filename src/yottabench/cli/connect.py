"""What the commands that talk to a deployment share: options, the client, output, errors and exit codes."""

import json
import os
import sys
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
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

LOCAL_KEY = "local"  # an emulator on this machine without configured keys takes any

BaseUrl = Annotated[
    str | None,
    typer.Option("--base-url", envvar="YOTTA_BASE_URL", help="Deployment to talk to; the live service unless set."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs, and nothing else.")]
EndpointId = Annotated[str, typer.Argument(envvar="YOTTA_ENDPOINT_ID", show_default=False, help="Id of the endpoint.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait at most.")]


@contextmanager
def connected(base_url: str | None, *, as_json: bool = False) -> "Generator[Client]":
    """A client for one command; what goes wrong inside is said in one line on stderr, and ends the command."""
    from yottabench.client import Client, YottaError

    try:
        with Client(api_key=_key(base_url), base_url=base_url) as client:
            yield client
    except YottaError as error:
        fail_with(error, as_json=as_json)
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


def _key(base_url: str | None) -> str | None:
    if os.environ.get("YOTTA_API_KEY"):
        return None
    return LOCAL_KEY if is_local(base_url) else None


def fail_with(error: "YottaError", *, as_json: bool) -> NoReturn:
    """Say what went wrong and end with its exit code."""
    if as_json:
        details: dict[str, Any] = {"kind": type(error).__name__, "message": str(error)}
        for name in ("code", "http_status", "operation", "request_id", "task_id", "may_have_taken_effect", "open_ids"):
            if getattr(error, name, None) is not None:
                details[name] = getattr(error, name)
        typer.echo(json.dumps({"error": details}), err=True)
    else:
        say_error(str(error))
    raise typer.Exit(exit_code_of(error))


def say_error(message: str) -> None:
    """One line on stderr, red on a terminal."""
    typer.secho(" ".join(message.split()), err=True, fg=typer.colors.RED)


def stop(message: str, code: int = EXIT_USAGE) -> NoReturn:
    """Say why and end."""
    say_error(message)
    raise typer.Exit(code)


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
    """A table; `empty` instead when there are no rows. Whole and without colours where it is not a terminal."""
    from rich.console import Console
    from rich.table import Table

    shown = [[_cell(cell) for cell in row] for row in rows]
    if not shown:
        typer.echo(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in shown:
        table.add_row(*row)
    console = Console(soft_wrap=False)
    if not console.is_terminal:
        console = Console(width=10_000)
    console.print(table)


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
            stop(f"{file} cannot be read: {error}.")
    elif text == "-":
        text = sys.stdin.read()
    try:
        return json.loads(text or "")
    except ValueError as error:
        stop(f'The input is no JSON: {error}. Quote it for the shell, as in \'{{"prompt": "hi"}}\'.')


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
