"""The online logit against the maximum of its posterior, found by scipy from all lists at once."""

import numpy as np
import pytest
from scipy.optimize import minimize

from models.logit import learn_list

TRUE = np.array([1.5, -1.0, 0.0, 0.5])


def lists(count, seed=0, size=12):
    """Lists whose answers are drawn from a logit with the weights TRUE, the chosen row first."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        x = rng.normal(size=(size, len(TRUE)))
        odds = np.exp(x @ TRUE)
        chosen = rng.choice(size, p=odds / odds.sum())
        yield np.concatenate([x[chosen : chosen + 1], np.delete(x, chosen, axis=0)])


def learned(rows, *, forget=0.0, prior=1.0, loud=1.0):
    weights, precision = np.zeros(len(TRUE)), prior * np.eye(len(TRUE))
    for x in rows:
        assert learn_list(x, 1, loud, forget, prior, weights, precision)
    return weights, precision


def test_it_comes_close_to_the_maximum_of_the_posterior():
    rows = list(lists(400))

    def cost(weights):
        scores = np.array([x @ weights for x in rows])
        told = np.log(np.exp(scores).sum(axis=1)) - scores[:, 0]
        return told.sum() + 0.5 * weights @ weights

    best = minimize(cost, np.zeros(len(TRUE))).x
    weights, precision = learned(rows)
    deviation = np.sqrt(np.diag(np.linalg.inv(precision)))
    assert np.abs(weights - best).max() < 2 * deviation.max()
    assert np.abs(weights - TRUE).max() < 4 * deviation.max()
    assert np.allclose(precision, precision.T)
    assert np.linalg.eigvalsh(precision).min() > 1.0


def test_a_sure_prior_moves_little():
    unsure, sure = (learned(lists(20), prior=prior)[0] for prior in (1.0, 300.0))
    assert np.abs(sure).max() < 0.2 < np.abs(unsure).max()


def test_what_is_forgotten_is_how_sure_it_was():
    weights, precision = learned(lists(300), forget=0.05)
    _, sure = learned(lists(300))
    assert precision.trace() < sure.trace() / 5
    # Twenty lists' worth is kept, so it follows users who changed their minds.
    for x in lists(100, seed=1):
        learn_list(-x, 1, 1.0, 0.05, 1.0, weights, precision)
    assert weights @ TRUE < 0


def test_many_choices_move_it_to_their_mean():
    x = next(lists(1))
    weights, precision = np.zeros(4), np.eye(4) * 300.0
    assert learn_list(x, 3, 2.0, 0.0, 300.0, weights, precision)
    slope = 2.0 * (x[:3].mean(axis=0) - x.mean(axis=0))
    assert np.allclose(precision @ weights, slope)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_would_break_it_is_refused(bad):
    weights, precision = learned(lists(5))
    kept = weights.copy(), precision.copy()
    x = next(lists(1))
    x[2, 1] = bad
    assert not learn_list(x, 1, 1.0, 0.0, 1.0, weights, precision)
    np.testing.assert_array_equal(weights, kept[0])
    np.testing.assert_array_equal(precision, kept[1])
