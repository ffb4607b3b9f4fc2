"""Incremental item kNN: items touched by one user one after the other are neighbours.

One list an item, counted in three channels: over a long time, of late, and what follows what.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.base import ItemEvents, Query, Scores, empty_answer
from models.columns import NONE, Column, Slots, Table
from models.neighbours import (
    add_pairs,
    neighbour_columns,
    read_lists,
    strongest_sources,
)


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
        self._places = np.zeros(0, np.int32)

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
        if len(self._places) < table.size:
            self._places = np.zeros(2 * table.size, np.int32)
        room = min(len(query.items) * self.config.neighbours, table.size)
        slots, said = np.empty(room, np.int32), np.zeros((1, room), np.float32)
        count = self.read(
            table, query.items, query.weights[None], np.array([channel]), np.array([conditional]),
            query.clock, self._places[: table.size], slots, 0, said,
        )  # fmt: skip
        slots, scores = slots[:count], said[0, :count]
        self._places[slots] = 0
        return slots[scores > 0], scores[scores > 0]

    def read(
        self, table: Table, items: Slots, weights: NDArray[np.float32],
        channels: NDArray[np.int64], conditional: NDArray[np.bool_], clock: float,
        places: NDArray[np.int32], slots: Slots, count: int, said: NDArray[np.float32],
    ) -> int:  # fmt: skip
        """Several readings of the lists at once, see `models.neighbours.read_lists`.

        Args:
            items: whose lists are read, shape (m,).
            weights: how loud each speaks in each reading, shape (readings, m).
            channels: which channel a reading counts, shape (readings,).
            conditional: what a list means to a reading, shape (readings,).
            places: of each item its column in `said` + 1, 0: none; shape (items,).
            slots: the items of the columns; new ones follow the first `count`, which are taken.
            said: scores are added to it, shape (readings, columns).

        Returns:
            how many columns are taken then.
        """
        return read_lists(
            table.rows, items, weights, channels, conditional, clock, self._half_lives,
            self.config.shrinkage, places, slots, count, said,
        )  # fmt: skip

    def carriers(
        self, table: Table, query: Query, items: Slots, channel: int = LONG,
        conditional: bool = False,
    ) -> Slots:  # fmt: skip
        """The query's item that gives each of `items` most."""
        out = np.full(len(items), NONE, np.int32)
        self.carry(
            table, query.items, query.weights[None], np.array([channel]), np.array([conditional]),
            query.clock, items, np.zeros(len(items), np.int32), out,
        )  # fmt: skip
        return out

    def carry(
        self, table: Table, items: Slots, weights: NDArray[np.float32],
        channels: NDArray[np.int64], conditional: NDArray[np.bool_], clock: float,
        targets: Slots, readings: Slots, out: Slots,
    ) -> None:  # fmt: skip
        """The one of `items` that gives each target most, each in the reading that is its own.

        Arguments as of `read`; `readings` has the target's reading, -1 leaves its place in `out`.
        """
        strongest_sources(
            table.rows, items, weights, channels, conditional, clock, self._half_lives,
            self.config.shrinkage, targets, readings, out,
        )  # fmt: skip
