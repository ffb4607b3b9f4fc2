"""The online logit against the maximum of its posterior, found by scipy from all lists at once."""

import numpy as np
import pytest
from scipy.optimize import minimize

from models.logit import Logit

TRUE = np.array([1.5, -1.0, 0.0, 0.5])


def lists(count, seed=0, size=12):
    """Lists whose answers are drawn from a logit with the weights TRUE, the chosen row first."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        x = rng.normal(size=(size, len(TRUE)))
        odds = np.exp(x @ TRUE)
        chosen = rng.choice(size, p=odds / odds.sum())
        yield np.concatenate([x[chosen : chosen + 1], np.delete(x, chosen, axis=0)])


def learned(rows, *, forget=0.0, precision=1.0):
    logit = Logit(np.zeros(len(TRUE)), precision, forget)
    for x in rows:
        assert logit.learn(x, 1, 1.0)
    return logit


def test_it_comes_close_to_the_maximum_of_the_posterior():
    rows = list(lists(400))

    def cost(weights):
        scores = np.array([x @ weights for x in rows])
        told = np.log(np.exp(scores).sum(axis=1)) - scores[:, 0]
        return told.sum() + 0.5 * weights @ weights

    best = minimize(cost, np.zeros(len(TRUE))).x
    logit = learned(rows)
    deviation = np.sqrt(np.diag(np.linalg.inv(logit.precision)))
    assert np.abs(logit.weights - best).max() < 2 * deviation.max()
    assert np.abs(logit.weights - TRUE).max() < 4 * deviation.max()
    assert np.allclose(logit.precision, logit.precision.T)
    assert np.linalg.eigvalsh(logit.precision).min() > 1.0


def test_a_sure_prior_moves_little():
    unsure, sure = (learned(lists(20), precision=each).weights for each in (1.0, 300.0))
    assert np.abs(sure).max() < 0.2 < np.abs(unsure).max()
    prior = np.array([0.0, 2.0, 0.0, 0.0])
    logit = Logit(prior, 300.0, 0.0)
    np.testing.assert_array_equal(logit.weights, prior)
    logit.learn(next(lists(1)), 1, 1.0)
    assert np.abs(logit.weights - prior).max() < 0.02
    assert prior.tolist() == [0.0, 2.0, 0.0, 0.0]


def test_what_is_forgotten_is_how_sure_it_was():
    logit, sure = learned(lists(300), forget=0.05), learned(lists(300))
    assert logit.precision.trace() < sure.precision.trace() / 5
    # Twenty lists' worth is kept, so it follows users who changed their minds.
    for x in lists(100, seed=1):
        logit.learn(-x, 1, 1.0)
    assert logit.weights @ TRUE < 0


def test_many_choices_move_it_to_their_mean():
    x = next(lists(1))
    logit = Logit(np.zeros(4), 300.0, 0.0)
    assert logit.learn(x, 3, 2.0)
    slope = 2.0 * (x[:3].mean(axis=0) - x.mean(axis=0))
    assert np.allclose(logit.precision @ logit.weights, slope)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_would_break_it_is_refused(bad):
    logit = learned(lists(5))
    kept = logit.weights.copy(), logit.precision.copy()
    x = next(lists(1))
    x[2, 1] = bad
    assert not logit.learn(x, 1, 1.0)
    np.testing.assert_array_equal(logit.weights, kept[0])
    np.testing.assert_array_equal(logit.precision, kept[1])
