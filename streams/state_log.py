"""Reading a compacted topic to its end: how a lane gets its state back."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from streams import crash_points
from streams.chunk import Position, Record
from streams.connection import Connection

# One record of each state partition, written once: a random name, so that a local snapshot of a
# topic that was since deleted and made anew is told from one of this topic.
BIRTH_KEY = b"\xff\xff\xffbirth"
# The newest one of a partition: where the lane stands in each input, as its group knows it, too.
# A broker forgets what it knows of a group that was away for a week; then this is what is left.
POSITIONS_KEY = b"\xff\xff\xffpositions"
NOTES = (BIRTH_KEY, POSITIONS_KEY)
POLL_MS = 1000
FETCH_BYTES_MAX = 8 << 20

log = structlog.get_logger(__name__)

Load = Callable[[list[ConsumerRecord]], Awaitable[None] | None]


@dataclass(frozen=True)
class Birth:
    """Where a log's birth record lies, and the name in it."""

    offset: int
    name: str


@dataclass(frozen=True)
class Restored:
    """How far a log was read, and what was met of its birth record and the lane's positions."""

    end: int
    birth: Birth | None
    positions: dict[str, int] | None = None  # by input topic


def reader(
    connection: Connection, group_id: str | None = None, *, committed: bool = True
) -> AIOKafkaConsumer:
    """A consumer that reads committed records of partitions it is told, in no group.

    Where not only `committed` ones count, its ends are those of all records.
    """
    return AIOKafkaConsumer(
        **connection.options(),
        group_id=group_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed" if committed else "read_uncommitted",
        max_partition_fetch_bytes=FETCH_BYTES_MAX,
        retry_backoff_ms=20,
        fetch_max_wait_ms=100,
    )


async def restore(
    connection: Connection,
    source: Position,
    load: Load,
    *,
    start: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Restored:
    """Hand every committed record of `source` from `start` on to `load`.

    The end is where the log stands when this is called, so call it when nobody else can write:
    after the lane's producer has fenced its predecessor.
    """
    tp = TopicPartition(*source)
    consumer = reader(connection)
    try:
        await consumer.start()
        consumer.assign([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        begin = max(start, (await consumer.beginning_offsets([tp]))[tp])
        if begin < end:
            consumer.seek(tp, begin)
        position, birth, positions = begin, None, None
        while position < end:
            fetched = await consumer.getmany(tp, timeout_ms=POLL_MS)
            for records in fetched.values():
                rows = []
                for record in records:
                    if record.key == BIRTH_KEY:
                        birth = _birth(record)
                    elif record.key == POSITIONS_KEY:
                        positions = msgspec.json.decode(record.value, type=dict[str, int])
                    else:
                        rows.append(record)
                if (loading := load(rows)) is not None:
                    await loading
                crash_points.reach("restore")
            position = await consumer.position(tp)
            if progress is not None:
                progress(position - begin, end - begin)
        return Restored(int(position), birth, positions)
    finally:
        await consumer.stop()


async def holds(connection: Connection, source: Position, birth: Birth, end: int) -> bool:
    """Whether `source` is the log that was born so, and reaches at least to `end`."""
    tp = TopicPartition(*source)
    consumer = reader(connection)
    try:
        await consumer.start()
        consumer.assign([tp])
        if (await consumer.end_offsets([tp]))[tp] < end:
            return False
        if (await consumer.beginning_offsets([tp]))[tp] > birth.offset:
            return False
        consumer.seek(tp, birth.offset)
        fetched = await consumer.getmany(tp, timeout_ms=POLL_MS, max_records=1)
        first = next((records[0] for records in fetched.values()), None)
        return first is not None and first.key == BIRTH_KEY and _birth(first) == birth
    finally:
        await consumer.stop()


def rows(records: Iterable[ConsumerRecord]) -> list[ConsumerRecord]:
    """Those of a state: what its lane notes beside them is left out."""
    return [record for record in records if record.key not in NOTES]


def _birth(record: ConsumerRecord) -> Birth:
    return Birth(int(record.offset), (record.value or b"").decode("ascii", "replace"))


def positions_record(positions: Mapping[Position, int]) -> Record:
    """What a lane writes of its positions, with all else that a transaction writes."""
    by_topic = {source.topic: offset for source, offset in positions.items()}
    return Record(POSITIONS_KEY, msgspec.json.encode(by_topic))


async def committed(
    connection: Connection,
    group_id: str,
    sources: Iterable[Position],
    noted: Mapping[str, int] | None = None,
) -> dict[Position, int]:
    """Where the group stands in each partition.

    Without a commit it is where `noted` says, by topic, or else the start of its log. What is
    noted beyond the end is of a log that was deleted and made anew.
    """
    consumer = reader(connection, group_id)
    try:
        await consumer.start()
        tps = [TopicPartition(*source) for source in sources]
        consumer.assign(tps)
        begins = await consumer.beginning_offsets(tps)
        ends = await consumer.end_offsets(tps)
        offsets = {}
        for tp in tps:
            offset = await consumer.committed(tp)
            if offset is None:
                offset = max(begins[tp], (noted or {}).get(tp.topic, 0))
                if offset > ends[tp]:
                    log.warning("lane.noted_beyond", topic=tp.topic, partition=tp.partition,
                                noted=offset, end=ends[tp])  # fmt: skip
                    offset = begins[tp]
            offsets[Position(*tp)] = int(offset)
        return offsets
    finally:
        await consumer.stop()
