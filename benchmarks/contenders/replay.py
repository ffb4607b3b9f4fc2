"""A log replayed as fast as it goes: read, sent to Kafka, learned without Kafka.

Options: `bootstrap`, `topic`, `events`.
"""

import asyncio
import time
from itertools import islice
from typing import Any

from benchmarks import meter
from benchmarks.contenders.kernels import CHUNK, Clock, learn_chunk, pipeline_of
from recsys.demo import SAMPLE
from recsys.log import BehaviourLog
from recsys.user_state import UserState
from streams import codec
from streams.connection import Connection
from streams.events import BehaviourEvent
from streams.producer import BatchProducer


async def send(given: dict[str, Any], events: list[BehaviourEvent]) -> None:
    """Everything to the topic, until it is acknowledged."""
    async with BatchProducer(Connection(given["bootstrap"]), given["topic"]) as producer:
        for event in events:
            if producer.add(event.user_id.encode(), codec.encode(event)):
                await producer.send_full()
        await producer.flush()


def work(given: dict[str, Any]) -> dict[str, Any]:
    """Each step with its wall and CPU time."""
    figures = {}

    def lap(name: str, since: tuple[float, float]) -> None:
        seconds, cpu_s = time.perf_counter() - since[0], meter.cpu_s() - since[1]
        figures[name] = {
            "events": len(events), "events_per_s": len(events) / seconds,
            "cpu_us_per_event": 1e6 * cpu_s / len(events),
        }  # fmt: skip

    begun = time.perf_counter(), meter.cpu_s()
    rows = BehaviourLog(SAMPLE / "online-retail.csv.gz")
    found = (event for _, event in rows if isinstance(event, BehaviourEvent))
    events = list(islice(found, given["events"]))
    lap("read and check the file", begun)
    begun = time.perf_counter(), meter.cpu_s()
    asyncio.run(send(given, events))
    lap("send to Kafka", begun)
    pipeline = pipeline_of(trained=False)
    users = UserState(pipeline.items)
    columns = [(e.user_id, e.item_id, e.type, int(e.timestamp)) for e in events]  # type: ignore[arg-type]
    begun = time.perf_counter(), meter.cpu_s()
    for start in range(0, len(columns), CHUNK):
        learn_chunk(pipeline, users, columns[start : start + CHUNK], Clock())
    lap("learn without Kafka", begun)
    return figures


if __name__ == "__main__":
    meter.report(work(meter.options()))
