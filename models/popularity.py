"""Popularity: counts for ever, and weights that decay at several half-lives."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.base import ItemEvents, Query, Scores, empty_answer, no_carriers
from models.clock import era_of, era_shift, weight_at
from models.columns import Column, Slots, Table
from models.history import STAGE_STEPS
from models.kernels import kernel

STAGE_RATE = 0.03  # weight of an item's newest event in the mean stage
N_TYPES = 9  # kinds of events, in the order of the contract


@dataclass(frozen=True)
class PopularityConfig:
    """Args: half-lives on the activity clock; how many items a top list has, its age at most."""

    half_lives_events: tuple[float, ...] = (128.0, 500.0, 2_000.0, 8_000.0, 32_000.0)
    top: int = 256
    refresh_events: int = 256


class Popularity:
    """Decayed counts of items; the first answer for whom nothing else is known.

    Integer columns (`events`, `users`, `counts`, `first_s`, `last_s`) do not depend on the order
    of events; `decayed` holds one sum a half-life.
    """

    name = "popularity"

    def __init__(self, config: PopularityConfig = PopularityConfig()) -> None:
        self.config = config
        self.half_lives = np.array(config.half_lives_events, np.float64)
        self._tops: dict[int, tuple[float, int, Slots, Scores]] = {}

    @property
    def columns(self) -> tuple[Column, ...]:
        halves = len(self.config.half_lives_events)
        return (
            Column("events", "<u4"),
            Column("users", "<u4"),
            Column("counts", "<u4", N_TYPES),
            Column("first_s", "<u4"),
            Column("last_s", "<u4"),
            Column("decayed", "<f4", halves),
            Column("era", "<u4", halves),
            Column("stage", "<f4"),
            Column("stage_spread", "<f4"),
        )

    def learn(self, table: Table, events: ItemEvents) -> None:
        """Count events; negative weights take decayed popularity away, down to 0."""
        table.touch(events.items)
        _learn(
            table.rows, events.items, events.types, events.weights, events.times_s, events.clock,
            events.is_new, events.stage, self.half_lives,
        )  # fmt: skip

    def recommend(self, table: Table, query: Query, half_life: int = 2) -> tuple[Slots, Scores]:
        """The most popular items at one of the half-lives (its index); at most 256 events old."""
        return self.top(table, query.clock, len(query.usable), half_life)

    def top(
        self, table: Table, clock: float, items: int, half_life: int = 2
    ) -> tuple[Slots, Scores]:
        """The most popular of the first so many items by a clock; at most 256 events old."""
        known = self._tops.get(half_life)
        size = min(items, table.size)
        if known is not None:
            then, among, slots, scores = known
            fresh = 0 <= clock - then < self.config.refresh_events
            if fresh and among == size and len(slots):
                return slots, scores
        if not size:
            return empty_answer()
        everything = np.arange(size, dtype=np.int32)
        scores = self.scores_of(table, half_life, clock, everything)
        count = min(self.config.top, size)
        slots = np.argpartition(-scores, count - 1)[:count].astype(np.int32)
        slots = slots[scores[slots] > 0.0]
        self._tops[half_life] = (clock, size, slots, scores[slots])
        return slots, scores[slots]

    def carriers(self, table: Table, query: Query, items: Slots) -> Slots:
        """None: popularity comes from everyone."""
        return no_carriers(items)

    def scores_of(self, table: Table, half_life: int, clock: float, slots: Slots) -> Scores:
        """Decayed weight of slots now, shape (len(slots),)."""
        out = np.empty(len(slots), np.float32)
        _scores(table.rows, slots, half_life, self.half_lives[half_life], clock, out)
        return out

    def forget_tops(self) -> None:
        """Build the top lists anew at the next question, e.g. after a restore."""
        self._tops.clear()


@kernel
def _learn(
    rows: Any, items: Any, types: Any, weights: Any, times_s: Any, clock: Any, is_new: Any,
    stage: Any, half_lives: Any,
) -> None:  # fmt: skip
    for e in range(len(items)):
        row = rows[items[e]]
        if row.events == 0 or times_s[e] < row.first_s:
            row.first_s = times_s[e]
        row.last_s = max(row.last_s, times_s[e])
        row.events += 1
        _place(row, stage[e] / STAGE_STEPS)
        row.users += is_new[e]
        row.counts[types[e]] += 1
        for h in range(len(half_lives)):
            era = era_of(clock[e], half_lives[h])
            if row.era[h] < era:
                row.decayed[h] *= np.float32(era_shift(int(row.era[h]), era))
                row.era[h] = era
            added = weights[e] * weight_at(clock[e], half_lives[h], int(row.era[h]))
            row.decayed[h] = max(np.float32(0.0), row.decayed[h] + np.float32(added))


@kernel
def _place(row: Any, stage: float) -> None:
    """Move the mean and the variance of the stages at which users come to the item."""
    rate = max(STAGE_RATE, 1.0 / row.events)
    step = stage - row.stage
    row.stage += np.float32(rate * step)
    row.stage_spread += np.float32(rate * (step * step - row.stage_spread))


@kernel
def _scores(rows: Any, slots: Any, h: int, half_life: float, clock: float, out: Any) -> None:
    era = era_of(clock, half_life)
    now = 1.0 / weight_at(clock, half_life, era)
    for at in range(len(out)):
        row = rows[slots[at]]
        out[at] = row.decayed[h] * era_shift(int(row.era[h]), era) * now
