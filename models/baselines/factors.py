"""Baselines that learn factors event by event: ISGD and incremental BPR."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.kernels import kernel


class Isgd:
    """Incremental SGD on positive-only feedback, target 1 (Vinagre, Jorge and Gama 2014)."""

    def __init__(
        self, n_users: int, n_items: int, *, factors: float = 100, learning_rate: float = 0.05,
        regularisation: float = 0.01, seed: int = 0,
    ) -> None:  # fmt: skip
        rng = np.random.default_rng(seed)
        self._users = rng.normal(0, 0.1, (n_users, int(factors))).astype(np.float32)
        self._items = rng.normal(0, 0.1, (n_items, int(factors))).astype(np.float32)
        self._rate, self._regularisation = learning_rate, regularisation

    def scores(self, user: int, known: int, now_s: float) -> NDArray[np.float32]:
        """Nearness of the product to 1, as in the paper."""
        return np.asarray(-np.abs(1.0 - self._items[:known] @ self._users[user]), np.float32)

    def learn(self, user: int, items: NDArray[np.int32], now_s: float) -> None:
        """One step of gradient descent an event."""
        _isgd(self._users, self._items, user, items, self._rate, self._regularisation)


class Bpr:
    """Pairwise ranking against sampled items (Rendle et al. 2009), one pass an event."""

    def __init__(
        self, n_users: int, n_items: int, *, factors: float = 64, learning_rate: float = 0.1,
        regularisation: float = 0.002, samples: float = 8, seed: int = 0,
    ) -> None:  # fmt: skip
        rng = np.random.default_rng(seed)
        self._users = rng.normal(0, 0.05, (n_users, int(factors))).astype(np.float32)
        self._items = rng.normal(0, 0.05, (n_items, int(factors))).astype(np.float32)
        self._biases = np.zeros(n_items, np.float32)
        self._rate, self._regularisation = learning_rate, regularisation
        self._samples, self._known, self._rng = int(samples), 0, rng

    def scores(self, user: int, known: int, now_s: float) -> NDArray[np.float32]:
        """Products and biases."""
        scores = self._items[:known] @ self._users[user] + self._biases[:known]
        return np.asarray(scores, np.float32)

    def learn(self, user: int, items: NDArray[np.int32], now_s: float) -> None:
        """Each item against some others drawn evenly."""
        self._known = max(self._known, int(items.max()) + 1)
        drawn = self._rng.integers(0, self._known, (len(items), self._samples))
        _bpr(
            self._users, self._items, self._biases, user, items, drawn, self._rate,
            self._regularisation,
        )  # fmt: skip


@kernel
def _isgd(
    users: Any, items: Any, user: int, events: Any, rate: float, regularisation: float
) -> None:
    for item in events:
        error = np.float32(1.0) - np.dot(users[user], items[item])
        for f in range(users.shape[1]):
            u, i = users[user, f], items[item, f]
            users[user, f] += np.float32(rate) * (error * i - np.float32(regularisation) * u)
            items[item, f] += np.float32(rate) * (error * u - np.float32(regularisation) * i)


@kernel
def _bpr(
    users: Any, items: Any, biases: Any, user: int, events: Any, drawn: Any, rate: float,
    regularisation: float,
) -> None:  # fmt: skip
    step, shrink = np.float32(rate), np.float32(regularisation)
    for e in range(len(events)):
        item = events[e]
        for s in range(drawn.shape[1]):
            other = drawn[e, s]
            if other == item:
                continue
            margin = biases[item] - biases[other]
            for f in range(users.shape[1]):
                margin += users[user, f] * (items[item, f] - items[other, f])
            slope = np.float32(1.0) / (np.float32(1.0) + np.exp(margin))
            biases[item] += step * (slope - shrink * biases[item])
            biases[other] -= step * (slope + shrink * biases[other])
            for f in range(users.shape[1]):
                u, i, o = users[user, f], items[item, f], items[other, f]
                users[user, f] += step * (slope * (i - o) - shrink * u)
                items[item, f] += step * (slope * u - shrink * i)
                items[other, f] += step * (-slope * u - shrink * o)
