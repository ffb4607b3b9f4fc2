"""A generation beside the live one: rebuild it from the log, and compare the two."""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka import TopicPartition

from recsys.item_state import ItemState
from recsys.promotion import ends, read_control
from recsys.settings import Settings
from recsys.user_lane import UserLane
from recsys.user_state import LANE_KEY, UserState
from recsys.wanted import USER_INPUTS, find_wanted, live_partitions, mirrors, of_generation
from recsys.worker import Worker
from streams import admin, topics
from streams.chunk import Position
from streams.connection import Connection
from streams.events import RankedList
from streams.replay import open_reader, read_topic
from streams.state_log import committed, restore

POLL_S = 0.5
TOPIC_POLLS = 60
LOOK_S = 1.0  # what is not found out by then is looked for again at the next poll


@dataclass
class Comparison:
    """Two generations side by side. Digests compare only where both have taken the same events.

    With lanes of another number on one side no lane is another's like: `lanes` are then those of
    the live inputs, their digests are `None`, and the users of all lanes are compared as one set.
    """

    lane_counts: dict[str, int] = field(default_factory=dict)
    lanes: list[dict[str, Any]] = field(default_factory=list)
    users: dict[str, int] = field(default_factory=dict)
    items_equal: bool = False
    quality: dict[str, dict[str, float]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "lane_counts": self.lane_counts, "lanes": self.lanes, "users": self.users,
            "items_equal": self.items_equal, "quality": self.quality,
        }  # fmt: skip


async def rebuild(settings: Settings, tell: Any) -> None:
    """Make the generation's topics, and let a worker learn all that lies in the log by now.

    In a shop that is open more comes meanwhile: that is not waited for.
    """
    connection = settings.connection()
    wanted = await find_wanted(settings)
    await admin.create_topics(connection, wanted)
    for _ in range(TOPIC_POLLS):  # a topic is made before it can be seen
        if len(await admin.find_topics(connection, [each.name for each in wanted])) == len(wanted):
            break
        await asyncio.sleep(POLL_S)
    pages = settings.worker.model_copy(update={"web_port": 0})
    worker = Worker(settings.model_copy(update={"worker": pages}), ("behaviour", "items"))
    try:
        await worker.start()
        await worker.until_ready()
        for number, (role, places) in enumerate(_stages(worker)):
            # What a stage before has written ends behind its last marker, which may not stand yet.
            left = await ends(connection, places, committed=not number)
            await _until_taken(worker, role, left, tell)
    finally:
        await worker.stop()


def _stages(worker: Worker) -> Iterator[tuple[str, list[Position]]]:
    """The roles that the live inputs pass through, each with what it reads of them."""
    mine, lanes = worker.settings, worker.live_partitions

    def places(inputs: Sequence[topics.Topic], prefix: str, partitions: int) -> list[Position]:
        names = [topic.name(prefix) for topic in inputs]
        return [Position(name, p) for name in names for p in range(partitions)]

    live = places(USER_INPUTS, mine.prefix, lanes)
    if mirrors(mine, lanes):
        yield "mirror", live
        yield "behaviour", places(USER_INPUTS, mine.own_prefix, mine.partitions)
    else:
        yield "behaviour", live
    yield "items", places((topics.ITEM_UPDATES,), mine.own_prefix, mine.item_partitions)


async def _until_taken(worker: Worker, role: str, left: dict[Position, int], tell: Any) -> None:
    """Wait until a role has taken what lies before these ends of its inputs."""
    before: dict[Position, int] = {}
    waiting: set[tuple[Position, int]] = set()  # where a record is known to come next
    while True:
        taken = await _taken(worker, role, list(left))
        left = {at: end for at, end in left.items() if taken[at] < end}
        stood = [at for at in left if taken[at] == before.get(at)]
        spans = {at: (taken[at], left[at]) for at in stood if (at, taken[at]) not in waiting}
        found = await _bare(worker.connection, spans) if spans else {}
        waiting |= {(at, taken[at]) for at, bare in found.items() if not bare}
        left = {at: end for at, end in left.items() if not found.get(at)}
        tell(sum(each.totals.records for each in worker.workers), worker.lag_records())
        if not left:
            return
        before = taken
        await asyncio.sleep(POLL_S)
        if (failure := worker.failure()) is not None:
            raise failure


async def _taken(worker: Worker, role: str, places: Sequence[Position]) -> dict[Position, int]:
    """How far a role has come: its lanes here know, of those of other workers its group does."""
    group = f"{worker.settings.own_application}-{role}"
    lanes = next(each.lanes for each in worker.workers if each.group_id == group)
    here = [lane for lane in lanes.values() if lane.ready.is_set()]
    known = {at: offset for lane in here for at, offset in lane.positions.items()}
    found = {at: known[at] for at in places if at in known}
    if elsewhere := [at for at in places if at not in known]:
        found |= await committed(worker.connection, group, elsewhere)
    return found


async def _bare(
    connection: Connection, spans: dict[Position, tuple[int, int]]
) -> dict[Position, bool]:
    """Whether nothing but markers, which no lane ever takes, lies between two offsets."""
    left = {TopicPartition(*at): span for at, span in spans.items()}
    found: dict[Position, bool] = {}
    until = time.monotonic() + LOOK_S
    async with open_reader(connection) as consumer:
        consumer.assign(list(left))
        for tp, (begin, _) in left.items():
            consumer.seek(tp, begin)
        while left and time.monotonic() < until:
            fetched = await consumer.getmany(*left, timeout_ms=100)
            for tp, (_, end) in list(left.items()):
                if any(record.offset < end for record in fetched.get(tp, ())):
                    found[Position(*tp)] = False
                    del left[tp]
                elif await consumer.position(tp) >= end:
                    found[Position(*tp)] = True
                    del left[tp]
    return found


