"""`yottabench doctor`: says what of this installation, or of the deployment it talks to, does not work."""

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import typer

from yottabench.cli.connect import EXIT_FAILED, KEY_HINT, AsJson, BaseUrl, is_local, print_json
from yottabench.cli.doctor_installation import Finding, installation, looked

if TYPE_CHECKING:
    from yottabench.client import Client

SKEW_S = 60.0  # beyond it, webhook signatures and certificates begin to fail
ANSWER_S = 10.0


def doctor(
    endpoint_id: Annotated[
        str | None, typer.Option("--endpoint-id", help="Also look whether this endpoint takes tasks.")
    ] = None,
    base_url: BaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Say what of this installation, or of the deployment it talks to, does not work (then the exit code is 1)."""
    findings: list[Finding] = []
    for finding in _all(base_url, endpoint_id):
        findings.append(finding)
        if not as_json:
            _say(finding)
    if as_json:
        print_json([attrs.asdict(finding) for finding in findings])
    if any(finding.state == "fail" for finding in findings):
        raise typer.Exit(EXIT_FAILED)


def _say(finding: Finding) -> None:
    colour = {"ok": typer.colors.GREEN, "fail": typer.colors.RED, "note": typer.colors.YELLOW}[finding.state]
    typer.echo(f"{typer.style(f'{finding.state:<4}', fg=colour)}  {finding.check:<20}  {finding.detail}")


def _all(base_url: str | None, endpoint_id: str | None) -> Iterator[Finding]:
    yield from installation()
    yield from _target(base_url, endpoint_id)


# ---- the deployment


def _target(base_url: str | None, endpoint_id: str | None) -> Iterator[Finding]:
    from yottabench.cli.connect import LOCAL_KEY
    from yottabench.client import Client, Retries, YottaError

    address = base_url or "https://api.yottalabs.ai"
    key = os.environ.get("YOTTA_API_KEY") or (LOCAL_KEY if is_local(address) else "")
    if not key:
        yield Finding("api key", "fail", f"There is none. Set {KEY_HINT}")
        return
    try:
        client = Client(key, address, timeout_s=ANSWER_S, retries=Retries(max_retries=1))
    except YottaError as error:
        yield Finding("target", "fail", str(error))
        return
    with client:
        answered = _api(client, address)
        yield from answered
        if endpoint_id is not None and all(one.state != "fail" for one in answered):
            yield looked("endpoint", lambda: _endpoint(client, endpoint_id))


def _api(client: "Client", address: str) -> list[Finding]:
    from yottabench.client import AuthenticationError, ConnectionFailed, YottaError

    started_s = time.monotonic()
    try:
        found = client.endpoints.with_raw_response.list()
    except AuthenticationError as error:
        return [Finding("target", "ok", f"{address} answers"), Finding("api key", "fail", str(error))]
    except ConnectionFailed as error:
        hint = " Start an emulator with: yottabench serve" if is_local(address) else ""
        return [Finding("target", "fail", f"{address} does not answer. {error}{hint}")]
    except YottaError as error:
        return [Finding("target", "fail", f"{address} does not answer as the Serverless API: {error}")]
    took_ms = (time.monotonic() - started_s) * 1000
    return [
        Finding("target", "ok", f"{address} answers in {took_ms:.0f} ms, {len(found.parsed)} endpoints"),
        Finding("api key", "ok", "is accepted"),
        _clock(found.headers.get("date")),
    ]


def _clock(date: str | None) -> Finding:
    from email.utils import parsedate_to_datetime

    try:
        skew_s = time.time() - parsedate_to_datetime(date or "").timestamp()
    except (TypeError, ValueError, OverflowError):
        return Finding("clock", "note", "The service does not tell its time.")
    if abs(skew_s) > SKEW_S:
        text = f"This machine's clock is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} the service's."
        return Finding("clock", "fail", f"{text} Signatures of webhooks will be refused. Set it right.")
    return Finding("clock", "ok", "agrees with the service's")


def _endpoint(client: "Client", endpoint_id: str) -> str:
    endpoint = client.endpoints.get(endpoint_id)
    problem: Any = None
    if str(endpoint.service_mode) != "QUEUE":
        problem = f"is in {endpoint.service_mode} mode; only QUEUE endpoints take tasks"
    elif str(endpoint.status) not in ("RUNNING", "INITIALIZING"):
        problem = f"is {endpoint.status} and takes no tasks; start it"
    elif endpoint.running_workers == 0:
        problem = "has no running worker; tasks only wait. Look at its workers' logs, or scale it up"
    if problem is not None:
        raise ValueError(f"{endpoint_id} {problem}.")
    return f"{endpoint.name} takes tasks, {endpoint.running_workers} of {endpoint.total_workers} workers run"
