"""Bounded lists of neighbours, one an item, counted in several channels: the loops of item kNN.

A row holds the `width` strongest neighbours seen lately, and for each what every channel counted of
it. A new one takes an empty place, or that of the weakest in the first channel; weights decay by
landmark (see `models.clock`), so the weakest fades by itself.
"""

from typing import Any

import numpy as np

from models.clock import era_of, era_shift, weight_at
from models.columns import NONE, Column
from models.kernels import kernel


def neighbour_columns(width: int, channels: int) -> tuple[Column, ...]:
    """Columns of a table of neighbour lists: 4 bytes a neighbour, 4 more for each channel.

    Raises:
        ValueError: fewer than two channels.
    """
    if channels < 2:
        raise ValueError("neighbour lists have two channels or more")
    return (
        Column("item", "<i4", width, refers=True, empty=NONE),
        Column("weight", "<f4", width * channels),  # channel by channel
        Column("mass", "<f4", channels),  # the item's own decayed weight
        Column("out", "<f4", channels),  # decayed sum of all weights ever put into its list
        Column("era", "<u4", channels),
        Column("held", "<u4"),
    )


@kernel
def add_pairs(
    rows: Any, items: Any, weights: Any, clock: Any, context: Any, position_weights: Any,
    half_lives: Any, both_ways: Any,
) -> None:  # fmt: skip
    """For each event add its item to the lists of the items before it, and back if `both_ways`.

    `position_weights` has a row a channel: what the n-th item before counts there, 0 for nothing.
    """
    channels, positions = position_weights.shape
    eras, units = np.empty(channels, np.int64), np.empty(channels)
    strength = np.empty(channels, np.float32)
    for e in range(len(items)):
        if not weights[e] > 0.0:
            continue
        item = items[e]
        for c in range(channels):
            eras[c] = era_of(clock[e], half_lives[c])
            units[c] = weights[e] * weight_at(clock[e], half_lives[c], eras[c])
        _renew(rows, item, eras)
        for c in range(channels):
            rows[item].mass[c] += _in_units(rows, item, c, units, eras)
        for j in range(positions):
            other = context[e, j]
            if other == NONE:
                break
            if other == item:
                continue
            _renew(rows, other, eras)
            back = False
            for c in range(channels):
                strength[c] = position_weights[c, j] * _in_units(rows, other, c, units, eras)
                back |= both_ways[c] and strength[c] > 0.0
            _add(rows, other, item, strength)
            if back:
                for c in range(channels):
                    unit = _in_units(rows, item, c, units, eras) if both_ways[c] else 0.0
                    strength[c] = position_weights[c, j] * unit
                _add(rows, item, other, strength)


@kernel
def _in_units(rows: Any, slot: int, channel: int, units: Any, eras: Any) -> float:
    """A weight in the units of a row, whose era is later than the event's where that came late."""
    return float(units[channel] * era_shift(eras[channel], int(rows[slot].era[channel])))


@kernel
def _renew(rows: Any, slot: int, eras: Any) -> None:
    row = rows[slot]
    width = len(row.item)
    for c in range(len(eras)):
        if row.era[c] < eras[c]:
            factor = np.float32(era_shift(int(row.era[c]), eras[c]))
            for j in range(c * width, (c + 1) * width):
                row.weight[j] *= factor
            row.mass[c] *= factor
            row.out[c] *= factor
            row.era[c] = eras[c]


@kernel
def _add(rows: Any, slot: int, other: int, strength: Any) -> None:
    row = rows[slot]
    width, place = len(row.item), NONE
    for j in range(width):  # without a way out of the loop it looks at many places at once
        if row.item[j] == other:
            place = j
    if place == NONE:
        if row.held < width:
            place = int(row.held)
            row.held += 1
        else:
            place, least = 0, row.weight[0]
            for j in range(1, width):
                if row.weight[j] < least:
                    place, least = j, row.weight[j]
        row.item[place] = other
        for c in range(len(strength)):
            row.weight[c * width + place] = np.float32(0.0)
    for c in range(len(strength)):
        row.out[c] += strength[c]
        row.weight[c * width + place] += strength[c]


