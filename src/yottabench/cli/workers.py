"""`yottabench workers` and `yottabench logs`: the workers of an endpoint, and what they print."""

import queue
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yottabench.cli.connect import (
    EXIT_NOT_FOUND,
    AsJson,
    BaseUrl,
    EndpointId,
    connected,
    print_json,
    print_table,
    stop,
    when,
)

if TYPE_CHECKING:
    from yottabench.client import Client
    from yottabench.client.models import LogEntry, Worker

app = typer.Typer(help="List workers.", no_args_is_help=True)
RELIST_S = 5.0  # between looks for new workers while logs are followed


@app.command(name="list")
def list_workers(
    endpoint_id: EndpointId,
    status: Annotated[
        str | None, typer.Option("--status", help="Only these, such as RUNNING; TERMINATED shows ended ones.")
    ] = None,
    base_url: BaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """List the workers of an endpoint."""
    with connected(base_url) as client:
        found = client.workers.list(endpoint_id, statuses=status)
        if as_json:
            print_json(found)
            return
        rows = [[one.worker_id, one.status, one.region, one.gpu_type, when(one.created_at)] for one in found]
        print_table(["ID", "STATUS", "REGION", "GPU", "CREATED"], rows, "The endpoint has no such workers.")


def logs(
    endpoint_id: EndpointId,
    worker_id: Annotated[
        str | None,
        typer.Argument(
            metavar="[WORKER_ID]", show_default=False, help="Id of one worker. Default: all that the endpoint has."
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
    keyword: Annotated[str | None, typer.Option("--keyword", help="Only lines with this in them.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="From this time on: ISO 8601 or epoch ms.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Up to this time.")] = None,
    base_url: BaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Print the log of a worker, or of all workers of an endpoint."""
    query: dict[str, Any] = {"keyword": keyword, "start_time": since, "end_time": until}
    with connected(base_url) as client:
        if worker_id is not None:
            ids = [worker_id]
        else:
            ids = _ids(client.workers.list(endpoint_id))
            if not ids and not follow:
                stop(f"Endpoint {endpoint_id} has no workers now. Ended ones: give an id.", EXIT_NOT_FOUND)
        several = worker_id is None and (follow or len(ids) > 1)
        if follow and several:
            lines = _followed(client, endpoint_id, query)
        else:
            lines = (
                (one, line)
                for one in ids
                for line in client.workers.iterate_logs(endpoint_id, one, follow=follow, **query)
            )
        for one, line in lines:
            _print_line(one if several else None, line, as_json)


def _ids(workers: "list[Worker]") -> list[str]:
    return [str(one.worker_id) for one in workers if one.worker_id]


def _print_line(worker_id: str | None, line: "LogEntry", as_json: bool) -> None:
    if as_json:
        print_json({**line.to_dict(), **({} if worker_id is None else {"workerId": worker_id})})
        return
    where = "" if worker_id is None else typer.style(f"{worker_id} ", fg=typer.colors.CYAN)
    typer.echo(f"{where}{typer.style(line.timestamp, dim=True)} {line.log}")


def _followed(client: "Client", endpoint_id: str, query: dict[str, Any]) -> "Iterator[tuple[str, LogEntry]]":
    """Lines of all workers as they come, those of workers that join later too; a thread reads each."""
    lines: queue.Queue[tuple[str, LogEntry] | BaseException] = queue.Queue(maxsize=10_000)
    known: set[str] = set()

    def read(worker_id: str) -> None:
        try:
            for line in client.workers.iterate_logs(endpoint_id, worker_id, follow=True, **query):
                lines.put((worker_id, line))
        except BaseException as error:
            lines.put(error)

    while True:
        for worker_id in _ids(client.workers.list(endpoint_id)):
            if worker_id not in known:
                known.add(worker_id)
                threading.Thread(target=read, args=(worker_id,), daemon=True).start()
        try:
            while True:
                found = lines.get(timeout=RELIST_S)
                if isinstance(found, BaseException):
                    raise found
                yield found
        except queue.Empty:
            continue
