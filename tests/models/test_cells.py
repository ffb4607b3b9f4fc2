"""Cells: exact for few, near enough for many."""

import numpy as np
import pytest

from models.cells import Cells, CellsConfig


def clustered(count, seed=0):
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(50, 16))
    return (middles[rng.integers(0, 50, count)] + 0.4 * rng.normal(size=(count, 16))).astype(
        np.float32
    )


def test_few_vectors_are_searched_exactly():
    vectors = clustered(1000)
    vectors[7] = 0.0
    usable = np.random.default_rng(1).random(1000) < 0.7
    cells = Cells(vectors)
    assert len(cells) == 999
    for user in clustered(20, seed=2):
        slots, scores = cells.search(user, usable, 30)
        exact = np.where(usable, vectors @ user, -np.inf)
        assert set(slots.tolist()) == set(np.argsort(-exact)[:30].tolist())
        np.testing.assert_allclose(scores, exact[slots], rtol=1e-4)


def test_of_many_most_of_the_best_are_found():
    vectors = clustered(20_000)
    usable = np.ones(20_000, np.bool_)
    cells = Cells(vectors, CellsConfig(look_at=2_000))
    assert sorted(cells.slots.tolist()) == list(range(20_000))
    recall = []
    for user in clustered(50, seed=2):
        slots, _ = cells.search(user, usable, 50)
        exact = np.argsort(-(vectors @ user))[:50]
        recall.append(len(set(slots.tolist()) & set(exact.tolist())) / 50)
    assert np.mean(recall) > 0.95


def recall_at_50(vectors, users):
    cells, usable, shares = Cells(vectors), np.ones(len(vectors), np.bool_), []
    for user in users:
        slots, scores = cells.search(user, usable, 60)
        exact = np.argsort(-(vectors @ user))[:50]
        shares.append(np.isin(exact, slots[np.argsort(-scores)[:50]]).mean())
    return np.mean(shares)


def test_a_few_long_vectors_do_not_hide_from_the_cells():
    vectors = clustered(20_000)
    vectors *= (0.2 + np.random.default_rng(3).pareto(2, 20_000)).astype(np.float32)[:, None]
    assert recall_at_50(vectors, clustered(40, seed=2)) > 0.98


def test_vectors_without_any_cells_are_looked_at_all_the_longer():
    vectors = np.random.default_rng(4).normal(size=(20_000, 16)).astype(np.float32)
    users = np.random.default_rng(5).normal(size=(40, 16)).astype(np.float32)
    assert Cells(vectors).look_at > 2 * Cells(clustered(20_000)).look_at
    assert recall_at_50(vectors, users) > 0.97


def test_nothing_is_found_in_nothing():
    assert len(Cells(np.zeros((5, 3), np.float32))) == 0
    slots, _ = Cells(np.zeros((0, 3), np.float32)).search(
        np.ones(3, np.float32), np.ones(0, np.bool_), 5
    )
    assert len(slots) == 0
    one = Cells(np.ones((1, 3), np.float32))
    assert len(one.search(-np.ones(3, np.float32), np.ones(1, np.bool_), 5)[0]) == 0
    assert len(one.search(np.ones(3, np.float32), np.ones(1, np.bool_), 0)[0]) == 0


def test_who_else_is_searched_for_changes_nothing():
    vectors, rng = clustered(5_000), np.random.default_rng(6)
    users = clustered(7, seed=2)
    masks = [rng.random(5_000) < share for share in (1.0, 0.999, 0.5, 1.0, 0.9, 0.0, 1.0)]
    tops = [30, 60, 1, 200, 30, 30, 60]
    cells = Cells(vectors)
    together = cells.search_all(users, np.stack(masks), np.array(tops))
    for number, (user, mask, top) in enumerate(zip(users, masks, tops, strict=True)):
        slots, scores = together.to(number)
        alone = cells.search(user, mask, top)
        np.testing.assert_array_equal(slots, alone[0])
        np.testing.assert_array_equal(scores, alone[1])
        assert mask[slots].all()
        assert len(slots) <= top


@pytest.mark.parametrize("hidden", [0, 5, 31, 33, 60, 200, 970, 999])
def test_the_best_that_are_left_are_found_however_many_better_ones_are_not_usable(hidden):
    vectors = clustered(1000)
    cells = Cells(vectors)
    for user in clustered(10, seed=3):
        usable = np.ones(1000, np.bool_)
        order = np.argsort(-(vectors @ user))
        usable[order[:hidden]] = False
        slots, scores = cells.search(user, usable, 30)
        positive = [slot for slot in order[hidden:].tolist() if vectors[slot] @ user > 1e-4]
        assert set(slots.tolist()) >= set(positive[:30])
        assert usable[slots].all()
        assert (scores > 0).all()


def test_questions_that_want_many_cells_get_them_in_order():
    vectors = np.random.default_rng(4).normal(size=(20_000, 16)).astype(np.float32)
    usable, user = np.ones(20_000, np.bool_), vectors[0] + vectors[1]
    exact = set(np.argsort(-(vectors @ user))[:50].tolist())
    found = []
    for look_at in (1_024, 8_000, 15_000, 19_900):
        cells = Cells(vectors, CellsConfig(look_at=look_at, recall=0.0))
        found.append(len(exact & set(cells.search(user, usable, 50)[0].tolist())))
    assert found == sorted(found)
    assert found[-1] == 50


def test_same_seed_same_cells():
    vectors = clustered(5_000)
    first, second = Cells(vectors), Cells(vectors)
    np.testing.assert_array_equal(first.slots, second.slots)
