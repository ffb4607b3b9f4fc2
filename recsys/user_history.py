"""What is remembered of one user's events: their items, and which of them came last."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.columns import Slots
from models.history import RECENT_SIZE


@dataclass(frozen=True, slots=True)
class UserHistory:
    """One user's past: their n distinct items, and the newest of them first."""

    items: Slots  # (n,)
    first_s: NDArray[np.uint32]  # (n,)
    last_s: NDArray[np.uint32]  # (n,)
    counts: NDArray[np.uint16]  # (n,)
    weights: NDArray[np.float32]  # (n,), what the events say; negative: disliked
    types: NDArray[np.uint16]  # (n,), one bit a type of event
    recent: NDArray[np.int32]  # (m,), indices into the above, newest first, m <= 64

    @classmethod
    def empty(cls, entries: int, newest: int = RECENT_SIZE) -> "UserHistory":
        """Room for so many items, and for so many of the newest."""
        return cls(
            np.empty(entries, np.int32), np.empty(entries, np.uint32),
            np.empty(entries, np.uint32), np.empty(entries, np.uint16),
            np.empty(entries, np.float32), np.empty(entries, np.uint16),
            np.empty(newest, np.int32),
        )  # fmt: skip

    @classmethod
    def joined(cls, each: Sequence["UserHistory"]) -> "UserHistory":
        """Several, one behind the other."""
        return cls(
            np.concatenate([one.items for one in each]),
            np.concatenate([one.first_s for one in each]),
            np.concatenate([one.last_s for one in each]),
            np.concatenate([one.counts for one in each]),
            np.concatenate([one.weights for one in each]),
            np.concatenate([one.types for one in each]),
            np.concatenate([one.recent for one in each]),
        )

    def between(self, items: slice, newest: slice) -> "UserHistory":
        """A part of it, as views."""
        return UserHistory(
            self.items[items], self.first_s[items], self.last_s[items], self.counts[items],
            self.weights[items], self.types[items], self.recent[newest],
        )  # fmt: skip
