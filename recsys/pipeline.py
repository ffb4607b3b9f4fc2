"""The page to read first: what happens to an event, and how a list is made.

    learn(events)      user half: update the users' state; say what items must learn
    fold(updates)      item half: popularity, neighbours, transitions, the ranker
    recommend(user)    candidates -> rank -> rerank

Serving learns and then recommends; evaluation recommends and then learns. Same halves.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from models.audience import Audience
from models.base import NO_SLOTS, Model
from models.columns import NONE, Slots
from models.item_knn import ItemKnn
from models.mapping import ImageMapping, association
from models.mf import MatrixFactorisation
from models.popularity import Popularity
from models.profile import Profile, unit
from recsys.board import Board, Unions
from recsys.candidates import built_in, choose_sources
from recsys.catalogue import Catalogue
from recsys.contexts import Context, Contexts, queries_of
from recsys.event_batch import TYPE_CODES, EventBatch
from recsys.features import Features, default_groups
from recsys.item_state import ItemState
from recsys.item_updates import ItemUpdates
from recsys.learn import ChunkLearner, stretches
from recsys.photos import Photo
from recsys.placed import Policy, exploration, include
from recsys.rank import Look, Rank, RankConfig, Scored, hear_photo
from recsys.ranked import Ranked, Sayings
from recsys.rerank import IMPRESSION_HALF_LIFE_S, RerankConfig, choose, fill, usable_items
from recsys.rules import Rules
from recsys.speakers import Source, speakers_of
from recsys.user_state import UserState
from recsys.variants import Variant, Variants
from recsys.vectors import ProductVectors
from streams.events import EVENT_TYPES, RankedItem, RecommendationRequest

EVENT_WEIGHTS = {
    "view": 0.25, "click": 0.4, "cart": 0.7, "purchase": 1.0, "return": -1.0, "like": 0.8,
    "dislike": -1.0, "rating": 1.0, "impression": 0.0,
}  # fmt: skip
RATING_BEST = 5.0
NEWEST_LISTS = 512  # lists remembered for the step that follows them, some 25 KB each
LISTS_AT_ONCE = 32
SHARED_LISTS_MIN = 6  # fewer are scored sooner than another thread wakes up

Moment = tuple[int, int, int, int]  # a user as they were once: see `_moment`


@dataclass(frozen=True)
class PipelineConfig:
    """How lists are made.

    Args:
        event_weights: what an event of each type counts; 0 is counted and not learned from.
        sources: names of candidate sources, built in or plugged in; None: every built-in one.
        candidates_per_source: how many of each source's best join the union.
        position_decay: weight of the user's n-th newest item is this to the power n.
        variants: other ways to make a list of what was ranked, each for a share of the users.
        threads: on how many lists that are made together are scored; two at the most. Sources of
            other packages are asked by one at a time.
    """

    event_weights: dict[str, float] = field(default_factory=lambda: dict(EVENT_WEIGHTS))
    sources: tuple[str, ...] | None = None
    candidates_per_source: int = 30
    position_decay: float = 0.8
    rank: RankConfig = field(default_factory=RankConfig)
    rerank: RerankConfig = field(default_factory=RerankConfig)
    variants: tuple[Variant, ...] = ()
    threads: int = 1


def default_models() -> tuple[Model, ...]:
    """The models an `ItemState` keeps tables for."""
    return Popularity(), ItemKnn(), MatrixFactorisation(), Profile(), Audience()


@dataclass(slots=True)
class Asked:
    """A list that is wanted: for whom, as of when, and its candidates."""

    context: Context
    variant: Variant
    user_slot: int
    key: str  # settles what is tried out
    k: int
    moment: Moment | None  # whom the ranker may learn from later; None for answers to a question
    look: Look


def no_photo(_event: int) -> Photo | None:
    """Nobody has photos."""
    return None


class Pipeline:
    """Learns and recommends over the state it is given; keeps none of its own but caches."""

    def __init__(
        self,
        config: PipelineConfig,
        items: ItemState,
        catalogue: Catalogue,
        vectors: ProductVectors | None = None,
    ) -> None:
        self.config = config
        self.items = items
        self.catalogue = catalogue
        self.vectors = ProductVectors(items, "") if vectors is None else vectors
        self.mapping: ImageMapping | None = None
        self.variants = Variants(config.rerank, config.variants)
        self.rules = Rules()
        self.lists_s = 0.0  # spent on lists so far, for those who budget it
        self.popularity = next(m for m in items.models if isinstance(m, Popularity))
        self.audience = next(m for m in items.models if isinstance(m, Audience))
        self.sources: tuple[Source, ...] = choose_sources(config.sources, items, self.vectors)
        names = [source.name for source in self.sources]
        self._image = names.index("image") if "image" in names else None
        self.rank = Rank(config.rank, Features(default_groups(names, self.popularity)))
        items.attach_ranker(self.rank.ranker)
        self._speakers = speakers_of(self.sources)
        self._sayings = Sayings(self.sources)
        self._board = Board([getattr(source, "share", 1.0) for source in self.sources])
        own = set(built_in(items, self.vectors))
        alone = config.threads < 2 or not own.issuperset(names)
        self._helper = None if alone else ThreadPoolExecutor(1, "lists")
        self._newest_lists: dict[Moment, Scored] = {}
        self._asked: list[Asked] = []  # of the chunk under way, not answered yet
        self._looks: list[Look] = []  # before its steps, not scored yet
        self._weights = np.array([config.event_weights[name] for name in EVENT_TYPES], np.float32)

    def close(self) -> None:
        """End the other thread, if there is one."""
        if self._helper is not None:
            self._helper.shutdown()

    @property
    def model_version(self) -> str:
        """Names the refit that lists are made with."""
        return self.items.factors_version or "online"

    # -- learn -----------------------------------------------------------------------------------

    def learn(self, users: UserState, batch: EventBatch) -> ItemUpdates:
        """User half: apply events in their order. Their items' half is returned, not done."""
        self._looks.clear()
        chunk = ChunkLearner(self, users, batch, self.weights_of(batch))
        chunk.apply(len(batch))
        return chunk.updates()

    def learn_and_recommend(
        self,
        users: UserState,
        batch: EventBatch,
        want: NDArray[np.bool_],
        k: int = 10,
        photo_of: Callable[[int], Photo | None] = no_photo,
    ) -> tuple[ItemUpdates, list[Ranked | None]]:
        """Learn a chunk, and make a list right after each event that `want` marks.

        Lists come in the order of events; None where none was wanted. `photo_of` gives what the
        photos of an event's user say.
        """
        chunk = ChunkLearner(self, users, batch, self.weights_of(batch))
        lists: list[Ranked | None] = [None] * len(batch)
        waiting: list[int] = []
        self._asked.clear()
        self._looks.clear()
        # What was shown to a user may change with their very next event.
        at_once = len(users.shown) > 0 or chunk.any_shown
        for stop, wanted in stretches(batch.users.tolist(), want.tolist(), LISTS_AT_ONCE):
            chunk.apply(stop, batch.users[wanted])
            for event in wanted:
                user, time_ms = int(batch.users[event]), int(batch.times_ms[event])
                self._asked.append(self.ask(users, user, time_ms, k, photo=photo_of(event)))
                waiting.append(event)
                if len(waiting) == LISTS_AT_ONCE:
                    self._answer_asked(users, waiting, lists)
            if at_once:
                self._answer_asked(users, waiting, lists)
        self._answer_asked(users, waiting, lists)
        return chunk.updates(), lists

    def _answer_asked(
        self, users: UserState, events: list[int], lists: list[Ranked | None]
    ) -> None:
        begun = time.perf_counter()
        asked, self._asked = self._asked, []
        for event, ranked in zip(events, self.answer(users, asked), strict=True):
            lists[event] = ranked
        events.clear()
        self.lists_s += time.perf_counter() - begun

    def fold(self, updates: ItemUpdates) -> None:
        """Item half: every model learns the events in their order, the ranker the examples."""
        if len(updates.gone):
            self.audience.forget(self.items.tables[self.audience.name], updates.gone)
        if len(updates):
            events = updates.at(self.items.clock.advance(updates.times_s))
            for model in self.items.models:
                model.learn(self.items.tables[model.name], events)
        for example in updates.examples:
            self.rank.ranker.learn(example.features, example.chosen)

    def weights_of(self, batch: EventBatch) -> NDArray[np.float32]:
        """What each event counts: its type's weight; of a rating half, and by its share the rest.

        Whoever rates an item chose it first, so a bad rating still tells what goes together.
        """
        weights = self._weights[batch.types]
        rated = (batch.types == TYPE_CODES["rating"]) & ~np.isnan(batch.values)
        if rated.any():
            share = np.clip(batch.values[rated] / RATING_BEST, 0.1, 1.0)
            weights[rated] *= np.float32(0.5) + np.float32(0.5) * share
        return weights

    # -- recommend -------------------------------------------------------------------------------

    def recommend(
        self,
        users: UserState,
        user_slot: int,
        now_ms: int,
        k: int = 10,
        request: RecommendationRequest | None = None,
        photo: Photo | None = None,
    ) -> Ranked:
        """A ranked list for a user (`user_slot` -1: someone unknown), as of a time.

        The same user at the same time is shown the same list, what is tried out included.
        """
        return self.answer(users, [self.ask(users, user_slot, now_ms, k, request, photo)])[0]

    def ask(
        self,
        users: UserState,
        user_slot: int,
        now_ms: int,
        k: int = 10,
        request: RecommendationRequest | None = None,
        photo: Photo | None = None,
    ) -> Asked:
        """Note what a list is to be made of: the user as they are now."""
        plain = request is None and photo is None
        name = users.ids.name(user_slot) if user_slot != NONE else ""
        context = self.context_for(users, user_slot, now_ms, k, request, photo)
        return Asked(
            context,
            self.variant_of(users, user_slot),
            user_slot,
            f"{name}/{now_ms}",
            k,
            _moment(users, user_slot) if plain else None,
            Look(context),
        )

    def answer(self, users: UserState, asked: Sequence[Asked]) -> list[Ranked]:
        """The lists that were asked for.

        Each stage makes all of them before the next begins: its code and tables are at hand then.
        """
        return [
            policy.shown(each.key)
            for each, policy in zip(asked, self._policies(users, asked), strict=True)
        ]

    def policy(self, users: UserState, user_slot: int, now_ms: int, k: int = 10) -> Policy:
        """The list for a user, and the draw that may put a new item into it."""
        return self._policies(users, [self.ask(users, user_slot, now_ms, k)])[0]

    def _policies(self, users: UserState, asked: Sequence[Asked]) -> list[Policy]:
        if not asked:
            return []
        contexts = Contexts.of([each.context for each in asked])
        new = [each.look for each in asked if each.look.scored is None]
        if len(new) == len(asked):
            self._score(new, contexts)
        elif new:
            self._score(new)
        heard, chosen = [], []
        for each in asked:
            scored = self._heard(users, each)
            heard.append(scored)
            chosen.append(self._chosen(each, scored))
        lists = Ranked.of_all(self._speakers, contexts, heard, chosen, self.model_version)
        return [self._finished(each, ranked) for each, ranked in zip(asked, lists, strict=True)]

    def _chosen(self, asked: Asked, scored: Scored) -> NDArray[np.intp]:
        """The candidates that make the list, one of those whose pictures show the same."""
        context, k, rerank = asked.context, asked.k, asked.variant.rerank
        items, scores, twins = scored.candidates.items, scored.scores, self.vectors.twins
        if not len(twins):
            return choose(rerank, context, items, scores, k)
        single = twins.single(items, scores)
        return single[choose(rerank, context, items[single], scores[single], k)]

    def _heard(self, users: UserState, asked: Asked) -> Scored:
        """The scores of a list, with what rules and unanswered impressions say of them."""
        scored, rerank = asked.look.scored, asked.variant.rerank
        assert scored is not None
        if asked.moment is not None:
            self._remember(asked.moment, scored)
        rules = self.rules.over(self.catalogue)
        if rules is not None:
            boosted = scored.scores + rules.boost[scored.candidates.items]
            scored = Scored(scored.candidates, scored.features, boosted)
        if rerank.impression_discount and len(users.shown):
            seen = users.shown.unanswered(
                asked.user_slot, scored.candidates.items, asked.context.now_s,
                IMPRESSION_HALF_LIFE_S,
            )  # fmt: skip
            less = scored.scores - np.float32(rerank.impression_discount) * seen
            scored = Scored(scored.candidates, scored.features, less)
        return scored

    def _finished(self, asked: Asked, ranked: Ranked) -> Policy:
        """A list filled up, with what rules put into it, and what is tried out in it."""
        context, k, twins = asked.context, asked.k, self.vectors.twins
        if asked.variant.name != ranked.variant:
            ranked = replace(ranked, variant=asked.variant.name)
        if len(ranked) < k:
            listed = np.concatenate([ranked.items, twins.of(ranked.items)])
            more = fill(self.popularity, context, listed, k - len(ranked))
            more = more[twins.single(more, np.zeros(len(more), np.float32))]
            ranked = ranked.filled_up(more)
        rules = self.rules.over(self.catalogue)
        if rules is not None:
            ranked = include(rules, self.popularity, context, ranked)
        return Policy(ranked, exploration(asked.variant.rerank, context, ranked))

    def variant_of(self, users: UserState, user_slot: int) -> Variant:
        """A known user's variant; strangers get the default."""
        if user_slot == NONE:
            return self.variants.default
        return self.variants.of(users.ids.name(user_slot))

    def before_step(self, users: UserState, user_slot: int, now_ms: int) -> Look:
        """A user's candidates before a step, for the ranker to learn from: scored by `settle`.

        The newest list that was made since the user's last event, else a new one.
        """
        moment = _moment(users, user_slot)
        known = self._newest_lists.get(moment)
        if known is not None:
            return Look(None, known)
        asked = next((each.look for each in self._asked if each.moment == moment), None)
        look = asked or Look(self.context_for(users, user_slot, now_ms, 1))
        self._looks.append(look)
        if len(self._looks) == LISTS_AT_ONCE:  # what they are made of takes room
            self.settle()
        return look

    def settle(self) -> None:
        """Score what was looked at, many at once."""
        looks, self._looks = self._looks, []
        self._score([look for look in looks if look.scored is None])

    def _score(self, looks: Sequence[Look], contexts: Contexts | None = None) -> None:
        made = [look.context for look in looks if look.context is not None]
        if made:
            scored = self.score(contexts or Contexts.of(made))
            for look, each in zip(looks, scored, strict=True):
                look.scored, look.context = each, None

    def unions(self, contexts: Contexts) -> Unions:
        """For each list the union of what all sources find."""
        self._board.open(contexts.usable, contexts.queries.limits)
        for speaker in self._speakers:
            speaker.speak(contexts, self._board)
        unions = self._board.unions()
        for speaker in self._speakers:
            speaker.describe(contexts, unions)
        return unions

    def score(self, contexts: Contexts) -> list[Scored]:
        """For each list its candidates with their scores; many are shared with another thread."""
        count = len(contexts)
        if self._helper is None or count < SHARED_LISTS_MIN:
            return self._score_part(contexts)
        half = count // 2
        others = self._helper.submit(self._score_part, contexts.part(half, count))
        return self._score_part(contexts.part(0, half)) + others.result()

    def _score_part(self, contexts: Contexts) -> list[Scored]:
        lists = self.rank.score(contexts, self.unions(contexts))
        for number, context in enumerate(contexts.each):
            if context.photo is not None and self._image is not None:
                lists[number] = hear_photo(lists[number], self._image, context.photo.weight)
        return lists

    def _remember(self, moment: Moment, scored: Scored) -> None:
        while len(self._newest_lists) >= NEWEST_LISTS:
            del self._newest_lists[next(iter(self._newest_lists))]
        self._newest_lists[moment] = scored

    def context_for(
        self, users: UserState, user_slot: int, now_ms: int, k: int,
        request: RecommendationRequest | None = None, photo: Photo | None = None,
    ) -> Context:  # fmt: skip
        """What the sources may look at for one list."""
        past = users.history(user_slot)
        similar_to, allowed = self._asked_for(request)
        rerank = self.variant_of(users, user_slot).rerank
        usable = usable_items(rerank, self.catalogue, past, allowed, similar_to)
        rules = self.rules.over(self.catalogue)
        if rules is not None:
            usable &= ~rules.excluded
        limit = max(self.config.candidates_per_source, k)
        clock = self.items.clock.now
        query, longer = queries_of(
            past, now_ms / 1000.0, clock, usable, limit,
            position_decay=self.config.position_decay, similar_to=similar_to,
            taste=self.taste_of(photo),
        )  # fmt: skip
        return Context(
            self.items, self.catalogue, past, query, longer, now_ms / 1000.0, limit, allowed,
            photo, similar_to, int(users.heads["token"][user_slot]) if user_slot != NONE else 0,
        )  # fmt: skip

    def taste_of(self, photo: Photo | None) -> NDArray[np.float32] | None:
        """What photos say in the profile space, shape (f,), as loud as they still are."""
        mapping = self.mapping
        if photo is None or mapping is None or len(photo.vector) != len(mapping.image_mean):
            return None
        return unit(mapping(photo.vector[None])[0]) * np.float32(photo.weight)

    def association(self, users: UserState, user_slot: int, photo: Photo) -> float:
        """The cosine of a photo's taste and the user's profile where it is close, else 0."""
        taste = self.taste_of(photo)
        model = next((m for m in self.items.models if isinstance(m, Profile)), None)
        if taste is None or model is None or user_slot == NONE:
            return 0.0
        context = self.context_for(users, user_slot, photo.time_ms, 1)
        profile = model.user_vector(self.items.tables[model.name], context.query)
        return association(taste, profile) or 0.0

    def _asked_for(
        self, request: RecommendationRequest | None
    ) -> tuple[Slots, NDArray[np.bool_] | None]:
        """The items that a request's list is to be like, and the mask of its filter."""
        if request is None:
            return NO_SLOTS, None
        slots = (self.items.find(item_id) for item_id in dict.fromkeys(request.context_items))
        known = np.array([slot for slot in slots if slot != NONE], np.int32)
        return known, None if request.filter is None else self.catalogue.select(request.filter)

    def explain(self, ranked: Ranked) -> list[RankedItem]:
        """The list as it goes out, each item with its sources and the reason for it."""
        return ranked.explain(self._sayings, self.catalogue)


def _moment(users: UserState, user_slot: int) -> Moment:
    """A user as they are now."""
    if user_slot == NONE:
        return id(users), NONE, 0, 0
    heads = users.heads
    return id(users), user_slot, int(heads["events"][user_slot]), int(heads["last_s"][user_slot])
