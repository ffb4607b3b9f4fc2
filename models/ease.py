"""EASE: how much each item speaks for another once all others have spoken, from a refit.

Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data": with X the users' items and
P = (X'X + r I)^-1 the weights are -P[i, j] / P[j, j]. Cosines count a pair alone; these leave out
what a third item explains, and speak against what goes with others. Only the busiest items have
weights, and only each one's largest stay, positive or negative.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import Answers, ItemEvents, Query, Scores
from models.columns import NONE, Column, Slots, Table
from models.kernels import fetch, kernel
from models.scratch import Scratch

NOTHING = np.float32(1e-30)  # a sum that came to 0
AHEAD = 2  # rows that are asked of memory before they are read


@dataclass(frozen=True)
class EaseConfig:
    """Args: ridge r; the busiest items, whose inverse takes n^3 steps; weights kept an item."""

    regularisation: float = 100.0
    items: int = 4_000
    neighbours: int = 32


@dataclass(frozen=True)
class Weights:
    """The largest weights of each of n items on others by magnitude, the largest first.

    `neighbours` holds rows of the same n, NONE where there are fewer.
    """

    neighbours: NDArray[np.int32]  # (n, k)
    values: NDArray[np.float32]  # (n, k)


def fit(user_items: Any, config: EaseConfig) -> Weights:
    """The weights of all items.

    Args:
        user_items: scipy CSR matrix, users in rows; what is not zero counts as 1.

    >>> from scipy.sparse import csr_matrix
    >>> likes = csr_matrix([[1, 1, 0], [1, 1, 0], [0, 1, 1]])
    >>> fit(likes, EaseConfig(regularisation=1.0, neighbours=1)).neighbours.ravel().tolist()
    [1, 0, 1]
    """
    from scipy.linalg import lapack  # slow to import
    from threadpoolctl import threadpool_limits

    items, k = user_items.shape[1], config.neighbours
    neighbours, values = np.full((items, k), NONE, np.int32), np.zeros((items, k), np.float32)
    counts = np.asarray(user_items.getnnz(axis=0), np.int64)
    busiest = np.argsort(-counts, kind="stable")[: config.items]
    busiest = busiest[counts[busiest] > 0].astype(np.int32)
    k = min(k, len(busiest) - 1)
    if k < 1:
        return Weights(neighbours, values)
    part = user_items[:, busiest].astype(np.float64)  # in single precision the ridge can drown
    part.data[:] = 1.0
    gram = (part.T @ part).toarray(order="F")
    gram[np.diag_indices_from(gram)] += config.regularisation
    with threadpool_limits(1, "blas"):  # several wait for one another beside a busy worker
        factor, _ = lapack.dpotrf(gram, overwrite_a=True)
        inverse, _ = lapack.dpotri(factor, overwrite_c=True)  # the upper half
    diagonal = np.diag(inverse).copy()
    for at, item in enumerate(busiest):
        weights = np.concatenate([inverse[:at, at], inverse[at, at:]])
        weights /= -diagonal
        weights[at] = 0.0
        loud = np.abs(weights)
        largest = np.argpartition(-loud, k - 1)[:k]
        largest = largest[np.argsort(-loud[largest], kind="stable")]
        neighbours[item, :k] = np.where(weights[largest] != 0, busiest[largest], NONE)
        values[item, :k] = weights[largest]
    return Weights(neighbours, values)


class Ease:
    """Scores items by the sum of the weights that a user's items have on them."""

    name = "ease"

    def __init__(self, config: EaseConfig | None = None) -> None:
        self.config = config or EaseConfig()
        self._sums = Scratch(np.float32)

    @property
    def columns(self) -> tuple[Column, ...]:
        k = self.config.neighbours
        return (
            Column("neighbour", "<i4", k, derived=True, empty=NONE),
            Column("weight", "<f4", k, derived=True),
        )

    def learn(self, table: Table, events: ItemEvents) -> None:
        """Nothing: weights come with refits."""

    def swap(self, table: Table, slots: Slots, weights: Weights) -> None:
        """Take the weights of a refit of the items in `slots`; others have none.

        Of more an item than there is room for the largest stay: while versions change, a refit may
        be another's.
        """
        table["neighbour"][:], table["weight"][:] = NONE, 0.0
        neighbours = weights.neighbours[:, : self.config.neighbours]
        k = neighbours.shape[1]
        table["neighbour"][slots, :k] = np.where(neighbours != NONE, slots[neighbours], NONE)
        table["weight"][slots, :k] = np.nan_to_num(weights.values[:, :k])

    def recommend(self, table: Table, query: Query) -> tuple[Slots, Scores]:
        """Usable items that the query's items have weights on."""
        bounds, liked = np.array([0, len(query.items)]), np.ones(len(query.items), np.float32)
        return self.recommend_all(table, query.items, liked, bounds, query.usable[None]).to(0)

    def recommend_all(
        self, table: Table, past: Slots, wants: Scores, bounds: NDArray[np.int64],
        usable: NDArray[np.bool_],
    ) -> Answers:  # fmt: skip
        """`recommend` for n users; all that a user likes counts the same, as in the paper.

        Args:
            past: their items, user i's [bounds[i], bounds[i + 1]).
            wants: how much each of those is wanted; what is not positive is not liked.
            usable: shape (n, items).
        """
        if table.size < 2 or not len(usable):  # a single row is another layout, and says nothing
            return Answers.none(len(usable))
        users, size = len(usable), len(table["neighbour"])
        room = min(len(past) * self.config.neighbours, users * size) + 1
        slots, scores = np.empty(room, np.int32), np.empty(room, np.float32)
        starts, stops = np.empty(users, np.int64), np.empty(users, np.int64)
        _add_up_all(
            table["neighbour"][: table.size], table["weight"][: table.size], past, wants, bounds,
            usable, self._sums.room(size), slots, scores, starts, stops,
        )  # fmt: skip
        return Answers(slots[: stops[-1]], scores[: stops[-1]], starts, stops)

    def carriers(self, table: Table, query: Query, items: Slots) -> Slots:
        """The past item with the largest weight on each item."""
        out, asked = np.full(len(items), NONE, np.int32), np.ones(len(items), np.bool_)
        bounds, liked = np.array([0, len(query.items)]), np.ones(len(query.items), np.float32)
        starts = np.array([0, len(items)])
        self.carry_all(table, query.items, liked, bounds, items, starts, asked, out)
        return out

    def carry_all(
        self, table: Table, past: Slots, wants: Scores, bounds: NDArray[np.int64], items: Slots,
        starts: NDArray[np.int64], asked: NDArray[np.bool_], out: Slots,
    ) -> None:  # fmt: skip
        """`carriers` of n users' items, user i's are [starts[i], starts[i + 1])."""
        if table.size < 2:
            out[asked] = NONE
            return
        _carry_all(
            table["neighbour"][: table.size], table["weight"][: table.size], past, wants, bounds,
            items, starts, asked, out,
        )  # fmt: skip


