"""Fold-in and refit against implicit; carriers against leaving an item out of the sum."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from models.mf import FactorsConfig, MatrixFactorisation, fold_in, refit
from tests.models.logs import query, table_of

CONFIG = FactorsConfig(factors=8, regularisation=0.1, alpha=4.0, iterations=5)


@pytest.fixture(scope="module")
def user_items():
    rng = np.random.default_rng(0)
    dense = (rng.random((60, 40)) < 0.15) * rng.integers(1, 4, (60, 40))
    return csr_matrix(dense.astype(np.float32))


@pytest.fixture(scope="module")
def factors(user_items):
    return refit(user_items, CONFIG)


def test_fold_in_equals_implicit(user_items, factors):
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        oracle = AlternatingLeastSquares(
            factors=8,
            regularization=0.1,
            alpha=CONFIG.alpha,
            num_threads=1,
            use_cg=False,
            dtype=np.float64,
        )
        oracle.item_factors = factors.astype(np.float64)
        gram = factors.astype(np.float64).T @ factors
        for user in range(0, 60, 7):
            row = user_items[user]
            got = fold_in(factors, gram, row.indices, row.data, CONFIG)
            # implicit's confidence is alpha times the entry, ours 1 + alpha times the weight.
            theirs = row.astype(np.float64)
            theirs.data += 1.0 / CONFIG.alpha
            expected = oracle.recalculate_user(0, theirs)
            np.testing.assert_allclose(got, expected, rtol=2e-3, atol=2e-4)


def test_fold_in_solves_the_normal_equations(factors):
    items = np.array([3, 5, 8], np.int32)
    weights = np.array([1.0, 0.5, 2.0], np.float32)
    y = factors.astype(np.float64)
    confidence = np.ones(len(y))
    confidence[items] += CONFIG.alpha * weights
    wanted = np.zeros(len(y))
    wanted[items] = 1.0
    left = (y.T * confidence) @ y + CONFIG.regularisation * np.eye(8)
    expected = np.linalg.solve(left, (y.T * confidence) @ wanted)
    got = fold_in(factors, y.T @ y, items, weights, CONFIG)
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_refits_are_deterministic_and_rank_what_users_have(user_items, factors):
    np.testing.assert_array_equal(factors, refit(user_items, CONFIG))
    model = MatrixFactorisation(CONFIG)
    table = table_of(model, 40)
    model.swap(table, np.arange(40, dtype=np.int32), factors)
    above = []
    for user in range(60):
        own = user_items[user].indices
        if not len(own):
            continue
        slots, scores = model.recommend(table, query(own, n_items=40))
        said = dict(zip(slots.tolist(), scores.tolist(), strict=True))
        rest = np.setdiff1d(np.arange(40), own)
        above.append(
            np.mean([said.get(i, 0.0) for i in own]) - np.mean([said.get(i, 0.0) for i in rest])
        )
    assert np.mean(above) > 0.3


def test_carriers_hold_the_largest_share_of_the_score(factors):
    model = MatrixFactorisation(CONFIG)
    table = table_of(model, 40)
    model.swap(table, np.arange(40, dtype=np.int32), factors)
    asked = query([2, 11, 30], [1.0, 0.4, 2.0], n_items=40)
    targets = np.array([0, 7, 11, 25], np.int32)
    carriers = model.carriers(table, asked, targets)
    y = table["vector"][:40].astype(np.float64)
    confidence = 1 + CONFIG.alpha * asked.weights.astype(np.float64)
    left = y.T @ y + CONFIG.regularisation * np.eye(8)
    left += (y[asked.items].T * (confidence - 1)) @ y[asked.items]
    shares = y[targets] @ np.linalg.inv(left) @ (y[asked.items].T * confidence)
    whole = y[targets] @ model.user_vector(table, asked)
    np.testing.assert_allclose(shares.sum(axis=1), whole, rtol=1e-3, atol=1e-5)
    for at, carrier in enumerate(carriers.tolist()):
        best = int(shares[at].argmax())
        assert carrier == (asked.items[best] if shares[at, best] > 0 else -1)


def test_without_factors_it_says_nothing():
    model = MatrixFactorisation(CONFIG)
    table = table_of(model)
    slots, _ = model.recommend(table, query([1, 2]))
    assert len(slots) == 0
