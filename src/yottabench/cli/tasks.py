"""`yottabench tasks`: submit, wait for, get, list and count tasks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yottabench.cli.connect import (
    EXIT_TASK_FAILED,
    AsJson,
    BaseUrl,
    EndpointId,
    Timeout,
    connected,
    interrupted,
    print_fields,
    print_json,
    print_table,
    read_json,
    read_pairs,
    waiting,
    when,
)

if TYPE_CHECKING:
    from yottabench.client import Client
    from yottabench.client.models import Task

app = typer.Typer(help="Submit tasks and see what became of them.", no_args_is_help=True)

WorkerPort = Annotated[int, typer.Option("--port", help="Port that the worker listens on.")]
ProcessUri = Annotated[str, typer.Option("--uri", help="Path on the worker, such as /v1/chat/completions.")]
Webhook = Annotated[str | None, typer.Option("--webhook", help="URL that the result is sent to.")]
WebhookKey = Annotated[
    str | None,
    typer.Option("--webhook-auth-key", envvar="YOTTA_WEBHOOK_AUTH_KEY", help="Key that it is sent with."),
]
Headers = Annotated[list[str] | None, typer.Option("--header", "-H", help="'Name: value' for the worker; repeatable.")]


@app.command()
def submit(
    endpoint_id: EndpointId,
    text: Annotated[
        str | None, typer.Argument(metavar="[INPUT]", show_default=False, help="Input as JSON; - reads stdin.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="File that holds the input.")] = None,
    port: WorkerPort = 8000,
    uri: ProcessUri = "/",
    task_id: Annotated[str | None, typer.Option("--task-id", help="Id of your own. Default: one is made.")] = None,
    webhook: Webhook = None,
    webhook_auth_key: WebhookKey = None,
    header: Headers = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait for the end, and print the output.")] = False,
    timeout: Timeout = 300.0,
    base_url: BaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Submit a task: its input as an argument, from a file or from stdin."""
    value = read_json(text, file)
    with connected(base_url) as client:
        fields: dict[str, Any] = {
            "worker_port": port,
            "process_uri": uri,
            "task_id": task_id,
            "webhook": webhook,
            "webhook_auth_key": webhook_auth_key,
            "headers": read_pairs(header, ":", "--header"),
        }
        submitted = client.tasks.submit(endpoint_id, value, **fields)
        if wait:
            task = _ended(client, endpoint_id, submitted.task_id, timeout)
            print_json(task if as_json else task.output)
        elif as_json:
            print_json(submitted)
        else:
            typer.echo(submitted.task_id)


def _ended(client: "Client", endpoint_id: str, task_id: str, timeout_s: float) -> "Task":
    try:
        with waiting(f"Task {task_id} is under way"):
            return client.tasks.wait(endpoint_id, task_id, timeout_s=timeout_s, check=True)
    except KeyboardInterrupt:
        interrupted(f"Task {task_id} goes on. Wait for it with: yottabench tasks wait {endpoint_id} {task_id}")


@app.command()
def wait(
    endpoint_id: EndpointId,
    task_ids: Annotated[list[str], typer.Argument(metavar="TASK_ID...", help="Ids of the tasks.")],
    timeout: Timeout = 300.0,
    base_url: BaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Wait until tasks have ended; each is printed when it has."""
    failed = False
    with connected(base_url) as client:
        for task in client.tasks.wait_many(endpoint_id, task_ids, timeout_s=timeout):
            failed = failed or str(task.status) == "FAILED"
            if as_json:
                print_json(task)
            else:
                typer.echo(f"{task.task_id}  {task.status}{f'  {task.error}' if task.error else ''}")
    if failed:
        raise typer.Exit(EXIT_TASK_FAILED)


@app.command()
def get(
    endpoint_id: EndpointId,
    task_id: Annotated[str, typer.Argument(metavar="TASK_ID", help="Id of the task.")],
    base_url: BaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show a task with its input and output."""
    with connected(base_url) as client:
        task = client.tasks.get(endpoint_id, task_id)
        if as_json:
            print_json(task)
        else:
            _show(task)


@app.command(name="list")
def list_tasks(
    endpoint_id: EndpointId,
    status: Annotated[
        str | None, typer.Option("--status", help="Only PROCESSING, DELIVERED, SUCCESS or FAILED ones.")
    ] = None,
    page: Annotated[int, typer.Option("--page", help="Number of the page, from 1.")] = 1,
    page_size: Annotated[int, typer.Option("--page-size", help="Tasks on a page, 1 to 100.")] = 20,
    everything: Annotated[bool, typer.Option("--all", help="All pages; with --json one line per task.")] = False,
    base_url: BaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """List tasks, newest first."""
    columns = ["ID", "STATUS", "CREATED", "UPDATED", "ERROR"]
    with connected(base_url) as client:
        if everything and as_json:
            for task in client.tasks.iterate(endpoint_id, status=status):
                print_json(task)
            return
        if everything:
            items, note = list(client.tasks.iterate(endpoint_id, status=status)), ""
        else:
            found = client.tasks.list(endpoint_id, status=status, page_number=page, page_size=page_size)
            if as_json:
                print_json(found)
                return
            items, note = found.items, f"Page {found.page} of {found.pages}, {found.total} tasks in all."
        rows = [[one.task_id, one.status, when(one.created_at), when(one.updated_at), one.error] for one in items]
        print_table(columns, rows, "There are no such tasks here.")
        if note and items:
            typer.echo(note)


@app.command()
def count(endpoint_id: EndpointId, base_url: BaseUrl = None, as_json: AsJson = False) -> None:
    """Print how many tasks wait or are being executed."""
    with connected(base_url) as client:
        found = client.tasks.count(endpoint_id)
        if as_json:
            print_json(found)
        else:
            typer.echo(str(found.processing))


def _show(task: "Task") -> None:
    print_fields(
        {
            "id": task.task_id,
            "status": task.status,
            "error": task.error,
            "created": when(task.created_at),
            "updated": when(task.updated_at),
            "worker": task.worker_url,
            "webhook": task.webhook,
            "delivery": f"{task.delivery_status}, {task.delivery_attempts} attempts",
            "input": task.input_,
            "output": task.output,
        }
    )
