"""Products whose pictures show the same thing, so that a list never shows it twice.

Two products are twins when their pictures are near enough; a group is the union of such pairs.
What is near enough is a cosine: of the frozen EfficientNet-Lite0, 0.95 is reached by two of 3,068
photos of different garments (and those two show one garment); of a Siamese head, its training
reports the cosine from which on two photos show one product with 95 %.
"""

import numpy as np
from numpy.typing import NDArray

from models.base import Scores
from models.columns import Slots


class Twins:
    """Groups of item slots. A slot that goes leaves its group; the others stay together."""

    def __init__(self) -> None:
        self._group: dict[int, set[int]] = {}  # of those that have a twin, the set they share

    def __len__(self) -> int:
        """How many slots have a twin."""
        return len(self._group)

    def unite(self, slot: int, others: Slots) -> None:
        """The slot shows the same as each of the others."""
        united = {slot, *others.tolist()}
        if len(united) < 2:
            return
        for each in tuple(united):
            united |= self._group.get(each, set())
        for each in united:
            self._group[each] = united

    def remove(self, slot: int) -> None:
        """The slot shows something else now, or nothing."""
        group = self._group.pop(slot, None)
        if group is not None:
            group.discard(slot)
            if len(group) == 1:
                del self._group[group.pop()]

    def of(self, items: Slots) -> Slots:
        """All twins of these items, they themselves among them where they have any."""
        found: set[int] = set()
        for item in items.tolist():
            found |= self._group.get(item, set())
        return np.array(sorted(found), np.int32)

    def single(self, items: Slots, scores: Scores) -> NDArray[np.intp]:
        """Indices that leave one of each group: the best by score, the first among equals.

        >>> twins = Twins()
        >>> twins.unite(3, np.array([5], np.int32))
        >>> twins.single(np.array([5, 4, 3], np.int32), np.array([0.1, 0.2, 0.3])).tolist()
        [1, 2]
        """
        if not self._group:
            return np.arange(len(items))
        best: dict[int, int] = {}
        dropped = []
        for at, item in enumerate(items.tolist()):
            group = self._group.get(item)
            if group is None:
                continue
            other = best.setdefault(id(group), at)
            if other != at:
                keep, drop = (at, other) if scores[at] > scores[other] else (other, at)
                best[id(group)] = keep
                dropped.append(drop)
        return np.delete(np.arange(len(items)), dropped)
