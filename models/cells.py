"""Vectors in cells of near ones, so that a question looks at a few thousand and not at all.

An inverted file (Jegou, Douze, Schmid 2011, without the codes): k-means centres, and the vectors
stored cell by cell. A question scores the centres, then whole cells, best centre first, until
enough vectors were looked at. Few vectors are all looked at: then the answer is exact.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import Scores, empty_answer
from models.columns import Slots
from models.kernels import kernel
from models.top import push

CELL_SIZE = 256  # one product of a matrix and a vector each
ROUNDS = 4
SAMPLE = 20_000


@dataclass(frozen=True)
class CellsConfig:
    """Args: vectors looked at for one question, at least; the seed of the centres."""

    look_at: int = 1_024
    seed: int = 1


class Cells:
    """Finds large inner products among the rows of a matrix; zero rows are never found.

    >>> cells = Cells(np.array([[1, 0], [0, 1], [0, 0], [2, 0]], np.float32))
    >>> cells.search(np.array([1, 0], np.float32), np.ones(4, np.bool_), 1)
    (array([3], dtype=int32), array([2.], dtype=float32))
    """

    def __init__(self, vectors: NDArray[np.float32], config: CellsConfig | None = None) -> None:
        self.config = config or CellsConfig()
        slots = np.flatnonzero(vectors.any(axis=1)).astype(np.int32)
        count = len(slots)
        cells = 1 if count <= self.config.look_at else count // CELL_SIZE
        rows = vectors[slots]
        self.centres = _centres(rows, cells, self.config.seed)
        cell_of = _nearest(rows, self.centres)
        order = np.argsort(cell_of, kind="stable")
        self.slots: Slots = slots[order]
        self.vectors: NDArray[np.float32] = np.ascontiguousarray(rows[order])
        self.starts = np.searchsorted(cell_of[order], np.arange(cells + 1)).astype(np.int64)

    def __len__(self) -> int:
        return len(self.slots)

    def search(
        self, user: NDArray[np.float32], usable: NDArray[np.bool_], top: int
    ) -> tuple[Slots, Scores]:
        """Usable slots with high positive inner products, at most `top`, in no order."""
        top = min(top, len(self))
        if not top:
            return empty_answer()
        slots, best = np.empty(top, np.int32), np.empty(top, np.float32)
        count = _search(
            self.centres, self.starts, self.vectors, self.slots, user, usable,
            self.config.look_at, slots, best,
        )  # fmt: skip
        return slots[:count], best[:count]


def _nearest(rows: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int64]:
    """Index of each row's nearest centre, in blocks that stay small."""
    lengths = (centres * centres).sum(axis=1)
    parts = [
        (2.0 * rows[at : at + 8192] @ centres.T - lengths).argmax(axis=1)
        for at in range(0, len(rows), 8192)
    ]
    return np.concatenate([np.empty(0, np.int64), *parts])


def _centres(rows: NDArray[np.float32], cells: int, seed: int) -> NDArray[np.float32]:
    """k-means on a sample; a centre that loses all its rows stays where it is."""
    rng = np.random.default_rng(seed)
    if len(rows) <= cells:
        return rows.copy()
    sample = rows[rng.permutation(len(rows))[:SAMPLE]]
    centres = sample[:cells].copy()
    for _ in range(ROUNDS if cells > 1 else 0):
        cell_of = _nearest(sample, centres)
        counts = np.bincount(cell_of, minlength=cells)
        sums = np.zeros_like(centres)
        np.add.at(sums, cell_of, sample)
        centres[counts > 0] = sums[counts > 0] / counts[counts > 0, None]
    return centres


@kernel
def _search(
    centres: Any, starts: Any, vectors: Any, slots: Any, user: Any, usable: Any, look_at: int,
    found: Any, best: Any,
) -> int:  # fmt: skip
    order = np.argsort(-np.dot(centres, user)) if len(centres) > 1 else np.zeros(1, np.int64)
    count, looked, threshold = 0, 0, np.float32(0.0)
    for cell in order:
        start, stop = starts[cell], starts[cell + 1]
        scores = np.dot(vectors[start:stop], user)
        for at in range(stop - start):
            score = scores[at]
            if score > threshold and score < np.inf:
                slot = slots[start + at]
                if slot < len(usable) and usable[slot]:
                    count = push(slot, score, count, found, best)
                    if count == len(best):
                        threshold = best[0]
        looked += stop - start
        if looked >= look_at:
            break
    return count
