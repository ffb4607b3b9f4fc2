"""Scoring: on one thread or on two, which never shows in a list."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from models.base import empty_answer
from models.ease import EaseConfig, Weights
from models.mf import FactorsConfig
from recsys.photos import Photo
from recsys.pipeline import PipelineConfig
from recsys.scorer import SHARED_LISTS_MIN, Scorer
from tests.recsys.logs import START_S, World, seeded_log

NOW_MS = (START_S + 10**6) * 1000


def taught(threads):
    world = World(PipelineConfig(threads=threads))
    world.learn(seeded_log(300))
    count = len(world.items)
    factors = np.random.default_rng(1).normal(size=(count, FactorsConfig().factors))
    neighbours = np.random.default_rng(2).integers(0, count, (count, EaseConfig().neighbours))
    weights = Weights(neighbours.astype(np.int32), np.ones(neighbours.shape, np.float32))
    keys = world.items.ids.keys[:count]
    world.items.swap_factors("v1", keys, factors.astype(np.float32), weights)
    return world


@pytest.fixture
def scored_by(monkeypatch):
    """The threads on which lists are scored, call by call."""
    names = []
    score = Scorer.score_part

    def noted(self, contexts):
        names.append(threading.current_thread().name)
        return score(self, contexts)

    monkeypatch.setattr(Scorer, "score_part", noted)
    return names


def test_many_lists_are_scored_on_two_threads_and_stay_the_same(scored_by):
    found, few = [], SHARED_LISTS_MIN
    for threads in (1, 2):
        world = taught(threads)
        scored_by.clear()
        slots = [slot for slot in range(len(world.users)) if world.users.ids.name(slot)]
        for count in (1, few - 1, few, few + 1, 32):
            some = [slots[n % len(slots)] for n in range(count)]
            photo = Photo("x", NOW_MS, 1, np.ones(2, np.float32))
            photos = [photo if n % 3 == 2 else None for n in range(count)]
            asked = world.pipeline.ask(world.users, some, [NOW_MS] * count, 10, photos)
            lists = world.pipeline.answer(world.users, asked)
            found.append([(world.ids(r), r.scores.tolist(), r.carriers.tolist()) for r in lists])
        world.pipeline.close()
    assert found[:5] == found[5:]
    explained = [item for ranked in lists for item in world.pipeline.explain(ranked)]
    for source in ("factors", "ease"):
        assert any(source in item.sources for item in explained)
    assert len(scored_by) == 5 + 3  # where they are many there are two parts
    assert len(set(scored_by)) == 2


def test_looks_are_scored_on_two_threads_too(scored_by):
    found = []
    for threads in (1, 2):
        world = taught(threads)
        scored_by.clear()
        slots = [world.users.find(f"u{n}") for n in range(SHARED_LISTS_MIN + 1)]
        looks = world.pipeline.looks.before_steps(world.users, slots, [NOW_MS] * len(slots))
        world.pipeline.looks.settle()
        found.append([look.scored for look in looks])
        world.pipeline.close()
    assert len(set(scored_by)) == 2
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one.candidates.items, other.candidates.items)
        np.testing.assert_array_equal(one.features, other.features)
        np.testing.assert_array_equal(one.scores, other.scores)


def test_sources_of_others_are_asked_on_one_thread(monkeypatch, scored_by):
    plugged = {"mine": lambda: SimpleNamespace(name="mine", candidates=lambda _: empty_answer())}
    monkeypatch.setattr("recsys.candidates.plugged_in", lambda: plugged)
    world = World(PipelineConfig(sources=("own", "mine"), threads=2))
    world.learn(seeded_log(100))
    slots = [world.users.find(f"u{n}") for n in range(SHARED_LISTS_MIN)]
    scored_by.clear()
    world.pipeline.answer(
        world.users, world.pipeline.ask(world.users, slots, [NOW_MS] * len(slots))
    )
    assert scored_by == [threading.current_thread().name]
