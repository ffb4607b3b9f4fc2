"""The small interface every model shares: learn from item events, recommend from a history."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
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
    users: NDArray[np.uint32]  # (n,), a token a user, 0: unknown
    places: NDArray[np.uint32]  # (n,), how many events of the user's went before

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


@dataclass(frozen=True, slots=True)
class Queries:
    """n queries that are answered together, their items one behind the other."""

    items: Slots  # (m,)
    weights: NDArray[np.float32]  # (m,)
    ages_s: NDArray[np.float32]  # (m,)
    starts: NDArray[np.int64]  # (n + 1,), the items of query i are [starts[i], starts[i + 1])
    clocks: NDArray[np.float64]  # (n,)
    usable: NDArray[np.bool_]  # (n, n_items)
    limits: NDArray[np.int64]  # (n,)
    tastes: Sequence[NDArray[np.float32] | None]  # (f,) each

    def __len__(self) -> int:
        return len(self.limits)

    @classmethod
    def of(cls, queries: Sequence[Query], usable: NDArray[np.bool_]) -> "Queries":
        """Those queries; `usable` has their masks one below the other."""
        items = [query.items for query in queries]
        return cls(
            joined(items),
            joined([query.weights for query in queries]),
            joined([query.ages_s for query in queries]),
            starts_of(items),
            np.array([query.clock for query in queries], np.float64),
            usable,
            np.array([query.limit for query in queries], np.int64),
            [query.taste for query in queries],
        )

    @classmethod
    def joined(cls, several: Sequence["Queries"], usable: NDArray[np.bool_]) -> "Queries":
        """Those of several, one behind the other; `usable` has the masks of all."""
        return cls(
            joined([each.items for each in several]),
            joined([each.weights for each in several]),
            joined([each.ages_s for each in several]),
            joined_starts([each.starts for each in several]),
            joined([each.clocks for each in several]),
            usable,
            joined([each.limits for each in several]),
            [taste for each in several for taste in each.tastes],
        )

    def part(self, first: int, last: int) -> "Queries":
        """Those from the first to before the last, as views."""
        at, end = self.starts[first], self.starts[last]
        return Queries(
            self.items[at:end], self.weights[at:end], self.ages_s[at:end],
            self.starts[first : last + 1] - at, self.clocks[first:last], self.usable[first:last],
            self.limits[first:last], self.tastes[first:last],
        )  # fmt: skip

    def to(self, number: int) -> Query:
        """One of them."""
        part = slice(self.starts[number], self.starts[number + 1])
        return Query(
            self.items[part], self.weights[part], self.ages_s[part], float(self.clocks[number]),
            self.usable[number], int(self.limits[number]), self.tastes[number],
        )  # fmt: skip


def alone(query: Query) -> Queries:
    """One query as several."""
    return Queries.of([query], query.usable[None])


@dataclass(frozen=True, slots=True)
class Answers:
    """What is said to n queries: to query i the part [starts[i], stops[i]); parts may be shared."""

    slots: Slots  # (m,)
    scores: Scores  # (m,)
    starts: NDArray[np.int64]  # (n,)
    stops: NDArray[np.int64]  # (n,)

    @classmethod
    def none(cls, count: int) -> "Answers":
        """Nothing to anybody."""
        return cls(NO_SLOTS, NO_SCORES, np.zeros(count, np.int64), np.zeros(count, np.int64))

    @classmethod
    def same(cls, slots: Slots, scores: Scores, count: int) -> "Answers":
        """The same to everybody."""
        starts = np.zeros(count, np.int64)
        return cls(slots, scores, starts, np.full(count, len(slots), np.int64))

    @classmethod
    def of(cls, answers: Sequence[tuple[Slots, Scores]]) -> "Answers":
        """Those, one behind the other."""
        bounds = starts_of([slots for slots, _ in answers])
        slots = joined([slots for slots, _ in answers])
        scores = joined([scores for _, scores in answers])
        return cls(slots, scores, bounds[:-1], bounds[1:])

    def to(self, query: int) -> tuple[Slots, Scores]:
        """What is said to one of them."""
        part = slice(self.starts[query], self.stops[query])
        return self.slots[part], self.scores[part]


def joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Arrays one behind the other; a single one as it is."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def starts_of(parts: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """Where each of them starts in `joined`, and where the last one ends.

    >>> starts_of([np.zeros(2), np.zeros(0), np.zeros(3)]).tolist()
    [0, 2, 2, 5]
    """
    return np.array([0, *accumulate(map(len, parts))], np.int64)


def joined_starts(each: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The starts of parts that lie one behind the other.

    >>> joined_starts([np.array([0, 2, 5]), np.array([0, 1])]).tolist()
    [0, 2, 5, 6]
    """
    ends = accumulate(int(starts[-1]) for starts in each)
    behind = [starts[1:] + end for starts, end in zip(each[1:], ends, strict=False)]
    return joined([each[0], *behind])


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