@kernel
def _add_up_all(
    neighbours: Any, weights: Any, past: Any, wants: Any, bounds: Any, usable: Any, sums: Any,
    slots: Any, scores: Any, starts: Any, stops: Any,
) -> None:  # fmt: skip
    """Each user's sums of weights; `sums` has a place an item, and is zero before and after.

    Whether an item is met for the first time is anybody's guess, so nothing branches on it.
    """
    count, row_bytes = 0, 4 * neighbours.shape[1]
    for user in range(len(starts)):
        starts[user] = count
        touched = starts[user]
        for m in range(bounds[user], bounds[user + 1]):
            ahead = past[min(m + AHEAD, len(past) - 1)]
            fetch(neighbours, ahead, 0, row_bytes)
            fetch(weights, ahead, 0, row_bytes)
            if not 0 <= past[m] < len(neighbours) or not wants[m] > 0.0:
                continue
            others, said = neighbours[past[m]], weights[past[m]]
            for k in range(len(others)):
                item = others[k]
                if item == NONE:
                    break
                before = sums[item]
                slots[touched] = item
                touched += before == 0.0
                after = before + said[k]
                sums[item] = after if after != 0.0 else NOTHING  # it is among the slots
        mask = usable[user]
        for at in range(count, touched):
            item = np.uint32(slots[at])
            score = sums[item]
            sums[item] = np.float32(0.0)
            free = item < np.uint32(len(mask)) and mask[item]
            slots[count], scores[count] = item, score
            count += int(free and score > NOTHING)
        stops[user] = count


@kernel
def _carry_all(
    neighbours: Any, weights: Any, past: Any, wants: Any, bounds: Any, items: Any, starts: Any,
    asked: Any, out: Any,
) -> None:  # fmt: skip
    for user in range(len(starts) - 1):
        for at in range(starts[user], starts[user + 1]):
            if not asked[at]:
                continue
            most, out[at] = np.float32(0.0), NONE
            for m in range(bounds[user], bounds[user + 1]):
                if not 0 <= past[m] < len(neighbours) or not wants[m] > 0.0:
                    continue
                others, said = neighbours[past[m]], weights[past[m]]
                for k in range(len(others)):
                    if abs(said[k]) <= most:
                        break  # the largest come first
                    if others[k] == items[at] and said[k] > 0.0:
                        most, out[at] = said[k], past[m]
