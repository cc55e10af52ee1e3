"""What the server counts, in the text format of Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import attrs

from yottabench.emulator.codes import ApiError, Code
from yottabench.emulator.endpoints import Endpoint
from yottabench.emulator.faults import Faults
from yottabench.emulator.places import Places
from yottabench.emulator.stats import Stats
from yottabench.emulator.store.base import EndpointStatus, Store, TaskState, WorkerStatus
from yottabench.emulator.store.writer import Writer
from yottabench.emulator.webhooks import Outbox

if TYPE_CHECKING:
    from prometheus_client.core import Metric


@attrs.frozen
class Sources:
    """Where the figures come from."""

    stats: Stats
    writer: Writer
    outbox: Outbox
    faults: Faults
    places: Places
    store: Store
    endpoints: Mapping[int, Endpoint]
    answers: Callable[[], Mapping[int, int]]  # how many answers there were of each HTTP status
    ahead_ms: Callable[[], int]


def exposition(sources: Sources) -> tuple[bytes, bytes]:
    """Content type and text. Raises ApiError when the library that writes it is not installed."""
    try:
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
    except ModuleNotFoundError:
        raise ApiError(
            Code.SYSTEM_ERROR,
            "Metrics need the package prometheus-client. Install it with: pip install 'yottabench[emulator]'",
            http_status=501,
        ) from None
    registry = CollectorRegistry()
    registry.register(_Collector(sources))
    ProcessCollector(registry=registry)
    return CONTENT_TYPE_LATEST.encode("ascii"), generate_latest(registry)


class _Collector:
    """See prometheus_client.registry.Collector."""

    def __init__(self, sources: Sources) -> None:
        self._from = sources

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        def counter(name: str, about: str, label: str | None, values: Mapping[str, float]) -> Metric:
            family = CounterMetricFamily(f"yottabench_{name}", about, labels=[label] if label else None)
            for key, value in values.items():
                family.add_metric([key] if label else [], value)
            return family

        def gauge(name: str, about: str, label: str | None, values: Mapping[str, float]) -> Metric:
            family = GaugeMetricFamily(f"yottabench_{name}", about, labels=[label] if label else None)
            for key, value in values.items():
                family.add_metric([key] if label else [], value)
            return family

        sources = self._from
        writer, outbox = sources.writer, sources.outbox
        answers = {str(status): n for status, n in sorted(sources.answers().items())}
        yield counter("http_answers", "Answers of the API.", "status", answers)
        yield counter("events", "What happened, by name; see docs/emulator-control.md.", "event", sources.stats.counts)
        yield counter("store_commits", "Transactions of the store.", None, {"": writer.commits})
        yield counter("store_commands", "Changes in those transactions.", None, {"": writer.commands})
        yield gauge("store_waiting", "Changes that wait for their transaction.", None, {"": writer.unanswered})
        yield gauge("deliveries_pending", "Webhooks to be sent, now or later.", None, {"": outbox.pending})
        yield gauge("deliveries_sending", "Webhooks that are being sent.", None, {"": outbox.busy})
        yield counter("faults_fired", "Requests that faults struck.", "fault", self._fired())
        yield gauge("clock_ahead_seconds", "How far time was advanced.", None, {"": sources.ahead_ms() / 1000})
        yield gauge("endpoints", "Endpoints by status.", "status", self._endpoints())
        yield gauge("workers", "Live workers by status.", "status", self._workers())
        yield gauge("workers_waiting", "Workers for which there is no place.", None, {"": sources.places.waiting})
        tasks = GaugeMetricFamily("yottabench_tasks", "Tasks by endpoint and state.", labels=["endpoint", "state"])
        for endpoint_id in sources.endpoints:
            for state, n in sources.store.counts(endpoint_id).items():
                tasks.add_metric([str(endpoint_id), TaskState(state).name], n)
        yield tasks

    def _fired(self) -> dict[str, float]:
        return {rule.id: rule.fired for rule in self._from.faults.rules(None)}

    def _endpoints(self) -> dict[str, float]:
        found = Counter(endpoint.record.status for endpoint in self._from.endpoints.values())
        return {status.name: found[status] for status in EndpointStatus}

    def _workers(self) -> dict[str, float]:
        found = Counter(w.record.status for endpoint in self._from.endpoints.values() for w in endpoint.live_workers)
        return {status.name: found[status] for status in WorkerStatus if status is not WorkerStatus.TERMINATED}
