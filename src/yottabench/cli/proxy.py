"""`yottabench proxy`: stands between any client and a deployment and holds their traffic to the document."""

import asyncio
import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yottabench.cli.connect import EXIT_FAILED, AsJson, stop

if TYPE_CHECKING:
    from yottabench.conformance.exchange import Deviation
    from yottabench.conformance.proxy import Target, Watcher


def proxy(
    target: Annotated[str, typer.Option("--target", show_default=False, help="URL of the deployment.")],
    host: Annotated[str, typer.Option(help="Address to listen on; what passes may hold keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8081,
    record: Annotated[
        Path | None, typer.Option(help="Folder for trace.csv and profile.toml, to replay what passed.")
    ] = None,
    keep_host: Annotated[
        bool, typer.Option("--keep-host", help="Do not write the target's name into Host: change nothing at all.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Pass traffic on to a deployment and say where client or service deviate from the document, until interrupted.

    Exit codes: 0 nothing deviated, 1 something did, 2 wrong usage.
    """
    try:
        from yottabench.conformance.proxy import Target, Watcher
    except ModuleNotFoundError as error:
        stop(f"`yottabench proxy` needs the package {error.name}. Install it: pip install 'yottabench[conformance]'")
    try:
        place = Target.of(target)
    except ValueError as error:
        stop(str(error))
    watcher = Watcher(_tell_json if as_json else _tell)
    try:
        asyncio.run(_serve(place, watcher, host, port, keep_host=keep_host, as_json=as_json))
    except OSError as error:
        stop(f"Cannot listen on {host}:{port}: {error.strerror or error}. Choose another --port.")
    profile = None if record is None else watcher.write_recording(record)
    _summary(watcher, record, profile, as_json=as_json)
    if watcher.counts.by:
        raise typer.Exit(EXIT_FAILED)


async def _serve(target: "Target", watcher: "Watcher", host: str, port: int, *, keep_host: bool, as_json: bool) -> None:
    from yottabench.conformance.proxy import Tunnel

    began_s = time.monotonic()
    tunnel = Tunnel(
        target, watcher.passed, watcher.unreadable, now_s=lambda: time.monotonic() - began_s, keep_host=keep_host
    )
    url = await tunnel.start(host, port)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # on Windows an interrupt arrives as KeyboardInterrupt
            loop.add_signal_handler(number, ended.set)
    if as_json:
        _line({"ready": True, "url": url, "pid": os.getpid()})
    else:
        typer.echo(f"{url} passes everything on to {target.authority}; Ctrl-C ends it.")
    with contextlib.suppress(KeyboardInterrupt):
        await ended.wait()
    await tunnel.close()


def _tell(deviation: "Deviation", shown: dict[str, Any]) -> None:
    request, answer = shown["request"], shown["answer"]
    typer.echo(f"{deviation.by} deviates at {deviation.operation}: {deviation.text}")
    typer.echo(f"    {request['method']} {request['target']} -> HTTP {answer['status']}")


def _tell_json(_deviation: "Deviation", shown: dict[str, Any]) -> None:
    _line({"deviation": shown})


def _summary(watcher: "Watcher", record: Path | None, profile: Path | None, *, as_json: bool) -> None:
    counts = watcher.counts
    if as_json:
        told: dict[str, Any] = {"exchanges": counts.exchanges, "of_the_api": counts.of_the_api}
        told["unchecked"] = counts.unchecked
        told |= {"deviations": dict(counts.by), "tasks": len(watcher.arrivals)}
        _line({**told, "profile": None if profile is None else str(profile)})
        return
    deviations = ", ".join(f"{number} by the {by}" for by, number in sorted(counts.by.items())) or "none"
    typer.echo(f"{counts.exchanges} requests, {counts.of_the_api} of the API; deviations: {deviations}")
    if counts.unchecked:
        typer.echo(f"{counts.unchecked} could not be checked: too large, or no HTTP/1.1")
    if profile is not None:
        typer.echo(f"Replay its {len(watcher.arrivals)} tasks with: yottabench load run {profile}")
    elif record is not None:
        typer.echo("No task was submitted, so there is nothing to replay.")


def _line(value: dict[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False), flush=True)  # noqa: T201 - line by line, for programs that wait
