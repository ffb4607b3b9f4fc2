"""One contract over every model."""

import numpy as np
import pytest

from models.checkpoint import load, save
from models.ease import Ease, EaseConfig, Weights
from models.item_knn import ItemKnn
from models.mf import FactorsConfig, MatrixFactorisation
from models.popularity import Popularity
from models.profile import Profile
from tests.models.logs import item_events, query, table_of, walks

COUNTED = {
    "popularity": Popularity,
    "knn": ItemKnn,
}
VECTORS = {
    "factors": lambda: MatrixFactorisation(FactorsConfig(factors=4)),
    "profile": lambda: Profile(FactorsConfig(factors=4)),
}
FITTED = VECTORS | {"ease": lambda: Ease(EaseConfig(neighbours=4))}
ALL = COUNTED | FITTED
SIZE = 50


def taught(name, count=200, seed=0):
    model = ALL[name]()
    table = table_of(model, SIZE)
    items, contexts = walks(count, seed=seed)
    model.learn(table, item_events(items, contexts))
    if name in VECTORS:
        vectors = np.random.default_rng(seed).normal(size=(SIZE, 4)).astype(np.float32)
        model.swap(table, np.arange(SIZE, dtype=np.int32), vectors)
    elif name in FITTED:
        neighbours = (np.arange(SIZE, dtype=np.int32)[:, None] + [1, 2, 3, 5]) % SIZE
        weights = np.sort(np.random.default_rng(seed).random((SIZE, 4)).astype(np.float32))[:, ::-1]
        model.swap(table, np.arange(SIZE, dtype=np.int32), Weights(neighbours, weights))
    return model, table


def answer(model, table, asked):
    slots, scores = model.recommend(table, asked)
    assert slots.dtype == np.int32
    assert scores.dtype == np.float32
    assert len(slots) == len(scores) == len(set(slots.tolist()))
    assert (slots >= 0).all()
    assert (slots < table.size).all()
    assert np.isfinite(scores).all()
    assert (scores > 0).all()
    order = np.lexsort((slots, -scores))
    return slots[order].tolist(), scores[order].tolist()


@pytest.mark.parametrize("name", ALL)
def test_it_says_nothing_of_an_empty_world(name):
    model = ALL[name]()
    assert answer(model, table_of(model, 0), query([], n_items=0)) == ([], [])


@pytest.mark.parametrize("name", COUNTED)
def test_it_learns_from_one_event(name):
    model = ALL[name]()
    table = table_of(model, SIZE)
    model.learn(table, item_events([3], [[2]]))
    assert 3 in answer(model, table, query([2], clock=1.0))[0]


@pytest.mark.parametrize("name", ALL)
def test_unknown_users_and_items_do_no_harm(name):
    model, table = taught(name)
    answer(model, table, query([]))
    for strange in ([SIZE - 1], [-1], [10**6], [3, -1, 10**6]):
        asked = query(strange)
        answer(model, table, asked)
        carriers = model.carriers(table, asked, np.array([0, 3], np.int32))
        assert len(carriers) == 2


@pytest.mark.parametrize("name", ALL)
def test_saved_and_loaded_it_gives_equal_scores(name, tmp_path):
    model, table = taught(name)
    asked = query([4, 9, 11], clock=200.0)
    before = answer(model, table, asked)
    save(tmp_path / "model", table.snapshot(), kind=name, version=1)
    again = ALL[name]()
    other = table_of(again, 0)
    other.restore(load(tmp_path / "model", kind=name, version=1))
    if name in VECTORS:
        again.prepare(other)
    assert answer(again, other, asked) == before
    np.testing.assert_array_equal(
        again.carriers(other, asked, np.array(before[0], np.int32)),
        model.carriers(table, asked, np.array(before[0], np.int32)),
    )


@pytest.mark.parametrize("name", ALL)
def test_same_events_same_answers(name):
    asked = query([4, 9, 11], clock=200.0)
    assert answer(*taught(name), asked) == answer(*taught(name), asked)


@pytest.mark.parametrize("name", ALL)
def test_nan_never_escapes(name):
    model, table = taught(name)
    items, contexts = walks(60, seed=3)
    weights = np.tile(np.array([np.nan, 1.0, -np.inf], np.float32), 20)
    model.learn(table, item_events(items, contexts, weights, clock=[300.0] * 60))
    answer(model, table, query([4, 9], clock=10_000.0))
    answer(model, table, query([4, 9], [np.nan, 1.0], clock=10_000.0))


@pytest.mark.parametrize("name", ALL)
def test_what_it_writes_it_has_touched(name):
    model, table = taught(name)
    before = table.rows[: table.size].tobytes()
    table.begin()
    items, contexts = walks(60, seed=5)
    model.learn(table, item_events(items, contexts, clock=[10_000.0] * 60))
    table.rollback()
    assert table.rows[: table.size].tobytes() == before


@pytest.mark.parametrize("name", ALL)
def test_rows_in_the_log_read_back_the_same(name):
    model, table = taught(name)
    slots = np.arange(SIZE, dtype=np.int32)
    keys = np.arange(1, SIZE + 1, dtype=np.uint64)
    rows = table.encode(slots, keys)
    other = table_of(model, SIZE)
    other.decode(slots, rows, lambda found: found.astype(np.int32) - 1)
    assert other.encode(slots, keys) == rows
