"""The page to read first: what happens to an event, and how a list is made.

    learn(events)      user half: update the users' state; say what items must learn
    fold(updates)      item half: popularity, neighbours, transitions, the ranker
    recommend(user)    candidates -> rank -> rerank

Serving learns and then recommends; evaluation recommends and then learns. Same halves.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models import history
from models.base import Model, Query
from models.columns import NONE, Slots
from models.history import CONTEXT_SIZE, WEIGHT_UNIT
from models.item_knn import item_knn_long, item_knn_short
from models.mf import MatrixFactorisation
from models.popularity import Popularity
from models.profile import Profile
from models.sequence import Sequence
from recsys.candidates import Context, Source, Union, choose_sources
from recsys.catalogue import Catalogue
from recsys.event_batch import TYPE_CODES, EventBatch
from recsys.features import Features, default_groups
from recsys.item_updates import Example, ItemUpdates
from recsys.rank import Rank, RankConfig, Scored
from recsys.rerank import RerankConfig, choose, fill, usable_items
from recsys.state import SWEEP_EVENTS, ItemState, UserState
from streams.events import EVENT_TYPES, RankedItem, RecommendationRequest

EVENT_WEIGHTS = {
    "view": 0.25, "click": 0.4, "cart": 0.7, "purchase": 1.0, "return": -1.0, "like": 0.8,
    "dislike": -1.0, "rating": 1.0, "impression": 0.0,
}  # fmt: skip
RATING_BEST = 5.0
RECENT_LISTS = 64  # lists remembered for the step that follows


@dataclass(frozen=True)
class PipelineConfig:
    """How lists are made.

    Args:
        event_weights: what an event of each type counts; 0 is counted and not learned from.
        sources: names of candidate sources, built in or plugged in; None: every built-in one.
        candidates_per_source: how many of each source's best join the union.
        position_decay: weight of the user's n-th newest item is this to the power n.
    """

    event_weights: dict[str, float] = field(default_factory=lambda: dict(EVENT_WEIGHTS))
    sources: tuple[str, ...] | None = None
    candidates_per_source: int = 30
    position_decay: float = 0.9
    rank: RankConfig = field(default_factory=RankConfig)
    rerank: RerankConfig = field(default_factory=RerankConfig)


@dataclass(frozen=True, slots=True)
class Ranked:
    """A list: k items, best first, each with the sources that found it and what carried it."""

    items: Slots  # (k,)
    scores: NDArray[np.float32]  # (k,)
    found: NDArray[np.uint32]  # (k,), bit s: source s
    lead: NDArray[np.int8]  # (k,), the source that counts most for it, -1: filled up
    carriers: Slots  # (k,), the past item behind it, -1: none
    model_version: str

    def __len__(self) -> int:
        return len(self.items)


def default_models() -> tuple[Model, ...]:
    """The models an `ItemState` keeps tables for."""
    return (
        Popularity(), item_knn_long(), item_knn_short(), Sequence(), MatrixFactorisation(),
        Profile(),
    )  # fmt: skip


class Pipeline:
    """Learns and recommends over the state it is given; keeps none of its own but caches."""

    def __init__(self, config: PipelineConfig, items: ItemState, catalogue: Catalogue) -> None:
        self.config = config
        self.items = items
        self.catalogue = catalogue
        self.popularity = next(m for m in items.models if isinstance(m, Popularity))
        self.sources: tuple[Source, ...] = choose_sources(config.sources, items)
        names = [source.name for source in self.sources]
        self.rank = Rank(config.rank, Features(default_groups(names, self.popularity)))
        items.attach_ranker(self.rank.ranker)
        self._union = Union()
        self._recent: dict[tuple[float, ...], Scored] = {}
        self._weights = np.array([config.event_weights[name] for name in EVENT_TYPES], np.float32)

    @property
    def model_version(self) -> str:
        """Names the refit that lists are made with."""
        return self.items.factors_version or "online"

    # -- learn -----------------------------------------------------------------------------------

    def learn(self, users: UserState, batch: EventBatch) -> ItemUpdates:
        """User half: apply events in their order. Their items' half is returned, not done."""
        chunk = _Chunk(self, users, batch)
        chunk.apply(len(batch))
        return chunk.updates()

    def learn_and_recommend(
        self, users: UserState, batch: EventBatch, want: NDArray[np.bool_], k: int = 10
    ) -> tuple[ItemUpdates, list[Ranked | None]]:
        """Learn a chunk, and make a list right after each event that `want` marks.

        Lists come in the order of events; None where none was wanted.
        """
        chunk = _Chunk(self, users, batch)
        lists: list[Ranked | None] = [None] * len(batch)
        for event in np.flatnonzero(want).tolist():
            chunk.apply(event + 1)
            lists[event] = self.recommend(
                users, int(batch.users[event]), int(batch.times_ms[event]), k
            )
        chunk.apply(len(batch))
        return chunk.updates(), lists

    def fold(self, updates: ItemUpdates) -> None:
        """Item half: every model learns the events in their order, the ranker the examples."""
        if len(updates):
            events = updates.at(self.items.clock.advance(updates.times_s))
            for model in self.items.models:
                model.learn(self.items.tables[model.name], events)
        for example in updates.examples:
            self.rank.ranker.learn(example.features, example.chosen)

    def weights_of(self, batch: EventBatch) -> NDArray[np.float32]:
        """What each event counts: its type's weight; of a rating, the share of the best one."""
        weights = self._weights[batch.types]
        rated = (batch.types == TYPE_CODES["rating"]) & ~np.isnan(batch.values)
        if rated.any():
            share = np.clip(batch.values[rated] / RATING_BEST, 0.1, 1.0)
            weights[rated] *= share
        return weights

    # -- recommend -------------------------------------------------------------------------------

    def recommend(
        self,
        users: UserState,
        user_slot: int,
        now_ms: int,
        k: int = 10,
        request: RecommendationRequest | None = None,
    ) -> Ranked:
        """A ranked list for a user (`user_slot` -1: someone unknown), as of a time."""
        similar_to = self._context_items(request)
        context = self._context(users, user_slot, now_ms, k, request, similar_to)
        usable = usable_items(self.config.rerank, context, similar_to)
        scored = self._scored(context, usable)
        if request is None:
            self._remember(users, user_slot, now_ms, scored)
        chosen = choose(self.config.rerank, context, scored.candidates.items, scored.scores, k)
        return self._ranked(context, usable, scored, chosen, k)

    def before_step(self, users: UserState, user_slot: int, now_ms: int) -> Scored:
        """A user's candidates as they are before a step, for the ranker to learn from."""
        known = self._recent.get(self._moment(users, user_slot, now_ms))
        if known is not None:
            return known
        nothing = np.empty(0, np.int32)
        context = self._context(users, user_slot, now_ms, 1, None, nothing)
        return self._scored(context, usable_items(self.config.rerank, context, nothing))

    def _scored(self, context: Context, usable: NDArray[np.bool_]) -> Scored:
        answers = [source.candidates(context) for source in self.sources]
        return self.rank.score(context, self._union.join(answers, usable, context.limit))

    def _remember(self, users: UserState, user_slot: int, now_ms: int, scored: Scored) -> None:
        """Evaluation asks for a list and then learns the step: the list need not be made twice."""
        if len(self._recent) >= RECENT_LISTS:
            self._recent.clear()
        self._recent[self._moment(users, user_slot, now_ms)] = scored

    def _moment(self, users: UserState, user_slot: int, now_ms: int) -> tuple[float, ...]:
        events = int(users.heads["events"][user_slot]) if user_slot != NONE else 0
        return (id(users), user_slot, events, now_ms // 1000, self.items.clock.now,
                self.rank.ranker.lists, self.catalogue.changes)  # fmt: skip

    def _context(
        self, users: UserState, user_slot: int, now_ms: int, k: int,
        request: RecommendationRequest | None, similar_to: Slots,
    ) -> Context:  # fmt: skip
        past = users.history(user_slot)
        now_s = now_ms / 1000.0
        newest = past.recent[past.weights[past.recent] > 0][:CONTEXT_SIZE]
        own = past.items[newest]
        weights = np.minimum(past.weights[newest], 1.0)
        ages = np.maximum(now_s - past.last_s[newest], 0.0).astype(np.float32)
        if len(similar_to):
            room = max(CONTEXT_SIZE - len(similar_to), 0)
            own = np.concatenate([similar_to, own[:room]])
            weights = np.concatenate([np.ones(len(similar_to), np.float32), 0.1 * weights[:room]])
            ages = np.concatenate([np.zeros(len(similar_to), np.float32), ages[:room]])
        decay = self.config.position_decay ** np.arange(len(own))
        query = Query(
            own, (weights * decay).astype(np.float32), ages, self.items.clock.now, len(self.items)
        )
        allowed = None
        if request is not None and request.filter is not None:
            allowed = self.catalogue.select(request.filter)
        limit = max(self.config.candidates_per_source, k)
        return Context(self.items, self.catalogue, past, query, now_s, limit, allowed)

    def _context_items(self, request: RecommendationRequest | None) -> Slots:
        if request is None:
            return np.empty(0, np.int32)
        slots = (self.items.find(item_id) for item_id in dict.fromkeys(request.context_items))
        return np.array([slot for slot in slots if slot != NONE], np.int32)

    def _ranked(
        self, context: Context, usable: NDArray[np.bool_], scored: Scored,
        chosen: NDArray[np.intp], k: int,
    ) -> Ranked:  # fmt: skip
        candidates = scored.candidates
        items = candidates.items[chosen]
        listed = scored.scores[chosen]
        found = candidates.found[chosen]
        highest = candidates.scores.max(axis=0, initial=1e-12)
        share = np.where(
            (found[:, None] >> np.arange(len(self.sources))) & 1,
            candidates.scores[chosen] / highest, 0.0,
        )  # fmt: skip
        lead = share.argmax(axis=1).astype(np.int8)
        carriers = np.full(len(items), NONE, np.int32)
        for s in np.unique(lead).tolist():
            carry = getattr(self.sources[s], "carriers", None)
            if carry is not None:
                rows = lead == s
                carriers[rows] = carry(context, items[rows])
        if len(items) < k:
            more = fill(self.popularity, context, usable, items, k - len(items))
            lowest = float(listed.min(initial=0.0))
            steps = np.arange(1, len(more) + 1, dtype=np.float32)
            items = np.concatenate([items, more])
            listed = np.concatenate([listed, lowest - steps * np.float32(1e-6)])
            found = np.concatenate([found, np.zeros(len(more), np.uint32)])
            lead = np.concatenate([lead, np.full(len(more), -1, np.int8)])
            carriers = np.concatenate([carriers, np.full(len(more), NONE, np.int32)])
        return Ranked(items, listed, found, lead, carriers, self.model_version)

    def explain(self, ranked: Ranked) -> list[RankedItem]:
        """The list as it goes out, each item with its sources and the reason for it."""
        names = self.items.ids.names
        out = []
        for at, slot in enumerate(ranked.items.tolist()):
            bits, lead = int(ranked.found[at]), int(ranked.lead[at])
            found = [source.name for s, source in enumerate(self.sources) if bits >> s & 1]
            reason = "to fill the list: popular or new"
            if lead >= 0:
                source = self.sources[lead]
                phrase = str(getattr(source, "reason", source.name))
                carrier = int(ranked.carriers[at])
                reason = phrase.format(item=self.catalogue.title(carrier) if carrier >= 0 else "it")
            out.append(
                RankedItem(
                    item_id=names[slot] or "",
                    score=round(float(ranked.scores[at]), 6),
                    rank=at + 1,
                    sources=found or ["fill"],
                    reason=reason,
                )
            )
        return out

    def warm_up(self) -> None:
        """Compile or load every kernel, on a small state of its own, before the first event."""
        items = ItemState(self.items.models)
        catalogue = Catalogue(items)
        pipeline = Pipeline(self.config, items, catalogue)
        users = UserState(items)
        batch = EventBatch.of(
            users, ["a", "a", "b"], ["x", "y", "x"], ["view", "purchase", "return"],
            [1_000, 2_000, 3_000], None, ["1", "2", None],
        )  # fmt: skip
        for _ in range(2):
            items.begin()
            users.begin()
            updates, _ = pipeline.learn_and_recommend(users, batch, np.ones(3, np.bool_))
            pipeline.fold(ItemUpdates.decode(items, updates.encode(items)))
            users.dirty_records()
            items.dirty_records()
            users.rollback()
            items.commit()


