"""The sources that come with the recommender, each with its own idea of what a user may want."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import Answers, Scores, empty_answer
from models.columns import NONE, Slots
from models.ease import Ease
from models.kernels import kernel
from models.mf import VectorModel
from models.popularity import Popularity
from models.scratch import Scratch
from recsys.contexts import Context, Contexts
from recsys.speakers import ForAll
from recsys.vectors import ProductVectors

NEAREST_MIN, NEAREST_MAX = 30, 100


@dataclass
class Learned(ForAll):
    """What a model with a vector an item says of the user's newest items.

    Args:
        searches: whether it looks for candidates; else it only scores what others found, but for
            users whose photos speak for them, too.
    """

    model: VectorModel
    reason: str
    searches: bool = True

    @property
    def name(self) -> str:
        return self.model.name

    def candidates_of_all(self, contexts: Contexts) -> Answers:
        """The best that the model finds, in one pass over its table."""
        queries = contexts.queries
        if not self.searches:
            asked = np.array([taste is not None for taste in queries.tastes])
            if not asked.any():
                return Answers.none(len(contexts))
            queries = replace(queries, limits=queries.limits * asked)
        return self.model.recommend_all(contexts.items.tables[self.name], queries)

    def describe_all(
        self, contexts: Contexts, items: Slots, starts: NDArray[np.int64], out: Scores
    ) -> None:
        """Scores of what others found, where this one does not search."""
        if not self.searches:
            table = contexts.items.tables[self.name]
            self.model.describe_all(table, contexts.queries, items, starts, out)

    def carry_all(
        self, contexts: Contexts, items: Slots, starts: NDArray[np.int64],
        asked: NDArray[np.bool_], out: Slots,
    ) -> None:  # fmt: skip
        """The past item that gave most of each score."""
        table = contexts.items.tables[self.name]
        self.model.carry_all(table, contexts.queries, items, starts, asked, out)


@dataclass
class EaseWeights(ForAll):
    """What EASE's weights of all that the user likes say, however long ago."""

    model: Ease
    name: str = Ease.name
    reason: str = "chosen by those who have {item}"

    def candidates_of_all(self, contexts: Contexts) -> Answers:
        """All items that the user's have weights on."""
        past, table = contexts.past, contexts.items.tables[self.model.name]
        return self.model.recommend_all(
            table, past.items, past.weights, contexts.starts, contexts.usable
        )

    def carry_all(
        self, contexts: Contexts, items: Slots, starts: NDArray[np.int64],
        asked: NDArray[np.bool_], out: Slots,
    ) -> None:  # fmt: skip
        """The past item with the largest weight."""
        past, table = contexts.past, contexts.items.tables[self.model.name]
        self.model.carry_all(
            table, past.items, past.weights, contexts.starts, items, starts, asked, out
        )


@dataclass
class Popular(ForAll):
    """What most users want, at one of the popularity's half-lives."""

    model: Popularity
    half_life: int
    name: str = "popularity"
    reason: str = "popular with everyone"
    share: float = 0.5

    def candidates_of_all(self, contexts: Contexts) -> Answers:
        """The top of all items, at most a few hundred events old."""
        table = contexts.items.tables[self.model.name]
        items, clock = contexts.usable.shape[1], float(contexts.queries.clocks[-1])
        return Answers.same(*self.model.top(table, clock, items, self.half_life), len(contexts))


@dataclass
class Own(ForAll):
    """What the user had before: often and lately."""

    name: str = "own"
    reason: str = "you had {item} before"
    decay: float = 0.7  # weight of a step is this to the power of how many came after it
    share: float = 3.0

    def candidates_of_all(self, contexts: Contexts) -> Answers:
        """The user's own items with positive weight."""
        past, count = contexts.past, len(contexts)
        slots, scores = np.empty(len(past.items), np.int32), np.empty(len(past.items), np.float32)
        starts, stops = np.empty(count, np.int64), np.empty(count, np.int64)
        _own_of_all(
            past.items, past.last_s, past.counts, past.weights, contexts.starts, contexts.usable,
            self.decay, slots, scores, starts, stops,
        )  # fmt: skip
        return Answers(slots, scores, starts, stops)

    def carry_all(
        self, contexts: Contexts, items: Slots, starts: NDArray[np.int64],
        asked: NDArray[np.bool_], out: Slots,
    ) -> None:  # fmt: skip
        """The item itself."""
        out[asked] = items[asked]


