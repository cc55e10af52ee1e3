"""What a client is made with, from arguments and environment."""

import os
from typing import TYPE_CHECKING

import attrs

from yottabench.client.errors import InvalidArgument
from yottabench.client.operations import Operations
from yottabench.client.plans import Retries, Rules
from yottabench.client.telemetry import Telemetry, telemetry_for
from yottabench.client.transport import Target, checked_api_key, checked_base_url

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

DEFAULT_BASE_URL = "https://api.yottalabs.ai"
API_KEY_VARIABLE = "YOTTA_API_KEY"
BASE_URL_VARIABLE = "YOTTA_BASE_URL"


@attrs.frozen
class Setup:
    """The parts that do not depend on whether calls block."""

    target: Target
    rules: Rules
    operations: Operations
    telemetry: Telemetry


def set_up(
    api_key: str | None,
    base_url: str | None,
    *,
    timeout_s: float,
    deadline_s: float,
    retries: "Retries | int",
    local_checks: bool,
    tracing: "bool | TracerProvider",
    rules: Rules | None,
) -> Setup:
    """Raises InvalidArgument for what makes no client."""
    key = checked_api_key(api_key or os.environ.get(API_KEY_VARIABLE, ""))
    address = checked_base_url(base_url or os.environ.get(BASE_URL_VARIABLE, "") or DEFAULT_BASE_URL)
    for name, value in (("timeout_s", timeout_s), ("deadline_s", deadline_s)):
        if not value > 0:
            raise InvalidArgument(f"{name} must be more than 0 seconds, but is {value!r}.")
    if rules is None:
        chosen = Retries(max_retries=retries) if isinstance(retries, int) else retries
        rules = Rules(timeout_s=timeout_s, deadline_s=deadline_s, retries=chosen)
    return Setup(Target(address, key), rules, Operations(check=local_checks), telemetry_for(tracing))
