"""Candidates: small named sources, each with its own idea of what a user may want, and their union.

A source is any object with a `name` and `candidates(context) -> (item_slots, scores)`. It may
return as many as it likes: its best ones join the union, and all its scores describe them there.
A package adds one by the entry-point group `recsys.candidates`; settings choose by name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.base import NO_SLOTS, Model, Query, Scores, empty_answer
from models.columns import NONE, Slots
from models.history import CONTEXT_SIZE, RECENT_SIZE, newest_liked
from models.item_knn import FOLLOWS, LONG, SHORT, ItemKnn
from models.kernels import kernel
from models.popularity import Popularity
from recsys.board import Board
from recsys.catalogue import Catalogue
from recsys.item_state import ItemState
from recsys.photos import Photo
from recsys.user_state import History
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
    longer: Query  # as far back as any source looks, without a decay by position
    now_s: float
    limit: int  # how many of a source's candidates can join the union
    allowed: NDArray[np.bool_] | None = None  # a request's filter, over all item slots
    photo: Photo | None = None  # what the user's photos say, where there are any
    similar_to: Slots = field(default_factory=lambda: NO_SLOTS)  # what a request's list is like


def queries_of(
    past: History, now_s: float, clock: float, usable: NDArray[np.bool_], limit: int, *,
    position_decay: float = 0.9, similar_to: Slots = NO_SLOTS,
    taste: NDArray[np.float32] | None = None,
) -> tuple[Query, Query]:  # fmt: skip
    """Who speaks for a user: their newest liked items, behind those a list is to be similar to.

    The first has 16 of them, each `position_decay` as loud as the one before it; the second all
    that are kept, as loud as their weights.
    """
    items = np.empty(RECENT_SIZE + len(similar_to), np.int32)
    weights, ages_s = np.empty(len(items), np.float32), np.empty(len(items), np.float32)
    count = newest_liked(
        past.items, past.last_s, past.weights, past.recent, similar_to, now_s, 1.0,
        RECENT_SIZE, items, weights, ages_s,
    )  # fmt: skip
    items, weights, ages_s = items[:count], weights[:count], ages_s[:count]
    near = min(count, max(CONTEXT_SIZE, len(similar_to)))
    fading = weights[:near] * powers_of(position_decay, near)
    return (
        Query(items[:near], fading, ages_s[:near], clock, usable, limit, taste),
        Query(items, weights, ages_s, clock, usable, limit, taste),
    )


@lru_cache
def powers_of(decay: float, count: int) -> NDArray[np.float32]:
    """1, decay, decay^2 and so on, for reading only.

    >>> powers_of(0.5, 3).tolist()
    [1.0, 0.5, 0.25]
    """
    powers = decay ** np.arange(count, dtype=np.float32)
    powers.flags.writeable = False
    return powers


@runtime_checkable
class Source(Protocol):
    """One source of candidates.

    It may also have `carriers(context, items) -> item slots`, the past item that carried each
    score (-1: none), `reason`, a phrase with `{item}` where that item's title goes, `share`,
    which part of the places of a source it may fill in the union (1 where it has none), and
    `candidates_of_all(contexts)`, where it has an answer for each more cheaply at once.
    """

    @property
    def name(self) -> str: ...

    def candidates(self, context: Context) -> tuple[Slots, Scores]:
        """Item slots with scores above 0, in any order."""


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

    def candidates_of_all(self, contexts: Sequence[Context]) -> Sequence[tuple[Slots, Scores]]:
        """`candidates` for each of them, in one pass over the model's table where it can."""
        together = getattr(self.model, "recommend_all", None)
        if together is None or not contexts:
            return [self.candidates(context) for context in contexts]
        table = contexts[0].items.tables[self.name]
        answers: Sequence[tuple[Slots, Scores]] = together(table, [c.query for c in contexts])
        return answers

    def carriers(self, context: Context, items: Slots) -> Slots:
        """The past item that gave most of each score."""
        return self.model.carriers(context.items.tables[self.name], context.query, items)


