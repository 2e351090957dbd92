"""Traces: what a request set off, through API, queue and stages. Off unless `SECATEUR_OTLP_ENDPOINT` is set.

The service speaks OpenTelemetry's API, which does nothing and costs next to nothing until `start` gives it somewhere to
send spans to; only then is its SDK imported, which the extra `otel` installs. FastAPI makes the span of a request, the
instrumentation of Celery that of a message, the supervisor that of an attempt.

A message is a hint and may be lost, so the trace does not travel with it: a job keeps the context of its request, and
whichever worker runs one of its stages, sent again or not, goes on from there (docs/decisions/traces.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from secateur.contract.errors import Unavailable

_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})  # asked every few seconds, on nobody's behalf
_W3C = TraceContextTextMapPropagator()


def start(endpoint: str | None, *, service: str) -> None:
    """Send this process's spans to the collector there, under this name; nothing happens without one.

    Raises:
        Unavailable: what that needs is not installed.
    """
    if endpoint is None:
        return
    try:
        from app.otlp import make_provider
    except ModuleNotFoundError as error:
        raise Unavailable(
            f"SECATEUR_OTLP_ENDPOINT is set, and {error.name} is not installed: traces need this package's extra `otel`"
        ) from None
    trace.set_tracer_provider(make_provider(endpoint, service=service))


def of_requests(*, on: bool) -> Any:
    """FastAPI's settings: a span for each request, and neither its metrics nor its log, which are the service's own."""
    return {
        "tracing": on,
        "metrics": False,
        "logs": False,
        "operation_spans": False,
        "exclude": lambda scope: scope["path"] in _QUIET,
    }


def traceparent() -> str | None:
    """The current span, for whoever goes on with the trace later; None where nothing is traced."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier.get("traceparent")


def context_of(traceparent: str | None) -> Context:
    """What `traceparent` gave; a new trace begins where there is none."""
    return _W3C.extract({"traceparent": traceparent} if traceparent else {}, context=Context())


def bound() -> Mapping[str, str]:
    """What lines of the log tell of the current span: its trace, if it is in one."""
    found = trace.get_current_span().get_span_context()
    return {"trace_id": trace.format_trace_id(found.trace_id)} if found.is_valid else {}
