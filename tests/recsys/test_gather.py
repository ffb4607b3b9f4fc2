"""Gathering: what lists are made of, many at once and one by one, against plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.base import NO_SLOTS
from models.columns import NONE
from models.history import CONTEXT_SIZE, RECENT_SIZE
from recsys.gather import gather
from recsys.rerank import RerankConfig
from recsys.user_state import StateLimits
from streams.events import Product
from tests.recsys.logs import START_S, Event, World, logs, seeded_log

NOW_MS = (START_S + 10**5) * 1000
HAD = RerankConfig().had_mask


def gathered(world, slots, had=None, similar_to=NO_SLOTS, **others):
    world.catalogue.reserve()
    listable = world.catalogue.available[: len(world.items)].copy()
    times_ms = [NOW_MS + 1000 * slot for slot in slots]
    had = [HAD] * len(slots) if had is None else had
    return gather(
        world.users, world.catalogue, slots, times_ms, 30, had, listable, similar_to=similar_to,
        **others,
    )  # fmt: skip


def same(one, other):
    """Two contexts say the same."""
    for mine, theirs in ((one.query, other.query), (one.longer, other.longer)):
        for name in ("items", "weights", "ages_s", "usable"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
        assert (mine.clock, mine.limit) == (theirs.clock, theirs.limit)
    for name in ("items", "first_s", "last_s", "counts", "weights", "types", "recent"):
        mine, theirs = getattr(one.history, name), getattr(other.history, name)
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(one.similar_to, other.similar_to)
    assert (one.now_s, one.token, one.limit) == (other.now_s, other.token, other.limit)


@given(log=logs(), picks=st.lists(st.integers(-1, 3), min_size=1, max_size=9), like=st.booleans())
@settings(max_examples=40, deadline=None)
def test_many_users_are_gathered_as_each_one_alone(log, picks, like):
    world = World()
    world.learn(log)
    slots = [world.users.find(f"u{pick}") for pick in picks]
    had = [HAD if pick % 2 else 0 for pick in picks]
    similar_to = np.array([0], np.int32) if like else NO_SLOTS
    together = gathered(world, slots, had, similar_to)
    assert len(together) == len(slots)
    for number, slot in enumerate(slots):
        same(together[number], gathered(world, [slot], [had[number]], similar_to)[0])
        same(together[number], together[number].alone()[0])
        past = world.users.history(slot)
        np.testing.assert_array_equal(together[number].history.items, past.items)
        np.testing.assert_array_equal(together[number].history.recent, past.recent)


@given(log=logs(items=40), repeats=st.booleans(), like=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_who_speaks_and_what_is_usable_equal_plain_loops(log, repeats, like):
    world = World()
    world.catalogue.put(Product(item_id="i1", available=False))
    world.learn(log)
    similar_to = np.arange(min(like, len(world.items)), dtype=np.int32)
    for name in world.users.ids.names:
        slot = world.users.find(name)
        context = gathered(world, [slot], [0 if repeats else HAD], similar_to)[0]
        past, now_s = world.users.history(slot), NOW_MS / 1000 + slot
        expected = world.catalogue.available[: len(world.items)].copy()
        for item, weight, types in zip(past.items, past.weights, past.types, strict=True):
            if weight <= 0 or (not repeats and types & HAD):
                expected[item] = False
        np.testing.assert_array_equal(context.query.usable, expected)
        said = [(int(item), 1.0, 0.0) for item in similar_to]
        for at in past.recent[: RECENT_SIZE - len(said)]:
            if past.weights[at] > 0:
                loud = (0.1 if len(similar_to) else 1.0) * min(float(past.weights[at]), 1.0)
                said.append((int(past.items[at]), loud, max(now_s - int(past.last_s[at]), 0.0)))
        longer, query = context.longer, context.query
        assert longer.items.tolist() == [item for item, _, _ in said]
        np.testing.assert_allclose(longer.weights, [weight for _, weight, _ in said], rtol=1e-6)
        np.testing.assert_allclose(longer.ages_s, [age_s for _, _, age_s in said], rtol=1e-6)
        near = said[:CONTEXT_SIZE]
        assert query.items.tolist() == [item for item, _, _ in near]
        fading = [weight * 0.9**place for place, (_, weight, _) in enumerate(near)]
        np.testing.assert_allclose(query.weights, fading, rtol=1e-5)
        np.testing.assert_array_equal(query.ages_s, longer.ages_s[: len(near)])
        assert context.token == world.users.heads["token"][slot]


def test_what_was_gathered_stays_as_it_was():
    world = World()
    world.learn(seeded_log(200))
    slots = [world.users.find(f"u{n}") for n in range(5)]
    before, again = gathered(world, slots), gathered(world, slots)
    world.learn([Event(f"u{n}", f"new{n}", "purchase", START_S + 90_000) for n in range(5)])
    for one, other in zip(before, again, strict=True):
        same(one, other)
    assert before.usable.shape[1] < len(world.items)
    assert len(gathered(world, slots)[0].history.items) > len(before[0].history.items)


def test_long_histories_and_many_items_to_be_like():
    world = World(limits=StateLimits(entries_max=512))
    world.learn([Event("u", f"i{n}", "purchase", START_S + n) for n in range(300)])
    slot = world.users.find("u")
    like = np.arange(100, 180, dtype=np.int32)
    contexts = gathered(world, [slot, NONE, slot], similar_to=like)
    assert [len(context.history.items) for context in contexts] == [300, 0, 300]
    assert [len(context.longer.items) for context in contexts] == [80, 80, 80]
    assert contexts[1].query.items.tolist() == like.tolist()
    plain = gathered(world, [slot])[0]
    assert plain.query.items.tolist() == list(range(299, 299 - CONTEXT_SIZE, -1))
    assert plain.longer.items.tolist() == list(range(299, 299 - RECENT_SIZE, -1))


def test_nobody_and_nothing():
    world = World()
    stranger = gathered(world, [NONE])[0]
    assert (
        len(stranger.history.items) == len(stranger.query.items) == len(stranger.longer.items) == 0
    )
    assert stranger.token == 0
    assert len(gathered(world, [])) == 0
    with pytest.raises(IndexError):
        gathered(world, [NONE])[1]
