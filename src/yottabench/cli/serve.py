"""`yottabench serve`: runs the emulator."""

import asyncio
import gc
import json
import logging
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from yottabench.emulator.settings import DeliveredStatus, DuplicateTask, Egress, ErrorStyle, Limits, Settings

LOCAL_HINT = "No keys are set: any X-Api-Key is accepted, and each key sees only its own endpoints."


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on. Others than loopback need --keys-file.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")] = 8080,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the store. Default: yottabench in your data directory.")
    ] = None,
    ephemeral: Annotated[bool, typer.Option("--ephemeral", help="Use a new folder, removed at the end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line when ready, and nothing else.")] = False,
    keys_file: Annotated[
        Path | None, typer.Option(help="File of accepted API keys, one a line; # begins a comment.")
    ] = None,
    control_key_file: Annotated[
        Path | None,
        typer.Option(help="File with the key of /_emulator/. Default: none, and callers on this machine only."),
    ] = None,
    seed_file: Annotated[
        Path | None, typer.Option(help="Endpoints and tasks to make at start, as JSON or TOML.")
    ] = None,
    retention_days: Annotated[
        float, typer.Option(min=0.001, max=36_500, help="Days that ended tasks, workers and log lines are kept.")
    ] = 7.0,
    logs_max_mb: Annotated[
        float, typer.Option(min=0.1, max=1_000_000, help="Megabytes of logs kept of all workers together.")
    ] = 1024.0,
    end_with_stdin: Annotated[
        bool, typer.Option("--end-with-stdin", help="Stop when standard input ends, as it does with who holds it.")
    ] = False,
    delivered_status: Annotated[
        DeliveredStatus, typer.Option(help="Meaning of DELIVERED: webhook, worker or sample.")
    ] = "webhook",
    duplicate_task: Annotated[
        DuplicateTask, typer.Option(help="Known taskId, other payload: reject or first-wins.")
    ] = "reject",
    error_style: Annotated[
        ErrorStyle, typer.Option(help="status, or envelope200 for HTTP 200 on business errors.")
    ] = "status",
    limits: Annotated[Limits, typer.Option(help="documented: the rates of version 1, answered with 429.")] = "off",
    strict_lifecycle: Annotated[
        bool, typer.Option("--strict-lifecycle", help="Refuse (24002) what the vendor's console refuses.")
    ] = False,
    strict_validation: Annotated[
        bool, typer.Option("--strict-validation", help="Refuse unknown fields and odd GPU types and counts.")
    ] = False,
    concurrency: Annotated[int, typer.Option(min=1, max=1000, help="Tasks that a worker gets at a time.")] = 1,
    worker_timeout_s: Annotated[
        float, typer.Option(min=0.01, help="Seconds that a worker may take for a task.")
    ] = 3600.0,
    max_attempts: Annotated[int, typer.Option(min=1, max=100, help="Attempts without an answer until FAILED.")] = 4,
    retry_busy: Annotated[
        bool, typer.Option("--retry-busy", help="Try again what a worker answered with 429, 502, 503 or 504.")
    ] = False,
    max_workers_total: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Workers that run at a time, over all endpoints; more wait.")
    ] = 256,
    drain_s: Annotated[float, typer.Option(min=0, help="Seconds that a worker that is to go has for its task.")] = 30.0,
    webhook_retry: Annotated[str, typer.Option(help="Seconds between the sends of a webhook.")] = "60,300,900",
    webhook_timeout_s: Annotated[float, typer.Option(min=0.01, help="Seconds that a receiver has to answer.")] = 10.0,
    egress: Annotated[
        Egress, typer.Option(help="Where webhooks may go: loopback, or public addresses too.")
    ] = "loopback",
    webhook_allow: Annotated[
        list[str] | None, typer.Option(help="Host besides loopback that webhooks may go to; repeatable.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="File that says what images run as. Default: images.toml in the data folder.")
    ] = None,
    driver: Annotated[
        list[str] | None,
        typer.Option(help="Driver for images not in the images file: docker, or an installed one; repeatable."),
    ] = None,
    docker_gpus: Annotated[
        bool, typer.Option("--docker-gpus", help="Give containers the GPUs that the endpoint asks for.")
    ] = False,
    cold_start_s: Annotated[
        float, typer.Option(min=0, help="Mean seconds until a simulated worker is ready, drawn for each.")
    ] = 0.0,
    gateway_timeout_s: Annotated[
        float, typer.Option(min=0.01, help="Seconds of silence in a request to an ALB endpoint.")
    ] = 600.0,
    gateway_domain: Annotated[
        str, typer.Option(help="ALB endpoints are <id>. and this. Default: localhost and the port.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Of what simulated workers draw by chance.")] = 0,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        typer.Option(help="debug, info, warning or error; the log goes to stderr."),
    ] = "warning",
) -> None:
    """Run the emulator: the documented API, a durable queue, real HTTP workers, webhooks and logs."""
    try:
        from yottabench.emulator import server
        from yottabench.emulator.store.base import StoreError
    except ModuleNotFoundError as error:
        _fail(f"`yottabench serve` needs the package {error.name}. Install it with: pip install 'yottabench[emulator]'")
    logging.basicConfig(
        level=log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    folder = _data_folder(data, ephemeral)
    chosen = Settings(
        data=folder,
        host=host,
        port=port,
        delivered_status=delivered_status,
        duplicate_task=duplicate_task,
        error_style=error_style,
        limits=limits,
        strict_lifecycle=strict_lifecycle,
        strict_validation=strict_validation,
        concurrency=concurrency,
        worker_timeout_s=worker_timeout_s,
        max_attempts=max_attempts,
        retry_busy=retry_busy,
        max_workers_total=max_workers_total,
        drain_s=drain_s,
        webhook_retry_s=_ladder(webhook_retry),
        webhook_timeout_s=webhook_timeout_s,
        egress=egress,
        webhook_allow=tuple(webhook_allow or ()),
        api_keys=_keys(keys_file),
        control_key=_control_key(control_key_file),
        retention_days=retention_days,
        logs_max_mb=logs_max_mb,
        seed_file=seed_file,
        images=images,
        drivers=tuple(driver or ()),
        docker_gpus=docker_gpus,
        cold_start_s=cold_start_s,
        gateway_timeout_s=gateway_timeout_s,
        gateway_domain=_domain(gateway_domain),
        seed=seed,
    )
    try:
        announce = _announcer(as_json, folder, ephemeral, bool(chosen.api_keys))
        _run(server.serve(chosen, announce, end_with_stdin=end_with_stdin))
    except (server.CannotServe, StoreError) as error:
        _fail(str(error))
    finally:
        if ephemeral:
            shutil.rmtree(folder, ignore_errors=True)
        gc.freeze()  # the interpreter would look through all that is left once more, for 0.1 s and to no purpose


def _fail(message: str) -> NoReturn:
    typer.secho(message, err=True, fg=typer.colors.RED)
    raise typer.Exit(1)


def _data_folder(data: Path | None, ephemeral: bool) -> Path:
    if ephemeral:
        if data is not None:
            raise typer.BadParameter("goes with either --data or --ephemeral.", param_hint="--ephemeral")
        return Path(tempfile.mkdtemp(prefix="yottabench-"))
    if data is not None:
        return data
    import platformdirs

    return Path(platformdirs.user_data_dir("yottabench", appauthor=False))


def _keys(path: Path | None) -> frozenset[str]:
    return frozenset() if path is None else frozenset(_read_keys(path, "--keys-file"))


def _control_key(path: Path | None) -> str | None:
    if path is None:
        return None
    found = _read_keys(path, "--control-key-file")
    if len(found) > 1:
        raise typer.BadParameter(f"{path} holds {len(found)} keys. Write one.", param_hint="--control-key-file")
    return found[0]


def _read_keys(path: Path, option: str) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise typer.BadParameter(f"{path} cannot be read: {why}.", param_hint=option) from None
    keys = [key for line in lines if (key := line.partition("#")[0].strip())]
    if not keys:
        raise typer.BadParameter(f"{path} holds no key. Write one a line.", param_hint=option)
    if not all(key.isascii() and key.isprintable() for key in keys):
        raise typer.BadParameter(f"{path} holds a key that is not printable ASCII.", param_hint=option)
    return keys


def _ladder(text: str) -> tuple[float, ...]:
    try:
        waits = tuple(float(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        waits = (-1.0,)
    if any(not 0 <= wait <= 86_400 for wait in waits):
        raise typer.BadParameter(
            f"must be seconds separated by commas, such as 60,300,900, but is {text!r}.", param_hint="--webhook-retry"
        )
    return waits


def _domain(text: str) -> str:
    if text and not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(:[0-9]{1,5})?", text):
        raise typer.BadParameter(
            f"must be a host name, perhaps with a port, such as gpu.example.com, but is {text!r}.",
            param_hint="--gateway-domain",
        )
    return text


def _announcer(as_json: bool, folder: Path, ephemeral: bool, with_keys: bool) -> Any:
    def announce(url: str) -> None:
        if as_json:
            typer.echo(json.dumps({"ready": True, "url": url, "pid": os.getpid()}))
        else:
            typer.echo(f"yottabench serves the Serverless API on {url}")
            typer.echo(f"  store   {folder}{' (removed at the end)' if ephemeral else ''}")
            typer.echo(f"  keys    {'those of the keys file' if with_keys else LOCAL_HINT}")
            typer.echo(f"  try     curl -H 'X-Api-Key: me' {url}/v2/serverless")
            typer.echo("Stop it with Ctrl-C.")
        sys.stdout.flush()

    return announce


def _run(main: Any) -> None:
    try:
        import uvloop
    except ModuleNotFoundError:  # Windows
        asyncio.run(main)
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)