@dataclass
class Reading:
    """What neighbour lists say of a stretch of the past, read in one of two ways.

    Args:
        channel: what was counted, see `models.item_knn`.
        conditional: read lists as shares of what followed, not as cosines.
        room: how many of the user's newest items speak.
        position_decay: weight of the n-th of them is this to the power n.
    """

    model: ItemKnn
    name: str
    reason: str
    channel: int = LONG
    conditional: bool = False
    room: int = CONTEXT_SIZE
    position_decay: float = 0.8
    share: float = 1.0

    def candidates(self, context: Context) -> tuple[Slots, Scores]:
        """All neighbours of the user's newest items."""
        table = context.items.tables[self.model.name]
        return self.model.recommend(table, self._query(context), self.channel, self.conditional)

    def carriers(self, context: Context, items: Slots) -> Slots:
        """The past item that gave most of each score."""
        table = context.items.tables[self.model.name]
        return self.model.carriers(
            table, self._query(context), items, self.channel, self.conditional
        )

    def fading(self, count: int) -> NDArray[np.float32]:
        """How loud each of so many past items may speak here, the newest first."""
        position = np.arange(count, dtype=np.float32)
        return np.where(position < self.room, self.position_decay**position, np.float32(0.0))

    def _query(self, context: Context) -> Query:
        query = context.longer
        count = min(self.room, len(query.items))
        weights = query.weights[:count] * self.fading(count)
        return Query(
            query.items[:count], weights, query.ages_s[:count], query.clock, query.usable,
            query.limit,
        )  # fmt: skip


class Speaker(Protocol):
    """One source or some neighbouring ones at once, on the board."""

    @property
    def columns(self) -> range: ...

    def look_ahead(self, contexts: Sequence[Context]) -> None:
        """These are asked for next, in this order."""

    def speak(self, context: Context, board: Board) -> None:
        """Write what is to be said of this list's items."""

    def carry(self, context: Context, items: Slots, lead: NDArray[np.int8], out: Slots) -> None:
        """Write the past item behind each item whose leading column is one of these."""


@dataclass(eq=False)
class Alone:
    """A source that gives a list of its own."""

    source: Source
    column: int
    _ahead: list[tuple[Context, tuple[Slots, Scores]]] = field(default_factory=list)

    @property
    def columns(self) -> range:
        return range(self.column, self.column + 1)

    def look_ahead(self, contexts: Sequence[Context]) -> None:
        """Ask it for all of them, if it would rather have it so."""
        ask = getattr(self.source, "candidates_of_all", None)
        if ask is not None:
            self._ahead = list(zip(contexts, ask(contexts), strict=True))

    def speak(self, context: Context, board: Board) -> None:
        """Ask it, unless it has answered already."""
        if self._ahead and self._ahead[0][0] is context:
            slots, scores = self._ahead.pop(0)[1]
        else:
            slots, scores = self.source.candidates(context)
        board.put(self.column, slots, scores)

    def carry(self, context: Context, items: Slots, lead: NDArray[np.int8], out: Slots) -> None:
        """Ask it, if it tells."""
        carriers = getattr(self.source, "carriers", None)
        if carriers is not None:
            mine = lead == self.column
            out[mine] = carriers(context, items[mine])


class Together:
    """Readings of the same lists, in one pass over them."""

    def __init__(self, readings: Sequence[Reading], column: int) -> None:
        self.readings, self.column = tuple(readings), column
        self.model = readings[0].model
        self._channels = np.array([reading.channel for reading in readings])
        self._conditional = np.array([reading.conditional for reading in readings])
        self._room = max(reading.room for reading in readings)
        self._fading = np.empty((len(readings), 0), np.float32)

    @property
    def columns(self) -> range:
        return range(self.column, self.column + len(self.readings))

    def look_ahead(self, contexts: Sequence[Context]) -> None:
        """Lists of other items each: there is nothing to share."""

    def speak(self, context: Context, board: Board) -> None:
        """Read the lists once."""
        query = context.longer
        if not len(query.items):
            return
        items, weights = self._voices(query)
        board.reserve(len(items) * self.model.config.neighbours)
        board.count = self.model.read(
            context.items.tables[self.model.name], items, weights,
            self._channels, self._conditional, query.clock,
            board.places, board.slots, board.count, board.said[self.column : self.columns.stop],
        )  # fmt: skip
        board.offer(self.columns)

    def carry(self, context: Context, items: Slots, lead: NDArray[np.int8], out: Slots) -> None:
        """Look for all of them in one pass."""
        past, weights = self._voices(context.longer)
        readings = lead.astype(np.int32) - np.int32(self.column)
        readings[readings >= len(self.readings)] = NONE
        self.model.carry(
            context.items.tables[self.model.name], past, weights,
            self._channels, self._conditional, context.longer.clock, items, readings, out,
        )  # fmt: skip

    def _voices(self, query: Query) -> tuple[Slots, NDArray[np.float32]]:
        """Past items, and how loud each may speak in each reading."""
        items = query.items[: self._room]
        if self._fading.shape[1] < len(items):
            size = max(len(items), RECENT_SIZE)
            self._fading = np.array([each.fading(size) for each in self.readings], np.float32)
        return items, self._fading[:, : len(items)] * query.weights[: len(items)]


