"""Item kNN in its channels against brute force."""

import math
from collections import defaultdict

import numpy as np
import pytest

from models.base import Queries
from models.item_knn import FOLLOWS, LONG, SHORT, Channel, ItemKnn, KnnConfig, Readings
from tests.models.logs import item_events, query, table_of, walks


def brute_force(config, items, contexts, weights, clock, now):
    """Decayed pair weights, masses and sums of one channel, in dictionaries."""
    pairs, masses, outs = defaultdict(float), defaultdict(float), defaultdict(float)
    for item, before, weight, at in zip(items, contexts, weights, clock, strict=True):
        if weight <= 0:
            continue
        fade = 0.5 ** ((now - at) / config.half_life_events) if config.half_life_events else 1.0
        masses[item] += weight * fade
        for position, other in enumerate(before[: config.positions]):
            strength = weight * fade * config.position_decay**position
            pairs[other, item] += strength
            outs[other] += strength
            if config.both_ways:
                pairs[item, other] += strength
                outs[item] += strength
    return pairs, masses, outs


def expected_scores(conditional, s, pairs, masses, outs, history, query_weights):
    scores = defaultdict(float)
    for source, weight in zip(history, query_weights, strict=True):
        for (a, b), value in pairs.items():
            if a == source:
                if conditional:
                    scores[b] += weight * value / (outs[a] + s)
                else:
                    scores[b] += weight * value / math.sqrt((masses[a] + s) * (masses[b] + s))
    return scores


CHANNELS = (
    Channel(),
    Channel(40.0),
    Channel(0.0, 3, 0.9, both_ways=False),
    Channel(25.0, position_decay=0.5),
)


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("channel", range(len(CHANNELS)))
@pytest.mark.parametrize("shrinkage", [1.0, 0.3])
def test_scores_equal_brute_force(channel, conditional, shrinkage):
    items, contexts = walks(600)
    rng = np.random.default_rng(1)
    weights = rng.choice([0.5, 1.0, -1.0], 600)
    clock = np.arange(1.0, 601.0)
    late = rng.random(600) < 0.1
    clock[late] *= rng.random(late.sum())
    model = ItemKnn(KnnConfig(64, CHANNELS, shrinkage))
    table = table_of(model)
    for start in range(0, 600, 150):
        span = slice(start, start + 150)
        model.learn(table, item_events(items[span], contexts[span], weights[span], clock[span]))
    history, query_weights = [4, 9, 17], [1.0, 0.7, 0.2]
    counted = brute_force(CHANNELS[channel], items, contexts, weights, clock, 600.0)
    expected = expected_scores(conditional, shrinkage, *counted, history, query_weights)
    asked = query(history, query_weights, clock=600.0)
    slots, scores = model.recommend(table, asked, channel, conditional)
    assert set(slots.tolist()) == {item for item, score in expected.items() if score > 0}
    for slot, score in zip(slots.tolist(), scores.tolist(), strict=True):
        assert score == pytest.approx(expected[slot], rel=1e-3)
    carriers = model.carriers(table, asked, slots, channel, conditional)
    for slot, carrier in zip(slots.tolist(), carriers.tolist(), strict=True):
        alone = {
            source: expected_scores(conditional, shrinkage, *counted, [source], [weight])[slot]
            for source, weight in zip(history, query_weights, strict=True)
        }
        assert alone[carrier] == pytest.approx(max(alone.values()), rel=1e-3)


