"""Incremental item kNN: items touched by one user one after the other are neighbours.

One list an item, counted in three channels: over a long time, of late, and what follows what.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.base import ItemEvents, Queries, Query, Scores, alone, empty_answer
from models.columns import NONE, Column, Slots, Table
from models.neighbours import (
    add_pairs,
    neighbour_columns,
    read_lists_of_all,
    strongest_sources_of_all,
)
from models.scratch import Scratch


@dataclass(frozen=True)
class Channel:
    """One way to count pairs.

    Args:
        half_life_events: decay of pairs on the activity clock; 0 keeps them for ever.
        positions: how many of the items before an event it is paired with.
        position_decay: weight of the n-th item before is this to the power n.
        both_ways: whether the earlier item becomes a neighbour of the later one, too.
    """

    half_life_events: float = 0.0
    positions: int = 16
    position_decay: float = 0.9
    both_ways: bool = True


LONG, SHORT, FOLLOWS = range(3)
CHANNELS = (
    Channel(60_000.0),
    Channel(12_000.0),
    # Sequence rules (Ludewig and Jannach 2018, SR): from each of the last three items to the next.
    Channel(60_000.0, 3, 0.5, both_ways=False),
)


class Room(Protocol):
    """Gives arrays to write into."""

    def __call__(self, length: int, dtype: Any, /) -> NDArray[Any]: ...


@dataclass(frozen=True, slots=True)
class Readings:
    """Ways to read the lists of a stretch of the past; those that go furthest back stand last.

    Args:
        channels: what each counts, see `CHANNELS`; shape (readings,).
        conditional: reads lists as shares of what followed, not as cosines; shape (readings,).
        fading: how loud the n-th newest item speaks, beside its weight, with positive numbers
            first and zeros behind them; shape (readings, items).
    """

    channels: NDArray[np.int64]
    conditional: NDArray[np.bool_]
    fading: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Read:
    """What several readings say to n queries: of query i's items, and which are the best."""

    slots: Slots
    scores: Scores
    slots_at: NDArray[np.int64]  # (n,), where the items of a query start in `slots`
    counts: NDArray[np.int64]  # (n,), how many items it has
    scores_at: NDArray[np.int64]  # (n, readings), where their scores start in `scores`
    best_at: NDArray[np.int64]  # (n, readings), where the best usable ones start in `slots`
    kept: NDArray[np.int64]  # (n, readings), how many of these there are

    def of(self, query: int, reading: int) -> tuple[Slots, Scores]:
        """All that a reading says to a query."""
        at, said, count = (
            self.slots_at[query], self.scores_at[query, reading], self.counts[query]
        )  # fmt: skip
        return self.slots[at : at + count], self.scores[said : said + count]


@dataclass(frozen=True)
class KnnConfig:
    """Args: places in an item's list; in events, what pulls similarities of rare items down."""

    neighbours: int = 128
    channels: tuple[Channel, ...] = CHANNELS
    shrinkage: float = 1.0


class ItemKnn:
    """Neighbour lists that learn pairs from each event.

    Sarwar et al. 2001 (item-based collaborative filtering), counted as events arrive.
    """

    name = "knn"

    def __init__(self, config: KnnConfig | None = None) -> None:
        self.config = config or KnnConfig()
        channels = self.config.channels
        positions = np.arange(max(channel.positions for channel in channels))
        self._position_weights = np.array(
            [np.where(positions < c.positions, c.position_decay**positions, 0.0) for c in channels],
            np.float32,
        )
        self._half_lives = np.array([channel.half_life_events for channel in channels])
        self._both_ways = np.array([channel.both_ways for channel in channels])
        self._places = Scratch(np.int32)

    @property
    def columns(self) -> tuple[Column, ...]:
        return neighbour_columns(self.config.neighbours, len(self.config.channels))

    def learn(self, table: Table, events: ItemEvents) -> None:
        """Pair each positive event's item with those before it."""
        context = events.context[:, : self._position_weights.shape[1]]
        if table.open:
            written = np.unique(np.concatenate([events.items, context.ravel()]))
            table.touch(written[written >= 0])
        add_pairs(
            table.rows, events.items, events.weights, events.clock, context,
            self._position_weights, self._half_lives, self._both_ways,
        )  # fmt: skip

    def recommend(
        self, table: Table, query: Query, channel: int = LONG, conditional: bool = False
    ) -> tuple[Slots, Scores]:
        """Neighbours of the query's items; a score is a weighted sum of similarities.

        These are cosines, or if `conditional` shares of all that an item's list ever counted.
        """
        if not len(query.items):
            return empty_answer()
        reading = self._reading(channel, conditional, len(query.items))
        said = self.read_all(
            table, alone(query), reading, np.zeros((1, 1), np.int64), self._places.room(table.size)
        )
        slots, scores = said.of(0, 0)
        return slots[scores > 0], scores[scores > 0]

    def read_all(
        self, table: Table, queries: Queries, readings: Readings, limits: NDArray[np.int64],
        places: NDArray[np.int32], room: Room = np.empty,
    ) -> "Read":  # fmt: skip
        """Several readings of the lists at once, for several queries.

        Args:
            limits: how many of the best usable items are to be chosen; shape (queries, readings).
            places: zero for each item, and zero again afterwards; shape (items,).
            room: gives arrays of a length and a type to answer in.
        """
        users, count = len(queries), len(readings.channels)
        most = min(len(queries.items) * self.config.neighbours, users * len(places))
        read = Read(
            room(most + 1 + int(limits.sum()), np.int32),
            room((most + users) * count, np.float32),
            *np.empty((2, users), np.int64),
            *np.empty((3, users, count), np.int64),
        )
        read_lists_of_all(
            table.rows, queries.items, queries.weights, queries.starts, readings.fading,
            readings.channels, readings.conditional, queries.clocks, self._half_lives,
            self.config.shrinkage, queries.usable, limits, places, read.slots, read.scores,
            read.slots_at, read.counts, read.scores_at, read.best_at, read.kept,
        )  # fmt: skip
        return read

    def carriers(
        self, table: Table, query: Query, items: Slots, channel: int = LONG,
        conditional: bool = False,
    ) -> Slots:  # fmt: skip
        """The query's item that gives each of `items` most."""
        out = np.full(len(items), NONE, np.int32)
        self.carry_all(
            table, alone(query), self._reading(channel, conditional, len(query.items)),
            items, np.array([0, len(items)]), np.zeros(len(items), np.int32), out,
        )  # fmt: skip
        return out

    def carry_all(
        self, table: Table, queries: Queries, readings: Readings, targets: Slots,
        starts: NDArray[np.int64], asked: NDArray[np.int32], out: Slots,
    ) -> None:  # fmt: skip
        """The one of a query's items that gives each target most, each in a reading of its own.

        Query i's targets are [starts[i], starts[i + 1]); `asked` has each target's reading, -1
        leaves its place in `out` as it is.
        """
        strongest_sources_of_all(
            table.rows, queries.items, queries.weights, queries.starts, readings.fading,
            readings.channels, readings.conditional, queries.clocks, self._half_lives,
            self.config.shrinkage, targets, starts, asked, out,
        )  # fmt: skip

    def _reading(self, channel: int, conditional: bool, room: int) -> Readings:
        return Readings(
            np.array([channel]), np.array([conditional]), np.ones((1, room), np.float32)
        )
