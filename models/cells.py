"""Vectors in cells of near ones, so that a question looks at a few thousand and not at all.

An inverted file (Jegou, Douze, Schmid 2011, without the codes): k-means centres, and the vectors
stored cell by cell. A question scores the centres, then whole cells, best centre first, until
enough vectors were looked at. How many that is depends on how well they fall into cells, so it is
measured on questions made of the vectors themselves. Few are all looked at: the answer is exact.

An inner product grows with a vector's length, and a factorisation makes a few vectors far longer
than the rest; a long one lies far from every centre. So the longest stand apart, and every question
looks at them: recall@50 on factors of 100,000 items goes from .77 to 1 (docs/decisions.md).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import Scores, empty_answer
from models.columns import Slots
from models.kernels import kernel
from models.top import ROOM, best_of

CELL_SIZE, CELLS_MAX = 256, 1_024  # one product of a matrix and a vector each
ROUNDS = 4
SAMPLE = 20_000


@dataclass(frozen=True)
class CellsConfig:
    """How many vectors one question looks at.

    Args:
        look_at: vectors in cells, at least.
        longest: of the vectors over twice the median length so many are looked at always.
        recall: share of the best `top` that is to be found, on the questions it is measured with.
        seed: of the centres and of those questions.
    """

    look_at: int = 1_024
    longest: int = 2_048
    recall: float = 0.985
    top: int = 50
    questions: int = 64
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
        few = len(slots) <= self.config.look_at
        apart = np.zeros(0, np.int64) if few else _longest(vectors[slots], self.config.longest)
        rest = np.delete(np.arange(len(slots)), apart)
        rows = vectors[slots[rest]]
        cells = 1 if few else min(max(1, len(rest) // CELL_SIZE), CELLS_MAX)
        self.centres = _centres(rows, cells, self.config.seed)
        cell_of = _nearest(rows, self.centres)
        order = np.argsort(cell_of, kind="stable")
        self.slots: Slots = slots[np.concatenate([apart, rest[order]])]
        self.vectors: NDArray[np.float32] = np.ascontiguousarray(vectors[self.slots])
        places = np.searchsorted(cell_of[order], np.arange(cells + 1)).astype(np.int64)
        self.starts = places + len(apart)  # the longest come first, cells after them
        self.look_at = self.config.look_at if cells == 1 else self._enough(rows)

    def __len__(self) -> int:
        return len(self.slots)

    def _enough(self, rows: NDArray[np.float32]) -> int:
        """Vectors to look at for the configured recall, measured.

        A question is the sum of three vectors, as a user's is of what they like.
        """
        rng = np.random.default_rng(self.config.seed)
        needed = []
        for three in rng.integers(len(rows), size=(self.config.questions, 3)):
            user = rows[three].sum(axis=0)
            best = np.argsort(-(self.vectors @ user))[: self.config.top]
            order = np.argsort(-(self.centres @ user))
            before = np.zeros(len(order), np.int64)
            before[order[1:]] = np.cumsum(np.diff(self.starts)[order])[:-1]
            in_cells = best[best >= self.starts[0]]
            cells = np.searchsorted(self.starts, in_cells, side="right") - 1
            needed += [*(before[cells] + 1).tolist(), *[0] * (len(best) - len(in_cells))]
        return max(self.config.look_at, int(np.quantile(needed, self.config.recall)))

    def search(
        self, user: NDArray[np.float32], usable: NDArray[np.bool_], top: int
    ) -> tuple[Slots, Scores]:
        """Usable slots with high positive inner products, at most `top`, in no order."""
        top = min(top, len(self))
        if not top:
            return empty_answer()
        slots, best = np.empty(top, np.int32), np.empty(ROOM * top, np.float32)
        count = _search(
            self.centres, self.starts, self.vectors, self.slots, user, usable,
            self.look_at, top, slots, best,
        )  # fmt: skip
        return slots[:count], best[:count]


def _longest(rows: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Indices of the longest rows among those over twice the median length, at most `count`."""
    lengths = np.sqrt((rows * rows).sum(axis=1))
    long = np.flatnonzero(lengths > 2.0 * np.median(lengths))
    return long[np.argsort(-lengths[long], kind="stable")[:count]]


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
    top: int, found: Any, best: Any,
) -> int:  # fmt: skip
    if not np.any(user):
        return 0
    order = np.argsort(-np.dot(centres, user)) if len(centres) > 1 else np.zeros(1, np.int64)
    scores, mine = np.empty(len(vectors), np.float32), np.empty(len(vectors), np.int32)
    count, looked = 0, 0
    for turn in range(-1, len(order)):
        start, stop = 0, starts[0]  # the longest
        if turn >= 0:
            start, stop = starts[order[turn]], starts[order[turn] + 1]
            looked += stop - start
        more = count + stop - start
        np.dot(vectors[start:stop], user, scores[count:more])
        mine[count:more] = slots[start:stop]
        count = more
        if looked >= look_at:
            break
    for at in range(count):
        if mine[at] >= len(usable) or not usable[mine[at]]:
            scores[at] = np.float32(0.0)
    places = np.empty(ROOM * top, np.int32)
    kept = best_of(scores[:count], top, places, best)
    for at in range(kept):
        found[at] = mine[places[at]]
    return kept
