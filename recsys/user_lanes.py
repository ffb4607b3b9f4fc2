"""The behaviour role: what a lane of users does with events, requests and photos' embeddings.

A round learns every event; how many lists it writes depends on the load. Up to the list budget each
event has its own list; beyond it a user's list answers the newest of their events, and waits at
most `list_delay_ms_max`. Learning never skips, lists may skip states that nobody will look at.
"""

import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from models.classifier import UNKNOWN
from models.columns import NONE
from recsys import metrics
from recsys.asked import LISTS_AT_ONCE
from recsys.chunk_lists import ChunkLists
from recsys.event_batch import EventBatch
from recsys.forgotten import Forgotten
from recsys.item_updates import ItemUpdates
from recsys.list_budget import ListBudget
from recsys.list_writer import ListWriter
from recsys.lists_together import ListsTogether
from recsys.owed import Owed
from recsys.photos import Photo, Photos
from recsys.pipeline import Pipeline, no_photo
from recsys.switches import Control
from recsys.tracing import Tracer, trace_of
from recsys.user_inputs import UserInputs, origin
from recsys.user_lane import UserLane
from recsys.user_lanes_config import UserLanesConfig
from recsys.user_state import UserState
from streams import topics
from streams.application import Outcome
from streams.chunk import Chunk, Position, Record
from streams.codec import DecodeError
from streams.compute import Compute, on_the_loop
from streams.events import ImageEmbedding, RecommendationRequest, Trigger
from streams.turns import GROUP_SHARE

SHOWN_MAX = 20_000  # users of a lane whose newest list is compared with what they do next
IDLE_DUE_S = 0.02  # owed lists are written as soon as nothing else waits


@dataclass(frozen=True, slots=True)
class Learned:
    """Events that a round learned, and their lists."""

    events: list[Any]
    records: list[Any]
    batch: EventBatch
    deferred: list[int]  # events whose users' lists wait for a later round
    lists: ChunkLists


