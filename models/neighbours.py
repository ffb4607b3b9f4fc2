"""Bounded lists of neighbours, one an item, counted in several channels: the loops of item kNN.

A row holds the `width` strongest neighbours seen lately, and for each what every channel counted of
it. A new one takes an empty place, or that of the weakest in the first channel; weights decay by
landmark (see `models.clock`), so the weakest fades by itself.
"""

from typing import Any

import numpy as np

from models.clock import era_of, era_shift, weight_at
from models.columns import NONE, Column
from models.kernels import fetch, kernel
from models.top import ROOM, best_of

AHEAD = 2  # rows that are asked of memory before they are read


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
def read_lists_of_all(
    rows: Any, items: Any, weights: Any, starts: Any, fading: Any, channels: Any,
    conditional: Any, clocks: Any, half_lives: Any, shrinkage: float, usable: Any, limits: Any,
    places: Any, slots: Any, scores: Any, slots_at: Any, counts: Any, scores_at: Any, best_at: Any,
    kept: Any,
) -> None:  # fmt: skip
    """Add up the neighbours of several users' items in several readings, and choose the best.

    User i's items are [starts[i], starts[i + 1]); `channels` says what a reading counts, and
    `conditional` what a list means to it (see `voice`). `fading` has a row a reading: how loud the
    n-th item may speak there, beside its weight, with positive numbers first and zeros behind them;
    who hears an item stands behind those who do not.

    What is found goes to `slots` from slots_at[i] on, counts[i] items, and what reading r says of
    them to `scores` from scores_at[i, r] on; then its limits[i, r] best usable ones to `slots` from
    best_at[i, r] on, kept[i, r] of them. `places` is zero before and after.
    """
    readings, room = fading.shape
    width = len(rows[0].item) if len(rows) else 0
    eras, nows = np.empty(readings, np.int64), np.empty(readings)
    columns = np.empty(room * width, np.uint32)
    most = min(room * width, len(places))
    rare, heard = np.empty(most, np.float32), np.empty(most, np.float32)
    open_to, few = np.empty(most, np.float32), ROOM * (np.max(limits) if limits.size else 0)
    chosen, best = np.empty(few, np.int32), np.empty(few, np.float32)
    # For many users at once it is cheaper to work out how rare every item is.
    pays = len(items) * width > 2 * len(places)
    everything = np.arange(len(places) if pays else 0).astype(np.int32)
    all_rare = np.empty((readings, len(everything)), np.float32)
    slot_at, score_at = 0, 0
    for user in range(len(clocks)):
        if user == 0 or clocks[user] != clocks[user - 1]:
            for r in range(readings):
                eras[r] = era_of(clocks[user], half_lives[channels[r]])
                nows[r] = 1.0 / weight_at(clocks[user], half_lives[channels[r]], eras[r])
                if _first_of_kind(r, channels, conditional):
                    _rarity(rows, everything, channels[r], eras[r], nows[r], shrinkage, all_rare[r])
        start, stop = starts[user], min(starts[user + 1], starts[user] + room)
        mine, loud = items[start:stop], fading[:, : stop - start] * weights[start:stop]
        count = _place(rows, mine, places, columns, slots[slot_at:])
        found = slots[slot_at : slot_at + count]
        end = score_at + readings * (count + 1)
        said = scores[score_at:end].reshape((readings, count + 1))
        _add_up(rows, mine, loud, channels, conditional, eras, nows, shrinkage, columns, said)
        slots_at[user], counts[user] = slot_at, count
        slot_at += count
        for at in range(count):
            slot = np.uint32(found[at])
            free = slot < np.uint32(usable.shape[1]) and usable[user, slot]
            open_to[at] = np.float32(1.0) if free else np.float32(0.0)
        for r in range(readings):
            mine_said = said[r, 1:]
            if _first_of_kind(r, channels, conditional):
                if pays:
                    for at in range(count):
                        rare[at] = all_rare[r, np.uint32(found[at])]
                else:
                    _rarity(rows, found, channels[r], eras[r], nows[r], shrinkage, rare)
                for same in range(r, readings):
                    if channels[same] == channels[r] and not conditional[same]:
                        for at in range(count):
                            said[same, at + 1] *= rare[at]
            for at in range(count):
                score = mine_said[at]
                heard[at] = (score if score < np.inf else np.float32(0.0)) * open_to[at]
            limit = limits[user, r]
            kept[user, r] = best_of(
                heard[:count], limit, chosen[: ROOM * limit], best[: ROOM * limit]
            )
            best_at[user, r] = slot_at
            for at in range(kept[user, r]):
                slots[slot_at + at] = found[chosen[at]]
            slot_at += kept[user, r]
            scores_at[user, r] = score_at + r * (count + 1) + 1
        score_at = end


