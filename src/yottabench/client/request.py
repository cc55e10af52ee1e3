"""What is asked of the API, as data: one object for each call, that either client can send, once or again."""

from collections.abc import Awaitable, Callable
from typing import Any, Generic, NotRequired, Protocol, TypedDict, TypeVar

import attrs
from yotta_serverless_api import AuthenticatedClient
from yotta_serverless_api.models import ErrorEnvelope

from yottabench.client.envelope import Answer, Success

D = TypeVar("D")
D_co = TypeVar("D_co", covariant=True)


class SendNow(Protocol[D_co]):
    """A generated `sync_detailed` with its arguments."""

    def __call__(self, *, client: AuthenticatedClient) -> Answer[Success[D_co] | ErrorEnvelope]:
        """Send the request and read the answer."""
        ...


class SendAsync(Protocol[D_co]):
    """A generated `asyncio_detailed` with its arguments."""

    def __call__(self, *, client: AuthenticatedClient) -> Awaitable[Answer[Success[D_co] | ErrorEnvelope]]:
        """Send the request and read the answer."""
        ...


def _as_it_is(data: Any) -> Any:
    return data


@attrs.frozen(kw_only=True)
class Request(Generic[D]):
    """One operation with its arguments."""

    operation: str
    """The operationId."""
    send_now: SendNow[D]
    send_async: SendAsync[D]
    repeatable: bool = True
    """Whether sending it twice does no more than sending it once."""
    task_id: str | None = None
    secrets: tuple[str, ...] = attrs.field(default=(), repr=False)
    """Texts that were sent and must not come back in an error."""
    finish: Callable[[D], D] = _as_it_is
    """Makes the data even, where answers of the service differ."""


class CallOptions(TypedDict, total=False):
    """What every call takes besides its own arguments, instead of what the client was made with."""

    timeout_s: NotRequired[float]
    """The longest that one try may take."""
    deadline_s: NotRequired[float]
    """The longest that the call may take, with all its tries and the pauses between them."""
    max_retries: NotRequired[int]
    """How often it is tried again after the first failure."""
