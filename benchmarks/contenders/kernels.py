"""The model code alone, in memory: microseconds to learn and to recommend at a catalogue's size.

Options: `items`, `users`, `events`, `past` (what factors are fitted to), `lists`. One core; the GIL
is held as in a worker.
"""

import time
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks import meter
from benchmarks.event_log import Shop
from recsys.asked import LISTS_AT_ONCE
from recsys.catalogue import Catalogue
from recsys.event_batch import EventBatch
from recsys.factorise import factorise
from recsys.item_state import ItemState
from recsys.item_updates import ItemUpdates
from recsys.pipeline import Pipeline, PipelineConfig, default_models
from recsys.user_state import UserState
from recsys.warm_up import practise

CHUNK = 1_000
FACTORS = 32


def pipeline_of(trained: bool) -> Pipeline:
    """A pipeline on an empty state; without training no step becomes an example."""
    items = ItemState(default_models())
    config = PipelineConfig()
    if not trained:
        rank = replace(config.rank, train_share_min=0.0, train_lists_full=0)
        config = replace(config, rank=rank)
    pipeline = Pipeline(config, items, Catalogue(items))
    practise(pipeline)
    return pipeline


class Clock:
    """CPU seconds by step."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._at = time.process_time()

    def lap(self, name: str) -> None:
        """What was done since the last lap."""
        now = time.process_time()
        self.spent[name] = self.spent.get(name, 0.0) + now - self._at
        self._at = now


def learn(pipeline: Pipeline, users: UserState, shop: Shop, clock: Clock) -> None:
    """Learn a shop's events by chunks, as a lane of users and the item lane do."""
    rows: list[tuple[str, str, str, int]] = []
    for number, row in enumerate(shop.rows(), 1):
        rows.append(row)
        if len(rows) == CHUNK or number == shop.events:
            learn_chunk(pipeline, users, rows, clock)
            rows = []


def learn_chunk(
    pipeline: Pipeline, users: UserState, rows: list[tuple[str, str, str, int]], clock: Clock
) -> None:
    """One chunk: both halves, both states' records."""
    items = pipeline.items
    users.begin()
    items.begin()
    clock.lap("other")
    batch = EventBatch.of(users, *([row[at] for row in rows] for at in range(4)))
    clock.lap("columns")
    updates = pipeline.learn(users, batch)
    clock.lap("learn")
    updates = ItemUpdates.decode(items, updates.encode(items))
    clock.lap("updates")
    pipeline.fold(updates)
    clock.lap("fold")
    users.dirty_records()
    clock.lap("user rows")
    users.commit()
    items.commit()


def numpy_plainly(items: int, lists: int) -> float:
    """Microseconds a list of factors times user, then argpartition: the plain way to a list."""
    rng = np.random.default_rng(1)
    factors = rng.normal(size=(items, FACTORS)).astype(np.float32)
    people = rng.normal(size=(lists, FACTORS)).astype(np.float32)
    started = time.process_time()
    for person in people:
        scores = factors @ person
        best = np.argpartition(-scores, 10)[:10]
        best[np.argsort(-scores[best])]
    return 1e6 * (time.process_time() - started) / lists


def implicit_plainly(shop: Shop, lists: int) -> tuple[float, float]:
    """Seconds of a fit and microseconds a list of implicit's item kNN on the same events."""
    from implicit.nearest_neighbours import CosineRecommender
    from scipy.sparse import csr_matrix

    pairs = np.array([(int(row[0][1:]), int(row[1][1:])) for row in shop.rows()])
    shape = (shop.users, shop.items)
    ones = np.ones(len(pairs), np.float32)
    matrix = csr_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=shape)
    model = CosineRecommender(K=32, num_threads=1)
    started = time.process_time()
    model.fit(matrix, show_progress=False)
    fitted = time.process_time()
    for user in range(lists):
        model.recommend(user % shop.users, matrix[user % shop.users], N=10)
    return fitted - started, 1e6 * (time.process_time() - fitted) / lists


def river_plainly(shop: Shop, lists: int) -> tuple[float, float]:
    """Microseconds to learn an event and to make a list with River's `reco.FunkMF`.

    It predicts one item at a time: a list asks for every item.
    """
    from river import reco

    model = reco.FunkMF(n_factors=FACTORS, seed=1)
    rows = list(shop.rows())
    started = time.process_time()
    for user, item, _, _ in rows:
        model.learn_one(user=user, item=item, y=1.0)
    learned = time.process_time()
    names = [f"i{item}" for item in range(shop.items)]
    for number in range(lists):
        user = f"u{number % shop.users}"
        scores = np.array([model.predict_one(user=user, item=name) for name in names])
        np.argpartition(-scores, 10)[:10]
    listed = time.process_time()
    return 1e6 * (learned - started) / len(rows), 1e6 * (listed - learned) / lists


def listed(pipeline: Pipeline, users: UserState, asked: list[int], now_ms: int) -> dict[str, float]:
    """Microseconds a list, made together with others as under load, and alone."""
    together = [asked[at : at + LISTS_AT_ONCE] for at in range(0, len(asked), LISTS_AT_ONCE)]
    pipeline.recommend(users, asked[0], now_ms)
    pipeline.answer(users, pipeline.ask(users, together[0], [now_ms] * len(together[0])))
    started = time.process_time()
    for some in together:
        pipeline.answer(users, pipeline.ask(users, some, [now_ms] * len(some)))
    answered = time.process_time()
    lists = [pipeline.recommend(users, slot, now_ms) for slot in asked]
    ranked = time.process_time()
    for answer in lists:
        pipeline.explain(answer)
    laps = {"list us": answered - started, "list alone us": ranked - answered,
            "explain us": time.process_time() - ranked}  # fmt: skip
    return {name: 1e6 * spent / len(asked) for name, spent in laps.items()}


def work(given: dict[str, Any]) -> dict[str, Any]:
    """Learn, then recommend."""
    shop = Shop(given["events"], given["users"], given["items"])
    pipeline = pipeline_of(trained=False)
    users = UserState(pipeline.items)
    for item in range(shop.items):
        pipeline.items.ids.slot(f"i{item}")
    pipeline.items.slot("i0")  # extends the tables to all of them at once
    learn(pipeline, users, replace(shop, events=min(10_000, shop.events), seed=2), Clock())
    clock = Clock()
    learn(pipeline, users, shop, clock)
    past = replace(shop, events=given["past"], seed=3)
    learn(pipeline, users, past, Clock())
    if (found := factorise([users], len(pipeline.items))) is not None:
        keys = pipeline.items.ids.keys[found.slots]
        pipeline.items.swap_factors("refit", keys, found.vectors, found.weights)
    asked = np.random.default_rng(1).integers(len(users), size=given["lists"]).tolist()
    figures = {f"{name} us/event": 1e6 * s / shop.events for name, s in clock.spent.items()}
    figures |= listed(pipeline, users, asked, 1_700_000_000_000 + past.events * past.step_ms)
    figures["numpy list us"] = numpy_plainly(shop.items, min(given["lists"], 200))
    if given["implicit"]:
        fit_s, list_us = implicit_plainly(shop, min(given["lists"], 500))
        figures |= {"implicit fit s": fit_s, "implicit list us": list_us}
    if given["river"]:
        few = replace(shop, events=min(2_000, shop.events))
        learn_us, list_us = river_plainly(few, 3)
        figures |= {"River us/event": learn_us, "River list us": list_us}
    return figures


if __name__ == "__main__":
    meter.report(work(meter.options()))
