"""The best few of many scores: a bound that cuts most of them off, and Hoare's selection.

The bound is found and applied without a branch on what the scores are: a processor that guesses
wrong waits as long as it takes to compare a hundred of them.
"""

from typing import Any

import numpy as np

from models.kernels import kernel

LANES = 128
BLOCK = 64  # scores that are passed over at once where none of them reaches the bound
ROOM = 4  # times as many places as are kept, so that a selection is rarely due
INFINITE = np.int32(0x7F800000)  # the bits of float32 infinity; those of NaN lie above or below 0


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
def bound(keys: Any, keep: int) -> int:
    """A positive number that at least `keep` keys of finite scores reach, mostly few more; or 1.

    The keys are dealt out to lanes: the highest of each are different ones. Which of those is the
    `keep`-th is settled bit by bit from the top, as in a radix sort.
    """
    if keep >= LANES or len(keys) < 2 * LANES:
        return 1
    lanes = np.zeros(LANES, np.int32)
    for start in range(0, len(keys) - LANES + 1, LANES):
        dealt = keys[start : start + LANES]
        for lane in range(LANES):
            key = dealt[lane]
            higher = (key > lanes[lane]) & (key < INFINITE)
            lanes[lane] = key if higher else lanes[lane]
    level = np.int32(0)
    for bit in range(30, -1, -1):
        higher_level, reached = np.int32(level | np.int32(1 << bit)), np.int32(0)
        for lane in range(LANES):
            reached += np.int32(lanes[lane] >= higher_level)
        level = higher_level if reached >= np.int32(keep) else level
    return max(int(level), 1)


@kernel
def best_of(scores: Any, keep: int, places: Any, best: Any) -> int:
    """Find the `keep` highest scores that are positive and finite; returns how many there are.

    Args:
        scores: contiguous float32, shape (n,).
        places: gets where they lie, in no order; has room for ROOM times `keep`.
        best: gets the scores, as long.
    """
    if keep == 0:
        return 0
    keys, room = scores.view(np.int32), np.uint32(len(places))  # positive numbers order as bits do
    count, lowest = np.uint32(0), np.int32(bound(keys, keep))
    for start in range(0, len(keys), BLOCK):
        block = keys[start : start + BLOCK]
        if len(block) == BLOCK:
            reached = np.int32(0)
            for at in range(BLOCK):
                reached |= np.int32(block[at] >= lowest)
            if not reached:
                continue
        for at in range(len(block)):
            places[count] = start + at
            count += np.uint32((block[at] >= lowest) & (block[at] < INFINITE))
            if count == room:
                for n in range(count):
                    best[n] = scores[places[n]]
                select(int(count), keep, places, best)
                count = np.uint32(keep)
                lowest = np.min(best[:keep].view(np.int32))
    for n in range(count):
        best[n] = scores[places[n]]
    if count > keep:
        select(int(count), keep, places, best)
        return keep
    return int(np.int64(count))
