"""Candidates: small named sources, each with its own idea of what a user may want, and their union.

A source is any object with a `name` and `candidates(context) -> (item_slots, scores)`. It may
return as many as it likes: its best ones join the union, and all its scores describe them there.
A package adds one by the entry-point group `recsys.candidates`; settings choose by name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from itertools import accumulate
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.base import NO_SLOTS, Model, Query, Scores, empty_answer
from models.columns import NONE, Slots
from models.history import CONTEXT_SIZE, newest_liked
from models.item_knn import PairModel
from models.kernels import kernel
from models.popularity import Popularity
from models.top import push
from recsys.catalogue import Catalogue
from recsys.photos import Photo
from recsys.state import History, ItemState
from recsys.vectors import ProductVectors

ENTRY_POINTS = "recsys.candidates"
NEAREST_MIN, NEAREST_MAX = 30, 100


@dataclass(frozen=True, slots=True)
class Context:
    """What a source may look at. Nothing in it may be written."""

    items: ItemState
    catalogue: Catalogue
    history: History
    query: Query
    now_s: float
    limit: int  # how many of a source's candidates can join the union
    allowed: NDArray[np.bool_] | None = None  # a request's filter, over all item slots
    photo: Photo | None = None  # what the user's photos say, where there are any
    similar_to: Slots = field(default_factory=lambda: NO_SLOTS)  # what a request's list is like


def query_of(
    past: History, now_s: float, clock: float, usable: NDArray[np.bool_], limit: int, *,
    position_decay: float = 0.9, similar_to: Slots = NO_SLOTS,
    taste: NDArray[np.float32] | None = None, room: int = CONTEXT_SIZE,
) -> Query:  # fmt: skip
    """Who speaks for a user: their newest liked items, behind those a list is to be similar to."""
    items = np.empty(room + len(similar_to), np.int32)
    weights, ages_s = np.empty(len(items), np.float32), np.empty(len(items), np.float32)
    count = newest_liked(
        past.items, past.last_s, past.weights, past.recent, similar_to, now_s, position_decay,
        room, items, weights, ages_s,
    )  # fmt: skip
    return Query(items[:count], weights[:count], ages_s[:count], clock, usable, limit, taste)


@runtime_checkable
class Source(Protocol):
    """One source of candidates.

    It may also have `carriers(context, items) -> item slots`, the past item that carried each
    score (-1: none), `reason`, a phrase with `{item}` where that item's title goes, and `share`,
    which part of the places of a source it may fill in the union (1 where it has none).
    """

    @property
    def name(self) -> str: ...

    def candidates(self, context: Context) -> tuple[Slots, Scores]:
        """Item slots with scores above 0, in any order."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The union: c items, what each of the sources says of them, and which ones found them."""

    items: Slots  # (c,)
    scores: NDArray[np.float32]  # (c, sources), 0 where a source says nothing
    found: NDArray[np.uint32]  # (c,), bit s: among the best of source s

    def __len__(self) -> int:
        return len(self.items)


@dataclass
class Learned:
    """What a model with a table in the item state says of the user's newest items."""

    model: Model
    reason: str

    @property
    def name(self) -> str:
        return self.model.name

    def candidates(self, context: Context) -> tuple[Slots, Scores]:
        """All that the model scores."""
        return self.model.recommend(context.items.tables[self.name], context.query)

    def carriers(self, context: Context, items: Slots) -> Slots:
        """The past item that gave most of each score."""
        return self.model.carriers(context.items.tables[self.name], context.query, items)


@dataclass
class LearnedPast:
    """What a pair model says of another stretch of the past: a longer one, whose order counts
    little, or the newest item alone.
    """

    model: PairModel
    name: str
    reason: str
    conditional: bool
    room: int = 64
    position_decay: float = 0.97
    share: float = 1.0

    def candidates(self, context: Context) -> tuple[Slots, Scores]:
        """As the model itself, over more of the user's newest items."""
        table = context.items.tables[self.model.name]
        return self.model.recommend(table, self._query(context), self.conditional)

    def carriers(self, context: Context, items: Slots) -> Slots:
        """The past item that gave most of each score."""
        table = context.items.tables[self.model.name]
        return self.model.carriers(table, self._query(context), items, self.conditional)

    def _query(self, context: Context) -> Query:
        query = context.query
        return query_of(
            context.history, context.now_s, query.clock, query.usable, query.limit,
            position_decay=self.position_decay, similar_to=context.similar_to, room=self.room,
        )  # fmt: skip