class UserLanes:
    """The application of the behaviour role.

    Args:
        compute: where states may be touched; with it brief rounds of many lanes make their lists in
            one pass.
    """

    def __init__(
        self, pipeline: Pipeline, config: UserLanesConfig, forgotten: Forgotten | None = None,
        control: Control | None = None, tracer: Tracer | None = None,
        compute: Compute | None = None,
    ) -> None:  # fmt: skip
        self.pipeline = pipeline
        self.lanes: dict[int, UserLane] = {}
        self.forgotten = forgotten if forgotten is not None else Forgotten()
        self.control = control if control is not None else Control()
        self._config = config
        self._inputs = UserInputs(config, self.forgotten, pipeline.catalogue.lists)
        self._lists = ListWriter(pipeline, config, self._inputs, tracer or Tracer())
        self._together = None if compute is None else ListsTogether(pipeline, compute)
        self._budget = ListBudget(config.lists_per_s_max)
        self._behaviour = topics.BEHAVIOUR.name(config.prefix)
        self._item_updates = topics.ITEM_UPDATES.name(config.own_prefix)

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the role reads: lane p is partition p of each."""
        return self._inputs.names

    @property
    def urgent(self) -> frozenset[str]:
        """Somebody looks at a screen and waits for these to be answered."""
        return self._inputs.urgent

    # -- what the lanes ask

    def open(self, lane: int) -> UserLane:
        """An empty lane."""
        users = UserState(self.pipeline.items, self._config.limits)
        state = UserLane(users, Photos(self._config.image_half_life_days))
        control, mirrored = self.control, self._config.mirrored
        state.switches.load_records(control.records() if mirrored else control.of(lane).snapshot())
        return state

    def opened(self, lane: int, state: UserLane) -> None:
        """The lane is restored."""
        self.lanes[lane] = state

    def closed(self, lane: int) -> None:
        """The lane has gone."""
        self.lanes.pop(lane, None)

    def committed(self, lane: int, state: UserLane) -> None:
        """The round has taken effect."""

    def due_s(self, lane: int, state: UserLane) -> float | None:
        """Owed lists are written when nothing else waits."""
        return IDLE_DUE_S if len(state.owed) else None

    def apply(
        self, lane: int, state: UserLane, chunks: Sequence[Chunk]
    ) -> Outcome | Awaitable[Outcome]:
        """One round: learn all of it, write the lists that the budget has room for.

        On the event loop a round of events alone waits for others, to make its lists with theirs.
        """
        outcome = Outcome()
        behind = max((c.behind for c in chunks if self._is_behaviour(c.source)), default=0)
        self._budget.round_begins(behind, max(1, len(self.lanes)))
        alone = len({chunk.source for chunk in chunks}) == 1
        # Small fetches that follow one another are learned, and answered, as one.
        for name, run in groupby(chunks, lambda chunk: chunk.source.topic):
            topic = self._inputs.topic(name)
            records = [record for chunk in run for record in self._inputs.live_records(chunk)]
            if topic is topics.BEHAVIOUR:
                learned = self._learn(state, records, outcome)
                if learned is None:
                    continue
                if alone and self._together is not None and self._in_company():
                    end = partial(self._end, lane, state, outcome, learned)
                    return self._together.outcome(learned.lists, end)
                self.pipeline.answer_all([learned.lists])
                self._answer_events(lane, state, outcome, learned)
            elif topic is topics.IMAGE_EMBEDDINGS:
                self._see(lane, state, records, outcome)
            elif topic is topics.FORGET:
                self._remove(state, records, outcome)
            else:
                self._answer_requests(lane, state, records, outcome)
        return self._end(lane, state, outcome)

    def _end(
        self, lane: int, state: UserLane, outcome: Outcome, learned: "Learned | None" = None
    ) -> Outcome:
        if learned is not None:
            self._answer_events(lane, state, outcome, learned)
        self._pay_owed(lane, state, outcome)
        self._lists.count_sources()
        return outcome

    def _in_company(self) -> bool:
        """Whether lanes enough are here for rounds in groups, and this is one of the event loop."""
        return len(self.lanes) >= 2 * GROUP_SHARE and on_the_loop()

    def _is_behaviour(self, source: Position) -> bool:
        return self._inputs.topic(source.topic) is topics.BEHAVIOUR

    # -- events

    def _learn(self, state: UserLane, taken: list[Any], outcome: Outcome) -> "Learned | None":
        """Learn events, and ask for lists after some of them; None where there is no event."""
        events, records = self._inputs.read(topics.BEHAVIOUR, state, taken, outcome)
        if not events:
            return None
        users = state.users
        batch = EventBatch.of(
            users,
            [event.user_id for event in events],
            [event.item_id for event in events],
            [event.type for event in events],
            [event.timestamp for event in events],
            [event.value for event in events],
            [
                event.event_id or origin(record)
                for event, record in zip(events, records, strict=True)
            ],
        )
        wanted, deferred = self._share_budget(batch)
        self._budget.spend(int(wanted.sum()))

        def photo_of(at: int) -> Photo | None:
            return self._photo(state, events[at].user_id, cast(int, events[at].timestamp))

        lists = self.pipeline.learn_and_ask(
            users, batch, wanted, self._config.k, photo_of if len(state.photos) else no_photo
        )
        state.sweep_photos()
        return Learned(events, records, batch, deferred, lists)

    def _answer_events(
        self, lane: int, state: UserLane, outcome: Outcome, learned: "Learned"
    ) -> None:
        """Write the lists right after events, note those that wait, and tell the items."""
        events, records, batch, lists = (
            learned.events, learned.records, learned.batch, learned.lists
        )  # fmt: skip
        shown, written = state.shown, 0
        for at, ranked in enumerate(lists.lists):
            event, record = events[at], records[at]
            user_id = event.user_id
            if user_id in shown and event.type != "impression":
                (metrics.HIT if int(batch.items[at]) in shown[user_id] else metrics.MISS).inc()
            if ranked is None:
                continue
            written += 1
            trigger = _trigger("event", record)
            time_ms = cast(int, event.timestamp)
            trace = trace_of(record)
            self._lists.write(lane, state, outcome, ranked, user_id, trigger, time_ms, trace=trace)
            state.owed.settle(user_id)
            state.traces.pop(user_id, None)
            shown.pop(user_id, None)
            shown[user_id] = ranked.items.tolist()
        while len(shown) > SHOWN_MAX:
            del shown[next(iter(shown))]
        self._budget.took(written, lists.lists_s)
        now_ms = _now_ms()
        for at in learned.deferred:
            event = events[at]
            state.owed.defer(event.user_id, records[at].offset, event.timestamp, now_ms)
            if (trace := trace_of(records[at])) is not None:
                state.traces[event.user_id] = trace
        updates = lists.updates()
        if len(updates):
            packed = Record(None, updates.encode(self.pipeline.items))
            outcome.add(Position(self._item_updates, 0), packed)
        metrics.events(self._behaviour, len(events), events[-1].timestamp)

    def _share_budget(self, batch: EventBatch) -> tuple[NDArray[np.bool_], list[int]]:
        """Which events have a list of their own, and whose lists wait."""
        count, room = len(batch), self._budget.available()
        if count <= room:
            return np.ones(count, np.bool_), []
        newest = {user: at for at, user in enumerate(batch.users.tolist())}
        chosen = list(newest.values())
        wanted = np.zeros(count, np.bool_)
        wanted[chosen[:room]] = True
        return wanted, chosen[room:]

    def _pay_owed(self, lane: int, state: UserLane, outcome: Outcome) -> None:
        """Write lists that waited: all that would be overdue after the lane's next round.

        More where the budget has room; and so many that those of one moment do not fall due in one.
        """
        now_ms, delay_ms = _now_ms(), self._config.list_delay_ms_max
        pace_ms = min(max(0, now_ms - (state.paid_at_ms or now_ms)), delay_ms)
        state.paid_at_ms = now_ms
        if not len(state.owed):
            return
        overdue_ms = now_ms - max(0, delay_ms - 2 * pace_ms)
        room = max(self._budget.available(), len(state.owed) * pace_ms // max(delay_ms, 1))
        begun = time.monotonic()
        paid = state.owed.due(now_ms, overdue_ms, room)
        for start in range(0, len(paid), LISTS_AT_ONCE):
            self._pay(lane, state, outcome, paid[start : start + LISTS_AT_ONCE])
        self._budget.spend(len(paid))
        self._budget.took(len(paid), time.monotonic() - begun)

    def _pay(
        self, lane: int, state: UserLane, outcome: Outcome, paid: list[tuple[str, Owed]]
    ) -> None:
        users = state.users
        asked = self.pipeline.ask(
            users,
            [users.find(user_id) for user_id, _ in paid],  # who was swept meanwhile is a stranger
            [owed.event_time_ms for _, owed in paid],
            self._config.k,
            [self._photo(state, user_id, owed.event_time_ms) for user_id, owed in paid],
        )
        lists = self.pipeline.answer(users, asked)
        for (user_id, owed), ranked in zip(paid, lists, strict=True):
            trigger = Trigger(
                kind="event", topic=self._behaviour, partition=self._inputs.home(lane, user_id),
                offset=owed.offset,
            )  # fmt: skip
            self._lists.write(
                lane, state, outcome, ranked, user_id, trigger, owed.event_time_ms,
                trace=state.traces.pop(user_id, None),
            )  # fmt: skip
        for user_id, _ in paid:
            state.owed.settle(user_id)

    # -- requests

    def _answer_requests(
        self, lane: int, state: UserLane, taken: list[Any], outcome: Outcome
    ) -> None:
        requests, records = self._inputs.read(topics.REQUESTS, state, taken, outcome)
        request: RecommendationRequest
        for request, record in zip(requests, records, strict=True):
            time_ms = cast(int, request.timestamp) or int(record.timestamp)
            slot = state.users.find(request.user_id)
            photo = self._photo(state, request.user_id, time_ms)
            ranked = self.pipeline.recommend(state.users, slot, time_ms, request.k, request, photo)
            trigger = _trigger("request", record)
            user_id, request_id = request.user_id, request.request_id
            self._lists.write(
                lane, state, outcome, ranked, user_id, trigger, time_ms,
                trace=trace_of(record), request_id=request_id,
            )  # fmt: skip

    # -- photos

    def _see(self, lane: int, state: UserLane, taken: list[Any], outcome: Outcome) -> None:
        """Photos move their users' profiles, and each is answered by a list."""
        seen, records = self._inputs.read(topics.IMAGE_EMBEDDINGS, state, taken, outcome)
        embedding: ImageEmbedding
        for embedding, record in zip(seen, records, strict=True):
            if embedding.encoder != self.pipeline.vectors.encoder_id:
                known = self.pipeline.vectors.encoder_id or "none"
                error = DecodeError("image", "encoder", f"{embedding.encoder}, not {known}")
                self._inputs.refuse(state, record, error, outcome)
                continue
            user_id, time_ms = embedding.user_id, embedding.timestamp
            vector = np.frombuffer(embedding.vector, "<f4")
            slot = state.users.find(user_id)
            newest = Photo(embedding.encoder, time_ms, 1, vector, category=_category(embedding))
            near = self.pipeline.association(state.users, slot, newest)
            state.photos.see(user_id, embedding.encoder, time_ms, vector, near)
            ranked = self.pipeline.recommend(state.users, slot, time_ms, embedding.k, photo=newest)
            trigger = _trigger("upload", record)
            self._lists.write(
                lane, state, outcome, ranked, user_id, trigger, time_ms,
                trace=trace_of(record), upload_id=embedding.upload_id,
            )  # fmt: skip

    def _photo(self, state: UserLane, user_id: str, time_ms: int) -> Photo | None:
        return state.photos.of(user_id, time_ms, self.pipeline.vectors.encoder_id)

    # -- forgetting

    def _remove(self, state: UserLane, taken: list[Any], outcome: Outcome) -> None:
        """Remove who asked for it, in the transaction that says so."""
        asked, _ = self._inputs.read(topics.FORGET, state, taken, outcome)
        tokens: list[int] = []
        for message in asked:
            if message is None:
                continue
            user_id = message.user_id
            self.forgotten.add(user_id, message.timestamp)
            token = state.users.token(user_id)
            if state.users.find(user_id) == NONE:  # swept, but perhaps owed a list
                state.owed.settle(user_id)
            if state.users.forget(user_id, self.forgotten.until_s(user_id)):
                state.owed.settle(user_id)
                outcome.forgets = True
                tokens.append(token)
            state.shown.pop(user_id, None)
            state.traces.pop(user_id, None)
            if state.photos.newest(user_id) is not None:  # of who sent nothing else, too
                outcome.forgets = True
            state.photos.forget(user_id)
        if tokens:
            packed = ItemUpdates.forgetting(tokens).encode(self.pipeline.items)
            outcome.add(Position(self._item_updates, 0), Record(None, packed))
        metrics.FORGOTTEN.inc(len(asked))


def _trigger(kind: Literal["event", "request", "upload"], record: Any) -> Trigger:
    return Trigger(kind=kind, topic=record.topic, partition=record.partition, offset=record.offset)


def _category(embedding: ImageEmbedding) -> str:
    """The likeliest category, unless the classifier does not know the photo."""
    names = [each.category for each in embedding.classes[:1]]
    return names[0] if names and names[0] != UNKNOWN else ""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
