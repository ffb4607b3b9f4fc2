"""The newest record of one key: found from the end of its partition backwards."""

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from streams.connection import Connection
from streams.partition import partition_of
from streams.replay import open_reader, partitions_of

FIRST_STEP = 500
POLL_MS = 1000


async def newest_record(connection: Connection, topic: str, key: bytes) -> ConsumerRecord | None:
    """The newest committed record of a key, or None. Raises ReplayError.

    Looks at the last few hundred records first, and at twice as many each time after.
    """
    async with open_reader(connection) as consumer:
        tps = await partitions_of(consumer, topic)
        tp = tps[partition_of(key, len(tps))]
        consumer.assign([tp])
        begin = (await consumer.beginning_offsets([tp]))[tp]
        end = (await consumer.end_offsets([tp]))[tp]
        step = FIRST_STEP
        while begin < end:
            start = max(begin, end - step)
            found = await _last_between(consumer, tp, start, end, key)
            if found is not None:
                return found
            end, step = start, 2 * step
        return None


async def _last_between(
    consumer: AIOKafkaConsumer, tp: TopicPartition, start: int, end: int, key: bytes
) -> ConsumerRecord | None:
    consumer.seek(tp, start)
    newest = None
    while await consumer.position(tp) < end:
        for record in (await consumer.getmany(tp, timeout_ms=POLL_MS)).get(tp, ()):
            if record.offset < end and record.key == key:
                newest = record
    return newest
