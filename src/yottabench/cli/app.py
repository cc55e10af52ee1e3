"""The commands and where they are; each is imported when it is used, so that none pays for another."""

from typing import Annotated

import typer

import yottabench
from yottabench.cli import batch, chaos, conformance, doctor, endpoints, load, proxy, serve, spec, tasks, workers

DEPLOYMENT = "Talk to a deployment (YOTTA_BASE_URL, YOTTA_API_KEY)"


def build() -> typer.Typer:
    """The command-line application."""
    app = typer.Typer(
        name="yottabench",
        help="Client, local emulator and load harness for Yotta Labs Serverless endpoints. Unofficial.",
        no_args_is_help=True,
        pretty_exceptions_show_locals=False,
    )
    app.command(name="batch", rich_help_panel=DEPLOYMENT)(batch.batch)
    app.command(name="logs", rich_help_panel=DEPLOYMENT)(workers.logs)
    app.add_typer(endpoints.app, name="endpoints", rich_help_panel=DEPLOYMENT)
    app.add_typer(workers.app, name="workers", rich_help_panel=DEPLOYMENT)
    app.add_typer(tasks.app, name="tasks", rich_help_panel=DEPLOYMENT)
    app.command(name="serve")(serve.serve)
    app.add_typer(load.app, name="load")
    app.command(name="chaos")(chaos.chaos)
    app.add_typer(spec.app, name="spec")
    app.command(name="conformance")(conformance.conformance)
    app.command(name="proxy")(proxy.proxy)
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
