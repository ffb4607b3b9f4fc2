"""Sending what was once sent again: a stretch of a topic, at its own pace or as fast as it goes."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from streams.chunk import Record
from streams.connection import Connection
from streams.dead_letters import identified
from streams.producer import PATIENCE_S, BatchProducer
from streams.silence import told
from streams.state_log import reader
from streams.topics import how_to_create
from streams.unconnected import why

POLL_MS = 1000
RECORDS_MAX = 10_000
TICK_S = 0.01  # events may go this much early, or each would be a batch of its own


class ReplayError(Exception):
    """The stretch could not be read; the message says why, in a sentence."""


class Pace:
    """Keeps the distances between events, divided by `speed`; without a speed it never waits."""

    def __init__(self, speed: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._speed = speed
        self._clock = clock
        self._first_ms: int | None = None
        self._start_s = 0.0

    def delay_s(self, event_ms: int) -> float:
        """How long to wait before an event of this time may go; 0 for one that is late.

        >>> pace = Pace(10, clock=lambda: 0.0)
        >>> pace.delay_s(1000), pace.delay_s(6000), pace.delay_s(500)
        (0.0, 0.5, 0.0)
        """
        if self._speed is None:
            return 0.0
        if self._first_ms is None:
            self._first_ms, self._start_s = event_ms, self._clock()
        due_s = self._start_s + (event_ms - self._first_ms) / 1000 / self._speed
        return max(0.0, due_s - self._clock())


@asynccontextmanager
async def open_reader(
    connection: Connection, *, committed: bool = True
) -> AsyncIterator[AIOKafkaConsumer]:
    """A started consumer of committed records, or of all, in no group. Raises ReplayError."""
    consumer = reader(connection, committed=committed)
    try:
        await consumer.start()
    except (KafkaError, OSError) as error:
        await consumer.stop()
        raise ReplayError(f"no Kafka answers at {connection.bootstrap}: {why(error)}") from error
    try:
        yield consumer
    except BrokenPipeError:  # whoever read what was printed has gone
        raise
    except (KafkaError, ConnectionError, TimeoutError) as error:
        raise ReplayError(f"{connection.bootstrap} refused: {error}") from error
    finally:
        await consumer.stop()


async def partitions_of(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    """The partitions of a topic. Raises ReplayError where there is none."""
    cluster = await consumer._client.fetch_all_metadata()
    found = cluster.partitions_for_topic(topic)
    if not found:
        raise ReplayError(f"there is no topic {topic}: {how_to_create(topic)}")
    return [TopicPartition(topic, partition) for partition in sorted(found)]


async def read_topic(
    connection: Connection,
    topic: str,
    *,
    from_offset: int | None = None,
    from_time_ms: int | None = None,
    patience_s: float = PATIENCE_S,
) -> AsyncIterator[list[ConsumerRecord]]:
    """Committed records of every partition, from a place up to where the topic stands now.

    `from_offset` counts in each partition; `from_time_ms` is a record's Kafka time. Within a
    partition records come in order. Raises ReplayError, also where no broker answers for so long.
    """
    async with open_reader(connection) as consumer:
        tps = await partitions_of(consumer, topic)
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        starts = await consumer.beginning_offsets(tps)
        if from_offset is not None:
            starts = {tp: max(begin, from_offset) for tp, begin in starts.items()}
        elif from_time_ms is not None:
            found = await consumer.offsets_for_times(dict.fromkeys(tps, from_time_ms))
            starts = {tp: found[tp].offset if found[tp] else ends[tp] for tp in tps}
        left = {tp for tp in tps if starts[tp] < ends[tp]}
        consumer.pause(*(tp for tp in tps if tp not in left))
        for tp in left:
            consumer.seek(tp, starts[tp])
        heard_at = time.monotonic()
        while left:
            fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=RECORDS_MAX)
            if not fetched and time.monotonic() - heard_at > patience_s:
                raise ReplayError(told(patience_s, connection.bootstrap))
            for tp, records in fetched.items():
                wanted = [record for record in records if record.offset < ends[tp]]
                if wanted:
                    yield wanted
            for tp in list(left):
                if await consumer.position(tp) >= ends[tp]:
                    left.remove(tp)
                    consumer.pause(tp)
            if fetched:  # counted from here: whoever took them may have taken long
                heard_at = time.monotonic()


def again(record: ConsumerRecord) -> Record:
    """A record as it is sent again: bytes and time, and an id that tells it is the same event.

    Where no header names it, its first position does; a body's own event_id goes before both.
    """
    here = f"{record.topic}/{record.partition}/{record.offset}"
    return Record(record.key, record.value, identified(record.headers, here), record.timestamp)


async def until_due(producer: BatchProducer, pace: Pace, event_ms: int) -> None:
    """Wait for an event's turn; those before it are sent first. Raises ProduceError."""
    if pace.delay_s(event_ms) > TICK_S:
        await producer.flush()
        await asyncio.sleep(pace.delay_s(event_ms))
