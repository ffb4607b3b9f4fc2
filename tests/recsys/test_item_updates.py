"""Item updates: packed and read back in another process."""

from contextlib import nullcontext
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from recsys.ids import key_of
from recsys.item_lanes import ItemLanes
from recsys.item_state import ItemState
from recsys.item_updates import (
    VERSION,
    Example,
    ItemUpdates,
    ItemUpdatesError,
    ItemUpdatesVersionError,
)
from recsys.pipeline import default_models
from streams import topics
from streams.chunk import Chunk, Position
from tests.records import record
from tests.recsys.logs import World, batch_of, logs, seeded_log


def names(items, slots):
    return [items.ids.keys[slot] if slot >= 0 else 0 for slot in np.ravel(slots).tolist()]


@given(log=logs())
@settings(max_examples=30, deadline=None)
def test_what_is_packed_comes_back_by_name(log):
    world = World()
    world.learn(log)
    updates = world.pipeline.learn(world.users, batch_of(world.users, log))
    packed = updates.encode(world.items)
    other = ItemState(default_models())
    other.slot("takes the first slot")
    read = ItemUpdates.decode(other, packed)
    for column in ("types", "weights", "times_s", "is_new", "ages_s", "users", "places"):
        np.testing.assert_array_equal(getattr(read, column), getattr(updates, column))
    for column in ("items", "context"):
        assert names(other, getattr(read, column)) == names(world.items, getattr(updates, column))
    assert len(read.examples) == len(updates.examples)
    for mine, theirs in zip(updates.examples, read.examples, strict=True):
        np.testing.assert_array_equal(mine.features, theirs.features)
        np.testing.assert_array_equal(mine.chosen, theirs.chosen)
    assert read.encode(other) == packed or len(updates) == 0


def test_items_known_by_key_alone_travel_by_key():
    items = ItemState(default_models())
    slot = items.slot_of_key(key_of("secret"))
    columns = {
        "types": np.zeros(1, np.uint8), "weights": np.ones(1, np.float32),
        "times_s": np.ones(1, np.uint32), "is_new": np.ones(1, np.bool_),
        "stage": np.zeros(1, np.uint8),
        "ages_s": np.zeros((1, 16), np.uint32),
        "users": np.ones(1, np.uint32),
        "places": np.zeros(1, np.uint32),
    }  # fmt: skip
    context = np.full((1, 16), -1, np.int32)
    context[0, 0] = slot
    updates = ItemUpdates(np.array([items.slot("a")], np.int32), context=context, **columns)
    other = ItemState(default_models())
    read = ItemUpdates.decode(other, updates.encode(items))
    assert other.slot("secret") == read.context[0, 0]


def test_an_empty_record_is_one():
    world = World()
    updates = world.pipeline.learn(world.users, batch_of(world.users, []))
    read = ItemUpdates.decode(world.items, updates.encode(world.items))
    assert len(read) == 0
    world.pipeline.fold(read)


def test_damaged_records_are_refused():
    world = World()
    updates = world.pipeline.learn(world.users, batch_of(world.users, seeded_log(20)))
    packed = updates.encode(world.items)
    for bad in (
        b"",
        b"\x00",
        packed[:-5],
        packed.replace(b"i1", b"\xff\xff"),
    ):
        with pytest.raises(ItemUpdatesError):
            ItemUpdates.decode(world.items, bad)


def test_another_version_is_not_left_out_but_ends_the_worker():
    world = World()
    updates = world.pipeline.learn(world.users, batch_of(world.users, seeded_log(20)))
    packed = updates.encode(world.items)
    newer = packed[:1] + bytes([VERSION + 1]) + packed[2:]
    with pytest.raises(ItemUpdatesVersionError, match=f"version {VERSION + 1}, this reads"):
        ItemUpdates.decode(world.items, newer)
    with pytest.raises(ItemUpdatesVersionError):
        ItemUpdates.decode(world.items, b"\x91" + bytes([VERSION + 1]))  # whatever follows it

    tail, refits = SimpleNamespace(owned=set()), SimpleNamespace()
    lanes = ItemLanes(world.pipeline, tail, refits, "shop", "shop", lambda: True, 30.0)
    lane, source = lanes.open(0), Position(topics.ITEM_UPDATES.name("shop"), 0)
    for value, expected in ((b"junk", None), (newer, ItemUpdatesVersionError)):
        chunk = Chunk(source, 0, [record(value, None, source.topic, 0, 0)])
        lane.begin()
        with pytest.raises(expected) if expected else nullcontext():
            lanes.apply(0, lane, [chunk])
        lane.rollback()


def test_a_chunk_of_a_thousand_events_stays_small():
    world = World()
    log = seeded_log(1000)
    updates = world.pipeline.learn(world.users, batch_of(world.users, log))
    without = ItemUpdates(
        updates.items, updates.types, updates.weights, updates.times_s, updates.is_new,
        updates.stage, updates.context, updates.ages_s, updates.users, updates.places,
    )  # fmt: skip
    assert len(without.encode(world.items)) < 140 * len(log)
    example = Example(np.zeros((64, 40), np.float16), np.array([0], np.int32))
    assert example.features.nbytes < 6_000


def test_a_record_of_the_version_before_is_read_without_users():
    world = World()
    updates = world.pipeline.learn(world.users, batch_of(world.users, seeded_log(20)))
    parts = msgspec.msgpack.decode(updates.encode(world.items))
    older = msgspec.msgpack.encode([2, *parts[1:12]])
    read = ItemUpdates.decode(world.items, older)
    np.testing.assert_array_equal(read.items, updates.items)
    assert updates.users.all()
    assert not read.users.any()
    assert len(read.gone) == 0
    world.pipeline.fold(read)
    with pytest.raises(ItemUpdatesVersionError):
        ItemUpdates.decode(world.items, msgspec.msgpack.encode([1, *parts[1:12]]))


def test_who_was_forgotten_travels():
    items = ItemState(default_models())
    read = ItemUpdates.decode(items, ItemUpdates.forgetting([7, 2**32 - 1]).encode(items))
    assert len(read) == 0
    assert read.gone.tolist() == [7, 2**32 - 1]