@dataclass
class Popular:
    """What most users want, at one of the popularity's half-lives."""

    model: Popularity
    half_life: int
    name: str = "popularity"
    reason: str = "popular with everyone"
    share: float = 0.5

    def candidates(self, context: Context) -> tuple[Slots, Scores]:
        """The top of all items, at most a few hundred events old."""
        table = context.items.tables[self.model.name]
        return self.model.recommend(table, context.query, self.half_life)


@dataclass
class Own:
    """What the user had before: often and lately."""

    name: str = "own"
    reason: str = "you had {item} before"
    decay: float = 0.7  # weight of a step is this to the power of how many came after it
    share: float = 3.0

    def candidates(self, context: Context) -> tuple[Slots, Scores]:
        """The user's own items with positive weight."""
        past = context.history
        if not context.query.usable[past.items].any():
            return empty_answer()  # nothing there, or lists do not repeat
        moments = np.unique(past.last_s)
        steps_ago = len(moments) - 1 - np.searchsorted(moments, past.last_s)
        scores = np.sqrt(past.counts) * self.decay**steps_ago + 1e-12
        liked = past.weights > 0
        return past.items[liked], scores[liked].astype(np.float32)

    def carriers(self, context: Context, items: Slots) -> Slots:
        """The item itself."""
        return items


@dataclass
class LooksAlike:
    """What looks like the user's photos; a photo loses half its voice with each half-life."""

    vectors: ProductVectors
    name: str = "image"
    reason: str = "looks like your photo{photo}"

    def candidates(self, context: Context) -> tuple[Slots, Scores]:
        """The nearest products with positive cosine, of the photo's category where it has one."""
        photo = context.photo
        if photo is None or not len(self.vectors):
            return empty_answer()
        allow = context.allowed
        code = context.catalogue.categories.codes.get(photo.category, NONE)
        if code != NONE:
            same = context.catalogue.category[: len(context.items)] == code
            allow = same if allow is None else allow & same
        k = min(max(context.limit, NEAREST_MIN), NEAREST_MAX)
        slots, cosines = self.vectors.nearest(photo.vector, k, allow)
        kept = cosines > 0
        return slots[kept], cosines[kept] * np.float32(photo.weight)


@dataclass
class ReadsAlike:
    """Products whose title, category, brand and tags share words with the user's newest items."""

    name: str = "words"
    reason: str = "described like {item}"
    share: float = 0.5

    def __post_init__(self) -> None:
        self._scratch: Scores = np.zeros(0, np.float32)

    def candidates(self, context: Context) -> tuple[Slots, Scores]:
        """The newest products of the heaviest words; rare words weigh more."""
        words, query = context.catalogue.words, context.query
        if not len(query.items) or not len(context.catalogue):
            return empty_answer()
        if len(self._scratch) < len(context.items):
            self._scratch = np.zeros(2 * len(context.items), np.float32)
        return words.alike(query.items, query.weights, self._scratch[: len(query.usable)])

    def carriers(self, context: Context, items: Slots) -> Slots:
        """The newest item with the most words in common."""
        of_item = context.catalogue.words.of_item
        past = context.query.items
        past = past[past < len(of_item)]
        out = np.full(len(items), NONE, np.int32)
        for at, slot in enumerate(items.tolist()):
            if slot < len(of_item) and len(past):
                own = of_item[slot][of_item[slot] != NONE]
                shared = np.isin(of_item[past], own).sum(axis=1)
                if shared.max() > 0:
                    out[at] = past[shared.argmax()]
        return out