class _Chunk:
    """One chunk on its way through the user half."""

    def __init__(self, pipeline: Pipeline, users: UserState, batch: EventBatch) -> None:
        self.pipeline, self.users, self.batch = pipeline, users, batch
        count = len(batch)
        self.done = 0
        self.times_s = np.clip(batch.times_ms // 1000, 1, 2**32 - 1).astype(np.uint32)
        self.weights = pipeline.weights_of(batch)
        fixed = np.rint(self.weights * WEIGHT_UNIT)
        small = (fixed == 0) & (self.weights != 0)
        fixed[small] = np.sign(self.weights[small])
        self.fixed_weights = np.clip(fixed, -32768, 32767).astype(np.int16)
        self.applied = np.zeros(count, np.bool_)
        self.is_new = np.zeros(count, np.bool_)
        self.starts_step = np.zeros(count, np.bool_)
        self.context = np.full((count, CONTEXT_SIZE), NONE, np.int32)
        self.ages_s = np.zeros((count, CONTEXT_SIZE), np.uint32)
        self._sampled = np.flatnonzero(self._sample())
        self._captured: list[tuple[int, Scored]] = []

    def _sample(self) -> NDArray[np.bool_]:
        """Events that become examples if they start a step: by their hash, never by load."""
        pipeline, batch = self.pipeline, self.batch
        share = pipeline.config.rank.train_share(pipeline.items.clock.now)
        mixed = pipeline.items.ids.keys[batch.items] ^ self.times_s.astype(np.uint64)
        mixed = (mixed ^ batch.event_keys) * np.uint64(0x9E3779B97F4A7C15)
        drawn = (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53
        return (drawn < share) & (self.weights > 0)

    def apply(self, stop: int) -> None:
        """Apply events up to `stop`; users are swept at fixed counts of applied events."""
        while self.done < stop:
            until_sweep = SWEEP_EVENTS - self.users.events_applied % SWEEP_EVENTS
            end = min(stop, self.done + until_sweep)
            self._apply_sampled(end)
            applied = int(self.applied[self.done : end].sum())
            lane = self.users.lane
            lane[0] += applied
            lane[1] = max(int(lane[1]), int(self.times_s[self.done : end].max()))
            self.done = end
            if applied == until_sweep:
                self.users.sweep(self.batch.users[end:])

    def _apply_sampled(self, stop: int) -> None:
        """Apply events up to `stop`, looking at users right before their sampled steps."""
        start = self.done
        for event in self._sampled[np.searchsorted(self._sampled, [start])[0] :].tolist():
            if event >= stop:
                break
            self._apply(start, event)
            start = event
            user = int(self.batch.users[event])
            heads = self.users.heads
            if not heads["events"][user] or heads["last_s"][user] != self.times_s[event]:
                time_ms = int(self.batch.times_ms[event])
                self._captured.append((event, self.pipeline.before_step(self.users, user, time_ms)))
        self._apply(start, stop)

    def _examples(self) -> list[Example]:
        """The captured lists, with what their step then held."""
        examples = []
        for event, scored in self._captured:
            if not self.applied[event]:
                continue
            batch = self.batch
            step = (batch.users[event:] == batch.users[event]) & self.applied[event:]
            step &= (self.times_s[event:] == self.times_s[event]) & (self.weights[event:] > 0)
            example = self.pipeline.rank.example(scored, batch.items[event:][step])
            if example is not None:
                examples.append(example)
        return examples

    def _apply(self, start: int, stop: int) -> None:
        if start >= stop:
            return
        users, batch = self.users, self.batch
        count = stop - start
        heads, pages = users.heads, users.pages
        heads.reserve_undo(count)
        pages.reserve(count)
        pages.reserve_undo(3 * count)
        history.apply_events(
            start, stop, users.limits.entries_max,
            batch.users, batch.items, batch.types, self.fixed_weights, self.times_s,
            batch.event_keys,
            heads.rows, heads.marks, heads.epoch, heads.undo_slots, heads.undo_rows,
            heads.counters,
            pages.rows, pages.marks, pages.epoch, pages.undo_slots, pages.undo_rows,
            pages.counters, pages.free_stack, users.chain,
            self.applied, self.is_new, self.starts_step, self.context, self.ages_s,
        )  # fmt: skip

    def updates(self) -> ItemUpdates:
        """What the items must learn of it; duplicates left out."""
        kept = self.applied
        return ItemUpdates(
            self.batch.items[kept], self.batch.types[kept], self.weights[kept],
            self.times_s[kept], self.is_new[kept], self.context[kept], self.ages_s[kept],
            self._examples(),
        )  # fmt: skip
