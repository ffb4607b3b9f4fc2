"""The board: what every source says of every item, for some lists, and the unions of their best."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import Answers, joined, joined_starts
from models.columns import NONE, Slots
from models.item_knn import Read
from models.kernels import kernel
from models.top import ROOM, best_of


@dataclass(frozen=True, slots=True)
class Candidates:
    """A list's union: c items, what each source says of them, and which ones found them."""

    items: Slots  # (c,)
    scores: NDArray[np.float32]  # (c, sources), 0 where a source says nothing
    found: NDArray[np.uint32]  # (c,), bit s: among the best of source s

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True)
class Unions:
    """The unions of n lists, one behind the other: list i's rows are [starts[i], starts[i + 1])."""

    items: Slots  # (rows,)
    scores: NDArray[np.float32]  # (rows, sources)
    found: NDArray[np.uint32]  # (rows,)
    starts: NDArray[np.int64]  # (n + 1,)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @classmethod
    def of(cls, candidates: Candidates) -> "Unions":
        """The union of one list."""
        bounds = np.array([0, len(candidates)])
        return cls(candidates.items, candidates.scores, candidates.found, bounds)

    @classmethod
    def joined(cls, several: "Sequence[Unions]") -> "Unions":
        """Those of several, at least one, one behind the other."""
        if len(several) == 1:
            return several[0]
        return cls(
            joined([each.items for each in several]),
            joined([each.scores for each in several]),
            joined([each.found for each in several]),
            joined_starts([each.starts for each in several]),
        )

    def first(self, count: int) -> "Unions":
        """Those of the first lists, as views."""
        if count == len(self):
            return self
        stop = int(self.starts[count])
        starts = self.starts[: count + 1]
        return Unions(self.items[:stop], self.scores[:stop], self.found[:stop], starts)

    def part(self, number: int) -> slice:
        """The rows of a list."""
        return slice(int(self.starts[number]), int(self.starts[number + 1]))

    def to(self, number: int) -> Candidates:
        """The union of a list."""
        part = self.part(number)
        return Candidates(self.items[part], self.scores[part], self.found[part])


class Board(threading.local):
    """Answers of all sources to some lists; one instance a pipeline, and in it a board a thread.

    An answer is a stretch of items and one of their scores; answers may share their items.

    Args:
        shares: a source's part of the places, 1 for `limit` of them.
    """

    def __init__(self, shares: Sequence[float]) -> None:
        self._shares = np.array(shares, np.float64)
        self._said: list[NDArray[Any]] = [np.zeros(0, np.int32), np.zeros(0, np.float32)]
        self._taken = np.zeros(2, np.int64)  # of items, and of scores
        self._usable: NDArray[np.bool_] = np.zeros((0, 0), np.bool_)
        self._known_limits: dict[int, NDArray[np.int64]] = {}
        self._limits = np.zeros((0, len(shares)), np.int64)
        # Of each list and source: where its items start, where its scores do, how many there are;
        # where its best items start, how many these are, NONE: nobody has looked.
        self._spans = np.zeros((0, len(shares), 5), np.int64)
        self.places: NDArray[np.int32] = np.zeros(0, np.int32)  # zero for every item

    def open(self, usable: NDArray[np.bool_], limits: NDArray[np.int64]) -> None:
        """Wipe it for new lists, of the best of each source: `limits` of a list, or its share.

        `usable` has a row a list, a mask over all items.
        """
        self._usable = usable
        each = [self._limits_of(limit) for limit in limits.tolist()]
        self._limits = each[0][None] if len(each) == 1 else np.stack(each)
        self._spans = np.zeros((len(usable), len(self._shares), 5), np.int64)
        self._taken[:] = 0
        if len(self.places) < usable.shape[1]:
            self.places = np.zeros(2 * usable.shape[1], np.int32)

    def _limits_of(self, limit: int) -> NDArray[np.int64]:
        if limit not in self._known_limits:
            self._known_limits[limit] = np.ceil(limit * self._shares).astype(np.int64)
        return self._known_limits[limit]

    def room(self, length: int, dtype: Any) -> NDArray[Any]:
        """Room right behind what was said: for items (int32) or scores (float32)."""
        which = 0 if dtype is np.int32 else 1
        start, said = int(self._taken[which]), self._said[which]
        if start + length > len(said):
            more = np.empty(max(length, len(said)), dtype)
            said = self._said[which] = np.concatenate([said, more])
        return said[start : start + length]

    def limits(self, columns: range) -> NDArray[np.int64]:
        """How many of the best of some sources join each list, shape (lists, columns)."""
        return np.ascontiguousarray(self._limits[:, columns.start : columns.stop])

    def say(self, columns: range, read: Read) -> None:
        """Sources wrote into the room they were given, and chose their best."""
        spans = self._spans[:, columns.start : columns.stop]
        spans[:, :, 0] = (read.slots_at + self._taken[0])[:, None]
        spans[:, :, 1] = read.scores_at + self._taken[1]
        spans[:, :, 2] = read.counts[:, None]
        spans[:, :, 3] = read.best_at + self._taken[0]
        spans[:, :, 4] = read.kept
        self._taken += len(read.slots), len(read.scores)

    def put(self, column: int, answers: Answers) -> None:
        """A source's answers, one to each list."""
        if len(answers.slots):
            _put(
                column, answers.slots, answers.scores, answers.starts, answers.stops,
                self.room(len(answers.slots), np.int32), self.room(len(answers.slots), np.float32),
                self._taken, self._spans,
            )  # fmt: skip

    def unions(self) -> Unions:
        """The best usable of all sources, in the order of the sources.

        What is not a positive number is not heard.
        """
        lists, sources = self._limits.shape
        slots, said = self._said
        room = int(self._limits.sum())
        items, found = np.empty(room, np.int32), np.empty(room, np.uint32)
        starts = np.zeros(lists + 1, np.int64)
        _join(
            self._spans, slots, said, self._usable, self._limits, self.places, items, found, starts
        )  # fmt: skip
        items, found = items[: starts[-1]], found[: starts[-1]]
        scores = np.empty((len(items), sources), np.float32)
        _describe(self._spans, slots, said, self.places, items, starts, scores)
        return Unions(items, scores, found, starts)