@dataclass
class LooksAlike:
    """What looks like the user's photos; a photo loses half its voice with each half-life."""

    vectors: ProductVectors
    name: str = "image"
    reason: str = "looks like your photo{photo}"

    def candidates_of_all(self, contexts: Contexts) -> Answers:
        """`candidates` for each; hardly anybody has photos."""
        if not any(contexts.photos):
            return Answers.none(len(contexts))
        return Answers.of([self.candidates(context) for context in contexts])

    def candidates(self, context: Context) -> tuple[Slots, Scores]:
        """The nearest products with positive cosine, of the photo's category where it has one."""
        photo = context.photo
        if photo is None or not len(self.vectors):
            return empty_answer()
        allow = context.allowed
        codes = context.catalogue.categories.codes
        code = codes.get(photo.category, NONE) if photo.category else NONE
        if code != NONE:
            same = context.catalogue.category[: len(context.items)] == code
            allow = same if allow is None else allow & same
        k = min(max(context.limit, NEAREST_MIN), NEAREST_MAX)
        slots, cosines = self.vectors.nearest(photo.vector, k, allow)
        kept = cosines > 0
        return slots[kept], cosines[kept] * np.float32(photo.weight)


@dataclass
class ReadsAlike(ForAll):
    """Products whose title, category, brand and tags share words with the user's newest items."""

    name: str = "words"
    reason: str = "described like {item}"
    share: float = 0.5

    def __post_init__(self) -> None:
        self._scratch = Scratch(np.float32)

    def candidates_of_all(self, contexts: Contexts) -> Answers:
        """The newest products of the heaviest words; rare words weigh more."""
        if not len(contexts.catalogue):
            return Answers.none(len(contexts))
        scratch = self._scratch.room(contexts.usable.shape[1])
        return contexts.catalogue.words.alike(contexts.queries, scratch)

    def carry_all(
        self, contexts: Contexts, items: Slots, starts: NDArray[np.int64],
        asked: NDArray[np.bool_], out: Slots,
    ) -> None:  # fmt: skip
        """The newest item with the most words in common."""
        queries = contexts.queries
        _most_shared(
            contexts.catalogue.words.of_item, queries.items, queries.starts, items, starts, asked,
            out,
        )  # fmt: skip


@dataclass
class Newest(ForAll):
    """Products listed last that few have seen."""

    name: str = "newest"
    reason: str = "new in the catalogue"
    share: float = 0.3
    events_max: int = 5

    def candidates_of_all(self, contexts: Contexts) -> Answers:
        """The newest products with fewer than `events_max` events; the newest scores 1."""
        listed = contexts.catalogue.newest()
        most, count = 4 * contexts.queries.limits, len(contexts)
        slots = np.empty(min(int(most.max()), len(listed)), np.int32)
        scores = np.empty(len(slots), np.float32)
        rows = contexts.items.tables[Popularity.name].rows
        found = _rarely_seen(listed, rows, self.events_max, slots, scores)
        stops = np.minimum(most, found)  # who else is asked for must not matter to a list
        return Answers(slots[:found], scores[:found], np.zeros(count, np.int64), stops)


@dataclass
class Category(ForAll):
    """The popular and the new in the categories of the user's newest items."""

    model: Popularity
    half_life: int = 2
    name: str = "category"
    reason: str = "same category as {item}"
    share: float = 0.5
    categories: int = 4
    per_category: int = 50
    _tops: dict[int, tuple[float, int, Slots, Scores]] = field(default_factory=dict)

    def candidates_of_all(self, contexts: Contexts) -> Answers:
        """The top of each category, by the category's share of the query's weight."""
        queries, count = contexts.queries, len(contexts)
        shares = np.empty((count, self.categories), np.float32)
        codes = np.full((count, self.categories), NONE, np.int32)
        _heaviest(
            contexts.catalogue.category, queries.items, queries.weights, queries.starts, shares,
            codes,
        )  # fmt: skip
        wanted = [code for code in dict.fromkeys(codes.ravel().tolist()) if code != NONE]
        if not wanted:
            return Answers.none(count)
        clock = float(queries.clocks[-1])
        tops = Answers.of([self._top(contexts, clock, code) for code in wanted])
        slots = np.empty(count * self.categories * self.per_category, np.int32)
        scores = np.empty(len(slots), np.float32)
        starts, stops = np.empty(count, np.int64), np.empty(count, np.int64)
        _weighted(
            np.array(wanted, np.int32), tops.slots, tops.scores, tops.starts, tops.stops, codes,
            shares, slots, scores, starts, stops,
        )  # fmt: skip
        return Answers(slots[: stops[-1]], scores[: stops[-1]], starts, stops)

    def carry_all(
        self, contexts: Contexts, items: Slots, starts: NDArray[np.int64],
        asked: NDArray[np.bool_], out: Slots,
    ) -> None:  # fmt: skip
        """The newest item of the same category."""
        queries = contexts.queries
        _same_code(
            contexts.catalogue.category, queries.items, queries.starts, items, starts, asked, out
        )

    def _top(self, contexts: Contexts, clock: float, code: int) -> tuple[Slots, Scores]:
        changes = contexts.catalogue.changes
        known = self._tops.get(code)
        lifetime = 4 * self.model.config.refresh_events
        if known and known[1] == changes and 0 <= clock - known[0] < lifetime:
            return known[2], known[3]
        slots = contexts.catalogue.members(code)
        table = contexts.items.tables[self.model.name]
        scores = self.model.scores_of(table, self.half_life, clock, slots)
        if len(slots) > self.per_category:
            best = np.argpartition(-scores, self.per_category - 1)[: self.per_category]
            slots, scores = slots[best], scores[best]
        # A category without any events still has its products, the newest ones first.
        highest = scores.max(initial=0.0)
        scores = scores / highest if highest > 0 else np.zeros_like(scores)
        scores = (scores + 1e-3).astype(np.float32)
        self._tops[code] = (clock, changes, slots, scores)
        return slots, scores


