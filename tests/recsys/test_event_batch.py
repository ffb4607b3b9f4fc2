"""Events in columns."""

import numpy as np

from recsys.event_batch import EventBatch
from recsys.ids import key_of
from streams.events import EVENT_TYPES
from tests.recsys.logs import World


def test_lists_become_columns():
    world = World()
    batch = EventBatch.of(
        world.users, ["u", "v", "u"], ["a", "a", "b"], ["view", "rating", "impression"],
        [1_000, 2_500, 3_000], [None, 4.0, None], ["x", None, "x"],
    )  # fmt: skip
    assert len(batch) == 3
    assert batch.users.tolist() == [world.users.find(name) for name in "uvu"]
    assert batch.items.tolist() == [world.items.find(name) for name in "aab"]
    assert [EVENT_TYPES[code] for code in batch.types] == ["view", "rating", "impression"]
    assert batch.values[1] == 4.0
    assert np.isnan(batch.values[[0, 2]]).all()
    assert batch.times_ms.tolist() == [1_000, 2_500, 3_000]
    assert batch.event_keys.tolist() == [key_of("x"), 0, key_of("x")]


def test_values_and_ids_may_be_left_out():
    world = World()
    batch = EventBatch.of(world.users, ["u"], ["a"], ["view"], [1_000])
    assert np.isnan(batch.values).all()
    assert not batch.event_keys.any()
    assert len(EventBatch.of(world.users, [], [], [], [])) == 0


def test_a_part_is_a_view():
    world = World()
    batch = EventBatch.of(world.users, ["u", "v"], ["a", "b"], ["view", "view"], [1_000, 2_000])
    part = batch.part(1, 2)
    assert part.items.tolist() == batch.items[1:].tolist()
    assert part.items.base is not None
