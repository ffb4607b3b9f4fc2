"""The pipeline: learn, fold, recommend, explain."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recsys.item_updates import ItemUpdates
from recsys.pipeline import PipelineConfig
from recsys.rank import RankConfig
from recsys.rerank import RerankConfig
from recsys.user_state import StateLimits
from recsys.warm_up import practise
from streams.events import CandidateFilter, Product, RecommendationRequest
from tests.recsys.logs import START_S, Event, World, batch_of, logs, seeded_log

REPEATS = PipelineConfig(rerank=RerankConfig(repeats=True))


def request(**fields):
    return RecommendationRequest(user_id="u", request_id="r", **fields)


@pytest.fixture(scope="module")
def shop():
    """A taught world with a catalogue. Tests do not write to it."""
    world = World()
    for n in range(60):
        world.catalogue.put(
            Product(
                item_id=f"i{n}", title=f"Thing {n}", category=f"c{n // 10}", price=float(n),
                available=n != 5,
            )
        )  # fmt: skip
    for start in range(0, 2000, 100):
        world.learn(seeded_log(2000)[start : start + 100])
    keys = world.items.ids.keys.copy()
    world.items.swap_factors(
        "als-1", keys, np.random.default_rng(0).normal(size=(len(keys), 32)).astype(np.float32)
    )
    return world


def check(world, ranked, k):
    """What holds of every list."""
    ids = world.ids(ranked)
    assert len(ids) == len(set(ids)) <= k
    assert None not in ids
    assert np.isfinite(ranked.scores).all()
    assert (np.diff(ranked.scores) <= 0).all()
    assert world.catalogue.available[ranked.items].all()
    lines = world.pipeline.explain(ranked)
    assert [line.item_id for line in lines] == ids
    assert [line.rank for line in lines] == list(range(1, len(ids) + 1))
    assert all(line.reason and line.sources for line in lines)
    return ids


def test_a_list_holds_what_the_user_does_not_have(shop):
    for n in range(20):
        past = shop.users.history(shop.users.find(f"u{n}"))
        ids = check(shop, shop.recommend(f"u{n}"), 10)
        assert len(ids) == 10
        assert not {shop.items.find(item) for item in ids} & set(past.items.tolist())


def test_it_finds_the_users_group():
    world = World(REPEATS)
    log = seeded_log(3000)
    for start in range(0, 3000, 50):
        world.learn(log[start : start + 50])
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 6, 20)
    hits = []
    for n in range(20):
        ids = world.ids(world.recommend(f"u{n}", START_S + 30_000))
        hits += [int(item[1:]) // 10 == groups[n] for item in ids]
    assert np.mean(hits) > 0.9


def test_a_new_user_and_an_empty_world_get_what_there_is(shop):
    assert len(check(shop, shop.recommend("nobody"), 10)) == 10
    world = World()
    assert len(world.recommend("nobody")) == 0
    world.catalogue.put(Product(item_id="a"))
    world.catalogue.put(Product(item_id="b"))
    assert check(world, world.recommend("nobody"), 10) == ["b", "a"]


def test_new_products_have_their_place(shop):
    world = World()
    world.learn(seeded_log(100))
    world.catalogue.put(Product(item_id="brand-new"))
    assert "brand-new" in world.ids(world.recommend("nobody", k=100))


def test_long_lists(shop):
    ids = check(shop, shop.recommend("nobody", k=1000), 1000)
    assert len(ids) == 59


def test_unavailable_products_never_come(shop):
    world = shop
    for k in (1, 10, 100):
        assert "i5" not in world.ids(world.recommend("nobody", k=k))
    asked = request(k=100, filter=CandidateFilter(items=["i5", "i6"]))
    assert world.ids(world.recommend("nobody", k=100, request=asked)) == ["i6"]


def test_filters_hold(shop):
    asked = request(filter=CandidateFilter(categories=["c2"], price_max=25.0))
    ids = check(shop, shop.recommend("nobody", request=asked), 10)
    assert set(ids) == {f"i{n}" for n in range(20, 26)}
    asked = request(filter=CandidateFilter(items=["i7", "i9"], exclude=["i9"]))
    assert check(shop, shop.recommend("nobody", request=asked), 10) == ["i7"]
    asked = request(filter=CandidateFilter(categories=["none such"]))
    assert check(shop, shop.recommend("nobody", request=asked), 10) == []


def test_similar_to_these(shop):
    asked = request(context_items=["i42", "i44", "unheard of"], k=5)
    ids = check(shop, shop.recommend("nobody", k=5, request=asked), 5)
    assert all(int(item[1:]) // 10 == 4 for item in ids)
    assert not {"i42", "i44"} & set(ids)


def test_reasons_are_true(shop):
    for n in range(20):
        ranked = shop.recommend(f"u{n}")
        past = set(shop.users.history(shop.users.find(f"u{n}")).items.tolist())
        for at, line in enumerate(shop.pipeline.explain(ranked)):
            lead, carrier = int(ranked.lead[at]), int(ranked.carriers[at])
            assert lead < 0 or shop.pipeline.sources[lead].name in line.sources
            if carrier < 0:
                continue
            assert carrier in past
            assert shop.catalogue.title(carrier) in line.reason
            name = shop.pipeline.sources[lead].name
            if name.startswith("knn") or name == "sequence":
                assert ranked.items[at] in shop.items.tables[name]["item"][carrier]


def test_returns_and_dislikes_keep_an_item_out():
    world = World(REPEATS)
    world.learn(seeded_log(300))
    world.learn(
        [
            Event("u1", "i7", "purchase", START_S + 9000),
            Event("u1", "i8", "dislike", START_S + 9001),
            Event("u1", "i7", "return", START_S + 9002),
            Event("u1", "i9", "purchase", START_S + 9003),
        ]
    )
    ids = world.ids(world.recommend("u1", k=100))
    assert not {"i7", "i8"} & set(ids)
    assert "i9" in ids


def test_repeats_are_a_setting():
    log = [Event("u", "tea", "purchase", START_S + n) for n in range(5)]
    again, never = World(REPEATS), World()
    again.learn(log)
    never.learn(log)
    assert again.ids(again.recommend("u")) == ["tea"]
    assert never.ids(never.recommend("u")) == []


def test_impressions_are_counted_and_not_learned_from():
    world = World()
    world.learn([Event("u", "a", "impression", START_S)])
    slot = world.users.find("u")
    assert world.users.heads["counts"][slot, 8] == 1
    assert len(world.users.history(slot).items) == 0


@pytest.mark.parametrize("threads", [1, 2])
@given(log=logs(), want=st.integers(0, 2**60))
@example(
    log=[Event("u3", "i9", "view", START_S), Event("u3", "i2", "impression", START_S + 1)], want=1
)
@settings(max_examples=20, deadline=None)
def test_lists_on_the_way_are_those_after_each_event(threads, log, want):
    wanted = np.array([want >> (n % 60) & 1 for n in range(len(log))], np.bool_)
    together, single = World(PipelineConfig(threads=threads)), World()
    together.learn(seeded_log(100))
    single.learn(seeded_log(100))
    batch = batch_of(together.users, log)
    updates, lists = together.pipeline.learn_and_recommend(together.users, batch, wanted, 5)
    plain = single.pipeline.learn(single.users, batch_of(single.users, log))
    np.testing.assert_array_equal(updates.context, plain.context)
    assert [ranked is not None for ranked in lists] == wanted.tolist()
    other = World()
    other.learn(seeded_log(100))
    for n, event in enumerate(log):
        step = batch_of(other.users, [event])
        other.pipeline.learn(other.users, step)
        if wanted[n]:
            expected = other.pipeline.recommend(
                other.users, int(step.users[0]), int(step.times_ms[0]), 5
            )
            assert other.ids(expected) == together.ids(lists[n])
            np.testing.assert_array_equal(expected.scores, lists[n].scores)
            np.testing.assert_array_equal(expected.lead, lists[n].lead)
            np.testing.assert_array_equal(expected.carriers, lists[n].carriers)
    together.pipeline.close()


def test_a_list_is_made_even_where_its_user_is_forgotten_meanwhile(monkeypatch):
    monkeypatch.setattr("recsys.learn.SWEEP_EVENTS", 4)
    world = World(limits=StateLimits(entries_max=64, inactive_days_max=2))
    log = [Event("late", "i1", "purchase", START_S - 9 * 86_400)]
    log += [Event(f"u{n}", f"i{n}", "purchase", START_S + n) for n in range(7)]
    _, lists = world.pipeline.learn_and_recommend(
        world.users, batch_of(world.users, log), np.ones(len(log), np.bool_), 5
    )
    assert all(ranked is not None for ranked in lists)
    assert len(world.users.history(world.users.find("late")).items) == 0


def test_a_basket_is_one_step_and_its_features_come_from_before():
    world = World(PipelineConfig(rank=RankConfig(train_lists_full=10**9)))
    world.learn(seeded_log(500))
    basket = [Event("u1", f"i{n}", "purchase", START_S + 99_999) for n in range(60)]
    updates = world.pipeline.learn(world.users, batch_of(world.users, basket))
    assert len(updates.examples) == 1
    example = updates.examples[0]
    names = world.pipeline.rank.features.names
    assert not example.features[:, names.index("had")].any()
    assert len(example.chosen) > 10
    assert len(example.features) <= 64


def test_duplicates_make_no_examples_and_no_updates():
    world = World(PipelineConfig(rank=RankConfig(train_lists_full=10**9)))
    log = seeded_log(200)
    world.learn(log)
    again = world.pipeline.learn(world.users, batch_of(world.users, log[-10:]))
    assert len(again) == 0
    assert len(again.examples) == 0


def test_examples_do_not_depend_on_chunks():
    config = PipelineConfig(rank=RankConfig(train_share_min=0.3, train_lists_full=0))
    log = seeded_log(600)
    found = []
    for size in (1, 50, 600):
        world = World(config)
        batches = (batch_of(world.users, log[at : at + size]) for at in range(0, len(log), size))
        found.append(
            [
                each
                for batch in batches
                for each in world.pipeline.learn(world.users, batch).examples
            ]
        )
    assert len(found[0]) > 100
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(one.features, other.features)
            np.testing.assert_array_equal(one.chosen, other.chosen)


def test_the_ranker_learns_and_its_weights_come_back():
    world = World(PipelineConfig(rank=RankConfig(train_lists_full=10**9)))
    log = seeded_log(1500)
    records = {}
    for start in range(0, 1500, 50):
        records.update(world.learn(log[start : start + 50])[1])
    assert world.pipeline.rank.ranker.steps > 5
    other = World(PipelineConfig(rank=RankConfig(train_lists_full=10**9)))
    other.items.load_records(records.items())
    other.users.load_records(world.users.records())
    assert other.pipeline.rank.ranker.pack() == world.pipeline.rank.ranker.pack()
    for n in range(20):
        mine, theirs = world.recommend(f"u{n}"), other.recommend(f"u{n}")
        np.testing.assert_allclose(mine.scores, theirs.scores, rtol=1e-5)
        assert world.ids(mine) == other.ids(theirs)


def test_item_updates_read_in_another_process_give_the_same_items():
    log = seeded_log(800)
    here, there = World(), World()
    for start in range(0, 800, 40):
        updates = here.pipeline.learn(here.users, batch_of(here.users, log[start : start + 40]))
        packed = updates.encode(here.items)
        here.pipeline.fold(updates)
        there.pipeline.fold(ItemUpdates.decode(there.items, packed))
    assert dict(here.items.records()) == dict(there.items.records())


def test_warm_up_leaves_no_trace():
    world = World()
    practise(world.pipeline)
    assert len(world.items) == 0
    assert len(world.users) == 0
    assert world.items.clock.now == 0
    assert world.items.ranker is world.pipeline.rank.ranker
