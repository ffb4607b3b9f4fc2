"""What every baseline answers to."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Settings = Mapping[str, float]


class Baseline(Protocol):
    """Users and items are small numbers; items are numbered in the order of their first event."""

    def scores(self, user: int, known: int, now_s: float) -> NDArray[np.float32]:
        """A score for each of the first `known` items; the caller leaves out what may not be."""

    def learn(self, user: int, items: NDArray[np.int32], now_s: float) -> None:
        """The items of one step, in the order of the log."""


class Histories:
    """Distinct items of each user, newest last."""

    def __init__(self, n_users: int) -> None:
        self._items: list[dict[int, float]] = [{} for _ in range(n_users)]

    def add(self, user: int, items: Sequence[int], now_s: float) -> None:
        """Items become the newest ones."""
        mine = self._items[user]
        for item in items:
            mine.pop(item, None)
            mine[item] = now_s

    def newest(self, user: int, count: int) -> list[int]:
        """Up to `count` items, newest first."""
        mine = self._items[user]
        return [item for item, _ in zip(reversed(mine), range(count), strict=False)]

    def of(self, user: int) -> dict[int, float]:
        """All items of a user with the time of each one's last event."""
        return self._items[user]