@kernel
def voice(
    rows: Any, source: int, channel: int, era: int, now: float, conditional: bool, shrinkage: float
) -> float:
    """What a weight in the list of `source` counts: the part of the similarity that is its own.

    The similarity to a neighbour is the cosine w_ij / sqrt((m_i + s)(m_j + s)), or if `conditional`
    the share w_ij / (o_i + s) of what followed; s is `shrinkage`. `era` is today's, and `now` takes
    its units to those of the clock.
    """
    row = rows[source]
    own = now * era_shift(int(row.era[channel]), era)
    if conditional:
        return float(own / (row.out[channel] * own + shrinkage))
    return float(own / np.sqrt(row.mass[channel] * own + shrinkage))


@kernel
def read_lists(
    rows: Any, items: Any, weights: Any, channels: Any, conditional: Any, clock: float,
    half_lives: Any, shrinkage: float, places: Any, slots: Any, count: int, said: Any,
) -> int:  # fmt: skip
    """Add up the neighbours of `items` in several readings; returns how many items are placed.

    `weights` has a row a reading, with positive numbers first and zeros behind them; who hears an
    item stands behind those who do not. `channels` says what a reading counts, `conditional` what
    a list means to it (see `voice`). Scores are added to `said`, a row a reading and a column a
    placed item: `places` has an item's column + 1, or 0 for one without; the first `count` columns
    are those of `slots`, and new ones are appended to both, so that what is read lies together.
    """
    readings, room = len(weights), np.uint32(len(places))
    eras, nows = np.empty(readings, np.int64), np.empty(readings)
    for r in range(readings):
        eras[r] = era_of(clock, half_lives[channels[r]])
        nows[r] = 1.0 / weight_at(clock, half_lives[channels[r]], eras[r])
    held = np.empty(len(rows[0].item), np.int32) if len(rows) else np.empty(0, np.int32)
    for m in range(len(items)):
        if items[m] < 0 or items[m] >= len(rows):
            continue
        row = rows[items[m]]
        width, neighbours = len(row.item), int(row.held)
        for j in range(neighbours):
            other = np.uint32(row.item[j])
            held[j] = NONE
            if other < room:
                place = places[other]  # no branch where it is anybody's guess: new or not
                slots[count] = other
                count += place == 0
                place = count if place == 0 else place
                places[other] = place
                held[j] = place - 1
        for r in range(readings - 1, -1, -1):
            if not weights[r, m] > 0.0:
                break
            part = voice(rows, items[m], channels[r], eras[r], nows[r], conditional[r], shrinkage)
            loud, first, scores = np.float32(weights[r, m] * part), channels[r] * width, said[r]
            for j in range(neighbours):
                if held[j] != NONE:
                    scores[held[j]] += loud * row.weight[first + j]
    _times_rarity(rows, slots[:count], channels, conditional, eras, nows, shrinkage, said)
    return count


@kernel
def read_lists_of_all(
    rows: Any, items: Any, weights: Any, starts: Any, fading: Any, channels: Any,
    conditional: Any, clocks: Any, half_lives: Any, shrinkage: float, places: Any, slots: Any,
    scores: Any, slots_at: Any, scores_at: Any, counts: Any,
) -> None:  # fmt: skip
    """`read_lists` for several users, whose items are [starts[i], starts[i + 1]).

    `fading` has a row a reading: how loud the n-th item may speak there, beside its weight. User
    i's items go to `slots` from slots_at[i] on, counts[i] of them, and what reading r says of them
    to `scores` from scores_at[i, r] on. `places` is zero before and after.
    """
    readings, room = fading.shape
    width = len(rows[0].item) if len(rows) else 0
    slot_at, score_at = 0, 0
    for user in range(len(clocks)):
        start = starts[user]
        stop = min(starts[user + 1], start + room)
        most = min((stop - start) * width, len(places))
        mine, end = slots[slot_at : slot_at + most + 1], score_at + readings * most
        said = scores[score_at:end].reshape((readings, most))
        said[:] = np.float32(0.0)
        loud = fading[:, : stop - start] * weights[start:stop]
        count = read_lists(
            rows, items[start:stop], loud, channels, conditional, clocks[user], half_lives,
            shrinkage, places, mine, 0, said,
        )  # fmt: skip
        for at in range(count):
            places[mine[at]] = 0
        slots_at[user], counts[user] = slot_at, count
        for r in range(readings):
            scores_at[user, r] = score_at + r * most
        slot_at, score_at = slot_at + count, end