@kernel
def _put(
    column: int, said_of: Any, said: Any, starts: Any, stops: Any, slots: Any, scores: Any,
    taken: Any, spans: Any,
) -> None:  # fmt: skip
    slots[:] = said_of
    scores[:] = said
    for at in range(len(starts)):
        spans[at, column, 0] = taken[0] + starts[at]
        spans[at, column, 1] = taken[1] + starts[at]
        spans[at, column, 2] = stops[at] - starts[at]
        spans[at, column, 4] = NONE
    taken[0] += len(said_of)
    taken[1] += len(said_of)


@kernel
def _join(
    spans: Any, slots: Any, scores: Any, usable: Any, limits: Any, places: Any, items: Any,
    found: Any, starts: Any,
) -> None:  # fmt: skip
    """The items of the unions, which sources found each, and where each list's start.

    `places` has an item's row in its union + 1 while a list is joined, and is zero then.
    """
    longest = np.max(spans[:, :, 2]) if spans.size else 0
    heard, room = np.empty(longest, np.float32), ROOM * (np.max(limits) if limits.size else 0)
    best_at, best = np.empty(room, np.int32), np.empty(room, np.float32)
    row = 0
    for number in range(len(spans)):
        first, mask = row, usable[number]
        for s in range(spans.shape[1]):
            start, said_at, count, chosen_at, kept = spans[number, s]
            if count == 0:
                continue
            if kept == NONE:
                said_of, said = slots[start : start + count], scores[said_at : said_at + count]
                for at in range(count):
                    slot, score = np.uint32(said_of[at]), said[at]
                    free = slot < np.uint32(len(mask)) and mask[slot]
                    heard[at] = score if free and score < np.inf else np.float32(0.0)
                limit = limits[number, s]
                kept = best_of(heard[:count], limit, best_at[: ROOM * limit], best[: ROOM * limit])
                chosen = said_of[best_at[:kept]]
            else:
                chosen = slots[chosen_at : chosen_at + kept]
            for slot in chosen:
                if places[slot] == 0:
                    items[row], found[row] = slot, np.uint32(0)
                    row += 1
                    places[slot] = row - first
                found[first + places[slot] - 1] |= np.uint32(1) << np.uint32(s)
        for at in range(first, row):
            places[items[at]] = 0
        starts[number + 1] = row


@kernel
def _describe(
    spans: Any, slots: Any, scores: Any, places: Any, items: Any, starts: Any, out: Any
) -> None:
    """What each source says of the items of the unions; `places` is zero before and after."""
    longest = np.max(spans[:, :, 2]) if spans.size else 0
    heard_at, rows = np.empty(longest, np.int32), np.empty(longest, np.int32)
    for number in range(len(spans)):
        mine = items[starts[number] : starts[number + 1]]
        said = out[starts[number] : starts[number + 1]]
        for row in range(len(mine)):
            places[mine[row]] = row + 1
        said[:] = np.float32(0.0)
        hits, before = 0, -1
        for s in range(spans.shape[1]):
            start, said_at, count = spans[number, s, :3]
            if count == 0:
                continue
            if start != before:
                hits = 0
                for at in range(count):
                    slot = np.uint32(slots[start + at])
                    place = places[slot] if slot < np.uint32(len(places)) else 0
                    heard_at[hits], rows[hits] = at, place - 1
                    hits += place > 0
                before = start
            for hit in range(hits):
                score = scores[said_at + heard_at[hit]]
                if score > 0.0 and score < np.inf:
                    said[rows[hit], s] = score
        for row in range(len(mine)):
            places[mine[row]] = 0
