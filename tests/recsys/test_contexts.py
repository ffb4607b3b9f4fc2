"""Contexts: joined and parted, and one of them as a view."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.columns import NONE
from recsys.contexts import Contexts
from recsys.photos import Photo
from streams.events import Product
from tests.recsys.logs import START_S, World, seeded_log
from tests.recsys.test_gather import NOW_MS, gathered, same


def taught():
    world = World()
    world.learn(seeded_log(300))
    return world


WORLD = taught()
SLOTS = [NONE, *(WORLD.users.find(f"u{n}") for n in range(20))]


@given(
    groups=st.lists(
        st.lists(st.sampled_from(SLOTS), min_size=1, max_size=4), min_size=1, max_size=5
    ),
    cut=st.integers(0, 20),
)
@settings(max_examples=40, deadline=None)
def test_joined_and_parted_they_are_what_they_were(groups, cut):
    several = [gathered(WORLD, slots) for slots in groups]
    each = [context for contexts in several for context in contexts]
    whole = Contexts.joined(several)
    assert len(whole) == len(each)
    cut %= len(each) + 1
    parts = [whole.part(0, cut), whole.part(cut, len(each))]
    assert [len(part) for part in parts] == [cut, len(each) - cut]
    for expected, one, other in zip(each, whole, [*parts[0], *parts[1]], strict=True):
        same(expected, one)
        same(expected, other)


def test_photos_filters_and_likes_go_with_their_lists():
    photos = [Photo("x", NOW_MS, 1, np.ones(2, np.float32), category=str(n)) for n in range(3)]
    tastes = [np.full(2, n, np.float32) for n in range(3)]
    allowed, like = np.ones(len(WORLD.items), np.bool_), np.array([3], np.int32)
    with_photos = gathered(
        WORLD, SLOTS[:3], photos=photos, tastes=tastes, allowed=allowed, similar_to=like
    )
    plain = gathered(WORLD, SLOTS[3:5])
    whole = Contexts.joined([plain, with_photos])
    assert [context.photo for context in whole] == [None, None, *photos]
    assert [context.allowed is allowed for context in whole] == [False] * 2 + [True] * 3
    assert [context.similar_to.tolist() for context in whole] == [[], [], [3], [3], [3]]
    part = whole.part(3, 5)
    assert [context.photo for context in part] == photos[1:]
    assert [query.tastes for query in (part.queries, part.longer)] == [tastes[1:]] * 2
    assert part[0].query.taste is tastes[1]


def test_items_that_came_later_are_in_no_older_mask():
    world = taught()
    slots = [world.users.find("u1"), world.users.find("u2")]
    before = gathered(world, slots)
    world.catalogue.put(Product(item_id="brand-new"))
    after = gathered(world, slots)
    whole = Contexts.joined([before, after])
    assert whole.usable[:, world.items.find("brand-new")].tolist() == [False, False, True, True]
    np.testing.assert_array_equal(whole.usable[:2, :-1], before.usable)
    assert whole.queries.usable is whole.longer.usable is whole.usable


def test_with_other_items():
    contexts = gathered(WORLD, SLOTS[:2])
    free = contexts.with_usable(np.ones_like(contexts.usable))
    assert free[1].query.usable.all()
    assert free[1].longer.usable.all()
    assert not contexts[1].query.usable.all()
    assert free[1].now_s == contexts[1].now_s > START_S
