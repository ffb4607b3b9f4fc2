"""Incremental item kNN: items touched by one user one after the other are neighbours."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.base import ItemEvents, Query, Scores, empty_answer
from models.columns import Column, Slots, Table
from models.neighbours import (
    add_pairs,
    neighbour_columns,
    read_lists,
    strongest_sources,
)


@dataclass(frozen=True)
class PairConfig:
    """What pairs are learned and how they are read.

    Args:
        half_life_events: decay of pairs on the activity clock; 0 keeps them for ever.
        neighbours: places in an item's list.
        positions: how many of the items before an event it is paired with.
        position_decay: weight of the n-th item before is this to the power n.
        both_ways: whether the earlier item becomes a neighbour of the later one, too.
        conditional: read lists as shares of what followed, not as cosines.
        shrinkage: in events; pulls similarities of rare items down.
    """

    half_life_events: float = 0.0
    neighbours: int = 32
    positions: int = 16
    position_decay: float = 0.9
    both_ways: bool = True
    conditional: bool = False
    shrinkage: float = 1.0


@dataclass
class PairModel:
    """Neighbour lists that learn pairs from each event. Base of item kNN and sequence.

    Sarwar et al. 2001 (item-based collaborative filtering), counted as events arrive.
    """

    name: str
    config: PairConfig = field(default_factory=PairConfig)

    def __post_init__(self) -> None:
        self._scratch: NDArray[np.float32] = np.zeros((0, 1), np.float32)

    @property
    def columns(self) -> tuple[Column, ...]:
        return neighbour_columns(self.config.neighbours)

    @cached_property
    def _position_weights(self) -> NDArray[np.float32]:
        return (self.config.position_decay ** np.arange(self.config.positions)).astype(np.float32)

    def learn(self, table: Table, events: ItemEvents) -> None:
        """Pair each positive event's item with those before it."""
        context = events.context[:, : self.config.positions]
        if table.open:
            written = np.unique(np.concatenate([events.items, context.ravel()]))
            table.touch(written[written >= 0])
        add_pairs(
            table.rows, events.items, events.weights, events.clock, context,
            self._position_weights, self.config.half_life_events, self.config.both_ways,
        )  # fmt: skip

    def recommend(
        self, table: Table, query: Query, conditional: bool | None = None
    ) -> tuple[Slots, Scores]:
        """Neighbours of the query's items; a score is a weighted sum of similarities.

        `conditional` reads the lists as that setting of the same name says.
        """
        if not len(query.items):
            return empty_answer()
        if len(self._scratch) < len(table.rows):
            self._scratch = np.zeros((len(table.rows), 1), np.float32)
        slots = np.empty(min(len(query.items) * self.config.neighbours, table.size), np.int32)
        reads = np.array([self._reads(conditional)])
        count = self.read(
            table, query.items, query.weights[None], reads, query.clock, self._scratch, 0, slots
        )
        slots = slots[:count]
        scores = self._scratch[slots, 0]
        self._scratch[slots] = 0.0
        return slots[scores > 0], scores[scores > 0]

    def read(
        self, table: Table, items: Slots, weights: NDArray[np.float32],
        conditional: NDArray[np.bool_], clock: float, said: NDArray[np.float32], column: int,
        slots: Slots,
    ) -> int:  # fmt: skip
        """Several readings of the same lists at once, see `models.neighbours.read_lists`.

        Args:
            items: whose lists are read, shape (m,).
            weights: how loud each speaks in each reading, shape (readings, m).
            conditional: what a list means to a reading, shape (readings,).
            said: scores are added to its columns from `column` on, shape (items, columns).
            slots: gets the items that have scores now; the answer is how many there are.
        """
        return read_lists(
            table.rows, items, weights, conditional, clock, self.config.half_life_events,
            self.config.shrinkage, said, column, slots,
        )  # fmt: skip

    def carriers(
        self, table: Table, query: Query, items: Slots, conditional: bool | None = None
    ) -> Slots:
        """The query's item that gives each of `items` most."""
        out = np.empty(len(items), np.int32)
        strongest_sources(
            table.rows, query.items, query.weights, query.clock, self.config.half_life_events,
            self._reads(conditional), self.config.shrinkage, items, out,
        )  # fmt: skip
        return out

    def _reads(self, conditional: bool | None) -> bool:
        return self.config.conditional if conditional is None else conditional


def item_knn_long(config: PairConfig | None = None) -> PairModel:
    """Neighbours of a long time: pairs halve every 60,000 events."""
    return PairModel("knn-long", config or PairConfig(half_life_events=60_000.0, neighbours=64))


def item_knn_short(config: PairConfig | None = None) -> PairModel:
    """Neighbours of late: pairs halve every 12,000 events."""
    return PairModel("knn-short", config or PairConfig(half_life_events=12_000.0, neighbours=64))
