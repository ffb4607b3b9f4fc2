"""The loops of the ranker's features: one a group of `recsys.features`, over several lists at once.

List n's candidates are [starts[n], starts[n + 1]) of `items`, and so are its rows of `out`.
"""

from typing import Any

import numpy as np

from models.clock import era_of, era_shift, weight_at
from models.columns import NONE
from models.history import STAGE_STEPS, stage_of
from models.kernels import fetch, kernel
from models.logs import logs
from recsys.words import hush, likeness, listen

DAY_S = 86_400.0
RARE = 0.05  # of an event, added to what an item had of late before its logarithm is taken
AHEAD = 6  # rows that are asked of memory before they are read
SESSION_GAP_S = 1_800.0  # whoever was away longer begins a new session


@kernel
def source_scores(scores: Any, found: Any, starts: Any, out: Any) -> None:
    sources = scores.shape[1]
    for number in range(len(starts) - 1):
        highest = np.full(sources, np.float32(1e-12))
        for row in range(starts[number], starts[number + 1]):
            for s in range(sources):
                highest[s] = max(highest[s], scores[row, s])
        for s in range(sources):
            highest[s] = np.float32(1.0) / highest[s]
        for row in range(starts[number], starts[number + 1]):
            total = np.float32(0.0)
            for s in range(sources):
                share = scores[row, s] * highest[s]
                out[row, 2 + s] = share
                total += share
            out[row, 0] = total / sources
            bits = found[row]
            while bits:
                out[row, 1] += np.float32(1.0)
                bits &= bits - np.uint32(1)


@kernel
def _log_days(age_s: float) -> float:
    return float(np.log(np.float32(1.0 + max(age_s, 0.0) / DAY_S)))


@kernel
def item_histories(
    rows: Any, items: Any, starts: Any, half_lives: Any, clocks: Any, now_s: Any, past: Any,
    weights: Any, past_starts: Any, entries: Any, out: Any,
) -> None:  # fmt: skip
    for number in range(len(clocks)):
        start, stop = starts[number], starts[number + 1]
        first, last = past_starts[number], past_starts[number + 1]
        _item_history(
            rows, items[start:stop], half_lives, clocks[number], now_s[number], past[first:last],
            weights[first:last], stage_of(entries[number]) / STAGE_STEPS, out[start:stop],
        )  # fmt: skip


@kernel
def _item_history(
    rows: Any, items: Any, half_lives: Any, clock: float, now_s: float, past: Any, weights: Any,
    stage: float, out: Any,
) -> None:  # fmt: skip
    halves, count = len(half_lives), len(items)
    eras, nows = np.empty(halves, np.int64), np.empty(halves)
    for h in range(halves):
        eras[h] = era_of(clock, half_lives[h])
        nows[h] = 1.0 / weight_at(clock, half_lives[h], eras[h])
    last, one = halves - 1, np.float32(1.0)
    large = np.empty((halves + 5, count), np.float32)  # what logarithms are taken of
    for m in range(len(past)):
        fetch(rows, past[m], 0, rows.itemsize)
    for at in range(count):
        fetch(rows, items[min(at + AHEAD, count - 1)], 0, rows.itemsize)
        row = rows[items[at]]
        for h in range(halves):
            now = np.float32(era_shift(int(row.era[h]), eras[h]) * nows[h])
            large[h, at] = one + row.decayed[h] * now
        large[halves, at] = large[last, at] + np.float32(RARE - 1.0)
        large[halves + 1, at] = one + np.float32(row.events)
        large[halves + 2, at] = one + np.float32(row.users)
        seen = row.events > 0
        large[halves + 3, at] = 1.0 + seen * max(now_s - row.first_s, 0.0) / DAY_S
        large[halves + 4, at] = 1.0 + seen * max(now_s - row.last_s, 0.0) / DAY_S
        if seen:
            out[at, halves + 5] = (row.events - row.users) / (row.events + 2.0)
        off = row.stage - stage
        out[at, halves + 6] = off
        out[at, halves + 7] = abs(off)
        out[at, halves + 8] = off * off / (row.stage_spread + 0.3)
    logs(large.reshape(large.size))
    # Levels are taken at the longest half-life.
    mean, total, newest = 0.0, 1e-9, 0.0
    for m in range(len(past)):
        row = rows[past[m]]
        now = era_shift(int(row.era[last]), eras[last]) * nows[last]
        level = np.log(RARE + row.decayed[last] * now)
        mean += weights[m] * level
        total += weights[m]
        if m == 0:
            newest = level
    mean /= total
    for at in range(count):
        for h in range(halves):
            out[at, h] = large[h, at]
        out[at, halves] = large[0, at] - large[min(2, last), at]
        for n in range(1, 5):
            out[at, halves + n] = large[halves + n, at]
        if len(past) > 0:
            out[at, halves + 9] = large[halves, at] - mean
            out[at, halves + 10] = large[halves, at] - newest