def test_readings_together_say_what_each_says_alone():
    model = ItemKnn()
    table = table_of(model)
    items, contexts = walks(600)
    model.learn(table, item_events(items, contexts))
    fading = np.array([[1.0, 0.0, 0.0], [1.0, 0.5, 0.0], [0.9, 0.8, 0.7]], np.float32)
    readings = Readings(np.array([LONG, FOLLOWS, SHORT]), np.array([False, True, False]), fading)
    asked = [query([4, 9, 17], [1.0, 1.0, 1.0], clock=600.0), query([], [], clock=600.0)]
    asked.append(query([9, 3], [0.5, 0.25], clock=600.0))
    queries = Queries.of(asked, np.stack([each.usable for each in asked]))
    places, limits = np.zeros(50, np.int32), np.array([[3, 60, 5]] * 3)
    queries.usable[:, 7::2] = False
    read = model.read_all(table, queries, readings, limits, places)
    assert not places.any()
    for number, each in enumerate(asked):
        for r in range(3):
            slots, scores = read.of(number, r)
            assert len(set(slots.tolist())) == len(slots)
            said = dict(zip(slots.tolist(), scores.tolist(), strict=True))
            start, kept = read.best_at[number, r], read.kept[number, r]
            best = read.slots[start : start + kept].tolist()
            good = {
                slot: said[slot] for slot in said if said[slot] > 0 and queries.usable[number, slot]
            }
            assert set(best) <= set(good)
            assert (
                sorted(said[slot] for slot in best) == sorted(good.values())[-limits[number, r] :]
            )
            heard = min(int((fading[r] > 0).sum()), len(each.items))
            weights = each.weights[:heard] * fading[r, :heard]
            alone, expected = model.recommend(
                table, query(each.items[:heard], weights, clock=600.0),
                readings.channels[r], readings.conditional[r],
            )  # fmt: skip
            assert {slot for slot, score in said.items() if score > 0} == set(alone.tolist())
            found = [said[slot] for slot in alone.tolist()]
            np.testing.assert_allclose(found, expected, rtol=1e-6)


ONE_WAY = (Channel(0.0, 1, both_ways=False), Channel())


def test_lists_stay_bounded_and_keep_the_strong():
    model = ItemKnn(KnnConfig(4, ONE_WAY))
    table = table_of(model, 100)
    strong = [1, 2, 3] * 10
    model.learn(table, item_events(strong, [[0]] * 30))
    model.learn(table, item_events(list(range(10, 60)), [[0]] * 50))
    assert {1, 2, 3} <= set(table["item"][0].tolist())


def test_old_neighbours_fade_out_of_a_full_list():
    model = ItemKnn(KnnConfig(2, (Channel(10.0, 1, both_ways=False), Channel(10.0))))
    table = table_of(model)
    model.learn(table, item_events([1, 2] * 5, [[0]] * 10, clock=[1.0] * 10))
    model.learn(table, item_events([3, 3, 4, 4], [[0]] * 4, clock=[500.0] * 4))
    assert set(table["item"][0].tolist()) == {3, 4}


def test_a_new_neighbour_takes_nothing_over_from_the_one_that_left():
    model = ItemKnn(KnnConfig(2, ONE_WAY))
    table = table_of(model)
    model.learn(table, item_events([1] * 9 + [2] * 5, [[0]] * 14))
    model.learn(table, item_events([3], [[0]], clock=[15.0]))
    assert table["item"][0].tolist() == [1, 3]
    assert table["weight"][0].tolist() == [9.0, 1.0, 9.0, 1.0]


def test_far_along_the_clock_nothing_overflows():
    model = ItemKnn(KnnConfig(channels=(Channel(5.0), Channel(50.0))))
    table = table_of(model)
    for clock in (1.0, 1e4, 1e8, 2e9):
        model.learn(table, item_events([1, 2], [[], [1]], clock=[clock, clock]))
        slots, scores = model.recommend(table, query([1], clock=clock))
        assert slots.tolist() == [2]
        assert np.isfinite(scores).all()
    late = item_events([1, 2], [[], [1]], clock=[1.0, 1.0])
    before = model.recommend(table, query([1], clock=2e9))[1]
    model.learn(table, late)
    np.testing.assert_allclose(model.recommend(table, query([1], clock=2e9))[1], before, rtol=1e-3)


def test_sequences_are_directed_and_look_at_the_last_three():
    model = ItemKnn()
    table = table_of(model)
    model.learn(table, item_events([1, 2, 3, 4, 5], [[], [1], [2, 1], [3, 2, 1], [4, 3, 2, 1]]))
    assert model.recommend(table, query([5]), FOLLOWS, conditional=True)[0].tolist() == []
    slots, scores = model.recommend(table, query([1]), FOLLOWS, conditional=True)
    assert slots[np.argsort(-scores)].tolist() == [2, 3, 4]


def test_what_was_forgotten_is_alike_nothing():
    """Its neighbours still hold it, but an item of no mass would be the rarest of all."""
    model = ItemKnn(KnnConfig(4, (Channel(), Channel(40.0))))
    table = table_of(model)
    model.learn(table, item_events([1] * 60 + [2] * 60, [[0]] * 120))
    table.touch(np.array([1], np.int32))
    table.clear(np.array([1], np.int32))
    items, scores = model.recommend(table, query([0]))
    assert dict(zip(items.tolist(), scores.tolist(), strict=True)).get(1, 0.0) == 0.0
    assert 2 in items
