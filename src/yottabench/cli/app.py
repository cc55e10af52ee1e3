"""The commands and where they are; each is imported when it is used, so that none pays for another."""

from typing import Annotated

import typer

import yottabench
from yottabench.cli import batch, doctor, endpoints, load, serve, tasks, workers


def build() -> typer.Typer:
    """The command-line application."""
    app = typer.Typer(
        name="yottabench",
        help="Client, local emulator and load harness for Yotta Labs Serverless endpoints. Unofficial.",
        no_args_is_help=True,
        pretty_exceptions_show_locals=False,
    )
    app.command(name="serve")(serve.serve)
    app.add_typer(endpoints.app, name="endpoints")
    app.add_typer(workers.app, name="workers")
    app.add_typer(tasks.app, name="tasks")
    app.command(name="batch")(batch.batch)
    app.command(name="logs")(workers.logs)
    app.add_typer(load.app, name="load")
    app.command(name="doctor")(doctor.doctor)
    app.callback()(_root)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"yottabench {yottabench.__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass
