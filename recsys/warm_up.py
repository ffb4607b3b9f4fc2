"""Compile every kernel into the cache, once after an installation, so that starts are quick.

A kernel that is compiled late holds up the list that needs it, for seconds; a test holds that
nothing is left to compile after this.
"""

import time

import numpy as np

from models.columns import NONE
from models.ease import EaseConfig, Weights
from models.mf import FactorsConfig
from recsys.catalogue import Catalogue
from recsys.event_batch import EventBatch
from recsys.item_state import ItemState
from recsys.item_updates import ItemUpdates
from recsys.pipeline import Pipeline, PipelineConfig, default_models
from recsys.user_state import UserState
from streams.events import EVENT_TYPES, Product

USERS, ITEMS, ROUNDS = 3, 12, 3
EVENTS = 2 * ITEMS


def practise(pipeline: Pipeline) -> None:
    """Compile or load every kernel, on a small state of its own, before the first event.

    There must be several candidates of every source: numba compiles one row's layout apart.
    """
    items = ItemState(default_models())  # of its own: models remember what they last saw
    catalogue = Catalogue(items)
    for n in range(2 * ITEMS):  # every second of them nobody ever touches
        catalogue.put(Product(item_id=f"i{n}", title=f"hat {n % 3}", category=f"c{n % 2}"))
    mine = Pipeline(pipeline.config, items, catalogue)
    users = UserState(items)
    numbers = np.arange(EVENTS)
    for number in range(ROUNDS):
        items.begin()
        users.begin()
        batch = EventBatch.of(
            users, [f"u{n % USERS}" for n in numbers], [f"i{n % ITEMS}" for n in numbers],
            [EVENT_TYPES[n % len(EVENT_TYPES)] for n in numbers],
            [1_000_000 * number + 1_000 * int(n) for n in numbers], None,
            [f"{number}/{n}" for n in numbers],
        )  # fmt: skip
        updates, _ = mine.learn_and_recommend(users, batch, np.ones(EVENTS, np.bool_))
        mine.fold(ItemUpdates.decode(items, updates.encode(items)))
        mine.recommend(users, -1, 0)
        users.dirty_records()
        items.dirty_records()
        if number:  # the first round is taken back, the others stay
            users.commit()
            items.commit()
        else:
            users.rollback()
            items.rollback()
    _practise_reasons(mine, users)
    _practise_ranking(mine)
    factors = np.eye(ITEMS, FactorsConfig().factors, dtype=np.float32)
    items.swap_factors("practise", items.ids.keys[:ITEMS], factors, _weights())
    mine.recommend(users, 0, 0)
    users.begin()
    users.forget("u0", EVENTS * ROUNDS * 1_000)
    users.rollback()
    mine.close()


def _weights() -> Weights:
    neighbours = np.full((ITEMS, EaseConfig().neighbours), NONE, np.int32)
    neighbours[:, 0] = np.arange(1, ITEMS + 1) % ITEMS
    return Weights(neighbours, (neighbours != NONE).astype(np.float32))


def _practise_reasons(pipeline: Pipeline, users: UserState) -> None:
    """Ask every source for the reasons of its candidates, as the lists above happened not to."""
    context = pipeline.context_for(users, 0, 0, 10)
    for source in pipeline.sources:
        if (carry := getattr(source, "carriers", None)) is not None:
            carry(context, source.candidates(context)[0])


def _practise_ranking(pipeline: Pipeline) -> None:
    ranker = pipeline.rank.ranker
    example = np.zeros((ITEMS, ranker.n_features), np.float16)
    while not ranker.steps:
        ranker.learn(example, np.zeros(1, np.int32))


def warm_up() -> float:
    """Compile, or load from the cache; the seconds it took."""
    begun = time.perf_counter()
    items = ItemState(default_models())
    practise(Pipeline(PipelineConfig(), items, Catalogue(items)))
    return time.perf_counter() - begun


if __name__ == "__main__":
    print(f"Kernels are ready after {warm_up():.0f} s.")  # noqa: T201
