"""`yottabench endpoints`: create, list, get, update, stop, start, scale and delete endpoints."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yottabench.cli.connect import (
    EXIT_FAILED,
    EXIT_STILL_OPEN,
    AsJson,
    BaseUrl,
    EndpointId,
    Timeout,
    connected,
    print_fields,
    print_json,
    print_table,
    read_pairs,
    stop,
    waiting,
)

if TYPE_CHECKING:
    from yottabench.client import Client
    from yottabench.client.models import Endpoint

app = typer.Typer(help="Create and manage endpoints.", no_args_is_help=True)
POLL_S = 0.5

Resource = Annotated[
    list[str] | None,
    typer.Option("--resource", help="REGION:GPU_TYPE:GPU_COUNT, such as us-east-1:NVIDIA_L4_24G:1; repeatable."),
]
Env = Annotated[list[str] | None, typer.Option("--env", help="NAME=VALUE for the container; repeatable.")]
Port = Annotated[int | None, typer.Option("--port", help="Port that the container listens on.")]
Protocol = Annotated[str, typer.Option("--protocol", help="Protocol of that port.")]
Webhook = Annotated[str | None, typer.Option("--webhook", help="URL that is told of changes of workers.")]
Command = Annotated[str | None, typer.Option("--init-command", help="Command run when a container starts.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name: 1 to 20 characters, a letter first.")],
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Container image.")],
    resource: Resource = None,
    workers: Annotated[int, typer.Option("--workers", help="How many workers to run.")] = 1,
    volume_gb: Annotated[int, typer.Option("--volume-gb", help="Disk of each worker, at least 20.")] = 20,
    mode: Annotated[str, typer.Option("--mode", help="QUEUE, ALB or CUSTOM.")] = "QUEUE",
    port: Port = None,
    protocol: Protocol = "http",
    env: Env = None,
    webhook: Webhook = None,
    init_command: Command = None,
    registry: Annotated[str | None, typer.Option("--registry", help="Image registry, unless Docker Hub.")] = None,
    registry_auth_id: Annotated[int | None, typer.Option("--registry-auth-id", help="Id of its credential.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is RUNNING.")] = False,
    timeout: Timeout = 900.0,
    base_url: BaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Create an endpoint and start its workers."""
    settings: dict[str, Any] = {
        "image_registry": registry,
        "container_registry_auth_id": registry_auth_id,
        "environment_vars": read_pairs(env, "=", "--env"),
        "expose": None if port is None else {"port": port, "protocol": protocol},
        "webhook": webhook,
        "initialization_command": init_command,
    }
    resources = _resources(resource or ["us-east-1:NVIDIA_RTX_4090_24G:1"])
    with connected(base_url) as client:
        endpoint = client.endpoints.create(
            name=name,
            image=image,
            resources=resources,
            workers=workers,
            container_volume_in_gb=volume_gb,
            service_mode=mode,
            **settings,
        )
        if wait:
            with waiting(f"Endpoint {endpoint.id} is starting"):
                endpoint = _until_running(client, endpoint, timeout)
        _show(endpoint, as_json)


