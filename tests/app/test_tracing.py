"""Traces are off unless asked for, cost nothing then, and hold no secret."""

from __future__ import annotations

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app import tracing
from app.otlp import MaskedExporter
from secateur.contract.errors import Unavailable

GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_nothing_of_it_is_imported_where_it_is_off() -> None:
    program = (
        "import sys, app.main\n"
        "app.main.create_app()\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])\n"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "app.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(Unavailable, match=r"opentelemetry\.exporter.* is not installed: .* extra `otel`"):
        tracing.start("http://127.0.0.1:4318", service="test")


def test_there_is_no_context_where_nothing_is_traced() -> None:
    assert tracing.traceparent() is None
    assert tracing.bound() == {}


def test_a_trace_goes_on_from_what_was_kept_of_it() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    with provider.get_tracer("test").start_as_current_span("later", context=tracing.context_of(GIVEN)):
        kept = tracing.traceparent()
        assert kept is not None
        assert kept.split("-")[1] == GIVEN.split("-")[1] == tracing.bound()["trace_id"]
    with provider.get_tracer("test").start_as_current_span("alone", context=tracing.context_of(None)):
        assert tracing.bound()["trace_id"] != GIVEN.split("-")[1]


def test_spans_hold_no_secret() -> None:
    sent = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(MaskedExporter(sent)))
    tracer = provider.get_tracer("test")

    def broken() -> None:
        with tracer.start_as_current_span("redis://:hunter2@h", attributes={"n": 1}) as span:
            span.set_attribute("url", "postgresql://u:hunter2@db/x")
            raise RuntimeError("password=hunter2")

    with pytest.raises(RuntimeError):
        broken()
    (told,) = sent.get_finished_spans()
    text = told.to_json()
    assert "hunter2" not in text
    assert told.name == "redis://:***@h"
    assert told.attributes == {"n": 1, "url": "postgresql://u:***@db/x"}
    assert told.status.description == "RuntimeError: password=***"
    (event,) = told.events
    assert "password=***" in str((event.attributes or {})["exception.stacktrace"])
    assert told.start_time is not None
    assert told.end_time is not None
