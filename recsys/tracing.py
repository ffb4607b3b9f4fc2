"""Traces: an event's `traceparent` (W3C) goes on to its list; with OpenTelemetry, through a span.

The span begins when the broker took the event and ends when its list was made. Without a place for
spans (`worker.trace_endpoint`), or for what is not sampled, the header goes on as it came.
"""

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from streams.events import HEADER_TRACEPARENT, RankedList

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

NS_PER_MS = 1_000_000


class Trace(NamedTuple):
    """What a record says of its trace, and when the broker took it."""

    parent: bytes
    since_ms: int


def trace_of(record: Any) -> Trace | None:
    """The trace that a record belongs to."""
    for name, value in record.headers:
        if name == HEADER_TRACEPARENT and value:
            return Trace(bytes(value), int(record.timestamp))
    return None


class Tracer:
    """Carries headers on, and makes no spans."""

    def list_made(self, trace: Trace, _answer: RankedList) -> bytes:
        """The header of the list."""
        return trace.parent

    def close(self) -> None:
        """Send what is left."""


class SpanTracer(Tracer):
    """A span for each list whose event was sampled; the list's header names the span."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry.trace import get_current_span
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("recsys")
        self._extract = TraceContextTextMapPropagator().extract
        self._span_in = get_current_span

    def list_made(self, trace: Trace, answer: RankedList) -> bytes:
        """Make the span; the header that names it."""
        context = self._extract({HEADER_TRACEPARENT: trace.parent.decode("ascii", "replace")})
        if not self._span_in(context).get_span_context().is_valid:
            return trace.parent
        trigger = answer.trigger
        span = self._tracer.start_span(
            "recommend",
            context,
            start_time=trace.since_ms * NS_PER_MS,
            attributes={
                "messaging.system": "kafka",
                "messaging.destination.name": trigger.topic,
                "messaging.destination.partition.id": str(trigger.partition),
                "messaging.kafka.offset": trigger.offset,
                "recsys.trigger": trigger.kind,
                "recsys.list_id": answer.list_id,
                "recsys.model_version": answer.model_version,
                "recsys.variant": answer.variant,
            },
        )
        if not span.is_recording():
            return trace.parent
        span.end(time.time_ns())
        made = span.get_span_context()
        return b"00-%032x-%016x-%02x" % (made.trace_id, made.span_id, made.trace_flags)

    def close(self) -> None:
        """Send what is left; a collector that does not answer is not waited for long."""
        self._provider.shutdown()


def open_tracer(endpoint: str) -> Tracer:
    """Spans to an OTLP/HTTP collector, from a thread of their own; no endpoint, no spans.

    Raises:
        ImportError: there is an endpoint, and OpenTelemetry is not installed.
    """
    if not endpoint:
        return Tracer()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "recsys"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint, timeout=5)))
    return SpanTracer(provider)
