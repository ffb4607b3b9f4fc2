"""The user-profile vector: the decayed sum of the unit vectors of what the user did."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import Queries
from models.columns import NONE, Slots, Table
from models.kernels import kernel
from models.mf import VectorModel


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; a row of zeros stays."""
    norms = np.sqrt((vectors * vectors).sum(axis=-1, keepdims=True))
    return np.asarray(vectors / np.maximum(norms, 1e-12), np.float32)


def profile_vector(
    vectors: NDArray[np.float32], items: Slots, weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """sum w_i v_i / |v_i| over a history, of length 1, shape (f,); zero where nothing is known.

    >>> vectors = np.array([[2.0, 0.0], [0.0, 1.0]], np.float32)
    >>> profile_vector(vectors, np.array([0, 1, -1]), np.array([3.0, 4.0, 9.0])).tolist()
    [0.6000000238418579, 0.800000011920929]
    """
    out = np.empty(vectors.shape[1], np.float32)
    _profile_vector(vectors, items, weights, out)
    return out


def own_directions(keys: NDArray[np.uint64], width: int) -> NDArray[np.float32]:
    """A direction of its own for each item that no refit knows yet, shape (n, width).

    Signs from the item's 64-bit key (SplitMix64, Steele, Lea and Flood 2014), so that every
    process gives an item the same one. Two of them are all but orthogonal: a profile moves with a
    user's first event, and is a mixture of what they did until a refit says what is alike.

    >>> one, two = own_directions(np.array([7, 8], np.uint64), 64)
    >>> round(float(one @ one), 6), bool(abs(one @ two) < 0.5)
    (1.0, True)
    """
    with np.errstate(over="ignore"):
        step = np.arange(1, width + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = keys[:, None] + step
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    signs = np.where((mixed >> np.uint64(63)).astype(np.bool_), 1.0, -1.0)
    return np.asarray(signs / np.sqrt(width), np.float32)


@kernel
def _profile_vector(vectors: Any, items: Any, weights: Any, out: Any) -> None:
    total = np.zeros(len(out))
    for m in range(len(items)):
        if 0 <= items[m] < len(vectors) and weights[m] > 0:
            vector = vectors[items[m]]
            norm = 1e-24
            for i in range(len(out)):
                norm += float(vector[i]) * vector[i]
            for i in range(len(out)):
                total[i] += weights[m] * vector[i] / np.sqrt(norm)
    length = np.sqrt(np.sum(total * total))
    for i in range(len(out)):
        out[i] = total[i] / max(length, 1e-12)


@kernel
def _profile_vectors(vectors: Any, items: Any, weights: Any, starts: Any, out: Any) -> None:
    for user in range(len(out)):
        start, stop = starts[user], starts[user + 1]
        _profile_vector(vectors, items[start:stop], weights[start:stop], out[user])


@kernel
def _carry_all(
    vectors: Any, past: Any, weights: Any, past_starts: Any, items: Any, starts: Any, asked: Any,
    out: Any,
) -> None:  # fmt: skip
    """Vectors have length 1 here, so an inner product is a cosine."""
    for user in range(len(starts) - 1):
        for t in range(starts[user], starts[user + 1]):
            if not asked[t]:
                continue
            most, out[t] = 0.0, NONE
            for m in range(past_starts[user], past_starts[user + 1]):
                if 0 <= past[m] < len(vectors):
                    share = 0.0
                    for i in range(vectors.shape[1]):
                        share += vectors[items[t], i] * vectors[past[m], i]
                    if share * weights[m] > most:
                        most = share * weights[m]
                        out[t] = past[m]


class Profile(VectorModel):
    """Scores items by the cosine between their vector and the user's profile."""

    name = "profile"

    def user_vectors(self, table: Table, queries: Queries) -> NDArray[np.float32]:
        """The users' profiles, shape (n, f); what photos say of their taste is part of it."""
        out = np.empty((len(queries), self.config.factors), np.float32)
        _profile_vectors(
            table["vector"][: table.size], queries.items, queries.weights, queries.starts, out
        )
        for user, taste in enumerate(queries.tastes):
            if taste is not None:
                out[user] = unit(out[user] + taste)
        return out

    def place(self, table: Table, slots: Slots, keys: NDArray[np.uint64]) -> None:
        """Give items that no refit knows yet a direction of their own."""
        table["vector"][slots] = own_directions(keys, self.config.factors)

    def swap(self, table: Table, slots: Slots, factors: NDArray[np.float32]) -> None:
        """Take vectors; they are kept at length 1."""
        super().swap(table, slots, unit(np.nan_to_num(factors)))

    def carry_all(
        self, table: Table, queries: Queries, items: Slots, starts: NDArray[np.int64],
        asked: NDArray[np.bool_], out: Slots,
    ) -> None:  # fmt: skip
        """The past item whose weighted cosine to each is largest."""
        _carry_all(
            table["vector"][: table.size], queries.items, queries.weights, queries.starts, items,
            starts, asked, out,
        )  # fmt: skip
