"""The page to read first: what happens to an event, and how a list is made.

    learn(events)      user half: update the users' state; say what items must learn
    fold(updates)      item half: popularity, neighbours, transitions, the ranker
    recommend(user)    candidates -> rank -> rerank

Serving learns and then recommends; evaluation recommends and then learns. Same halves.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.audience import Audience
from models.base import NO_SLOTS, Model, Scores, joined, starts_of
from models.columns import NONE, Slots
from models.ease import Ease
from models.item_knn import ItemKnn
from models.mapping import ImageMapping, association
from models.mf import MatrixFactorisation
from models.popularity import Popularity
from models.profile import Profile, unit
from recsys.asked import LISTS_AT_ONCE, Asked, Moment, moments
from recsys.board import Unions
from recsys.candidates import built_in, choose_sources
from recsys.catalogue import Catalogue
from recsys.chunk_lists import ChunkLists, passes
from recsys.contexts import Context, Contexts
from recsys.event_batch import TYPE_CODES, EventBatch
from recsys.features import Features, default_groups
from recsys.gather import gather
from recsys.item_state import ItemState
from recsys.item_updates import ItemUpdates
from recsys.learn import ChunkLearner, stretches
from recsys.looks import Looks
from recsys.photos import Photo
from recsys.placed import Policy, exploration, include
from recsys.rank import Rank, RankConfig
from recsys.ranked import Ranked, Sayings
from recsys.rerank import (
    RerankConfig,
    choose,
    choose_best,
    fill,
    lift_rare,
    listable_items,
    shown_in_vain,
)
from recsys.rules import Rules
from recsys.scorer import Scorer
from recsys.speakers import Source
from recsys.user_state import UserState
from recsys.variants import Variant, Variants
from recsys.vectors import ProductVectors
from streams.events import EVENT_TYPES, RankedItem, RecommendationRequest

EVENT_WEIGHTS = {
    "view": 0.25, "click": 0.4, "cart": 0.7, "purchase": 1.0, "return": -1.0, "like": 0.8,
    "dislike": -1.0, "rating": 1.0, "impression": 0.0,
}  # fmt: skip
RATING_BEST = 5.0


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
    return Popularity(), ItemKnn(), MatrixFactorisation(), Profile(), Ease(), Audience()


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
        self.popularity = next(m for m in items.models if isinstance(m, Popularity))
        self.audience = next(m for m in items.models if isinstance(m, Audience))
        self.sources: tuple[Source, ...] = choose_sources(config.sources, items, self.vectors)
        names = [source.name for source in self.sources]
        self.rank = Rank(config.rank, Features(default_groups(names, self.popularity)))
        items.attach_ranker(self.rank.ranker)
        self._sayings = Sayings(self.sources)
        own = set(built_in(items, self.vectors))
        shared = config.threads > 1 and own.issuperset(names)
        self.scorer = Scorer(self.sources, self.rank, shared)
        self.looks = Looks(self.rank, self._contexts_before, self.scorer.score)
        self._weights = np.array([config.event_weights[name] for name in EVENT_TYPES], np.float32)

    def close(self) -> None:
        """End the other thread, if there is one."""
        self.scorer.close()

    @property
    def model_version(self) -> str:
        """Names the refit that lists are made with."""
        return self.items.factors_version or "online"

    # -- learn -----------------------------------------------------------------------------------

    def learn(self, users: UserState, batch: EventBatch) -> ItemUpdates:
        """User half: apply events in their order. Their items' half is returned, not done."""
        chunk = ChunkLearner(self.looks, users, batch, self.weights_of(batch))
        with self.looks.forgotten_on_failure():
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
        chunk = self.learn_and_ask(users, batch, want, k, photo_of)
        self.answer_all([chunk])
        return chunk.updates(), chunk.lists

    def learn_and_ask(
        self,
        users: UserState,
        batch: EventBatch,
        want: NDArray[np.bool_],
        k: int = 10,
        photo_of: Callable[[int], Photo | None] = no_photo,
    ) -> ChunkLists:
        """The same, but the chunk's last lists, those of one pass at most, are yet to be made."""
        learner = ChunkLearner(self.looks, users, batch, self.weights_of(batch))
        chunk = ChunkLists(users, learner, len(batch))
        # What was shown to a user may change with their very next event.
        at_once = len(users.shown) > 0 or learner.any_shown
        with self.looks.forgotten_on_failure():
            for stop, wanted in stretches(batch.users.tolist(), want.tolist(), LISTS_AT_ONCE):
                learner.apply(stop, batch.users[wanted])
                while wanted:
                    some = wanted[: chunk.room]
                    del wanted[: len(some)]
                    slots, times_ms = batch.users[some].tolist(), batch.times_ms[some].tolist()
                    asked = self.ask(users, slots, times_ms, k, [photo_of(event) for event in some])
                    self.looks.expect(asked.moments)
                    chunk.wait(asked, some)
                    if not chunk.room:
                        self.answer_all([chunk])
                if at_once:
                    self.answer_all([chunk])
        return chunk

    def answer_all(self, chunks: Sequence[ChunkLists]) -> None:
        """Make the lists that wait, those of several chunks in one pass where they are few."""
        for together in passes(chunks):
            with self.looks.forgotten_on_failure():
                self._answer_waiting(together)

    def _answer_waiting(self, chunks: Sequence[ChunkLists]) -> None:
        begun, unscored = time.perf_counter(), self.looks.unscored
        asked = Asked.joined([chunk.asked() for chunk in chunks])
        answers = self.answer(chunks[0].users, asked)  # without impressions: those never wait
        all_scored = len(answers) + unscored - self.looks.unscored
        list_s = (time.perf_counter() - begun) / all_scored
        for chunk in chunks:
            count = chunk.waiting
            chunk.take(answers[:count], count * list_s)
            del answers[:count]

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
        return self.answer(users, self.ask(users, [user_slot], [now_ms], k, [photo], request))[0]

    def ask(
        self,
        users: UserState,
        slots: Sequence[int],
        times_ms: Sequence[int],
        k: int = 10,
        photos: Sequence[Photo | None] = (),
        request: RecommendationRequest | None = None,
    ) -> Asked:
        """Note what some lists are to be made of: the users (-1: a stranger) as they are now.

        `photos` has what each user's photos say, or is empty; a `request` is for all of the lists.
        """
        names = [users.ids.name(slot) if slot != NONE else "" for slot in slots]
        variants = [self.variant_of(users, slot) for slot in slots]
        contexts = self._contexts_for(users, slots, times_ms, k, variants, photos, request)
        then: Sequence[Moment | None] = moments(users, slots)
        if request is not None:
            then = [None] * len(slots)
        elif any(photos):
            then = [None if photo else at for at, photo in zip(then, photos, strict=True)]
        return Asked(contexts, slots, names, times_ms, variants, then, k)

    def answer(self, users: UserState, asked: Asked) -> list[Ranked]:
        """The lists that were asked for.

        Each stage makes all of them before the next begins: its code and tables are at hand then.
        """
        return [
            policy.shown(asked.key(number))
            for number, policy in enumerate(self._policies(users, asked))
        ]

    def policy(self, users: UserState, user_slot: int, now_ms: int, k: int = 10) -> Policy:
        """The list for a user, and the draw that may put a new item into it."""
        return self._policies(users, self.ask(users, [user_slot], [now_ms], k))[0]

    def _policies(self, users: UserState, asked: Asked) -> list[Policy]:
        if not len(asked):
            return []
        contexts, scored = self.looks.score(asked.contexts, asked.moments)
        unions = Unions.joined([part.unions for part in scored]).first(len(asked))
        said = joined([part.scores for part in scored])[: len(unions.items)]
        scores = self._heard(users, asked, unions, said)
        lists = Ranked.of_all(
            self.scorer.speakers, contexts, unions, scores,
            *self._chosen(asked, unions, scores), [variant.name for variant in asked.variants],
            self.model_version,
        )  # fmt: skip
        return [self._finished(asked, number, ranked) for number, ranked in enumerate(lists)]

    def _chosen(
        self, asked: Asked, unions: Unions, scores: Scores
    ) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """The rows that make the lists, one of those whose pictures show the same."""
        twins = self.vectors.twins
        if not len(twins) and all(variant.rerank.plain for variant in asked.variants):
            return choose_best(scores, unions.starts, asked.k)
        rows = []
        for number, variant in enumerate(asked.variants):
            part = unions.part(number)
            items, mine = unions.items[part], scores[part]
            single = twins.single(items, mine)
            context = asked.contexts[number]
            best = choose(variant.rerank, context, items[single], mine[single], asked.k)
            rows.append(part.start + single[best])
        return joined(rows), starts_of(rows)

    def _heard(self, users: UserState, asked: Asked, unions: Unions, scores: Scores) -> Scores:
        """The lists' scores, the rare lifted, with what rules and unanswered impressions say."""
        past = np.diff(asked.contexts.starts).tolist()
        pairs = zip(asked.variants, past, strict=True)
        lifts = [variant.rerank.lift(had) for variant, had in pairs]
        scores = self.lifted(lifts, unions.items, unions.starts, scores)
        rules = self.rules.over(self.catalogue)
        if rules is not None:
            scores = scores + rules.boost[unions.items]
        if not len(users.shown):
            return scores
        scores = scores.copy()
        for number, variant in enumerate(asked.variants):
            part, now_s = unions.part(number), float(asked.contexts.now_s[number])
            scores[part] -= shown_in_vain(
                variant.rerank, users, asked.slots[number], unions.items[part], now_s
            )
        return scores

    def lifted(
        self, lifts: Sequence[float], items: Slots, starts: NDArray[np.int64], scores: Scores
    ) -> Scores:
        """Scores of some lists' items, the rare lifted: list i's are [starts[i], starts[i + 1])."""
        if not any(lifts):
            return scores
        events = self.items.tables[self.popularity.name].rows["events"][items]
        return lift_rare(scores, starts, events, np.array(lifts, np.float32))

    def _finished(self, asked: Asked, number: int, ranked: Ranked) -> Policy:
        """A list filled up, with what rules put into it, and what is tried out in it."""
        context, twins = asked.contexts[number], self.vectors.twins
        rerank = asked.variants[number].rerank
        if len(ranked) < asked.k:
            more = fill(rerank, self.popularity, context, twins, ranked.items, asked.k)
            ranked = ranked.filled_up(more)
        rules = self.rules.over(self.catalogue)
        if rules is not None:
            ranked = include(rules, self.popularity, context, twins, ranked)
        return Policy(ranked, exploration(rerank, context, twins, ranked))

    def variant_of(self, users: UserState, user_slot: int) -> Variant:
        """A known user's variant; strangers get the default."""
        if user_slot == NONE:
            return self.variants.default
        return self.variants.of(users.ids.name(user_slot))

    def context_for(
        self, users: UserState, user_slot: int, now_ms: int, k: int,
        request: RecommendationRequest | None = None, photo: Photo | None = None,
    ) -> Context:  # fmt: skip
        """What the sources may look at for one list."""
        variants = [self.variant_of(users, user_slot)]
        return self._contexts_for(users, [user_slot], [now_ms], k, variants, [photo], request)[0]

    def _contexts_before(
        self, users: UserState, slots: Sequence[int], times_ms: Sequence[int]
    ) -> Contexts:
        """What is looked at before steps, the users as they are now."""
        variants = [self.variant_of(users, slot) for slot in slots]
        return self._contexts_for(users, slots, times_ms, 1, variants)

    def _contexts_for(
        self, users: UserState, slots: Sequence[int], times_ms: Sequence[int], k: int,
        variants: Sequence[Variant], photos: Sequence[Photo | None] = (),
        request: RecommendationRequest | None = None,
    ) -> Contexts:  # fmt: skip
        similar_to, allowed = self._asked_for(request)
        rules = self.rules.over(self.catalogue)
        excluded = None if rules is None else rules.excluded
        tastes = [self.taste_of(photo) for photo in photos] if any(photos) else ()
        return gather(
            users, self.catalogue, slots, times_ms, max(self.config.candidates_per_source, k),
            [0 if variant.rerank.repeats else variant.rerank.had_mask for variant in variants],
            listable_items(self.catalogue, allowed, excluded, similar_to),
            position_decay=self.config.position_decay, photos=photos, tastes=tastes,
            allowed=allowed, similar_to=similar_to,
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
