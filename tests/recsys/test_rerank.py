"""Re-ranking: caps, diversity, the new, the lift of the rare, against their definitions."""

from dataclasses import replace

import numpy as np
import pytest

from models.columns import NONE
from recsys.pipeline import Pipeline, PipelineConfig
from recsys.rerank import RerankConfig, choose, choose_best, fill, lift_rare, most_of
from recsys.twins import Twins
from streams.events import Product, RecommendationRequest
from tests.recsys.logs import START_S, Event, World, seeded_log


@pytest.fixture(scope="module")
def world():
    world = World()
    for n in range(12):
        world.catalogue.put(Product(item_id=f"i{n}", category="ab"[n % 2]))
    world.learn([Event(f"u{n}", f"i{n % 6}", "purchase", START_S + n) for n in range(60)])
    keys = world.items.ids.keys.copy()
    vectors = np.random.default_rng(0).normal(size=(12, 32)).astype(np.float32)
    vectors[1:4] = vectors[0]
    world.items.swap_factors("v1", keys, vectors)
    return world


@pytest.fixture
def context(world):
    return world.pipeline.context_for(world.users, NONE, (START_S + 100) * 1000, 10)


ITEMS = np.arange(12, dtype=np.int32)
SCORES = np.linspace(2, -2, 12).astype(np.float32)


def test_by_score_alone(context):
    scores = np.array([0.1, 3.0, 2.0], np.float32)
    assert choose(RerankConfig(), context, ITEMS[:3], scores, 2).tolist() == [1, 2]
    assert choose(RerankConfig(), context, ITEMS[:0], scores[:0], 5).tolist() == []


@pytest.mark.parametrize(
    "rules", [{"category_share_max": 0.5}, {"diversity": 0.3}, {"fresh_share": 0.2}]
)
def test_nothing_to_choose_from_gives_nothing(context, rules):
    assert choose(RerankConfig(**rules), context, ITEMS[:0], SCORES[:0], 5).tolist() == []


def test_categories_are_capped(context):
    scores = np.where(ITEMS % 2 == 0, 10.0 - ITEMS, -1.0 * ITEMS).astype(np.float32)
    config = RerankConfig(category_share_max=0.5)
    assert choose(config, context, ITEMS, scores, 4).tolist() == [0, 2, 1, 3]


def test_diversity_is_maximal_marginal_relevance(context):
    vectors = context.items.tables["profile"]["vector"][:12]
    category = context.catalogue.category[:12]
    relevance = (SCORES - SCORES.min()) / (SCORES.max() - SCORES.min())
    alike = 0.5 * (category[:, None] == category) + 0.5 * np.maximum(vectors @ vectors.T, 0)
    expected = []
    for _ in range(5):
        values = {
            at: 0.2 * relevance[at] - 0.8 * max((alike[at, b] for b in expected), default=0.0)
            for at in range(12)
            if at not in expected
        }
        expected.append(max(values, key=values.get))
    got = choose(RerankConfig(diversity=0.8), context, ITEMS, SCORES, 5)
    assert got.tolist() == expected
    assert got.tolist() != list(range(5))


def test_room_is_kept_for_the_new(context):
    config = RerankConfig(fresh_share=0.4)  # items 6 to 11 have no events
    assert choose(config, context, ITEMS, SCORES, 5).tolist() == [0, 1, 2, 6, 7]
    assert choose(config, context, ITEMS[:6], SCORES[:6], 5).tolist() == [0, 1, 2, 3, 4]
    assert choose(config, context, ITEMS, SCORES[::-1].copy(), 5).tolist() == [11, 10, 9, 8, 7]
    assert choose(config, context, ITEMS, SCORES, 20).tolist() == list(range(12))


def test_what_may_not_be_in_a_list():
    world = World()
    world.catalogue.put(Product(item_id="out", available=False))
    world.learn(
        [
            Event("u", "bought", "purchase", START_S),
            Event("u", "seen", "view", START_S + 1),
            Event("u", "bad", "dislike", START_S + 2),
            Event("v", "other", "view", START_S + 3),
        ]
    )

    def barred(config, *similar_to):
        pipeline = Pipeline(PipelineConfig(rerank=config), world.items, world.catalogue)
        request = RecommendationRequest(user_id="u", request_id="r", context_items=list(similar_to))
        user, now_ms = world.users.find("u"), (START_S + 100) * 1000
        context = pipeline.context_for(world.users, user, now_ms, 10, request)
        return {world.items.ids.names[slot] for slot in np.flatnonzero(~context.query.usable)}

    assert barred(RerankConfig()) == {"out", "bought", "seen", "bad"}
    assert barred(RerankConfig(repeats=True)) == {"out", "bad"}
    assert barred(RerankConfig(had_types=("purchase",))) == {"out", "bought", "bad"}
    assert "other" in barred(RerankConfig(), "other")


def test_the_best_of_several_lists_at_once_are_those_of_each(context):
    scores = np.random.default_rng(3).integers(0, 9, 60).astype(np.float32)
    starts = np.array([0, 25, 25, 29, 60])
    rows, bounds = choose_best(scores, starts, 10)
    for number in range(4):
        mine = scores[starts[number] : starts[number + 1]]
        alone = choose(RerankConfig(), context, ITEMS[:0], mine, 10)
        got = rows[bounds[number] : bounds[number + 1]]
        assert (got - starts[number]).tolist() == alone.tolist()


