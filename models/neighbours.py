"""Bounded lists of weighted neighbours, one an item: the loops under item kNN and sequences.

A row holds the `width` strongest neighbours seen lately. A new one takes an empty place, or that
of the weakest; weights decay by landmark (see `models.clock`), so the weakest fades by itself.
"""

from typing import Any

import numpy as np

from models.clock import era_of, era_shift, weight_at
from models.columns import NONE, Column
from models.kernels import kernel


def neighbour_columns(width: int) -> tuple[Column, ...]:
    """Columns of a table of neighbour lists: 8 bytes a neighbour and 12 a row in memory."""
    return (
        Column("item", "<i4", width, refers=True, empty=NONE),
        Column("weight", "<f4", width),
        Column("mass", "<f4"),  # the item's own decayed weight
        Column("out", "<f4"),  # decayed sum of all weights ever put into its list
        Column("era", "<u4"),
    )


@kernel
def add_pairs(
    rows: Any, items: Any, weights: Any, clock: Any, context: Any, position_weights: Any,
    half_life: float, both_ways: bool,
) -> None:  # fmt: skip
    """For each event add its item to the lists of the items before it, and back if `both_ways`."""
    for e in range(len(items)):
        if not weights[e] > 0.0:
            continue
        item = items[e]
        era = era_of(clock[e], half_life)
        _renew(rows, item, era)
        unit = weight_at(clock[e], half_life, int(rows[item].era))
        rows[item].mass += np.float32(weights[e] * unit)
        for j in range(len(position_weights)):
            other = context[e, j]
            if other == NONE:
                break
            if other == item:
                continue
            _renew(rows, other, era)
            strength = weights[e] * position_weights[j]
            _add(rows, other, item, strength * weight_at(clock[e], half_life, int(rows[other].era)))
            if both_ways:
                _add(rows, item, other, strength * unit)


@kernel
def _renew(rows: Any, slot: int, era: int) -> None:
    row = rows[slot]
    if row.era < era:
        factor = np.float32(era_shift(int(row.era), era))
        for j in range(len(row.weight)):
            row.weight[j] *= factor
        row.mass *= factor
        row.out *= factor
        row.era = era


@kernel
def _add(rows: Any, slot: int, other: int, weight: float) -> None:
    row = rows[slot]
    row.out += np.float32(weight)
    weakest, least = 0, np.float32(np.inf)
    for j in range(len(row.item)):
        if row.item[j] == other:
            row.weight[j] += np.float32(weight)
            return
        if row.item[j] == NONE:
            row.item[j] = other
            row.weight[j] = np.float32(weight)
            return
        if row.weight[j] < least:
            least, weakest = row.weight[j], j
    row.item[weakest] = other
    row.weight[weakest] = np.float32(weight)


@kernel
def similarity(
    rows: Any, source: int, at: int, era: int, now: float, conditional: bool, shrinkage: float
) -> float:
    """Similarity of `source` to the neighbour in place `at` of its list, at least 0.

    Cosine w_ij / sqrt((m_i + s)(m_j + s)), or if `conditional` the share w_ij / (o_i + s) of what
    followed; s is `shrinkage`. `era` is today's, and `now` takes its units to those of the clock.
    """
    row = rows[source]
    own = now * era_shift(int(row.era), era)
    weight = row.weight[at] * own
    if conditional:
        return float(weight / (row.out * own + shrinkage))
    other = rows[row.item[at]]
    mass = other.mass * now * era_shift(int(other.era), era)
    return float(weight / np.sqrt((row.mass * own + shrinkage) * (mass + shrinkage)))


@kernel
def read_lists(
    rows: Any, items: Any, weights: Any, conditional: Any, clock: float, half_life: float,
    shrinkage: float, said: Any, column: int, slots: Any,
) -> int:  # fmt: skip
    """Add up the neighbours of `items` in several readings at once; returns how many there are.

    `weights` has a row a reading, with positive numbers first and zeros behind them; the last
    reading goes furthest back. `conditional` says of each what a list means to it (see
    `similarity`). Scores go to the columns of `said` from `column` on, which are zero before;
    `slots` gets the neighbours.
    """
    era = era_of(clock, half_life)
    now = 1.0 / weight_at(clock, half_life, era)
    count, last = 0, len(weights) - 1
    for r in range(last, -1, -1):
        scores = said[:, column + r]
        for m in range(len(items)):
            if not weights[r, m] > 0.0:
                break
            if items[m] < 0 or items[m] >= len(rows):
                continue
            row = rows[items[m]]
            own = now * era_shift(int(row.era), era)
            if conditional[r]:
                loud = np.float32(weights[r, m] * own / (row.out * own + shrinkage))
            else:
                loud = np.float32(weights[r, m] * own / np.sqrt(row.mass * own + shrinkage))
            if r == last:
                for j in range(len(row.item)):
                    other = np.uint32(row.item[j])
                    if other >= np.uint32(len(said)):
                        break
                    if scores[other] == 0.0 and row.weight[j] > 0.0:
                        slots[count] = other
                        count += 1
                    scores[other] += loud * row.weight[j]
            else:
                for j in range(len(row.item)):
                    other = np.uint32(row.item[j])
                    if other >= np.uint32(len(said)):
                        break
                    scores[other] += loud * row.weight[j]
    if not conditional.all():
        for at in range(count):
            slot = slots[at]
            mass = rows[slot].mass * now * era_shift(int(rows[slot].era), era)
            rare = np.float32(1.0 / np.sqrt(mass + shrinkage))
            for r in range(last + 1):
                if not conditional[r]:
                    said[slot, column + r] *= rare
    return count


@kernel
def strongest_sources(
    rows: Any, items: Any, weights: Any, clock: float, half_life: float, conditional: bool,
    shrinkage: float, targets: Any, out: Any,
) -> None:  # fmt: skip
    """For each target the one of `items` whose list gives it most; -1 where none holds it."""
    era = era_of(clock, half_life)
    now = 1.0 / weight_at(clock, half_life, era)
    for t in range(len(targets)):
        best, most = NONE, 0.0
        for m in range(len(items)):
            source = items[m]
            if source < 0 or source >= len(rows):
                continue
            for j in range(len(rows[source].item)):
                if rows[source].item[j] == targets[t]:
                    score = weights[m] * similarity(
                        rows, source, j, era, now, conditional, shrinkage
                    )
                    if score > most:
                        best, most = source, score
                    break
        out[t] = best
