"""The board: what every source says of every item, for one list, and the union of their best."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import Scores
from models.columns import Slots
from models.kernels import kernel
from models.top import POSITIVE, ROOM, best_of, select


@dataclass(frozen=True, slots=True)
class Candidates:
    """The union: c items, what each of the sources says of them, and which ones found them."""

    items: Slots  # (c,)
    scores: NDArray[np.float32]  # (c, sources), 0 where a source says nothing
    found: NDArray[np.uint32]  # (c,), bit s: among the best of source s

    def __len__(self) -> int:
        return len(self.items)


class Board:
    """Scores of items by all sources, for one list at a time; one instance a pipeline.

    An item that somebody speaks of gets a column, a source has a row: what is read in one go lies
    together, however many items there are.

    Args:
        shares: a source's part of the places, 1 for `limit` of them.
    """

    def __init__(self, shares: Sequence[float]) -> None:
        self._shares = np.array(shares, np.float64)
        sources = len(shares)
        self.places: NDArray[np.int32] = np.zeros(0, np.int32)  # an item's column + 1; 0: none
        self.count = 0  # columns taken
        self.slots: Slots = np.zeros(0, np.int32)  # the items of the columns
        self.said: NDArray[np.float32] = np.zeros((sources, 0), np.float32)
        self._joined = np.zeros(0, np.int32)  # a column's place in the union + 1; 0: none
        self._limit = 0
        self._limits = np.zeros(sources, np.int64)
        self._taken = np.zeros(sources, np.int64)
        self._best_columns = np.zeros((sources, 0), np.int32)
        self._best = np.zeros((sources, 0), np.float32)
        self._usable: NDArray[np.bool_] = np.zeros(0, np.bool_)

    def open(self, usable: NDArray[np.bool_], limit: int) -> None:
        """Wipe it for a new list: the best `limit` usable items of each source, or its share.

        `usable` is a mask over all slots.
        """
        _wipe(self.places, self.slots, self.count, self.said, self._joined)
        self.count = 0
        if len(self.places) < len(usable):
            self.places = np.zeros(max(len(usable), 2 * len(self.places)), np.int32)
        self._usable = usable
        self._taken[:] = 0
        if limit != self._limit:
            self._limit, self._limits = limit, np.ceil(self._shares * limit).astype(np.int64)
            most = ROOM * int(self._limits.max(initial=0))
            self._best_columns = np.zeros((len(self._shares), most), np.int32)
            self._best = np.zeros((len(self._shares), most), np.float32)

    def reserve(self, more: int) -> None:
        """Room for so many more columns; there are never more than items."""
        needed = min(self.count + more, len(self.places))
        had = len(self.slots)
        if needed > had:
            size = max(needed, 2 * had)
            self.slots = np.concatenate([self.slots, np.zeros(size - had, np.int32)])
            self._joined = np.concatenate([self._joined, np.zeros(size - had, np.int32)])
            more_said = np.zeros((len(self._shares), size - had), np.float32)
            self.said = np.concatenate([self.said, more_said], axis=1)

    def put(self, row: int, slots: Slots, scores: Scores) -> None:
        """A source speaks; what is not a positive number is not heard."""
        if len(slots):
            if self.count + len(slots) > len(self.slots):
                self.reserve(len(slots))
            self.count = _put(
                row, slots, scores, self._usable, self._limits, self.places, self.slots,
                self.count, self.said, self._best_columns, self._best, self._taken,
            )  # fmt: skip

    def offer(self, rows: range) -> None:
        """Somebody wrote these rows of `said` himself, and took columns as needed."""
        _offer(
            rows.start, rows.stop, self._usable, self._limits, self.slots, self.count, self.said,
            self._best_columns, self._best, self._taken,
        )  # fmt: skip

    def union(self) -> Candidates:
        """The best of all sources, in the order of the sources."""
        room = sum(self._taken.tolist())
        items = np.empty(room, np.int32)
        scores = np.empty((room, len(self._shares)), np.float32)
        found = np.zeros(room, np.uint32)
        count = _union(
            self._best_columns, self._taken, self.said, self.slots, self._joined,
            items, scores, found,
        )  # fmt: skip
        return Candidates(items[:count], scores[:count], found[:count])


@kernel
def _wipe(places: Any, slots: Any, count: int, said: Any, joined: Any) -> None:
    for column in range(count):
        places[slots[column]] = 0
        joined[column] = 0
    for row in range(len(said)):
        said[row, :count] = np.float32(0.0)


@kernel
def _put(
    row: int, said_of: Any, scores: Any, usable: Any, limits: Any, places: Any, slots: Any,
    count: int, said: Any, best_columns: Any, best: Any, taken: Any,
) -> int:  # fmt: skip
    said, best_columns, best = said[row], best_columns[row], best[row]
    limit = limits[row]
    kept, lowest, room = 0, POSITIVE, ROOM * limit
    for at in range(len(said_of)):
        slot, score = np.uint32(said_of[at]), scores[at]
        if slot < np.uint32(len(usable)) and score > 0.0 and score < np.inf:
            if places[slot] == 0:
                slots[count] = slot
                count += 1
                places[slot] = count
            column = places[slot] - 1
            said[column] = score
            if score >= lowest and usable[slot]:
                best_columns[kept], best[kept] = column, score
                kept += 1
                if kept == room:
                    select(kept, limit, best_columns, best)
                    kept, lowest = limit, np.min(best[:limit])
    if kept > limit:
        select(kept, limit, best_columns, best)
        kept = limit
    taken[row] = kept
    return count


@kernel
def _offer(
    start: int, stop: int, usable: Any, limits: Any, slots: Any, count: int, said: Any,
    best_columns: Any, best: Any, taken: Any,
) -> None:  # fmt: skip
    open_to = np.zeros(count, np.float32)
    for column in range(count):
        slot = np.uint32(slots[column])
        if slot < np.uint32(len(usable)) and usable[slot]:
            open_to[column] = np.float32(1.0)
    heard = np.empty(count, np.float32)
    for row in range(start, stop):
        scores, room = said[row][:count], ROOM * limits[row]
        for column in range(count):
            score = scores[column]
            score = score if score < np.float32(np.inf) else np.float32(0.0)
            scores[column] = score
            heard[column] = score * open_to[column]
        taken[row] = best_of(heard, limits[row], best_columns[row][:room], best[row][:room])


@kernel
def _union(
    best_columns: Any, taken: Any, said: Any, slots: Any, joined: Any, items: Any, scores: Any,
    found: Any,
) -> int:  # fmt: skip
    count = 0
    for s in range(len(taken)):
        for at in range(taken[s]):
            column = best_columns[s, at]
            if joined[column] == 0:
                items[count] = slots[column]
                for source in range(len(said)):
                    scores[count, source] = said[source, column]
                count += 1
                joined[column] = count
            found[joined[column] - 1] |= np.uint32(1) << np.uint32(s)
    return count