@dataclass
class Newest:
    """Products listed last that few have seen."""

    name: str = "newest"
    reason: str = "new in the catalogue"
    share: float = 0.3
    events_max: int = 5

    def candidates(self, context: Context) -> tuple[Slots, Scores]:
        """The newest products with fewer than `events_max` events; the newest scores 1."""
        slots = context.catalogue.newest()
        slots = slots[context.items.tables["popularity"]["events"][slots] < self.events_max]
        slots = slots[: 4 * context.limit]
        return slots, (1.0 / (1.0 + np.arange(len(slots)) / 10.0)).astype(np.float32)


@dataclass
class Category:
    """The popular and the new in the categories of the user's newest items."""

    model: Popularity
    half_life: int = 2
    name: str = "category"
    reason: str = "same category as {item}"
    share: float = 0.5
    categories: int = 4
    per_category: int = 50
    _tops: dict[int, tuple[float, int, Slots, Scores]] = field(default_factory=dict)

    def candidates(self, context: Context) -> tuple[Slots, Scores]:
        """The top of each category, by the category's share of the query's weight."""
        weights = self._weights(context)
        if not weights:
            return empty_answer()
        parts = [(*self._top(context, code), weight) for weight, code in weights]
        slots = np.concatenate([part[0] for part in parts])
        scores = np.concatenate([part[1] * np.float32(part[2]) for part in parts])
        return slots, scores

    def carriers(self, context: Context, items: Slots) -> Slots:
        """The newest item of the same category."""
        category = context.catalogue.category
        past = context.query.items
        out = np.full(len(items), NONE, np.int32)
        for at, slot in enumerate(items.tolist()):
            same = past[category[past] == category[slot]]
            if len(same) and category[slot] != NONE:
                out[at] = same[0]
        return out

    def _weights(self, context: Context) -> list[tuple[float, int]]:
        """The heaviest categories with their shares."""
        weights, codes = np.empty(self.categories), np.empty(self.categories, np.int32)
        query = context.query
        count = _heaviest(context.catalogue.category, query.items, query.weights, weights, codes)
        return list(zip(weights[:count].tolist(), codes[:count].tolist(), strict=True))

    def _top(self, context: Context, code: int) -> tuple[Slots, Scores]:
        clock, changes = context.query.clock, context.catalogue.changes
        known = self._tops.get(code)
        lifetime = 4 * self.model.config.refresh_events
        if known and known[1] == changes and 0 <= clock - known[0] < lifetime:
            return known[2], known[3]
        slots = context.catalogue.members(code)
        table = context.items.tables[self.model.name]
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


REASONS = {
    "knn-long": "goes with {item}",
    "knn-short": "lately goes with {item}",
    "knn-newest": "goes with {item}",
    "knn-share": "lately bought along with {item}",
    "knn-history": "goes with much of what you had, most of all with {item}",
    "sequence": "often follows {item}",
    "factors": "liked by users who like {item}",
    "profile": "close to your profile, most of all to {item}",
}


class UnknownSourceError(ValueError):
    """A source was asked for that neither this package nor an installed one has."""


def built_in(items: ItemState, vectors: ProductVectors) -> dict[str, Source]:
    """The sources that come with the recommender, by name."""
    popularity = next(model for model in items.models if isinstance(model, Popularity))
    sources: list[Source] = [
        Learned(model, REASONS.get(model.name, "goes with {item}"))
        for model in items.models
        if model is not popularity
    ]
    pairs = {model.name: model for model in items.models if isinstance(model, PairModel)}
    if "knn-short" in pairs:
        reason = REASONS["knn-share"]
        sources.append(LearnedPast(pairs["knn-short"], "knn-share", reason, conditional=True))
    if "knn-long" in pairs:
        reason = REASONS["knn-history"]
        sources.append(LearnedPast(pairs["knn-long"], "knn-history", reason, conditional=False))
        reason = REASONS["knn-newest"]
        sources.append(LearnedPast(pairs["knn-long"], "knn-newest", reason, False, 1, share=0.5))
    sources += [
        Popular(popularity, 2),
        Popular(popularity, 0, "trending", "in demand right now"),
        Own(),
        Category(popularity),
        ReadsAlike(),
        Newest(),
        LooksAlike(vectors),
    ]
    return {source.name: source for source in sources}


