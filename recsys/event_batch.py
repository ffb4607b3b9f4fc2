"""Events of one chunk in columns: what the wire hands to the pipeline."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.columns import Slots
from recsys.ids import key_of
from streams.events import EVENT_TYPES

if TYPE_CHECKING:
    from recsys.user_state import UserState

TYPE_CODES = {name: code for code, name in enumerate(EVENT_TYPES)}


@dataclass(frozen=True, slots=True)
class EventBatch:
    """n events in the order of the log."""

    users: Slots  # (n,)
    items: Slots  # (n,)
    types: NDArray[np.uint8]  # (n,), codes in the order of EVENT_TYPES
    values: NDArray[np.float32]  # (n,), NaN where none was given
    times_ms: NDArray[np.int64]  # (n,)
    event_keys: NDArray[np.uint64]  # (n,), 0: no id, so never a duplicate

    def __len__(self) -> int:
        return len(self.users)

    @classmethod
    def of(
        cls,
        users: "UserState",
        user_ids: Sequence[str],
        item_ids: Sequence[str],
        types: Sequence[str],
        times_ms: Sequence[int],
        values: Sequence[float | None] | None = None,
        event_ids: Sequence[str | None] | None = None,
    ) -> "EventBatch":
        """Build a batch from lists; unknown users and items get slots."""
        items = users.items
        count = len(user_ids)
        return cls(
            np.fromiter((users.slot(user_id) for user_id in user_ids), np.int32, count),
            items.slots(item_ids),
            np.fromiter((TYPE_CODES[name] for name in types), np.uint8, count),
            np.array(values if values is not None else [None] * count, np.float32),
            np.array(times_ms, np.int64).reshape(count),
            np.fromiter(
                (key_of(name) if name else 0 for name in event_ids or [None] * count),
                np.uint64, count,
            ),
        )  # fmt: skip

    def part(self, start: int, stop: int) -> "EventBatch":
        """Events [start, stop), as views."""
        span = slice(start, stop)
        return EventBatch(
            self.users[span], self.items[span], self.types[span], self.values[span],
            self.times_ms[span], self.event_keys[span],
        )  # fmt: skip
