"""Scores as probabilities that can be believed: by temperature, or by a monotone curve.

Temperature: Guo et al. (2017), "On Calibration of Modern Neural Networks". The curve is isotonic
regression by pooling adjacent violators (Ayer et al., 1955), from scipy.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression, minimize_scalar
from scipy.special import log_softmax

Array = npt.NDArray[np.float64]


def fit_temperature(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The divisor of scores (n, classes) under which their softmax explains the labels best.

    A share of 1 / (n + 2) of each label is spread over all classes, as Platt (1999) does for two:
    else scores that are always right would ask for certainty.

    >>> fit_temperature([[9.0, 0.0]] * 3 + [[9.0, 0.0]], [0, 0, 0, 1]) > 5
    True
    """
    rows, picks = np.asarray(scores, np.float64), np.asarray(labels, np.int64)

    spread = 1 / (len(picks) + 2)

    def surprise(log_temperature: float) -> float:
        chances = log_softmax(rows / np.exp(log_temperature), axis=1)
        told = chances[np.arange(len(picks)), picks].mean()
        return -float((1 - spread) * told + spread * chances.mean())

    return float(np.exp(minimize_scalar(surprise, bounds=(-5, 5), method="bounded").x))


@dataclass(frozen=True)
class Isotonic:
    """A curve that never falls, straight between its points and level outside of them."""

    scores: Array
    probabilities: Array

    @classmethod
    def fit(cls, scores: npt.ArrayLike, outcomes: npt.ArrayLike) -> "Isotonic":
        """Fits to scores (n,) and outcomes (n,) of 0 or 1.

        One success and one failure are added beyond the ends, so that no probability is 0 or 1.

        >>> Isotonic.fit([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])([0.0, 1.0]).round(2).tolist()
        [0.33, 0.67]
        """
        x, y = np.asarray(scores, np.float64), np.asarray(outcomes, np.float64)
        x = np.concatenate([[x.min()], x, [x.max()]])
        y = np.concatenate([[1.0], y, [0.0]])
        places, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
        means = np.bincount(inverse, weights=y) / counts
        levels = isotonic_regression(means, weights=counts).x
        ends = np.flatnonzero(np.diff(levels, prepend=-1) + np.diff(levels, append=2))
        return cls(places[ends], levels[ends])

    def __call__(self, scores: npt.ArrayLike) -> Array:
        """Probabilities of scores, of the same shape."""
        return np.interp(np.asarray(scores, np.float64), self.scores, self.probabilities)


def expected_calibration_error(
    probabilities: npt.ArrayLike, right: npt.ArrayLike, bins: int = 10
) -> float:
    """Mean distance between confidence (n,) and the share that was right (n,), over equal bins.

    >>> expected_calibration_error([0.75] * 4, [1, 1, 1, 0])
    0.0
    """
    confidence, hits = np.asarray(probabilities, np.float64), np.asarray(right, np.float64)
    places = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(places, weights=confidence - hits, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))
