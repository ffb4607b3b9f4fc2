"""The best few of many scores, in one pass: a heap whose root is the weakest kept so far."""

from typing import Any

from models.kernels import kernel


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
