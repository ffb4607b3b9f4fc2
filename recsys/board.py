"""The board: what every source says of every item, for one list, and the union of their best."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import Scores
from models.columns import Slots
from models.kernels import kernel
from models.top import push

TOUCHED = -1  # the place of an item that somebody spoke of and that is in no union yet


@dataclass(frozen=True, slots=True)
class Candidates:
    """The union: c items, what each of the sources says of them, and which ones found them."""

    items: Slots  # (c,)
    scores: NDArray[np.float32]  # (c, sources), 0 where a source says nothing
    found: NDArray[np.uint32]  # (c,), bit s: among the best of source s

    def __len__(self) -> int:
        return len(self.items)


class Board:
    """Scores of all items by all sources, for one list at a time; one instance a pipeline.

    A row an item and a column a source, so that what the union needs of an item lies together.
    Only rows that somebody wrote are ever read or wiped.

    Args:
        shares: a source's part of the places, 1 for `limit` of them.
    """

    def __init__(self, shares: Sequence[float]) -> None:
        self._shares = np.array(shares, np.float64)
        sources = len(shares)
        self.said: NDArray[np.float32] = np.zeros((0, sources), np.float32)
        self.room: Slots = np.zeros(0, np.int32)  # for those who write many rows
        self._places = np.zeros(0, np.int32)
        self._touched = np.zeros(0, np.int32)
        self._counters = np.zeros(1, np.int64)  # rows touched
        self._limits = np.zeros(sources, np.int64)
        self._taken = np.zeros(sources, np.int64)
        self._best_slots = np.zeros((sources, 0), np.int32)
        self._best = np.zeros((sources, 0), np.float32)
        self.usable: NDArray[np.bool_] = np.zeros(0, np.bool_)

    def open(self, usable: NDArray[np.bool_], limit: int) -> None:
        """Wipe it for a new list: the best `limit` usable items of each source, or its share.

        `usable` is a mask over all slots.
        """
        _wipe(self.said, self._places, self._touched, self._counters)
        if len(self.said) < len(usable):
            size = max(len(usable), 2 * len(self.said))
            self.said = np.zeros((size, len(self._shares)), np.float32)
            self._places, self._touched = np.zeros(size, np.int32), np.zeros(size, np.int32)
            self.room = np.zeros(size, np.int32)
        self.usable = usable
        self._limits = np.ceil(self._shares * limit).astype(np.int64)
        self._taken[:] = 0
        most = int(self._limits.max(initial=0))
        if self._best.shape[1] < most:
            self._best_slots = np.zeros((len(self._shares), most), np.int32)
            self._best = np.zeros((len(self._shares), most), np.float32)

    def put(self, column: int, slots: Slots, scores: Scores) -> None:
        """A source speaks; what is not a positive number is not heard."""
        if len(slots):
            _put(
                slots, scores, column, self.usable, self._limits, self.said, self._places,
                self._touched, self._counters, self._best_slots, self._best, self._taken,
            )  # fmt: skip

    def offer(self, column: int, columns: int, slots: Slots) -> None:
        """Somebody wrote the rows of `slots` (each once) in these columns of `said` himself."""
        _offer(
            slots, column, columns, self.usable, self._limits, self.said, self._places,
            self._touched, self._counters, self._best_slots, self._best, self._taken,
        )  # fmt: skip

    def union(self) -> Candidates:
        """The best of all sources, in the order of the sources."""
        room = int(self._taken.sum())
        items = np.empty(room, np.int32)
        scores = np.empty((room, len(self._shares)), np.float32)
        found = np.zeros(room, np.uint32)
        count = _union(self._best_slots, self._taken, self.said, self._places, items, scores, found)
        return Candidates(items[:count], scores[:count], found[:count])


@kernel
def _wipe(said: Any, places: Any, touched: Any, counters: Any) -> None:
    for at in range(counters[0]):
        said[touched[at]] = np.float32(0.0)
        places[touched[at]] = 0
    counters[0] = 0


@kernel
def _put(
    slots: Any, scores: Any, column: int, usable: Any, limits: Any, said: Any, places: Any,
    touched: Any, counters: Any, best_slots: Any, best: Any, taken: Any,
) -> None:  # fmt: skip
    best_slots, best = best_slots[column, : limits[column]], best[column, : limits[column]]
    said = said[:, column]
    count, lowest = taken[column], np.float32(0.0)
    for at in range(len(slots)):
        slot, score = np.uint32(slots[at]), scores[at]
        if slot < np.uint32(len(usable)) and score > 0.0 and score < np.inf:
            if places[slot] == 0:
                places[slot] = TOUCHED
                touched[counters[0]] = slot
                counters[0] += 1
            said[slot] = score
            if score > lowest and usable[slot]:
                count = push(int(slot), score, count, best_slots, best)
                if count == len(best):
                    lowest = best[0]
    taken[column] = count


@kernel
def _offer(
    slots: Any, column: int, columns: int, usable: Any, limits: Any, said: Any, places: Any,
    touched: Any, counters: Any, best_slots: Any, best: Any, taken: Any,
) -> None:  # fmt: skip
    for at in range(len(slots)):
        slot = np.uint32(slots[at])
        if places[slot] == 0:
            places[slot] = TOUCHED
            touched[counters[0]] = slot
            counters[0] += 1
    for c in range(column, column + columns):
        mine, top, scores = best_slots[c, : limits[c]], best[c, : limits[c]], said[:, c]
        count, lowest = 0, np.float32(0.0)
        for at in range(len(slots)):
            slot = np.uint32(slots[at])
            if not scores[slot] < np.inf:
                scores[slot] = np.float32(0.0)
            elif scores[slot] > lowest and usable[slot]:
                count = push(int(slot), scores[slot], count, mine, top)
                if count == len(top):
                    lowest = top[0]
        taken[c] = count


@kernel
def _union(
    best_slots: Any, taken: Any, said: Any, places: Any, items: Any, scores: Any, found: Any
) -> int:
    count = 0
    for s in range(len(taken)):
        for at in range(taken[s]):
            slot = best_slots[s, at]
            if places[slot] == TOUCHED:
                items[count] = slot
                scores[count] = said[slot]
                count += 1
                places[slot] = count
            found[places[slot] - 1] |= np.uint32(1) << np.uint32(s)
    return count
