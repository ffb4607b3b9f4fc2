"""The conservation check: every event that was accepted is accounted for, once.

It reads the log of events as Kafka keeps it, says by simple rules of its own what must follow
(applied once, dead-lettered once, or passed on to its lane once), and compares that with
everything the workers wrote: user state, item state, ranked lists and dead letters.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka.structs import ConsumerRecord

from models.history import EVENT_KEYS_SIZE
from recsys.ids import key_of
from recsys.item_state import ItemState
from recsys.owed import SUFFIX as OWED
from recsys.pipeline import default_models
from recsys.settings import EVENT_WEIGHTS
from recsys.user_lane import UserLane
from recsys.user_state import UserState
from streams import codec, dead_letters, state_log, topics
from streams.chunk import Position
from streams.codec import DecodeError
from streams.connection import Connection
from streams.events import EVENT_TYPES, HEADER_ORIGIN, BehaviourEvent, RankedList
from streams.partition import partition_of

Place = tuple[int, int]  # partition and offset
SHOWN = 20  # findings told in words; all are counted


@dataclass
class Account:
    """What became of the events. `lost` and `doubled` count; `findings` says which, in words."""

    accepted: int = 0
    applied: int = 0
    duplicates: int = 0
    passed_on: int = 0
    dead_letters: int = 0
    lists: int = 0
    requests: int = 0
    pictures: int = 0
    lost: int = 0
    doubled: int = 0
    findings: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Nothing was lost and nothing counted twice."""
        return not self.lost and not self.doubled

    def missing(self, count: int, what: str) -> None:
        """So many are not there; a negative number: so many too many."""
        if count > 0:
            self.lost += count
        elif count < 0:
            self.doubled -= count
        if count and len(self.findings) < SHOWN:
            self.findings.append(f"{what}: {abs(count)} {'lost' if count > 0 else 'too many'}")

    def compare(self, what: str, wanted: Mapping[Any, int], found: Mapping[Any, int]) -> None:
        """Both sides count the same things."""
        for key in wanted.keys() | found.keys():
            self.missing(wanted.get(key, 0) - found.get(key, 0), f"{what} {key!r}")


@dataclass
class Expected:
    """What must follow from the log of events, by rules that share no code with the worker's."""

    events: Counter[str] = field(default_factory=Counter)  # by user
    entries: Counter[tuple[str, int]] = field(default_factory=Counter)  # by user and item key
    items: Counter[tuple[str, str]] = field(default_factory=Counter)  # by item and type of event
    item_users: Counter[str] = field(default_factory=Counter)
    letters: Counter[Place] = field(default_factory=Counter)
    passed: Counter[str] = field(default_factory=Counter)  # by origin
    newest: dict[str, Place] = field(default_factory=dict)  # the last event of each user
    owners: dict[Place, str] = field(default_factory=dict)  # user of each event that was kept
    spoilt: list[Place] = field(default_factory=list)  # passed on as valid, and then refused
    duplicates: int = 0
    _recent: dict[str, deque[int]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=EVENT_KEYS_SIZE))
    )

    def add(self, record: ConsumerRecord, partitions: int) -> None:
        """The next record of a partition of the log."""
        place = (record.partition, record.offset)
        try:
            event: BehaviourEvent = codec.decode(topics.BEHAVIOUR, record)
        except DecodeError:
            self.letters[place] += 1
            if origin_of(record) is not None:
                self.spoilt.append(place)
            return
        if partition_of(record.key, partitions) != record.partition:
            self.passed[f"{record.topic}/{record.partition}/{record.offset}"] += 1
            return
        user = event.user_id
        self.newest[user] = place
        self.owners[place] = user
        origin = origin_of(record)
        if event.event_id or origin:
            key = key_of(event.event_id or origin or "")
            if key in self._recent[user]:
                self.duplicates += 1
                return
            self._recent[user].append(key)
        self._apply(event)

    def _apply(self, event: BehaviourEvent) -> None:
        self.events[event.user_id] += 1
        self.items[event.item_id, event.type] += 1
        if EVENT_WEIGHTS[event.type]:
            entry = (event.user_id, key_of(event.item_id))
            self.item_users[event.item_id] += entry not in self.entries
            self.entries[entry] += 1


def origin_of(record: ConsumerRecord) -> str | None:
    """Where a record that was passed on lay first."""
    value = dict(record.headers).get(HEADER_ORIGIN)
    return value.decode() if value else None


async def check(
    connection: Connection, prefix: str, partitions: int, accepted: Iterable[Place] = ()
) -> Account:
    """Account for everything under a prefix; call it when all was applied and nobody writes.

    `accepted` are the places that the producer was told for its events.
    """
    account = Account()
    log = await read_topic(connection, topics.BEHAVIOUR.name(prefix), partitions)
    wanted = Expected()
    passed: Counter[str] = Counter()
    for record in log:
        wanted.add(record, partitions)
        if (origin := origin_of(record)) is not None:
            passed[origin] += 1
    account.accepted = len(log) - passed.total()
    account.duplicates, account.passed_on = wanted.duplicates, passed.total()
    account.compare("passed on from", wanted.passed, passed)
    places = {(record.partition, record.offset) for record in log}
    for place in wanted.spoilt:
        account.missing(1, f"the event passed on to {place}, which was valid where it first lay")
    for place in accepted:
        account.missing(int(place not in places), f"the event acknowledged at {place}")
    letters = await read_letters(connection, topics.BEHAVIOUR.name(prefix), partitions)
    account.dead_letters = letters.total()
    account.compare("dead letter of", wanted.letters, letters)
    waiting = await _check_users(account, connection, prefix, partitions, wanted)
    await _check_items(account, connection, prefix, wanted)
    await _check_lists(account, connection, prefix, partitions, wanted, waiting)
    return account


