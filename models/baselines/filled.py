"""The popular behind a baseline that has nothing to say of some users and items."""

import numpy as np
from numpy.typing import NDArray

from models.baselines.base import Baseline
from models.baselines.counted import OWN_FIRST, DecayedPopularity


class Filled:
    """A baseline's scores as shares of the highest one, and below them the popular items.

    Args:
        popular_weight: what the most popular item counts beside the baseline's best one.
        popular_half_life_events: the popularity's half-life.
    """

    def __init__(
        self, inner: Baseline, n_items: int, *, popular_weight: float = OWN_FIRST,
        popular_half_life_events: float = 10_000.0,
    ) -> None:  # fmt: skip
        self._inner = inner
        self._popular = DecayedPopularity(n_items, popular_half_life_events)
        self._weight = popular_weight

    def scores(self, user: int, known: int, now_s: float) -> NDArray[np.float32]:
        """Both added up; the popular alone where the baseline says nothing."""
        scores = self._popular.scores(user, known, now_s)
        scores *= self._weight / max(float(scores.max(initial=0.0)), 1e-12)
        own = self._inner.scores(user, known, now_s)
        top = float(np.abs(own).max(initial=0.0))
        if top > 0.0:
            scores += own / np.float32(top)
        return scores

    def learn(self, user: int, items: NDArray[np.int32], now_s: float) -> None:
        """Both learn the step."""
        self._popular.learn(user, items, now_s)
        self._inner.learn(user, items, now_s)