async def compare(settings: Settings, live: str) -> Comparison:
    """The generation of the settings beside the `live` one."""
    mine, other = settings, await of_generation(settings, live)
    partitions = await live_partitions(settings)
    told = Comparison({each.generation: each.partitions for each in (mine, other)})
    alike = not (mirrors(mine, partitions) or mirrors(other, partitions))
    counts: Counter[str] = Counter()
    digests: list[bool | None] = [None] * partitions
    if alike:
        for lane in range(partitions):
            here, there = await _lane(mine, lane), await _lane(other, lane)
            digests[lane] = here.users.digest() == there.users.digest()
            counts += _equal(_records(here), _records(there))
    else:
        counts = _equal(await _all_records(mine), await _all_records(other))
    at_here, at_there = await _positions(mine, partitions), await _positions(other, partitions)
    for lane in range(partitions):
        told.lanes.append(
            {
                "lane": lane,
                "offsets": {mine.generation: at_here[lane], live: at_there[lane]},
                "same_events": at_here[lane] == at_there[lane],
                "digests_equal": digests[lane],
            }
        )
    told.users = {"records_compared": counts["compared"], "records_equal": counts["equal"]}
    told.items_equal = (await _items(mine)).digest() == (await _items(other)).digest()
    lists = {
        mine.generation: await _lists(mine, mine.own_prefix),
        live: await _lists(mine, mine.prefix),
    }
    told.quality = await _quality(settings, lists)
    return told


async def live_generation(settings: Settings) -> str:
    """Who writes the live lists now."""
    return (await read_control(settings.connection(), settings.prefix)).latest(settings.prefix)


def _records(lane: UserLane) -> dict[bytes, bytes]:
    """Fingerprints of all records of users, by key; what is of the lane itself is left out."""
    return {
        key: hashlib.blake2b(value or b"", digest_size=16).digest()
        for key, value in lane.users.records()
        if key != LANE_KEY
    }


async def _all_records(settings: Settings) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for lane in range(settings.partitions):
        found |= _records(await _lane(settings, lane))
    return found


def _equal(first: dict[bytes, bytes], second: dict[bytes, bytes]) -> Counter[str]:
    equal = sum(second.get(key) == value for key, value in first.items())
    return Counter(compared=len(first.keys() | second.keys()), equal=equal)


async def _lane(settings: Settings, lane: int) -> UserLane:
    from recsys.pipeline import default_models

    state = UserLane(UserState(ItemState(default_models())))
    source = Position(topics.USER_STATE.name(settings.own_prefix), lane)

    def load(records: list[Any]) -> None:
        state.load_records((record.key, record.value) for record in records)

    await restore(settings.connection(), source, load)
    return state


async def _items(settings: Settings) -> ItemState:
    from recsys.pipeline import default_models

    items = ItemState(default_models())

    def load(records: list[Any]) -> None:
        items.load_records((record.key, record.value) for record in records)

    for partition in range(settings.item_partitions):
        source = Position(topics.ITEM_STATE.name(settings.own_prefix), partition)
        await restore(settings.connection(), source, load)
    return items


async def _positions(settings: Settings, partitions: int) -> list[int]:
    """How far a generation, or its mirror, has taken each live partition."""
    sources = [Position(topics.BEHAVIOUR.name(settings.prefix), p) for p in range(partitions)]
    role = "mirror" if mirrors(settings, partitions) else "behaviour"
    group = f"{settings.own_application}-{role}"
    found = await committed(settings.connection(), group, sources)
    return [found[source] for source in sources]


async def _lists(settings: Settings, prefix: str) -> dict[tuple[int, int], frozenset[str]]:
    """The lists that answer events, by the event's place."""
    decode = msgspec.json.Decoder(RankedList).decode
    found = {}
    async for records in read_topic(settings.connection(), topics.RECOMMENDATIONS.name(prefix)):
        for record in records:
            given = decode(record.value)
            if given.trigger.kind == "event":
                items = frozenset(item.item_id for item in given.items)
                found[given.trigger.partition, given.trigger.offset] = items
    return found


async def _quality(
    settings: Settings, lists: dict[str, dict[tuple[int, int], frozenset[str]]]
) -> dict[str, dict[str, float]]:
    """How often a user's next event is in the list before it, over the lists that both wrote."""
    both = set.intersection(*(set(found) for found in lists.values()))
    shown: dict[str, tuple[int, int]] = {}
    hits: Counter[str] = Counter()
    answers = 0
    name = topics.BEHAVIOUR.name(settings.prefix)
    async for records in read_topic(settings.connection(), name):
        for record in records:
            try:
                event = msgspec.json.decode(record.value or b"", type=_Event)
            except msgspec.MsgspecError:
                continue
            if (place := shown.get(event.user_id)) is not None and event.type != "impression":
                answers += 1
                for generation, found in lists.items():
                    hits[generation] += event.item_id in found[place]
            if (record.partition, record.offset) in both:
                shown[event.user_id] = (record.partition, record.offset)
    return {
        generation: {
            "answers": answers,
            "hits": hits[generation],
            "hit_rate": round(hits[generation] / answers, 6) if answers else 0.0,
        }
        for generation in lists
    }


class _Event(msgspec.Struct):
    user_id: str
    item_id: str
    type: str
