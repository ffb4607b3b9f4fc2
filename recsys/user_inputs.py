"""What a lane of users reads: the live inputs, decoded, each record in its own partition.

On the way what cannot be read becomes a dead letter, what lies in another user's partition is
passed on to its own, and a promotion's markers take effect. Which generation writes what a record
causes outside of its own topics is decided here, by the record's place (`is_live`).
"""

from collections.abc import Callable
from typing import Any, cast

import structlog

from models.columns import NONE
from recsys import metrics
from recsys.forgotten import Forgotten
from recsys.mirror import originals
from recsys.settings import MAIN
from recsys.switches import input_name, promoted
from recsys.user_lane import UserLane
from recsys.user_lanes_config import UserLanesConfig
from recsys.wanted import URGENT, USER_INPUTS
from streams import codec, dead_letters, topics
from streams.application import Outcome
from streams.chunk import Chunk, Position, Record
from streams.codec import DecodeError
from streams.events import HEADER_ORIGIN, BehaviourEvent, ImageEmbedding
from streams.fitted import fitted
from streams.partition import partition_of

log = structlog.get_logger(__name__)


class UserInputs:
    """The inputs of the behaviour role; `is_listed` says whether the catalogue has an item."""

    def __init__(
        self, config: UserLanesConfig, forgotten: Forgotten, is_listed: Callable[[str], bool]
    ) -> None:
        self._config = config
        self._forgotten = forgotten
        self._is_listed = is_listed
        name = config.prefix
        read = config.own_prefix if config.mirrored else name
        self._topics = {topic.name(read): topic for topic in USER_INPUTS}
        self._behaviour = topics.BEHAVIOUR.name(name)
        self._forget = topics.FORGET.name(name)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the topics that are read: lane p is partition p of each."""
        return tuple(self._topics)

    @property
    def urgent(self) -> frozenset[str]:
        """Somebody looks at a screen and waits for these to be answered."""
        return frozenset(name for name, topic in self._topics.items() if topic in URGENT)

    def topic(self, name: str) -> topics.Topic:
        """What a topic that is read holds."""
        return self._topics[name]

    def live_records(self, chunk: Chunk) -> list[Any]:
        """The chunk's records, at their places in the live topic."""
        if not self._config.mirrored:
            return chunk.records
        return originals(chunk.records, self._topics[chunk.source.topic].name(self._config.prefix))

    def read(
        self, topic: topics.Topic, state: UserLane, taken: list[Any], outcome: Outcome
    ) -> tuple[list[Any], list[Any]]:
        """The messages that count, and their records; all else is written on the way."""
        messages, records, bad = codec.decode_chunk(
            topic, self._without_markers(state, taken), self._config.future_ms_max
        )
        known, mirrored = state.users.find, self._config.mirrored
        forgets = len(self._forgotten) > 0
        refuses_unknown = self._config.unknown_items == "dead-letter"
        kept_messages, kept_records = [], []
        for message, record in zip(messages, records, strict=True):
            if message is None:  # a tombstone of the forget log: who came back is learned anyway
                continue
            home = record.partition
            # A user known to a lane is at home in its partition; a mirror's has several.
            if mirrored or known(message.user_id) == NONE:
                home = partition_of(record.key, self._config.partitions)
            if home != record.partition:
                if self.is_live(state, record):
                    _pass_on(home, record, outcome)
            elif forgets and self._is_forgotten(message):
                metrics.FORGOTTEN_RECORDS.labels(topic.suffix).inc()
            elif refuses_unknown and self._is_unknown(message):
                what = f"{message.item_id!r} is not in the catalogue"
                bad.append((record, DecodeError("unknown-item", "item_id", what)))
            else:
                kept_messages.append(message)
                kept_records.append(record)
        for record, error in bad:
            self.refuse(state, record, error, outcome)
        return kept_messages, kept_records

    def refuse(self, state: UserLane, record: Any, error: DecodeError, outcome: Outcome) -> None:
        """Write a dead letter, where that is ours to do."""
        if not self.is_live(state, record):
            return
        target = Position(topics.dead_letter_name(record.topic), record.partition)
        outcome.add(target, dead_letters.dead_letter(record, error))
        metrics.dead_letter(record.topic, error.reason)

    def is_live(self, state: UserLane, at: Any) -> bool:
        """Whether what a record, or its trigger, causes outside of our own topics is ours."""
        if not len(state.switches):
            return self._config.generation == MAIN
        if at.topic == self._forget:  # it is compacted, and can hold no marker
            newest = self._switched(self._behaviour, at.partition)
            return state.switches.latest(newest) == self._config.generation
        switched = self._switched(at.topic, at.partition)
        return state.switches.live(switched, at.offset) == self._config.generation

    def home(self, lane: int, user_id: str) -> int:
        """The partition of the live inputs, and of their lists, that a user of the lane has."""
        mirrored = self._config.mirrored
        return partition_of(user_id.encode(), self._config.partitions) if mirrored else lane

    def _is_forgotten(self, message: Any) -> bool:
        """Whether it is of a time that its user asked to be forgotten."""
        if not isinstance(message, BehaviourEvent | ImageEmbedding):
            return False
        return self._forgotten.covers(message.user_id, cast(int, message.timestamp))

    def _is_unknown(self, message: Any) -> bool:
        """Whether it is of an item that the catalogue lacks."""
        return isinstance(message, BehaviourEvent) and not self._is_listed(message.item_id)

    def _without_markers(self, state: UserLane, taken: list[Any]) -> list[Any]:
        """The records; markers of a promotion take effect from their places on."""
        kept = []
        for record in taken:
            name = promoted(record) if record.key is None else None
            if name is None:
                kept.append(record)
                continue
            at = self._switched(record.topic, record.partition)
            state.switches.add(at, record.offset, name)
            log.info("generation.promoted", name=name, source=at, offset=record.offset)
        return kept

    def _switched(self, topic: str, partition: int) -> str:
        """By what name the lane keeps the switches of a partition."""
        return input_name(topic, partition) if self._config.mirrored else topic


def _pass_on(home: int, record: Any, outcome: Outcome) -> None:
    """Another client's partitioner put it there: send it to its own partition, once."""
    origin = f"{record.topic}/{record.partition}/{record.offset}".encode()
    headers = [(name, value) for name, value in record.headers if name != HEADER_ORIGIN]
    headers.append((HEADER_ORIGIN, origin))
    # Its time decides whether the event is of the future: ours may be wrong. -1 is none.
    time_ms = record.timestamp if record.timestamp >= 0 else None
    passed = Record(record.key, record.value, headers, time_ms)
    bytes_max = topics.topic_of(record.topic).message_bytes_max
    outcome.add(Position(record.topic, home), fitted(passed, bytes_max))
    metrics.passed_on(record.topic)


def origin(record: Any) -> str | None:
    """A passed-on record is known by where it first lay."""
    for name, value in record.headers:
        if name == HEADER_ORIGIN and value:
            return str(value.decode("utf-8", "replace"))
    return None