@app.command(name="list")
def list_endpoints(
    status: Annotated[str | None, typer.Option("--status", help="Only these, such as RUNNING,STOPPED.")] = None,
    base_url: BaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """List the endpoints, newest first."""
    with connected(base_url) as client:
        found = client.endpoints.list(statuses=status)
        if as_json:
            print_json(found)
            return
        rows = [
            [one.id, one.name, one.status, one.service_mode, f"{one.running_workers}/{one.total_workers}", one.image]
            for one in found
        ]
        columns = ["ID", "NAME", "STATUS", "MODE", "WORKERS", "IMAGE"]
        print_table(columns, rows, "There are no endpoints. Make one with: yottabench endpoints create NAME IMAGE")


@app.command()
def get(endpoint_id: EndpointId, base_url: BaseUrl = None, as_json: AsJson = False) -> None:
    """Show one endpoint."""
    with connected(base_url) as client:
        _show(client.endpoints.get(endpoint_id), as_json)


@app.command()
def update(
    endpoint_id: EndpointId,
    name: Annotated[str | None, typer.Option("--name", help="New name.")] = None,
    resource: Resource = None,
    workers: Annotated[int | None, typer.Option("--workers", help="How many workers to run, at least 1.")] = None,
    volume_gb: Annotated[int | None, typer.Option("--volume-gb", help="Disk of each worker.")] = None,
    port: Port = None,
    protocol: Protocol = "http",
    env: Env = None,
    webhook: Webhook = None,
    init_command: Command = None,
    credential_id: Annotated[int | None, typer.Option("--credential-id", help="Id of a registry credential.")] = None,
    base_url: BaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Change an endpoint; what is not given stays as it is."""
    optional: dict[str, Any] = {
        "environment_vars": read_pairs(env, "=", "--env"),
        "expose": None if port is None else {"port": port, "protocol": protocol},
        "webhook": webhook,
        "initialization_command": init_command,
        "credential_id": credential_id,
    }
    with connected(base_url) as client:
        old = client.endpoints.get(endpoint_id)
        # The API wants these four in every change; what is not given is what the service shows.
        settings = {
            "name": name or old.name,
            "resources": _resources(resource) if resource else old.resources or None,
            "workers": old.total_workers if workers is None else workers,
            "container_volume_in_gb": old.container_volume_in_gb or None if volume_gb is None else volume_gb,
        }
        for field, option in (("resources", "--resource"), ("container_volume_in_gb", "--volume-gb")):
            if settings[field] is None:
                stop(f"The service does not show the endpoint's {field}, and wants it in every change. Give {option}.")
        given = {field: value for field, value in optional.items() if value is not None}
        changes: dict[str, Any] = {**settings, **given}
        _show(client.endpoints.update(endpoint_id, **changes), as_json)


@app.command(name="stop")
def stop_endpoint(endpoint_id: EndpointId, base_url: BaseUrl = None, as_json: AsJson = False) -> None:
    """End the workers; the endpoint and its queue stay."""
    with connected(base_url) as client:
        client.endpoints.stop(endpoint_id)
        _done(f"Endpoint {endpoint_id} is being stopped.", as_json)


@app.command()
def start(endpoint_id: EndpointId, base_url: BaseUrl = None, as_json: AsJson = False) -> None:
    """Start a stopped endpoint again."""
    with connected(base_url) as client:
        client.endpoints.start(endpoint_id)
        _done(f"Endpoint {endpoint_id} is being started.", as_json)


@app.command()
def scale(
    endpoint_id: EndpointId,
    workers: Annotated[
        int, typer.Argument(metavar="WORKERS", help="How many workers to run; 0 leaves a queue that only collects.")
    ],
    base_url: BaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Set the number of workers."""
    with connected(base_url) as client:
        client.endpoints.scale(endpoint_id, workers)
        _done(f"Endpoint {endpoint_id} is being scaled to {workers} workers.", as_json)


@app.command()
def delete(
    endpoint_id: EndpointId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    base_url: BaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Delete an endpoint; its open tasks fail."""
    with connected(base_url) as client:
        if not yes:
            _ask(f"Delete endpoint {endpoint_id}? Its open tasks fail.")
        client.endpoints.delete(endpoint_id)
        _done(f"Endpoint {endpoint_id} is deleted.", as_json)


def _ask(question: str) -> None:
    import sys

    if not sys.stdin.isatty():
        stop("There is nobody to ask. Give --yes.")
    typer.confirm(question, abort=True, err=True)


def _done(message: str, as_json: bool) -> None:
    if as_json:
        print_json(True)
    else:
        typer.echo(message)


def _resources(texts: list[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for text in texts:
        parts = text.split(":")
        if len(parts) != 3 or not parts[2].isdigit():
            stop(f"--resource takes REGION:GPU_TYPE:GPU_COUNT, such as us-east-1:NVIDIA_L4_24G:1, but is {text!r}.")
        found.append({"region": parts[0], "gpuType": parts[1], "gpuCount": int(parts[2])})
    return found


def _until_running(client: "Client", endpoint: "Endpoint", timeout_s: float) -> "Endpoint":
    until_s = time.monotonic() + timeout_s
    while str(endpoint.status) != "RUNNING":
        if str(endpoint.status) in ("FAILED", "STOPPED", "TERMINATED"):
            stop(f"Endpoint {endpoint.id} is {endpoint.status}. Look at its workers' logs for why.", EXIT_FAILED)
        if time.monotonic() > until_s:
            stop(f"Endpoint {endpoint.id} is still {endpoint.status} after {timeout_s:g} s.", EXIT_STILL_OPEN)
        time.sleep(POLL_S)
        endpoint = client.endpoints.get(endpoint.id)
    return endpoint


def _show(endpoint: "Endpoint", as_json: bool) -> None:
    if as_json:
        print_json(endpoint)
        return
    print_fields(
        {
            "id": endpoint.id,
            "name": endpoint.name,
            "status": endpoint.status,
            "mode": endpoint.service_mode,
            "workers": f"{endpoint.running_workers} running of {endpoint.total_workers}",
            "image": endpoint.image,
            "cost": f"{endpoint.cost:.6f}".rstrip("0").rstrip(".") + " USD",
            "webhook": endpoint.webhook,
        }
    )
