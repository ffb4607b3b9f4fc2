"""Broken records of every kind: none stops a lane, each is in the dead letters once."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.catalogue import Catalogue
from recsys.pipeline import Pipeline, PipelineConfig, default_models
from recsys.soak.traffic import Traffic, poison
from recsys.state import ItemState
from recsys.user_lanes import UserLane, UserLanes, UserLanesConfig
from streams import codec, dead_letters, topics
from streams.chunk import Chunk, Position
from streams.codec import DecodeError
from tests.records import body, record


@pytest.fixture(scope="module")
def lanes() -> UserLanes:
    items = ItemState(default_models())
    pipeline = Pipeline(PipelineConfig(), items, Catalogue(items))
    return UserLanes(pipeline, UserLanesConfig(partitions=1, lists_per_s_max=0.0))


def dead_offsets(lanes: UserLanes, lane: UserLane, records: list) -> list[int]:
    """Apply records as one round; offsets of those that became dead letters."""
    source = Position(topics.BEHAVIOUR.name(), 0)
    lane.begin()
    outcome = lanes.apply(0, lane, [Chunk(source, 0, records)])
    lane.commit()
    letters = outcome.writes.get(Position(topics.dead_letter_name(source.topic), 0), [])
    found = []
    for at, letter in enumerate(letters):
        parsed = dead_letters.parse(
            record(letter.value, letter.key, offset=at, headers=letter.headers)
        )
        assert parsed.reason in codec.REASONS
        assert parsed.field
        original = next(each for each in records if each.offset == parsed.offset)
        assert (parsed.key, parsed.value) == (original.key, original.value)
        found.append(parsed.offset)
    return found


def refused(records: list) -> list[int]:
    """Offsets of the records that the codec refuses one by one."""
    offsets = []
    for each in records:
        try:
            codec.decode(topics.BEHAVIOUR, each)
        except DecodeError:
            offsets.append(each.offset)
    return offsets


def test_a_thousand_broken_records_among_good_ones(lanes: UserLanes) -> None:
    rng, records = random.Random(7), []
    for offset in range(1000):
        broken = poison(rng, b"u1", body(event_id=f"b{offset}"))
        records.append(record(broken.value, broken.key, partition=0, offset=2 * offset))
        good = body(event_id=f"g{offset}")
        records.append(record(good, partition=0, offset=2 * offset + 1))
    lane = lanes.open(0)
    dead = dead_offsets(lanes, lane, records)
    assert dead == refused(records)
    assert len(dead) > 900
    assert not [offset for offset in dead if offset % 2]
    slot = lane.users.find("u1")
    assert lane.users.heads["events"][slot] >= 1000


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.none() | st.binary(max_size=20), st.none() | st.binary(max_size=300))))
def test_whatever_bytes_there_are(
    lanes: UserLanes, pairs: list[tuple[bytes | None, bytes | None]]
) -> None:
    records = [record(v, k, partition=0, offset=at) for at, (k, v) in enumerate(pairs)]
    assert dead_offsets(lanes, lanes.open(0), records) == refused(records)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(("user_id", "item_id", "type", "timestamp", "value", "context")), json_values
)
def test_whatever_value_a_field_has(lanes: UserLanes, name: str, value: object) -> None:
    records = [record(body(**{name: value}), partition=0, offset=0)]
    records.append(record(body(event_id="next"), partition=0, offset=1))
    lane = lanes.open(0)
    assert dead_offsets(lanes, lane, records) == refused(records)
    assert lane.users.heads["events"][lane.users.find("u1")] >= 1


def test_traffic_is_the_same_for_the_same_seed() -> None:
    def some(seed: int) -> list:
        return [each for each, _ in zip(Traffic(seed, 4, 10**12), range(300), strict=False)]

    assert some(1) == some(1)
    assert some(1) != some(2)
