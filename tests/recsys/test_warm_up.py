"""After the warm-up nothing is left to compile: a late kernel holds a list up for seconds."""

import gc
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
from numba.core.registry import CPUDispatcher

from recsys.catalogue import Catalogue
from recsys.event_batch import EventBatch
from recsys.item_state import ItemState
from recsys.item_updates import ItemUpdates
from recsys.pipeline import Pipeline, PipelineConfig, default_models
from recsys.user_state import UserState
from recsys.warm_up import practise
from streams.events import EVENT_TYPES, CandidateFilter, Product, RecommendationRequest

DAY_MS = 86_400_000


def compiled() -> set[tuple[str, str]]:
    """Every compiled kernel of ours in this process, by name and signature."""
    return {
        (f"{each.py_func.__module__}.{each.py_func.__name__}", str(signature))
        for each in gc.get_objects()
        if isinstance(each, CPUDispatcher)
        if each.py_func.__module__.partition(".")[0] in ("models", "recsys")
        for signature in each.signatures
    }


def traffic(users: UserState, rng: random.Random, count: int) -> EventBatch:
    times = sorted(rng.randrange(30 * DAY_MS) for _ in range(count))
    return EventBatch.of(
        users, [f"u{rng.randrange(20)}" for _ in range(count)],
        [f"i{rng.randrange(40)}" for _ in range(count)],
        [rng.choice(EVENT_TYPES) for _ in range(count)], times, None,
        [str(rng.random()) for _ in range(count)],
    )  # fmt: skip


def catalogue_of(items: ItemState) -> Catalogue:
    """Products that share words and categories; some nobody has touched."""
    catalogue = Catalogue(items)
    for n in range(60):
        title, category = f"red hat {n % 7}", f"c{n % 5}"
        catalogue.put(Product(item_id=f"i{n}", title=title, category=category, price=float(n)))
    return catalogue


def first_steps(pipeline: Pipeline) -> None:
    """The first event of all: one item, one candidate."""
    items = ItemState(default_models())
    users = UserState(items)
    new = Pipeline(pipeline.config, items, Catalogue(items))
    for user in ("first", "second"):
        batch = EventBatch.of(users, [user], ["i0"], ["view"], [DAY_MS], None, [user])
        updates, _ = new.learn_and_recommend(users, batch, np.ones(1, np.bool_))
        new.fold(ItemUpdates.decode(items, updates.encode(items)))
        assert len(new.recommend(users, -1, 2 * DAY_MS)) <= 1


def work(pipeline: Pipeline, users: UserState, rng: random.Random) -> None:
    """A while of a worker's life: events, lists, requests, rounds that are taken back, goodbyes."""
    first_steps(pipeline)
    for number in range(12):
        users.begin()
        pipeline.items.begin()
        batch = traffic(users, rng, 25)
        updates, lists = pipeline.learn_and_recommend(users, batch, np.ones(25, np.bool_))
        for ranked in lists:
            assert ranked is not None
            pipeline.explain(ranked)
        pipeline.fold(ItemUpdates.decode(pipeline.items, updates.encode(pipeline.items)))
        request = RecommendationRequest("u1", f"r{number}", context_items=["i1", "i2"])
        some = CandidateFilter(categories=["c1"])
        for slot in (-1, users.find("u1")):
            pipeline.recommend(users, slot, 40 * DAY_MS, 5, request)
            filtered = RecommendationRequest("u1", f"f{number}", filter=some)
            pipeline.recommend(users, slot, 40 * DAY_MS, 5, filtered)
        users.forget(f"u{number}", 40 * DAY_MS // 1000)
        users.dirty_records()
        pipeline.items.dirty_records()
        if number % 4:
            users.commit()
            pipeline.items.commit()
        else:
            users.rollback()
            pipeline.items.rollback()


def late() -> set[str]:
    """Kernels that compile after the warm-up, in a process that compiled nothing before."""
    models = default_models()
    items = ItemState(models)
    pipeline = Pipeline(PipelineConfig(), items, catalogue_of(items))
    practise(pipeline)
    before = compiled()
    users, rng = UserState(items), random.Random(4)
    work(pipeline, users, rng)

    restored_items = ItemState(models)
    restored_items.load_records(items.records())
    restored = UserState(restored_items)
    restored.load_records(users.records())
    work(Pipeline(PipelineConfig(), restored_items, catalogue_of(restored_items)), restored, rng)

    keys = restored_items.ids.keys[:10]
    vectors = np.eye(10, 32, dtype=np.float32)
    restored_items.swap_factors("v1", keys, vectors)
    work(Pipeline(PipelineConfig(), restored_items, catalogue_of(restored_items)), restored, rng)
    return {name for name, _ in compiled() - before}


def test_nothing_is_left_to_compile() -> None:
    code = f"from {Path(__file__).stem} import late; print(*late())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    )
    assert done.stdout.split() == []
