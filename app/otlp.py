"""Sends spans to a collector, as OTLP over HTTP, with secrets hidden. Needs OpenTelemetry's SDK: the extra `otel`.

Spans are sent in batches, by a thread of their own. A collector that is away costs the spans, and keeps nobody waiting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Status

from secateur.about import VERSION
from secateur.masking import redact

SECONDS = 3.0  # for one batch, all tries together: the process does not end before its last one


def make_provider(endpoint: str, *, service: str) -> TracerProvider:
    """What makes spans under the name `service`, and sends them to the collector at this address."""
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service, SERVICE_VERSION: VERSION}))
    exporter = OTLPSpanExporter(endpoint.rstrip("/") + "/v1/traces", timeout=SECONDS)
    provider.add_span_processor(BatchSpanProcessor(MaskedExporter(exporter)))
    return provider


class MaskedExporter(SpanExporter):
    """Hands spans on with secrets hidden: libraries record errors in them, with what those quote."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._inner.export([masked(span) for span in spans])

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


def masked(span: ReadableSpan) -> ReadableSpan:
    """The span with secrets hidden in all of its texts."""
    description = span.status.description
    return ReadableSpan(
        name=redact(span.name),
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes=_masked(span.attributes),
        events=[Event(redact(event.name), _masked(event.attributes), event.timestamp) for event in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code, description and redact(description)),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _masked(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: redact(value) if isinstance(value, str) else value for name, value in (attributes or {}).items()}
