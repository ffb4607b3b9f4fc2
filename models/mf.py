"""Matrix factorisation: items' factors from a periodic refit, users' folded in as they act.

Implicit-feedback ALS (Hu, Koren, Volinsky 2008). With item factors Y fixed, a user's factors have
a closed form: x = (Y'Y + Y'(C - I)Y + r I)^-1 Y'C p, so the newest event counts at once.
"""

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import Answers, ItemEvents, Queries, Query, Scores, alone
from models.cells import Cells
from models.columns import NONE, Column, Slots, Table
from models.kernels import fetch, kernel
from models.scratch import Scratch

AHEAD = 8  # vectors that are asked of memory before they are read
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
    out, left = np.empty((1, len(gram)), np.float32), np.empty((1, *gram.shape))
    bounds = np.array([0, len(items)])
    _fold_in_all(
        factors, gram, items, weights, bounds, config.regularisation, config.alpha, left, out
    )
    vector: NDArray[np.float32] = out[0]
    return vector


@kernel
def _fold_in_all(
    factors: Any, gram: Any, items: Any, weights: Any, starts: Any, regularisation: float,
    alpha: float, left: Any, out: Any,
) -> None:  # fmt: skip
    """The users' factors, and in `left` what `factorise` makes of each one's Y'CY + r I."""
    right = np.empty(len(gram))
    for user in range(len(out)):
        start, stop = starts[user], starts[user + 1]
        _set_up(
            factors, gram, items[start:stop], weights[start:stop], regularisation, alpha,
            left[user], right,
        )  # fmt: skip
        factorise(left[user])
        solve(left[user], right)
        out[user] = right


@kernel
def _set_up(
    factors: Any, gram: Any, items: Any, weights: Any, regularisation: float, alpha: float,
    left: Any, right: Any,
) -> None:  # fmt: skip
    """Both sides of a user's normal equations: Y'CY + r I, and Y'C p."""
    f = len(gram)
    left[:], right[:] = gram, 0.0
    for i in range(f):
        left[i, i] += regularisation
    for m in range(len(items)):
        if not (0 <= items[m] < len(factors) and weights[m] > 0.0):
            continue
        vector = factors[items[m]]
        for i in range(f):
            right[i] += (1.0 + alpha * weights[m]) * vector[i]
        for i in range(f):
            scaled = alpha * weights[m] * vector[i]
            for j in range(f):
                left[i, j] += scaled * vector[j]


@kernel
def factorise(left: Any) -> None:
    """Overwrite the upper half of a positive definite matrix by U with U'U = left (Cholesky).

    Rows are worked on whole, for so many numbers go at once.
    """
    f = len(left)
    for j in range(f):
        for k in range(j):
            factor = left[k, j]
            for i in range(f):
                left[j, i] -= factor * left[k, i]
        root = np.sqrt(max(left[j, j], 1e-12))
        for i in range(j, f):
            left[j, i] /= root


@kernel
def solve(upper: Any, right: Any) -> None:
    """Overwrite `right` by x with U'U x = right."""
    f = len(right)
    for k in range(f):
        right[k] /= upper[k, k]
        for i in range(k + 1, f):
            right[i] -= upper[k, i] * right[k]
    for i in range(f - 1, -1, -1):
        rest = right[i]
        for k in range(i + 1, f):
            rest -= upper[i, k] * right[k]
        right[i] = rest / upper[i, i]


@kernel
def _carry_all(
    factors: Any, left: Any, past: Any, weights: Any, past_starts: Any, items: Any, starts: Any,
    asked: Any, alpha: float, out: Any,
) -> None:  # fmt: skip
    """For each item that is asked for the past one behind most of the score, -1: none."""
    right = np.empty(factors.shape[1])
    for user in range(len(starts) - 1):
        for t in range(starts[user], starts[user + 1]):
            if not asked[t]:
                continue
            right[:] = factors[items[t]]
            solve(left[user], right)
            most, out[t] = 0.0, NONE
            for m in range(past_starts[user], past_starts[user + 1]):
                if not (0 <= past[m] < len(factors) and weights[m] > 0.0):
                    continue
                share = 0.0
                for i in range(len(right)):
                    share += right[i] * factors[past[m], i]
                share *= 1.0 + alpha * weights[m]
                if share > most:
                    most, out[t] = share, past[m]


