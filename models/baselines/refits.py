"""Baselines that are fitted anew on a schedule and read the user's live history in between."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from models.baselines.base import Histories

EASE_ITEMS_MAX = 4_000  # the most popular ones; the inverse of more takes minutes a refit


class Refit:
    """Histories, and a refit each time that so many events were learned."""

    def __init__(self, n_users: int, n_items: int, refit_events: float) -> None:
        self._histories = Histories(n_users)
        self._n_users, self._n_items = n_users, n_items
        self._every, self._events = int(refit_events), 0

    def learn(self, user: int, items: NDArray[np.int32], now_s: float) -> None:
        """Count the step; refit where it is due."""
        before = self._events // self._every
        self._histories.add(user, items.tolist(), now_s)
        self._events += len(items)
        if self._events // self._every > before:
            self._fit(self._matrix())

    def _matrix(self) -> csr_matrix:
        rows = [self._histories.of(user) for user in range(self._n_users)]
        counts = [len(row) for row in rows]
        items = np.fromiter((item for row in rows for item in row), np.int32, sum(counts))
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        ones = np.ones(len(items), np.float32)
        return csr_matrix((ones, items, starts), shape=(self._n_users, self._n_items))

    def _fit(self, matrix: csr_matrix) -> None:
        raise NotImplementedError

    def _live(self, user: int) -> NDArray[np.int32]:
        return np.array(list(self._histories.of(user)), np.int32)


class AlsRefit(Refit):
    """implicit's ALS on a schedule; users are folded in with the history they have now."""

    def __init__(
        self, n_users: int, n_items: int, *, refit_events: float, factors: float = 64,
        regularisation: float = 0.05, alpha: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(n_users, n_items, refit_events)
        self._factors, self._regularisation, self._alpha = int(factors), regularisation, alpha
        self._items: NDArray[np.float32] | None = None
        self._gram: NDArray[np.float32] = np.zeros((0, 0), np.float32)

    def _fit(self, matrix: csr_matrix) -> None:
        from implicit.als import AlternatingLeastSquares  # slow to import
        from threadpoolctl import threadpool_limits

        # implicit's confidence is alpha times the entry; that of `scores` is 1 + alpha.
        matrix.data += np.float32(1.0 / self._alpha)
        with threadpool_limits(1, "blas"):
            model = AlternatingLeastSquares(
                self._factors, regularization=self._regularisation, alpha=self._alpha,
                iterations=10, num_threads=1, random_state=0,
            )  # fmt: skip
            model.fit(matrix, show_progress=False)
        items = np.asarray(model.item_factors, np.float32)
        self._items = items
        self._gram = items.T @ items

    def scores(self, user: int, known: int, now_s: float) -> NDArray[np.float32]:
        """The closed form of Hu, Koren and Volinsky (2008) for one user, items held fixed."""
        live = self._live(user)
        if self._items is None or not len(live):
            return np.zeros(known, np.float32)
        mine = self._items[live]
        left = self._gram + self._alpha * (mine.T @ mine)
        left[np.diag_indices_from(left)] += self._regularisation
        vector = np.linalg.solve(left, (1.0 + self._alpha) * mine.sum(axis=0))
        return np.asarray(self._items[:known] @ vector, np.float32)


class EaseRefit(Refit):
    """EASE (Steck 2019) on a schedule, applied to the history the user has now."""

    def __init__(
        self, n_users: int, n_items: int, *, refit_events: float, regularisation: float = 100.0
    ) -> None:
        super().__init__(n_users, n_items, refit_events)
        self._regularisation = regularisation
        self._weights: NDArray[np.float32] | None = None
        self._place = np.full(n_items, -1, np.int32)
        self._modelled: NDArray[np.int32] = np.empty(0, np.int32)
        self._sums: dict[int, NDArray[np.float32]] = {}  # of users asked for since the last refit

    def learn(self, user: int, items: NDArray[np.int32], now_s: float) -> None:
        """Also add the rows of what is new to the user to the sum that is kept of theirs."""
        sums = self._sums.get(user)
        if sums is not None and self._weights is not None:
            mine = self._histories.of(user)
            rows = self._place[[item for item in set(items.tolist()) if item not in mine]]
            sums += self._weights[rows[rows >= 0]].sum(axis=0)
        super().learn(user, items, now_s)

    def _fit(self, matrix: csr_matrix) -> None:
        counts = np.asarray(matrix.sum(axis=0)).reshape(-1)
        self._modelled = np.argsort(-counts, kind="stable")[:EASE_ITEMS_MAX].astype(np.int32)
        self._modelled = self._modelled[counts[self._modelled] > 0]
        self._place[:] = -1
        self._place[self._modelled] = np.arange(len(self._modelled), dtype=np.int32)
        part = matrix[:, self._modelled]
        gram = np.asarray((part.T @ part).todense(), np.float64)
        gram[np.diag_indices_from(gram)] += self._regularisation
        inverse = np.linalg.inv(gram)
        weights = inverse / -np.diag(inverse)
        weights[np.diag_indices_from(weights)] = 0.0
        self._weights = weights.astype(np.float32)
        self._sums.clear()

    def scores(self, user: int, known: int, now_s: float) -> NDArray[np.float32]:
        """Sums of the history's rows; items that the last refit did not know score 0."""
        out = np.zeros(self._n_items, np.float32)
        live = self._live(user)
        if self._weights is not None and len(live):
            if user not in self._sums:
                rows = self._place[live]
                self._sums[user] = self._weights[rows[rows >= 0]].sum(axis=0)
            out[self._modelled] = self._sums[user]
        return out[:known]
