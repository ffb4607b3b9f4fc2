"""EASE: weights from a refit, checked against the paper's closed form, read by kernels."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from models.ease import Ease, EaseConfig, Weights, fit
from tests.models.logs import query, table_of

RNG = np.random.default_rng(5)
CONFIG = EaseConfig(regularisation=2.0, neighbours=5)


def likes(users=200, items=12):
    return csr_matrix((RNG.random((users, items)) < 0.3).astype(np.float32))


def closed_form(matrix, regularisation):
    dense = (matrix.toarray() > 0).astype(np.float64)
    inverse = np.linalg.inv(dense.T @ dense + regularisation * np.eye(dense.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights


def of_table(model, slots, weights, size=20):
    table = table_of(model, size)
    model.swap(table, np.array(slots, np.int32), weights)
    return table


def test_the_largest_weights_of_the_closed_form_stay():
    matrix = likes()
    wanted, found = closed_form(matrix, 2.0), fit(matrix, CONFIG)
    for item in range(12):
        order = np.argsort(-np.abs(wanted[item]))[:5]
        assert found.neighbours[item].tolist() == order.tolist()
        np.testing.assert_allclose(found.values[item], wanted[item, order], rtol=1e-3, atol=1e-5)


def test_only_the_busiest_items_have_weights():
    matrix = csr_matrix(np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0]], np.float32))
    found = fit(matrix, EaseConfig(1.0, items=2, neighbours=3))
    assert found.neighbours.tolist() == [[1, -1, -1], [0, -1, -1], [-1] * 3, [-1] * 3]


@pytest.mark.parametrize("shape", [(3, 0), (3, 1), (0, 3)])
def test_where_there_are_no_pairs_there_are_no_weights(shape):
    found = fit(csr_matrix(np.ones(shape, np.float32)), CONFIG)
    assert found.neighbours.shape == (shape[1], 5)
    assert not found.values.any()


def test_scores_are_sums_over_all_that_is_liked():
    matrix = likes()
    weights, model = fit(matrix, EaseConfig(2.0, neighbours=11)), Ease(EaseConfig(neighbours=11))
    slots = RNG.permutation(20)[:12].astype(np.int32)
    table = of_table(model, slots, weights)
    past = slots[[0, 3, 7]]
    found, scores = model.recommend(table, query(past, n_items=20))
    wanted = closed_form(matrix, 2.0)[[0, 3, 7]].sum(axis=0)
    assert set(found.tolist()) == set(slots[wanted > 0].tolist())
    places = [slots.tolist().index(slot) for slot in found.tolist()]
    np.testing.assert_allclose(scores, wanted[places], rtol=1e-3, atol=1e-5)


def test_carriers_are_the_items_with_the_largest_weight():
    neighbours = np.array([[2, 3], [2, -1], [-1, -1], [-1, -1]], np.int32)
    values = np.array([[0.5, 0.4], [0.7, 0.0], [0.0, 0.0], [0.0, 0.0]], np.float32)
    model = Ease(EaseConfig(neighbours=2))
    table = of_table(model, range(4), Weights(neighbours, values))
    asked = np.array([2, 3, 1], np.int32)
    assert model.carriers(table, query([0, 1], n_items=20), asked).tolist() == [1, 0, -1]


def test_a_swap_replaces_all_weights():
    model = Ease(EaseConfig(neighbours=2))
    one = Weights(np.array([[1, -1], [0, -1]], np.int32), np.array([[1, 0], [1, 0]], np.float32))
    table = of_table(model, [4, 5], one)
    assert model.recommend(table, query([4], n_items=20))[0].tolist() == [5]
    model.swap(table, np.array([6, 7], np.int32), one)
    assert not len(model.recommend(table, query([4], n_items=20))[0])
    assert model.recommend(table, query([7], n_items=20))[0].tolist() == [6]


@pytest.mark.parametrize("width", [1, 4])
def test_a_refit_of_another_width_is_taken_as_far_as_there_is_room(width):
    neighbours = np.array([[3, 1, 2, -1], [-1] * 4, [-1] * 4, [-1] * 4], np.int32)
    values = np.array([[0.5, 0.4, 0.3, 0.0], [0.0] * 4, [0.0] * 4, [0.0] * 4], np.float32)
    table = of_table(
        Ease(EaseConfig(neighbours=2)), range(4), Weights(neighbours[:, :width], values[:, :width])
    )
    found, scores = Ease(EaseConfig(neighbours=2)).recommend(table, query([0], n_items=20))
    assert found.tolist() == [3, 1][:width]
    assert scores.tolist() == values[0, : min(width, 2)].tolist()


def test_what_is_spoken_for_and_against_alike_is_no_answer():
    model = Ease(EaseConfig(neighbours=2))
    neighbours = np.array([[3, 4], [3, 4], [3, -1], [-1, -1], [-1, -1]], np.int32)
    values = np.array([[1, 0.5], [-1, 0.5], [0.25, 0], [0, 0], [0, 0]], np.float32)
    table = of_table(model, range(5), Weights(neighbours, values))
    assert model.recommend(table, query([0, 1], n_items=20))[0].tolist() == [4]
    slots, scores = model.recommend(table, query([0, 1, 2], n_items=20))
    assert dict(zip(slots.tolist(), scores.tolist(), strict=True)) == {3: 0.25, 4: 1.0}
    assert not len(model.recommend(table, query([3], n_items=20))[0])


def test_a_weight_too_small_for_the_log_says_nothing():
    model = Ease(EaseConfig(neighbours=2))
    weights = Weights(np.array([[1, 2]] * 3, np.int32), np.zeros((3, 2), np.float32))
    table = of_table(model, range(3), weights)
    assert not len(model.recommend(table, query([0, 1], n_items=20))[0])