def test_short_lists_are_filled_by_popularity(world, context):
    listed, twins = np.array([0, 1], np.int32), Twins()
    more = fill(RerankConfig(), world.pipeline.popularity, context, twins, listed, 8)
    assert len(more) == 6
    assert not set(more.tolist()) & {0, 1}
    assert set(more[:4].tolist()) == {2, 3, 4, 5}
    assert more[4:].tolist() == [11, 10]
    twins.unite(1, np.array([11, 99], np.int32))  # one of later, too
    twins.unite(10, np.array([9, 8], np.int32))
    more = fill(RerankConfig(), world.pipeline.popularity, context, twins, listed, 8)
    assert more[4:].tolist() == [10, 7], "its twins make room for others"


def test_shares_of_lists_are_what_their_decimals_say():
    shares = [round(0.01 * n, 2) for n in range(1, 101)]
    assert [most_of(share, 100) for share in shares] == list(range(1, 101))
    assert [most_of(share, 10) for share in (0.01, 0.3, 0.79)] == [1, 3, 7]


def test_what_fills_a_list_fits_its_caps_while_anything_does(world, context):
    def filled(k, *listed, share=0.5):
        config = RerankConfig(category_share_max=share)
        held = np.array(listed, np.int32)
        more = fill(config, world.pipeline.popularity, context, Twins(), held, k)
        return [int(slot) % 2 for slot in more]  # odd and even are the two categories

    assert filled(6, 0, 2, 4) == [1, 1, 1]
    assert sorted(filled(8, 0, 2, 1)) == [0, 0, 1, 1, 1]
    assert len(filled(4, 0, 1, share=0.2)) == 2  # nothing fits, and yet the list is filled
    assert len(filled(20)) == 12


def test_the_new_fit_their_caps_or_stay_out(context):
    """Items 6 to 11 are new, and every second one is of the same category."""
    config = RerankConfig(category_share_max=0.5, fresh_share=0.5)
    for order in (SCORES, SCORES[::-1].copy()):
        listed = choose(config, context, ITEMS, order, 6)
        assert sorted(listed % 2) == [0, 0, 0, 1, 1, 1]
        assert (listed >= 6).sum() >= 3
    mine = np.array([0, 2, 4, 1, 3, 6, 8, 10], np.int32)  # the new are all even
    listed = mine[choose(config, context, mine, SCORES[:8], 6)]
    assert sorted(listed % 2) == [0, 0, 0, 1, 1]
    only = np.array([0, 2, 6, 8], np.int32)
    listed = only[choose(RerankConfig(category_share_max=0.5, fresh_share=0.5), context, only,
                         SCORES[:4], 4)]  # fmt: skip
    assert len(listed) == 2


def test_spread_lists_are_served(world):
    config = PipelineConfig(rerank=RerankConfig(diversity=0.3, fresh_share=0.2))
    spread = World(config)
    spread.learn([Event(f"u{n}", f"i{n % 30}", "purchase", START_S + n) for n in range(300)])
    for n in range(3):
        spread.catalogue.put(Product(item_id=f"new{n}"))
    ids = spread.ids(spread.recommend("nobody"))
    assert len(ids) == len(set(ids)) == 10
    assert sum(item.startswith("new") for item in ids) >= 2


def test_the_rare_are_lifted_list_by_list():
    rng = np.random.default_rng(0)
    starts = np.array([0, 7, 7, 40, 100])
    scores, events = rng.random(100).astype(np.float32), rng.integers(0, 5000, 100)
    lifts = np.array([0.5, 0.1, 0.0, 0.2], np.float32)
    got = lift_rare(scores, starts, events, lifts)
    each = np.repeat(lifts, np.diff(starts))
    np.testing.assert_allclose(got, scores - each * np.log(1.0 + events), atol=1e-5)
    np.testing.assert_array_equal(got[7:40], scores[7:40])
    alone = lift_rare(scores[40:], np.array([0, 60]), events[40:], lifts[3:])
    np.testing.assert_array_equal(got[40:], alone)


def lists_with(rerank, users):
    world = World(PipelineConfig(rerank=rerank))
    world.learn(seeded_log(2000))
    now_ms = (START_S + 31_000) * 1000
    slots = [world.users.find(user) for user in users]
    return world, [world.pipeline.recommend(world.users, slot, now_ms, 10) for slot in slots]


def test_lists_that_may_repeat_lift_the_rare():
    plain = RerankConfig(repeats=True, rare_lift=0.0)
    (before,) = lists_with(plain, ["u1"])[1]
    world, (after,) = lists_with(replace(plain, rare_lift=5.0), ["u1"])
    events = world.items.tables["popularity"].rows["events"]
    assert events[after.items].mean() < events[before.items].mean()
    both = sorted(set(before.items.tolist()) & set(after.items.tolist()))
    for item in both:
        was, now = (r.scores[r.items.tolist().index(item)] for r in (before, after))
        np.testing.assert_allclose(was - now, 5.0 * np.log(1.0 + events[item]), rtol=1e-3)


def test_other_lists_stay_as_they_are():
    """Of strangers, and those that hold only what is new to the user."""
    for repeats, user in ((True, "nobody"), (False, "u1")):
        plain = RerankConfig(repeats=repeats, rare_lift=0.0)
        (before,) = lists_with(plain, [user])[1]
        (after,) = lists_with(replace(plain, rare_lift=5.0), [user])[1]
        assert after.items.tolist() == before.items.tolist()
