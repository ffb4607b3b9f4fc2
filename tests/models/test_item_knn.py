"""Item kNN and sequences against brute force."""

import math
from collections import defaultdict

import numpy as np
import pytest

from models.item_knn import PairConfig, PairModel
from models.sequence import Sequence
from tests.models.logs import item_events, query, table_of, walks


def brute_force(config, items, contexts, weights, clock, now):
    """Decayed pair weights, masses and sums, in dictionaries."""
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


def expected_scores(config, pairs, masses, outs, history, query_weights):
    scores = defaultdict(float)
    s = config.shrinkage
    for source, weight in zip(history, query_weights, strict=True):
        for (a, b), value in pairs.items():
            if a == source:
                if config.conditional:
                    scores[b] += weight * value / (outs[a] + s)
                else:
                    scores[b] += weight * value / math.sqrt((masses[a] + s) * (masses[b] + s))
    return scores


@pytest.mark.parametrize(
    "config",
    [
        PairConfig(neighbours=64),
        PairConfig(neighbours=64, half_life_events=40.0, shrinkage=0.3),
        PairConfig(neighbours=64, positions=3, both_ways=False, conditional=True),
        PairConfig(neighbours=64, half_life_events=25.0, conditional=True, position_decay=0.5),
    ],
)
def test_scores_equal_brute_force(config):
    items, contexts = walks(600)
    rng = np.random.default_rng(1)
    weights = rng.choice([0.5, 1.0, -1.0], 600)
    clock = np.arange(1.0, 601.0)
    late = rng.random(600) < 0.1
    clock[late] *= rng.random(late.sum())
    model = PairModel("pairs", config)
    table = table_of(model)
    for start in range(0, 600, 150):
        span = slice(start, start + 150)
        model.learn(table, item_events(items[span], contexts[span], weights[span], clock[span]))
    history, query_weights = [4, 9, 17], [1.0, 0.7, 0.2]
    pairs, masses, outs = brute_force(config, items, contexts, weights, clock, 600.0)
    expected = expected_scores(config, pairs, masses, outs, history, query_weights)
    slots, scores = model.recommend(table, query(history, query_weights, clock=600.0))
    assert set(slots.tolist()) == {item for item, score in expected.items() if score > 0}
    for slot, score in zip(slots.tolist(), scores.tolist(), strict=True):
        assert score == pytest.approx(expected[slot], rel=1e-3)
    carriers = model.carriers(table, query(history, query_weights, clock=600.0), slots)
    for slot, carrier in zip(slots.tolist(), carriers.tolist(), strict=True):
        alone = {
            source: expected_scores(config, pairs, masses, outs, [source], [weight])[slot]
            for source, weight in zip(history, query_weights, strict=True)
        }
        assert alone[carrier] == pytest.approx(max(alone.values()), rel=1e-3)


def test_lists_stay_bounded_and_keep_the_strong():
    model = PairModel("pairs", PairConfig(neighbours=4, positions=1, both_ways=False))
    table = table_of(model, 100)
    strong = [1, 2, 3] * 10
    model.learn(table, item_events(strong, [[0]] * 30))
    model.learn(table, item_events(list(range(10, 60)), [[0]] * 50))
    assert {1, 2, 3} <= set(table["item"][0].tolist())


def test_old_neighbours_fade_out_of_a_full_list():
    model = PairModel("pairs", PairConfig(10.0, neighbours=2, positions=1, both_ways=False))
    table = table_of(model)
    model.learn(table, item_events([1, 2] * 5, [[0]] * 10, clock=[1.0] * 10))
    model.learn(table, item_events([3, 3, 4, 4], [[0]] * 4, clock=[500.0] * 4))
    assert set(table["item"][0].tolist()) == {3, 4}


def test_far_along_the_clock_nothing_overflows():
    model = PairModel("pairs", PairConfig(5.0))
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
    model = Sequence()
    table = table_of(model)
    model.learn(table, item_events([1, 2, 3, 4], [[], [1], [2, 1], [3, 2, 1]]))
    assert model.recommend(table, query([4]))[0].tolist() == []
    slots, scores = model.recommend(table, query([1]))
    assert slots[np.argsort(-scores)].tolist() == [2, 3, 4]
    assert model.recommend(table, query([9, 9, 9, 1]))[0].tolist() == []
