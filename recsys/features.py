"""What the ranker sees of a candidate: groups of columns, each filled for some lists at once.

To add a feature, add a group: its names, and a function that writes its columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models import audience
from models.clock import era_of, era_shift, weight_at
from models.columns import NONE
from models.history import STAGE_STEPS, stage_of
from models.kernels import fetch, kernel
from models.logs import logs
from models.popularity import Popularity
from models.scratch import Scratch
from recsys.board import Unions
from recsys.contexts import Contexts
from recsys.words import hush, likeness, listen

DAY_S = 86_400.0
RARE = 0.05  # of an event, added to what an item had of late before its logarithm is taken
AHEAD = 6  # rows that are asked of memory before they are read
SESSION_GAP_S = 1_800.0  # whoever was away longer begins a new session


class Group(Protocol):
    """Some columns of a list's features."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def fill(self, contexts: Contexts, unions: Unions, out: NDArray[np.float32]) -> None:
        """Write the columns; `out` has shape (all candidates, len(names)) and is zero."""


@dataclass(frozen=True)
class SourceScores:
    """The prior (mean share of each source's highest score), then each source's own score."""

    sources: Sequence[str]

    @property
    def names(self) -> tuple[str, ...]:
        return ("prior", "found-by", *(f"{name}:share" for name in self.sources))

    def fill(self, contexts: Contexts, unions: Unions, out: NDArray[np.float32]) -> None:
        """From the scores of the union alone."""
        _source_scores(unions.scores, unions.found, unions.starts, out)


@dataclass(frozen=True)
class ItemHistory:
    """How popular the item is at each half-life, whether it is rising, how old and how busy.

    Also at what stage users come to it beside this one's, and its level beside their newest items'.
    """

    popularity: Popularity

    @property
    def names(self) -> tuple[str, ...]:
        halves = tuple(f"popularity:{h:g}" for h in self.popularity.config.half_lives_events)
        return (*halves, "trend", "events", "users", "age", "idle", "repeated", "stage",
                "stage:off", "stage:unlike", "level:mean", "level:newest")  # fmt: skip

    def fill(self, contexts: Contexts, unions: Unions, out: NDArray[np.float32]) -> None:
        """From the popularity's table."""
        queries, past = contexts.queries, np.diff(contexts.starts)
        _item_histories(
            contexts.items.tables[self.popularity.name].rows, unions.items, unions.starts,
            self.popularity.half_lives, queries.clocks, contexts.now_s, queries.items,
            queries.weights, queries.starts, past, out,
        )  # fmt: skip


@dataclass
class OwnHistory:
    """What the user did with this very item: how often, how lately, in what rhythm."""

    def __post_init__(self) -> None:
        self._places = Scratch(np.int32)

    @property
    def names(self) -> tuple[str, ...]:
        return ("had", "had:count", "had:ago", "had:rhythm", "had:weight", "had:recency",
                "had:share", "had:since-first", "had:steps-ago", "had:rate", "steps")  # fmt: skip

    def fill(self, contexts: Contexts, unions: Unions, out: NDArray[np.float32]) -> None:
        """From the user's entries."""
        past = contexts.past
        _own_histories(
            unions.items, unions.starts, past.items, past.first_s, past.last_s, past.counts,
            past.weights, contexts.starts, past.recent, contexts.recent_starts, contexts.now_s,
            self._places.room(contexts.usable.shape[1]), out,
        )  # fmt: skip


@dataclass(frozen=True)
class User:
    """The user, the same for every candidate: how much and how lately they act, and repeat."""

    @property
    def names(self) -> tuple[str, ...]:
        return ("user:events", "user:items", "user:ago", "user:repeats", "user:session")

    def fill(self, contexts: Contexts, unions: Unions, out: NDArray[np.float32]) -> None:
        """From sums over the entries."""
        past = contexts.past
        _users(
            past.counts, past.last_s, contexts.starts, past.recent, contexts.recent_starts,
            contexts.now_s, unions.starts, out,
        )  # fmt: skip


@dataclass(frozen=True)
class Product:
    """Category, brand and price of the product beside those of the user's newest items."""

    @property
    def names(self) -> tuple[str, ...]:
        return ("same-category", "same-brand", "price", "listed", "price:off", "words")

    def fill(self, contexts: Contexts, unions: Unions, out: NDArray[np.float32]) -> None:
        """From the catalogue."""
        catalogue, queries = contexts.catalogue, contexts.queries
        heard, loud = catalogue.words.ears(len(queries.items))
        _products(
            unions.items, unions.starts, queries.items, queries.weights, queries.starts,
            catalogue.category, catalogue.brand, catalogue.price, catalogue.listed,
            catalogue.words.of_item, catalogue.words.counts, heard, loud, out,
        )  # fmt: skip


@dataclass(frozen=True)
class Company:
    """Who came to the candidate lately, and to the user's newest items."""

    @property
    def names(self) -> tuple[str, ...]:
        return audience.FEATURES

    def fill(self, contexts: Contexts, unions: Unions, out: NDArray[np.float32]) -> None:
        """From the items' audiences."""
        table, past = contexts.items.tables[audience.Audience.name], contexts.longer
        audience.described(
            table, unions.items, unions.starts, past.items, past.starts, contexts.tokens, out
        )


class Features:
    """All groups side by side."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = tuple(groups)
        self.names = tuple(name for group in self.groups for name in group.names)
        stops = np.cumsum([len(group.names) for group in self.groups]).tolist()
        self._spans = [
            (group, slice(stop - len(group.names), stop))
            for group, stop in zip(self.groups, stops, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def sources(self) -> slice:
        """The columns that are single sources' shares."""
        shares = [at for at, name in enumerate(self.names) if name.endswith(":share")]
        shares = [at for at in shares if not self.names[at].startswith("had")]
        return slice(shares[0], shares[-1] + 1) if shares else slice(0)

    @property
    def prior(self) -> NDArray[np.float64]:
        """What each feature counts before anything is learned, shape (len(self),).

        How popular in the long run, and less so what the sources mean in all.
        """
        longest = [name for name in self.names if name.startswith("popularity:")][-1:]
        counts = {"prior": 0.5, **{name: 1.0 for name in longest if not name.endswith(":share")}}
        return np.array([counts.get(name, 0.0) for name in self.names])

    def of(self, contexts: Contexts, unions: Unions) -> NDArray[np.float32]:
        """Features of some lists' candidates, shape (all candidates, len(self))."""
        count = len(unions.items)
        # Columns of one row alone are another layout, for which numba compiles all kernels anew.
        out = np.zeros((max(count, 2), len(self)), np.float32)
        for group, span in self._spans:
            group.fill(contexts, unions, out[:, span])
        return out[:count]


def default_groups(sources: Sequence[str], popularity: Popularity) -> tuple[Group, ...]:
    """The groups of a pipeline with these sources."""
    own = ItemHistory(popularity), OwnHistory(), User(), Product(), Company()
    return SourceScores(sources), *own


@kernel
def _source_scores(scores: Any, found: Any, starts: Any, out: Any) -> None:
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
def _item_histories(
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
def _own_histories(
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
def _users(
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
def _products(
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
