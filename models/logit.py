"""A multinomial logit over lists that learns online, from few lists what they can tell.

Conditional logit (McFadden 1974): of a list, a candidate is chosen with the softmax of its score
x w. Belief in the weights is Gaussian; each list moves it by one Newton step of its likelihood
(sequential Laplace approximation, Spiegelhalter and Lauritzen 1990), so that the pace is what the
lists so far leave open, and needs no setting. Old lists count less and less.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.kernels import kernel


class Logit:
    """Weights (d,) and how sure they are, a precision matrix (d, d).

    Args:
        prior: the weights before any list.
        precision: how sure those are.
        forget: share of how sure they are that each list takes away, towards the first.

    >>> logit = Logit(np.zeros(1), precision=1.0, forget=0.0)
    >>> for _ in range(50):
    ...     learned = logit.learn(np.array([[1.0], [0.0]]), 1, 1.0)
    >>> bool(logit.weights[0] > 2)
    True
    """

    def __init__(self, prior: NDArray[np.float64], precision: float, forget: float) -> None:
        self.weights = prior.astype(np.float64)
        self.precision = np.eye(len(prior)) * precision
        self._first, self._forget = precision, forget

    def learn(self, x: NDArray[np.float64], answers: int, loud: float) -> bool:
        """Learn a list: candidates x (c, d), the `answers` chosen ones first, heard as `loud` ones.

        False, and nothing changes, where that would break the weights.
        """
        return bool(
            _newton(x, answers, loud, self._forget, self._first, self.weights, self.precision)
        )


@kernel
def _newton(
    x: Any, answers: int, loud: float, forget: float, first: float, weights: Any, precision: Any
) -> bool:
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
        sharper[at, at] += forget * first
    if not np.sum(np.abs(sharper)) < np.inf:
        return False
    moved = weights + np.linalg.solve(sharper, slope)
    if not np.sum(np.abs(moved)) < np.inf:
        return False
    weights[:] = moved
    precision[:] = sharper
    return True