@kernel
def _times_rarity(
    rows: Any, slots: Any, channels: Any, conditional: Any, eras: Any, nows: Any,
    shrinkage: float, said: Any,
) -> None:  # fmt: skip
    """Finish cosines by 1 / sqrt(m + s) of the neighbour, once for readings that share it."""
    rare = np.empty(len(slots), np.float32)
    pull = np.float32(shrinkage)
    for r in range(len(said)):
        if conditional[r]:
            continue
        first = r
        for other in range(r):
            if channels[other] == channels[r] and not conditional[other]:
                first = min(first, other)
        if first < r:
            continue
        for at in range(len(slots)):
            rare[at] = np.float32(np.inf)  # nothing is alike what has no row
            if slots[at] < len(rows):
                row = rows[slots[at]]
                shift = nows[r] * era_shift(int(row.era[channels[r]]), eras[r])
                rare[at] = np.float32(row.mass[channels[r]] * shift)
        for at in range(len(rare)):  # by itself, for then many roots are drawn at once
            rare[at] = np.float32(1.0) / np.sqrt(rare[at] + pull)
        for same in range(r, len(said)):
            if channels[same] == channels[r] and not conditional[same]:
                scores = said[same]
                for at in range(len(slots)):
                    scores[at] *= rare[at]


@kernel
def strongest_sources(
    rows: Any, items: Any, weights: Any, channels: Any, conditional: Any, clock: float,
    half_lives: Any, shrinkage: float, targets: Any, readings: Any, out: Any,
) -> None:  # fmt: skip
    """For each target the one of `items` whose list gives it most; -1 where none holds it.

    `readings` says in which reading each target is looked for, -1 leaves its place in `out` as it
    is; the other arguments are those of `read_lists`.
    """
    count = len(channels)
    eras, nows = np.empty(count, np.int64), np.empty(count)
    for r in range(count):
        eras[r] = era_of(clock, half_lives[channels[r]])
        nows[r] = 1.0 / weight_at(clock, half_lives[channels[r]], eras[r])
    most = np.zeros(len(targets))
    for t in range(len(targets)):
        if readings[t] >= 0:
            out[t] = NONE
    for m in range(len(items)):
        source = items[m]
        if source < 0 or source >= len(rows):
            continue
        row = rows[source]
        for t in range(len(targets)):
            r = readings[t]
            if r < 0 or not weights[r, m] > 0.0:
                continue
            place = NONE
            for j in range(len(row.item)):
                if row.item[j] == targets[t]:
                    place = j
            if place != NONE:
                channel = channels[r]
                part = voice(rows, source, channel, eras[r], nows[r], conditional[r], shrinkage)
                score = weights[r, m] * part * row.weight[channel * len(row.item) + place]
                if score > most[t]:
                    most[t], out[t] = score, source


@kernel
def strongest_sources_of_all(
    rows: Any, items: Any, weights: Any, starts: Any, fading: Any, channels: Any,
    conditional: Any, clocks: Any, half_lives: Any, shrinkage: float, targets: Any,
    target_starts: Any, readings: Any, out: Any,
) -> None:  # fmt: skip
    """`strongest_sources` for several users; arguments as of `read_lists_of_all`."""
    for user in range(len(clocks)):
        start, first, last = starts[user], target_starts[user], target_starts[user + 1]
        stop = min(starts[user + 1], start + fading.shape[1])
        if np.any(readings[first:last] >= 0):
            strongest_sources(
                rows, items[start:stop], fading[:, : stop - start] * weights[start:stop],
                channels, conditional, clocks[user], half_lives, shrinkage, targets[first:last],
                readings[first:last], out[first:last],
            )  # fmt: skip
