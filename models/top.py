"""The best few of many scores: a bound that cuts most of them off, and Hoare's selection."""

from typing import Any

import numpy as np

from models.kernels import kernel

LANES = 128
ROOM = 4  # times as many places as are kept, so that a selection is rarely due
POSITIVE = np.float32(1e-45)  # the least of them


@kernel
def select(count: int, keep: int, places: Any, best: Any) -> None:
    """Move the `keep` highest of the first `count` to the front, in no order (Hoare 1961, FIND)."""
    low, high, last = 0, count - 1, keep - 1
    while low < high:
        pivot, left, right = best[last], low, high
        while left <= right:
            while best[left] > pivot:
                left += 1
            while pivot > best[right]:
                right -= 1
            if left <= right:
                best[left], best[right] = best[right], best[left]
                places[left], places[right] = places[right], places[left]
                left, right = left + 1, right - 1
        if right < last:
            low = left
        if last < left:
            high = right


@kernel
def bound(scores: Any, keep: int) -> float:
    """A positive number that at least `keep` scores reach, most often few more; or the least one.

    The scores are dealt out to lanes: the highest of each are different ones.
    """
    if keep >= LANES or len(scores) < 2 * LANES:
        return float(POSITIVE)
    lanes = np.zeros(LANES, np.float32)
    for start in range(0, len(scores) - LANES + 1, LANES):
        dealt = scores[start : start + LANES]
        for lane in range(LANES):
            score = dealt[lane]
            higher = (score > lanes[lane]) & (score < np.float32(np.inf))
            lanes[lane] = score if higher else lanes[lane]
    select(LANES, keep, np.empty(LANES, np.int32), lanes)
    return float(max(np.min(lanes[:keep]), POSITIVE))


@kernel
def best_of(scores: Any, keep: int, places: Any, best: Any) -> int:
    """Find the `keep` highest scores that are positive and finite; returns how many there are.

    Args:
        scores: shape (n,).
        places: gets where they lie, in no order; has room for ROOM times `keep`.
        best: gets the scores, as long.
    """
    if keep == 0:
        return 0
    count, lowest = 0, np.float32(bound(scores, keep))
    for at in range(len(scores)):
        if scores[at] >= lowest and scores[at] < np.float32(np.inf):
            places[count], best[count] = at, scores[at]
            count += 1
            if count == len(places):
                select(count, keep, places, best)
                count, lowest = keep, np.min(best[:keep])
    if count > keep:
        select(count, keep, places, best)
        count = keep
    return count
