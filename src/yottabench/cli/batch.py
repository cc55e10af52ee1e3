"""`yottabench batch`: submits a file of inputs, shows how far it is, and writes the results as they come."""

import json
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, cast

import typer

from yottabench.cli.connect import (
    EXIT_TASK_FAILED,
    AsJson,
    BaseUrl,
    EndpointId,
    connected,
    interrupted,
    plain,
    print_json,
    read_pairs,
    reason,
    stop,
)
from yottabench.cli.tasks import Headers, ProcessUri, Webhook, WebhookKey, WorkerPort

if TYPE_CHECKING:
    from yottabench.client import BatchProgress, BatchResult

_FIELDS = ("input", "taskId", "headers", "workerPort", "processUri")


def batch(
    endpoint_id: EndpointId,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="One input as JSON on each line; - reads stdin.")],
    port: WorkerPort = 8000,
    uri: ProcessUri = "/",
    fields: Annotated[
        bool,
        typer.Option(
            "--fields", help="Lines are objects with input and, if wanted, taskId, headers, workerPort, processUri."
        ),
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="File for the results. Default: stdout.")] = None,
    journal: Annotated[
        Path | None, typer.Option("--journal", help="File by which an interrupted batch goes on where it was.")
    ] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", help="Requests under way at a time.")] = 32,
    max_open: Annotated[int, typer.Option("--max-open", help="Tasks open at a time.")] = 1000,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Only submit.")] = False,
    no_outputs: Annotated[bool, typer.Option("--no-outputs", help="Results without outputs; fewer requests.")] = False,
    webhook: Webhook = None,
    webhook_auth_key: WebhookKey = None,
    header: Headers = None,
    base_url: BaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Submit a task for each line of a file, and write each result as a line of JSON when its task has ended.

    A progress bar is shown on a terminal. With --json, the last line on stdout is a summary.
    """
    _check_files(file, out, journal)
    total = None if str(file) == "-" else _checked(file, fields)
    with ExitStack() as stack, connected(base_url) as client:
        target = _target(stack, out, append=journal is not None)
        seen: list[BatchProgress] = []
        show = stack.enter_context(_progress_bar(total, among_results=out is None and sys.stdout.isatty()))

        def tell(progress: "BatchProgress") -> None:
            seen[:] = [progress]
            show(progress)

        results = client.tasks.submit_many(
            endpoint_id,
            _items(file, fields),
            worker_port=port,
            process_uri=uri,
            webhook=webhook,
            webhook_auth_key=webhook_auth_key,
            headers=read_pairs(header, ":", "--header"),
            concurrency=concurrency,
            max_open=max_open,
            wait=not no_wait,
            outputs=not no_outputs,
            journal=journal,
            on_progress=tell,
        )
        try:
            for result in results:
                target.write(json.dumps(_line(result), ensure_ascii=False) + "\n")
                target.flush()
        except KeyboardInterrupt:
            interrupted("It goes on with the same command." if journal else "With --journal it could go on.")
    _end(seen[0] if seen else None, as_json)


def _end(progress: "BatchProgress | None", as_json: bool) -> None:
    if progress is None:
        return
    numbers = {
        name: getattr(progress, name) for name in ("submitted", "succeeded", "failed", "refused", "open", "skipped")
    }
    if as_json:
        print_json(numbers)
    else:
        typer.echo(", ".join(f"{value} {name}" for name, value in numbers.items() if value), err=True)
    if progress.failed or progress.refused:
        raise typer.Exit(EXIT_TASK_FAILED)


def _target(stack: ExitStack, out: Path | None, *, append: bool) -> IO[str]:
    if out is None:
        return sys.stdout
    try:
        return stack.enter_context(out.open("a" if append else "w", encoding="utf-8"))
    except OSError as error:
        stop(f"{out} cannot be written: {reason(error)}.")


def _check_files(file: Path, out: Path | None, journal: Path | None) -> None:
    """End the command when two of its files are one: it would read what it writes."""
    named = {"the inputs": file, "--out": out, "--journal": journal}
    places: dict[Path, str] = {}
    for name, path in named.items():
        if path is None or str(path) == "-":
            continue
        other = places.setdefault(path.resolve(), name)
        if other != name:
            stop(f"{path} is given for {other} and for {name}. Give each a file of its own.")


def _line(result: "BatchResult") -> dict[str, Any]:
    line: dict[str, Any] = {"index": result.index, "taskId": result.task_id, "outcome": result.outcome}
    if result.error is not None:
        line["error"] = str(result.error)
    elif result.task is not None:
        task = plain(result.task)
        line.update({name: task[name] for name in ("output", "error") if task.get(name) is not None})
    return line


def _checked(file: Path, fields: bool) -> int:
    """The number of lines. Ends the command when one of them is no item: nothing has been sent then."""
    return sum(1 for _ in _items(file, fields))


def _items(file: Path, fields: bool) -> Iterator[Any]:
    from yottabench.client import BatchItem

    for number, line in _lines(file):
        try:
            value: Any = json.loads(line)
        except ValueError as error:
            stop(f"Line {number} of {file} is no JSON: {error}.")
        if not fields:
            yield value
            continue
        if (
            not isinstance(value, dict)
            or "input" not in value
            or not set(cast("dict[str, Any]", value)) <= set(_FIELDS)
        ):
            stop(f"Line {number} of {file} must be an object with input and, if wanted, {', '.join(_FIELDS[1:])}.")
        item = cast("dict[str, Any]", value)
        yield BatchItem(
            item["input"],
            task_id=item.get("taskId"),
            headers=item.get("headers"),
            worker_port=item.get("workerPort"),
            process_uri=item.get("processUri"),
        )


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, with their numbers."""
    try:
        with ExitStack() as stack:
            source = sys.stdin if str(file) == "-" else stack.enter_context(file.open(encoding="utf-8"))
            for number, line in enumerate(source, 1):
                if line.strip():
                    yield number, line
    except (OSError, UnicodeDecodeError) as error:
        stop(f"{file} cannot be read: {reason(error)}.")


@contextmanager
def _progress_bar(total: int | None, *, among_results: bool) -> "Generator[Callable[[BatchProgress], None]]":
    """A bar on stderr, where that is a terminal, and results do not go to the same one."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal or among_results:
        yield lambda progress: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[open]} open, {task.fields[failed]} failed"),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=console) as bar:
        row = bar.add_task("tasks", total=total, open=0, failed=0)

        def show(progress: "BatchProgress") -> None:
            done = progress.ended + progress.skipped
            bar.update(row, completed=done, open=progress.open, failed=progress.failed + progress.refused)

        yield show
