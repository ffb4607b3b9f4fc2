"""A reader of lists: how long each event waited for a list that knows it.

An event is answered when a list of its user that was triggered by it or a later event can be read
committed. Options: `bootstrap`, `lists`, `events` (topics), `from_ms` comes as a line of standard
input; the end of standard input ends the reading.
"""

import asyncio
import sys
import time
from collections import defaultdict
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from numpy.typing import NDArray

from benchmarks import meter
from benchmarks.small_work import Event, decode
from streams.connection import Connection

PERCENTILES = (50.0, 95.0, 99.0, 99.9)


class _Trigger(msgspec.Struct):
    kind: str
    offset: int


class _List(msgspec.Struct):
    user_id: str
    list_id: str
    trigger: _Trigger | None = None

    @property
    def offset(self) -> int:
        """The event it answers, -1: none. The small work has it in its id alone."""
        if self.trigger is None:
            return int(self.list_id.rpartition("-")[2])
        return self.trigger.offset if self.trigger.kind == "event" else -1


_decode_list = msgspec.json.Decoder(_List).decode


async def consumer_of(bootstrap: str, topic: str, at_end: bool) -> AIOKafkaConsumer:
    """A consumer of all partitions of a topic, committed records only."""
    consumer = AIOKafkaConsumer(
        **Connection(bootstrap).options(), isolation_level="read_committed",
        enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=500,
        max_partition_fetch_bytes=8 << 20,
    )  # fmt: skip
    await consumer.start()
    await consumer._client.add_topic(topic)
    partitions = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
    consumer.assign(partitions)
    if at_end:
        await consumer.seek_to_end(*partitions)
    else:
        await consumer.seek_to_beginning(*partitions)
    return consumer


async def events_of(bootstrap: str, topic: str, from_ms: int) -> dict[str, list[tuple[int, int]]]:
    """Offset and due time of every event since `from_ms`, by user, in the order of the log."""
    consumer = await consumer_of(bootstrap, topic, at_end=False)
    events: dict[str, list[tuple[int, int]]] = defaultdict(list)
    ends = await consumer.end_offsets(consumer.assignment())
    while any([await consumer.position(tp) < end for tp, end in ends.items()]):
        for records in (await consumer.getmany(timeout_ms=500)).values():
            for record in records:
                event: Event = decode(record.value)
                if event.timestamp >= from_ms:
                    events[event.user_id].append((record.offset, event.timestamp))
    await consumer.stop()
    return events


def waits_ms(
    events: dict[str, list[tuple[int, int]]], lists: list[tuple[str, int, float]]
) -> list[float]:
    """For each answered event, from when it was due to the first list that knows it."""
    answered: dict[str, int] = defaultdict(int)
    waits: list[float] = []
    for user_id, offset, read_ms in lists:
        own = events.get(user_id, ())
        at = answered[user_id]
        while at < len(own) and own[at][0] <= offset:
            waits.append(read_ms - own[at][1])
            at += 1
        answered[user_id] = at
    return waits


def percentiles(waits: NDArray[np.float64]) -> dict[str, float | None]:
    """How long they waited; None throughout where nobody was answered."""
    found = {f"p{q:g}_ms": float(np.percentile(waits, q)) if len(waits) else None
             for q in PERCENTILES}  # fmt: skip
    return {**found, "max_ms": float(waits.max()) if len(waits) else None}


async def work(given: dict[str, Any]) -> dict[str, Any]:
    """Read lists until standard input ends, then look the events up."""
    consumer = await consumer_of(given["bootstrap"], given["lists"], at_end=True)
    for tp in consumer.assignment():
        await consumer.position(tp)
    print("ready", flush=True)
    rest = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    arrived: list[tuple[float, bytes]] = []
    while not rest.done():
        for records in (await consumer.getmany(timeout_ms=200)).values():
            now_ms = 1000 * time.time()
            arrived += [(now_ms, record.value) for record in records]
    await consumer.stop()
    lists = []
    for read_ms, value in arrived:
        answer = _decode_list(value)
        if answer.offset >= 0:
            lists.append((answer.user_id, answer.offset, read_ms))
    events = await events_of(given["bootstrap"], given["events"], int(rest.result()))
    waits = np.array(waits_ms(events, lists))
    count = sum(map(len, events.values()))
    return {"events": count, "answered": len(waits), "lists": len(lists), **percentiles(waits)}


if __name__ == "__main__":
    meter.report(asyncio.run(work(meter.options())))