@kernel
def own_histories(
    items: Any, starts: Any, own: Any, first_s: Any, last_s: Any, counts: Any, weights: Any,
    own_starts: Any, recent: Any, recent_starts: Any, now_s: Any, places: Any, out: Any,
) -> None:  # fmt: skip
    for number in range(len(now_s)):
        start, stop = starts[number], starts[number + 1]
        first, last = own_starts[number], own_starts[number + 1]
        if first < last:
            _own_history(
                items[start:stop], own[first:last], first_s[first:last], last_s[first:last],
                counts[first:last], weights[first:last],
                recent[recent_starts[number] : recent_starts[number + 1]], now_s[number], places,
                out[start:stop],
            )  # fmt: skip


@kernel
def _own_history(
    items: Any, own: Any, first_s: Any, last_s: Any, counts: Any, weights: Any, recent: Any,
    now_s: float, places: Any, out: Any,
) -> None:  # fmt: skip
    for n in range(len(own)):
        places[own[n]] = n + 1
    # Entries keep their last time only: steps are told apart by those.
    moments = np.unique(last_s)
    for at in range(len(items)):
        out[at, 10] = np.log(1.0 + len(moments))
        n = places[items[at]] - 1
        if n < 0:
            continue
        ago_s = max(now_s - last_s[n], 0.0)
        out[at, 0] = 1.0
        out[at, 1] = np.log(np.float32(1.0) + np.float32(counts[n]))
        out[at, 2] = _log_days(ago_s)
        if counts[n] > 1:
            gap_s = (float(last_s[n]) - float(first_s[n])) / (counts[n] - 1.0)
            out[at, 3] = np.log((ago_s + 3600.0) / (gap_s + 3600.0))
        out[at, 4] = weights[n]
        out[at, 6] = counts[n] / np.float32(len(own))
        out[at, 7] = _log_days(now_s - first_s[n])
        out[at, 8] = np.log(1.0 + len(moments) - np.searchsorted(moments, last_s[n]))
        out[at, 9] = counts[n] / np.float32(len(moments))
        for j in range(len(recent)):
            if recent[j] == n:
                out[at, 5] = 1.0 / (1.0 + j)
                break
    for n in range(len(own)):
        places[own[n]] = 0


@kernel
def users(
    counts: Any, last_s: Any, own_starts: Any, recent: Any, recent_starts: Any, now_s: Any,
    starts: Any, out: Any,
) -> None:  # fmt: skip
    for number in range(len(now_s)):
        first, last = own_starts[number], own_starts[number + 1]
        if first < last:
            _user(
                counts[first:last], last_s[first:last],
                recent[recent_starts[number] : recent_starts[number + 1]], now_s[number],
                out[starts[number] : starts[number + 1]],
            )  # fmt: skip


@kernel
def _user(counts: Any, last_s: Any, recent: Any, now_s: float, out: Any) -> None:
    events = 0.0
    for n in range(len(counts)):
        events += counts[n]
    since = _log_days(now_s - last_s[recent[0]]) if len(recent) else 0.0
    session, then_s = 0, now_s
    for n in recent:
        if then_s - last_s[n] > SESSION_GAP_S:
            break
        session, then_s = session + 1, float(last_s[n])
    for at in range(len(out)):
        out[at, 0] = np.log(1.0 + events)
        out[at, 1] = np.log(1.0 + len(counts))
        out[at, 2] = since
        out[at, 3] = 1.0 - len(counts) / events
        out[at, 4] = np.log(1.0 + session)


@kernel
def products(
    items: Any, starts: Any, past: Any, weights: Any, past_starts: Any, category: Any, brand: Any,
    price: Any, listed: Any, words: Any, word_counts: Any, heard: Any, loud: Any, out: Any,
) -> None:  # fmt: skip
    for number in range(len(starts) - 1):
        start, stop = starts[number], starts[number + 1]
        mine = past[past_starts[number] : past_starts[number + 1]]
        mine_weights = weights[past_starts[number] : past_starts[number + 1]]
        found = listen(words, word_counts, mine, mine_weights, heard, loud)
        _product(
            items[start:stop], mine, mine_weights, category, brand, price, listed, words, loud,
            found > 0, out[start:stop],
        )  # fmt: skip
        hush(heard, found, loud)


@kernel
def _product(
    items: Any, past: Any, weights: Any, category: Any, brand: Any, price: Any, listed: Any,
    words: Any, loud: Any, heard: bool, out: Any,
) -> None:  # fmt: skip
    total, level, priced = 1e-9, 0.0, 0.0
    for m in range(len(past)):
        total += weights[m]
        if price[past[m]] > 0.0:
            level += weights[m] * np.log(price[past[m]])
            priced += weights[m]
    for at in range(len(items)):
        slot = items[at]
        if category[slot] != NONE:
            for m in range(len(past)):
                if category[past[m]] == category[slot]:
                    out[at, 0] += weights[m] / total
        if brand[slot] != NONE:
            for m in range(len(past)):
                if brand[past[m]] == brand[slot]:
                    out[at, 1] += weights[m] / total
        if priced > 0.0 and price[slot] > 0.0:
            out[at, 2] = np.log(price[slot]) - level / priced
            out[at, 4] = abs(out[at, 2])
        if heard:
            out[at, 5] = likeness(words, slot, loud)
        out[at, 3] = listed[slot]