def speakers_of(sources: Sequence[Source]) -> list[Speaker]:
    """Sources on the board, a column each in their order; neighbouring readings in one pass."""
    speakers: list[Speaker] = []
    for column, source in enumerate(sources):
        last = speakers[-1] if speakers else None
        if not isinstance(source, Reading):
            speakers.append(Alone(source, column))
        elif isinstance(last, Together) and last.model is source.model:
            speakers[-1] = Together([*last.readings, source], last.column)
        else:
            speakers.append(Together([source], column))
    return speakers


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
        slots, scores = np.empty(len(past.items), np.int32), np.empty(len(past.items), np.float32)
        count = _own(
            past.items, past.last_s, past.counts, past.weights, context.query.usable, self.decay,
            slots, scores,
        )  # fmt: skip
        return slots[:count], scores[:count]

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
        out = np.empty(len(items), np.int32)
        _most_shared(context.catalogue.words.of_item, context.query.items, items, out)
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
        listed = context.catalogue.newest()
        slots = np.empty(min(4 * context.limit, len(listed)), np.int32)
        scores = np.empty(len(slots), np.float32)
        rows = context.items.tables[Popularity.name].rows
        count = _rarely_seen(listed, rows, self.events_max, slots, scores)
        return slots[:count], scores[:count]


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
        out = np.empty(len(items), np.int32)
        _same_code(context.catalogue.category, context.query.items, items, out)
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
    "factors": "liked by users who like {item}",
    "profile": "close to your profile, most of all to {item}",
}


class UnknownSourceError(ValueError):
    """A source was asked for that neither this package nor an installed one has."""


def readings_of(knn: ItemKnn) -> list[Source]:
    """The ways in which neighbour lists are read; those that go furthest back stand last."""
    much = "goes with much of what you had, most of all with {item}"
    along = "lately bought along with {item}"
    return [
        Reading(knn, "knn-newest", "goes with {item}", room=1, share=0.5),
        Reading(knn, "sequence", "often follows {item}", FOLLOWS, True, 3, 0.5),
        Reading(knn, "knn-long", "goes with {item}"),
        Reading(knn, "knn-short", "lately goes with {item}", SHORT),
        Reading(knn, "knn-share", along, SHORT, True, RECENT_SIZE, 0.97),
        Reading(knn, "knn-history", much, LONG, False, RECENT_SIZE, 0.97),
    ]


def built_in(items: ItemState, vectors: ProductVectors) -> dict[str, Source]:
    """The sources that come with the recommender, by name."""
    popularity = next(model for model in items.models if isinstance(model, Popularity))
    sources: list[Source] = []
    for model in items.models:
        if isinstance(model, ItemKnn):
            sources += readings_of(model)
        elif model is not popularity:
            sources.append(Learned(model, REASONS.get(model.name, "goes with {item}")))
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
def _same_code(codes: Any, past: Any, items: Any, out: Any) -> None:
    """For each item the newest past one of its code, -1 where there is none."""
    for at in range(len(items)):
        out[at] = NONE
        for m in range(len(past)):
            if codes[items[at]] != NONE and codes[past[m]] == codes[items[at]]:
                out[at] = past[m]
                break


@kernel
def _most_shared(of_item: Any, past: Any, items: Any, out: Any) -> None:
    """For each item the newest past one with the most words in common, -1 where none has any."""
    for at in range(len(items)):
        out[at], most = NONE, 0
        for m in range(len(past)):
            shared = 0
            if items[at] < len(of_item) and past[m] < len(of_item):
                for word in of_item[items[at]]:
                    for other in of_item[past[m]]:
                        shared += word != NONE and word == other
            if shared > most:
                out[at], most = past[m], shared
