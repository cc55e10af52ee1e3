"""Spans for calls, and the trace's context for the worker: with OpenTelemetry, where a client was asked to trace."""

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from yottabench import __version__
from yottabench.client.errors import ApiError, InvalidArgument, YottaError

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider


class Telemetry(Protocol):
    """What a client tells of its calls."""

    def span(
        self, operation: str, endpoint_id: object = None, task_id: str | None = None
    ) -> AbstractContextManager[Any]:
        """A block in which one call is made."""
        ...

    def trace_headers(self) -> Mapping[str, str]:
        """Headers that tell a worker which trace a task belongs to."""
        ...


class NoTelemetry:
    """Nothing is told."""

    def span(
        self, operation: str, endpoint_id: object = None, task_id: str | None = None
    ) -> AbstractContextManager[Any]:
        """A block of no account."""
        return nullcontext()

    def trace_headers(self) -> Mapping[str, str]:
        """None."""
        return {}


class OpenTelemetry:
    """A span for each call, with its repetitions inside."""

    def __init__(self, provider: "TracerProvider | None") -> None:
        try:
            from opentelemetry import propagate, trace
        except ModuleNotFoundError:
            raise InvalidArgument(
                "tracing needs the package opentelemetry-api. Install it with: pip install 'yottabench[otel]'"
            ) from None
        self._trace = trace
        self._propagate = propagate
        self._tracer = trace.get_tracer("yottabench.client", __version__, tracer_provider=provider)

    @contextmanager
    def span(self, operation: str, endpoint_id: object = None, task_id: str | None = None) -> Generator[None]:
        """See Telemetry.span."""
        attributes = {"yotta.operation": operation}
        if endpoint_id is not None:
            attributes["yotta.endpoint_id"] = str(endpoint_id)
        if task_id is not None:
            attributes["yotta.task_id"] = task_id
        kind = self._trace.SpanKind.CLIENT
        # Errors are recorded here: the library would write down every exception's text and stack.
        with self._tracer.start_as_current_span(
            f"yotta {operation}",
            kind=kind,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except YottaError as error:
                self._tell(span, error)
                raise

    def _tell(self, span: "Span", error: YottaError) -> None:
        span.set_attribute("error.type", type(error).__name__)
        if isinstance(error, ApiError):
            span.set_attribute("http.response.status_code", error.http_status)
            if error.code is not None:
                span.set_attribute("yotta.code", error.code)
        span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, str(error)))

    def trace_headers(self) -> Mapping[str, str]:
        """See Telemetry.trace_headers."""
        headers: dict[str, str] = {}
        self._propagate.inject(headers)
        return headers


def telemetry_for(tracing: "bool | TracerProvider") -> Telemetry:
    """What the argument `tracing` of a client asks for: nothing, the global provider, or the one given."""
    if tracing is False:
        return NoTelemetry()
    return OpenTelemetry(None if tracing is True else tracing)
