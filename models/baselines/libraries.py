"""Baselines out of other libraries: River's online factors, implicit's BPR and item neighbours."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from models.baselines.refits import Refit


class RiverFactors:
    """River's `reco.BiasedMF`, or `reco.FunkMF` where `biased` is 0, learned event by event.

    They predict ratings: what a user took is 1, some items drawn evenly are 0. Factors are read
    out of River's dictionaries into one matrix, for River predicts one item at a time.
    """

    def __init__(
        self, n_users: int, n_items: int, *, factors: float = 32, learning_rate: float = 0.05,
        regularisation: float = 0.005, samples: float = 3, biased: float = 1, seed: int = 0,
    ) -> None:  # fmt: skip
        from river import optim, reco  # slow to import

        pace = optim.SGD(learning_rate)
        given: dict[str, Any] = {
            "n_factors": int(factors), "l2_latent": regularisation, "seed": seed,
            "latent_initializer": optim.initializers.Normal(sigma=0.1, seed=seed),
        }  # fmt: skip
        self._model: Any = (
            reco.BiasedMF(bias_optimizer=pace, latent_optimizer=pace, **given)
            if biased
            else reco.FunkMF(optimizer=pace, **_renamed(given))
        )
        self._biased, self._samples = bool(biased), int(samples)
        self._items = np.zeros((n_items, int(factors)), np.float32)
        self._biases = np.zeros(n_items, np.float32)
        self._known, self._rng = 0, np.random.default_rng(seed)

    def scores(self, user: int, known: int, now_s: float) -> NDArray[np.float32]:
        """As `predict_one` of every item, but for what is the same for all of them."""
        latent = np.asarray(self._model.u_latents[user], np.float32)
        return np.asarray(self._items[:known] @ latent + self._biases[:known], np.float32)

    def learn(self, user: int, items: NDArray[np.int32], now_s: float) -> None:
        """One call of `learn_one` for each item, and one for each item drawn against it."""
        self._known = max(self._known, int(items.max()) + 1)
        drawn = self._rng.integers(0, self._known, (len(items), self._samples))
        for item, others in zip(items.tolist(), drawn.tolist(), strict=True):
            self._learn(user, item, 1.0)
            for other in others:
                if other != item:
                    self._learn(user, other, 0.0)

    def _learn(self, user: int, item: int, target: float) -> None:
        self._model.learn_one(user=user, item=item, y=target)
        self._items[item] = self._model.i_latents[item]
        if self._biased:
            self._biases[item] = self._model.i_biases[item]


def _renamed(given: dict[str, Any]) -> dict[str, Any]:
    """What BiasedMF calls by the latent's name is FunkMF's own."""
    names = {"l2_latent": "l2", "latent_initializer": "initializer"}
    return {names.get(name, name): value for name, value in given.items()}


class ImplicitBpr(Refit):
    """implicit's BPR on a schedule. Who is new since is the mean of the items they had."""

    def __init__(
        self, n_users: int, n_items: int, *, refit_events: float, factors: float = 64,
        learning_rate: float = 0.05, regularisation: float = 0.01, iterations: float = 50,
    ) -> None:  # fmt: skip
        super().__init__(n_users, n_items, refit_events)
        self._factors, self._iterations = int(factors), int(iterations)
        self._rate, self._regularisation = learning_rate, regularisation
        self._users: NDArray[np.float32] | None = None
        self._items: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self._modelled = np.zeros(n_users, np.bool_)

    def _fit(self, matrix: csr_matrix) -> None:
        from implicit.bpr import BayesianPersonalizedRanking  # slow to import

        model = BayesianPersonalizedRanking(
            self._factors, learning_rate=self._rate, regularization=self._regularisation,
            iterations=self._iterations, num_threads=1, random_state=0,
        )  # fmt: skip
        model.fit(matrix, show_progress=False)
        self._users = np.asarray(model.user_factors, np.float32)
        self._items = np.asarray(model.item_factors, np.float32)
        self._modelled = np.diff(matrix.indptr) > 0

    def scores(self, user: int, known: int, now_s: float) -> NDArray[np.float32]:
        """Products; the last factor is the items' bias, which the model keeps at 1 for a user."""
        if self._users is None:
            return np.zeros(known, np.float32)
        vector = self._users[user]
        if not self._modelled[user]:
            live = self._live(user)
            vector = self._items[live].mean(axis=0) if len(live) else np.zeros_like(vector)
            vector[-1] = 1.0
        return np.asarray(self._items[:known] @ vector, np.float32)


class ImplicitNeighbours(Refit):
    """implicit's item-item recommenders on a schedule, applied to the history the user has now.

    `weighting` is 0 for the cosine, 1 for TF-IDF, 2 for BM25.
    """

    def __init__(
        self, n_users: int, n_items: int, *, refit_events: float, neighbours: float = 100,
        weighting: float = 0,
    ) -> None:  # fmt: skip
        super().__init__(n_users, n_items, refit_events)
        self._neighbours, self._weighting = int(neighbours), int(weighting)
        self._similarity: csr_matrix | None = None

    def _fit(self, matrix: csr_matrix) -> None:
        from implicit import nearest_neighbours as kinds  # slow to import

        items = matrix.astype(np.float64).T
        weighted = (
            lambda: kinds.normalize(items),
            lambda: kinds.normalize(kinds.tfidf_weight(items)),
            lambda: kinds.bm25_weight(items, K1=1.2, B=0.75),
        )[self._weighting]()
        model = kinds.ItemItemRecommender(self._neighbours, num_threads=1)
        model.fit(csr_matrix(weighted.T), show_progress=False)
        self._similarity = model.similarity

    def scores(self, user: int, known: int, now_s: float) -> NDArray[np.float32]:
        """Sums of the rows of the history, as the library's own `recommend`."""
        live = self._live(user)
        if self._similarity is None or not len(live):
            return np.zeros(known, np.float32)
        ones = (np.ones(len(live)), live, np.array([0, len(live)]))
        row = csr_matrix(ones, shape=(1, self._n_items)) @ self._similarity
        return np.asarray(row.toarray()[0, :known], np.float32)
