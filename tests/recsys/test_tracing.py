"""A trace goes from an event to its list: as it came, or through a span of ours."""

import pytest

from recsys.catalogue import Catalogue
from recsys.item_state import ItemState
from recsys.pipeline import Pipeline, PipelineConfig, default_models
from recsys.tracing import SpanTracer, Tracer, open_tracer
from recsys.user_lanes import UserLanes
from recsys.user_lanes_config import UserLanesConfig
from streams import topics
from streams.chunk import Chunk, Position
from streams.events import HEADER_TRACEPARENT
from tests.records import body, record

SAMPLED = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = SAMPLED[:-1] + b"0"


def list_headers(tracer: Tracer, parent: bytes) -> list[tuple[str, bytes]]:
    """The headers of the list that answers an event of a trace."""
    items = ItemState(default_models())
    pipeline = Pipeline(PipelineConfig(), items, Catalogue(items))
    lanes = UserLanes(pipeline, UserLanesConfig(partitions=1), tracer=tracer)
    lane, source = lanes.open(0), Position(topics.BEHAVIOUR.name(), 0)
    event = record(body(), partition=0, offset=7, headers=[(HEADER_TRACEPARENT, parent)])
    lane.begin()
    outcome = lanes.apply(0, lane, [Chunk(source, 7, [event])])
    lane.commit()
    (written,) = outcome.writes[Position(topics.RECOMMENDATIONS.name(), 0)]
    return list(written.headers or ())


@pytest.mark.parametrize("parent", [SAMPLED, UNSAMPLED, b"nonsense", b"\xff"])
def test_without_a_collector_the_header_goes_on_as_it_came(parent: bytes) -> None:
    assert list_headers(open_tracer(""), parent) == [(HEADER_TRACEPARENT, parent)]


class TestSpans:
    @pytest.fixture
    def exporter(self):
        export = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
        return export.InMemorySpanExporter()

    @pytest.fixture
    def tracer(self, exporter):
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor

        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        tracer = SpanTracer(provider)
        yield tracer
        tracer.close()

    def test_the_list_names_a_span_whose_parent_is_the_event_s(self, tracer, exporter) -> None:
        ((name, header),) = list_headers(tracer, SAMPLED)
        (span,) = exporter.get_finished_spans()
        assert name == HEADER_TRACEPARENT
        _, trace_id, span_id, flags = header.decode().split("-")
        assert trace_id == SAMPLED.decode().split("-")[1]
        assert span_id == f"{span.context.span_id:016x}"
        assert flags == "01"
        assert f"{span.parent.span_id:016x}" == SAMPLED.decode().split("-")[2]
        assert span.name == "recommend"
        assert span.attributes["messaging.kafka.offset"] == 7
        assert span.start_time <= span.end_time
        assert not [key for key in span.attributes if "user" in key]

    @pytest.mark.parametrize("parent", [UNSAMPLED, b"nonsense", b"\xff"])
    def test_what_is_not_sampled_or_not_read_goes_on_as_it_came(
        self, tracer, exporter, parent: bytes
    ) -> None:
        assert list_headers(tracer, parent) == [(HEADER_TRACEPARENT, parent)]
        assert not exporter.get_finished_spans()