async def read_topic(connection: Connection, topic: str, partitions: int) -> list[ConsumerRecord]:
    """All that is committed there, partition by partition."""
    records: list[ConsumerRecord] = []
    for partition in range(partitions):
        await state_log.restore(connection, Position(topic, partition), records.extend)
    return records


async def read_letters(connection: Connection, topic: str, partitions: int) -> Counter[Place]:
    """How many dead letters there are of each place of a topic."""
    name = topics.dead_letter_name(topic)
    letters = map(dead_letters.parse, await read_topic(connection, name, partitions))
    return Counter((letter.partition, letter.offset) for letter in letters)


async def _check_users(
    account: Account, connection: Connection, prefix: str, partitions: int, wanted: Expected
) -> set[str]:
    """Compare the users' state; returns users whose newest list is still owed."""
    events: Counter[str] = Counter()
    entries: Counter[tuple[str, int]] = Counter()
    waiting: set[str] = set()
    for number in range(partitions):
        lane = await read_lane(connection, prefix, number)
        users = lane.users
        account.digests.append(users.digest())
        for slot, name in users.ids.names.items():
            events[name] += int(users.heads["events"][slot])
            past = users.history(slot)
            keys = users.items.ids.keys[past.items].tolist()
            for key, count in zip(keys, past.counts.tolist(), strict=True):
                entries[name, key] += count
        waiting |= {key[: -len(OWED)].decode() for key, _ in lane.owed.snapshot()}
    account.applied = events.total()
    account.compare("events of user", wanted.events, events)
    for (user, key), count in wanted.entries.items():
        if entries[user, key] != count and wanted.events[user] == events[user]:
            account.missing(count - entries[user, key], f"events of {user!r} with item {key:x}")
    return waiting


async def read_lane(connection: Connection, prefix: str, number: int) -> UserLane:
    """A lane's committed state, as its next owner would read it."""
    lane = UserLane(UserState(ItemState(default_models())))
    source = Position(topics.USER_STATE.name(prefix), number)
    await state_log.restore(connection, source, lambda records: lane.load_records(_rows(records)))
    return lane


async def read_items(connection: Connection, prefix: str) -> ItemState:
    """The items' committed state, as its next owner would read it."""
    items = ItemState(default_models())
    source = Position(topics.ITEM_STATE.name(prefix), 0)
    await state_log.restore(connection, source, lambda records: items.load_records(_rows(records)))
    return items


def _rows(records: list[ConsumerRecord]) -> Iterable[tuple[bytes, bytes | None]]:
    return ((record.key, record.value) for record in records)


async def _check_items(
    account: Account, connection: Connection, prefix: str, wanted: Expected
) -> None:
    items = await read_items(connection, prefix)
    account.digests.append(items.digest())
    table = items.tables["popularity"]
    counts: Counter[tuple[str, str]] = Counter()
    users: Counter[str] = Counter()
    for slot, name in enumerate(items.ids.names):
        if name is not None and table["events"][slot]:
            for kind, count in zip(EVENT_TYPES, table["counts"][slot].tolist(), strict=True):
                counts[name, kind] += count
            users[name] += int(table["users"][slot])
    account.compare("events of item", wanted.items, +counts)
    account.compare("users of item", +wanted.item_users, +users)


async def _check_lists(
    account: Account,
    connection: Connection,
    prefix: str,
    partitions: int,
    wanted: Expected,
    waiting: set[str],
) -> None:
    """No list twice, none out of nothing, each user's newest event and each request answered."""
    decode = msgspec.json.Decoder(RankedList).decode
    name = topics.RECOMMENDATIONS.name(prefix)
    lists = [decode(record.value) for record in await read_topic(connection, name, partitions)]
    account.lists = len(lists)
    ids = Counter(each.list_id for each in lists)
    for list_id, count in ids.items():
        account.missing(1 - count, f"list {list_id}")
    answered: Counter[Place] = Counter()
    answers: Counter[str] = Counter()
    for each in lists:
        if each.trigger.kind == "event":
            place = (each.trigger.partition, each.trigger.offset)
            answered[place] += 1
            if wanted.owners.get(place) != each.user_id:
                account.missing(-1, f"list {each.list_id}, which no event asked for")
        elif each.trigger.kind == "request" and each.request_id is not None:
            answers[each.request_id] += 1
        else:
            account.missing(-1, f"list {each.list_id}, which nothing asked for")
    for place, count in answered.items():
        account.missing(1 - count, f"the list for the event at {place}")
    for user, place in wanted.newest.items():
        if place not in answered and user not in waiting:
            account.missing(1, f"the list of {user!r} for its newest event {place}")
    requests, letters = await _requests(connection, prefix, partitions)
    account.requests = requests.total()
    account.compare("answer to request", requests, answers)
    found = await read_letters(connection, topics.REQUESTS.name(prefix), partitions)
    account.dead_letters += found.total()
    account.compare("dead letter of request", letters, found)


async def _requests(
    connection: Connection, prefix: str, partitions: int
) -> tuple[Counter[str], Counter[Place]]:
    """Requests that must be answered, by id, and the places of those that cannot be read."""
    good: Counter[str] = Counter()
    bad: Counter[Place] = Counter()
    for record in await read_topic(connection, topics.REQUESTS.name(prefix), partitions):
        try:
            request = codec.decode(topics.REQUESTS, record)
        except DecodeError:
            bad[record.partition, record.offset] += 1
        else:
            if partition_of(record.key, partitions) == record.partition:
                good[request.request_id] += 1
    return good, bad
