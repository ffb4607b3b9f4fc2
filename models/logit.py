"""A multinomial logit over lists that learns online, from few lists what they can tell.

Conditional logit (McFadden 1974): of a list, a candidate is chosen with the softmax of its score
x w. Belief in the weights is Gaussian; each list moves it by one Newton step of its likelihood
(sequential Laplace approximation, Spiegelhalter and Lauritzen 1990), so that the pace is what the
lists so far leave open, and needs no setting. Old lists count less and less.
"""

from typing import Any

import numpy as np

from models.kernels import kernel


@kernel
def learn_list(
    x: Any, answers: int, loud: float, forget: float, prior: float, weights: Any, precision: Any
) -> bool:
    """Move `weights` (d,) and their `precision` (d, d) by a list; False: left, it would break them.

    Args:
        x: candidates (c, d), the chosen ones first.
        answers: how many were chosen.
        loud: what the list counts, in choices.
        forget: share of what all lists before have told that is given up.
        prior: precision of each weight before any list.

    >>> weights, precision = np.zeros(1), np.eye(1)
    >>> for _ in range(50):
    ...     _ = learn_list(np.array([[1.0], [0.0]]), 1, 1.0, 0.0, 1.0, weights, precision)
    >>> bool(weights[0] > 2)
    True
    """
    count, width = x.shape
    odds = np.dot(x, weights)
    odds = np.exp(odds - np.max(odds))
    odds /= np.sum(odds)
    expected = np.dot(odds, x)
    apart, slope = np.empty((count, width)), np.zeros(width)
    for row in range(count):
        weight = np.sqrt(odds[row] * loud)
        for f in range(width):
            apart[row, f] = (x[row, f] - expected[f]) * weight
    for row in range(answers):
        for f in range(width):
            slope[f] += (x[row, f] - expected[f]) * loud / answers
    sharper = precision * (1.0 - forget) + np.dot(apart.T, apart)
    for at in range(width):
        sharper[at, at] += forget * prior
    if not np.sum(np.abs(sharper)) < np.inf:
        return False
    moved = weights + np.linalg.solve(sharper, slope)
    if not np.sum(np.abs(moved)) < np.inf:
        return False
    weights[:] = moved
    precision[:] = sharper
    return True
