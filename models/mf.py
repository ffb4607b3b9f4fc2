"""Matrix factorisation: items' factors from a periodic refit, users' folded in as they act.

Implicit-feedback ALS (Hu, Koren, Volinsky 2008). With item factors Y fixed, a user's factors have
a closed form: x = (Y'Y + Y'(C - I)Y + r I)^-1 Y'C p, so the newest event counts at once.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import ItemEvents, Query, Scores, empty_answer
from models.columns import NONE, Column, Slots, Table
from models.kernels import kernel


@dataclass(frozen=True)
class FactorsConfig:
    """Args: width of a vector; ridge; confidence of a weight w is 1 + alpha w; top: answers."""

    factors: int = 32
    regularisation: float = 0.05
    alpha: float = 10.0
    iterations: int = 10
    top: int = 512


def refit(
    user_items: Any, config: FactorsConfig, seed: int = 1, threads: int = 1
) -> NDArray[np.float32]:
    """Factors of all items from scratch, shape (n_items, factors), by implicit's ALS.

    Args:
        user_items: scipy CSR matrix of weights w, users in rows; a confidence is 1 + alpha w.
            Equal input, seed and one thread give equal factors.
    """
    from implicit.cpu.als import AlternatingLeastSquares  # a heavy import
    from threadpoolctl import threadpool_limits

    # implicit wants BLAS on one thread: it makes its own.
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=config.factors, regularization=config.regularisation, alpha=config.alpha,
            iterations=config.iterations, num_threads=threads, random_state=seed,
            dtype=np.float32,
        )  # fmt: skip
        # implicit's confidence is alpha times the entry.
        confidence = user_items.tocsr().astype(np.float32)
        confidence.data += np.float32(1.0 / config.alpha)
        model.fit(confidence, show_progress=False)
    return np.asarray(model.item_factors, np.float32)


def fold_in(
    factors: NDArray[np.float32], gram: NDArray[np.float64], items: Slots,
    weights: NDArray[np.float32], config: FactorsConfig,
) -> NDArray[np.float32]:  # fmt: skip
    """A user's factors from their items alone, shape (f,). `gram` is Y'Y."""
    known = (items >= 0) & (items < len(factors))
    out = np.empty(len(gram), np.float32)
    _fold_in(factors, gram, items[known], weights[known], config.regularisation, config.alpha, out)
    return out


@kernel
def _fold_in(
    factors: Any, gram: Any, items: Any, weights: Any, regularisation: float, alpha: float,
    out: Any,
) -> None:  # fmt: skip
    f = gram.shape[0]
    left = gram.copy()
    right = np.zeros(f)
    for i in range(f):
        left[i, i] += regularisation
    for m in range(len(items)):
        vector = factors[items[m]]
        confidence = 1.0 + alpha * weights[m]
        if not confidence > 1.0:
            continue
        for i in range(f):
            right[i] += confidence * vector[i]
            scaled = (confidence - 1.0) * vector[i]
            for j in range(f):
                left[i, j] += scaled * vector[j]
    out[:] = np.linalg.solve(left, right)


class VectorModel:
    """Items as vectors in a derived column: they come with a refit and are in no log row."""

    name = "vectors"

    def __init__(self, config: FactorsConfig | None = None) -> None:
        self.config = config or FactorsConfig()

    @property
    def columns(self) -> tuple[Column, ...]:
        return (Column("vector", "<f4", self.config.factors, derived=True),)

    def learn(self, table: Table, events: ItemEvents) -> None:
        """Nothing: items learn in refits, users when they are asked for."""

    def swap(self, table: Table, slots: Slots, factors: NDArray[np.float32]) -> None:
        """Take the vectors of a refit; items that it did not know have none.

        Raises:
            ValueError: vectors of another width.
        """
        if factors.ndim != 2 or factors.shape[1] != self.config.factors:
            raise ValueError(f"item vectors have {self.config.factors} numbers here")
        table["vector"][:] = 0.0
        table["vector"][slots] = np.nan_to_num(factors)
        self.prepare(table)

    def prepare(self, table: Table) -> None:
        """Derive what questions need from the vectors: after a swap or a restore."""


class MatrixFactorisation(VectorModel):
    """Scores items by their inner product with the folded-in user."""

    name = "factors"

    def __init__(self, config: FactorsConfig | None = None) -> None:
        super().__init__(config)
        self._gram = np.zeros((self.config.factors, self.config.factors))

    def prepare(self, table: Table) -> None:
        """Y'Y, once a refit."""
        vectors = table["vector"][: table.size].astype(np.float64)
        self._gram = vectors.T @ vectors

    def recommend(self, table: Table, query: Query) -> tuple[Slots, Scores]:
        """Items with the highest inner products."""
        user = self.user_vector(table, query)
        if not user.any():
            return empty_answer()
        size = min(query.n_items, table.size)
        return top_products(table["vector"][:size], user, self.config.top)

    def user_vector(self, table: Table, query: Query) -> NDArray[np.float32]:
        """The user's factors, shape (f,); zero where nothing is known."""
        return fold_in(
            table["vector"][: table.size], self._gram, query.items, query.weights, self.config
        )

    def carriers(self, table: Table, query: Query, items: Slots) -> Slots:
        """The past item with the largest share in each score.

        The score is linear in the past items: x = W^-1 sum c_i y_i, so item i carries
        c_i y_t' W^-1 y_i (Hu, Koren, Volinsky 2008, section 5).
        """
        past = query.items[(query.items >= 0) & (query.items < table.size)]
        if not len(past):
            return np.full(len(items), NONE, np.int32)
        vectors = table["vector"]
        confidence = 1.0 + self.config.alpha * query.weights[: len(past)].astype(np.float64)
        own = vectors[past].astype(np.float64)
        left = self._gram + self.config.regularisation * np.eye(len(self._gram))
        left += (own * (confidence - 1.0)[:, None]).T @ own
        shares = vectors[items] @ np.linalg.solve(left, own.T * confidence)
        return _strongest(past, shares)


def top_products(
    vectors: NDArray[np.float32], user: NDArray[np.float32], top: int
) -> tuple[Slots, Scores]:
    """The items whose inner product with `user` is highest and positive, in no order."""
    scores = vectors @ user
    if len(scores) > top:
        slots = np.argpartition(-scores, top - 1)[:top].astype(np.int32)
    else:
        slots = np.arange(len(scores), dtype=np.int32)
    slots = slots[scores[slots] > 0]
    return slots, scores[slots]


def _strongest(past: Slots, shares: NDArray[Any]) -> Slots:
    best = shares.argmax(axis=1)
    carried = shares[np.arange(len(shares)), best] > 0
    return np.where(carried, past[best], NONE).astype(np.int32)
