"""Popularity against plain sums."""

import numpy as np
import pytest

from models.popularity import Popularity, PopularityConfig
from tests.models.logs import item_events, query, table_of


def test_decayed_sums_equal_brute_force_with_late_events():
    rng = np.random.default_rng(0)
    items = rng.integers(0, 20, 3000)
    clock = np.arange(1.0, 3001.0)
    late = rng.random(3000) < 0.1
    clock[late] *= rng.random(late.sum())
    model = Popularity(PopularityConfig(half_lives_events=(30.0, 500.0)))
    table = table_of(model, 20)
    model.learn(table, item_events(items, clock=clock))
    for h, half_life in enumerate((30.0, 500.0)):
        expected = np.zeros(20)
        np.add.at(expected, items, 0.5 ** ((3000.0 - clock) / half_life))
        got = model.scores_of(table, h, 3000.0, np.arange(20, dtype=np.int32))
        np.testing.assert_allclose(got, expected, rtol=2e-3, atol=1e-6)


def test_counts_are_plain_counts():
    model = Popularity()
    table = table_of(model)
    events = item_events([3, 3, 4], is_new=[True, False, True], times_s=[50, 40, 60])
    model.learn(table, events)
    assert table["events"][[3, 4]].tolist() == [2, 1]
    assert table["users"][[3, 4]].tolist() == [1, 1]
    assert table["counts"][3, 3] == 2
    assert (table["first_s"][3], table["last_s"][3]) == (40, 50)


def test_returns_take_popularity_away_but_not_below_zero():
    model = Popularity()
    table = table_of(model)
    model.learn(table, item_events([1, 1, 2], weights=[1.0, -1.0, -1.0], clock=[1.0, 1.0, 1.0]))
    slots, _ = model.recommend(table, query([], clock=1.0))
    assert slots.tolist() == []
    assert (table["decayed"][:3] >= 0).all()


def test_top_lists_hold_the_top_and_follow_the_stream():
    model = Popularity(PopularityConfig(top=3, refresh_events=10))
    table = table_of(model, 8)
    model.learn(table, item_events([0, 0, 0, 1, 1, 2, 3], clock=[1.0] * 7))
    slots, scores = model.recommend(table, query([], clock=1.0, n_items=8))
    assert set(slots.tolist()) == {0, 1, 2} or set(slots.tolist()) == {0, 1, 3}
    assert scores.max() == pytest.approx(3.0, rel=1e-3)
    model.learn(table, item_events([7] * 9, clock=[2.0] * 9))
    assert 7 not in model.recommend(table, query([], clock=2.0, n_items=8))[0]
    assert 7 in model.recommend(table, query([], clock=11.0, n_items=8))[0]
