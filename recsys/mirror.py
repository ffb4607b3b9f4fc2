"""A mirror of the live inputs, for a generation with another number of lanes than they have.

Lane p of the mirror copies partition p of each live input into a topic of the generation's own,
each record once, to the partition of its key there, with the place that it came from. So a user's
records stay in order, and a promotion's marker, copied to every partition, comes there after all
that lay before it in its own partition and before all after it. Who reads a copy takes it for what
it was (`original`): places, and with them who writes which list, are those of the live topics.
"""

from collections.abc import Sequence
from typing import Any

import structlog
from aiokafka.structs import ConsumerRecord

from recsys.switches import promoted
from recsys.wanted import URGENT, USER_INPUTS
from streams.application import Outcome
from streams.chunk import Chunk, Position, Record
from streams.events import HEADER_PLACE
from streams.fitted import fitted
from streams.no_state import NoState, Stateless
from streams.partition import partition_of

log = structlog.get_logger(__name__)

UNTIMED = b"/untimed"  # behind the place of a record without a Kafka time; its copy has one


class Mirror(Stateless):
    """The application that copies; what its lanes have done is in their committed offsets."""

    def __init__(self, prefix: str, own_prefix: str, partitions: int) -> None:
        self._inputs = {each.name(prefix): each for each in USER_INPUTS}
        self._own_prefix = own_prefix
        self._partitions = partitions

    @property
    def inputs(self) -> tuple[str, ...]:
        """What it reads: lane p is partition p of each."""
        return tuple(self._inputs)

    @property
    def urgent(self) -> frozenset[str]:
        """What somebody waits for goes first here, too."""
        return frozenset(name for name, topic in self._inputs.items() if topic in URGENT)

    def apply(self, lane: int, state: NoState, chunks: Sequence[Chunk]) -> Outcome:
        """One round: copy everything that waits."""
        outcome = Outcome()
        for chunk in chunks:
            topic = self._inputs[chunk.source.topic]
            target, bytes_max = topic.name(self._own_prefix), topic.copy_bytes_max
            for record in chunk.records:
                copied = fitted(copy(record), bytes_max)
                for partition in self._partitions_of(record):
                    outcome.add(Position(target, partition), copied)
        return outcome

    def _partitions_of(self, record: ConsumerRecord) -> Sequence[int]:
        if record.key is not None:
            return (partition_of(record.key, self._partitions),)
        if promoted(record) is not None:
            return range(self._partitions)
        return (record.partition % self._partitions,)  # for one lane to refuse it


def copy(record: ConsumerRecord) -> Record:
    """The record, with its place as the last of its headers."""
    place, timed = f"{record.partition}/{record.offset}".encode(), record.timestamp >= 0
    headers = (*record.headers, (HEADER_PLACE, place if timed else place + UNTIMED))
    return Record(record.key, record.value, headers, record.timestamp if timed else None)


def originals(records: Sequence[ConsumerRecord], topic: str) -> list[Any]:
    """The records of a mirrored topic as they lie in the live one."""
    found = [original(record, topic) for record in records]
    return [record for record in found if record is not None]


def original(record: ConsumerRecord, topic: str) -> ConsumerRecord | None:
    """The record as it lies in the live topic; None for one that no mirror put there."""
    name, place = record.headers[-1] if record.headers else ("", b"")
    try:
        if name != HEADER_PLACE:
            raise ValueError(f"its last header is not {HEADER_PLACE}")
        untimed = place.endswith(UNTIMED)
        partition, offset = map(int, place.removesuffix(UNTIMED).split(b"/"))
    except (AttributeError, TypeError, ValueError) as error:
        log.warning(
            "mirror.foreign_record", topic=record.topic, partition=record.partition,
            offset=record.offset, error=str(error),
        )  # fmt: skip
        return None
    time_ms = -1 if untimed else record.timestamp
    return ConsumerRecord(
        topic, partition, offset, time_ms, record.timestamp_type, record.key, record.value,
        record.checksum, record.serialized_key_size, record.serialized_value_size,
        record.headers[:-1],
    )  # fmt: skip