def plugged_in() -> dict[str, Callable[[], Source]]:
    """Sources that installed packages offer, by name; each is made when it is chosen."""
    return {point.name: point.load() for point in entry_points(group=ENTRY_POINTS)}


def choose_sources(
    names: Sequence[str] | None, items: ItemState, vectors: ProductVectors
) -> tuple[Source, ...]:
    """Sources by name, in that order; without names every built-in one.

    Raises:
        UnknownSourceError: a name that nobody offers.
    """
    own = built_in(items, vectors)
    if names is None:
        return tuple(own.values())
    others = plugged_in() if set(names) - set(own) else {}
    missing = [name for name in names if name not in own and name not in others]
    if missing:
        known = ", ".join([*own, *others])
        raise UnknownSourceError(f"no source is called {missing[0]!r}; there are {known}")
    return tuple(own[name] if name in own else others[name]() for name in names)


class Union:
    """Joins what the sources say. Holds scratch room, one instance a pipeline."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._shares = np.array([getattr(source, "share", 1.0) for source in sources])
        self._places = np.zeros(0, np.int32)

    def join(
        self,
        answers: Sequence[tuple[Slots, Scores]],
        usable: NDArray[np.bool_],
        limit: int,
    ) -> Candidates:
        """The best `limit` usable items of each source, or its share of so many.

        `usable` is a mask over all slots.
        """
        if len(self._places) < len(usable):
            self._places = np.zeros(max(len(usable), 2 * len(self._places)), np.int32)
        slots = np.concatenate([slots for slots, _ in answers])
        said = np.concatenate([scores for _, scores in answers])
        offsets = np.array(list(accumulate((len(slots) for slots, _ in answers), initial=0)))
        limits = np.ceil(self._shares * limit).astype(np.int64)
        room = min(len(slots), int(limits.sum()))
        items = np.empty(room, np.int32)
        scores = np.zeros((room, len(answers)), np.float32)
        found = np.zeros(room, np.uint32)
        count = _join(slots, said, offsets, usable, limits, self._places, items, scores, found)
        return Candidates(items[:count], scores[:count], found[:count])


@kernel
def _join(
    slots: Any, said: Any, offsets: Any, usable: Any, limits: Any, places: Any,
    items: Any, scores: Any, found: Any,
) -> int:  # fmt: skip
    count = 0
    room = np.max(limits)
    best_slots, heap = np.empty(room, np.int32), np.empty(room, np.float32)
    for s in range(len(offsets) - 1):
        best = heap[: limits[s]]
        taken, threshold = 0, np.float32(0.0)
        for at in range(offsets[s], offsets[s + 1]):
            if said[at] > threshold and usable[slots[at]] and said[at] < np.inf:
                taken = push(slots[at], said[at], taken, best_slots, best)
                if taken == len(best):
                    threshold = best[0]
        for at in range(taken):
            slot = best_slots[at]
            if places[slot] == 0:
                items[count] = slot
                count += 1
                places[slot] = count
            found[places[slot] - 1] |= np.uint32(1) << np.uint32(s)
    for s in range(len(offsets) - 1):
        for at in range(offsets[s], offsets[s + 1]):
            place = places[slots[at]]
            if place > 0 and said[at] > 0.0 and said[at] < np.inf:
                scores[place - 1, s] = said[at]
    for row in range(count):
        places[items[row]] = 0
    return count


@kernel
def _heaviest(category: Any, items: Any, weights: Any, shares: Any, codes: Any) -> int:
    """The categories with most weight among `items` and their shares of all; returns how many."""
    sums, seen, total, count = np.zeros(len(items)), np.empty(len(items), np.int32), 0.0, 0
    for m in range(len(items)):
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
    order = np.argsort(-sums[:count])[: len(codes)]
    for n in range(len(order)):
        shares[n], codes[n] = sums[order[n]] / total, seen[order[n]]
    return len(order)
