"""`yottabench conformance`: holds a running deployment to the document."""

import os
import signal
import types
from typing import Annotated

import typer

from yottabench.cli.connect import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_KEY,
    EXIT_NO_ANSWER,
    LOCAL_KEY,
    AsJson,
    is_local,
    print_json,
    stop,
)

READ_REQUESTS, WRITE_REQUESTS = 300, 3000


def conformance(
    target: Annotated[
        str, typer.Option("--target", envvar="YOTTA_BASE_URL", show_default=False, help="URL of the deployment.")
    ],
    write: Annotated[bool, typer.Option("--write", help="Also create, change and delete endpoints.")] = False,
    requests: Annotated[
        int | None,
        typer.Option(min=1, help=f"Requests to send at most. Default: {READ_REQUESTS}; {WRITE_REQUESTS} to write."),
    ] = None,
    rate: Annotated[float, typer.Option(min=0.1, max=1000, help="Requests per second at most.")] = 5.0,
    endpoint_id: Annotated[
        str | None, typer.Option(help="The endpoint to read. Default: up to two that are there.")
    ] = None,
    image: Annotated[str, typer.Option(help="Image of the endpoint that --write makes.")] = "vllm/vllm-openai:latest",
    workers: Annotated[int, typer.Option(min=0, max=10, help="Its workers, which may cost money.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Hold a deployment to the documented API; the key is in YOTTA_API_KEY.

    Only reads unless told to --write. Exit codes: 0 nothing deviates, 1 something does, or an endpoint could not be
    deleted again; 2 wrong usage; 4 the key is wrong; 5 no answer; 130 interrupted (and cleaned up).
    """
    try:
        from yottabench.conformance.live import Wishes, run
        from yottabench.conformance.live.service import KeyRefused
    except ModuleNotFoundError as error:
        stop(f"`yottabench conformance` needs {error.name}. Install: pip install 'yottabench[conformance]'")
    if not target.startswith(("http://", "https://")):
        stop(f"--target must be a URL such as https://api.yottalabs.ai, but is {target!r}.")
    key = os.environ.get("YOTTA_API_KEY") or (LOCAL_KEY if is_local(target) else "")
    if not key:
        stop("YOTTA_API_KEY is not set. Set it to the key of your account.", EXIT_KEY)
    # A terminated check cleans up like an interrupted one.
    signal.signal(signal.SIGTERM, _interrupt)
    wishes = Wishes(
        target=target,
        key=key,
        write=write,
        requests=requests or (WRITE_REQUESTS if write else READ_REQUESTS),
        per_second=rate,
        endpoint_id=endpoint_id,
        image=image,
        workers=workers,
    )
    try:
        findings = run(wishes)
    except KeyRefused:
        stop(f"{target} does not know the key in YOTTA_API_KEY.", EXIT_KEY)
    if as_json:
        print_json(findings.as_json())
    else:
        typer.echo(findings.as_text())
    if findings.stopped == "interrupted":
        raise typer.Exit(EXIT_INTERRUPTED)
    if findings.stopped and findings.stopped.startswith("no answer"):
        raise typer.Exit(EXIT_NO_ANSWER)
    if findings.deviates or findings.left_behind:
        raise typer.Exit(EXIT_FAILED)


def _interrupt(_number: int, _frame: types.FrameType | None) -> None:
    raise KeyboardInterrupt
