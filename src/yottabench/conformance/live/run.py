"""One check of a deployment from beginning to end; what was made is deleted again, however it ends."""

import secrets
from collections.abc import Callable

import attrs
import httpx

from yottabench.conformance.document import operations
from yottabench.conformance.live.findings import Findings
from yottabench.conformance.live.reading import read
from yottabench.conformance.live.service import REQUEST_TIMEOUT_S, Budget, OutOfBudget, Service, Unreachable
from yottabench.conformance.live.writing import Writing

NAME_START = "yb-conf-"


@attrs.frozen
class Wishes:
    """What to check, and how much of it."""

    target: str
    key: str = attrs.field(repr=False)
    write: bool = False
    requests: int = 300
    per_second: float = 5.0
    endpoint_id: str | None = None
    """Of which endpoint to read; by default of up to `endpoints_max` that are there, queues first."""
    endpoints_max: int = 2
    image: str = "vllm/vllm-openai:latest"
    workers: int = 0
    """Of the endpoint that is made to be written to; workers may cost money."""


def run(wishes: Wishes, *, budget: Budget | None = None, http: Callable[[], httpx.Client] | None = None) -> Findings:
    """Check a deployment. Raises KeyRefused when it does not know the key; all else is in the findings."""
    findings = Findings(wishes.target, wishes.write)
    if not wishes.write:
        writers = [name for name, one in operations().items() if one.method != "GET"]
        findings.skip(writers, "it writes: ask for it with WRITE=1 or --write")
    budget = budget or Budget(wishes.per_second, wishes.requests)
    with (http or _http)() as client:
        service = Service(wishes.target, wishes.key, findings, budget, client)
        # The name by which an endpoint is found again whose creation got no answer.
        name = f"{NAME_START}{secrets.token_hex(4)}"
        writing = Writing(service, findings, image=wishes.image, workers=wishes.workers, name=name)
        try:
            read(service, findings, wishes.endpoint_id, wishes.endpoints_max)
            if wishes.write:
                writing.run()
        except OutOfBudget:
            findings.stopped = f"all {budget.total} requests were sent; allow more with --requests"
            findings.skip((name for name, one in findings.operations.items() if not one.answered), "budget used up")
        except Unreachable as error:
            findings.stopped = f"no answer. {error}"
        except KeyboardInterrupt:
            findings.stopped = "interrupted"
        finally:
            writing.clean_up()
    return findings


def _http() -> httpx.Client:
    return httpx.Client(timeout=REQUEST_TIMEOUT_S, follow_redirects=False)
