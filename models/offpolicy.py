"""What another policy would have earned, from a log whose propensities are known.

All take n logged decisions: the reward of each, the probability the logging policy gave to what it
did, and the one the policy in question gives to the same. Estimates come with their standard
error. Weights may be clipped, which trades variance for a bias towards the logging policy. With
`groups`, a number for each decision, decisions of one group (a user's, say) may depend on each
other, and the standard error is that of their sums (Liang and Zeger 1986).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.float64]
Groups = NDArray[np.integer] | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A policy's value with its standard error and how many decisions it really rests on."""

    value: float
    standard_error: float
    effective_size: float  # Kish 1965: (sum w)^2 / sum w^2

    def interval(self) -> tuple[float, float]:
        """The 95 % interval by the normal approximation."""
        return self.value - 1.96 * self.standard_error, self.value + 1.96 * self.standard_error


def ips(
    rewards: Column, target: Column, logged: Column, weight_max: float = np.inf,
    groups: Groups = None,
) -> Estimate:  # fmt: skip
    """Inverse propensity scores (Horvitz and Thompson 1952): unbiased without clipping.

    >>> ips(np.array([1.0, 0.0]), np.array([0.5, 0.5]), np.array([0.25, 0.75])).value
    1.0
    """
    weights = _weights(rewards, target, logged, weight_max)
    return _mean_of(weights * rewards, weights, groups)


def snips(
    rewards: Column, target: Column, logged: Column, weight_max: float = np.inf,
    groups: Groups = None,
) -> Estimate:  # fmt: skip
    """Self-normalised IPS (Swaminathan and Joachims 2015): a little bias, far less variance."""
    weights = _weights(rewards, target, logged, weight_max)
    total = weights.sum()
    if total == 0.0:
        return Estimate(0.0, np.inf, 0.0)
    value = float((weights * rewards).sum() / total)
    sums = sums_of(weights * (rewards - value), groups)
    error = float(np.sqrt((sums**2).sum()) / total) if len(sums) > 1 else np.inf
    return Estimate(value, error, _effective(weights))


def doubly_robust(
    rewards: Column, target: Column, logged: Column, predicted: Column, predicted_target: Column,
    weight_max: float = np.inf, groups: Groups = None,
) -> Estimate:  # fmt: skip
    """Doubly robust (Dudik, Langford and Li 2011): right where propensities or predictions are.

    `predicted` is a model's reward of what was done, `predicted_target` its mean reward under the
    policy in question, both for each decision.
    """
    weights = _weights(rewards, target, logged, weight_max)
    return _mean_of(predicted_target + weights * (rewards - predicted), weights, groups)


def _weights(rewards: Column, target: Column, logged: Column, weight_max: float) -> Column:
    if not len(rewards) == len(target) == len(logged):
        raise ValueError("rewards and both probabilities must have the same length")
    if not len(rewards):
        raise ValueError("there are no decisions to estimate from")
    if not ((logged > 0) & (logged <= 1)).all():
        raise ValueError("a logged probability must be above 0 and at most 1")
    if not ((target >= 0) & (target <= 1)).all():
        raise ValueError("a probability must lie between 0 and 1")
    return np.asarray(np.minimum(target / logged, weight_max), np.float64)


def _mean_of(values: Column, weights: Column, groups: Groups) -> Estimate:
    mean = values.mean()
    sums = sums_of(values - mean, groups)
    count = len(sums)
    error = np.inf
    if count > 1:
        error = float(np.sqrt((sums**2).sum() * count / (count - 1)) / len(values))
    return Estimate(float(mean), error, _effective(weights))


def sums_of(values: Column, groups: Groups) -> Column:
    """The sum of each group, or the values themselves; `groups` has a number for each value."""
    if groups is None:
        return values
    _, group = np.unique(groups, return_inverse=True)
    return np.bincount(group.reshape(-1), values).astype(np.float64)


def _effective(weights: Column) -> float:
    squares = float((weights**2).sum())
    return float(weights.sum() ** 2 / squares) if squares else 0.0
