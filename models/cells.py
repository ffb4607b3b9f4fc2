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

from models.base import Answers, Scores
from models.columns import Slots
from models.kernels import kernel
from models.scratch import Scratch
from models.top import ROOM, best_of, select

CELL_SIZE, CELLS_MAX = 256, 1_024
BLOCK = 256  # vectors whose products are worked out for all users before the next are read
SPARE = 32  # more than are asked for, of which some may not be usable
ONE_BY_ONE = 32  # cells are chosen so; if that is not enough, they are put in order
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
        # Of the newest search: a row a user.
        most = len(apart) + self.look_at + int(np.diff(self.starts).max(initial=0))
        self._room = min(len(self), most) if cells > 1 else len(self)
        self._scores, self._spans = Scratch(np.float32), Scratch(np.int64)

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
        return self.search_all(user[None], usable[None], np.array([top])).to(0)

    def search_all(
        self, users: NDArray[np.float32], usable: NDArray[np.bool_], tops: NDArray[np.int64]
    ) -> Answers:
        """`search` for each row of `users`, with a row of `usable` and a number of answers each.

        Vectors are read once for all of them, a block at a time, and each user's products are
        worked out by themselves: who else is searched for changes nothing.
        """
        if not len(self):
            return Answers.none(len(users))
        count, parts = len(users), len(self.centres) + 1
        products = self._scores.room(count * self._room).reshape(count, self._room)
        looked_at = self._spans.room(count * parts * 2).reshape(count, parts, 2)
        spans = _score_all(
            self.centres, self.starts, self.vectors, users, self.look_at, products, looked_at
        )
        room = sum(max(top, 0) for top in tops.tolist())
        slots, scores = np.empty(room, np.int32), np.empty(room, np.float32)
        starts, stops = np.empty(len(users), np.int64), np.empty(len(users), np.int64)
        _best_of_all(
            products, looked_at, spans, self.slots, usable, tops, slots, scores, starts, stops
        )
        return Answers(slots, scores, starts, stops)


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
def _score_all(
    centres: Any, starts: Any, vectors: Any, users: Any, look_at: int, scores: Any, spans: Any
) -> Any:
    """Products of each user with the vectors they look at.

    `spans` gets from which vector to which these are, in their order; returned is how many spans
    each user has.
    """
    cells = len(centres)
    taken = np.zeros((len(users), cells + 1), np.bool_)  # the longest, then cells
    for u in range(len(users)):
        taken[u, 0] = True
        _take(np.dot(centres, users[u]), starts, look_at, taken[u, 1:])
    filled, rows = np.zeros(len(users), np.int64), np.zeros(len(users), np.int64)
    for part in range(cells + 1):
        first, last = (0, starts[0]) if part == 0 else (starts[part - 1], starts[part])
        for start in range(first, last, BLOCK):
            stop = min(start + BLOCK, last)
            for u in range(len(users)):
                if taken[u, part]:
                    mine = scores[u][filled[u] : filled[u] + stop - start]
                    np.dot(vectors[start:stop], users[u], mine)
                    filled[u] += stop - start
        for u in range(len(users)):
            if taken[u, part]:
                spans[u, rows[u], 0], spans[u, rows[u], 1] = first, last
                rows[u] += 1
    return rows


@kernel
def _take(products: Any, starts: Any, look_at: int, taken: Any) -> None:
    """Mark the cells of the highest products, until enough vectors are in them."""
    looked = 0
    for _ in range(min(ONE_BY_ONE, len(products))):
        cell = np.argmax(products)
        products[cell] = -np.inf
        taken[cell] = True
        looked += starts[cell + 1] - starts[cell]
        if looked >= look_at:
            return
    for cell in np.argsort(-products):
        looked += 0 if taken[cell] else starts[cell + 1] - starts[cell]
        taken[cell] = True
        if looked >= look_at:
            return


@kernel
def _best_of_all(
    scores: Any, spans: Any, held: Any, slots: Any, usable: Any, tops: Any, found: Any, best: Any,
    starts: Any, stops: Any,
) -> None:  # fmt: skip
    """`_best` for every user, one behind the other."""
    count = 0
    for number in range(len(tops)):
        starts[number] = count
        if tops[number] > 0:
            end = count + tops[number]
            count += _best(
                number, scores, spans, held, slots, usable[number], tops[number],
                found[count:end], best[count:end],
            )  # fmt: skip
        stops[number] = count


@kernel
def _best(
    number: int, scores: Any, spans: Any, held: Any, slots: Any, usable: Any, top: int,
    found: Any, best: Any,
) -> int:  # fmt: skip
    """The best usable ones of a user's products, with their slots; returns how many.

    Few products are among the best, so those are asked for first and masked afterwards; where too
    many of them are not usable, all are masked and asked for again.
    """
    mine, room = scores[number], ROOM * (top + SPARE)
    places, highest = np.empty(room, np.int32), np.empty(room, np.float32)
    looked_at = 0
    for span in range(held[number]):
        looked_at += spans[number, span, 1] - spans[number, span, 0]
    kept = best_of(mine[:looked_at], top + SPARE, places, highest)
    left = 0
    for at in range(kept):
        slot = _slot_at(places[at], spans[number], slots)
        if slot < len(usable) and usable[slot]:
            places[left], highest[left] = slot, highest[at]
            left += 1
    if left < top and kept == top + SPARE:
        _mask(mine, spans[number, : held[number]], slots, usable)
        left = best_of(mine[:looked_at], top, places, highest)
        for at in range(left):
            places[at] = _slot_at(places[at], spans[number], slots)
    elif left > top:
        select(left, top, places, highest)
        left = top
    found[:left], best[:left] = places[:left], highest[:left]
    return left


@kernel
def _slot_at(place: int, spans: Any, slots: Any) -> int:
    """Whose a user's product is: they lie span behind span."""
    span = 0
    while place >= spans[span, 1] - spans[span, 0]:
        place -= spans[span, 1] - spans[span, 0]
        span += 1
    return int(slots[spans[span, 0] + place])


@kernel
def _mask(scores: Any, spans: Any, slots: Any, usable: Any) -> None:
    """No product is left of what is not usable."""
    count = 0
    for span in range(len(spans)):
        for at in range(spans[span, 0], spans[span, 1]):
            if slots[at] >= len(usable) or not usable[slots[at]]:
                scores[count] = np.float32(0.0)
            count += 1