@kernel
def _describe(vectors: Any, users: Any, items: Any, starts: Any, out: Any) -> None:
    for user in range(len(users)):
        start, stop = starts[user], starts[user + 1]
        if start < stop:
            mine = np.empty((stop - start, vectors.shape[1]), np.float32)
            for at in range(stop - start):
                fetch(vectors, items[min(start + at + AHEAD, stop - 1)], 0, 4 * vectors.shape[1])
                mine[at] = vectors[items[start + at]]
            scores = np.dot(mine, users[user])
            for at in range(stop - start):
                out[start + at] = max(scores[at], np.float32(0.0))


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
        vector: NDArray[np.float32] = self.user_vectors(table, alone(query))[0]
        return vector

    def user_vectors(self, table: Table, queries: Queries) -> NDArray[np.float32]:
        """Whom each query stands for, shape (n, f)."""
        raise NotImplementedError

    def recommend(self, table: Table, query: Query) -> tuple[Slots, Scores]:
        """Usable items with high inner products with the user."""
        return self.recommend_all(table, alone(query)).to(0)

    def recommend_all(self, table: Table, queries: Queries) -> Answers:
        """`recommend` for each, in one pass over the vectors.

        Enough answers that what other sources find has a score here, too.
        """
        if not len(self._cells):
            return Answers.none(len(queries))
        users = self.user_vectors(table, queries)
        return self._cells.search_all(users, queries.usable, ANSWERS * queries.limits)

    def describe_all(
        self, table: Table, queries: Queries, items: Slots, starts: NDArray[np.int64], out: Scores
    ) -> None:
        """Inner products of the users with items that others found, into `out`; below 0 is 0.

        List i's items are [starts[i], starts[i + 1]). Before there are vectors all stays as it is.
        """
        if len(self._cells):
            users = self.user_vectors(table, queries)
            _describe(table["vector"][: table.size], users, items, starts, out)

    def carriers(self, table: Table, query: Query, items: Slots) -> Slots:
        """The past item behind most of each score."""
        out = np.full(len(items), NONE, np.int32)
        bounds = np.array([0, len(items)])
        self.carry_all(table, alone(query), items, bounds, np.ones(len(items), np.bool_), out)
        return out

    def carry_all(
        self, table: Table, queries: Queries, items: Slots, starts: NDArray[np.int64],
        asked: NDArray[np.bool_], out: Slots,
    ) -> None:  # fmt: skip
        """`carriers` of several lists' items, into `out`, where they are asked for.

        Args:
            items: list i's are [starts[i], starts[i + 1]).
            asked: which of them; the others' places in `out` stay as they are.
        """
        raise NotImplementedError


class _Folded(threading.local):
    """Who was folded in last on a thread: whoever comes back for reasons is factorised already."""

    def __init__(self) -> None:
        self.queries: Queries | None = None
        self.room = Scratch(np.float64)
        self.left: NDArray[np.float64] = np.empty((0, 0, 0))


class MatrixFactorisation(VectorModel):
    """Scores items by their inner product with the folded-in user."""

    name = "factors"

    def __init__(self, config: FactorsConfig | None = None) -> None:
        super().__init__(config)
        self._gram = np.zeros((self.config.factors, self.config.factors))
        self._folded = _Folded()

    def prepare(self, table: Table) -> None:
        """Cells, and Y'Y, once a refit."""
        super().prepare(table)
        vectors = table["vector"][: table.size].astype(np.float64)
        self._gram, self._folded = vectors.T @ vectors, _Folded()

    def user_vectors(self, table: Table, queries: Queries) -> NDArray[np.float32]:
        """The users' factors, shape (n, f); zero where nothing is known."""
        count, f = len(queries), self.config.factors
        out = np.empty((count, f), np.float32)
        self._folded.queries = queries
        self._folded.left = self._folded.room.room(count * f * f).reshape(count, f, f)
        _fold_in_all(
            table["vector"][: table.size], self._gram, queries.items, queries.weights,
            queries.starts, self.config.regularisation, self.config.alpha, self._folded.left, out,
        )  # fmt: skip
        return out

    def carry_all(
        self, table: Table, queries: Queries, items: Slots, starts: NDArray[np.int64],
        asked: NDArray[np.bool_], out: Slots,
    ) -> None:  # fmt: skip
        """The past item with the largest share in each score.

        The score is linear in the past items: x = W^-1 sum c_i y_i, so item i carries
        c_i y_t' W^-1 y_i (Hu, Koren, Volinsky 2008, section 5).
        """
        if self._folded.queries is not queries:
            self.user_vectors(table, queries)
        _carry_all(
            table["vector"][: table.size], self._folded.left, queries.items, queries.weights,
            queries.starts, items, starts, asked, self.config.alpha, out,
        )  # fmt: skip
