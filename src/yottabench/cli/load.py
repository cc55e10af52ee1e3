"""`yottabench load`: runs load tests, judges old runs again, and lists the profiles."""

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

app = typer.Typer(
    help="Load tests on Locust, with an audit of every task.", no_args_is_help=True, pretty_exceptions_show_locals=False
)


@app.command()
def run(
    profile: Annotated[str, typer.Argument(help="Name of a shipped profile, or the path of a .toml file.")] = "smoke",
    host: Annotated[
        str | None, typer.Option(help="Base URL of the API. Default: an emulator is started for the run.")
    ] = None,
    endpoint_id: Annotated[
        str | None, typer.Option(help="A QUEUE endpoint to use. Default: one is made and removed.")
    ] = None,
    trace: Annotated[Path | None, typer.Option(help="CSV trace to replay, plain or .gz.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="JSONL of prompts for chat bodies.")] = None,
    time_scale: Annotated[float | None, typer.Option(help="How many times faster than it happened.")] = None,
    rate: Annotated[float | None, typer.Option(help="Tasks per second, instead of the profile's.")] = None,
    duration: Annotated[
        float | None, typer.Option(help="Seconds during which tasks are due, instead of the profile's.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, max=256, help="Locust processes that share the schedule.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the schedule; the same seed gives the same one.")] = 1,
    client: Annotated[
        str, typer.Option(help="light, or httpx for the generated client as it comes (slower).")
    ] = "light",
    detection: Annotated[
        str | None, typer.Option(help="How ends are found, instead of the profile's way: webhook, get-fixed, ...")
    ] = None,
    api_qps: Annotated[
        str | None, typer.Option(help="Requests per second that may look for ends, in all: a number, or v1 (60).")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Folder of an earlier run: is this one slower? Exit code 3 if it is.")
    ] = None,
    abort: Annotated[
        bool, typer.Option(help="End early once a gate can no longer be kept, if the profile does so.")
    ] = True,
    out: Annotated[Path, typer.Option(help="Folder in which the run's own folder is made.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print result.json at the end, and nothing else.")] = False,
) -> None:
    """Run a load test and judge it.

    Exit codes: 0 passed, 99 a gate not kept, 3 slower than --compare, 4 the audit found a fault, 5 the run is not
    valid, 2 wrong usage.
    """
    try:
        from yottabench.load import runner
        from yottabench.load.compare import CannotCompare
        from yottabench.load.tables import ProfileError
    except ModuleNotFoundError as error:
        _fail(f"`yottabench load` needs the package {error.name}. Install it with: pip install 'yottabench[load]'")
    wishes = runner.Wishes(
        profile=profile,
        host=host,
        endpoint_id=endpoint_id,
        trace=trace,
        prompts=prompts,
        time_scale=time_scale,
        rate=rate,
        duration_s=duration,
        processes=processes,
        seed=seed,
        client=client,
        out=out,
        as_json=as_json,
        compare=compare,
        abort=abort,
        api_qps=api_qps,
        detection=detection,
    )
    try:
        code = runner.run(wishes)
    except (ProfileError, CannotCompare, runner.CannotRun) as error:
        _fail(str(error))
    raise typer.Exit(code)


@app.command()
def report(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a run, as in runs/20261231-120000-smoke.")],
    compare: Annotated[Path | None, typer.Option(help="Folder of an earlier run: is this one slower?")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print result.json, and nothing else.")] = False,
) -> None:
    """Judge an old run again from its files and write its report anew."""
    from yottabench.load import runner
    from yottabench.load.compare import CannotCompare
    from yottabench.load.rundir import RunDirError
    from yottabench.load.tables import ProfileError

    try:
        code = runner.report_again(run_dir, as_json=as_json, compare=compare)
    except (RunDirError, ProfileError, CannotCompare) as error:
        _fail(str(error))
    raise typer.Exit(code)


@app.command()
def stamps(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a run, as in runs/20261231-120000-smoke.")],
) -> None:
    """Write every task's stamps as CSV to standard output: due, sent, accepted, ..., detected."""
    from yottabench.load.rundir import RunDir, RunDirError
    from yottabench.load.stamps import write_stamps

    try:
        write_stamps(RunDir.open(run_dir), sys.stdout)
    except RunDirError as error:
        _fail(str(error))


@app.command()
def profiles() -> None:
    """List the shipped profiles."""
    from yottabench.load.profile import list_profiles
    from yottabench.load.tables import ProfileError

    try:
        found = list_profiles()
    except ProfileError as error:
        _fail(str(error))
    width = max((len(profile.name) for profile in found), default=0)
    for profile in found:
        typer.echo(f"{profile.name:<{width}}  {profile.about}")


def _fail(message: str) -> NoReturn:
    typer.secho(message, err=True, fg=typer.colors.RED)
    raise typer.Exit(2)
