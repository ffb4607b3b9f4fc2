"""Broken records of every kind: none stops a lane, each is in the dead letters once."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.catalogue import Catalogue
from recsys.item_lanes import ItemLanes
from recsys.item_state import ItemState
from recsys.pipeline import Pipeline, PipelineConfig, default_models
from recsys.soak import pictures
from recsys.soak.traffic import Traffic, poison
from recsys.user_lane import UserLane
from recsys.user_lanes import UserLanes
from recsys.user_lanes_config import UserLanesConfig
from streams import codec, dead_letters, topics
from streams.application import Outcome
from streams.chunk import Chunk, Position, Record
from streams.codec import DecodeError
from streams.events import ImageEmbedding
from tests.records import NOW_MS, body, record


@pytest.fixture(scope="module")
def lanes() -> UserLanes:
    items = ItemState(default_models())
    pipeline = Pipeline(PipelineConfig(), items, Catalogue(items))
    return UserLanes(pipeline, UserLanesConfig(partitions=1, lists_per_s_max=0.0))


def dead_letters_in(outcome: Outcome, source: Position) -> list[int]:
    """Offsets of the records whose dead letters a round wrote."""
    target = Position(topics.dead_letter_name(source.topic), source.partition)
    return [
        dead_letters.parse(
            record(letter.value, letter.key, offset=at, headers=letter.headers)
        ).offset
        for at, letter in enumerate(outcome.writes.get(target, []))
    ]


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


def refused(records: list, topic: topics.Topic = topics.BEHAVIOUR) -> list[int]:
    """Offsets of the records that the codec refuses one by one."""
    offsets = []
    for each in records:
        try:
            codec.decode(topic, each)
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


GOOD: dict[topics.Topic, tuple[bytes, bytes]] = {  # key and body of a good record of each input
    topics.BEHAVIOUR: (b"u1", body()),
    topics.REQUESTS: (b"u1", b'{"user_id":"u1","request_id":"r1","context_items":["i1"]}'),
    topics.CATALOGUE: (b"i1", b'{"item_id":"i1","title":"Hat","category":"hats","price":9.5}'),
    topics.FORGET: (b"u1", b'{"user_id":"u1","timestamp":"2023-01-01T00:00:00Z"}'),
    topics.IMAGE_EMBEDDINGS: (
        b"u1",
        codec.encode(
            ImageEmbedding(
                user_id="u1", upload_id="p1", timestamp=NOW_MS, encoder="e@1", vector=bytes(32)
            )
        ),
    ),
}


def broken_records(rng: random.Random, topic: topics.Topic, count: int) -> list:
    """Mutations of a good record, between good ones; the good ones have even offsets."""
    key, good = GOOD[topic]
    records = []
    for number in range(count):
        json_like = topic.encoding == "json"
        broken = poison(rng, key, good) if json_like else Record(key, pictures.mutated(rng, good))
        for at, (value, name) in enumerate(((good, key), (broken.value, broken.key))):
            records.append(record(value, name, topic.name(), 0, 2 * number + at))
    return records


@pytest.mark.parametrize(
    "topic", [t for t in GOOD if t is not topics.CATALOGUE], ids=lambda topic: topic.suffix
)
def test_a_thousand_broken_records_of_each_input_of_users(
    lanes: UserLanes, topic: topics.Topic
) -> None:
    records = broken_records(random.Random(3), topic, 1000)
    lane, source = lanes.open(0), Position(topic.name(), 0)
    lane.begin()
    outcome = lanes.apply(0, lane, [Chunk(source, 0, records)])
    lane.commit()
    dead = dead_letters_in(outcome, source)
    assert len(dead) == len(set(dead))
    assert set(dead) >= set(refused(records, topic))
    assert len(dead) > 400
    if topic is not topics.IMAGE_EMBEDDINGS:  # nobody's encoder here: each is a dead letter
        assert not [offset for offset in dead if offset % 2 == 0]


def test_a_thousand_broken_products() -> None:
    items = ItemState(default_models())
    pipeline = Pipeline(PipelineConfig(), items, Catalogue(items))
    tail: Any = SimpleNamespace(owned=set())
    lanes = ItemLanes(pipeline, tail, SimpleNamespace(), "recsys", "recsys", lambda: True, 30.0)
    records = broken_records(random.Random(5), topics.CATALOGUE, 1000)
    lane, source = lanes.open(0), Position(topics.CATALOGUE.name(), 0)
    lane.begin()
    dead = dead_letters_in(lanes.apply(0, lane, [Chunk(source, 0, records)]), source)
    lane.commit()
    assert dead == refused(records, topics.CATALOGUE)
    assert len(dead) > 400
    assert not [offset for offset in dead if offset % 2 == 0]


@pytest.mark.parametrize("uploads", [True, False])
async def test_a_thousand_broken_pictures(tmp_path: Path, uploads: bool) -> None:
    encoders = pytest.importorskip("models.encoder")
    from recsys.image_lanes import ImageLanes
    from recsys.image_reader import ImageReader

    rng = random.Random(9)
    good = pictures.picture(rng)
    topic = topics.IMAGE_UPLOADS if uploads else topics.PRODUCT_IMAGES
    reader = ImageReader(encoders.load("perceptual-hash", tmp_path))
    lanes, source = ImageLanes(reader, "recsys", uploads=uploads), Position(topic.name(), 0)
    records = []
    for offset in range(1000):
        value = good if offset % 10 == 0 else pictures.mutated(rng, good)
        records.append(record(value, b"k1", source.topic, 0, offset))
    outcome = await lanes.apply(0, lanes.open(0), [Chunk(source, 0, records)])
    dead = dead_letters_in(outcome, source)
    (answers,) = [rows for at, rows in outcome.writes.items() if not at.topic.endswith(".dlq")]
    assert len(dead) == len(set(dead))
    assert len(dead) + len(answers) == len(records)  # each is read or refused, none both
    assert not [offset for offset in dead if offset % 10 == 0]
    assert len(dead) > 400


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
