"""The best few of many scores, in one pass: a heap whose root is the weakest kept so far."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import Scores
from models.columns import Slots
from models.kernels import kernel


def top_products(
    vectors: NDArray[np.float32], user: NDArray[np.float32], usable: NDArray[np.bool_], top: int
) -> tuple[Slots, Scores]:
    """The usable items whose inner product with `user` is highest and positive, in no order.

    >>> top_products(np.eye(3, dtype=np.float32), np.array([1, 3, 2], np.float32),
    ...              np.array([True, False, True]), 1)
    (array([2], dtype=int32), array([2.], dtype=float32))
    """
    return top_scores(vectors @ user, usable, top)


def top_scores(scores: Scores, usable: NDArray[np.bool_], top: int) -> tuple[Slots, Scores]:
    """The usable slots with the highest positive scores, at most `top`, in no order."""
    size = min(len(scores), len(usable))
    top = min(top, size)
    slots, best = np.empty(top, np.int32), np.empty(top, np.float32)
    count = _top(scores[:size], usable, slots, best) if top else 0
    return slots[:count], best[:count]


@kernel
def push(slot: int, score: float, count: int, slots: Any, best: Any) -> int:
    """Offer a score to the heap of `len(best)` places; returns how many places are taken."""
    size = len(best)
    if count < size:
        at = count
        while at > 0 and best[(at - 1) // 2] > score:
            best[at], slots[at] = best[(at - 1) // 2], slots[(at - 1) // 2]
            at = (at - 1) // 2
        best[at], slots[at] = score, slot
        return count + 1
    if score > best[0]:
        at = 0
        while True:
            below = 2 * at + 1
            if below >= size:
                break
            if below + 1 < size and best[below + 1] < best[below]:
                below += 1
            if best[below] >= score:
                break
            best[at], slots[at] = best[below], slots[below]
            at = below
        best[at], slots[at] = score, slot
    return count


@kernel
def _top(scores: Any, usable: Any, slots: Any, best: Any) -> int:
    count = 0
    for slot in range(len(scores)):
        score = scores[slot]
        if (
            score > 0.0
            and score < np.inf
            and (count < len(best) or score > best[0])
            and usable[slot]
        ):
            count = push(slot, score, count, slots, best)
    return count