@kernel
def _place(rows: Any, items: Any, places: Any, columns: Any, found: Any) -> int:
    """Number the neighbours of `items` from 1 in the order they come; returns how many there are.

    `columns` gets the numbers list by list, 0 for what has no place, and `found` the neighbours.
    `places` has the number of each meanwhile, and is zero before and after.
    """
    count, at, room = np.uint32(0), np.uint32(0), np.uint32(len(places))
    for m in range(len(items)):
        if items[m] < 0 or items[m] >= len(rows):
            continue
        if m + AHEAD < len(items):
            fetch(rows, items[m + AHEAD], 0, rows.itemsize)
        row = rows[items[m]]
        for j in range(np.uint32(row.held)):
            other = np.uint32(row.item[j])
            if other < room:
                place = places[other]  # no branch where it is anybody's guess: new or not
                found[count] = other
                count += np.uint32(place == 0)
                place = np.int32(count) if place == 0 else place
                places[other] = place
                columns[at] = place
            else:
                columns[at] = 0
            at += np.uint32(1)
    for n in range(count):
        places[found[n]] = 0
    return int(np.int64(count))


@kernel
def _add_up(
    rows: Any, items: Any, loud: Any, channels: Any, conditional: Any, eras: Any, nows: Any,
    shrinkage: float, columns: Any, said: Any,
) -> None:  # fmt: skip
    """What each reading says of the neighbours, but for how rare those are.

    `columns` is that of `_place`, `loud` and `said` have a row a reading; column 0 is for nobody.
    """
    said[:] = np.float32(0.0)
    start = np.uint32(0)
    for m in range(len(items)):
        if items[m] < 0 or items[m] >= len(rows):
            continue
        row = rows[items[m]]
        width, held = np.uint32(len(row.item)), np.uint32(row.held)
        mine = columns[start : start + held]
        start += held
        for r in range(len(said) - 1, -1, -1):
            if not loud[r, m] > 0.0:
                break
            part = voice(rows, items[m], channels[r], eras[r], nows[r], conditional[r], shrinkage)
            weight, first = np.float32(loud[r, m] * part), np.uint32(channels[r]) * width
            scores = said[r]
            for j in range(held):
                scores[mine[j]] += weight * row.weight[first + j]


@kernel
def _first_of_kind(r: int, channels: Any, conditional: Any) -> bool:
    """Whether a reading of cosines is the first in its channel: those share how rare items are."""
    first = not conditional[r]
    for other in range(r):
        first &= channels[other] != channels[r] or conditional[other]
    return bool(first)


@kernel
def _rarity(
    rows: Any, slots: Any, channel: int, era: int, now: float, shrinkage: float, rare: Any
) -> None:
    """The neighbour's part of a cosine, 1 / sqrt(m + s); 0 for what has no row."""
    for at in range(len(slots)):
        rare[at] = np.float32(np.inf)  # nothing is alike what has no row
        if slots[at] < len(rows):
            row = rows[slots[at]]
            mass = np.float32(row.mass[channel] * (now * era_shift(int(row.era[channel]), era)))
            rare[at] = mass if mass > 0.0 else np.float32(np.inf)  # nor what was forgotten
    pull = np.float32(shrinkage)
    for at in range(len(slots)):  # by itself, for then many roots are drawn at once
        rare[at] = np.float32(1.0) / np.sqrt(rare[at] + pull)


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