@kernel
def _own_of_all(
    items: Any, last_s: Any, counts: Any, weights: Any, bounds: Any, usable: Any, decay: float,
    slots: Any, scores: Any, starts: Any, stops: Any,
) -> None:  # fmt: skip
    count = 0
    for user in range(len(starts)):
        first, last = bounds[user], bounds[user + 1]
        starts[user] = count
        count += _own(
            items[first:last], last_s[first:last], counts[first:last], weights[first:last],
            usable[user], decay, slots[count:], scores[count:],
        )  # fmt: skip
        stops[user] = count


@kernel
def _own(
    items: Any, last_s: Any, counts: Any, weights: Any, usable: Any, decay: float, slots: Any,
    scores: Any,
) -> int:  # fmt: skip
    """Liked items; none where the list may hold none of the user's own. Returns how many."""
    count, free = 0, False
    for m in range(len(items)):
        free |= usable[items[m]]
    if not free:
        return 0
    moments = np.unique(last_s)
    for m in range(len(items)):
        if weights[m] > 0:
            steps_ago = len(moments) - 1 - np.searchsorted(moments, last_s[m])
            slots[count] = items[m]
            scores[count] = np.sqrt(counts[m]) * decay**steps_ago + 1e-12
            count += 1
    return count


@kernel
def _heaviest(
    category: Any, items: Any, weights: Any, starts: Any, shares: Any, codes: Any
) -> None:
    """For each user the categories with most weight among their items, and its share of all."""
    for user in range(len(codes)):
        size = starts[user + 1] - starts[user]
        sums, seen, total, count = np.zeros(size), np.empty(size, np.int32), 0.0, 0
        for m in range(starts[user], starts[user + 1]):
            code = category[items[m]]
            if code == NONE:
                continue
            total += weights[m]
            at = 0
            while at < count and seen[at] != code:
                at += 1
            if at == count:
                seen[at] = code
                count += 1
            sums[at] += weights[m]
        order = np.argsort(-sums[:count])[: codes.shape[1]]
        for n in range(len(order)):
            shares[user, n], codes[user, n] = sums[order[n]] / total, seen[order[n]]


@kernel
def _weighted(
    known: Any, tops: Any, top_scores: Any, top_starts: Any, top_stops: Any, codes: Any,
    shares: Any, slots: Any, scores: Any, starts: Any, stops: Any,
) -> None:  # fmt: skip
    """Each user's categories' tops, by the category's share; a top a code of `known`."""
    count = 0
    for user in range(len(codes)):
        starts[user] = count
        for n in range(codes.shape[1]):
            if codes[user, n] == NONE:
                break
            which = 0
            while known[which] != codes[user, n]:
                which += 1
            for at in range(top_starts[which], top_stops[which]):
                slots[count], scores[count] = tops[at], top_scores[at] * shares[user, n]
                count += 1
        stops[user] = count


@kernel
def _rarely_seen(listed: Any, rows: Any, events_max: int, slots: Any, scores: Any) -> int:
    """The first of `listed` with few events, the n-th scored 1 / (1 + n / 10); returns how many."""
    count = 0
    for at in range(len(listed)):
        if count == len(slots):
            break
        if rows[listed[at]].events < events_max:
            slots[count], scores[count] = listed[at], 1.0 / (1.0 + count / 10.0)
            count += 1
    return count


@kernel
def _same_code(
    codes: Any, past: Any, past_starts: Any, items: Any, starts: Any, asked: Any, out: Any
) -> None:
    """For each item that is asked for the newest past one of its code, -1 where there is none."""
    for user in range(len(starts) - 1):
        for at in range(starts[user], starts[user + 1]):
            if not asked[at]:
                continue
            out[at] = NONE
            for m in range(past_starts[user], past_starts[user + 1]):
                if codes[items[at]] != NONE and codes[past[m]] == codes[items[at]]:
                    out[at] = past[m]
                    break


@kernel
def _most_shared(
    of_item: Any, past: Any, past_starts: Any, items: Any, starts: Any, asked: Any, out: Any
) -> None:
    """For each item asked for the newest past one with the most words in common, -1: none."""
    for user in range(len(starts) - 1):
        for at in range(starts[user], starts[user + 1]):
            if not asked[at]:
                continue
            out[at], most = NONE, 0
            for m in range(past_starts[user], past_starts[user + 1]):
                shared = 0
                if items[at] < len(of_item) and past[m] < len(of_item):
                    for word in of_item[items[at]]:
                        for other in of_item[past[m]]:
                            shared += word != NONE and word == other
                if shared > most:
                    out[at], most = past[m], shared
