"""What a refit finds in the users' states, and that the sources read it."""

import numpy as np

from models.columns import NONE
from recsys.factorise import factorise
from tests.recsys.logs import START_S, Event, World

NOW_MS = (START_S + 10**6) * 1000


def shop():
    """Forty users of two kinds, each with two of their kind's three items; nobody likes `dull`."""
    world = World()
    world.learn([Event("u0", "dull", "dislike", START_S, None, None)])
    kinds = (("tea", "cup", "pot"), ("nut", "saw", "oil"))
    for n in range(40):
        kind = kinds[n % 2]
        for at in (n // 2 % 3, (n // 2 + 1) % 3):
            world.learn([Event(f"u{n}", kind[at], "purchase", START_S + 10 * n + at, None, None)])
    return world


def refitted(world):
    found = factorise([world.users], len(world.items))
    keys = world.items.ids.keys[found.slots]
    world.items.swap_factors("als-1", keys, found.vectors, found.weights)
    return found


def test_weights_and_vectors_are_of_what_somebody_likes():
    world = shop()
    found = refitted(world)
    assert world.items.find("dull") not in found.slots.tolist()
    assert len(found.slots) == len(found.vectors) == len(found.weights.neighbours) == 6
    table = world.items.tables["ease"]
    cup, tea, nut = (world.items.find(item) for item in ("cup", "tea", "nut"))
    pairs = zip(table["neighbour"][tea].tolist(), table["weight"][tea].tolist(), strict=True)
    weights = dict(pairs)
    assert weights[cup] > 0
    assert weights.get(nut, 0.0) <= 0
    assert (table["neighbour"][world.items.find("dull")] == NONE).all()


def test_lists_say_that_weights_found_an_item():
    world = shop()
    refitted(world)
    ranked = world.pipeline.recommend(world.users, world.users.find("u0"), NOW_MS, 5)
    lines = {line.item_id: line for line in world.pipeline.explain(ranked)}
    assert "ease" in lines["pot"].sources


def test_a_snapshot_keeps_the_weights():
    world, copy = shop(), World()
    refitted(world)
    copy.items.restore(world.items.snapshot())
    for name in ("neighbour", "weight"):
        size = len(world.items)
        ours, theirs = (each.items.tables["ease"][name][:size] for each in (world, copy))
        np.testing.assert_array_equal(ours, theirs)


def test_a_refit_without_weights_leaves_those_in_force():
    world = shop()
    found = refitted(world)
    before = world.items.tables["ease"]["weight"].copy()
    world.items.swap_factors("als-0", world.items.ids.keys[found.slots], found.vectors)
    np.testing.assert_array_equal(world.items.tables["ease"]["weight"], before)
    assert before.any()
