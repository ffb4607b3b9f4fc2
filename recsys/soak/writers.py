"""Who wrote what: the producers in the batches of a log, whom readers of records do not see."""

import struct
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.protocol.fetch import FetchRequest

from recsys.soak.workers import SoakError
from streams import state_log
from streams.chunk import Position
from streams.connection import Connection

# Base offset, length, leader's epoch, magic, checksum, attributes, last offset's delta, first and
# last timestamp, producer's id and epoch.
_HEADER = struct.Struct(">qiibIhiqqqh")
_LENGTH_FROM = 12  # the length counts what follows it
_CONTROL = 0x20
_WAIT_MS = 100


@dataclass(frozen=True)
class Batch:
    """What was appended at once. Whoever takes a lane over has a higher epoch, or another id."""

    offset: int
    producer: tuple[int, int]  # id and epoch


async def read(connection: Connection, source: Position, start: int) -> list[Batch]:
    """The batches from the one that holds `start` on, committed or not, without markers."""
    tp = TopicPartition(*source)
    found: list[Batch] = []
    consumer = AIOKafkaConsumer(**connection.options())  # it reads what is open, too
    await consumer.start()
    try:
        consumer.assign([tp])
        end, client = (await consumer.end_offsets([tp]))[tp], consumer._client
        while start < end:
            wanted = [(source.topic, [(source.partition, start, state_log.FETCH_BYTES_MAX)])]
            request = FetchRequest(_WAIT_MS, 1, state_log.FETCH_BYTES_MAX, 0, wanted)
            answer = await client.send(client.cluster.leader_for_partition(tp), request)
            [(_, [(_, code, *_, data)])] = answer.topics
            batches, following = parse(data or b"")
            if code or following <= start:
                raise SoakError(f"{source} cannot be read at {start}: error {code}")
            found, start = found + batches, following
    finally:
        await consumer.stop()
    return found


def parse(data: bytes) -> tuple[list[Batch], int]:
    """The whole batches in a fetch's bytes, and the offset after the last, or 0."""
    found, following, at = [], 0, 0
    while at + _HEADER.size <= len(data):
        offset, length, _, _, _, attributes, delta, _, _, name, epoch = _HEADER.unpack_from(
            data, at
        )
        at += _LENGTH_FROM + length
        if at > len(data):
            break
        following = offset + delta + 1
        if not attributes & _CONTROL:
            found.append(Batch(offset, (name, epoch)))
    return found, following


async def ends(connection: Connection, sources: list[Position]) -> dict[Position, int]:
    """Where each log ends, with what is open."""
    consumer = AIOKafkaConsumer(**connection.options())
    await consumer.start()
    try:
        found = await consumer.end_offsets([TopicPartition(*source) for source in sources])
        return {Position(*tp): int(end) for tp, end in found.items()}
    finally:
        await consumer.stop()
