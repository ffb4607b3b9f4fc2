"""Writing lists: encoded, explained and counted, to the topic of whoever writes them.

The generation that is live at a list's trigger writes it where the shop reads; another one writes
its own aside, to be compared.
"""

import time

import numpy as np
from numpy.typing import NDArray

from recsys import metrics
from recsys.pipeline import Pipeline
from recsys.ranked import Ranked
from recsys.tracing import Trace, Tracer
from recsys.user_inputs import UserInputs
from recsys.user_lane import UserLane
from recsys.user_lanes_config import UserLanesConfig
from streams import codec, topics
from streams.application import Outcome
from streams.chunk import Position, Record
from streams.events import HEADER_TRACEPARENT, RankedList, Trigger


def encoded(answer: RankedList) -> bytes:
    """A list as bytes, without its last items where its topic would not take it."""
    body = codec.encode(answer)
    while len(body) > topics.RECOMMENDATIONS.body_bytes_max:
        room = topics.RECOMMENDATIONS.body_bytes_max / len(body)
        answer.items = answer.items[: int(len(answer.items) * room)]
        body = codec.encode(answer)
    return body


class ListWriter:
    """The lists of one worker."""

    def __init__(
        self, pipeline: Pipeline, config: UserLanesConfig, inputs: UserInputs, tracer: Tracer
    ) -> None:
        self._pipeline = pipeline
        self._inputs = inputs
        self._tracer = tracer
        self._found: list[NDArray[np.uint32]] = []  # of this round's lists: bits of sources
        names = [source.name for source in pipeline.sources]
        self._listed = [metrics.LISTED.labels(name) for name in [*names, "fill"]]
        self._lists = topics.RECOMMENDATIONS.name(config.prefix)
        # A generation that is not live writes lists aside, to be compared; the main one none.
        aside = config.own_prefix != config.prefix
        self._lists_aside = topics.RECOMMENDATIONS.name(config.own_prefix) if aside else None

    def write(
        self,
        lane: int,
        state: UserLane,
        outcome: Outcome,
        ranked: Ranked,
        user_id: str,
        trigger: Trigger,
        event_time_ms: int,
        *,
        trace: Trace | None = None,
        request_id: str | None = None,
        upload_id: str | None = None,
    ) -> None:
        """Add the list that answers the trigger to what the round writes."""
        if self._inputs.is_live(state, trigger):  # who is answered is at home in that partition
            target = Position(self._lists, trigger.partition)
        elif self._lists_aside is not None:
            target = Position(self._lists_aside, lane)
        else:
            return
        version = self._pipeline.model_version
        answer = RankedList(
            list_id=f"{trigger.topic}/{trigger.partition}/{trigger.offset}@{version}",
            user_id=user_id,
            trigger=trigger,
            items=self._pipeline.explain(ranked),
            model_version=version,
            variant=ranked.variant,
            event_time=event_time_ms,
            produced_time=time.time_ns() // 1_000_000,
            request_id=request_id,
            upload_id=upload_id,
        )
        headers = []
        if trace is not None:
            headers.append((HEADER_TRACEPARENT, self._tracer.list_made(trace, answer)))
        record = Record(user_id.encode(), encoded(answer), headers)
        outcome.add(target, record)
        metrics.list_written(trigger.kind)
        self._found.append(ranked.found)

    def count_sources(self) -> None:
        """Count which sources found the items of the round's lists."""
        if not self._found:
            return
        found = np.concatenate(self._found)
        self._found.clear()
        bits = np.arange(len(self._listed) - 1, dtype=np.uint32)
        counts = (found[:, None] >> bits & np.uint32(1)).sum(axis=0)
        for counter, count in zip(self._listed, [*counts, (found == 0).sum()], strict=True):
            counter.inc(int(count))
