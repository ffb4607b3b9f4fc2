"""Small logs of events for tests: drawn by hypothesis, or from a seed."""

import itertools
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from recsys.catalogue import Catalogue
from recsys.event_batch import EventBatch
from recsys.item_state import ItemState
from recsys.pipeline import Pipeline, PipelineConfig, default_models
from recsys.user_state import StateLimits, UserState
from streams.events import EVENT_TYPES

START_S = 1_700_000_000


@dataclass(frozen=True)
class Event:
    user: str
    item: str
    type: str
    time_s: int
    event_id: str | None = None
    value: float | None = None


@st.composite
def events(draw, users=4, items=12, span_s=200):
    return Event(
        user=f"u{draw(st.integers(0, users - 1))}",
        item=f"i{draw(st.integers(0, items - 1))}",
        type=draw(st.sampled_from(EVENT_TYPES)),
        time_s=START_S + draw(st.integers(0, span_s)),
        event_id=draw(st.none() | st.sampled_from([f"e{n}" for n in range(30)])),
        value=draw(st.none() | st.sampled_from([1.0, 5.0])),
    )


def logs(**kwargs):
    return st.lists(events(**kwargs), min_size=1, max_size=60)


def seeded_log(count, users=20, items=60, seed=0):
    """Users who walk through groups of items, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 6, users)
    out = []
    for n in range(count):
        user = int(rng.integers(users))
        item = int(groups[user] * (items // 6) + rng.integers(items // 6))
        out.append(Event(f"u{user}", f"i{item}", "purchase", START_S + 10 * n, f"e{n}"))
    return out


def batch_of(users, log):
    return EventBatch.of(
        users,
        [event.user for event in log],
        [event.item for event in log],
        [event.type for event in log],
        [event.time_s * 1000 for event in log],
        [event.value for event in log],
        [event.event_id for event in log],
    )


def chunks(log, cuts):
    """The log cut at some places."""
    places = sorted({cut % (len(log) + 1) for cut in cuts} | {0, len(log)})
    return [log[a:b] for a, b in itertools.pairwise(places)]


class World:
    """A pipeline with its state, in memory."""

    def __init__(self, config=None, limits=None):
        self.items = ItemState(default_models())
        self.catalogue = Catalogue(self.items)
        self.pipeline = Pipeline(config or PipelineConfig(), self.items, self.catalogue)
        self.users = UserState(self.items, limits or StateLimits())

    def learn(self, log):
        """One chunk through both halves, in a transaction each; the records they wrote."""
        self.users.begin()
        updates = self.pipeline.learn(self.users, batch_of(self.users, log))
        user_records = self.users.dirty_records()
        self.users.commit()
        self.items.begin()
        self.pipeline.fold(updates)
        item_records = self.items.dirty_records()
        self.items.commit()
        return user_records, item_records

    def recommend(self, user, time_s=START_S + 10**6, k=10, request=None):
        return self.pipeline.recommend(self.users, self.users.find(user), time_s * 1000, k, request)

    def ids(self, ranked):
        return [self.items.ids.names[slot] for slot in ranked.items.tolist()]
