"""What a lane of users reads: what counts, and where all else goes."""

from typing import Any

import pytest

from recsys.forgotten import Forgotten
from recsys.mirror import copy
from recsys.settings import Settings
from recsys.user_inputs import UserInputs, origin
from recsys.user_lane import UserLane
from recsys.user_lanes_config import UserLanesConfig, user_lanes_config
from streams import topics
from streams.application import Outcome
from streams.chunk import Chunk, Position, Record
from streams.events import (
    HEADER_DLQ_FIELD,
    HEADER_DLQ_OFFSET,
    HEADER_ORIGIN,
    HEADER_PROMOTE,
)
from streams.partition import partition_of
from tests.records import NOW_MS, body, record
from tests.recsys.logs import World

BEHAVIOUR = "recsys.behaviour.v1"
DEAD = topics.dead_letter_name(BEHAVIOUR)
HOME = partition_of(b"u1", 2)
AWAY = 1 - HOME


class Reader:
    """One lane that reads behaviour."""

    def __init__(self, forgotten: Forgotten | None = None, **changes: Any) -> None:
        config = UserLanesConfig(**({"partitions": 2} | changes))
        self.inputs = UserInputs(config, forgotten or Forgotten(), {"i1"}.__contains__)
        self.state = UserLane(World().users)

    def read(self, *taken: Any) -> tuple[list[int], dict[Position, list[Record]]]:
        """The offsets of what counts, and what is written on the way."""
        outcome = Outcome()
        messages, records = self.inputs.read(topics.BEHAVIOUR, self.state, list(taken), outcome)
        assert [each.user_id.encode() for each in messages] == [each.key for each in records]
        return [each.offset for each in records], outcome.writes


def event(offset: int, partition: int = HOME, value: bytes | None = None, **changes: Any) -> Any:
    value = body(**changes) if value is None else value
    return record(value, b"u1", partition=partition, offset=offset)


def marker(offset: int, generation: str) -> Any:
    headers = [(HEADER_PROMOTE, generation.encode())]
    return record(None, None, partition=HOME, offset=offset, headers=headers)


def test_what_can_be_read_counts_and_the_rest_is_a_dead_letter() -> None:
    kept, writes = Reader().read(event(0), event(1, value=b"{"), event(2, item_id=""), event(3))
    assert kept == [0, 3]
    assert list(writes) == [Position(DEAD, HOME)]
    letters = [dict(each.headers) for each in writes[Position(DEAD, HOME)]]
    assert [each[HEADER_DLQ_OFFSET] for each in letters] == [b"1", b"2"]


def test_a_record_of_another_partition_is_passed_on_once_with_its_time() -> None:
    """Its new lane judges by it whether the event is of the future; our clock may be wrong."""
    timed = record(body(), b"u1", partition=AWAY, offset=0, timestamp=NOW_MS + 5)
    later = record(body(), b"u1", partition=AWAY, offset=1, timestamp=NOW_MS + 9)
    untimed = record(body(), b"u1", partition=AWAY, offset=2, timestamp=-1)  # nothing to judge by
    kept, writes = Reader().read(timed, later, untimed)
    assert not kept
    assert [dict(each.headers)[HEADER_DLQ_OFFSET] for each in writes[Position(DEAD, AWAY)]] == [
        b"2"
    ]
    passed = writes[Position(BEHAVIOUR, HOME)]
    assert [each.timestamp_ms for each in passed] == [NOW_MS + 5, NOW_MS + 9]
    assert [dict(each.headers)[HEADER_ORIGIN] for each in passed] == [
        f"{BEHAVIOUR}/{AWAY}/{offset}".encode() for offset in (0, 1)
    ]
    arrived = record(body(), b"u1", partition=HOME, headers=passed[0].headers)
    assert origin(arrived) == f"{BEHAVIOUR}/{AWAY}/0"
    assert origin(timed) is None


def test_what_was_to_be_forgotten_does_not_count() -> None:
    forgotten = Forgotten()
    forgotten.add("u1", NOW_MS)
    kept, writes = Reader(forgotten).read(event(0), event(1, timestamp=NOW_MS + 1_000))
    assert kept == [1]
    assert not writes


@pytest.mark.parametrize(("rule", "counts"), [("learn", [0, 1]), ("dead-letter", [0])])
def test_an_item_that_the_catalogue_lacks(rule: str, counts: list[int]) -> None:
    kept, writes = Reader(unknown_items=rule).read(event(0), event(1, item_id="i2"))
    assert kept == counts
    letters = writes.get(Position(DEAD, HOME), [])
    assert len(letters) == 2 - len(counts)
    for letter in letters:
        assert dict(letter.headers)[HEADER_DLQ_FIELD] == b"item_id"


@pytest.mark.parametrize("generation", ["main", "next"])
def test_a_marker_decides_who_writes_from_its_place_on(generation: str) -> None:
    """Both learn all of it; a broken or misplaced record is written on by the live one alone."""
    reader = Reader(generation=generation, own_prefix="recsys.own")
    taken = [
        event(0, value=b"{"), event(1), marker(2, "next"), event(3), event(4, value=b"{"),
        event(5, AWAY),
    ]  # fmt: skip
    kept, writes = reader.read(*taken)
    assert kept == [1, 3]
    letters = writes.get(Position(DEAD, HOME), [])
    offsets = [dict(each.headers)[HEADER_DLQ_OFFSET] for each in letters]
    assert offsets == ([b"0"] if generation == "main" else [b"4"])
    assert (Position(BEHAVIOUR, HOME) in writes) is (generation == "next")
    assert reader.inputs.is_live(reader.state, taken[1]) is (generation == "main")
    assert reader.inputs.is_live(reader.state, taken[3]) is (generation == "next")


def test_a_mirrors_copies_are_read_at_their_places_in_the_live_topic() -> None:
    reader = Reader(own_prefix="recsys.next", generation="next", mirrored=True)
    name = topics.BEHAVIOUR.name("recsys.next")
    assert name in reader.inputs.names
    assert BEHAVIOUR not in reader.inputs.names
    copies = []
    for at, each in enumerate([event(7), event(9, AWAY)]):
        copied = copy(each)
        copies.append(record(copied.value, copied.key, name, 4, at, headers=copied.headers))
    found = reader.inputs.live_records(Chunk(Position(name, 4), 0, copies))
    assert [(each.topic, each.partition, each.offset) for each in found] == [
        (BEHAVIOUR, HOME, 7), (BEHAVIOUR, AWAY, 9),
    ]  # fmt: skip
    assert reader.inputs.home(4, "u1") == HOME
    assert Reader().inputs.home(1, "u1") == 1


def test_what_somebody_waits_for_is_urgent() -> None:
    inputs = Reader().inputs
    assert inputs.urgent < set(inputs.names)
    assert BEHAVIOUR not in inputs.urgent
    assert inputs.topic(BEHAVIOUR) is topics.BEHAVIOUR


def test_the_settings_say_what_a_lane_reads() -> None:
    config = user_lanes_config(Settings(), 5)
    assert (config.partitions, config.mirrored, config.own_prefix) == (5, False, config.prefix)
