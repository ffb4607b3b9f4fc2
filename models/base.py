"""The small interface every model shares: learn from item events, recommend from a history."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.columns import Column, Slots, Table

Scores = NDArray[np.float32]
NO_SLOTS: Slots = np.empty(0, np.int32)
NO_SCORES: Scores = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class ItemEvents:
    """What users' events mean for items: n events, each with up to 16 items that went before.

    `clock` is the activity clock (events by then, see `models.clock`); `context` holds item
    slots, newest first, -1 where there are fewer; `ages_s` how long before they were touched.
    """

    items: Slots  # (n,)
    types: NDArray[np.uint8]  # (n,)
    weights: NDArray[np.float32]  # (n,), negative for returns and dislikes
    times_s: NDArray[np.uint32]  # (n,)
    clock: NDArray[np.float64]  # (n,)
    is_new: NDArray[np.bool_]  # (n,), the user's first event with this item
    stage: NDArray[np.uint8]  # (n,), how far the user had come, see `models.history.stage_of`
    context: Slots  # (n, 16)
    ages_s: NDArray[np.uint32]  # (n, 16)

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True)
class Query:
    """Whom to recommend for: the items that speak for them, newest first, and the time."""

    items: Slots  # (m,)
    weights: NDArray[np.float32]  # (m,), positive
    ages_s: NDArray[np.float32]  # (m,)
    clock: float  # the activity clock now
    usable: NDArray[np.bool_]  # (n_items,), which items may be answered with
    limit: int  # how many answers are of use
    taste: NDArray[np.float32] | None = None  # (f,), speaks for them beside their items


class Model(Protocol):
    """One way to score items for a history.

    A model holds its settings and scratch room; what it learned lies in the rows of the table it
    is handed, so state is written, restored and rolled back in one place.
    """

    @property
    def name(self) -> str: ...

    @property
    def columns(self) -> tuple[Column, ...]: ...

    def learn(self, table: Table, events: ItemEvents) -> None:
        """Learn events in their order. Touches each row before it writes it."""

    def recommend(self, table: Table, query: Query) -> tuple[Slots, Scores]:
        """Item slots with positive scores, in no order; empty where nothing is known."""

    def carriers(self, table: Table, query: Query, items: Slots) -> Slots:
        """For each item the query's item that carried most of its score; -1 where none did."""


def empty_answer() -> tuple[Slots, Scores]:
    """What a model says that has nothing to say."""
    return NO_SLOTS, NO_SCORES


def no_carriers(items: NDArray[Any]) -> Slots:
    """For models whose scores do not come from single past items."""
    return np.full(len(items), -1, np.int32)
