"""Letting a generation take over the live lists, at a fenced offset of each input."""

import asyncio
import contextlib
from collections.abc import Sequence
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
from streams.replay import open_reader, read_topic
from streams.state_log import committed
from streams.transaction import LaneProducer

# Compacted inputs can hold no marker: forgetting and products are the same to all generations.
MARKED = (topics.BEHAVIOUR, topics.REQUESTS, topics.IMAGE_EMBEDDINGS)
TIMEOUT_MS = 60_000
SEEN_S_MAX = 5.0


class PromotionError(Exception):
    """The generation cannot take over; the message says why, in a sentence."""


@dataclass(frozen=True)
class Promotion:
    """What was done: who writes the lists now, who did before, and from which offsets on.

    `cut_off` is the generation of the promotion before, where that one was not brought to its end.
    `unanswered` is how many events before the markers wait for who wrote before, since no worker of
    theirs runs; None where one does.
    """

    generation: str
    before: str
    offsets: dict[Position, int]
    cut_off: str | None = None
    unanswered: int | None = None

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        fences = {f"{at.topic}/{at.partition}": offset for at, offset in self.offsets.items()}
        return {
            "generation": self.generation, "before": self.before, "offsets": fences,
            "cut_off": self.cut_off, "unanswered": self.unanswered,
        }  # fmt: skip


async def promote(settings: Settings, generation: str, lag_max: int) -> Promotion:
    """Mark the inputs: from here on `generation` writes the lists. Raises PromotionError.

    Refused where none of its workers runs, for nobody would write lists, and where it is more than
    `lag_max` records of behaviour behind, for they would come late; `main` or any other generation
    is gone back to in the same way. Where the markers lie is known once they are committed, so a
    second transaction keeps it; the first says whom they name, so that a promotion that was cut
    off between the two can be done again, or gone back from.
    """
    connection = settings.connection()
    partitions = await live_partitions(settings)
    target = await of_generation(settings, generation)
    await _check_topics(connection, target, partitions)
    control = await read_control(connection, settings.prefix)
    before, cut_off = control.latest(settings.prefix), control.cut_off(settings.prefix)
    also = f" (the last promotion, to {cut_off}, was cut off)" if cut_off else ""
    # Offsets alone do not tell: those of `replay --shadow` are fresh, and it has ended.
    if not await admin.group_members(connection, f"{target.own_application}-behaviour"):
        raise PromotionError(
            f"no worker of {generation} runs: start its workers first, {_start(target)}{also}"
        )
    behind = await events_behind(connection, target, partitions)
    if behind > lag_max:
        raise PromotionError(
            f"{generation} is {behind} events behind, {lag_max} are allowed: "
            f"let its workers run{also}"
        )
    former, unanswered = await of_generation(settings, before), None
    if not await admin.group_members(connection, f"{former.own_application}-behaviour"):
        unanswered = await events_behind(connection, former, partitions)
    names = [topic.name(settings.prefix) for topic in MARKED]
    places = [Position(name, p) for name in names for p in range(partitions)]
    marker = Record(None, None, [(HEADER_PROMOTE, generation.encode())])
    producer = LaneProducer(connection, f"{settings.application}-promote", timeout_ms=TIMEOUT_MS)
    await producer.start()
    try:
        # Once more: one right before this was answered before it could be read. Now it can.
        control = await read_control(connection, settings.prefix)
        before, cut_off = control.latest(settings.prefix), control.cut_off(settings.prefix)
        if before == generation and cut_off is None:
            raise PromotionError(f"{generation} writes the live lists already")
        first = Position(topics.BEHAVIOUR.name(settings.prefix), 0)
        end = (await ends(connection, [first], committed=False))[first]
        control.intend(end, generation)
        markers = {at: [marker] for at in places}
        written = await producer.commit({**markers, **_changes(control, settings.prefix)}, {}, "")
        offsets = {at: written[at] - 1 for at in places}
        for at, offset in offsets.items():
            control.of(at.partition).add(at.topic, offset, generation)
        await producer.commit(_changes(control, settings.prefix), {}, "")
    finally:
        await producer.stop()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SEEN_S_MAX):
            await _until_seen(connection, settings.prefix, generation)
    return Promotion(generation, before, offsets, cut_off, unanswered)


async def _until_seen(connection: Connection, prefix: str, generation: str) -> None:
    """A commit is answered a moment before it can be read; what is asked next must know it."""
    while (await read_control(connection, prefix)).latest(prefix) != generation:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


def _changes(control: Control, prefix: str) -> dict[Position, list[Record]]:
    """What is new in the control topic's partitions."""
    changes = {
        Position(topics.CONTROL.name(prefix), partition): [
            Record(*change) for change in switches.dirty_records()
        ]
        for partition, switches in control.partitions.items()
    }
    return {at: records for at, records in changes.items() if records}


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
    done, end = await committed(connection, group, places), await ends(connection, places)
    # Markers of transactions take an offset each that nobody commits: they may show as lag.
    return [max(0, end[at] - done[at]) for at in places]


async def ends(
    connection: Connection, places: Sequence[Position], *, committed: bool = True
) -> dict[Position, int]:
    """Where partitions end for who reads committed records, or for all. Raises ReplayError."""
    async with open_reader(connection, committed=committed) as consumer:
        found = await consumer.end_offsets([TopicPartition(*at) for at in places])
    return {Position(*tp): int(end) for tp, end in found.items()}


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
