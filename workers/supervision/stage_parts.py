"""The parts of a stage, as its process tells of them, become spans of its attempt.

The process itself knows nothing of traces: it says when a part begins and when it is over, and the worker makes the
spans. So a stage needs no collector, no network and no SDK, and what a killed one was at is seen.
"""

from __future__ import annotations

from opentelemetry import context, trace
from opentelemetry.trace import Span, StatusCode

from secateur.contract.protocol import PartEvent

_TRACER = trace.get_tracer("secateur")
_UNFINISHED = "the process ended in it"


class PartSpans:
    """Spans for the parts of one process, under the span that is current when this is made. Parts lie in each other."""

    def __init__(self) -> None:
        self._parent = context.get_current()
        self._open: list[tuple[str, Span]] = []

    def take(self, event: PartEvent) -> None:
        """A part begins or is over. The end of one that never began is passed over."""
        if event.state == "began":
            parent = trace.set_span_in_context(self._open[-1][1], self._parent) if self._open else self._parent
            span = _TRACER.start_span(event.name, context=parent, start_time=_nanoseconds(event.at))
            self._open.append((event.name, span))
        elif any(name == event.name for name, _ in self._open):
            while True:
                name, span = self._open.pop()
                if event.state == "failed":
                    span.set_status(StatusCode.ERROR)
                span.end(_nanoseconds(event.at))
                if name == event.name:
                    return

    def close(self) -> None:
        """The process is gone: what is open ended with it."""
        while self._open:
            _, span = self._open.pop()
            span.set_status(StatusCode.ERROR, _UNFINISHED)
            span.end()


def _nanoseconds(at: float) -> int:
    return int(at * 1e9)
