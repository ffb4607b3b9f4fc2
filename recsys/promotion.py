"""Letting a generation take over the live lists, at a fenced offset of each input."""

from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition

from recsys.settings import MAIN, Settings
from recsys.switches import SUFFIX, Control
from recsys.wanted import live_partitions, mirrors, of_generation, wanted_topics
from streams import admin, topics
from streams.chunk import Position, Record
from streams.connection import Connection
from streams.events import HEADER_PROMOTE
from streams.replay import read_topic
from streams.state_log import committed, reader
from streams.transaction import LaneProducer

# Compacted inputs can hold no marker: forgetting and products are the same to all generations.
MARKED = (topics.BEHAVIOUR, topics.REQUESTS, topics.IMAGE_EMBEDDINGS)
TIMEOUT_MS = 60_000


class PromotionError(Exception):
    """The generation cannot take over; the message says why, in a sentence."""


@dataclass(frozen=True)
class Promotion:
    """What was done: who writes the lists now, who did before, and from which offsets on."""

    generation: str
    before: str
    offsets: dict[Position, int]

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        fences = {f"{at.topic}/{at.partition}": offset for at, offset in self.offsets.items()}
        return {"generation": self.generation, "before": self.before, "offsets": fences}


async def promote(settings: Settings, generation: str, lag_max: int) -> Promotion:
    """Mark the inputs: from here on `generation` writes the lists. Raises PromotionError.

    Refused where none of its workers runs, for nobody would write lists, and where it is more than
    `lag_max` records of behaviour behind, for they would come late; `main` or any other generation
    is gone back to in the same way.
    """
    connection = settings.connection()
    partitions = await live_partitions(settings)
    target = await of_generation(settings, generation)
    await _check_topics(connection, target, partitions)
    control = await read_control(connection, settings.prefix)
    before = control.latest(settings.prefix)
    if before == generation:
        raise PromotionError(f"{generation} writes the live lists already")
    # Offsets alone do not tell: those of `replay --shadow` are fresh, and it has ended.
    if not await admin.group_members(connection, f"{target.own_application}-behaviour"):
        raise PromotionError(
            f"no worker of {generation} runs: start its workers first, {_start(target)}"
        )
    behind = await events_behind(connection, target, partitions)
    if behind > lag_max:
        raise PromotionError(
            f"{generation} is {behind} events behind, {lag_max} are allowed: let its workers run"
        )
    names = [topic.name(settings.prefix) for topic in MARKED]
    places = [Position(name, p) for name in names for p in range(partitions)]
    marker = Record(None, None, [(HEADER_PROMOTE, generation.encode())])
    producer = LaneProducer(connection, f"{settings.application}-promote", timeout_ms=TIMEOUT_MS)
    await producer.start()
    try:
        ends = await producer.commit({at: [marker] for at in places}, {}, "")
        offsets = {at: end - 1 for at, end in ends.items()}
        for at, offset in offsets.items():
            control.of(at.partition).add(at.topic, offset, generation)
        records = {
            Position(topics.CONTROL.name(settings.prefix), partition): [
                Record(*change) for change in switches.dirty_records()
            ]
            for partition, switches in control.partitions.items()
        }
        await producer.commit(records, {}, "")
    finally:
        await producer.stop()
    return Promotion(generation, before, offsets)


async def read_control(connection: Connection, prefix: str) -> Control:
    """Every promotion so far. Raises ReplayError."""
    control = Control()
    async for records in read_topic(connection, topics.CONTROL.name(prefix)):
        control.load(record for record in records if record.key.endswith(SUFFIX))
    return control


async def events_behind(connection: Connection, settings: Settings, partitions: int) -> int:
    """How many events of the live partitions a generation has yet to take, itself or its mirror."""
    name, application = topics.BEHAVIOUR.name(settings.prefix), settings.own_application
    if not mirrors(settings, partitions):
        return sum(await lags(connection, f"{application}-behaviour", name, partitions))
    own, lanes = topics.BEHAVIOUR.name(settings.own_prefix), settings.partitions
    copied = await lags(connection, f"{application}-behaviour", own, lanes)
    # Behind what a mirror copied last lies the marker of its transaction.
    learned = sum(max(0, lag - 1) for lag in copied)
    return learned + sum(await lags(connection, f"{application}-mirror", name, partitions))


async def lags(connection: Connection, group: str, topic: str, partitions: int) -> list[int]:
    """How many offsets of each partition a group has yet to take."""
    places = [Position(topic, p) for p in range(partitions)]
    done = await committed(connection, group, places)
    consumer = reader(connection)
    await consumer.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(*at) for at in places])
    finally:
        await consumer.stop()
    # Markers of transactions take an offset each that nobody commits: they may show as lag.
    return [max(0, ends[TopicPartition(*at)] - done[at]) for at in places]


def _start(target: Settings) -> str:
    if target.generation == MAIN:
        return "recsys worker"
    return f"RECSYS_GENERATION={target.generation} recsys worker --role behaviour --role items"


async def _check_topics(connection: Connection, target: Settings, partitions: int) -> None:
    wanted = wanted_topics(target, partitions)
    found = await admin.find_topics(connection, [each.name for each in wanted])
    missing = [each.name for each in wanted if each.name not in found]
    if missing:
        told = "" if target.generation == MAIN else f" with RECSYS_GENERATION={target.generation}"
        raise PromotionError(f"{missing[0]} is missing: recsys topics create{told}")
