"""Baselines that count: popularity, the user's own items, sequence rules, item kNN."""

import numpy as np
from numpy.typing import NDArray

from models.baselines.base import Histories
from models.baselines.pairs import Pairs

_HALVINGS_MAX = 60.0
OWN_FIRST = 1e-4  # so little weight of the popular lets every own item go before it


class DecayedPopularity:
    """Counts that halve every `half_life_events` events."""

    def __init__(self, n_items: int, half_life_events: float) -> None:
        self._weights = np.zeros(n_items, np.float64)
        self._half_life, self._clock = half_life_events, 0.0

    def scores(self, user: int, known: int, now_s: float) -> NDArray[np.float32]:
        """The same for every user."""
        return self._weights[:known].astype(np.float32)

    def learn(self, user: int, items: NDArray[np.int32], now_s: float) -> None:
        """Newer events count more, which is the same as older ones counting less."""
        for item in items.tolist():
            self._clock += 1.0
            if self._clock / self._half_life > _HALVINGS_MAX:
                self._weights *= 2.0 ** (-self._clock / self._half_life)
                self._clock = 0.0
            self._weights[item] += 2.0 ** (self._clock / self._half_life)


class OwnItems:
    """The user's own items, the more often and the more lately the better; then the popular.

    Args:
        half_life_days: an own item counts half after so long.
        power: of how often the user had it.
        popular_weight: what the most popular item counts beside an own one of just now.
        popular_half_life_events: the popularity's own half-life.
    """

    def __init__(
        self, n_users: int, n_items: int, *, half_life_days: float, power: float,
        popular_weight: float = OWN_FIRST, popular_half_life_events: float = 10_000.0,
    ) -> None:  # fmt: skip
        self._counts: list[dict[int, float]] = [{} for _ in range(n_users)]
        self._times: list[dict[int, float]] = [{} for _ in range(n_users)]
        self._half_life_s, self._power = half_life_days * 86_400.0, power
        self._popular = DecayedPopularity(n_items, popular_half_life_events)
        self._popular_weight = popular_weight

    def scores(self, user: int, known: int, now_s: float) -> NDArray[np.float32]:
        """Count to the power, halved by age, above the share of the highest popularity."""
        scores = self._popular.scores(user, known, now_s)
        scores *= self._popular_weight / max(float(scores.max(initial=0.0)), 1e-12)
        counts, times = self._counts[user], self._times[user]
        if counts:
            own = np.fromiter(counts, np.int64, len(counts))
            ages = now_s - np.fromiter(times.values(), np.float64, len(own))
            often = np.fromiter(counts.values(), np.float64, len(own))
            faded = 2.0 ** (-ages / self._half_life_s) + 2.0 * OWN_FIRST
            scores[own] += (often**self._power * faded).astype(np.float32)
        return scores

    def learn(self, user: int, items: NDArray[np.int32], now_s: float) -> None:
        """Count the step."""
        self._popular.learn(user, items, now_s)
        counts, times = self._counts[user], self._times[user]
        for item in items.tolist():
            counts[item] = counts.get(item, 0.0) + 1.0
            times[item] = now_s


class ItemKnn:
    """Decayed co-occurrence of items that one user touched one after the other.

    A score sums over the user's newest items w_ij / (n_i^a n_j^b); a = b = 1/2 is the cosine
    (Sarwar et al. 2001), a = 1 and b = 0 the share of what went along. Pairs halve every
    `half_life_events`; with `both_ways` 0 only what came later counts: sequence rules (Ludewig and
    Jannach 2018).
    """

    def __init__(
        self, n_users: int, n_items: int, *, half_life_events: float = 50_000.0,
        learn_items: float = 24, learn_decay: float = 0.93, read_items: float = 16,
        read_decay: float = 0.8, own_power: float = 0.5, other_power: float = 0.5,
        both_ways: float = 1,
    ) -> None:  # fmt: skip
        self._pairs = Pairs(n_items)
        self._counts = np.zeros(n_items, np.float32)
        self._histories = Histories(n_users)
        self._clock = 0.0
        self._half_life = half_life_events
        self._learn_items, self._learn_decay = int(learn_items), learn_decay
        self._read_items, self._read_decay = int(read_items), read_decay
        self._powers = own_power, other_power
        self._both_ways = bool(both_ways)

    def scores(self, user: int, known: int, now_s: float) -> NDArray[np.float32]:
        """One pass over the rows of the user's newest items."""
        out = np.zeros(known, np.float32)
        newest = np.array(self._histories.newest(user, self._read_items), np.int32)
        if len(newest):
            own, other = self._powers
            now = 2.0 ** (-self._clock / self._half_life)
            shares = self._read_decay ** np.arange(len(newest)) * now
            shares /= (self._counts[newest] * now + 0.5) ** own
            self._pairs.read(newest, shares.astype(np.float32), out)
            if other > 0.0:
                out /= ((self._counts[:known] * now + 0.5) ** other).astype(np.float32)
        return out

    def learn(self, user: int, items: NDArray[np.int32], now_s: float) -> None:
        """Pair each item with those before it, the step's earlier ones included.

        Newer pairs count more, which is the same as older ones counting less.

        Raises:
            TooManyPairsError: there are more pairs than may be counted.
        """
        for item in items.tolist():
            if self._clock / self._half_life > _HALVINGS_MAX:
                faded = 2.0 ** (-self._clock / self._half_life)
                self._pairs.scale(faded)
                self._counts *= np.float32(faded)
                self._clock = 0.0
            loud = 2.0 ** (self._clock / self._half_life)
            newest = np.array(self._histories.newest(user, self._learn_items), np.int32)
            weights = (loud * self._learn_decay ** np.arange(len(newest))).astype(np.float32)
            others, weights = newest[newest != item], weights[newest != item]
            this = np.full(len(others), item, np.int32)
            self._pairs.add(others, this, weights)
            if self._both_ways:
                self._pairs.add(this, others, weights)
            self._counts[item] += np.float32(loud)
            self._clock += 1.0
            self._histories.add(user, [item], now_s)
