"""With tracing, each call is a span, and a task carries the trace to its worker; without, nothing is told."""

import json
import logging
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.client.clients import make
from tests.client.service import ENDPOINT, ID, KEY, TASK, Service, given, refusal
from yottabench.client import EndpointNotFound, InvalidArgument, Retries


class Traced:
    """A client whose spans are kept."""

    def __init__(self, service: Service) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = provider.get_tracer("test")
        self.client: Any = make(
            service.kind,
            KEY,
            "http://emulator.test",
            http=service.transport(),
            tracing=provider,
            rules=service.time.rules(retries=Retries(max_retries=2)),
        )

    @property
    def spans(self) -> Any:
        return self.exporter.get_finished_spans()


def accepted(request: httpx.Request) -> httpx.Response:
    return given({"taskId": json.loads(request.content)["taskId"]})


def test_a_call_with_its_retries_is_one_span(service: Service) -> None:
    traced = Traced(service.first(httpx.Response(502)).gives(TASK))
    traced.client.tasks.get(ID, "mine")
    (span,) = traced.spans
    assert (span.name, span.kind) == ("yotta getTaskById", SpanKind.CLIENT)
    assert span.attributes == {"yotta.operation": "getTaskById", "yotta.endpoint_id": ID, "yotta.task_id": "mine"}
    assert span.status.status_code is StatusCode.UNSET


def test_a_failure_is_told_without_secrets(service: Service) -> None:
    service.answer = refusal(404, 14000, f"no endpoint for {KEY}")
    traced = Traced(service)
    with pytest.raises(EndpointNotFound):
        traced.client.endpoints.get(ID)
    (span,) = traced.spans
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "EndpointNotFound"
    assert (span.attributes["http.response.status_code"], span.attributes["yotta.code"]) == (404, 14000)
    assert KEY not in span.to_json()


def test_a_task_carries_the_trace_to_its_worker(service: Service) -> None:
    service.answer = accepted
    traced = Traced(service)
    with traced.tracer.start_as_current_span("outer") as outer:
        traced.client.tasks.submit(ID, 1, worker_port=1, process_uri="/", headers={"X-Own": "1"})
    headers = service.sent["headers"]
    assert headers["X-Own"] == "1"
    version, trace_id, span_id, _ = headers["traceparent"].split("-")
    submit = next(span for span in traced.spans if span.name == "yotta submitTask")
    assert (version, trace_id) == ("00", f"{outer.get_span_context().trace_id:032x}")
    assert span_id == f"{submit.context.span_id:016x}"


def test_a_task_under_the_callers_own_id_is_sent_as_it_is(service: Service) -> None:
    service.answer = accepted
    traced = Traced(service)
    traced.client.tasks.submit(ID, 1, worker_port=1, process_uri="/", task_id="mine")
    assert "headers" not in service.sent


def test_what_takes_many_requests_is_one_span(service: Service) -> None:
    traced = Traced(service.first(accepted).gives(TASK))
    traced.client.tasks.submit_and_wait(ID, 1, worker_port=1, process_uri="/")
    traced.client.tasks.wait(ID, "mine")
    assert [span.name for span in traced.spans] == ["yotta submitTask and wait", "yotta wait"]


def test_without_tracing_nothing_is_added(service: Service) -> None:
    service.answer = accepted
    service.client().tasks.submit(ID, 1, worker_port=1, process_uri="/")
    assert "headers" not in service.sent


def test_tracing_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry", None)
    with pytest.raises(InvalidArgument, match=r"pip install 'yottabench\[otel\]'"):
        make("sync", KEY, "http://x.test", tracing=True)


def test_the_log_of_one_name_tells_of_calls_and_retries_and_of_no_secret(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    service.first(refusal(500, 10002, f"broken for {KEY}")).gives(ENDPOINT)
    service.client(max_retries=1).endpoints.get(ID)
    ours = [record for record in caplog.records if record.name.startswith("yottabench")]
    assert {record.name for record in ours} == {"yottabench.client"}
    assert any("Trying again in" in record.message for record in ours)
    assert KEY not in "".join(record.message for record in ours)
