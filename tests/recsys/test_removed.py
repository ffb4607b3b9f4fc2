"""Every candidate that a list leaves out has its reason."""

import numpy as np

from recsys.pipeline import PipelineConfig
from recsys.removed import reason_of, removed
from recsys.rerank import RerankConfig
from recsys.rules import Rule, Rules
from streams.events import Product
from tests.recsys.logs import START_S, Event, World

NOW_MS = (START_S + 1_000) * 1000


def shop(rerank):
    world = World(PipelineConfig(rerank=rerank))
    for n in range(30):
        world.catalogue.put(Product(item_id=f"i{n}", category="ab"[n % 2], brand="z"))
    world.learn([Event(f"u{n % 7}", f"i{n % 30}", "view", START_S + n) for n in range(300)])
    world.learn([Event("me", f"i{n}", "purchase", START_S + 400 + n) for n in range(3)])
    world.learn([Event("me", "i4", "dislike", START_S + 500)])
    world.catalogue.put(Product(item_id="i5", category="a", available=False))
    world.catalogue.remove("i6")
    world.pipeline.rules = Rules([Rule(name="no sevens", action="exclude", items=["i7"])])
    return world


def reasons(world, k=5):
    user = world.users.find("me")
    found = removed(world.pipeline, world.users, user, NOW_MS, k)
    listed = world.ids(world.pipeline.recommend(world.users, user, NOW_MS, k))
    return {world.items.ids.names[each.slot]: each.reason for each in found}, listed


def test_each_reason_is_told():
    world = shop(RerankConfig())
    told, listed = reasons(world)
    assert told["i0"] == "had before"
    assert told["i4"] == "disliked or given back"
    assert told["i5"] == "not available"
    assert told["i6"] == "taken off the catalogue"
    assert told["i7"] == "excluded by the rule 'no sevens'"
    assert not set(told) & set(listed)
    rest = [reason for item, reason in told.items() if item not in {f"i{n}" for n in range(8)}]
    assert rest
    assert all("below the list's 5" in reason for reason in rest)


def test_what_may_come_again_was_not_had_before():
    told, listed = reasons(shop(RerankConfig(repeats=True)))
    assert told.get("i0", "in the list") != "had before"
    assert len(listed) == 5


def test_a_cap_is_a_reason():
    told, listed = reasons(shop(RerankConfig(category_share_max=0.4)), k=5)
    assert "enough of its category" in told.values()
    assert len(listed) <= 5


def test_what_was_shown_in_vain_is_told():
    world = shop(RerankConfig(impression_discount=9.0))
    listed = reasons(world)[1]
    world.learn([Event("me", listed[0], "impression", START_S + 900 + n) for n in range(9)])
    told, others = reasons(world)
    assert listed[0] not in others
    assert told[listed[0]] == "shown before and not acted on"


def test_what_left_the_state_is_known_by_its_key_alone_and_not_listed():
    world = shop(RerankConfig(repeats=True))
    world.items.ids._named[world.items.find("i1")] = False  # as after a restart
    told, listed = reasons(world, 20)
    assert "i1" not in listed
    assert told["i1"] == "forgotten: nobody has touched it for long"


def test_an_item_alone_is_asked_for():
    world = shop(RerankConfig())
    user = world.users.find("me")
    told, listed = reasons(world)

    def why(item):
        slot = world.items.find(item)
        return reason_of(world.pipeline, world.users, user, NOW_MS, slot, 5)

    assert why(listed[0]) is None
    assert why("i0") == told["i0"]
    world.catalogue.put(Product(item_id="far", available=False))
    assert why("far") == "not available"


def test_the_weights_of_the_ranker_are_its_slopes():
    world = shop(RerankConfig())
    ranker = world.pipeline.rank.ranker
    rng = np.random.default_rng(0)
    for _ in range(200):
        features = rng.normal(size=(20, ranker.n_features)).astype(np.float32)
        ranker.learn(features, np.array([int(features[:, 3].argmax())]))
    straight, slope = ranker.weights_by_feature()
    assert np.abs(slope).argmax() == 3
    assert straight.shape == slope.shape == (ranker.n_features,)
    mean = ranker.centre.astype(np.float32)
    for at in (3, 10):
        step = np.zeros_like(mean)
        step[at] = 1e-3 * np.sqrt(ranker.spread[at])
        both, starts = np.stack([mean - step, mean + step]), np.array([0, 2])
        low, high = ranker.scores_of_all(both, starts)
        assert abs((high - low) / 2e-3 - slope[at]) < 0.05 * max(abs(slope[at]), 0.1)
