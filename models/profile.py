"""The user-profile vector: the decayed sum of the unit vectors of what the user did."""

import numpy as np
from numpy.typing import NDArray

from models.base import Query, Scores, empty_answer
from models.columns import NONE, Slots, Table
from models.mf import ANSWERS, VectorModel
from models.top import top_products


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
    known = (items >= 0) & (items < len(vectors))
    summed = weights[known].astype(np.float32) @ unit(vectors[items[known]])
    return unit(summed)


class Profile(VectorModel):
    """Scores items by the cosine between their vector and the user's profile."""

    name = "profile"

    def recommend(self, table: Table, query: Query) -> tuple[Slots, Scores]:
        """Items nearest to the profile."""
        user = self.user_vector(table, query)
        if not user.any():
            return empty_answer()
        vectors = table["vector"][: table.size]
        return top_products(vectors, user, query.usable, ANSWERS * query.limit)

    def user_vector(self, table: Table, query: Query) -> NDArray[np.float32]:
        """The user's profile, shape (f,); what their photos say of their taste is part of it."""
        vector = profile_vector(table["vector"][: table.size], query.items, query.weights)
        return vector if query.taste is None else unit(vector + query.taste)

    def swap(self, table: Table, slots: Slots, factors: NDArray[np.float32]) -> None:
        """Take vectors; they are kept at length 1."""
        super().swap(table, slots, unit(np.nan_to_num(factors)))

    def carriers(self, table: Table, query: Query, items: Slots) -> Slots:
        """The past item whose weighted cosine to each is largest."""
        known = (query.items >= 0) & (query.items < table.size)
        past = query.items[known]
        if not len(past):
            return np.full(len(items), NONE, np.int32)
        shares = (table["vector"][items] @ table["vector"][past].T) * query.weights[known]
        best = shares.argmax(axis=1)
        carried = shares[np.arange(len(items)), best] > 0
        return np.where(carried, past[best], NONE).astype(np.int32)
