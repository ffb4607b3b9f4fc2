"""Matrix factorisation: items' factors from a periodic refit, users' folded in as they act.

Implicit-feedback ALS (Hu, Koren, Volinsky 2008). With item factors Y fixed, a user's factors have
a closed form: x = (Y'Y + Y'(C - I)Y + r I)^-1 Y'C p, so the newest event counts at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import ItemEvents, Query, Scores, empty_answer
from models.cells import Cells
from models.columns import NONE, Column, Slots, Table
from models.kernels import kernel

ANSWERS = 2  # times the limit: candidates of other sources want a score, too


@dataclass(frozen=True)
class FactorsConfig:
    """Args: width of a vector; ridge; the confidence of a weight w is 1 + alpha w."""

    factors: int = 32
    regularisation: float = 0.05
    alpha: float = 10.0
    iterations: int = 10


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
    out = np.empty(len(gram), np.float32)
    _fold_in(factors, gram, items, weights, config.regularisation, config.alpha, out)
    return out


@kernel
def _left_side(
    factors: Any, gram: Any, items: Any, weights: Any, regularisation: float, alpha: float
) -> Any:
    """Y'CY + r I of a user."""
    f = gram.shape[0]
    left = gram.copy()
    for i in range(f):
        left[i, i] += regularisation
    for m in range(len(items)):
        if not (0 <= items[m] < len(factors) and weights[m] > 0.0):
            continue
        vector = factors[items[m]]
        for i in range(f):
            scaled = alpha * weights[m] * vector[i]
            for j in range(f):
                left[i, j] += scaled * vector[j]
    return left


@kernel
def _fold_in(
    factors: Any, gram: Any, items: Any, weights: Any, regularisation: float, alpha: float,
    out: Any,
) -> None:  # fmt: skip
    f = gram.shape[0]
    right = np.zeros((f, 1))
    for m in range(len(items)):
        if not (0 <= items[m] < len(factors) and weights[m] > 0.0):
            continue
        for i in range(f):
            right[i, 0] += (1.0 + alpha * weights[m]) * factors[items[m], i]
    solve(_left_side(factors, gram, items, weights, regularisation, alpha), right)
    out[:] = right[:, 0]


@kernel
def solve(left: Any, right: Any) -> None:
    """Solve left x = right for a positive definite `left` by Cholesky; both are overwritten."""
    f, columns = right.shape
    for j in range(f):
        for k in range(j):
            for i in range(j, f):
                left[j, i] -= left[k, j] * left[k, i]
        root = np.sqrt(max(left[j, j], 1e-12))
        for i in range(j, f):
            left[j, i] /= root
    for i in range(f):  # left is now U, with U'U = left
        for k in range(i):
            for c in range(columns):
                right[i, c] -= left[k, i] * right[k, c]
        for c in range(columns):
            right[i, c] /= left[i, i]
    for i in range(f - 1, -1, -1):
        for k in range(i + 1, f):
            for c in range(columns):
                right[i, c] -= left[i, k] * right[k, c]
        for c in range(columns):
            right[i, c] /= left[i, i]


@kernel
def _carriers(
    factors: Any, gram: Any, past: Any, weights: Any, items: Any, regularisation: float,
    alpha: float, out: Any,
) -> None:  # fmt: skip
    f, count = gram.shape[0], len(items)
    right = np.empty((f, count))
    for t in range(count):
        for i in range(f):
            right[i, t] = factors[items[t], i]
    solve(_left_side(factors, gram, past, weights, regularisation, alpha), right)
    for t in range(count):
        most = 0.0
        for m in range(len(past)):
            share = 0.0
            for i in range(f):
                share += right[i, t] * factors[past[m], i]
            share *= 1.0 + alpha * weights[m]
            if share > most:
                most = share
                out[t] = past[m]


class VectorModel:
    """Items as vectors in a derived column: they come with a refit and are in no log row."""

    name = "vectors"

    def __init__(self, config: FactorsConfig | None = None) -> None:
        self.config = config or FactorsConfig()
        self._cells = Cells(np.zeros((0, self.config.factors), np.float32))

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
        self._cells = Cells(table["vector"][: table.size])

    def user_vector(self, table: Table, query: Query) -> NDArray[np.float32]:
        """Whom a query stands for, shape (f,)."""
        raise NotImplementedError

    def recommend(self, table: Table, query: Query) -> tuple[Slots, Scores]:
        """Usable items with high inner products with the user."""
        return self.recommend_all(table, [query])[0]

    def recommend_all(self, table: Table, queries: Sequence[Query]) -> list[tuple[Slots, Scores]]:
        """`recommend` for each, in one pass over the vectors.

        Enough answers that what other sources find has a score here, too.
        """
        if not len(self._cells) or not queries:
            return [empty_answer()] * len(queries)
        users = np.stack([self.user_vector(table, query) for query in queries])
        usable = [query.usable for query in queries]
        tops = [ANSWERS * query.limit for query in queries]
        return self._cells.search_all(users, usable, tops)


class MatrixFactorisation(VectorModel):
    """Scores items by their inner product with the folded-in user."""

    name = "factors"

    def __init__(self, config: FactorsConfig | None = None) -> None:
        super().__init__(config)
        self._gram = np.zeros((self.config.factors, self.config.factors))

    def prepare(self, table: Table) -> None:
        """Cells, and Y'Y, once a refit."""
        super().prepare(table)
        vectors = table["vector"][: table.size].astype(np.float64)
        self._gram = vectors.T @ vectors

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
        known = (query.items >= 0) & (query.items < table.size) & (query.weights > 0)
        past = query.items[known]
        out = np.full(len(items), NONE, np.int32)
        if len(past):
            _carriers(
                table["vector"], self._gram, past, query.weights[known], items,
                self.config.regularisation, self.config.alpha, out,
            )  # fmt: skip
        return out
